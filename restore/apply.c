#include "restore/apply.h"

#include "core/err.h"
#include "core/random.h"
#include "core/timefmt.h"
#include "pg/messages.h"
#include "restore/checks.h"
#include "restore/commit.h"
#include "restore/diff.h"
#include "restore/json_row.h"
#include "restore/settle.h"
#include "restore/stage.h"
#include "restore/transaction.h"
#include "restore/write.h"
#include "restore/writers.h"

#include <inttypes.h>
#include <stdlib.h>

#define TRIES 3
#define RESTORE_POINT_KIND "pitr"
#define RANDOM_BYTES 4
#define COMMIT_WAIT_MS 60000 /* a server that crashed is back by then, or somebody is at it */

static void
progress(const struct attempt *t, const char *step)
{
    const struct restore_env *env = t->session->env;
    if (env->progress != NULL)
        env->progress(env->progress_context, step, 0, 0);
}

/* --- the plan --- */

int
apply_plan(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
           struct arena *arena, struct plan *plan, struct pgs_err *err)
{
    struct tenant tenant = tenant_of(opts->tenant);
    struct plan_opts plan_opts = {
        .selection = { opts->tables, opts->table_count, opts->exclude_tables,
                       opts->exclude_table_count },
        .to_schema = opts->to_schema != NULL,
    };
    int rc = plan_build(s, &plan_opts, &tenant, cut, arena, plan, err);
    if (rc == 0)
        plan->digests = opts->dry_run || opts->plan != NULL;
    return rc;
}

void
apply_plan_id(const struct plan *plan, const struct pitr_opts *opts, char id[PLAN_ID_SIZE])
{
    struct plan_id_table *tables =
        arena_alloc_array(plan->arena, plan->table_count + 1, sizeof(*tables));
    for (size_t i = 0; i < plan->table_count; i++) {
        const struct plan_table *t = &plan->tables[i];
        tables[i] = (struct plan_id_table){ .oid = t->relation->oid,
                                            .shape_id = relation_shape_id(t->relation),
                                            .live_shape_id =
                                                t->live == NULL ? 0 : relation_shape_id(t->live),
                                            .inserted = t->inserted,
                                            .updated = t->updated,
                                            .deleted = t->deleted,
                                            .digest = diff_count(t) > 0 ? t->digest : "" };
    }
    plan_id(&(struct plan_id_input){ .tenant = plan->tenant.key,
                                     .last_kept = plan->cut.last_kept,
                                     .cut_lsn = plan->cut.lsn,
                                     .to_schema = opts->to_schema,
                                     .tables = tables,
                                     .table_count = plan->table_count },
            id);
}

static int
check_plan_id(const struct attempt *t, struct pgs_err *err)
{
    struct buf counts = { 0 };
    if (t->opts->plan == NULL || strcmp(t->opts->plan, t->id) == 0)
        return 0;
    for (size_t i = 0; i < t->plan.table_count; i++) {
        const struct plan_table *p = &t->plan.tables[i];
        if (diff_count(p) > 0)
            buf_printf(&counts, "%s%s +%" PRIu64 " ~%" PRIu64 " -%" PRIu64,
                       counts.size > 0 ? ", " : "", p->label, p->inserted, p->updated, p->deleted);
    }
    (void)err_set(err, PGS_E_CONFLICT,
                  "the plan has changed since the preview; it would now be: %s",
                  counts.size > 0 ? buf_cstr(&counts) : "nothing to do");
    buf_release(&counts);
    (void)err_code(err, "plan_changed");
    return err_hint(err, "preview again with --dry-run");
}

static bool
plan_is_empty(const struct plan *plan)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (diff_count(&plan->tables[i]) > 0)
            return false;
    }
    return true;
}

/* --- what the restore says of itself --- */

static int
emit(struct pg_conn *c, const char *prefix, struct buf *body, struct pgs_err *err)
{
    int rc = pg_query(c, "SELECT pg_logical_emit_message(true, $1, $2::text)",
                      PG_PARAMS(prefix, buf_cstr(body)), NULL, err);
    buf_reset(body);
    return rc;
}

static int
emit_phase(const struct attempt *t, const char *phase, struct pgs_err *err)
{
    struct buf body = { 0 };
    message_restore_body(&body, t->restore_point, phase, slice_str(t->opts->tenant),
                         t->restore_point);
    int rc = emit(t->session->conn, MESSAGE_RESTORE, &body, err);
    buf_release(&body);
    return rc;
}

/* For history: who acts in this transaction, and under which number. */
static int
emit_begin(struct attempt *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    const char *actor =
        arena_printf(t->arena, "pgstrata restore %.*s", SLICE_PRINT(t->restore_point));
    int rc = pg_query(t->session->conn, "SELECT pg_current_xact_id(), pgstrata.set_actor($1)",
                      PG_PARAMS(actor), &rows, err);
    if (rc == 0)
        t->xid = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    return rc == 0 ? emit_phase(t, "begin", err) : rc;
}

