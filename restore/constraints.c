#include "restore/constraints.h"

#include "core/err.h"
#include "pg/quote.h"

#include <stdlib.h>

#define EQUALS_DEFAULT "OPERATOR(pg_catalog.=)"

static const char SQL_OPERATORS[] =
    "SELECT i.indrelid, k.attnum, n.nspname, o.oprname"
    " FROM pg_index i"
    " CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS k(attnum, opclass)"
    " JOIN pg_opclass c ON c.oid = k.opclass"
    " JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype"
    "  AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3" /* btree: equal */
    " JOIN pg_operator o ON o.oid = m.amopopr"
    " JOIN pg_namespace n ON n.oid = o.oprnamespace"
    " WHERE i.indrelid = ANY($1::oid[]) AND (i.indisprimary OR i.indisreplident) AND k.attnum > 0";

/* Columns in expressions and predicates are found by what the index, or the exclusion constraint
 * that owns it, depends on. */
static const char SQL_INDEXED[] =
    "SELECT DISTINCT i.indrelid, a.attnum"
    " FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum > 0"
    " WHERE i.indrelid = ANY($1::oid[]) AND (i.indisunique OR i.indisexclusion)"
    "  AND (a.attnum = ANY(i.indkey) OR EXISTS ("
    "   SELECT FROM pg_depend d"
    "   WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid"
    "    AND d.refobjsubid = a.attnum"
    "    AND (d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid"
    "     OR d.classid = 'pg_constraint'::regclass AND d.objid ="
    "      (SELECT c.oid FROM pg_constraint c WHERE c.conindid = i.indexrelid"
    "        AND c.contype = 'x'))))";

/* Rows of one foreign key come together, in column order. A partition's copy of a foreign key that
 * points at a partitioned table (same child, parent is the partition) says who may refer to the
 * partition, not what the child needs. */
static const char SQL_FOREIGN_KEYS[] =
    "SELECT c.oid, c.conname, c.conrelid, c.confrelid, cn.nspname, cr.relname, cr.relkind = 'p',"
    " pn.nspname, pr.relname, pr.relkind = 'p', u.oid IS NOT NULL AND u.conrelid = c.conrelid,"
    " c.conparentid <> 0, k.childnum, ca.attname, k.parentnum, pa.attname, opn.nspname, op.oprname"
    " FROM pg_constraint c"
    " JOIN pg_class cr ON cr.oid = c.conrelid JOIN pg_namespace cn ON cn.oid = cr.relnamespace"
    " JOIN pg_class pr ON pr.oid = c.confrelid JOIN pg_namespace pn ON pn.oid = pr.relnamespace"
    " LEFT JOIN pg_constraint u ON u.oid = c.conparentid"
    " CROSS JOIN LATERAL unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY"
    "  AS k(childnum, parentnum, opr, place)"
    " JOIN pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.childnum"
    " JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parentnum"
    " JOIN pg_operator op ON op.oid = k.opr JOIN pg_namespace opn ON opn.oid = op.oprnamespace"
    " WHERE c.contype = 'f' AND c.convalidated"
    "  AND (c.conrelid = ANY($1::oid[]) OR c.confrelid = ANY($1::oid[]))"
    " ORDER BY c.oid, k.place";

static const char SQL_UNIQUES[] =
    "SELECT c.oid, c.conrelid, c.conname, k.place, pg_get_indexdef(c.conindid, k.place, false),"
    " n.nspname, o.oprname, pg_get_expr(i.indpred, i.indrelid),"
    " coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)" /* new in 15 */
    " FROM pg_constraint c JOIN pg_index i ON i.indexrelid = c.conindid"
    " CROSS JOIN LATERAL generate_series(1, i.indnkeyatts::int) AS k(place)"
    " JOIN pg_opclass oc ON oc.oid = (i.indclass::oid[])[k.place - 1]" /* oidvector: from 0 */
    " JOIN pg_operator o ON o.oid = CASE WHEN c.contype = 'x' THEN c.conexclop[k.place] ELSE"
    "  (SELECT m.amopopr FROM pg_amop m WHERE m.amopfamily = oc.opcfamily"
    "    AND m.amoplefttype = oc.opcintype AND m.amoprighttype = oc.opcintype"
    "    AND m.amopstrategy = 3) END"
    " JOIN pg_namespace n ON n.oid = o.oprnamespace"
    " WHERE c.contype IN ('p', 'u', 'x') AND c.condeferrable AND c.conrelid = ANY($1::oid[])"
    " ORDER BY c.oid, k.place";

