#include "restore/settle.h"

#include "core/err.h"
#include "restore/diff.h"
#include "restore/stage.h"
#include "strata/barrier.h"

/* The second round looks at the time between two locks; more are needed only if rows that the first
 * one brought in are changed again in that time. */
#define ROUNDS 6

static int
rows_keep_changing(const struct plan *plan, struct pgs_err *finding)
{
    (void)err_set(finding, PGS_E_CONFLICT, "rows of tenant %s keep changing", plan->tenant_text);
    (void)err_hint(finding, "stop what writes to this tenant for the time of the restore");
    return PGS_NONE;
}

static int
diff_all(struct plan *plan, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = diff_table(plan, &plan->tables[i], err);
    return rc;
}

static int
lock_all(struct plan *plan, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = diff_lock(plan, &plan->tables[i], err);
    return rc;
}

/* Each repetition has more rows locked, so that fewer can change. */
static int
diff_and_lock(struct plan *plan, struct pgs_err *finding, struct pgs_err *err)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        int rc = diff_all(plan, err);
        if (rc == 0)
            rc = lock_all(plan, err);
        if (rc != PGS_NONE)
            return rc;
    }
    return rows_keep_changing(plan, finding);
}

/* PGS_NONE: the archive cannot say, because the table was truncated or changed its shape. */
static int
window_read(struct plan *plan, const struct plan_table *t, pgs_lsn end, struct arena *scratch,
            struct changed_keys *w, struct pgs_err *err)
{
    struct archive *a = plan->session->archive;
    struct coverage unbroken;
    struct pgs_err broken;
    struct pgs_lsn_range range = { plan->end, end };
    int rc = archive_coverage(a, t->relation->oid, plan->end, end, &unbroken, &broken);
    if (rc < 0) {
        *err = broken;
        return broken.kind == PGS_E_REFUSED ? PGS_NONE : rc;
    }
    rc = scan_changed_keys(a, &plan->tenant, t->relation->oid, range, scratch, w, err);
    return rc == 0 && w->truncated ? PGS_NONE : rc;
}

static int
windows_read(struct plan *plan, pgs_lsn end, struct arena *scratch, struct changed_keys *windows,
             struct pgs_err *finding, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        rc = window_read(plan, &plan->tables[i], end, scratch, &windows[i], err);
        if (rc == PGS_NONE)
            (void)err_set(finding, PGS_E_CONFLICT,
                          "table %s was truncated or altered during the restore",
                          plan->tables[i].label);
    }
    return rc;
}

static int
windows_touch(struct plan *plan, const struct changed_keys *windows, bool *touch,
              struct pgs_err *err)
{
    int rc = 0;
    *touch = false;
    for (size_t i = 0; rc == 0 && !*touch && i < plan->table_count; i++)
        rc = diff_touches(plan, &plan->tables[i], windows[i].keys, windows[i].count, touch, err);
    return rc;
}

static int
windows_stage(struct plan *plan, const struct changed_keys *windows, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        struct plan_table *t = &plan->tables[i];
        if (t->rewind && windows[i].count > 0)
            rc = stage_extend(plan, t, windows[i].keys, windows[i].count, err);
    }
    return rc;
}

/* One round; *settled: nothing of what came meanwhile touches the diff. */
static int
settle_round(struct plan *plan, struct pg_conn *aux, struct arena *scratch, bool *settled,
             struct pgs_err *finding, struct pgs_err *err)
{
    struct changed_keys *windows =
        arena_alloc_array(scratch, plan->table_count + 1, sizeof(*windows));
    bool touch = false;
    pgs_lsn end = plan->end;
    int rc = diff_and_lock(plan, finding, err);
    if (rc == 0)
        rc = barrier_flush(aux, plan->session->archive, plan->session->env->timeout_ms, &end, NULL,
                           err);
    if (rc == 0)
        rc = windows_read(plan, end, scratch, windows, finding, err);
    if (rc == 0)
        rc = windows_touch(plan, windows, &touch, err);
    if (rc == 0) {
        plan->end = end;
        *settled = !touch;
    }
    if (rc == 0 && touch)
        rc = windows_stage(plan, windows, err);
    return rc;
}

int
settle(struct plan *plan, struct pg_conn *aux, struct pgs_err *finding, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    bool settled = false;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && !settled && i < ROUNDS; i++) {
        rc = settle_round(plan, aux, scratch, &settled, finding, err);
        arena_reset(scratch);
    }
    arena_free(scratch);
    if (rc != 0 || settled)
        return rc;
    return rows_keep_changing(plan, finding);
}
