#include "restore/plan.h"

#include "core/err.h"
#include "pg/quote.h"
#include "restore/json_row.h"

/* Names in one message: more would not fit, and the first few say enough. */
#define NAMED_MAX 8

struct builder {
    struct restore_session *session;
    const struct plan_opts *opts;
    struct plan *plan;
    const struct archive_table *archived; /* as of the cut */
    size_t archived_count;
    const struct archive_table *latest; /* at the end of the era of the cut */
    size_t latest_count;
    struct buf uncovered; /* names with their reasons */
    size_t uncovered_count;
    struct slice first_fix;
};

/* --- names and SQL pieces --- */

static const char *
table_label(struct arena *arena, const struct relation *r)
{
    return arena_printf(arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
}

static int
table_sql(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    struct pg_conn *c = plan->session->conn;
    const struct relation *r = t->live != NULL ? t->live : t->relation;
    struct buf b = { 0 };
    t->sql_columns = arena_alloc_array(plan->arena, r->column_count + 1, sizeof(char *));
    int rc = quote_qualified(c, &b, r->schema, r->name, err);
    t->sql_name = arena_strdup(plan->arena, buf_cstr(&b));
    for (size_t i = 0; rc == 0 && i < r->column_count; i++) {
        buf_reset(&b);
        rc = quote_ident(c, &b, r->columns[i].name, err);
        t->sql_columns[i] = arena_strdup(plan->arena, buf_cstr(&b));
    }
    buf_release(&b);
    return rc;
}

static int
table_keys(struct plan_table *t, struct pgs_err *err)
{
    const struct relation *r = t->live != NULL ? t->live : t->relation;
    for (size_t i = 0; i < r->column_count; i++) {
        if (!r->columns[i].key)
            continue;
        if (t->key_count == PLAN_KEY_COLUMNS_MAX)
            return err_set(err, PGS_E_REFUSED, "table %s has more than %d key columns", t->label,
                           PLAN_KEY_COLUMNS_MAX);
        t->key_columns[t->key_count++] = i;
    }
    return 0;
}

static int
table_dropped(const char *label, struct pgs_err *err)
{
    err_set(err, PGS_E_REFUSED, "table %s does not exist any more", label);
    err_code(err, "table_dropped");
    return err_hint(err, "load its rows with --to-schema, or leave it out with --exclude-tables %s",
                    label);
}

/* --- one table --- */

/* The plan's keys are the changed ones that were ever the tenant's: where the key does not tell the
 * tenant, deletes of all tenants are among them. */
static int
keys_of_tenant(struct plan *plan, struct plan_table *t, const struct coverage *unbroken,
               const struct changed_keys *changed, struct pgs_err *err)
{
    struct slice *unsure = arena_alloc_array(plan->arena, changed->count + 1, sizeof(*unsure));
    struct slice *held = NULL;
    size_t unsure_count = 0, held_count = 0, next = 0;
    for (size_t i = 0; i < changed->count; i++) {
        if (!changed->own[i])
            unsure[unsure_count++] = changed->keys[i];
    }
    struct scan_opts opts = { .tenant = plan->tenant,
                              .coverage = unbroken,
                              .table_oid = t->relation->oid,
                              .to = plan->end,
                              .keys = unsure,
                              .key_count = unsure_count };
    int rc = unsure_count == 0 ? 0
                               : scan_held_keys(plan->session->archive, &opts, plan->arena, &held,
                                                &held_count, err);
    if (rc < 0)
        return rc;
    t->keys = changed->keys;
    t->keys_count = 0;
    for (size_t i = 0; i < changed->count; i++) {
        bool is_held = next < held_count && slice_equal(held[next], changed->keys[i]);
        next += is_held;
        if (changed->own[i] || is_held)
            t->keys[t->keys_count++] = changed->keys[i];
    }
    return 0;
}

/* Changes since the cut decide the method. */
static int
table_method(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    struct archive *a = plan->session->archive;
    struct coverage unbroken;
    struct pgs_err ignored;
    struct changed_keys changed;
    struct pgs_lsn_range since = { plan->cut.lsn, plan->end };
    t->rewind = false;
    if (plan->cut.era != archive_era(a)) /* deletes between two eras left no version */
        return 0;
    if (t->mapping.changed)
        return 0;
    int rc = archive_coverage(a, t->relation->oid, plan->cut.lsn, plan->end, &unbroken, &ignored);
    if (rc < 0)
        return ignored.kind == PGS_E_REFUSED ? 0 : (*err = ignored, rc);
    rc = scan_changed_keys(a, &plan->tenant, t->relation->oid, since, plan->arena, &changed, err);
    if (rc == 0 && !changed.truncated)
        rc = keys_of_tenant(plan, t, &unbroken, &changed, err);
    if (rc < 0)
        return err_doing(err, "read what changed in table %s", t->label);
    t->rewind = !changed.truncated;
    return 0;
}

static int
table_live(struct builder *b, struct plan_table *t, struct pgs_err *err)
{
    const struct relation *live = catalog_by_oid(&b->plan->catalog, t->relation->oid);
    if (live == NULL)
        return table_dropped(t->label, err);
    t->live = live;
    t->label = table_label(b->plan->arena, live);
    int rc = mapping_build(b->session->conn, t->label, t->relation, live, b->plan->arena,
                           &t->mapping, err);
    if (rc < 0)
        return rc;
    if (!archive_table_covered(b->session->archive, live->oid)) {
        err_set(err, PGS_E_REFUSED,
                "table %s is not covered at present, so that a restore could not be undone",
                t->label);
        return err_hint(err, "`pgstrata base` takes a new base of it");
    }
    return 0;
}

static int
table_coverage(const struct plan *plan, uint32_t oid, struct coverage *coverage,
               struct pgs_err *err)
{
    struct archive *a = plan->session->archive;
    int rc = archive_view(a, plan->cut.era, err);
    if (rc == 0)
        rc = archive_coverage(a, oid, plan->cut.lsn, plan->cut.lsn, coverage, err);
    archive_view_current(a);
    return rc;
}

static int
table_add(struct builder *b, const struct archive_table *archived, struct pgs_err *err)
{
    struct plan *plan = b->plan;
    struct plan_table t = { .label = table_label(plan->arena, archived->relation),
                            .number = plan->table_count };
    int rc = table_coverage(plan, archived->oid, &t.coverage, err);
    if (rc < 0)
        return rc;
    t.relation = t.coverage.relation;
    if (!b->opts->to_schema)
        rc = table_live(b, &t, err);
    if (rc == 0)
        rc = table_keys(&t, err);
    if (rc == 0)
        rc = table_sql(plan, &t, err);
    if (rc == 0 && !b->opts->to_schema)
        rc = table_method(plan, &t, err);
    if (rc == 0)
        plan->tables[plan->table_count++] = t;
    return rc;
}

/* --- which tables --- */

/* Whether rows of the tenant can be in the table at all. */
static bool
route_concerns(const struct relation *r, const struct tenant *tenant)
{
    switch (r->route) {
    case ROUTE_COLUMN:
    case ROUTE_PARENT: return tenant->scope == SCOPE_TENANT;
    case ROUTE_SCHEMA: return tenant->scope == SCOPE_TENANT && slice_equal(r->tenant, tenant->key);
    case ROUTE_SHARED: return tenant->scope == SCOPE_SHARED;
    case ROUTE_EXCLUDED: return false;
    }
    return false;
}

static const struct archive_table *
archived_by_oid(const struct builder *b, uint32_t oid)
{
    for (size_t i = 0; i < b->archived_count; i++) {
        if (b->archived[i].oid == oid)
            return &b->archived[i];
    }
    return NULL;
}

static void
note_uncovered(struct builder *b, const struct relation *r, struct slice why, struct slice fix)
{
    if (b->uncovered_count < NAMED_MAX)
        buf_printf(&b->uncovered, "%s%.*s.%.*s (%.*s)", b->uncovered_count == 0 ? "" : ", ",
                   SLICE_PRINT(r->schema), SLICE_PRINT(r->name), SLICE_PRINT(why));
    else if (b->uncovered_count == NAMED_MAX)
        buf_put_str(&b->uncovered, ", and more");
    if (b->uncovered_count == 0)
        b->first_fix = fix;
    b->uncovered_count++;
}

/* A live table that belongs to the tenant and that the archive cannot answer for. `lasting`: for
 * reasons that time does not mend; those are named first. */
static void
check_live_table(struct builder *b, const struct relation *live, bool lasting)
{
    if (!route_concerns(live, &b->plan->tenant) ||
        !selection_keeps(&b->opts->selection, live->schema, live->name))
        return;
    bool published = live->published || b->session->env->rules.publication == NULL;
    const struct archive_table *then = archived_by_oid(b, live->oid);
    if (lasting != (!live->covered || !published))
        return;
    if (!live->covered)
        note_uncovered(b, live, live->why_not, live->fix);
    else if (!published)
        note_uncovered(b, live, slice_str("not in the publication"),
                       slice_str("`pgstrata doctor --fix` publishes it"));
    else if (then == NULL)
        note_uncovered(b, live, slice_str("created after that moment"),
                       slice_str("leave it out with --exclude-tables"));
    else if (live->route == ROUTE_SCHEMA && !route_concerns(then->relation, &b->plan->tenant))
        note_uncovered(b, live, slice_str("not this tenant's at that moment"),
                       slice_str("leave it out with --exclude-tables"));
}

static int
refuse_uncovered(struct builder *b, struct pgs_err *err)
{
    err_set(err, PGS_E_REFUSED, "not every table of the tenant can be restored exactly: %s",
            buf_cstr(&b->uncovered));
    err_code(err, "uncovered_tables");
    if (b->first_fix.size > 0)
        return err_hint(err, "%.*s; or say which tables you mean with --tables or --exclude-tables",
                        SLICE_PRINT(b->first_fix));
    return err_hint(err, "say which tables you mean with --tables or --exclude-tables");
}

static int
check_names(struct builder *b, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    size_t count = 0, most = b->archived_count + b->plan->catalog.count;
    struct table_name *known = arena_alloc_array(scratch, most + 1, sizeof(*known));
    for (size_t i = 0; i < b->archived_count; i++) {
        const struct relation *r = b->archived[i].relation;
        if (route_concerns(r, &b->plan->tenant))
            known[count++] = (struct table_name){ r->schema, r->name };
    }
    for (size_t i = 0; i < b->plan->catalog.count; i++) {
        const struct relation *r = b->plan->catalog.relations[i];
        if (route_concerns(r, &b->plan->tenant))
            known[count++] = (struct table_name){ r->schema, r->name };
    }
    int rc = selection_check(&b->opts->selection, known, count, err);
    arena_free(scratch);
    return rc;
}

/* Where coverage is broken at the cut, the shape known there may not be the one it had: it may have
 * been the tenant's by then, as a table in a schema that was renamed unannounced. */
static bool
concerns_by_now(const struct builder *b, const struct archive_table *t)
{
    struct coverage coverage;
    struct pgs_err refused;
    for (size_t i = 0; i < b->latest_count; i++) {
        if (b->latest[i].oid == t->oid && route_concerns(b->latest[i].relation, &b->plan->tenant))
            return table_coverage(b->plan, t->oid, &coverage, &refused) < 0;
    }
    return false;
}

/* A table may have another name now: either will do. */
static bool
archived_wanted(const struct builder *b, const struct archive_table *t)
{
    const struct selection *s = &b->opts->selection;
    const struct relation *live =
        b->opts->to_schema ? NULL : catalog_by_oid(&b->plan->catalog, t->oid);
    if (!route_concerns(t->relation, &b->plan->tenant) && !concerns_by_now(b, t))
        return false;
    if (selection_keeps(s, t->relation->schema, t->relation->name))
        return live == NULL || s->table_count > 0 || selection_keeps(s, live->schema, live->name);
    return live != NULL && s->table_count > 0 && selection_keeps(s, live->schema, live->name);
}

static int
add_tables(struct builder *b, struct pgs_err *err)
{
    int rc = 0;
    b->plan->tables =
        arena_alloc_array(b->plan->arena, b->archived_count + 1, sizeof(*b->plan->tables));
    for (size_t i = 0; rc == 0 && i < b->archived_count; i++) {
        if (archived_wanted(b, &b->archived[i]))
            rc = table_add(b, &b->archived[i], err);
    }
    return rc;
}

/* The archive may not know a tenant yet whom the database has: then coverage is what is missing. */
static int
check_tenant(struct builder *b, struct pgs_err *err)
{
    struct plan *plan = b->plan;
    struct pgs_err unknown;
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    const struct relation *tenants = NULL;
    bool has_schema = false; /* with tables, though without a row as yet */
    int rc = tenant_check(b->session->archive, &plan->tenant, &unknown);
    for (size_t i = 0; i < plan->catalog.count; i++) {
        const struct relation *r = plan->catalog.relations[i];
        if (r->is_tenants_table)
            tenants = r;
        has_schema = has_schema || (r->route == ROUTE_SCHEMA && route_concerns(r, &plan->tenant));
    }
    if (rc == 0 || (unknown.kind == PGS_E_NOT_FOUND && has_schema))
        return 0;
    *err = unknown;
    if (unknown.kind != PGS_E_NOT_FOUND || tenants == NULL || tenants->tenant_column < 0)
        return unknown.kind;
    struct pg_conn *c = b->session->conn;
    buf_put_str(&sql, "SELECT FROM ");
    rc = quote_qualified(c, &sql, tenants->schema, tenants->name, err);
    buf_put_str(&sql, " WHERE ");
    if (rc == 0)
        rc = quote_ident(c, &sql, tenants->columns[tenants->tenant_column].name, err);
    buf_put_str(&sql, "::text = $1");
    if (rc == 0)
        rc = pg_query(c, buf_cstr(&sql), PG_PARAMS(plan->tenant_text), &rows, err);
    bool live = rc == 0 && pg_rows_count(rows) > 0;
    pg_rows_free(rows);
    buf_release(&sql);
    if (rc == 0 && !live) {
        *err = unknown;
        rc = unknown.kind;
    }
    return rc;
}

/* What is read as of the cut. In place its tables must be the live ones, by their oids. */
static int
read_cut(struct builder *b, struct pgs_err *err)
{
    struct plan *plan = b->plan;
    struct archive *a = b->session->archive;
    uint64_t here = archive_system_id(a);
    int rc = archive_view(a, plan->cut.era, err);
    if (rc == 0 && !b->opts->to_schema && archive_system_id(a) != here) {
        (void)err_set(err, PGS_E_REFUSED,
                      "era %u was another server's: its tables are not those of this one",
                      plan->cut.era);
        (void)err_code(err, "other_server");
        rc = err_hint(err, "load the rows beside the live ones with --to-schema, or export them");
    }
    if (rc == 0)
        rc = check_tenant(b, err);
    if (rc == 0)
        rc = archive_tables(a, plan->cut.lsn, plan->arena, &b->archived, &b->archived_count, err);
    if (rc == 0)
        rc = archive_tables(a, 0, plan->arena, &b->latest, &b->latest_count, err);
    archive_view_current(a);
    return rc;
}

int
plan_build(struct restore_session *s, const struct plan_opts *opts, const struct tenant *tenant,
           const struct cut *cut, struct arena *arena, struct plan *plan, struct pgs_err *err)
{
    struct plan built = { .session = s,
                          .arena = arena,
                          .tenant = *tenant,
                          .tenant_text = arena_slice_str(arena, tenant->key),
                          .cut = *cut,
                          .end = archive_end(s->archive) };
    struct builder b = { .session = s, .opts = opts, .plan = &built };
    int rc = 0;
    if (!opts->to_schema)
        rc = catalog_read(s->conn, &s->env->rules, arena, &built.catalog, err);
    if (rc == 0)
        rc = read_cut(&b, err);
    if (rc == 0)
        rc = check_names(&b, err);
    for (int pass = 0; rc == 0 && pass < 2; pass++) {
        for (size_t i = 0; i < built.catalog.count; i++)
            check_live_table(&b, built.catalog.relations[i], pass == 0);
    }
    if (rc == 0 && b.uncovered_count > 0)
        rc = refuse_uncovered(&b, err);
    if (rc == 0)
        rc = add_tables(&b, err);
    buf_release(&b.uncovered);
    if (rc == 0)
        *plan = built;
    return rc;
}

/* --- constraints --- */

static int
table_constraints(struct plan *plan, struct plan_table *t, bool replica)
{
    const struct relation *r = t->live;
    const struct constraints *c = &plan->constraints;
    t->equals = arena_alloc_array(plan->arena, t->key_count + 1, sizeof(char *));
    t->replace = arena_alloc_array(plan->arena, r->column_count + 1, sizeof(bool));
    t->kept = arena_alloc_array(plan->arena, r->column_count + 1, sizeof(bool));
    for (size_t i = 0; i < t->key_count; i++)
        t->equals[i] = constraints_equals(c, r->oid, r->columns[t->key_columns[i]].attnum);
    for (size_t i = 0; i < r->column_count; i++) {
        /* The key decides which rows belong together, so its values are equal in an update. */
        t->replace[i] =
            !r->columns[i].key && t->mapping.then[i] >= 0 &&
            (r->columns[i].identity == 'a' || constraints_indexed(c, r->oid, r->columns[i].attnum));
        t->kept[i] = !r->columns[i].key && t->mapping.then[i] < 0;
    }
    for (size_t i = 0; i < c->trigger_count; i++) {
        const struct firing_trigger *trigger = &c->triggers[i];
        if (trigger->table_oid == r->oid && (replica ? trigger->in_replica : trigger->in_origin))
            t->trigger_fires = true;
    }
    return 0;
}

/* The checks of foreign keys ask who refers to a row when it is gone. */
static void
keep_referenced(struct plan *plan)
{
    for (size_t i = 0; i < plan->constraints.foreign_key_count; i++) {
        const struct foreign_key_check *fk = &plan->constraints.foreign_keys[i];
        struct plan_table *t = plan_table_of(plan, fk->parent_oid);
        for (size_t j = 0; t != NULL && j < t->live->column_count; j++) {
            for (size_t k = 0; k < fk->column_count; k++) {
                if (fk->columns[k].parent_attnum == t->live->columns[j].attnum)
                    t->kept[j] = !t->live->columns[j].key;
            }
        }
    }
}

int
plan_constraints(struct plan *plan, bool replica, struct pgs_err *err)
{
    uint32_t *oids = arena_alloc_array(plan->arena, plan->table_count + 1, sizeof(*oids));
    for (size_t i = 0; i < plan->table_count; i++)
        oids[i] = plan->tables[i].live->oid;
    int rc = constraints_read(plan->session->conn, oids, plan->table_count, plan->arena,
                              &plan->constraints, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < plan->table_count; i++)
        table_constraints(plan, &plan->tables[i], replica);
    keep_referenced(plan);
    return 0;
}

struct plan_table *
plan_table_of(const struct plan *plan, uint32_t oid)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (plan->tables[i].relation->oid == oid)
            return &plan->tables[i];
    }
    return NULL;
}

const char *
plan_method(const struct plan *plan)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (!plan->tables[i].rewind)
            return "full";
    }
    return "rewind";
}