/* A rule that rewrites our statements is as bad as a trigger. Schema pgstrata's functions only emit
 * messages. */
static const char SQL_TRIGGERS[] =
    "SELECT t.tgrelid, t.tgrelid::regclass::text, t.tgname, t.tgenabled IN ('A', 'R'),"
    "  t.tgenabled IN ('A', 'O')"
    " FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
    " WHERE t.tgrelid = ANY($1::oid[]) AND NOT t.tgisinternal AND t.tgenabled <> 'D'"
    "  AND p.pronamespace IS DISTINCT FROM to_regnamespace('pgstrata')"
    " UNION ALL "
    "SELECT r.ev_class, r.ev_class::regclass::text, r.rulename, r.ev_enabled IN ('A', 'R'),"
    "  r.ev_enabled IN ('A', 'O')"
    " FROM pg_rewrite r"
    " WHERE r.ev_class = ANY($1::oid[]) AND r.ev_type <> '1' AND r.ev_enabled <> 'D'"
    " ORDER BY 1, 3";

struct reader {
    struct pg_conn *conn;
    const char *oids; /* "{1,2}" */
    struct arena *arena;
    struct constraints *out;
};

static uint32_t
cell_oid(const struct pg_rows *rows, size_t row, size_t column)
{
    return (uint32_t)strtoul(pg_cell(rows, row, column), NULL, 10);
}

static int16_t
cell_attnum(const struct pg_rows *rows, size_t row, size_t column)
{
    return (int16_t)strtol(pg_cell(rows, row, column), NULL, 10);
}

static bool
cell_bool(const struct pg_rows *rows, size_t row, size_t column)
{
    return pg_cell(rows, row, column)[0] == 't';
}

static int
query(struct reader *r, const char *sql, struct pg_rows **rows, struct pgs_err *err)
{
    return pg_query(r->conn, sql, PG_PARAMS(r->oids), rows, err);
}

/* OPERATOR(schema.name): operators have no quoting, only the schema has. */
static int
equals_sql(struct reader *r, const struct pg_rows *rows, size_t row, size_t column,
           const char **sql, struct pgs_err *err)
{
    struct buf b = { 0 };
    buf_put_str(&b, "OPERATOR(");
    int rc = quote_ident(r->conn, &b, pg_cell_slice(rows, row, column), err);
    if (rc == 0) {
        buf_printf(&b, ".%s)", pg_cell(rows, row, column + 1));
        *sql = arena_strdup(r->arena, buf_cstr(&b));
    }
    buf_release(&b);
    return rc;
}

static int
ident_sql(struct reader *r, struct slice name, const char **sql, struct pgs_err *err)
{
    struct buf b = { 0 };
    int rc = quote_ident(r->conn, &b, name, err);
    if (rc == 0)
        *sql = arena_strdup(r->arena, buf_cstr(&b));
    buf_release(&b);
    return rc;
}

/* [ONLY] "schema"."name"; a partitioned table has its rows in its partitions. */
static int
table_sql(struct reader *r, const struct pg_rows *rows, size_t row, size_t column, const char **sql,
          struct pgs_err *err)
{
    struct buf b = { 0 };
    if (!cell_bool(rows, row, column + 2))
        buf_put_str(&b, "ONLY ");
    int rc = quote_qualified(r->conn, &b, pg_cell_slice(rows, row, column),
                             pg_cell_slice(rows, row, column + 1), err);
    if (rc == 0)
        *sql = arena_strdup(r->arena, buf_cstr(&b));
    buf_release(&b);
    return rc;
}

