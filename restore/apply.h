/* apply.h: a restore in place, from plan to commit (DESIGN 7).
 *
 *   plan -> one transaction: stage, lock the tenant, settle -> is it still the previewed plan?
 *        -> restore point, in its own transaction -> delete, update, insert -> checks -> commit
 *
 * Whatever is found wrong on the way rolls everything back. Where a concurrent transaction may be
 * the reason, it is tried again from the plan on, a few times. */
#ifndef RESTORE_APPLY_H
#define RESTORE_APPLY_H

#include "restore/plan.h"
#include "restore/plan_id.h"

struct attempt {
    struct restore_session *session;
    const struct pitr_opts *opts;
    struct arena *arena;
    struct pg_conn *aux; /* for what must commit while our transaction is open */
    struct plan plan;
    struct slice restore_point;
    char id[PLAN_ID_SIZE];
    uint64_t xid;
    /* Look whether another tenant holds a key that is to be put back. PostgreSQL refuses the insert
     * anyway: so only once it did, to say who. */
    bool check_owners;
};

/* Fills in the attempt; *changed: something was written and committed. On failure nothing was. */
PGS_CHECKED int apply_run(struct attempt *t, const struct cut *cut, bool *changed,
                          struct pgs_err *err);

/* The plan that pitr's options ask for, and what it is called once its diffs are there. */
PGS_CHECKED int apply_plan(struct restore_session *s, const struct pitr_opts *opts,
                           const struct cut *cut, struct arena *arena, struct plan *plan,
                           struct pgs_err *err);
void apply_plan_id(const struct plan *plan, const struct pitr_opts *opts, char id[PLAN_ID_SIZE]);

#endif
