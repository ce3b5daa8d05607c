#include "restore/side_schema.h"

#include "core/err.h"
#include "pg/quote.h"
#include "restore/stage.h"
#include "restore/transaction.h"

static bool
name_clashes(const struct plan *plan, const struct plan_table *t)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (&plan->tables[i] != t && slice_equal(plan->tables[i].relation->name, t->relation->name))
            return true;
    }
    return false;
}

static int
side_name(const struct plan *plan, const struct plan_table *t, const char *schema,
          const char **name, struct pgs_err *err)
{
    struct buf b = { 0 };
    struct slice plain = t->relation->name;
    if (name_clashes(plan, t))
        plain = slice_str(t->label);
    int rc = quote_qualified(plan->session->conn, &b, slice_str(schema), plain, err);
    *name = arena_strdup(plan->arena, buf_cstr(&b));
    buf_release(&b);
    return rc;
}

static int
table_create(const struct plan *plan, const struct plan_table *t, const char *name,
             struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_printf(&sql, "CREATE TABLE %s (", name);
    for (size_t i = 0; i < t->relation->column_count; i++) {
        const struct column *c = &t->relation->columns[i];
        buf_printf(&sql, "%s%s %.*s", i > 0 ? ", " : "", t->sql_columns[i],
                   SLICE_PRINT(c->type_name));
        if (c->collation.data != NULL)
            buf_printf(&sql, " COLLATE %.*s", SLICE_PRINT(c->collation));
    }
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(&sql, "%s%s", i == 0 ? ", PRIMARY KEY (" : ", ",
                   t->sql_columns[t->key_columns[i]]);
    buf_put_str(&sql, t->key_count > 0 ? "))" : ")");
    int rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    if (rc < 0 && strcmp(err->sqlstate, "42P07") == 0) {
        (void)err_set(err, PGS_E_CONFLICT, "table %s exists already", name);
        return err_hint(err, "choose another schema, or drop the table");
    }
    return rc;
}

static int
table_load(struct plan *plan, struct plan_table *t, const char *name, struct pgs_err *err)
{
    struct scan_opts opts = { .tenant = plan->tenant,
                              .coverage = &t->coverage,
                              .table_oid = t->relation->oid,
                              .to = plan->cut.lsn };
    struct row_copy copy = { .conn = plan->session->conn };
    struct state *state = NULL;
    struct state_row row;
    struct buf sql = { 0 };
    buf_printf(&sql, "COPY %s FROM STDIN", name);
    int rc = state_open(plan->session->archive, &opts, &state, err);
    if (rc == 0)
        rc = pg_copy_in_begin(copy.conn, buf_cstr(&sql), err);
    if (rc == 0) {
        while (rc == 0 && (rc = state_next(state, &row, err)) == 0) {
            row_copy_fields(&copy, row.fields, t->relation->column_count, NULL);
            rc = row_copy_end_line(&copy, err);
        }
        rc = row_copy_finish(&copy, rc == PGS_NONE ? 0 : rc, &t->inserted, err);
    }
    state_close(state);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "load %s", name) : 0;
}

static int
schema_create(struct plan *plan, const char *schema, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "CREATE SCHEMA IF NOT EXISTS ");
    int rc = quote_ident(plan->session->conn, &sql, slice_str(schema), err);
    if (rc == 0)
        rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

int
side_schema_load(struct plan *plan, const char *schema, bool dry_run, struct pgs_err *err)
{
    struct pg_conn *c = plan->session->conn;
    int rc = pg_exec(c, "BEGIN", err);
    if (rc < 0)
        return rc;
    rc = archive_view(plan->session->archive, plan->cut.era, err);
    if (rc == 0)
        rc = schema_create(plan, schema, err);
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        const char *name;
        rc = side_name(plan, &plan->tables[i], schema, &name, err);
        if (rc == 0)
            rc = table_create(plan, &plan->tables[i], name, err);
        if (rc == 0)
            rc = table_load(plan, &plan->tables[i], name, err);
    }
    if (rc == 0 && !dry_run)
        rc = pg_exec(c, "COMMIT", err);
    if (rc < 0 || dry_run)
        transaction_rollback(plan->session);
    return rc;
}
