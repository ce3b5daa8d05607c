#include "restore/transaction.h"

#include "core/err.h"

#include <inttypes.h>
#include <stdio.h>

#define LOCK_TIMEOUT_MS_DEFAULT 10000
/* Of two that wait for each other, the one that looks first gives way: let that be us. */
#define DEADLOCK_TIMEOUT "100ms"
#define WORK_MEM "64MB"

/* From 15 on the right to set a parameter can be granted. */
#define VERSION_PARAMETER_PRIVILEGES 150000
#define MAY_SET(name) "has_parameter_privilege('" name "', 'SET')"
#define IS_SUPERUSER "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"

/* What both kinds of transaction need: SQL written by pgstrata must not be cancelled by timeouts
 * that were meant for the application, nor compiled for longer than it runs, nor quietly
 * filtered. */
#define SETTINGS_COMMON                                                                 \
    "set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true)," \
    " set_config('idle_in_transaction_session_timeout', '0', true),"                    \
    " set_config('row_security', 'off', true), set_config('jit', 'off', true),"         \
    " set_config('work_mem', '" WORK_MEM "', true)"

int64_t
transaction_lock_timeout_ms(const struct restore_session *s)
{
    return s->env->lock_timeout_ms > 0 ? s->env->lock_timeout_ms : LOCK_TIMEOUT_MS_DEFAULT;
}

static int
begin(struct restore_session *s, const char *statement, const char *settings, bool *replica,
      struct pgs_err *err)
{
    char timeout[24];
    struct pg_rows *rows = NULL;
    snprintf(timeout, sizeof(timeout), "%" PRId64, transaction_lock_timeout_ms(s));
    int rc = pg_exec(s->conn, statement, err);
    if (rc == 0)
        rc = pg_query(s->conn, settings, PG_PARAMS(timeout), &rows, err);
    if (rc == 0 && replica != NULL)
        *replica = pg_cell(rows, 0, 0) != NULL;
    pg_rows_free(rows);
    return rc;
}

int
transaction_begin(struct restore_session *s, bool *replica, struct pgs_err *err)
{
    static const char granted[] = "SELECT CASE WHEN " MAY_SET(
        "session_replication_role") " THEN set_config('session_replication_role', 'replica', true) "
                                    "END,"
                                    " CASE WHEN " MAY_SET(
                                        "deadlock_timeout") " THEN set_config('deadlock_timeout', "
                                                            "'" DEADLOCK_TIMEOUT
                                                            "', true) END, " SETTINGS_COMMON;
    static const char superuser[] =
        "SELECT CASE WHEN " IS_SUPERUSER
        " THEN set_config('session_replication_role', 'replica', true) END,"
        " CASE WHEN " IS_SUPERUSER " THEN set_config('deadlock_timeout', '" DEADLOCK_TIMEOUT
        "', true) END, " SETTINGS_COMMON;
    bool grants = pg_server_version(s->conn) >= VERSION_PARAMETER_PRIVILEGES;
    return begin(s, "BEGIN ISOLATION LEVEL READ COMMITTED", grants ? granted : superuser, replica,
                 err);
}

int
transaction_begin_preview(struct restore_session *s, struct pgs_err *err)
{
    return begin(s, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT " SETTINGS_COMMON, NULL, err);
}

void
transaction_rollback(struct restore_session *s)
{
    struct pgs_err ignored;
    if (pg_exec(s->conn, "ROLLBACK", &ignored) < 0)
        return; /* the connection is gone, and with it the transaction */
}

int
transaction_lock_tables(struct plan *plan, struct pgs_err *err)
{
    struct buf sql = { 0 };
    int rc = 0;
    buf_put_str(&sql, "LOCK TABLE ");
    for (size_t i = 0; i < plan->table_count; i++)
        buf_printf(&sql, "%sONLY %s", i == 0 ? "" : ", ", plan->tables[i].sql_name);
    buf_put_str(&sql, " IN ROW EXCLUSIVE MODE");
    if (plan->table_count > 0)
        rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

static struct plan_table *
tenants_table(const struct plan *plan)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (plan->tables[i].live->is_tenants_table)
            return &plan->tables[i];
    }
    return NULL;
}

int
transaction_lock_tenant(struct plan *plan, struct pgs_err *err)
{
    const struct plan_table *t = tenants_table(plan);
    struct buf sql = { 0 };
    if (t == NULL)
        return 0;
    buf_printf(&sql, "SELECT FROM ONLY %s WHERE %s = $1 FOR UPDATE", t->sql_name,
               t->sql_columns[t->live->tenant_column]);
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_PARAMS(plan->tenant_text), NULL, err);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "lock the tenant's row") : 0;
}

int
transaction_name_blocker(struct plan *plan, struct pg_conn *aux, int rc, struct pgs_err *err)
{
    /* The wait is over, so nobody blocks us any more: the oldest transaction at work on one of the
     * tables is named, which is the one to look at. */
    static const char sql[] =
        "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'), coalesce(a.usename, "
        "''),"
        " extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, l.relation::regclass"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY($1::oid[])"
        "  AND l.mode <> 'AccessShareLock' AND l.pid <> ALL ($2::int[])"
        " ORDER BY a.xact_start LIMIT 1";
    struct pgs_err ignored;
    struct pg_rows *rows = NULL;
    struct buf oids = { 0 };
    char pids[48];
    if (rc >= 0 || strcmp(err->sqlstate, TRANSACTION_LOCK_TIMEOUT) != 0 || aux == NULL)
        return rc;
    snprintf(pids, sizeof(pids), "{%d,%d}", pg_backend_pid(plan->session->conn),
             pg_backend_pid(aux));
    buf_put_u8(&oids, '{');
    for (size_t i = 0; i < plan->table_count; i++)
        buf_printf(&oids, "%s%u", i == 0 ? "" : ",", plan->tables[i].live->oid);
    buf_put_u8(&oids, '}');
    if (pg_query(aux, sql, PG_PARAMS(buf_cstr(&oids), pids), &rows, &ignored) == 0 &&
        pg_rows_count(rows) > 0)
        err_hint(err,
                 "process %s (%s, user %s) has had a transaction open for %s s on %s: end it, or "
                 "wait longer with --lock-timeout",
                 pg_cell(rows, 0, 0), pg_cell(rows, 0, 1), pg_cell(rows, 0, 2), pg_cell(rows, 0, 3),
                 pg_cell(rows, 0, 4));
    pg_rows_free(rows);
    buf_release(&oids);
    return rc;
}

int
tenant_lock(struct pg_conn *c, const char *tenant, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, "SELECT pg_try_advisory_lock(hashtextextended('pgstrata ' || $1, 0))",
                      PG_PARAMS(tenant), &rows, err);
    if (rc == 0 && pg_cell(rows, 0, 0)[0] != 't') {
        err_set(err, PGS_E_CONFLICT, "another job is writing to tenant %s", tenant);
        err_code(err, "busy");
        rc = err_hint(err, "wait until it has ended");
    }
    pg_rows_free(rows);
    return rc;
}

void
tenant_unlock(struct pg_conn *c, const char *tenant)
{
    struct pgs_err ignored;
    if (pg_query(c, "SELECT pg_advisory_unlock(hashtextextended('pgstrata ' || $1, 0))",
                 PG_PARAMS(tenant), NULL, &ignored) < 0)
        return; /* closing the connection unlocks too */
}
