/* memory_store.h: a store in memory, that can be told to fail.
 *
 * Keeps every promise of store/store.h but durability. One thread. Objects stay until the store is
 * closed; closing a view under a prefix leaves them. */
#ifndef SUPPORT_MEMORY_STORE_H
#define SUPPORT_MEMORY_STORE_H

#include "store/store.h"

struct store *memory_store_new(void);

/* Calls made so far, of every kind. */
size_t memory_store_calls(const struct store *s);
/* The call with this number (the next one is memory_store_calls + 1) fails with PGS_E_STORE, once;
 * 0: none. With lost_answer it does its work first: a caller cannot know. */
void memory_store_fail_at(struct store *s, size_t call, bool lost_answer);

size_t memory_store_count(const struct store *s);
/* The object's bytes, to be damaged in place; NULL: absent. */
struct buf *memory_store_object(struct store *s, const char *name);
/* The name of the index-th object, in bytewise order. */
const char *memory_store_name(const struct store *s, size_t index);
/* Bytes that get has handed over. */
uint64_t memory_store_bytes_read(const struct store *s);

#endif
