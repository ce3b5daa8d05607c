/* scan.h: reads one tenant's rows of one table: base and changes merged by key, in bounded memory.
 *
 *     scan_open -> scan_next... -> scan_close           every version, tombstones too
 *     state_open -> state_next... -> state_close        the rows as they were at one cut
 *
 * Versions come in (key, commit LSN, sequence) order. Deletes and truncates of SCOPE_TOMBSTONES
 * come where they apply to a key the tenant has, as versions of that key; blocks of them that
 * cannot hold a key of the tenant are not read. Who knows the bound decides when to stop. */
#ifndef STRATA_SCAN_H
#define STRATA_SCAN_H

#include "strata/archive.h"

struct scan;
struct scan_opts {
    struct tenant tenant;            /* SCOPE_TENANT or SCOPE_SHARED */
    const struct coverage *coverage; /* must outlive the scan */
    uint32_t table_oid;
    pgs_lsn to; /* versions with commit LSN < to; and >= coverage->base_lsn, plus the base */
    /* Only these keys, sorted, without duplicates; NULL: all. They must outlive the scan. */
    const struct slice *keys;
    size_t key_count;
};
PGS_CHECKED int scan_open(struct archive *a, const struct scan_opts *opts, struct scan **s,
                          struct pgs_err *err);
/* *v is valid until the next call. from_base: it is a row of the base, older than every change.
 * PGS_NONE: no more. */
PGS_CHECKED int scan_next(struct scan *s, struct version *v, bool *from_base, struct pgs_err *err);
void scan_close(struct scan *s); /* accepts NULL */

/* Keys of a table that changed, sorted, without duplicates. */
struct changed_keys {
    struct slice *keys;
    /* By key: it is in the tenant's own runs. The others are from SCOPE_TOMBSTONES alone, and may
     * be any tenant's: scan_held_keys tells. */
    bool *own;
    size_t count;
    bool truncated; /* a truncate is among the changes, so every key may have changed */
};
/* Those at commit LSN in [from, to), from changes alone: no base is read. */
PGS_CHECKED int scan_changed_keys(struct archive *a, const struct tenant *tenant,
                                  uint32_t table_oid, struct pgs_lsn_range range,
                                  struct arena *arena, struct changed_keys *changed,
                                  struct pgs_err *err);

/* Of opts->keys those that the tenant had at any time from the base to opts->to, in `arena` (the
 * bytes stay the caller's). What others deleted falls away: a tombstone's key that is not kept
 * concerns nobody here. */
PGS_CHECKED int scan_held_keys(struct archive *a, const struct scan_opts *opts, struct arena *arena,
                               struct slice **keys, size_t *count, struct pgs_err *err);

/* --- folding versions to rows --- */
/* Applies versions of one key in order: carries 'u' fields over, ends with deletes. */
struct fold;
struct fold *fold_new(size_t column_count, struct budget *budget);
void fold_free(struct fold *f);  /* accepts NULL */
void fold_reset(struct fold *f); /* before a new key: no row */
/* PGS_E_REFUSED code "unresolved_toast" when an 'u' field has nothing to carry. */
PGS_CHECKED int fold_apply(struct fold *f, const struct version *v, struct pgs_err *err);
/* As fold_apply, for showing history: a field that has nothing to carry from counts as NULL. */
PGS_CHECKED int fold_apply_known(struct fold *f, const struct version *v, struct pgs_err *err);
/* The row now: column_count fields, none of kind 'u', valid until the next call; NULL: no row. */
const struct row_field *fold_row(const struct fold *f);

struct state;
struct state_row {
    struct slice key;
    /* NULL: no row at the cut (only with opts.keys or when the key existed and is gone). */
    const struct row_field *fields;
    pgs_lsn commit_lsn; /* of the newest version applied; 0: from the base */
};
/* Rows at the cut opts->to, in key order. With opts->keys: one answer per key that ever existed for
 * the tenant, gone ones with fields NULL; without: rows that exist. 'u' fields are resolved across
 * key changes too. */
PGS_CHECKED int state_open(struct archive *a, const struct scan_opts *opts, struct state **s,
                           struct pgs_err *err);
PGS_CHECKED int state_next(struct state *s, struct state_row *row, struct pgs_err *err);
void state_close(struct state *s); /* accepts NULL */

#endif
