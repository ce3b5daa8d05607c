/* cursor.h: reads bytes from outside. A cursor remembers its first failure: read straight on, check
 * once at the end with cursor_ok or cursor_at_end. After a failure every read gives 0 or
 * SLICE_NULL. Never reads past the end; nothing is allocated; slices point into the source. */
#ifndef CORE_CURSOR_H
#define CORE_CURSOR_H

#include "core/slice.h"

struct cursor {
    const uint8_t *next;
    const uint8_t *end;
    bool failed;
};

struct cursor cursor_of(struct slice bytes);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_be16(struct cursor *c);
uint32_t cursor_be32(struct cursor *c);
uint64_t cursor_be64(struct cursor *c);
int64_t cursor_be64_signed(struct cursor *c);
/* LEB128, at most 10 bytes; a longer or non-minimal one is a failure. */
uint64_t cursor_varint(struct cursor *c);
/* The next size bytes. */
struct slice cursor_bytes(struct cursor *c, size_t size);
/* varint length, then that many bytes. */
struct slice cursor_varslice(struct cursor *c);
/* Bytes up to a NUL, which is consumed and not part of the answer. */
struct slice cursor_cstr(struct cursor *c);
/* Bytes not yet read; 0 after a failure, so that a loop over what is left ends. */
size_t cursor_left(const struct cursor *c);
/* No read failed. */
bool cursor_ok(const struct cursor *c);
/* No read failed and no byte is left over. */
bool cursor_at_end(const struct cursor *c);

#endif
