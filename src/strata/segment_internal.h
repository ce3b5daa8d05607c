/* segment_internal.h: an open segment, for segment_*.c and run_cursor.c. */
#ifndef STRATA_SEGMENT_INTERNAL_H
#define STRATA_SEGMENT_INTERNAL_H

#include "strata/segment_format.h"

struct page_ref {
    struct run_id first; /* its tenant points into the footer */
    struct part_ref part;
    uint64_t run_count;
};

/* The directory entries of one tenant, as encoded. */
struct tenant_runs {
    bool loaded;
    struct buf tenant, bytes;
    uint64_t count;
};

struct segment {
    struct store *store;
    char name[SEGMENT_NAME_MAX];
    uint64_t size;
    struct buf tail; /* the object's last bytes: trailer, footer, and of a small segment more */
    struct buf footer;
    struct page_ref *pages;
    size_t page_count;
    struct part_ref txns;
    uint64_t txn_count, version_count;
    struct tenant_runs kept[SCOPE_TOMBSTONES + 1]; /* the last tenant asked for, by scope */
    uint64_t bytes_read;
};

/* PGS_E_CORRUPT: names the segment and what is wrong, with the way out. */
int segment_corrupt(const struct segment *s, struct pgs_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Reads and unpacks a part, from the kept tail where it lies there. */
PGS_CHECKED int segment_part(struct segment *s, const struct part_ref *part, const char *what,
                             struct buf *raw, struct pgs_err *err);
struct part_ref part_ref_read(struct cursor *c);
void run_id_read(struct cursor *c, struct run_id *id);

#endif
