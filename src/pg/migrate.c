#include "pg/setup_internal.h"

#include "core/err.h"
#include "sql/embedded.h"

#include <stdio.h>
#include <stdlib.h>

/* Highest applied migration; 0: schema pgstrata is not there. */
static int
applied_number(struct pg_conn *c, long *number, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    *number = 0;
    int rc = pg_query(c, "SELECT to_regclass('pgstrata.migrations') IS NOT NULL", PG_NO_PARAMS,
                      &rows, err);
    bool there = rc == 0 && pg_cell(rows, 0, 0)[0] == 't';
    pg_rows_free(rows);
    rows = NULL;
    if (rc == 0 && there)
        rc = pg_query(c, "SELECT coalesce(max(number), 0) FROM pgstrata.migrations", PG_NO_PARAMS,
                      &rows, err);
    if (rc == 0 && there)
        *number = strtol(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    return rc;
}

static int
apply_one(struct pg_conn *c, const struct sql_file *file, struct pgs_err *err)
{
    struct pgs_err ignored;
    char number[16];
    /* Files are named <number>_<words>.sql. */
    snprintf(number, sizeof(number), "%ld", strtol(file->name, NULL, 10));
    int rc = pg_exec(c, "BEGIN", err);
    if (rc == 0)
        rc = pg_exec(c, file->text, err);
    if (rc == 0)
        rc = pg_query(c, "INSERT INTO pgstrata.migrations (number, name) VALUES ($1::int, $2)",
                      PG_PARAMS(number, file->name), NULL, err);
    if (rc == 0)
        rc = pg_exec(c, "COMMIT", err);
    if (rc < 0) {
        err_ignore(pg_exec(c, "ROLLBACK", &ignored));
        return err_doing(err, "apply migration %s", file->name);
    }
    return 0;
}

int
setup_pending_sql(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    long number;
    int rc = applied_number(c, &number, err);
    for (const struct sql_file *f = sql_files; rc == 0 && f->name != NULL; f++) {
        if (strtol(f->name, NULL, 10) > number)
            buf_printf(script, "-- migration %s\n%s\n", f->name, f->text);
    }
    return rc;
}

int
setup_migrate(struct pg_conn *c, int *applied, struct pgs_err *err)
{
    long number;
    int count = 0;
    int rc = applied_number(c, &number, err);
    for (const struct sql_file *f = sql_files; rc == 0 && f->name != NULL; f++) {
        if (strtol(f->name, NULL, 10) <= number)
            continue;
        rc = apply_one(c, f, err);
        count += rc == 0;
    }
    if (rc == 0)
        *applied = count;
    return rc;
}
