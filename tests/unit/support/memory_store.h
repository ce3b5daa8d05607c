/* memory_store.h: a store in memory. For failures put support/fault_store.h over it.
 *
 * Keeps every promise of store/store.h but durability. One thread. Objects stay until the store is
 * closed; closing a view under a prefix leaves them. */
#ifndef SUPPORT_MEMORY_STORE_H
#define SUPPORT_MEMORY_STORE_H

#include "store/store.h"

struct store *memory_store_new(void);

size_t memory_store_count(const struct store *s);
/* The object's bytes, to be damaged in place; NULL: absent. */
struct buf *memory_store_object(struct store *s, const char *name);
/* The name of the index-th object, in bytewise order. */
const char *memory_store_name(const struct store *s, size_t index);
/* Bytes that get has handed over. */
uint64_t memory_store_bytes_read(const struct store *s);

#endif
