/* segment_format.h: constants of segments (docs/format.md), shared by writer and readers. */
#ifndef STRATA_SEGMENT_FORMAT_H
#define STRATA_SEGMENT_FORMAT_H

#include "core/buf.h"
#include "core/cursor.h"
#include "strata/part.h"
#include "strata/segment.h"

#define SEGMENT_MAGIC "PGSTRSEG"
#define SEGMENT_END_MAGIC "PGSTREND"
#define SEGMENT_MAGIC_BYTES 8
#define SEGMENT_VERSION 1
#define SEGMENT_ID_BYTES 16
/* magic | version be32 | random id */
#define SEGMENT_HEADER_BYTES (SEGMENT_MAGIC_BYTES + 4 + SEGMENT_ID_BYTES)
/* footer: offset be64, stored be32, raw be32 | object size be64 | version be32 | end magic */
#define SEGMENT_TRAILER_BYTES (8 + 4 + 4 + 8 + 4 + SEGMENT_MAGIC_BYTES)
/* A directory page is closed when it has that much. */
#define SEGMENT_PAGE_BYTES ((size_t)64 << 10)
/* Least bytes of encoded items: a count that foreign bytes claim is held against what is there. */
#define RUN_ID_BYTES_MIN (1 + 1 + 4 + 8)
#define PART_REF_BYTES_MIN 3
#define BLOCK_REF_BYTES_MIN (PART_REF_BYTES_MIN + 1 + 8 + 8 + 1 + 1)
#define RUN_REF_BYTES_MIN (RUN_ID_BYTES_MIN + 1 + 8 + 8 + 1)
#define PAGE_REF_BYTES_MIN (RUN_ID_BYTES_MIN + PART_REF_BYTES_MIN + 1)
#define TXN_BYTES_MIN (8 + 8 + 8 + 8 + 1)
/* Flags of a transaction. */
#define TXN_HAS_ACTOR 0x01
#define TXN_HAS_RESTORE 0x02

#endif
