/* segment_format.h: constants and small encodings of segments (docs/format.md), shared by writer
 * and readers.
 *
 * Every stored part (block, directory page, transaction table, footer) is
 *     cipher_id u8 (0: none) | key_id be32 (0: none) | one zstd frame with content checksum
 * Its place and both sizes are told by whoever points to it. */
#ifndef STRATA_SEGMENT_FORMAT_H
#define STRATA_SEGMENT_FORMAT_H

#include "core/buf.h"
#include "core/cursor.h"
#include "strata/segment.h"

#include <zstd.h>

#define SEGMENT_MAGIC "PGSTRSEG"
#define SEGMENT_END_MAGIC "PGSTREND"
#define SEGMENT_MAGIC_BYTES 8
#define SEGMENT_VERSION 1
#define SEGMENT_ID_BYTES 16
#define SEGMENT_HEADER_BYTES (SEGMENT_MAGIC_BYTES + 4 + SEGMENT_ID_BYTES)
/* footer offset be64 | stored be32 | raw be32 | object size be64 | version be32 | magic */
#define SEGMENT_TRAILER_BYTES (8 + 4 + 4 + 8 + 4 + SEGMENT_MAGIC_BYTES)
#define PART_HEADER_BYTES 5
#define PAGE_BYTES ((size_t)64 << 10)
/* Named maxima, checked before any allocation: a row may be 2 GB of text, directories never are. */
#define BLOCK_RAW_MAX ((uint64_t)3 << 30)
#define PAGE_RAW_MAX ((uint64_t)1 << 30)
#define PARTS_MAX ((uint64_t)1 << 28)

/* Where a stored part lies. */
struct part_ref {
    uint64_t offset;
    uint64_t stored_size, raw_size;
};

/* Version encoding in a block: flags | key: shared prefix with the previous key, rest | commit LSN:
 * zigzag difference to the previous version's | sequence | row | previous key. */
#define VERSION_HAS_ROW 0x01
#define VERSION_HAS_PREV_KEY 0x02

/* Reads a part and decompresses it into *raw (reset first). `what` names it in errors. */
PGS_CHECKED int part_read(struct store *store, const char *name, const struct part_ref *part,
                          const char *what, ZSTD_DCtx *dctx, struct buf *stored, struct buf *raw,
                          struct pgs_err *err);

#endif
