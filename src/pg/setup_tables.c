/* setup_tables.c: the publication and the move triggers, table by table.
 *
 * Each table in a transaction of its own: one transaction for all would hold the locks of the first
 * table while it waits for the last. */
#include "pg/setup_internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "pg/quote.h"

#include <stdio.h>
#include <time.h>

#define LOCK_NOT_AVAILABLE "55P03"
#define LOCK_WAIT_MS 500
#define LOCK_TRIES 20
#define LOCK_PAUSE_NS 250000000L

/* Every operation, and leaf tables under their own names. */
#define PUBLISHES                                     \
    "(publish = 'insert, update, delete, truncate', " \
    "publish_via_partition_root = false)"

static int
publication_mend(struct pg_conn *c, struct buf *script, const struct pg_rows *rows,
                 struct pgs_err *err)
{
    if (pg_cell(rows, 0, 0)[0] == 't') {
        (void)err_set(err, PGS_E_REFUSED,
                      "publication " PUBLICATION_NAME
                      " is FOR ALL TABLES: a table without identity "
                      "would fail its users' updates");
        return err_hint(err, "DROP PUBLICATION " PUBLICATION_NAME "; and run setup again");
    }
    if (pg_cell(rows, 0, 1)[0] == 't')
        return 0;
    return setup_do(c, script, "ALTER PUBLICATION " PUBLICATION_NAME " SET " PUBLISHES, err);
}

int
setup_publication(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c,
                      "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate"
                      " AND NOT pubviaroot FROM pg_publication WHERE pubname = $1",
                      PG_PARAMS(PUBLICATION_NAME), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 0)
        rc = setup_do(c, script, "CREATE PUBLICATION " PUBLICATION_NAME " WITH " PUBLISHES, err);
    else if (rc == 0)
        rc = publication_mend(c, script, rows, err);
    pg_rows_free(rows);
    return rc;
}

bool
setup_is_wanted(const struct relation *r)
{
    return r->covered && r->route != ROUTE_EXCLUDED;
}

bool
setup_needs_move_trigger(const struct relation *r)
{
    return setup_is_wanted(r) && r->route == ROUTE_COLUMN && r->tenant_column >= 0 &&
           !r->tenant_in_key && r->identity != 'f';
}

/* Who holds the table, in words. */
static int
name_blocker(struct pg_conn *c, uint32_t oid, struct pgs_err *err)
{
    char text[16];
    struct pg_rows *rows = NULL;
    struct pgs_err ignored;
    snprintf(text, sizeof(text), "%u", oid);
    int rc = pg_query(c,
                      "SELECT a.pid, a.usename, date_trunc('second', now() - a.xact_start)"
                      " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                      " WHERE l.relation = $1::oid AND l.granted AND l.pid <> pg_backend_pid()"
                      " AND l.database = (SELECT oid FROM pg_database WHERE datname = "
                      "current_database())"
                      " AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')"
                      " ORDER BY a.xact_start LIMIT 1",
                      PG_PARAMS(text), &rows, &ignored);
    if (rc == 0 && pg_rows_count(rows) == 1) {
        const char *user = pg_cell(rows, 0, 1), *age = pg_cell(rows, 0, 2);
        (void)err_set(err, PGS_E_CONFLICT,
                      "it is locked by process %s of %s, in a transaction for %s",
                      pg_cell(rows, 0, 0), user != NULL ? user : "another role",
                      age != NULL ? age : "some time");
    } else {
        (void)err_set(err, PGS_E_CONFLICT, "it is locked by other transactions");
    }
    pg_rows_free(rows);
    return err_hint(err, "run it again when that transaction has ended");
}

static int
try_locked(struct pg_conn *c, const char *sql, struct pgs_err *err)
{
    struct pgs_err ignored;
    int rc = pg_execf(c, err, "BEGIN; SET LOCAL lock_timeout = %d", LOCK_WAIT_MS);
    if (rc == 0)
        rc = pg_exec(c, sql, err);
    if (rc == 0)
        rc = pg_exec(c, "COMMIT", err);
    if (rc < 0)
        err_ignore(pg_exec(c, "ROLLBACK", &ignored));
    return rc;
}

