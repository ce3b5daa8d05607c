#include "restore/write.h"

#include "core/err.h"
#include "restore/diff.h"
#include "restore/fk_order.h"

#include <inttypes.h>

static void
sql_delete(struct buf *sql, const struct plan_table *t)
{
    buf_printf(sql,
               "DELETE FROM ONLY %s l USING pg_temp.pgs_diff_%zu d"
               " WHERE d.op IN ('D', 'R') AND l.ctid = d.live",
               t->sql_name, t->number);
}

static void
sql_update(struct buf *sql, const struct plan_table *t)
{
    bool first = true;
    buf_printf(sql, "UPDATE ONLY %s l SET ", t->sql_name);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->live->columns[i].identity == 'a' || t->mapping.then[i] < 0)
            continue; /* cannot be set, and is equal: see plan_table.replace; or is kept */
        buf_printf(sql, "%s%s = s.c%zu", first ? "" : ", ", t->sql_columns[i], i);
        first = false;
    }
    buf_printf(sql,
               " FROM pg_temp.pgs_diff_%zu d JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage"
               " WHERE d.op = 'U' AND l.ctid = d.live",
               t->number, t->number);
}

static void
put_insert(struct buf *sql, const struct plan_table *t, bool with_added, const char *ops)
{
    const char *separator = "";
    buf_printf(sql, "INSERT INTO %s (", t->sql_name);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->mapping.then[i] < 0 && !with_added)
            continue;
        buf_printf(sql, "%s%s", separator, t->sql_columns[i]);
        separator = ", ";
    }
    buf_put_str(sql, ") OVERRIDING SYSTEM VALUE SELECT ");
    separator = "";
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->mapping.then[i] >= 0)
            buf_printf(sql, "%ss.c%zu", separator, i);
        else if (with_added)
            buf_printf(sql, "%sd.%s", separator, diff_column_of(t, i).name);
        else
            continue;
        separator = ", ";
    }
    buf_printf(sql,
               " FROM pg_temp.pgs_diff_%zu d JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage"
               " WHERE d.op IN (%s) ORDER BY d.stage",
               t->number, t->number, ops);
}

/* Columns that came since get their defaults. */
static void
sql_insert(struct buf *sql, const struct plan_table *t)
{
    put_insert(sql, t, false, "'I'");
}

/* Columns that came since keep their values. */
static void
sql_insert_replaced(struct buf *sql, const struct plan_table *t)
{
    put_insert(sql, t, true, "'R'");
}

/* Rules that came after the cut may forbid rows of then. */
static int
refuse_violation(const struct plan_table *t, struct pgs_err *err)
{
    if (strcmp(err->sqlstate, "23502") != 0 && strcmp(err->sqlstate, "23514") != 0)
        return err_doing(err, "write to table %s", t->label);
    struct pgs_err cause = *err;
    (void)err_set(err, PGS_E_REFUSED, "rows of then break a rule of table %s: %s", t->label,
                  cause.message);
    (void)err_code(err, "constraint");
    return err_hint(err,
                    "the rule came later, or the column has no default; load the rows beside the "
                    "live ones with --to-schema, or leave the table out with --exclude-tables %s",
                    t->label);
}

static int
write_one(struct plan *plan, const struct plan_table *t,
          void (*make)(struct buf *, const struct plan_table *), uint64_t expected,
          struct pgs_err *finding, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    if (expected == 0)
        return 0;
    make(&sql, t);
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    buf_release(&sql);
    if (rc < 0)
        return refuse_violation(t, err);
    uint64_t done = pg_rows_affected(rows);
    pg_rows_free(rows);
    if (done == expected)
        return 0;
    err_set(finding, PGS_E_CONFLICT,
            "%" PRIu64 " rows of table %s were to be written, and %" PRIu64 " were", expected,
            t->label, done);
    err_hint(finding, "a trigger or a cascading foreign key interferes, or the rows changed "
                      "meanwhile");
    return PGS_NONE;
}

static size_t
index_of(const struct plan *plan, uint32_t oid)
{
    const struct plan_table *t = plan_table_of(plan, oid);
    return t == NULL ? plan->table_count : (size_t)(t - plan->tables);
}

/* Parents first. */
static const size_t *
table_order(struct plan *plan)
{
    const struct constraints *c = &plan->constraints;
    size_t count = 0;
    struct fk_edge *edges =
        arena_alloc_array(plan->arena, c->foreign_key_count + 1, sizeof(*edges));
    size_t *order = arena_alloc_array(plan->arena, plan->table_count + 1, sizeof(*order));
    for (size_t i = 0; i < c->foreign_key_count; i++) {
        struct fk_edge edge = { .child = index_of(plan, c->foreign_keys[i].child_oid),
                                .parent = index_of(plan, c->foreign_keys[i].parent_oid) };
        if (edge.child < plan->table_count && edge.parent < plan->table_count)
            edges[count++] = edge;
    }
    fk_order(plan->table_count, edges, count, order);
    return order;
}

int
write_diff(struct plan *plan, struct pgs_err *finding, struct pgs_err *err)
{
    const size_t *order = table_order(plan);
    /* Places are looked up one by one: hashing the whole live table is never right here, though
     * PostgreSQL, which has no statistics of temporary tables, may think so. */
    int rc = pg_exec(plan->session->conn,
                     "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off", err);
    for (size_t i = plan->table_count; rc == 0 && i > 0; i--) {
        const struct plan_table *t = &plan->tables[order[i - 1]];
        rc = write_one(plan, t, sql_delete, t->deleted + t->replaced, finding, err);
    }
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        const struct plan_table *t = &plan->tables[order[i]];
        rc = write_one(plan, t, sql_update, t->updated - t->replaced, finding, err);
    }
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        const struct plan_table *t = &plan->tables[order[i]];
        rc = write_one(plan, t, sql_insert, t->inserted, finding, err);
        if (rc == 0)
            rc = write_one(plan, t, sql_insert_replaced, t->replaced, finding, err);
    }
    if (rc == 0)
        rc = pg_exec(plan->session->conn,
                     "SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT",
                     err);
    return rc;
}
