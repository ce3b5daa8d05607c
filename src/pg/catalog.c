#include "pg/catalog.h"

#include "core/err.h"

#include <stdio.h>
#include <stdlib.h>

#define MOVE_TRIGGER "!pgstrata_move"

/* One row per ordinary table or leaf partition. $1 publication, $2 tenants table, $3 move
 * trigger. */
static const char tables_sql[] =
    "SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relpersistence = 'u',"
    " pg_has_role(c.relowner, 'USAGE'),"
    " EXISTS (SELECT 1 FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid"
    "   WHERE pr.prrelid = c.oid AND p.pubname = $1),"
    " c.oid = (SELECT t.oid FROM pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    "   WHERE t.relkind = 'r' AND (t.relname = $2 AND tn.nspname !~ '^pg_' OR"
    "     tn.nspname || '.' || t.relname = $2)"
    "   ORDER BY tn.nspname = 'public' DESC, tn.nspname LIMIT 1),"
    " EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $3"
    "   AND t.tgenabled = 'A'),"
    " c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles"
    "   WHERE rolname = current_user)"
    "   AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
    " AND n.nspname <> 'information_schema'"
    " ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";

/* Columns as pgoutput publishes them, and which index tells rows apart: the replica identity's, or
 * with FULL the primary key. */
static const char columns_sql[] =
    "SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,"
    " format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,"
    " CASE WHEN a.attcollation <> 0 AND a.attcollation <> ty.typcollation"
    "   THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,"
    " coalesce(a.attnum = ANY (i.indkey::smallint[]), false), a.attgenerated <> '',"
    " coalesce(NOT i.indimmediate, false)"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type ty ON ty.oid = a.atttypid"
    " LEFT JOIN pg_collation co ON co.oid = a.attcollation"
    " LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace"
    " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident"
    "   WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END"
    " WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND a.attnum > 0 AND NOT a.attisdropped"
    " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    " ORDER BY a.attrelid, a.attnum";

static const char foreign_keys_sql[] =
    "SELECT k.conname, k.conrelid, k.confrelid, k.confmatchtype, k.convalidated,"
    " cn.nspname, c.relname, pn.nspname, p.relname,"
    " (SELECT string_agg(a.attname, chr(1) ORDER BY u.n) FROM unnest(k.conkey)"
    "   WITH ORDINALITY u(attnum, n) JOIN pg_attribute a ON a.attrelid = k.conrelid"
    "   AND a.attnum = u.attnum),"
    " (SELECT string_agg(a.attname, chr(1) ORDER BY u.n) FROM unnest(k.confkey)"
    "   WITH ORDINALITY u(attnum, n) JOIN pg_attribute a ON a.attrelid = k.confrelid"
    "   AND a.attnum = u.attnum)"
    " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
    " JOIN pg_namespace cn ON cn.oid = c.relnamespace JOIN pg_class p ON p.oid = k.confrelid"
    " JOIN pg_namespace pn ON pn.oid = p.relnamespace"
    " WHERE k.contype = 'f' ORDER BY cn.nspname, c.relname, k.conname";

static bool
cell_true(const struct pg_rows *rows, size_t row, size_t column)
{
    const char *text = pg_cell(rows, row, column);
    return text != NULL && text[0] == 't';
}

static uint32_t
cell_oid(const struct pg_rows *rows, size_t row, size_t column)
{
    return (uint32_t)strtoul(pg_cell(rows, row, column), NULL, 10);
}

static void
read_table(const struct pg_rows *rows, size_t i, struct arena *arena, struct relation *r)
{
    r->oid = cell_oid(rows, i, 0);
    r->schema = arena_dup(arena, pg_cell_slice(rows, i, 1));
    r->name = arena_dup(arena, pg_cell_slice(rows, i, 2));
    r->identity = pg_cell(rows, i, 3)[0];
    r->unlogged = cell_true(rows, i, 4);
    r->owned = cell_true(rows, i, 5);
    r->published = cell_true(rows, i, 6);
    r->is_tenants_fact = cell_true(rows, i, 7);
    r->move_trigger = cell_true(rows, i, 8);
    r->rls_blocks = cell_true(rows, i, 9);
    r->tenant_column = -1;
}

static void
read_column(const struct pg_rows *rows, size_t i, struct arena *arena, struct relation *r)
{
    bool key = cell_true(rows, i, 9), generated = cell_true(rows, i, 10);
    if (key && (generated || cell_true(rows, i, 11)))
        r->key_unusable = true;
    if (generated)
        return;
    struct column *c = &r->columns[r->column_count++];
    c->name = arena_dup(arena, pg_cell_slice(rows, i, 1));
    c->attnum = (int16_t)strtol(pg_cell(rows, i, 2), NULL, 10);
    c->type_oid = cell_oid(rows, i, 3);
    c->typmod = (int32_t)strtol(pg_cell(rows, i, 4), NULL, 10);
    c->type_name = arena_dup(arena, pg_cell_slice(rows, i, 5));
    c->not_null = cell_true(rows, i, 6);
    c->identity = pg_cell(rows, i, 7)[0];
    c->collation = arena_dup(arena, pg_cell_slice(rows, i, 8));
    c->key = key;
}

static struct relation *
find_oid(const struct catalog *catalog, uint32_t oid)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (catalog->relations[i]->oid == oid)
            return catalog->relations[i];
    }
    return NULL;
}

