/* catalog_decide.c: from facts to route and coverage. The same decisions in SQL, for what triggers
 * do within the user's command: sql/0002_tables.sql and 0004_ddl.sql; whoever changes one changes
 * both (tests/integration/test_ddl.py compares them). */
#include "pg/catalog.h"

#include "core/err.h"
#include "pg/catalog_internal.h"
#include "pg/quote.h"

static bool
slice_is(struct slice s, const char *text)
{
    return slice_equal(s, slice_str(text));
}

/* The backup catalog is never archived, so that no restore can rewind it (DESIGN 4.13). */
static bool
is_own_table(const struct relation *r)
{
    return slice_is(r->schema, "pgstrata") || slice_is(r->name, "tenant_backups") ||
           slice_is(r->name, "tenant_backup_schedules") || slice_is(r->name, "tenant_backup_logs");
}

static const char *
plain_name(struct arena *arena, const struct relation *r)
{
    return arena_printf(arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
}

static const struct route_override *
override_of(const struct catalog_rules *rules, struct arena *arena, const struct relation *r)
{
    const char *name = plain_name(arena, r);
    for (size_t i = 0; i < rules->override_count; i++) {
        if (strcmp(rules->overrides[i].table, name) == 0)
            return &rules->overrides[i];
    }
    return NULL;
}

static bool
slice_starts(struct slice s, const char *text, size_t size)
{
    return s.size >= size && memcmp(s.data, text, size) == 0;
}

static bool
is_nobodys_schema(struct slice schema)
{
    return slice_is(schema, "public") || slice_is(schema, "pgstrata") ||
           slice_is(schema, "information_schema") || slice_starts(schema, "pg_", 3);
}

struct slice
catalog_schema_tenant(const struct catalog_rules *rules, struct slice schema)
{
    const char *pattern = rules->tenant_schemas;
    const char *star = pattern != NULL ? strchr(pattern, '*') : NULL;
    if (star == NULL || is_nobodys_schema(schema))
        return SLICE_NULL;
    size_t head = (size_t)(star - pattern), tail = strlen(star + 1);
    if (schema.size <= head + tail || !slice_starts(schema, pattern, head) ||
        memcmp(schema.data + schema.size - tail, star + 1, tail) != 0)
        return SLICE_NULL;
    return slice_of(schema.data + head, schema.size - head - tail);
}

static int
column_index(const struct relation *r, struct slice name)
{
    for (size_t i = 0; name.data != NULL && i < r->column_count; i++) {
        if (slice_equal(r->columns[i].name, name))
            return (int)i;
    }
    return -1;
}

static bool
is_generated(const struct relation *r, struct slice name)
{
    for (size_t i = 0; name.data != NULL && i < r->generated_count; i++) {
        if (slice_equal(r->generated[i], name))
            return true;
    }
    return false;
}

int
relation_only_key(const struct relation *r)
{
    int found = -1;
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key && found >= 0)
            return -1;
        if (r->columns[i].key)
            found = (int)i;
    }
    return found;
}

static void
route_set(struct relation *r, enum route route, int tenant_column, const char *reason)
{
    r->route = route;
    r->tenant_column = tenant_column;
    r->tenant = SLICE_NULL;
    r->route_reason = slice_str(reason);
}

static void
route_schema(struct arena *arena, struct relation *r, struct slice tenant, const char *reason)
{
    route_set(r, ROUTE_SCHEMA, -1, reason);
    r->tenant = arena_dup(arena, tenant);
}

/* What the configuration says of this very table, other than its tenant column. */
static void
decide_as_told(struct arena *arena, struct relation *r, enum route route, struct slice owner)
{
    if (route == ROUTE_SCHEMA)
        route_schema(arena, r, owner.data != NULL ? owner : r->schema, "configured");
    else
        route_set(r, route, -1, "configured");
}

/* By foreign keys, where neither configuration nor name says anything. */
static void
decide_by_keys(struct arena *arena, struct relation *r)
{
    int by_key = column_index(r, r->tenant_fk);
    if (by_key >= 0 || is_generated(r, r->tenant_fk))
        route_set(r, ROUTE_COLUMN, by_key,
                  arena_printf(arena, "foreign key %.*s", SLICE_PRINT(r->tenant_fk)));
    else if (r->tenant_fk_ambiguous)
        route_set(r, ROUTE_COLUMN, -1, "several foreign keys to the tenants table");
    else if (r->tenant_parent.data != NULL)
        route_set(r, ROUTE_PARENT, -1,
                  arena_printf(arena, "through %.*s", SLICE_PRINT(r->tenant_parent)));
    else
        route_set(r, ROUTE_SHARED, -1, "no tenant column");
}

