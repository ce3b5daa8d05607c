/* archive.h: what the archive can answer: tables and their shapes over time, coverage, targets.
 *
 * A read-only view of the log as it was at open or the last refresh. One thread at a time.
 *
 * History is ordered by (era, LSN), and oids, LSNs and xids mean something within their era alone.
 * So one era is in view at a time, and everything below is about that one, without what it had
 * behind the position where it was left. It is the current era unless archive_view says otherwise;
 * a target is looked for in all of them, and the cut names the era to bring into view. */
#ifndef STRATA_ARCHIVE_H
#define STRATA_ARCHIVE_H

#include "strata/alog.h"

struct archive;

PGS_CHECKED int archive_open(struct store *store, const char *archive_id, struct archive **a,
                             struct pgs_err *err);
void archive_close(struct archive *a); /* accepts NULL */
/* Reads what came since, and brings the current era into view. PGS_NONE: nothing came. */
PGS_CHECKED int archive_refresh(struct archive *a, struct pgs_err *err);
/* Waits until an entry names the barrier or deadline_us (clock_us) passes: PGS_E_NOT_RUNNING. */
PGS_CHECKED int archive_wait_barrier(struct archive *a, struct slice barrier, int64_t deadline_us,
                                     struct pgs_err *err);

const struct alog *archive_log(const struct archive *a);

/* --- eras --- */
struct era {
    uint32_t number;
    pgs_lsn begin; /* of the first era 0: nothing is before it */
    pgs_lsn fork;  /* where it left the era before, see log_entry_fork */
    pgs_lsn end;   /* where it was left; of the current one, the archive's end */
    pgs_time created;
    uint64_t system_id;
    struct slice reason; /* SLICE_NULL: the first */
};
/* Oldest first. */
PGS_CHECKED int archive_eras(struct archive *a, struct arena *arena, struct era **eras,
                             size_t *count, struct pgs_err *err);
/* Brings an era into view, 0 the current one. PGS_E_NOT_FOUND: there is none of this number. */
PGS_CHECKED int archive_view(struct archive *a, uint32_t era, struct pgs_err *err);
void archive_view_current(struct archive *a);
uint32_t archive_era(const struct archive *a);         /* in view */
uint32_t archive_era_current(const struct archive *a); /* the newest */
uint64_t archive_system_id(const struct archive *a);   /* of the era in view */

/* Everything committed at or before this is in. */
pgs_lsn archive_end(const struct archive *a);
pgs_time archive_end_time(const struct archive *a); /* latest commit time seen; PGS_TIME_NONE */
uint64_t archive_bytes_read(const struct archive *a);

/* A table as known at some position: shape and name valid from `from`. */
struct archive_table {
    uint32_t oid;
    uint64_t shape_id;
    pgs_lsn from;
    const struct relation *relation;
};
/* Tables with a shape known at `cut` (the newest with from <= cut, or the oldest if none) and not
 * dropped before it, by (schema, name). cut 0: at the end. */
PGS_CHECKED int archive_tables(struct archive *a, pgs_lsn cut, struct arena *arena,
                               const struct archive_table **tables, size_t *count,
                               struct pgs_err *err);

/* --- cuts: a cut is a set of transactions, those with commit LSN < lsn --- */
struct cut {
    uint32_t era;
    pgs_lsn lsn;
    struct pgs_moment last_kept;    /* lsn: its commit_end_lsn */
    struct pgs_moment first_undone; /* lsn: its commit_lsn; none when nothing came after */
};

enum target_kind {
    TARGET_TIME,
    TARGET_LSN,
    TARGET_XID,
    TARGET_NAME,
    TARGET_BEFORE_LSN,
    TARGET_BEFORE_XID,
    TARGET_END
};
struct target {
    enum target_kind kind;
    uint32_t era;   /* whose position, transaction or name it is; 0: see archive_resolve */
    bool exclusive; /* with time, xid, name */
    pgs_time time;
    pgs_lsn lsn;
    uint64_t xid; /* 32-bit values match the newest transaction with these low bits */
    struct slice name;
};
/* Resolves as DESIGN 6 says. Where the target names no era: a time means the era of that time; a
 * position the current era, or, before it began, one that it shares positions with; a transaction
 * or name is looked for from the newest era back. What an era had behind the position where it was
 * left is refused. Afterwards the current era is in view; the cut says which one it is of.
 *
 * PGS_E_NOT_FOUND (xid, name, before-lsn that is no commit),
 * PGS_E_REFUSED (beyond the end: code "future"; before the archive; commit times that run
 * backwards by more than 10 s around the cut: both LSNs named). `now` is the server's clock at
 * the flush barrier. */
PGS_CHECKED int archive_resolve(struct archive *a, const struct target *target, pgs_time now,
                                struct cut *cut, struct pgs_err *err);
/* The transaction with this commit LSN, into `arena`. PGS_NONE: not there. */
PGS_CHECKED int archive_txn(struct archive *a, pgs_lsn commit_lsn, struct arena *arena,
                            struct txn *txn, struct pgs_err *err);

/* --- coverage --- */
/* The base and range to answer for a table over [from, to]: the newest usable base at or before
 * `from`, with no break in [base, to). PGS_E_REFUSED code "outside_coverage" with nearest moments,
 * naming table and reason. Same shape over all of [base, to), by construction of breaks. */
struct coverage {
    pgs_lsn base_lsn;
    uint64_t shape_id;
    const struct relation *relation; /* the shape of that time */
    const struct log_entry *base_entry;
    const struct log_base *base;
};
PGS_CHECKED int archive_coverage(struct archive *a, uint32_t table_oid, pgs_lsn from, pgs_lsn to,
                                 struct coverage *coverage, struct pgs_err *err);
/* The oldest base from which `to` can be answered without a break: how far history reaches. false:
 * none. */
bool archive_coverage_longest(struct archive *a, uint32_t table_oid, pgs_lsn to,
                              struct coverage *coverage);
/* Breaks as status shows them (merged, closed ones with their end), in LSN order. covered_again:
 * the first base after it, 0 none. */
struct archive_gap {
    pgs_lsn begin, end;
    uint32_t table_oid; /* 0: every table */
    struct slice code, reason;
};
PGS_CHECKED int archive_gaps(struct archive *a, struct arena *arena, struct archive_gap **gaps,
                             size_t *count, struct pgs_err *err);
/* The table can be answered at the archive's end. */
bool archive_table_covered(struct archive *a, uint32_t table_oid);

/* Tenants that have versions in the archive, sorted, without duplicates. */
PGS_CHECKED int archive_tenants(struct archive *a, struct arena *arena, struct slice **tenants,
                                size_t *count, struct pgs_err *err);
PGS_CHECKED int archive_has_tenant(struct archive *a, struct slice tenant, bool *has,
                                   struct pgs_err *err);

/* Segments that can hold versions with commit LSN in the range, opened and cached by the
 * archive. */
PGS_CHECKED int archive_segments(struct archive *a, struct pgs_lsn_range range, struct arena *arena,
                                 struct segment ***segments, size_t *count, struct pgs_err *err);
/* The segments of a base, opened and cached. */
PGS_CHECKED int archive_base_segments(struct archive *a, const struct coverage *coverage,
                                      struct arena *arena, struct segment ***segments,
                                      size_t *count, struct pgs_err *err);

#endif