/* Made while the rows to be changed are locked, so that it is their very last state. */
static int
restore_point_make(struct attempt *t, struct pgs_err *err)
{
    char time[TIME_TEXT_MAX], random[2 * RANDOM_BYTES + 1];
    pgs_lsn lsn;
    t->restore_point =
        slice_str(arena_printf(t->arena, "before-pitr-%s-%s-%s", t->opts->tenant,
                               time_format(time_now(), time), random_hex(random, RANDOM_BYTES)));
    return restore_point_create(t->aux, t->restore_point, slice_str(t->opts->tenant),
                                RESTORE_POINT_KIND, &lsn, err);
}

/* --- one try --- */

static int
stage_all(struct plan *plan, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = stage_table(plan, &plan->tables[i], err);
    return rc;
}

static int
prepare(struct attempt *t, bool *replica, struct pgs_err *finding, struct pgs_err *err)
{
    struct plan *plan = &t->plan;
    int rc = transaction_begin(t->session, replica, err);
    if (rc == 0)
        rc = transaction_lock_tables(plan, err);
    if (rc == 0)
        rc = plan_constraints(plan, *replica, err);
    if (rc == 0)
        rc = stage_all(plan, err);
    if (rc == 0)
        rc = transaction_lock_tenant(plan, err);
    if (rc == 0)
        rc = settle(plan, t->aux, finding, err);
    if (rc == 0)
        rc = diff_finish(plan, t->check_owners, t->opts->sample_rows, err);
    return rc;
}

static int
write_and_check(struct attempt *t, bool replica, struct pgs_err *finding, struct pgs_err *err)
{
    struct plan *plan = &t->plan;
    struct effects before;
    int rc = effects_read(plan, replica, &before, err);
    if (rc == 0)
        rc = emit_begin(t, err);
    if (rc == 0)
        rc = write_diff(plan, finding, err);
    if (rc == 0)
        rc = checks_foreign_keys(plan, finding, err);
    if (rc == 0 && replica)
        rc = writers_wait(plan, finding, err);
    if (rc == 0)
        rc = checks_unique(plan, finding, err);
    if (rc == 0)
        rc = checks_rows(plan, replica, finding, err);
    if (rc == 0)
        rc = checks_effects(plan, replica, &before, finding, err);
    return rc == 0 ? emit_phase(t, "end", err) : rc;
}

/* PGS_NONE: rolled back because of *finding. */
static int
apply_once(struct attempt *t, bool *changed, struct pgs_err *finding, struct pgs_err *err)
{
    bool replica = false;
    int rc = prepare(t, &replica, finding, err);
    if (rc == 0) {
        if (t->plan.digests)
            apply_plan_id(&t->plan, t->opts, t->id);
        rc = check_plan_id(t, err);
    }
    bool write = rc == 0 && !plan_is_empty(&t->plan);
    if (write) {
        progress(t, "restoring");
        rc = restore_point_make(t, err);
        if (rc == 0)
            rc = write_and_check(t, replica, finding, err);
        if (rc == 0)
            rc = commit_restore(t->session, t->xid, COMMIT_WAIT_MS, err);
    }
    if (rc != 0 || !write)
        transaction_rollback(t->session);
    if (rc == 0)
        *changed = write;
    return rc < 0 ? transaction_name_blocker(&t->plan, t->aux, rc, err) : rc;
}

/* Failures that another try can get past: a deadlock (we give way), a row that somebody else put
 * where ours was to go. */
static bool
may_pass(const struct pgs_err *err)
{
    static const char *const states[] = { "40P01", "40001", "23505", "23P01" };
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(err->sqlstate, states[i]) == 0)
            return true;
    }
    return false;
}

static int
apply_try(struct attempt *t, const struct cut *cut, bool *changed, struct pgs_err *finding,
          struct pgs_err *err)
{
    progress(t, "reading the archive");
    int rc = apply_plan(t->session, t->opts, cut, t->arena, &t->plan, err);
    if (rc < 0)
        return rc;
    rc = apply_once(t, changed, finding, err);
    if (rc < 0 && may_pass(err)) {
        *finding = *err;
        t->check_owners = true;
        rc = PGS_NONE;
    }
    return rc;
}

static int
apply_tries(struct attempt *t, const struct cut *cut, bool *changed, struct pgs_err *err)
{
    struct pgs_err finding = { 0 };
    for (unsigned i = 0; i < TRIES; i++) {
        int rc = i == 0 ? 0 : restore_session_flush(t->session, err);
        if (rc == 0)
            rc = apply_try(t, cut, changed, &finding, err);
        if (rc != PGS_NONE)
            return rc;
    }
    *err = finding;
    return err_doing(err, "restore tenant %s (%d tries)", t->opts->tenant, TRIES);
}

int
apply_run(struct attempt *t, const struct cut *cut, bool *changed, struct pgs_err *err)
{
    struct restore_session *s = t->session;
    struct pg_open_opts conn_opts = { .application_name = "pgstrata restore" };
    *changed = false;
    int rc = tenant_lock(s->conn, t->opts->tenant, err);
    if (rc < 0)
        return rc;
    rc = pg_open(&s->env->target, &conn_opts, &t->aux, err);
    if (rc == 0)
        rc = apply_tries(t, cut, changed, err);
    pg_close(t->aux);
    t->aux = NULL;
    tenant_unlock(s->conn, t->opts->tenant);
    return rc;
}
