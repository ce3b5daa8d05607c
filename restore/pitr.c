/* pitr.c: one restore from end to end; the steps are told in restore.h. */
#include "restore/apply.h"
#include "restore/diff.h"
#include "restore/innocence.h"
#include "restore/side_schema.h"
#include "restore/stage.h"
#include "restore/transaction.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <stdio.h>

static void
progress(const struct restore_session *s, const char *step)
{
    if (s->env->progress != NULL)
        s->env->progress(s->env->progress_context, step, 0, 0);
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
                                            .sample_count = t->sample_count,
                                            .changes = t->mapping.changes,
                                            .change_count = t->mapping.change_count };
        r->inserted += t->inserted;
        r->updated += t->updated;
        r->deleted += t->deleted;
    }
}

/* --- preview --- */

static int
preview_diff(struct plan *plan, const struct pitr_opts *opts, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = stage_table(plan, &plan->tables[i], err);
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++)
        rc = diff_table(plan, &plan->tables[i], err);
    return rc == 0 ? diff_finish(plan, true, opts->sample_rows, err) : rc;
}

static int
preview(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
        struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct plan plan = { 0 };
    bool begun = false;
    int rc = apply_plan(s, opts, cut, arena, &plan, err);
    if (rc == 0) {
        progress(s, "comparing");
        rc = transaction_begin_preview(s, err);
        begun = rc == 0;
    }
    if (rc == 0)
        rc = plan_constraints(&plan, true, err);
    if (rc == 0)
        rc = preview_diff(&plan, opts, err);
    if (begun)
        transaction_rollback(s);
    if (rc < 0)
        return rc;
    result->status = "previewed";
    apply_plan_id(&plan, opts, result->plan);
    result_fill(&plan, opts, arena, result);
    return 0;
}

/* --- apply --- */

static int
apply(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
      struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct attempt t = { .session = s, .opts = opts, .arena = arena };
    bool changed = false;
    int rc = apply_run(&t, cut, &changed, err);
    if (rc < 0)
        return rc;
    result->status = changed ? "completed" : "unchanged";
    result->restore_point = changed ? t.restore_point : SLICE_NULL;
    result->restore_xid = changed ? t.xid : 0;
    snprintf(result->plan, sizeof(result->plan), "%s", t.id);
    result_fill(&t.plan, opts, arena, result);
    if (changed) {
        progress(s, "checking that nobody else was touched");
        /* The restore is done; that its innocence could not be shown in time does not undo it. */
        result->innocence_checked =
            innocence_check(s, &t.plan, t.xid, &result->foreign_versions) == 0;
    }
    return 0;
}

static int
load_beside(struct restore_session *s, const struct pitr_opts *opts, const struct cut *cut,
            struct arena *arena, struct pitr_result *result, struct pgs_err *err)
{
    struct plan plan = { 0 };
    int rc = apply_plan(s, opts, cut, arena, &plan, err);
    if (rc == 0)
        rc = side_schema_load(&plan, opts->to_schema, opts->dry_run, err);
    if (rc < 0)
        return rc;
    result->status = opts->dry_run ? "previewed" : "completed";
    apply_plan_id(&plan, opts, result->plan);
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
