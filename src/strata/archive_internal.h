/* archive_internal.h: an open archive, for archive*.c. */
#ifndef STRATA_ARCHIVE_INTERNAL_H
#define STRATA_ARCHIVE_INTERNAL_H

#include "strata/archive.h"

struct cached_segment {
    char name[SEGMENT_NAME_MAX];
    struct segment *segment;
    struct txn *txns; /* in the archive's arena, once asked for */
    size_t txn_count;
    bool txns_loaded;
    struct cached_segment *next; /* in its bucket */
};

#define SEGMENT_BUCKETS 1024

struct archive {
    struct alog *log;
    struct store *store;
    struct arena *arena;
    struct cached_segment *buckets[SEGMENT_BUCKETS];
    /* The era in view. */
    size_t view_begin, view_end; /* indexes of its entries */
    pgs_lsn view_limit;          /* what it has behind this is abandoned; UINT64_MAX: nothing is */
};

/* Entries of the era in view. */
#define ARCHIVE_FOR_ENTRIES(a, e)                                                          \
    for (size_t entry_index = (a)->view_begin; entry_index < (a)->view_end; entry_index++) \
        for (const struct log_entry *e = alog_entry((a)->log, entry_index); e != NULL; e = NULL)

/* Also what was abandoned, to tell that a target is in it. */
void archive_view_whole(struct archive *a);

PGS_CHECKED int archive_segment(struct archive *a, const struct segment_info *info,
                                struct cached_segment **cached, struct pgs_err *err);
PGS_CHECKED int archive_segment_txns(struct archive *a, const struct segment_info *info,
                                     struct txn **txns, size_t *count, struct pgs_err *err);
/* The last transaction that ends at or before lsn; the first that commits at or after it.
 * PGS_NONE: none is known; they name moments for people, so a failure to read is none too. */
PGS_CHECKED int archive_txn_before(struct archive *a, pgs_lsn lsn, struct txn *txn);
PGS_CHECKED int archive_txn_after(struct archive *a, pgs_lsn lsn, struct txn *txn);

#endif
