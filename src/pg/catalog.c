/* catalog.c: the database's tables as they are now.
 *
 *  1. Tables and their columns, one query each.
 *  2. Foreign keys: which column refers to the tenants table's key.
 *  3. catalog_decide for every table.
 *  4. Foreign keys again: tables without a tenant that refer, at any depth, to one with a tenant.
 *
 * Partitioned tables hold no rows and are no part of the answer; foreign keys lead through them. */
#include "pg/catalog.h"

#include "core/err.h"
#include "pg/catalog_internal.h"

#include <stdlib.h>

#define MOVE_TRIGGER "!pgstrata_move"

/* $1 publication, $2 tenants table, $3 move trigger. Row filters and column lists exist from 15 on,
 * so their columns are asked for by name in JSON. The trigger's argument is the tenant column's
 * number, behind it a NUL. */
static const char tables_sql[] =
    "SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relkind = 'r', c.relpersistence = 'u',"
    " pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),"
    " pr.prrelid IS NOT NULL, coalesce(to_jsonb(pr) ->> 'prqual', to_jsonb(pr) ->> 'prattrs')"
    "   IS NOT NULL,"
    " c.oid IS NOT DISTINCT FROM (SELECT t.oid FROM pg_class t"
    "   JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    "   WHERE t.relkind = 'r' AND t.relpersistence <> 't' AND tn.nspname !~ '^pg_'"
    "   AND $2::text IN (t.relname, tn.nspname || '.' || t.relname)"
    "   ORDER BY tn.nspname = 'public' DESC, tn.nspname LIMIT 1),"
    " (SELECT replace(encode(t.tgargs, 'escape'), '\\000', '') FROM pg_trigger t"
    "   WHERE t.tgrelid = c.oid AND t.tgname = $3 AND t.tgenabled = 'A'),"
    " c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles"
    "   WHERE rolname = current_user)"
    "   AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')),"
    " (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid"
    "   WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate"
    "   AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a"
    "     WHERE a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])"
    "     AND (NOT a.attnotnull OR a.attgenerated <> ''))"
    "   ORDER BY ic.relname LIMIT 1)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_publication p ON p.pubname = $1"
    " LEFT JOIN pg_publication_rel pr ON pr.prrelid = c.oid AND pr.prpubid = p.oid"
    " WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
    " AND n.nspname <> 'information_schema'"
    " ORDER BY n.nspname, c.relname";

/* Columns, and which of them tell rows apart: the replica identity's or, with FULL, the primary
 * key's. Columns that an index merely INCLUDEs stand behind its key columns. */
static const char columns_sql[] =
    "SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,"
    " format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,"
    " CASE WHEN a.attcollation <> 0 AND a.attcollation <> ty.typcollation"
    "   THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,"
    " coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false),"
    " a.attgenerated <> '', coalesce(NOT i.indimmediate, false)"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type ty ON ty.oid = a.atttypid"
    " LEFT JOIN pg_collation co ON co.oid = a.attcollation"
    " LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace"
    " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident"
    "   WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END"
    " WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND a.attnum > 0"
    " AND NOT a.attisdropped AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    " ORDER BY a.attrelid, a.attnum";

/* Every table, partitioned ones too, in the order of the answer; `by_oid` for looking up. */
struct reading {
    struct arena *arena;
    struct relation **all;
    struct relation **by_oid;
    bool *holds_rows; /* as `all`: no partitioned table */
    size_t count;
};

bool
cell_true(const struct pg_rows *rows, size_t row, size_t column)
{
    const char *text = pg_cell(rows, row, column);
    return text != NULL && text[0] == 't';
}

uint32_t
cell_oid(const struct pg_rows *rows, size_t row, size_t column)
{
    return (uint32_t)strtoul(pg_cell(rows, row, column), NULL, 10);
}

static int
compare_oids(const void *a, const void *b)
{
    const struct relation *const *x = a, *const *y = b;
    return ((*x)->oid > (*y)->oid) - ((*x)->oid < (*y)->oid);
}

static struct relation *
find_oid(struct relation *const *by_oid, size_t count, uint32_t oid)
{
    struct relation wanted = { .oid = oid };
    const struct relation *key = &wanted;
    struct relation *const *found =
        count == 0 ? NULL : bsearch(&key, by_oid, count, sizeof(struct relation *), compare_oids);
    return found == NULL ? NULL : *found;
}

