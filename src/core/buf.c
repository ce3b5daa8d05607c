#include "core/buf.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CAPACITY_FIRST ((size_t)64)

void
buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){ .limit = limit };
}

void
buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){ .limit = b->limit };
}

void
buf_reset(struct buf *b)
{
    b->size = 0;
    b->failed = false;
}

bool
buf_failed(const struct buf *b)
{
    return b->failed;
}

bool
buf_reserve(struct buf *b, size_t more)
{
    size_t limit = b->limit != 0 ? b->limit : BUF_LIMIT_DEFAULT;
    limit = limit < PTRDIFF_MAX ? limit : PTRDIFF_MAX; /* no sum below can overflow */
    if (b->failed || more > limit - b->size) {
        b->failed = true;
        return false;
    }
    /* One byte is always kept for buf_cstr's NUL. */
    size_t need = b->size + more + 1;
    if (need <= b->capacity)
        return true;
    size_t capacity = b->capacity < CAPACITY_FIRST ? CAPACITY_FIRST : b->capacity;
    capacity += capacity / 2; /* grows by a factor, so that n puts move O(n) bytes */
    capacity = capacity < need ? need : capacity;
    uint8_t *data = realloc(b->data, capacity);
    if (data == NULL)
        abort();
    b->data = data;
    b->capacity = capacity;
    return true;
}

void
buf_put(struct buf *b, const void *data, size_t size)
{
    if (!buf_reserve(b, size) || size == 0)
        return;
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void
buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.data, s.size);
}

void
buf_put_str(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void
buf_put_u8(struct buf *b, uint8_t v)
{
    buf_put(b, &v, 1);
}

void
buf_put_be16(struct buf *b, uint16_t v)
{
    uint16_t bytes = htobe16(v);
    buf_put(b, &bytes, sizeof(bytes));
}

void
buf_put_be32(struct buf *b, uint32_t v)
{
    uint32_t bytes = htobe32(v);
    buf_put(b, &bytes, sizeof(bytes));
}

void
buf_put_be64(struct buf *b, uint64_t v)
{
    uint64_t bytes = htobe64(v);
    buf_put(b, &bytes, sizeof(bytes));
}

void
buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t count = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[count++] = (uint8_t)(v | 0x80);
    bytes[count++] = (uint8_t)v;
    buf_put(b, bytes, count);
}

void
buf_put_varslice(struct buf *b, struct slice s)
{
    buf_put_varint(b, s.size);
    buf_put_slice(b, s);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (size >= 0 && buf_reserve(b, (size_t)size)) {
        vsnprintf((char *)b->data + b->size, (size_t)size + 1, fmt, again);
        b->size += (size_t)size;
    }
    va_end(again);
}

const char *
buf_cstr(struct buf *b)
{
    if (b->data == NULL)
        (void)buf_reserve(b, 0);
    if (b->data == NULL)
        return "";
    b->data[b->size] = '\0';
    return (const char *)b->data;
}

struct slice
buf_slice(const struct buf *b)
{
    static const uint8_t empty[1];
    return slice_of(b->data != NULL ? b->data : empty, b->size);
}
