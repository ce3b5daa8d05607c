/* segment_internal.h: an open segment, for segment_reader.c, run_cursor.c and segment_verify.c. */
#ifndef STRATA_SEGMENT_INTERNAL_H
#define STRATA_SEGMENT_INTERNAL_H

#include "strata/segment_format.h"

struct page_ref {
    struct run_id first; /* points into the footer */
    struct part_ref part;
    uint64_t run_count;
};

struct segment {
    struct store *store;
    char name[SEGMENT_NAME_MAX];
    struct buf footer;
    struct page_ref *pages;
    size_t page_count;
    struct part_ref txns;
    uint64_t txn_count, version_count;
    ZSTD_DCtx *dctx;
    struct buf page; /* the page `cached_page`, decoded */
    size_t cached_page;
    struct buf stored; /* scratch: the last part as stored */
    uint64_t bytes_read;
};

#endif
