/* slice.h: bytes that belong to someone else. Text is a slice too; empty is not NULL.
 *
 * A slice with data == NULL is "no value" (SQL NULL, absent); a slice of size 0 with data != NULL
 * is the empty string. */
#ifndef CORE_SLICE_H
#define CORE_SLICE_H

#include "core/banned.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data;
    size_t size;
};

#define SLICE_NULL \
    (struct slice) \
    {              \
        NULL, 0    \
    }
/* For printf: "%.*s", SLICE_PRINT(s). */
#define SLICE_PRINT(s) \
    (int)(s).size, (const char *)((s).data != NULL ? (s).data : (const uint8_t *)"")

static inline struct slice
slice_of(const void *data, size_t size)
{
    return (struct slice){ (const uint8_t *)data, size };
}

/* text may be NULL: then the slice is SLICE_NULL. */
static inline struct slice
slice_str(const char *text)
{
    return text == NULL ? SLICE_NULL : slice_of(text, strlen(text));
}

/* NULL equals only NULL. */
static inline bool
slice_equal(struct slice a, struct slice b)
{
    if (a.data == NULL || b.data == NULL)
        return a.data == b.data;
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Bytewise order, the order of everything in the archive; NULL sorts as empty. */
static inline int
slice_compare(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

#endif