/* Rows come by table, so the relation is looked up once per table. */
static void
read_columns(const struct pg_rows *rows, struct arena *arena, struct catalog *catalog)
{
    struct relation *r = NULL;
    size_t count = pg_rows_count(rows);
    for (size_t i = 0; i < count; i++) {
        uint32_t oid = cell_oid(rows, i, 0);
        if (r == NULL || r->oid != oid) {
            size_t same = i;
            r = find_oid(catalog, oid);
            while (same < count && cell_oid(rows, same, 0) == oid)
                same++;
            if (r != NULL)
                r->columns = arena_alloc_array(arena, same - i + 1, sizeof(*r->columns));
        }
        if (r != NULL)
            read_column(rows, i, arena, r);
    }
}

static struct slice *
split_names(struct slice text, struct arena *arena, size_t *count)
{
    size_t n = 1;
    for (size_t i = 0; i < text.size; i++)
        n += text.data[i] == 1;
    struct slice *names = arena_alloc_array(arena, n, sizeof(*names));
    const uint8_t *p = text.data, *end = text.data + text.size;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *stop = memchr(p, 1, (size_t)(end - p));
        if (stop == NULL)
            stop = end;
        names[i] = arena_dup(arena, slice_of(p, (size_t)(stop - p)));
        p = stop + 1;
    }
    *count = n;
    return names;
}

int
catalog_foreign_keys(struct pg_conn *c, struct arena *arena, struct foreign_key **keys,
                     size_t *count, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, foreign_keys_sql, PG_NO_PARAMS, &rows, err);
    if (rc < 0)
        return err_doing(err, "read foreign keys");
    size_t n = pg_rows_count(rows);
    struct foreign_key *list = arena_alloc_array(arena, n + 1, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        struct foreign_key *k = &list[i];
        k->name = arena_dup(arena, pg_cell_slice(rows, i, 0));
        k->child_oid = cell_oid(rows, i, 1);
        k->parent_oid = cell_oid(rows, i, 2);
        k->match = pg_cell(rows, i, 3)[0];
        k->validated = cell_true(rows, i, 4);
        k->child_schema = arena_dup(arena, pg_cell_slice(rows, i, 5));
        k->child_name = arena_dup(arena, pg_cell_slice(rows, i, 6));
        k->parent_schema = arena_dup(arena, pg_cell_slice(rows, i, 7));
        k->parent_name = arena_dup(arena, pg_cell_slice(rows, i, 8));
        k->child_columns = split_names(pg_cell_slice(rows, i, 9), arena, &k->column_count);
        k->parent_columns = split_names(pg_cell_slice(rows, i, 10), arena, &k->column_count);
    }
    pg_rows_free(rows);
    *keys = list;
    *count = n;
    return 0;
}

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

