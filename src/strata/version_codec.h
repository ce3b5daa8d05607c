/* version_codec.h: versions as a block holds them, each told from the one before
 * (docs/format.md):
 *
 *     op u8 | flags u8 | key: shared varint, rest varslice | commit LSN: zigzag varint
 *     | sequence varint | row varslice, if any | previous key varslice, if any
 *
 * `shared` counts the bytes the key has in common with the key before; the first version of a
 * block shares nothing. The commit LSN is the difference to the one before, of the
 * first version to 0. */
#ifndef STRATA_VERSION_CODEC_H
#define STRATA_VERSION_CODEC_H

#include "core/buf.h"
#include "core/cursor.h"
#include "strata/version.h"

/* The version before. A zeroed one is at the start of a block. */
struct version_codec {
    struct buf key;
    pgs_lsn lsn;
    bool in_block; /* false: the next one shares nothing */
};

void version_codec_release(struct version_codec *c);
/* A block begins. The key stays readable: the order goes on over blocks. */
void version_codec_begin(struct version_codec *c);
/* A failed *out (too large) is the caller's to look at. */
void version_encode(struct version_codec *c, struct buf *out, const struct version *v);
/* Foreign bytes: false when they are malformed. v->key lives in the codec, the rest in the
 * source. */
bool version_decode(struct version_codec *c, struct cursor *from, struct version *v);

#endif
