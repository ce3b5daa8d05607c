/* buf.h: bytes being built. Grows to the limit given at buf_init; a put beyond it changes nothing
 * and makes the buffer failed for good (until reset): put straight on, check buf_failed once at the
 * end.
 *
 *     struct buf b; buf_init(&b, limit); buf_put_...(&b, ...); use b.data, b.size; buf_release(&b);
 *
 * A zeroed struct is a valid empty buffer with no limit set: it accepts up to BUF_LIMIT_DEFAULT.
 * Where malloc itself fails the program stops (DESIGN 4.1 makes that safe). */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/slice.h"

/* 2 GiB: above the largest text message PostgreSQL sends. */
#define BUF_LIMIT_DEFAULT ((size_t)2 << 30)

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t limit;
    bool failed;
};

void buf_init(struct buf *b, size_t limit);
void buf_release(struct buf *b); /* accepts an empty or released one */
void buf_reset(struct buf *b);   /* empties, keeps memory */
bool buf_failed(const struct buf *b);
/* Makes room for `more` bytes beyond size; false (and failed) when over the limit. */
bool buf_reserve(struct buf *b, size_t more);
void buf_put(struct buf *b, const void *data, size_t size);
void buf_put_slice(struct buf *b, struct slice s); /* the bytes alone */
void buf_put_str(struct buf *b, const char *text);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_be16(struct buf *b, uint16_t v);
void buf_put_be32(struct buf *b, uint32_t v);
void buf_put_be64(struct buf *b, uint64_t v);
void buf_put_varint(struct buf *b, uint64_t v);
void buf_put_varslice(struct buf *b, struct slice s); /* varint size, bytes */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The text so far with a NUL behind it (not counted in size). Never NULL. */
const char *buf_cstr(struct buf *b);
struct slice buf_slice(const struct buf *b);

#endif