static void
read_table(const struct pg_rows *rows, size_t i, struct arena *arena, struct relation *r)
{
    const char *move_column = pg_cell(rows, i, 11);
    r->oid = cell_oid(rows, i, 0);
    r->schema = arena_dup(arena, pg_cell_slice(rows, i, 1));
    r->name = arena_dup(arena, pg_cell_slice(rows, i, 2));
    r->identity = pg_cell(rows, i, 3)[0];
    r->unlogged = cell_true(rows, i, 5);
    r->owner = arena_dup(arena, pg_cell_slice(rows, i, 6));
    r->owned = cell_true(rows, i, 7);
    r->published = cell_true(rows, i, 8);
    r->published_in_part = cell_true(rows, i, 9);
    r->is_tenants_fact = cell_true(rows, i, 10);
    r->move_column = move_column == NULL ? 0 : (int16_t)strtol(move_column, NULL, 10);
    r->rls_blocks = cell_true(rows, i, 12);
    r->candidate_index = arena_dup(arena, pg_cell_slice(rows, i, 13));
    r->tenant_column = -1;
}

static void
read_column(const struct pg_rows *rows, size_t i, struct arena *arena, struct relation *r)
{
    bool key = cell_true(rows, i, 9), generated = cell_true(rows, i, 10);
    struct slice name = arena_dup(arena, pg_cell_slice(rows, i, 1));
    if (key && (generated || cell_true(rows, i, 11)))
        r->key_unusable = true;
    if (generated) {
        r->generated[r->generated_count++] = name;
        return;
    }
    struct column *c = &r->columns[r->column_count++];
    c->name = name;
    c->attnum = (int16_t)strtol(pg_cell(rows, i, 2), NULL, 10);
    c->type_oid = cell_oid(rows, i, 3);
    c->typmod = (int32_t)strtol(pg_cell(rows, i, 4), NULL, 10);
    c->type_name = arena_dup(arena, pg_cell_slice(rows, i, 5));
    c->not_null = cell_true(rows, i, 6);
    c->identity = pg_cell(rows, i, 7)[0];
    c->collation = arena_dup(arena, pg_cell_slice(rows, i, 8));
    c->key = key;
}

/* Rows come table by table. */
static void
read_columns(const struct pg_rows *rows, struct reading *in)
{
    size_t count = pg_rows_count(rows), end = 0;
    for (size_t begin = 0; begin < count; begin = end) {
        uint32_t oid = cell_oid(rows, begin, 0);
        struct relation *r = find_oid(in->by_oid, in->count, oid);
        while (end < count && cell_oid(rows, end, 0) == oid)
            end++;
        if (r == NULL)
            continue;
        r->columns = arena_alloc_array(in->arena, end - begin, sizeof(*r->columns));
        r->generated = arena_alloc_array(in->arena, end - begin, sizeof(*r->generated));
        for (size_t i = begin; i < end; i++)
            read_column(rows, i, in->arena, r);
    }
}

static void
read_tables(const struct pg_rows *rows, struct reading *in)
{
    in->count = pg_rows_count(rows);
    in->all = arena_alloc_array(in->arena, in->count + 1, sizeof(struct relation *));
    in->by_oid = arena_alloc_array(in->arena, in->count + 1, sizeof(struct relation *));
    in->holds_rows = arena_alloc_array(in->arena, in->count + 1, sizeof(bool));
    for (size_t i = 0; i < in->count; i++) {
        in->all[i] = in->by_oid[i] = arena_alloc_zero(in->arena, sizeof(struct relation));
        in->holds_rows[i] = cell_true(rows, i, 4);
        read_table(rows, i, in->arena, in->all[i]);
    }
    if (in->count > 0)
        qsort(in->by_oid, in->count, sizeof(struct relation *), compare_oids);
}

/* The column that refers, alone, to the tenants table's key; several are told, not chosen from. */
static void
find_tenant_keys(struct reading *in, const struct foreign_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct foreign_key *k = &keys[i];
        struct relation *child = find_oid(in->by_oid, in->count, k->child_oid);
        const struct relation *parent = find_oid(in->by_oid, in->count, k->parent_oid);
        int key = parent != NULL && parent->is_tenants_fact ? relation_only_key(parent) : -1;
        if (child == NULL || key < 0 || k->column_count != 1 ||
            !slice_equal(k->parent_columns[0], parent->columns[key].name))
            continue;
        if (child->tenant_fk.data != NULL && !slice_equal(child->tenant_fk, k->child_columns[0]))
            child->tenant_fk_ambiguous = true;
        child->tenant_fk = k->child_columns[0];
    }
    for (size_t i = 0; i < in->count; i++) {
        if (in->all[i]->tenant_fk_ambiguous)
            in->all[i]->tenant_fk = SLICE_NULL;
    }
}