static int
read_operators(struct reader *r, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = query(r, SQL_OPERATORS, &rows, err);
    size_t count = rc == 0 ? pg_rows_count(rows) : 0;
    r->out->operators = arena_alloc_array(r->arena, count + 1, sizeof(*r->out->operators));
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct key_operator *o = &r->out->operators[r->out->operator_count++];
        o->table_oid = cell_oid(rows, i, 0);
        o->attnum = cell_attnum(rows, i, 1);
        rc = equals_sql(r, rows, i, 2, &o->equals, err);
    }
    pg_rows_free(rows);
    return rc;
}

static int
read_indexed(struct reader *r, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = query(r, SQL_INDEXED, &rows, err);
    size_t count = rc == 0 ? pg_rows_count(rows) : 0;
    r->out->indexed = arena_alloc_array(r->arena, count + 1, sizeof(*r->out->indexed));
    for (size_t i = 0; i < count; i++) {
        r->out->indexed[i] = (struct indexed_column){ .table_oid = cell_oid(rows, i, 0),
                                                      .attnum = cell_attnum(rows, i, 1) };
    }
    r->out->indexed_count = count;
    pg_rows_free(rows);
    return rc;
}

/* How many rows from `begin` on have the same first cell. */
static size_t
group_size(const struct pg_rows *rows, size_t begin)
{
    size_t end = begin + 1;
    while (end < pg_rows_count(rows) &&
           slice_equal(pg_cell_slice(rows, begin, 0), pg_cell_slice(rows, end, 0)))
        end++;
    return end - begin;
}

static int
foreign_key_column(struct reader *r, const struct pg_rows *rows, size_t row, struct column_pair *c,
                   struct pgs_err *err)
{
    c->child_attnum = cell_attnum(rows, row, 12);
    c->parent_attnum = cell_attnum(rows, row, 14);
    int rc = ident_sql(r, pg_cell_slice(rows, row, 13), &c->child, err);
    if (rc == 0)
        rc = ident_sql(r, pg_cell_slice(rows, row, 15), &c->parent, err);
    if (rc == 0)
        rc = equals_sql(r, rows, row, 16, &c->equals, err);
    return rc;
}

static int
foreign_key_of(struct reader *r, const struct pg_rows *rows, size_t first, size_t column_count,
               struct foreign_key_check *fk, struct pgs_err *err)
{
    bool action_copy = cell_bool(rows, first, 10);
    bool inherited = cell_bool(rows, first, 11);
    fk->name = arena_strdup(r->arena, pg_cell(rows, first, 1));
    fk->child_oid = cell_oid(rows, first, 2);
    fk->parent_oid = cell_oid(rows, first, 3);
    fk->child_side = !action_copy;
    /* The partitioned child's own constraint covers its partitions. */
    fk->parent_side = !inherited || action_copy;
    fk->columns = arena_alloc_array(r->arena, column_count, sizeof(*fk->columns));
    fk->column_count = column_count;
    int rc = table_sql(r, rows, first, 4, &fk->child, err);
    if (rc == 0)
        rc = table_sql(r, rows, first, 7, &fk->parent, err);
    for (size_t i = 0; rc == 0 && i < column_count; i++)
        rc = foreign_key_column(r, rows, first + i, &fk->columns[i], err);
    return rc;
}

static int
read_foreign_keys(struct reader *r, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = query(r, SQL_FOREIGN_KEYS, &rows, err);
    size_t count = rc == 0 ? pg_rows_count(rows) : 0;
    struct constraints *out = r->out;
    out->foreign_keys = arena_alloc_array(r->arena, count + 1, sizeof(*out->foreign_keys));
    for (size_t i = 0; rc == 0 && i < count;) {
        size_t columns = group_size(rows, i);
        rc = foreign_key_of(r, rows, i, columns, &out->foreign_keys[out->foreign_key_count++], err);
        i += columns;
    }
    pg_rows_free(rows);
    return rc;
}