static const struct route_override *
override_of(const struct catalog_rules *rules, struct arena *arena, const struct relation *r)
{
    const char *name =
        arena_printf(arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
    for (size_t i = 0; i < rules->override_count; i++) {
        if (strcmp(rules->overrides[i].table, name) == 0)
            return &rules->overrides[i];
    }
    return NULL;
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

static int
only_key_column(const struct relation *r)
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
    r->route_reason = slice_str(reason);
}

static void
decide_route(const struct catalog_rules *rules, struct arena *arena, struct relation *r)
{
    const struct route_override *o = override_of(rules, arena, r);
    int by_name = column_index(
        r, slice_str(o != NULL && o->column != NULL ? o->column : rules->tenant_column));
    int by_key = column_index(r, r->tenant_fk);
    r->is_tenants_table = false;
    if (is_own_table(r)) {
        route_set(r, ROUTE_EXCLUDED, -1, "pgstrata's own");
    } else if (o != NULL && o->route != ROUTE_COLUMN) {
        route_set(r, o->route, -1, "configured");
    } else if (r->is_tenants_fact) {
        r->is_tenants_table = true;
        route_set(r, ROUTE_COLUMN, only_key_column(r), "the tenants table");
    } else if (by_name >= 0) {
        route_set(r, ROUTE_COLUMN, by_name,
                  arena_printf(arena, "column %.*s", SLICE_PRINT(r->columns[by_name].name)));
    } else if (o != NULL) {
        route_set(r, ROUTE_COLUMN, -1, "configured");
    } else if (by_key >= 0) {
        route_set(r, ROUTE_COLUMN, by_key,
                  arena_printf(arena, "foreign key %.*s", SLICE_PRINT(r->tenant_fk)));
    } else {
        route_set(r, ROUTE_SHARED, -1, "no tenant column");
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

static void
decide_coverage(struct relation *r)
{
    bool has_key = false;
    for (size_t i = 0; i < r->column_count; i++)
        has_key = has_key || r->columns[i].key;
    r->covered = true;
    r->why_not = r->fix = SLICE_NULL;
    if (r->route == ROUTE_EXCLUDED)
        uncover(r, "excluded", "");
    else if (r->route == ROUTE_SCHEMA || r->route == ROUTE_PARENT)
        uncover(r, "this route is not archived by this version",
                "route it as shared or excluded, or add the tenant column");
    else if (r->unlogged)
        uncover(r, "unlogged tables leave no trace in the WAL", "ALTER TABLE ... SET LOGGED");
    else if (r->identity == 'n')
        uncover(r, "its replica identity is NOTHING", "ALTER TABLE ... REPLICA IDENTITY DEFAULT");
    else if (!has_key)
        uncover(r, "it has no primary key", "add a primary key, or REPLICA IDENTITY USING INDEX");
    else if (r->key_unusable)
        uncover(r, "its key is deferrable or holds a generated column",
                "REPLICA IDENTITY USING INDEX with a plain unique index");
    else if (r->rls_blocks)
        uncover(r, "row-level security hides rows from this role", "ALTER ROLE ... BYPASSRLS");
    else if (r->route == ROUTE_COLUMN && r->tenant_column < 0)
        uncover(r, "its tenant column is missing", "name it in the configuration");
}

void
catalog_decide(const struct catalog_rules *rules, struct arena *arena, struct relation *r)
{
    decide_route(rules, arena, r);
    decide_coverage(r);
}

/* The column that refers to the tenants table, where one foreign key with one column does. */
static void
find_tenant_keys(struct catalog *catalog, const struct foreign_key *keys, size_t count,
                 struct arena *arena)
{
    for (size_t i = 0; i < count; i++) {
        struct relation *child = find_oid(catalog, keys[i].child_oid);
        const struct relation *parent = find_oid(catalog, keys[i].parent_oid);
        if (child != NULL && parent != NULL && parent->is_tenants_fact &&
            keys[i].column_count == 1 && child->tenant_fk.data == NULL)
            child->tenant_fk = arena_dup(arena, keys[i].child_columns[0]);
    }
}

/* A table without tenant column that refers, at any depth, to one with a tenant: its rows have a
 * tenant, and this version does not follow them. Repeats until nothing changes: depth is bounded by
 * the tables. */
static void
find_parents(const struct catalog_rules *rules, struct catalog *catalog,
             const struct foreign_key *keys, size_t count, struct arena *arena)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            struct relation *child = find_oid(catalog, keys[i].child_oid);
            const struct relation *parent = find_oid(catalog, keys[i].parent_oid);
            if (child == NULL || parent == NULL || child == parent ||
                child->route != ROUTE_SHARED || override_of(rules, arena, child) != NULL ||
                (parent->route != ROUTE_COLUMN && parent->route != ROUTE_PARENT))
                continue;
            route_set(child, ROUTE_PARENT, -1,
                      arena_printf(arena, "through %.*s", SLICE_PRINT(parent->name)));
            decide_coverage(child);
            changed = true;
        }
    }
}

int
catalog_read(struct pg_conn *c, const struct catalog_rules *rules, struct arena *arena,
             struct catalog *catalog, struct pgs_err *err)
{
    struct pg_rows *tables = NULL, *columns = NULL;
    struct foreign_key *keys = NULL;
    struct catalog out = { 0 };
    size_t key_count = 0;
    int rc =
        pg_query(c, tables_sql, PG_PARAMS(rules->publication, rules->tenant_table, MOVE_TRIGGER),
                 &tables, err);
    if (rc == 0)
        rc = pg_query(c, columns_sql, PG_NO_PARAMS, &columns, err);
    if (rc == 0)
        rc = catalog_foreign_keys(c, arena, &keys, &key_count, err);
    if (rc == 0) {
        out.count = pg_rows_count(tables);
        out.relations = arena_alloc_array(arena, out.count + 1, sizeof(struct relation *));
        for (size_t i = 0; i < out.count; i++) {
            out.relations[i] = arena_alloc_zero(arena, sizeof(struct relation));
            read_table(tables, i, arena, out.relations[i]);
        }
        read_columns(columns, arena, &out);
        find_tenant_keys(&out, keys, key_count, arena);
    }
    pg_rows_free(tables);
    pg_rows_free(columns);
    if (rc < 0)
        return err_doing(err, "read the catalog");
    for (size_t i = 0; i < out.count; i++) {
        struct relation *r = out.relations[i];
        catalog_decide(rules, arena, r);
        if (r->is_tenants_table && r->tenant_column >= 0) {
            out.tenants_found = true;
            out.tenants_type = r->columns[r->tenant_column].type_name;
        }
    }
    find_parents(rules, &out, keys, key_count, arena);
    *catalog = out;
    return 0;
}

const struct relation *
catalog_by_oid(const struct catalog *catalog, uint32_t oid)
{
    return find_oid(catalog, oid);
}

const struct relation *
catalog_by_name(const struct catalog *catalog, struct slice schema, struct slice name)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (slice_equal(catalog->relations[i]->schema, schema) &&
            slice_equal(catalog->relations[i]->name, name))
            return catalog->relations[i];
    }
    return NULL;
}
