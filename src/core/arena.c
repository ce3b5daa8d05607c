#include "core/arena.h"

#include "core/err.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_FIRST ((size_t)64 << 10)
#define CHUNK_MAX ((size_t)1 << 20)
/* An allocation above this share of a chunk gets a chunk of its own. */
#define BIG_DIVISOR 4

struct chunk {
    struct chunk *next;
    size_t size; /* of data */
    alignas(max_align_t) uint8_t data[];
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *handle);
    void *handle;
};

struct arena {
    struct budget *budget;
    struct chunk *current; /* the head of the list of bump chunks */
    struct chunk *big;     /* chunks of one allocation each */
    uint8_t *next, *end;
    struct deferred *deferred;
    size_t bytes;
    size_t chunk_next; /* size of the next chunk */
};

/* A pointer kept too long should fail at once, in builds that look for it. */
static void
poison(void *data, size_t size)
{
#ifdef PGS_POISON
    memset(data, 0xff, size);
#else
    (void)data;
    (void)size;
#endif
}

static struct chunk *
chunk_new(struct arena *a, size_t size)
{
    struct chunk *c = size <= PTRDIFF_MAX - sizeof(*c) ? malloc(sizeof(*c) + size) : NULL;
    if (c == NULL)
        abort();
    c->next = NULL;
    c->size = size;
    a->bytes += size;
    budget_take(a->budget, size);
    return c;
}

static void
chunks_free(struct arena *a, struct chunk *c)
{
    while (c != NULL) {
        struct chunk *next = c->next;
        a->bytes -= c->size;
        budget_give(a->budget, c->size);
        poison(c->data, c->size);
        free(c);
        c = next;
    }
}

struct arena *
arena_new(struct budget *budget)
{
    struct arena *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    a->budget = budget;
    a->chunk_next = CHUNK_FIRST;
    return a;
}

static void
deferred_run(struct arena *a)
{
    /* The list lives in the arena: read each before its function may free anything. */
    while (a->deferred != NULL) {
        struct deferred d = *a->deferred;
        a->deferred = d.next;
        d.fn(d.handle);
    }
}

void
arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    deferred_run(a);
    chunks_free(a, a->big);
    chunks_free(a, a->current);
    free(a);
}

void
arena_reset(struct arena *a)
{
    deferred_run(a);
    chunks_free(a, a->big);
    a->big = NULL;
    if (a->current == NULL)
        return;
    chunks_free(a, a->current->next);
    a->current->next = NULL;
    poison(a->current->data, (size_t)(a->next - a->current->data));
    a->next = a->current->data;
    a->end = a->current->data + a->current->size;
}

static void *
big_alloc(struct arena *a, size_t size)
{
    struct chunk *c = chunk_new(a, size);
    c->next = a->big;
    a->big = c;
    return c->data;
}

static void *
slow_alloc(struct arena *a, size_t size)
{
    if (size > a->chunk_next / BIG_DIVISOR)
        return big_alloc(a, size);
    struct chunk *c = chunk_new(a, a->chunk_next);
    if (a->chunk_next < CHUNK_MAX)
        a->chunk_next *= 2;
    c->next = a->current;
    a->current = c;
    a->next = c->data + size;
    a->end = c->data + c->size;
    return c->data;
}

void *
arena_alloc_bytes(struct arena *a, size_t size)
{
    if (a->next == NULL || (size_t)(a->end - a->next) < size)
        return slow_alloc(a, size);
    void *p = a->next;
    a->next += size;
    return p;
}

void *
arena_alloc(struct arena *a, size_t size)
{
    size_t padding = (size_t)(-(uintptr_t)a->next & (alignof(max_align_t) - 1));
    size_t left = a->next != NULL ? (size_t)(a->end - a->next) : 0;
    if (a->next == NULL || left < padding || left - padding < size)
        return slow_alloc(a, size);
    void *p = a->next + padding;
    a->next += padding + size;
    return p;
}

void *
arena_alloc_zero(struct arena *a, size_t size)
{
    return memset(arena_alloc(a, size), 0, size);
}

void *
arena_alloc_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    pgs_assert(!__builtin_mul_overflow(count, size, &bytes));
    return arena_alloc_zero(a, bytes);
}

struct slice
arena_dup(struct arena *a, struct slice s)
{
    if (s.data == NULL)
        return s;
    uint8_t *copy = arena_alloc_bytes(a, s.size);
    if (s.size > 0)
        memcpy(copy, s.data, s.size);
    return slice_of(copy, s.size);
}

char *
arena_slice_str(struct arena *a, struct slice s)
{
    char *copy = arena_alloc_bytes(a, s.size + 1);
    if (s.size > 0)
        memcpy(copy, s.data, s.size);
    copy[s.size] = '\0';
    return copy;
}

char *
arena_strdup(struct arena *a, const char *text)
{
    return text == NULL ? NULL : arena_slice_str(a, slice_str(text));
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    pgs_assert(size >= 0);
    char *text = arena_alloc_bytes(a, (size_t)size + 1);
    vsnprintf(text, (size_t)size + 1, fmt, again);
    va_end(again);
    return text;
}

void
arena_defer(struct arena *a, void (*fn)(void *handle), void *handle)
{
    struct deferred *d = arena_alloc(a, sizeof(*d));
    *d = (struct deferred){ .next = a->deferred, .fn = fn, .handle = handle };
    a->deferred = d;
}

size_t
arena_bytes(const struct arena *a)
{
    return a->bytes;
}