static int
unique_of(struct reader *r, const struct pg_rows *rows, size_t first, size_t count,
          struct unique_check *u, struct pgs_err *err)
{
    struct buf elements = { 0 }, conflict = { 0 };
    int rc = 0;
    bool nulls_equal = cell_bool(rows, first, 8);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *equals = NULL;
        rc = equals_sql(r, rows, first + i, 5, &equals, err);
        if (rc < 0)
            break;
        buf_printf(&elements, "%s(%s) AS e%zu", i == 0 ? "" : ", ", pg_cell(rows, first + i, 4), i);
        buf_printf(&conflict, "%s(a.e%zu %s b.e%zu", i == 0 ? "" : " AND ", i, equals, i);
        if (nulls_equal)
            buf_printf(&conflict, " OR a.e%zu IS NULL AND b.e%zu IS NULL", i, i);
        buf_put_u8(&conflict, ')');
    }
    u->table_oid = cell_oid(rows, first, 1);
    u->name = arena_strdup(r->arena, pg_cell(rows, first, 2));
    u->predicate = arena_strdup(r->arena, pg_cell(rows, first, 7));
    u->elements = arena_strdup(r->arena, buf_cstr(&elements));
    u->conflict = arena_strdup(r->arena, buf_cstr(&conflict));
    buf_release(&elements);
    buf_release(&conflict);
    return rc;
}

static int
read_uniques(struct reader *r, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = query(r, SQL_UNIQUES, &rows, err);
    size_t count = rc == 0 ? pg_rows_count(rows) : 0;
    r->out->uniques = arena_alloc_array(r->arena, count + 1, sizeof(*r->out->uniques));
    for (size_t i = 0; rc == 0 && i < count;) {
        size_t elements = group_size(rows, i);
        rc = unique_of(r, rows, i, elements, &r->out->uniques[r->out->unique_count++], err);
        i += elements;
    }
    pg_rows_free(rows);
    return rc;
}

static int
read_triggers(struct reader *r, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = query(r, SQL_TRIGGERS, &rows, err);
    size_t count = rc == 0 ? pg_rows_count(rows) : 0;
    r->out->triggers = arena_alloc_array(r->arena, count + 1, sizeof(*r->out->triggers));
    for (size_t i = 0; i < count; i++) {
        r->out->triggers[i] =
            (struct firing_trigger){ .table_oid = cell_oid(rows, i, 0),
                                     .table = arena_strdup(r->arena, pg_cell(rows, i, 1)),
                                     .name = arena_strdup(r->arena, pg_cell(rows, i, 2)),
                                     .in_replica = cell_bool(rows, i, 3),
                                     .in_origin = cell_bool(rows, i, 4) };
    }
    r->out->trigger_count = count;
    pg_rows_free(rows);
    return rc;
}

static const char *
oids_text(struct arena *arena, const uint32_t *oids, size_t count)
{
    struct buf b = { 0 };
    buf_put_u8(&b, '{');
    for (size_t i = 0; i < count; i++)
        buf_printf(&b, "%s%u", i == 0 ? "" : ",", oids[i]);
    buf_put_u8(&b, '}');
    const char *text = arena_strdup(arena, buf_cstr(&b));
    buf_release(&b);
    return text;
}

int
constraints_read(struct pg_conn *c, const uint32_t *oids, size_t oid_count, struct arena *arena,
                 struct constraints *out, struct pgs_err *err)
{
    struct constraints read = { 0 };
    struct reader r = {
        .conn = c, .oids = oids_text(arena, oids, oid_count), .arena = arena, .out = &read
    };
    int rc = read_operators(&r, err);
    if (rc == 0)
        rc = read_indexed(&r, err);
    if (rc == 0)
        rc = read_foreign_keys(&r, err);
    if (rc == 0)
        rc = read_uniques(&r, err);
    if (rc == 0)
        rc = read_triggers(&r, err);
    if (rc < 0)
        return err_doing(err, "read the constraints of the tables");
    *out = read;
    return 0;
}

const char *
constraints_equals(const struct constraints *c, uint32_t table_oid, int16_t attnum)
{
    for (size_t i = 0; i < c->operator_count; i++) {
        if (c->operators[i].table_oid == table_oid && c->operators[i].attnum == attnum)
            return c->operators[i].equals;
    }
    return EQUALS_DEFAULT;
}

bool
constraints_indexed(const struct constraints *c, uint32_t table_oid, int16_t attnum)
{
    for (size_t i = 0; i < c->indexed_count; i++) {
        if (c->indexed[i].table_oid == table_oid && c->indexed[i].attnum == attnum)
            return true;
    }
    return false;
}