/* Whether rows that refer to this table's rows have a tenant by it. */
static bool
leads_to_tenant(const struct relation *parent)
{
    if (parent->route == ROUTE_COLUMN)
        return parent->tenant_column >= 0 || parent->tenant_fk_ambiguous;
    return parent->route == ROUTE_PARENT && parent->tenant_parent.data != NULL;
}

/* A table without tenant that refers to one with a tenant gets it from there, and in turn gives it
 * to those that refer to it: until nothing changes. */
static void
find_parents(const struct catalog_rules *rules, struct reading *in, const struct foreign_key *keys,
             size_t count)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            struct relation *child = find_oid(in->by_oid, in->count, keys[i].child_oid);
            const struct relation *parent = find_oid(in->by_oid, in->count, keys[i].parent_oid);
            if (child == NULL || parent == NULL || parent == child ||
                child->route != ROUTE_SHARED || child->tenant_parent.data != NULL ||
                !leads_to_tenant(parent))
                continue;
            child->tenant_parent = parent->name;
            catalog_decide(rules, in->arena, child);
            changed = child->route == ROUTE_PARENT || changed; /* not where it is configured */
        }
    }
}

static void
decide_all(const struct catalog_rules *rules, struct reading *in, const struct foreign_key *keys,
           size_t key_count)
{
    find_tenant_keys(in, keys, key_count);
    for (size_t i = 0; i < in->count; i++)
        catalog_decide(rules, in->arena, in->all[i]);
    find_parents(rules, in, keys, key_count);
    for (size_t i = 0; i < in->count; i++) {
        struct relation *r = in->all[i];
        r->move_trigger = r->move_column != 0 && r->tenant_column >= 0 &&
                          r->move_column == r->columns[r->tenant_column].attnum;
    }
}

static void
answer(const struct reading *in, struct catalog *catalog)
{
    struct catalog out = { 0 };
    out.relations = arena_alloc_array(in->arena, in->count + 1, sizeof(struct relation *));
    out.by_oid = arena_alloc_array(in->arena, in->count + 1, sizeof(struct relation *));
    for (size_t i = 0; i < in->count; i++) {
        struct relation *r = in->all[i];
        if (!in->holds_rows[i])
            continue;
        out.by_oid[out.count] = r;
        out.relations[out.count++] = r;
        if (r->is_tenants_table && r->tenant_column >= 0) {
            out.tenants_found = true;
            out.tenants_type = r->columns[r->tenant_column].type_name;
        }
    }
    if (out.count > 0)
        qsort(out.by_oid, out.count, sizeof(struct relation *), compare_oids);
    *catalog = out;
}

int
catalog_read(struct pg_conn *c, const struct catalog_rules *rules, struct arena *arena,
             struct catalog *catalog, struct pgs_err *err)
{
    struct pg_rows *tables = NULL, *columns = NULL;
    struct foreign_key *keys = NULL;
    struct reading in = { .arena = arena };
    size_t key_count = 0;
    int rc =
        pg_query(c, tables_sql, PG_PARAMS(rules->publication, rules->tenant_table, MOVE_TRIGGER),
                 &tables, err);
    if (rc == 0)
        rc = pg_query(c, columns_sql, PG_NO_PARAMS, &columns, err);
    if (rc == 0)
        rc = catalog_foreign_keys(c, arena, &keys, &key_count, err);
    if (rc == 0) {
        read_tables(tables, &in);
        read_columns(columns, &in);
        decide_all(rules, &in, keys, key_count);
        answer(&in, catalog);
    }
    pg_rows_free(tables);
    pg_rows_free(columns);
    return rc < 0 ? err_doing(err, "read the catalog") : 0;
}

const struct relation *
catalog_by_oid(const struct catalog *catalog, uint32_t oid)
{
    return find_oid(catalog->by_oid, catalog->count, oid);
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
