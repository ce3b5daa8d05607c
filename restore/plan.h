/* plan.h: what one restore is about: its tables, with what the archive can say of each and what the
 * live database has in its place.
 *
 *     plan_build -> (plan_constraints) -> stage, diff, apply -> plan_release
 *
 * A table is restored by one of two methods. *rewind* looks only at keys that changed since the
 * cut: exact as long as the archive covers the table from a base before the cut up to now without a
 * break, because then every other row is what it was. *full* looks at all rows of the tenant; it is
 * taken where a break or a TRUNCATE lies in between. */
#ifndef RESTORE_PLAN_H
#define RESTORE_PLAN_H

#include "restore/constraints.h"
#include "restore/mapping.h"
#include "restore/select.h"

#define PLAN_KEY_COLUMNS_MAX 32

struct plan_table {
    struct coverage coverage;                 /* for the state at the cut */
    const struct relation *relation;          /* its shape at the cut */
    const struct relation *live;              /* now; NULL when restored to another schema */
    struct mapping mapping;                   /* in place: from the one to the other */
    const char *label;                        /* schema.name, for messages */
    const char *sql_name;                     /* "schema"."name" of the live table */
    const char **sql_columns;                 /* quoted, by column */
    size_t key_columns[PLAN_KEY_COLUMNS_MAX]; /* indexes into the columns of live, or relation */
    size_t key_count;
    bool rewind;
    /* rewind: keys changed in [cut, now), sorted, without duplicates. Grows with stage_extend. */
    struct slice *keys;
    size_t keys_count;

    /* Filled by constraints. */
    const char **equals; /* operator by key column */
    bool *replace;       /* by column: a row whose value changes is deleted and inserted */
    bool *kept; /* by column, not of the key: its live value is needed when the row is gone, since
                 * a foreign key points here, or since the column came after the cut */
    bool trigger_fires; /* some trigger or rule of the user's will see our statements */

    /* Filled by stage and diff. */
    bool staged;
    size_t number;                                 /* names its temporary tables */
    uint64_t inserted, updated, replaced, deleted; /* replaced is part of updated */
    char digest[65];                               /* over all rows of the diff */
    struct pitr_sample *samples;
    size_t sample_count;
};

struct plan {
    struct restore_session *session;
    struct arena *arena; /* lives as long as the plan */
    struct tenant tenant;
    const char *tenant_text;
    struct cut cut;
    pgs_lsn end; /* changes before this were looked at */
    struct catalog catalog;
    struct plan_table *tables; /* by (schema, name) */
    size_t table_count;
    struct constraints constraints;
    /* Whether the diffs carry digests, for the plan's id: they cost as much as all the rest of a
     * diff, so that they are made only when the id is asked for. */
    bool digests;
};

struct plan_opts {
    struct selection selection;
    bool to_schema; /* the live tables play no part */
};

/* Everything lives in `arena`. PGS_E_REFUSED: a table cannot be answered exactly, has another shape
 * now, or is not covered (all such tables are named). PGS_E_NOT_FOUND: no such tenant or table. */
PGS_CHECKED int plan_build(struct restore_session *s, const struct plan_opts *opts,
                           const struct tenant *tenant, const struct cut *cut, struct arena *arena,
                           struct plan *plan, struct pgs_err *err);
/* Reads constraints of the live tables. `replica`: ordinary triggers will not fire. */
PGS_CHECKED int plan_constraints(struct plan *plan, bool replica, struct pgs_err *err);
struct plan_table *plan_table_of(const struct plan *plan, uint32_t oid);
/* "rewind" unless some table needs "full". */
const char *plan_method(const struct plan *plan);

#endif
