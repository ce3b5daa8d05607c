/* diff_states.c: how a tenant's rows differ between two moments, from the archive alone: two folds,
 * side by side, in key order. */
#include "restore/json_row.h"
#include "restore/plan.h"

#include "core/err.h"

struct side {
    struct state *state;
    struct state_row row;
    bool has_row;
};

static int
side_next(struct side *s, struct pgs_err *err)
{
    int rc = state_next(s->state, &s->row, err);
    s->has_row = rc == 0;
    return rc < 0 ? rc : 0;
}

static int
side_open(struct side *s, struct archive *a, const struct plan *plan, const struct plan_table *t,
          pgs_lsn to, struct pgs_err *err)
{
    struct scan_opts opts = {
        .tenant = plan->tenant, .coverage = &t->coverage, .table_oid = t->relation->oid, .to = to
    };
    *s = (struct side){ 0 };
    int rc = state_open(a, &opts, &s->state, err);
    return rc < 0 ? rc : side_next(s, err);
}

static bool
rows_equal(const struct relation *r, const struct row_field *a, const struct row_field *b)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (a[i].kind != b[i].kind || !slice_equal(a[i].text, b[i].text))
            return false;
    }
    return true;
}

static struct slice
row_json(const struct relation *r, const struct row_field *fields, struct arena *arena)
{
    struct buf b = { 0 };
    if (fields == NULL)
        return SLICE_NULL;
    json_put_row(&b, r, fields);
    struct slice json = arena_dup(arena, buf_slice(&b));
    buf_release(&b);
    return json;
}

static int
note(const struct plan_table *t, char op, struct slice key, const struct row_field *before,
     const struct row_field *after, size_t limit, struct arena *arena, struct pitr_table *out,
     struct pgs_err *err)
{
    struct buf b = { 0 };
    uint64_t *counter = op == 'I' ? &out->inserted : op == 'U' ? &out->updated : &out->deleted;
    (*counter)++;
    if (out->sample_count >= limit)
        return 0;
    int rc = json_put_encoded_key(&b, t->relation, key, err);
    out->samples[out->sample_count++] =
        (struct pitr_sample){ .op = op,
                              .key_json = arena_dup(arena, buf_slice(&b)),
                              .before_json = row_json(t->relation, before, arena),
                              .after_json = row_json(t->relation, after, arena) };
    buf_release(&b);
    return rc;
}

static int
merge(const struct plan_table *t, struct side *from, struct side *to, size_t limit,
      struct arena *arena, struct pitr_table *out, struct pgs_err *err)
{
    int rc = 0;
    while (rc == 0 && (from->has_row || to->has_row)) {
        int order = !from->has_row ? 1
                    : !to->has_row ? -1
                                   : slice_compare(from->row.key, to->row.key);
        if (order < 0)
            rc = note(t, 'D', from->row.key, from->row.fields, NULL, limit, arena, out, err);
        else if (order > 0)
            rc = note(t, 'I', to->row.key, NULL, to->row.fields, limit, arena, out, err);
        else if (!rows_equal(t->relation, from->row.fields, to->row.fields))
            rc =
                note(t, 'U', to->row.key, from->row.fields, to->row.fields, limit, arena, out, err);
        if (rc == 0 && order <= 0)
            rc = side_next(from, err);
        if (rc == 0 && order >= 0)
            rc = side_next(to, err);
    }
    return rc;
}

static int
diff_one(struct restore_session *s, const struct plan *plan, struct plan_table *t,
         const struct diff_opts *opts, struct diff_result *r, struct arena *arena,
         struct pitr_table *out, struct pgs_err *err)
{
    struct side from = { 0 }, to = { 0 };
    *out = (struct pitr_table){ .schema = t->relation->schema, .name = t->relation->name };
    out->samples = arena_alloc_array(arena, opts->limit + 1, sizeof(*out->samples));
    /* One base for both moments, and no break between them. */
    int rc =
        archive_coverage(s->archive, t->relation->oid, r->from.lsn, r->to.lsn, &t->coverage, err);
    if (rc == 0)
        rc = side_open(&from, s->archive, plan, t, r->from.lsn, err);
    if (rc == 0)
        rc = side_open(&to, s->archive, plan, t, r->to.lsn, err);
    if (rc == 0)
        rc = merge(t, &from, &to, opts->limit, arena, out, err);
    state_close(from.state);
    state_close(to.state);
    return rc < 0 ? err_doing(err, "compare table %s", t->label) : 0;
}

static int
moments_check(const struct diff_result *r, struct pgs_err *err)
{
    if (r->from.era > r->to.era || (r->from.era == r->to.era && r->from.lsn > r->to.lsn))
        return err_set(err, PGS_E_USAGE, "--from lies after --to");
    if (r->from.era == r->to.era)
        return 0;
    (void)err_set(err, PGS_E_REFUSED,
                  "--from is in era %u and --to in era %u: what came between "
                  "them was not seen",
                  r->from.era, r->to.era);
    (void)err_code(err, "outside_coverage");
    return err_hint(err, "compare two exports instead");
}

int
diff_run(struct restore_session *s, const struct diff_opts *opts, struct arena *arena,
         struct diff_result *result, struct pgs_err *err)
{
    struct diff_result r = { 0 };
    struct tenant tenant = tenant_of(opts->tenant);
    struct plan plan = { 0 };
    struct plan_opts plan_opts = {
        .selection = { .tables = opts->tables, .table_count = opts->table_count },
        .to_schema = true,
    };
    int rc = restore_session_flush(s, err);
    if (rc == 0)
        rc = archive_resolve(s->archive, &opts->from, s->server_now, &r.from, err);
    if (rc == 0)
        rc = archive_resolve(s->archive, &opts->to, s->server_now, &r.to, err);
    if (rc == 0)
        rc = moments_check(&r, err);
    if (rc == 0)
        rc = plan_build(s, &plan_opts, &tenant, &r.to, arena, &plan, err);
    if (rc == 0)
        rc = archive_view(s->archive, r.to.era, err);
    r.tables = arena_alloc_array(arena, plan.table_count + 1, sizeof(*r.tables));
    for (size_t i = 0; rc == 0 && i < plan.table_count; i++) {
        rc = diff_one(s, &plan, &plan.tables[i], opts, &r, arena, &r.tables[i], err);
        r.inserted += r.tables[i].inserted;
        r.updated += r.tables[i].updated;
        r.deleted += r.tables[i].deleted;
    }
    r.table_count = plan.table_count;
    if (rc == 0)
        *result = r;
    return rc;
}
