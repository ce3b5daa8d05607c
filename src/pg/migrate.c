/* migrate.c: schema pgstrata, by the numbered files of sql/. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "sql/embedded.h"

#include <stdio.h>
#include <stdlib.h>

/* Two programs that migrate at once: the second waits, and finds nothing left to do. */
#define MIGRATE_LOCK "SELECT pg_advisory_xact_lock(hashtext('pgstrata.migrations'))"

/* Files are named <number>_<words>.sql. */
static long
file_number(const struct sql_file *f)
{
    return strtol(f->name, NULL, 10);
}

/* Highest applied migration; 0: schema pgstrata is not there. */
static int
applied_number(struct pg_conn *c, long *number, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    long found = 0;
    int rc = pg_query(c, "SELECT to_regclass('pgstrata.migrations') IS NOT NULL", PG_NO_PARAMS,
                      &rows, err);
    bool there = rc == 0 && pg_cell(rows, 0, 0)[0] == 't';
    pg_rows_free(rows);
    rows = NULL;
    if (rc == 0 && there)
        rc = pg_query(c, "SELECT coalesce(max(number), 0) FROM pgstrata.migrations", PG_NO_PARAMS,
                      &rows, err);
    if (rc == 0 && there)
        found = strtol(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    if (rc == 0 && found > file_number(&sql_files[sql_files_count - 1])) {
        (void)err_set(err, PGS_E_REFUSED,
                      "schema pgstrata is of a newer version: migration %ld is applied", found);
        rc = err_hint(err, "use that version of pgstrata, or a newer one");
    }
    if (rc == 0)
        *number = found;
    return rc;
}

static int
apply_in_transaction(struct pg_conn *c, const struct sql_file *file, struct pgs_err *err)
{
    char number[24];
    long applied;
    snprintf(number, sizeof(number), "%ld", file_number(file));
    int rc = pg_exec(c, MIGRATE_LOCK, err);
    if (rc == 0)
        rc = applied_number(c, &applied, err);
    if (rc < 0 || file_number(file) <= applied)
        return rc < 0 ? rc : PGS_NONE;
    rc = pg_exec(c, file->text, err);
    if (rc == 0)
        rc = pg_query(c, "INSERT INTO pgstrata.migrations (number, name) VALUES ($1::int, $2)",
                      PG_PARAMS(number, file->name), NULL, err);
    return rc;
}

/* PGS_NONE: it was applied meanwhile. */
static int
apply_one(struct pg_conn *c, const struct sql_file *file, struct pgs_err *err)
{
    struct pgs_err ignored;
    int rc = pg_exec(c, "BEGIN", err);
    if (rc == 0)
        rc = apply_in_transaction(c, file, err);
    if (rc >= 0) {
        int ended = pg_exec(c, "COMMIT", err);
        rc = ended < 0 ? ended : rc;
    }
    if (rc < 0) {
        err_ignore(pg_exec(c, "ROLLBACK", &ignored));
        return err_doing(err, "apply migration %s", file->name);
    }
    return rc;
}

int
setup_pending_sql(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    long number;
    int rc = applied_number(c, &number, err);
    for (const struct sql_file *f = sql_files; rc == 0 && f->name != NULL; f++) {
        if (file_number(f) > number)
            buf_printf(script,
                       "BEGIN;\n%s\nINSERT INTO pgstrata.migrations (number, name) VALUES (%ld, "
                       "'%s');\nCOMMIT;\n\n",
                       f->text, file_number(f), f->name);
    }
    return rc;
}

int
setup_migrations_pending(struct pg_conn *c, bool *pending, struct pgs_err *err)
{
    long number;
    int rc = applied_number(c, &number, err);
    if (rc == 0)
        *pending = number < file_number(&sql_files[sql_files_count - 1]);
    return rc;
}

int
setup_migrate(struct pg_conn *c, int *applied, struct pgs_err *err)
{
    long number;
    int count = 0;
    int rc = applied_number(c, &number, err);
    for (const struct sql_file *f = sql_files; rc >= 0 && f->name != NULL; f++) {
        if (file_number(f) <= number)
            continue;
        rc = apply_one(c, f, err);
        count += rc == 0;
    }
    if (rc < 0)
        return rc;
    *applied = count;
    return 0;
}
