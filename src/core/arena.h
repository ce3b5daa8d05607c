/* arena.h: memory of one unit of work (a flush batch, a restore, a command), freed at once.
 *
 * Allocation is a pointer bump in chunks taken from a budget. Not thread-safe: one owner at a time;
 * a whole arena may be handed to another thread. Where malloc fails the program stops. Memory is
 * aligned for any type and is not zeroed unless the name says so. Debug builds fill what is reset
 * or freed with 0xff. Big allocations get a chunk of their own. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/budget.h"
#include "core/slice.h"

struct arena;

/* budget may be NULL. It must outlive the arena. */
struct arena *arena_new(struct budget *budget);
void arena_free(struct arena *a);  /* accepts NULL; runs deferred functions, last first */
void arena_reset(struct arena *a); /* runs deferred functions, keeps one chunk */
void *arena_alloc(struct arena *a, size_t size);
void *arena_alloc_zero(struct arena *a, size_t size);
/* count * size, overflow-checked, zeroed. */
void *arena_alloc_array(struct arena *a, size_t count, size_t size);
/* Unaligned bytes: for row data, wastes nothing. */
void *arena_alloc_bytes(struct arena *a, size_t size);
struct slice arena_dup(struct arena *a, struct slice s); /* NULL stays NULL */
char *arena_strdup(struct arena *a, const char *text);   /* NULL stays NULL */
char *arena_slice_str(struct arena *a, struct slice s);  /* NUL-terminated copy */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Calls fn(handle) when the arena is reset or freed. */
void arena_defer(struct arena *a, void (*fn)(void *handle), void *handle);
/* Bytes of chunks held, what the budget was charged. */
size_t arena_bytes(const struct arena *a);

#endif
