/* diff.h: how the live rows of the tenant differ from the stage, worked out in SQL by record image.
 *
 *     pg_temp.pgs_diff_<n> (op "char", stage tid, live tid, digest bytea, k0 ..., o3 ...)
 *
 * op: I put back, U changed back, R changed back by deleting and inserting (see plan.h), D removed.
 * stage and live point at the rows; k<i> are the key columns, o<j> the live values of other columns
 * that are needed when the live row is gone: foreign keys refer to them, or they came after the
 * cut. Rows that are equal are not in it. `*<>` compares images, as json has no equality and 1.0 is
 * not 1.00; where only storage differs and the text is the same, a preview counts the row as equal.
 * digest: over the row before and after, where the plan's id is asked for. */
#ifndef RESTORE_DIFF_H
#define RESTORE_DIFF_H

#include "restore/plan.h"

/* Fills the diff anew, and the table's counts and digest. Tables without a stage have no diff. */
PGS_CHECKED int diff_table(struct plan *plan, struct plan_table *t, struct pgs_err *err);
/* Locks the live rows in the diff FOR UPDATE. PGS_NONE: one of them changed since the diff was
 * made: it is locked too, and the diff must be made again. */
PGS_CHECKED int diff_lock(struct plan *plan, const struct plan_table *t, struct pgs_err *err);
/* PGS_E_REFUSED code "owned_by_other": a row to be put back has a key that another tenant holds. */
PGS_CHECKED int diff_check_owners(struct plan *plan, const struct plan_table *t,
                                  struct pgs_err *err);
/* Puts keys (of the shape of now) into pg_temp.pgs_window_<n> (k0 ...), made anew. */
PGS_CHECKED int diff_window(struct plan *plan, const struct plan_table *t, const struct slice *keys,
                            size_t count, struct pgs_err *err);
/* "w.k0 OPERATOR(=) d.k0 AND ...": the same key in window w and diff d. */
void diff_put_window_join(struct buf *sql, const struct plan_table *t);
/* Whether a row of the diff has one of these keys (sorted). */
PGS_CHECKED int diff_touches(struct plan *plan, const struct plan_table *t,
                             const struct slice *keys, size_t count, bool *touches,
                             struct pgs_err *err);
/* Up to `most` sample rows of each kind into t->samples. Before anything is written. */
PGS_CHECKED int diff_samples(struct plan *plan, struct plan_table *t, unsigned most,
                             struct pgs_err *err);
/* Samples, with `owners` the check of owners, and that converted values were converted as they are
 * here, for every table, once the diffs are final. PGS_E_REFUSED `shape_changed`. */
PGS_CHECKED int diff_finish(struct plan *plan, bool owners, unsigned samples, struct pgs_err *err);
uint64_t diff_count(const struct plan_table *t); /* rows in it */

/* Name of the diff's column that holds the live value of the relation's column, "k0" or "o3". */
struct diff_column {
    char name[24];
};
struct diff_column diff_column_of(const struct plan_table *t, size_t column);

#endif
