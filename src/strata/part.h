/* part.h: the stored parts of a segment (blocks, directory pages, transaction table, footer):
 * packing, checking and unpacking (docs/format.md).
 *
 *     coding u8 | cipher_id u8 (0: none) | key_id be32 (0: none) | payload
 *
 * PART_RAW: the bytes as they are, then their CRC-32C, be32: for the few hundred bytes of a
 * tenant that changed one row, where a compressor's start costs more than it saves. PART_ZSTD:
 * one zstd frame with content size and checksum. Place and both sizes are told by whoever points
 * to a part. */
#ifndef STRATA_PART_H
#define STRATA_PART_H

#include "core/buf.h"
#include "store/store.h"

#define PART_HEADER_BYTES 6
/* A named maximum, checked before any allocation: a row may be 1 GiB of text, and its key is in it
 * twice. */
#define PART_RAW_MAX ((uint64_t)2 << 30)

enum part_coding { PART_RAW = 0, PART_ZSTD = 1 };

/* Where a stored part lies. */
struct part_ref {
    uint64_t offset;
    uint64_t stored_size, raw_size;
};

/* Compressor, decompressor and scratch memory, kept between uses: making them costs more than most
 * parts. Any thread may take one; a codec belongs to its taker until it is given back. */
struct part_codec;
struct part_codec *part_codec_take(void);
void part_codec_give(struct part_codec *codec); /* accepts NULL */

/* Packs `raw` behind what is in *out. */
PGS_CHECKED int part_pack(struct part_codec *codec, int level, struct slice raw, struct buf *out,
                          struct pgs_err *err);
/* Unpacks stored bytes into *raw (reset first). `what` names the part in PGS_E_CORRUPT. */
PGS_CHECKED int part_unpack(struct part_codec *codec, struct slice stored, uint64_t raw_size,
                            const char *what, struct buf *raw, struct pgs_err *err);
/* Fetches and unpacks. */
PGS_CHECKED int part_read(struct store *store, const char *name, const struct part_ref *part,
                          const char *what, struct buf *raw, struct pgs_err *err);

#endif
