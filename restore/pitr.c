/* pitr.c: one restore from end to end; the steps are told in restore.h. */
#include "restore/checks.h"
#include "restore/diff.h"
#include "restore/innocence.h"
#include "restore/plan_id.h"
#include "restore/side_schema.h"
#include "restore/stage.h"
#include "restore/transaction.h"
#include "restore/write.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "pg/messages.h"
#include "strata/barrier.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

/* A concurrent transaction may be the reason why a check finds something; then a new try sees its work. */
#define TRIES 3
#define RESTORE_POINT_KIND "pitr"

/* One try at applying. Everything in it is thrown away when it does not commit. */
struct attempt {
    struct restore_session *session;
    const struct pitr_opts *opts;
    struct pg_conn *aux; /* for barriers: a message in our open transaction would not be decoded */
    struct plan plan;
    struct slice restore_point;
    char id[PLAN_ID_SIZE];
    uint64_t xid;
};

static void
progress(const struct restore_session *s, const char *step)
{
    if (s->env->progress != NULL)
        s->env->progress(s->env->progress_context, step, 0, 0);
}

static int
build_plan(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
           struct arena *arena, struct plan *plan, struct pgs_err *err)
{
    struct tenant tenant = tenant_of(opts->tenant);
    struct plan_opts plan_opts = {
        .selection = { opts->tables, opts->table_count, opts->exclude_tables,
                       opts->exclude_table_count },
        .to_schema = opts->to_schema != NULL,
    };
    return plan_build(s, &plan_opts, &tenant, cut, arena, plan, err);
}

static void
id_of(const struct plan *plan, const struct pitr_opts *opts, char id[PLAN_ID_SIZE])
{
    struct plan_id_table *tables =
        arena_alloc_array(plan->arena, plan->table_count + 1, sizeof(*tables));
    for (size_t i = 0; i < plan->table_count; i++) {
        const struct plan_table *t = &plan->tables[i];
        tables[i] = (struct plan_id_table){ t->relation->oid, relation_shape_id(t->relation),
                                            t->inserted,      t->updated,
                                            t->deleted,       t->digest };
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
diff_tables(struct plan *plan, const struct pitr_opts *opts, bool lock, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        struct plan_table *t = &plan->tables[i];
        rc = diff_table(plan, t, lock, err);
        if (rc == 0)
            rc = diff_check_owners(plan, t, err);
        if (rc == 0)
            rc = diff_samples(plan, t, opts->sample_rows, err);
    }
    return rc;
}

static int
stage_tables(struct plan *plan, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = stage_table(plan, &plan->tables[i], err);
    return rc;
}

static void
result_fill(const struct plan *plan, const struct pitr_opts *opts, struct arena *arena,
            struct pitr_result *r)
{
    r->method = plan_method(plan);
    r->cut = plan->cut;
    r->target_lsn = plan->cut.lsn;
    r->target_time =
        opts->target.kind == TARGET_TIME ? opts->target.time : plan->cut.last_kept.time;
    r->tables = arena_alloc_array(arena, plan->table_count + 1, sizeof(*r->tables));
    r->table_count = plan->table_count;
    r->inserted = r->updated = r->deleted = 0;
    for (size_t i = 0; i < plan->table_count; i++) {
        const struct plan_table *t = &plan->tables[i];
        r->tables[i] = (struct pitr_table){ .schema = t->relation->schema,
                                            .name = t->relation->name,
                                            .inserted = t->inserted,
                                            .updated = t->updated,
                                            .deleted = t->deleted,
                                            .samples = t->samples,
                                            .sample_count = t->sample_count };
        r->inserted += t->inserted;
        r->updated += t->updated;
        r->deleted += t->deleted;
    }
}

/* --- preview --- */

static int
preview(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
        struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct plan plan = { 0 };
    bool begun = false;
    int rc = build_plan(s, opts, cut, arena, &plan, err);
    if (rc == 0) {
        progress(s, "comparing");
        rc = transaction_begin_preview(s, err);
        begun = rc == 0;
    }
    if (rc == 0)
        rc = plan_constraints(&plan, true, err);
    if (rc == 0)
        rc = stage_tables(&plan, err);
    if (rc == 0)
        rc = diff_tables(&plan, opts, false, err);
    if (begun)
        transaction_rollback(s);
    if (rc < 0)
        return rc;
    result->status = "previewed";
    id_of(&plan, opts, result->plan);
    result_fill(&plan, opts, arena, result);
    return 0;
}

/* --- apply --- */

/* Writers went on since the plan was made; with the tenant locked, what they changed is looked at too.
 * PGS_NONE: a table must be looked at as a whole now: a new plan is needed. */
static int
extend_to_now(struct attempt *t, struct pgs_err *err)
{
    struct plan *plan = &t->plan;
    struct restore_session *s = t->session;
    pgs_lsn end;
    int rc = barrier_flush(t->aux, s->archive, s->env->timeout_ms, &end, NULL, err);
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        struct plan_table *table = &plan->tables[i];
        struct slice *keys;
        size_t count;
        bool truncated = false;
        struct coverage ignored;
        struct pgs_err broken;
        if (!table->rewind)
            continue;
        if (archive_coverage(s->archive, table->relation->oid, plan->cut.lsn, end, &ignored,
                             &broken) < 0)
            return PGS_NONE;
        rc = scan_changed_keys(s->archive, &plan->tenant, table->relation->oid,
                               (struct pgs_lsn_range){ plan->end, end }, plan->arena, &keys, &count,
                               &truncated, err);
        if (rc == 0 && truncated)
            return PGS_NONE;
        if (rc == 0)
            rc = stage_extend(plan, table, keys, count, err);
    }
    if (rc == 0)
        plan->end = end;
    return rc;
}

