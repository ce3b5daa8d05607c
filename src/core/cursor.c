#include "core/cursor.h"

#include <endian.h>

struct cursor
cursor_of(struct slice bytes)
{
    static const uint8_t nothing[1];
    const uint8_t *data = bytes.data != NULL ? bytes.data : nothing;
    return (struct cursor){ .next = data, .end = data + bytes.size };
}

/* The next size bytes, or NULL and failed for good. */
static const uint8_t *
take(struct cursor *c, size_t size)
{
    if (c->failed || (size_t)(c->end - c->next) < size) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *bytes = c->next;
    c->next += size;
    return bytes;
}

uint8_t
cursor_u8(struct cursor *c)
{
    const uint8_t *p = take(c, 1);
    return p != NULL ? p[0] : 0;
}

uint16_t
cursor_be16(struct cursor *c)
{
    const uint8_t *p = take(c, 2);
    return p != NULL ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

uint32_t
cursor_be32(struct cursor *c)
{
    uint32_t v;
    const uint8_t *p = take(c, sizeof(v));
    if (p == NULL)
        return 0;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

uint64_t
cursor_be64(struct cursor *c)
{
    uint64_t v;
    const uint8_t *p = take(c, sizeof(v));
    if (p == NULL)
        return 0;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

int64_t
cursor_be64_signed(struct cursor *c)
{
    return (int64_t)cursor_be64(c);
}

uint64_t
cursor_varint(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = take(c, 1);
        if (p == NULL)
            return 0;
        uint64_t bits = *p & 0x7f;
        bool last = (*p & 0x80) == 0;
        /* The tenth byte holds one bit; a last byte of zero says nothing and could have been left
         * out. */
        if ((shift == 63 && bits > 1) || (last && bits == 0 && shift > 0))
            break;
        v |= bits << shift;
        if (last)
            return v;
    }
    c->failed = true;
    return 0;
}

struct slice
cursor_bytes(struct cursor *c, size_t size)
{
    const uint8_t *p = take(c, size);
    return p != NULL ? slice_of(p, size) : SLICE_NULL;
}

struct slice
cursor_varslice(struct cursor *c)
{
    uint64_t size = cursor_varint(c);
    if (size > cursor_left(c))
        c->failed = true;
    return cursor_bytes(c, (size_t)size);
}

struct slice
cursor_cstr(struct cursor *c)
{
    size_t left = cursor_left(c);
    const uint8_t *nul = left == 0 ? NULL : memchr(c->next, 0, left);
    if (nul == NULL) {
        c->failed = true;
        return SLICE_NULL;
    }
    struct slice text = slice_of(c->next, (size_t)(nul - c->next));
    c->next = nul + 1;
    return text;
}

size_t
cursor_left(const struct cursor *c)
{
    return c->failed ? 0 : (size_t)(c->end - c->next);
}

bool
cursor_ok(const struct cursor *c)
{
    return !c->failed;
}

bool
cursor_at_end(const struct cursor *c)
{
    return !c->failed && c->next == c->end;
}
