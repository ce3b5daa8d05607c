#include "restore/writers.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "restore/transaction.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define ASK_PAUSE_NS (20L * 1000 * 1000)

/* Other writers' locks conflict with ours, so nobody holds them. A prepared transaction has no
 * process, but a virtual transaction of its own. */
#define WRITERS_LOCKS                                                                \
    " FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = ANY($1::oid[])" \
    " AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname ="           \
    "  current_database()) AND l.granted AND l.mode = 'RowExclusiveLock'"            \
    " AND l.pid IS DISTINCT FROM pg_backend_pid()"

static const char SQL_WRITERS[] =
    "SELECT array_agg(DISTINCT l.virtualtransaction)::text" WRITERS_LOCKS;

static const char SQL_STILL_WRITING[] =
    "SELECT count(*) AS still_writing,"
    " coalesce(bool_or(pg_backend_pid() = ANY(pg_blocking_pids(l.pid))), false)" WRITERS_LOCKS
    " AND l.virtualtransaction = ANY($2::text[])";

static bool
concerned(const struct plan *plan, const struct plan_table *t)
{
    bool found = false;
    for (size_t i = 0; i < plan->constraints.unique_count; i++)
        found = found || plan->constraints.uniques[i].table_oid == t->live->oid;
    return found && t->inserted + t->updated > 0;
}

/* "{1,2}": the tables with deferrable constraints that were written to; false: there is none. */
static bool
put_tables(struct buf *oids, const struct plan *plan)
{
    bool any = false;
    buf_put_u8(oids, '{');
    for (size_t i = 0; i < plan->table_count; i++) {
        if (!concerned(plan, &plan->tables[i]))
            continue;
        buf_printf(oids, "%s%u", any ? "," : "", plan->tables[i].live->oid);
        any = true;
    }
    buf_put_u8(oids, '}');
    return any;
}

static int
ask(struct pg_conn *c, const char *oids, const char *writers, bool *ended, bool *for_us,
    struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, SQL_STILL_WRITING, PG_PARAMS(oids, writers), &rows, err);
    if (rc == 0) {
        *ended = slice_equal(pg_cell_slice(rows, 0, 0), slice_str("0"));
        *for_us = pg_cell(rows, 0, 1)[0] == 't';
    }
    pg_rows_free(rows);
    return rc;
}

static int
give_way(struct pgs_err *finding)
{
    (void)err_set(finding, PGS_E_CONFLICT, "a transaction and the restore wait for each other");
    (void)err_hint(finding, "try again when fewer transactions write to the same rows");
    return PGS_NONE;
}

static int
too_long(struct pgs_err *err)
{
    (void)err_set(err, PGS_E_FAILED, "transactions that write to the same tables did not end");
    snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", TRANSACTION_LOCK_TIMEOUT);
    return err_hint(err, "wait longer with --lock-timeout");
}

static int
wait_for(const struct restore_session *s, const char *oids, const char *writers,
         struct pgs_err *finding, struct pgs_err *err)
{
    const struct timespec pause = { .tv_nsec = ASK_PAUSE_NS };
    int64_t deadline_us = clock_us() + transaction_lock_timeout_ms(s) * 1000;
    for (;;) {
        bool ended = false, for_us = false;
        int rc = ask(s->conn, oids, writers, &ended, &for_us, err);
        if (rc < 0 || ended)
            return rc;
        if (for_us)
            return give_way(finding);
        if (clock_us() >= deadline_us)
            return too_long(err);
        (void)nanosleep(&pause, NULL);
    }
}

int
writers_wait(struct plan *plan, struct pgs_err *finding, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf oids = { 0 };
    int rc = 0;
    if (put_tables(&oids, plan))
        rc = pg_query(plan->session->conn, SQL_WRITERS, PG_PARAMS(buf_cstr(&oids)), &rows, err);
    const char *writers = rc == 0 && rows != NULL ? pg_cell(rows, 0, 0) : NULL;
    if (writers != NULL)
        rc = wait_for(plan->session, buf_cstr(&oids), writers, finding, err);
    pg_rows_free(rows);
    buf_release(&oids);
    return rc < 0 ? err_doing(err, "wait for transactions that were writing") : rc;
}
