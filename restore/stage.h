/* stage.h: the tenant's rows at the cut, in temporary tables of the restore's transaction.
 *
 *     pg_temp.pgs_stage_<n> (present boolean, c0 <type of column 0>, c1 ...)
 *
 * Columns are those of the live table that existed at the cut, with its types and collations, so
 * that SQL compares like with like. Where the type was another one, a<i> takes the value of then
 * and c<i> is generated from it. rewind stages only changed keys; one that had no row at the cut
 * has present = false and only its key filled. Rows stream from the merge into COPY: memory does
 * not grow with the tenant. */
#ifndef RESTORE_STAGE_H
#define RESTORE_STAGE_H

#include "restore/plan.h"

/* Creates and fills the table's stage; a rewind table without changed keys needs none. */
PGS_CHECKED int stage_table(struct plan *plan, struct plan_table *t, struct pgs_err *err);
/* rewind: stages these keys too (sorted, without duplicates); those already there are skipped. */
PGS_CHECKED int stage_extend(struct plan *plan, struct plan_table *t, const struct slice *keys,
                             size_t count, struct pgs_err *err);

/* Whether different key texts always mean different rows: not so for 1.0 and 1.00, or citext. */
bool stage_keys_exact(const struct plan_table *t);

/* The columns that existed at the cut, numbered: "s.c0, s.c2" with prefix "s.c". */
void stage_put_columns(struct buf *sql, const struct plan_table *t, const char *prefix);
/* The stage's row under an alias: "ROW(s.c0, s.c2)". */
void stage_put_row(struct buf *sql, const struct plan_table *t, const char *alias);
/* The same of the live table: ROW(l."a", l."b"). */
void live_put_row(struct buf *sql, const struct plan_table *t, const char *alias);
/* That a live row is the tenant's, $1 being the tenant: always so in the tenant's own schema. */
void live_put_tenant(struct buf *sql, const struct plan_table *t, const char *alias);
/* l."a" OPERATOR(=) s.c0 AND ...: the keys are equal. */
void stage_put_key_join(struct buf *sql, const struct plan_table *t, const char *live,
                        const char *stage);

/* Streams rows into COPY ... FROM STDIN: also for loading into a side schema. */
struct row_copy {
    struct pg_conn *conn;
    struct buf lines;
};
/* The fields of a row, but those whose `places` are negative (NULL: all); unchanged ones must have
 * been resolved. */
void row_copy_fields(struct row_copy *copy, const struct row_field *fields, size_t count,
                     const int *places);
/* A whole line with the fields of an encoded key. */
PGS_CHECKED int row_copy_key(struct row_copy *copy, const struct plan_table *t, struct slice key,
                             struct pgs_err *err);
/* Ends the line; sends what has gathered when it is enough. */
PGS_CHECKED int row_copy_end_line(struct row_copy *copy, struct pgs_err *err);
/* Ends the COPY: with `rc` negative it is made to fail, and rc is returned. *rows may be NULL. */
PGS_CHECKED int row_copy_finish(struct row_copy *copy, int rc, uint64_t *rows, struct pgs_err *err);

#endif