static void
decide_route(const struct catalog_rules *rules, struct arena *arena, struct relation *r)
{
    const struct route_override *o = override_of(rules, arena, r);
    struct slice wanted =
        slice_str(o != NULL && o->column != NULL ? o->column : rules->tenant_column);
    struct slice owner = catalog_schema_tenant(rules, r->schema);
    int by_name = column_index(r, wanted);
    r->is_tenants_table = false;
    if (is_own_table(r)) {
        route_set(r, ROUTE_EXCLUDED, -1, "pgstrata's own");
    } else if (o != NULL && o->route != ROUTE_COLUMN) {
        decide_as_told(arena, r, o->route, owner);
    } else if (r->is_tenants_fact) {
        r->is_tenants_table = true;
        route_set(r, ROUTE_COLUMN, relation_only_key(r), "the tenants table");
    } else if (o == NULL && owner.data != NULL) {
        route_schema(arena, r, owner, arena_printf(arena, "schema %.*s", SLICE_PRINT(r->schema)));
    } else if (by_name >= 0 || is_generated(r, wanted)) {
        route_set(r, ROUTE_COLUMN, by_name,
                  arena_printf(arena, "column %.*s", SLICE_PRINT(wanted)));
    } else if (o != NULL) {
        route_set(r, ROUTE_COLUMN, -1, "configured");
    } else {
        decide_by_keys(arena, r);
    }
    r->tenant_in_key = r->tenant_column >= 0 && r->columns[r->tenant_column].key;
}

static void
uncover(struct relation *r, const char *why, const char *fix)
{
    r->covered = false;
    r->why_not = slice_str(why);
    r->fix = slice_str(fix);
}

/* ALTER TABLE <name> <action>; */
static const char *
alter(struct arena *arena, const struct relation *r, const char *action)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "ALTER TABLE ");
    quote_ident_offline(&sql, r->schema);
    buf_put_str(&sql, ".");
    quote_ident_offline(&sql, r->name);
    buf_printf(&sql, " %s;", action);
    const char *text = arena_strdup(arena, buf_cstr(&sql));
    buf_release(&sql);
    return text;
}

/* A unique index that could tell its rows apart is taken, rather than a key made up. */
static const char *
key_fix(struct arena *arena, const struct relation *r)
{
    struct buf action = { 0 };
    if (r->candidate_index.data == NULL)
        return alter(arena, r,
                     r->key_unusable
                         ? "REPLICA IDENTITY USING INDEX <unique index of NOT NULL columns>"
                         : "ADD PRIMARY KEY (<columns>)");
    buf_put_str(&action, "REPLICA IDENTITY USING INDEX ");
    quote_ident_offline(&action, r->candidate_index);
    const char *text = alter(arena, r, buf_cstr(&action));
    buf_release(&action);
    return text;
}

static void
uncover_tenant(struct arena *arena, struct relation *r)
{
    const char *route = arena_printf(
        arena,
        "in the configuration: \"routes\": {\"%s\": {\"route\": \"column\", \"column\": "
        "\"<name>\"}}, or \"shared\", or \"excluded\"",
        plain_name(arena, r));
    if (r->is_tenants_table)
        uncover(r, "its primary key is not one column", route);
    else if (r->tenant_fk_ambiguous)
        uncover(r, "several of its columns refer to the tenants table", route);
    else if (r->generated_count > 0)
        uncover(r, "its tenant column is generated: the stream does not carry it", route);
    else
        uncover(r, "its tenant column is missing", route);
}

static void
uncover_route(struct arena *arena, struct relation *r)
{
    const char *fix = arena_printf(
        arena,
        "give it the tenant column, or in the configuration: \"routes\": {\"%s\": {\"route\": "
        "\"shared\"}}, or \"excluded\"",
        plain_name(arena, r));
    if (r->tenant_parent.data != NULL)
        uncover(r,
                arena_printf(arena,
                             "its rows find their tenant through %.*s: parent routes are not yet "
                             "archived",
                             SLICE_PRINT(r->tenant_parent)),
                fix);
    else
        uncover(r, "parent routes are not yet archived", fix);
}

static bool
has_key(const struct relation *r)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key)
            return true;
    }
    return false;
}

static void
decide_coverage(struct arena *arena, struct relation *r)
{
    r->covered = true;
    r->why_not = r->fix = SLICE_NULL;
    if (r->route == ROUTE_EXCLUDED)
        uncover(r, "excluded", "");
    else if (r->route == ROUTE_PARENT)
        uncover_route(arena, r);
    else if (r->unlogged)
        uncover(r, "unlogged tables leave no trace in the WAL", alter(arena, r, "SET LOGGED"));
    else if (r->identity == 'n')
        uncover(r, "its replica identity is NOTHING", alter(arena, r, "REPLICA IDENTITY DEFAULT"));
    else if (r->key_unusable)
        uncover(r, "its key is deferrable or holds a generated column", key_fix(arena, r));
    else if (!has_key(r))
        uncover(r,
                r->identity == 'i' ? "the index of its replica identity is gone"
                                   : "it has no primary key",
                key_fix(arena, r));
    else if (r->rls_blocks)
        uncover(r, "row-level security hides rows from this role",
                "ALTER ROLE <this role> BYPASSRLS;");
    else if (r->route == ROUTE_COLUMN && r->tenant_column < 0)
        uncover_tenant(arena, r);
}

void
catalog_decide(const struct catalog_rules *rules, struct arena *arena, struct relation *r)
{
    decide_route(rules, arena, r);
    decide_coverage(arena, r);
}