int
setup_locked(struct pg_conn *c, enum lock_patience patience, uint32_t oid, const char *sql,
             struct pgs_err *err)
{
    for (int tries = 1;; tries++) {
        int rc = try_locked(c, sql, err);
        if (rc == 0 || strcmp(err->sqlstate, LOCK_NOT_AVAILABLE) != 0)
            return rc;
        if (patience == LOCK_ONCE)
            return PGS_NONE;
        if (tries == LOCK_TRIES)
            return name_blocker(c, oid, err);
        struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
        (void)nanosleep(&pause, NULL);
    }
}

/* A table that leaves is told: nobody else says so, and the archive would go on vouching for it. */
static int
leave_sql(struct pg_conn *c, const struct relation *r, struct buf *sql, struct pgs_err *err)
{
    buf_put_str(sql, "ALTER PUBLICATION " PUBLICATION_NAME " DROP TABLE ONLY ");
    int rc = quote_qualified(c, sql, r->schema, r->name, err);
    buf_printf(sql,
               "; SELECT pg_logical_emit_message(true, 'pgstrata.ddl', '{\"tag\": \"ALTER "
               "PUBLICATION\", \"relations\": [], \"dropped\": [], \"changed\": [%u]}')",
               r->oid);
    return rc;
}

static int
table_sql(struct pg_conn *c, const struct relation *r, struct buf *sql, struct pgs_err *err)
{
    bool wanted = setup_is_wanted(r), watched = setup_needs_move_trigger(r);
    const char *separator = "";
    int rc = 0;
    if (r->published && (!wanted || r->published_in_part)) {
        rc = leave_sql(c, r, sql, err);
        separator = "; ";
    }
    if (rc == 0 && wanted && (!r->published || r->published_in_part)) {
        buf_printf(sql, "%sALTER PUBLICATION " PUBLICATION_NAME " ADD TABLE ONLY ", separator);
        rc = quote_qualified(c, sql, r->schema, r->name, err);
        separator = "; ";
    }
    if (rc == 0 && watched != r->move_trigger) {
        struct buf name = { 0 };
        rc = quote_qualified(c, &name, r->schema, r->name, err);
        buf_printf(sql, "%sSELECT pgstrata.%s(", separator,
                   watched ? "watch_moves" : "unwatch_moves");
        if (rc == 0)
            rc = quote_literal(c, sql, buf_slice(&name), err);
        buf_put_str(sql, "::regclass");
        if (rc == 0 && watched) {
            buf_put_str(sql, ", ");
            rc = quote_literal(c, sql, r->columns[r->tenant_column].name, err);
        }
        buf_put_str(sql, ")");
        buf_release(&name);
    }
    return rc;
}

static int
setup_table(struct pg_conn *c, struct buf *script, enum lock_patience patience, struct relation *r,
            struct pgs_err *err)
{
    struct buf sql = { 0 };
    int rc = table_sql(c, r, &sql, err);
    if (rc == 0 && sql.size > 0)
        rc = script != NULL ? setup_do(c, script, buf_cstr(&sql), err)
                            : setup_locked(c, patience, r->oid, buf_cstr(&sql), err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "set up table %.*s.%.*s", SLICE_PRINT(r->schema),
                         SLICE_PRINT(r->name));
    if (rc == 0 && script == NULL) {
        r->published = setup_is_wanted(r);
        r->published_in_part = false;
        r->move_trigger = setup_needs_move_trigger(r);
    }
    return rc;
}

/* By the clock one table's trouble is no other's: it is told, and tried again. By hand it ends. */
int
setup_tables(struct pg_conn *c, struct buf *script, enum lock_patience patience,
             const struct catalog *catalog, struct pgs_err *err)
{
    for (size_t i = 0; i < catalog->count; i++) {
        int rc = setup_table(c, script, patience, catalog->relations[i], err);
        if (rc < 0 && (patience == LOCK_PATIENTLY || err->sqlstate[0] == '\0'))
            return rc;
        if (rc < 0)
            diag_debug("table_not_set_up", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
                       "a table could not be published or watched; trying again");
    }
    return 0;
}