static int
emit(struct pg_conn *c, const char *prefix, struct buf *body, struct pgs_err *err)
{
    return pg_query(c, "SELECT pg_logical_emit_message(true, $1, $2::text)",
                    PG_PARAMS(prefix, buf_cstr(body)), NULL, err);
}

/* Who did it, for history: the actor, and the restore with its begin or end. */
static int
emit_restore(struct attempt *t, const char *phase, struct pgs_err *err)
{
    struct buf body = { 0 };
    message_restore_body(&body, slice_str(t->id), phase, slice_str(t->opts->tenant),
                         t->restore_point);
    int rc = emit(t->session->conn, MESSAGE_RESTORE, &body, err);
    buf_release(&body);
    if (rc == 0 && strcmp(phase, "begin") == 0)
        rc = pg_query(t->session->conn, "SELECT pgstrata.set_actor('pgstrata pitr')", PG_NO_PARAMS,
                      NULL, err);
    return rc;
}

static int
read_xid(struct attempt *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(t->session->conn, "SELECT pg_current_xact_id()", PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        t->xid = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    return rc;
}

static int
check_plan_id(struct attempt *t, struct pgs_err *err)
{
    struct buf counts = { 0 };
    if (t->opts->plan == NULL || strcmp(t->opts->plan, t->id) == 0)
        return 0;
    for (size_t i = 0; i < t->plan.table_count; i++) {
        const struct plan_table *p = &t->plan.tables[i];
        if (diff_count(p) > 0)
            buf_printf(&counts, "%s%s +%llu ~%llu -%llu", counts.size > 0 ? ", " : "", p->label,
                       (unsigned long long)p->inserted, (unsigned long long)p->updated,
                       (unsigned long long)p->deleted);
    }
    (void)err_set(err, PGS_E_CONFLICT,
                  "the plan has changed since the preview; it would now be: %s",
                  counts.size > 0 ? buf_cstr(&counts) : "nothing to do");
    buf_release(&counts);
    (void)err_code(err, "plan_changed");
    return err_hint(err, "preview again with --dry-run");
}

/* Finding: PGS_NONE, rolled back by the caller, and a new try may help. */
static int
write_and_check(struct attempt *t, bool replica, struct pgs_err *finding, struct pgs_err *err)
{
    struct plan *plan = &t->plan;
    int rc = emit_restore(t, "begin", err);
    if (rc == 0)
        rc = write_diff(plan, finding, err);
    if (rc == 0)
        rc = checks_foreign_keys(plan, finding, err);
    if (rc == 0)
        rc = checks_unique(plan, finding, err);
    if (rc == 0)
        rc = checks_rows(plan, replica, finding, err);
    if (rc == 0)
        rc = emit_restore(t, "end", err);
    return rc;
}

static int
stage_and_lock(struct attempt *t, bool *replica, struct pgs_err *finding, struct pgs_err *err)
{
    struct plan *plan = &t->plan;
    int rc = transaction_begin(t->session, replica, err);
    if (rc == 0)
        rc = transaction_lock_tables(plan, err);
    if (rc == 0)
        rc = plan_constraints(plan, *replica, err);
    if (rc == 0)
        rc = stage_tables(plan, err);
    if (rc == 0)
        rc = transaction_lock_tenant(plan, err);
    if (rc == 0)
        rc = extend_to_now(t, err);
    if (rc == PGS_NONE)
        (void)err_set(finding, PGS_E_CONFLICT,
                      "a table was truncated or changed its shape meanwhile");
    if (rc == 0)
        rc = diff_tables(plan, t->opts, true, err);
    return rc;
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

/* PGS_NONE: rolled back because of *finding. *changed: something was written and committed. */
static int
apply_once(struct attempt *t, bool *changed, struct pgs_err *finding, struct pgs_err *err)
{
    bool replica = false;
    int rc = stage_and_lock(t, &replica, finding, err);
    if (rc == 0) {
        id_of(&t->plan, t->opts, t->id);
        rc = check_plan_id(t, err);
    }
    *changed = rc == 0 && !plan_is_empty(&t->plan);
    if (*changed) {
        rc = read_xid(t, err);
        if (rc == 0)
            rc = write_and_check(t, replica, finding, err);
        if (rc == 0)
            rc = pg_exec(t->session->conn, "COMMIT", err);
    }
    if (rc != 0 || !*changed)
        transaction_rollback(t->session);
    if (rc < 0)
        rc = transaction_name_blocker(&t->plan, t->aux, rc, err);
    return rc;
}

static int
restore_point_make(struct attempt *t, struct arena *arena, struct pgs_err *err)
{
    uint8_t random[4];
    char time[TIME_TEXT_MAX];
    pgs_lsn lsn;
    if (RAND_bytes(random, sizeof(random)) != 1)
        return err_set(err, PGS_E_FAILED, "cannot make random bytes");
    t->restore_point = slice_str(arena_printf(arena, "before-pitr-%s-%s-%02x%02x%02x%02x",
                                              t->opts->tenant, time_format(time_now(), time),
                                              random[0], random[1], random[2], random[3]));
    return restore_point_create(t->session->conn, t->restore_point, slice_str(t->opts->tenant),
                                RESTORE_POINT_KIND, &lsn, err);
}

static int
apply_tries(struct attempt *t, const struct cut *cut, struct arena *arena, bool *changed,
            struct pgs_err *err)
{
    struct pgs_err finding = { 0 };
    for (unsigned i = 0; i < TRIES; i++) {
        int rc = i == 0 ? 0 : restore_session_flush(t->session, err);
        if (rc == 0)
            rc = build_plan(t->session, t->opts, cut, arena, &t->plan, err);
        if (rc == 0 && i == 0)
            rc = restore_point_make(t, arena, err);
        if (rc == 0) {
            progress(t->session, "restoring");
            rc = apply_once(t, changed, &finding, err);
        }
        if (rc <= 0)
            return rc;
    }
    *err = finding;
    (void)err_doing(err, "restore tenant %s in %d tries", t->opts->tenant, TRIES);
    return err->kind;
}

static int
apply(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
      struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct attempt t = { .session = s, .opts = opts };
    bool changed = false;
    int rc = tenant_lock(s->conn, opts->tenant, err);
    if (rc < 0)
        return rc;
    rc = pg_open(&s->env->target, &(struct pg_open_opts){ .application_name = "pgstrata restore" },
                 &t.aux, err);
    if (rc == 0)
        rc = apply_tries(&t, cut, arena, &changed, err);
    pg_close(t.aux);
    tenant_unlock(s->conn, opts->tenant);
    if (rc < 0)
        return rc;
    result->status = changed ? "completed" : "unchanged";
    result->restore_point = t.restore_point;
    result->restore_xid = changed ? t.xid : 0;
    snprintf(result->plan, sizeof(result->plan), "%s", t.id);
    result_fill(&t.plan, opts, arena, result);
    /* The restore is done; that its innocence could not be shown in time does not undo it. */
    if (changed && innocence_check(s, &t.plan, t.xid, &result->foreign_versions) == 0)
        result->innocence_checked = true;
    return 0;
}

static int
load_beside(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
            struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct plan plan = { 0 };
    int rc = build_plan(s, opts, cut, arena, &plan, err);
    if (rc == 0)
        rc = side_schema_load(&plan, opts->to_schema, opts->dry_run, err);
    if (rc < 0)
        return rc;
    result->status = opts->dry_run ? "previewed" : "completed";
    id_of(&plan, opts, result->plan);
    result_fill(&plan, opts, arena, result);
    result->method = "full";
    return 0;
}

static int
opts_check(const struct pitr_opts *opts, struct pgs_err *err)
{
    if (strcmp(opts->tenant, TENANT_SHARED_NAME) == 0 && opts->to_schema == NULL) {
        (void)err_set(err, PGS_E_REFUSED,
                      "shared tables are not restored in place: every tenant uses them");
        return err_hint(err, "load them beside with --to-schema, or `pgstrata export -t _shared`");
    }
    return 0;
}

int
pitr_run(struct restore_session *s, const struct pitr_opts *opts, struct arena *arena,
         struct pitr_result *result, struct pgs_err *err)
{
    int64_t started_us = clock_us();
    struct pitr_result r = { .restore_point = SLICE_NULL };
    struct cut cut;
    int rc = opts_check(opts, err);
    if (rc == 0)
        rc = restore_session_flush(s, err);
    if (rc == 0)
        rc = archive_resolve(s->archive, &opts->target, s->server_now, &cut, err);
    if (rc < 0)
        return rc;
    if (opts->to_schema != NULL)
        rc = load_beside(s, opts, &cut, arena, &r, err);
    else if (opts->dry_run)
        rc = preview(s, opts, &cut, arena, &r, err);
    else
        rc = apply(s, opts, &cut, arena, &r, err);
    if (rc < 0)
        return rc;
    r.bytes_read = archive_bytes_read(s->archive);
    r.duration_ms = (clock_us() - started_us) / 1000;
    *result = r;
    return 0;
}
