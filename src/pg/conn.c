#include "pg/conn.h"

#include "core/diag.h"
#include "core/err.h"
#include "pg/conn_internal.h"

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Settings that decide how a value looks as text and how text is read (DESIGN 4.4), and the user's
 * defaults that could end or distort long work. Checked after connecting: a setting that did not
 * take would silently make base and stream differ. Temporary tables come last in the search path,
 * so that none can stand in for a catalog. */
static const struct pin {
    const char *name, *value;
} pins[] = {
    { "client_encoding", "UTF8" },
    { "datestyle", "ISO, YMD" },
    { "intervalstyle", "postgres" },
    { "timezone", "UTC" },
    { "extra_float_digits", "3" },
    { "bytea_output", "hex" },
    { "lc_monetary", "C" },
    { "lc_numeric", "C" },
    { "xmloption", "content" },
    { "search_path", "pg_catalog, pg_temp" },
    { "array_nulls", "on" },
    { "transform_null_equals", "off" },
    { "quote_all_identifiers", "off" },
    { "standard_conforming_strings", "on" },
    { "row_security", "off" },
    { "statement_timeout", "0" },
    { "lock_timeout", "0" },
    { "idle_in_transaction_session_timeout", "0" },
    { "idle_session_timeout", "0" },
    { "default_transaction_isolation", "read committed" },
    { "default_transaction_read_only", "off" },
};
#define PIN_COUNT (sizeof(pins) / sizeof(pins[0]))
/* From 17 on; in the startup packet it would make older servers refuse the connection. */
#define TRANSACTION_TIMEOUT_SINCE 170000
#define CONNECT_TIMEOUT_S 10
#define PARAMS_MAX 64

static const char *
field_of(const PGresult *result, int code)
{
    return result != NULL ? PQresultErrorField(result, code) : NULL;
}

/* libpq's own words: a line for each address tried, with more of it behind a tab. */
static void
put_lines(struct buf *text, const char *lines)
{
    for (const char *p = lines; *p != '\0'; p += *p == '\n') {
        bool goes_on = *p == '\t';
        p += goes_on;
        size_t size = strcspn(p, "\n");
        if (size > 0 && text->size > 0)
            buf_put_str(text, goes_on ? " " : "; ");
        buf_put(text, p, size);
        p += size;
    }
}

/* The detail of a violated constraint holds the row: its table is told instead. */
static void
put_server_words(struct buf *text, const PGresult *result, const char *state)
{
    bool row_data = state != NULL && strncmp(state, "23", 2) == 0;
    const char *detail = field_of(result, PG_DIAG_MESSAGE_DETAIL);
    const char *schema = field_of(result, PG_DIAG_SCHEMA_NAME);
    const char *table = field_of(result, PG_DIAG_TABLE_NAME);
    buf_put_str(text, field_of(result, PG_DIAG_MESSAGE_PRIMARY));
    if (row_data && schema != NULL && table != NULL)
        buf_printf(text, " (table %s.%s)", schema, table);
    else if (!row_data && detail != NULL)
        buf_printf(text, ": %s", detail);
}

int
pg_fail(struct pg_conn *c, const PGresult *result, const char *doing, struct pgs_err *err)
{
    const char *state = field_of(result, PG_DIAG_SQLSTATE);
    const char *hint = field_of(result, PG_DIAG_MESSAGE_HINT);
    struct buf text = { 0 };
    if (field_of(result, PG_DIAG_MESSAGE_PRIMARY) != NULL)
        put_server_words(&text, result, state);
    else
        put_lines(&text, PQerrorMessage(c->pq));
    if (text.size == 0)
        buf_put_str(&text, PQstatus(c->pq) == CONNECTION_OK ? "the server's answer was another"
                                                            : "the connection was lost");
    (void)err_set(err, PGS_E_DATABASE, "%s%s%s", doing != NULL ? doing : "",
                  doing != NULL ? ": " : "", buf_cstr(&text));
    buf_release(&text);
    if (state != NULL)
        snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state);
    if (hint != NULL)
        (void)err_hint(err, "%s", hint);
    return err->kind;
}

static void
notice(void *context, const PGresult *result)
{
    struct pg_conn *c = context;
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (text == NULL)
        return;
    if (c->notices != NULL)
        buf_printf(c->notices, "%s\n", text);
    else
        diag_debug("notice", DIAG_NO_FIELDS, "%s", text);
}

struct params {
    const char *keys[PARAMS_MAX];
    const char *values[PARAMS_MAX];
    size_t count;
};

static void
params_set(struct params *p, const char *key, const char *value)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->keys[i], key) == 0) {
            p->values[i] = value;
            return;
        }
    }
    pgs_assert(p->count + 1 < PARAMS_MAX);
    p->keys[p->count] = key;
    p->values[p->count++] = value;
}

static const char *
params_get(const struct params *p, const char *key)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->keys[i], key) == 0)
            return p->values[i];
    }
    return "";
}

/* -c name=value for every pin, behind the user's own options, so that ours win. */
static void
put_options(struct buf *options, const char *users)
{
    buf_put_str(options, users);
    for (size_t i = 0; i < PIN_COUNT; i++) {
        if (strcmp(pins[i].name, "client_encoding") == 0)
            continue; /* a startup parameter of its own */
        buf_printf(options, " -c %s=", pins[i].name);
        for (const char *p = pins[i].value; *p != '\0'; p++)
            buf_printf(options, *p == ' ' ? "\\%c" : "%c", *p);
    }
}

static int
params_from_dsn(const char *dsn, PQconninfoOption **parsed, struct params *p, struct pgs_err *err)
{
    char *problem = NULL;
    *parsed = PQconninfoParse(dsn, &problem);
    /* libpq's message may quote the string, and with it a password. */
    PQfreemem(problem);
    if (*parsed == NULL) {
        (void)err_set(err, PGS_E_USAGE, "the connection string cannot be parsed");
        return err_hint(err, "write it as 'host=db1 dbname=app user=strata' or postgresql://...");
    }
    for (PQconninfoOption *o = *parsed; o->keyword != NULL; o++) {
        if (o->val != NULL)
            params_set(p, o->keyword, o->val);
    }
    return 0;
}

static void
params_from_target(const struct pg_target *t, struct params *p)
{
    const char *const given[][2] = { { "host", t->host },
                                     { "port", t->port },
                                     { "dbname", t->dbname },
                                     { "user", t->user },
                                     { "password", t->password } };
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        if (given[i][1] != NULL)
            params_set(p, given[i][0], given[i][1]);
    }
}

static int
connect_with(const struct params *p, struct pg_conn *c, struct pgs_err *err)
{
    c->pq = PQconnectdbParams(p->keys, p->values, 0);
    if (c->pq == NULL)
        abort();
    PQsetNoticeReceiver(c->pq, notice, c);
    if (PQstatus(c->pq) != CONNECTION_OK) {
        (void)pg_fail(c, NULL, "cannot connect", err);
        return err_hint(err,
                        "check host, port, database, user and password, and that PostgreSQL runs");
    }
    return 0;
}

static int
settings_query(struct pg_conn *c, PGresult **result, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "SELECT current_setting('server_encoding')");
    for (size_t i = 0; i < PIN_COUNT; i++)
        buf_printf(&sql, ", current_setting('%s')", pins[i].name);
    PGresult *r = PQexec(c->pq, buf_cstr(&sql));
    buf_release(&sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        (void)pg_fail(c, r, "cannot check settings", err);
        PQclear(r);
        return err->kind;
    }
    *result = r;
    return 0;
}

/* Sets every setting that is not as it must be. Spelling never differs here ("off" and "false"), so
 * what SHOW answers is compared. */
static void
put_mismatches(struct buf *sql, const struct pg_conn *c, const PGresult *r)
{
    for (size_t i = 0; i < PIN_COUNT; i++) {
        if (strcmp(PQgetvalue(r, 0, (int)i + 1), pins[i].value) != 0)
            buf_printf(sql, "SELECT set_config('%s', '%s', false); ", pins[i].name, pins[i].value);
    }
    if (PQserverVersion(c->pq) >= TRANSACTION_TIMEOUT_SINCE)
        buf_put_str(sql, "SET transaction_timeout = 0; ");
}

static int
refuse_mismatch(const PGresult *r, struct pgs_err *err)
{
    for (size_t i = 0; i < PIN_COUNT; i++) {
        const char *now = PQgetvalue(r, 0, (int)i + 1);
        if (strcmp(now, pins[i].value) != 0)
            return err_set(err, PGS_E_REFUSED, "setting %s is \"%s\", not \"%s\"", pins[i].name,
                           now, pins[i].value);
    }
    return 0;
}

/* libpq sends PGTZ and PGDATESTYLE behind our options, so they would win: what did not take is set
 * again, and only then refused. */
static int
pins_check(struct pg_conn *c, struct pgs_err *err)
{
    struct buf sql = { 0 };
    PGresult *r = NULL;
    int rc = settings_query(c, &r, err);
    if (rc == 0 && strcmp(PQgetvalue(r, 0, 0), "SQL_ASCII") == 0) {
        (void)err_set(err, PGS_E_REFUSED, "the database's encoding is SQL_ASCII");
        rc = err_hint(err, "its bytes have no meaning to archive: move it to UTF8");
    }
    if (rc == 0)
        put_mismatches(&sql, c, r);
    if (rc == 0 && sql.size > 0) {
        PQclear(r);
        r = NULL;
        rc = pg_exec(c, buf_cstr(&sql), err);
        if (rc == 0)
            rc = settings_query(c, &r, err);
        if (rc == 0)
            rc = refuse_mismatch(r, err);
    }
    PQclear(r);
    buf_release(&sql);
    return rc;
}

int
pg_open(const struct pg_target *target, const struct pg_open_opts *opts, struct pg_conn **conn,
        struct pgs_err *err)
{
    struct params p = { .count = 0 };
    struct buf options = { 0 };
    PQconninfoOption *parsed = NULL;
    char timeout[16];
    struct pg_conn *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    int rc = target->dsn != NULL ? params_from_dsn(target->dsn, &parsed, &p, err) : 0;
    if (rc == 0) {
        params_from_target(target, &p);
        const char *users = params_get(&p, "options");
        put_options(&options,
                    users[0] == '\0' && getenv("PGOPTIONS") != NULL ? getenv("PGOPTIONS") : users);
        snprintf(timeout, sizeof(timeout), "%d",
                 opts->connect_timeout_s > 0 ? opts->connect_timeout_s : CONNECT_TIMEOUT_S);
        params_set(&p, "options", buf_cstr(&options));
        params_set(&p, "client_encoding", "UTF8");
        params_set(&p, "application_name",
                   opts->application_name != NULL ? opts->application_name : "pgstrata");
        params_set(&p, "connect_timeout", timeout);
        if (opts->replication)
            params_set(&p, "replication", "database");
        rc = connect_with(&p, c, err);
    }
    if (rc == 0) {
        pg_wire_add(c, opts->wires);
        rc = pins_check(c, err);
    }
    PQconninfoFree(parsed);
    buf_release(&options);
    if (rc < 0) {
        pg_close(c);
        return rc;
    }
    *conn = c;
    return 0;
}

void
pg_close(struct pg_conn *c)
{
    if (c == NULL)
        return;
    pg_wire_remove(c);
    PQfreemem(c->message);
    PQfinish(c->pq);
    free(c);
}

int
pg_server_version(const struct pg_conn *c)
{
    return PQserverVersion(c->pq);
}

int
pg_socket(const struct pg_conn *c)
{
    return PQsocket(c->pq);
}

int
pg_backend_pid(const struct pg_conn *c)
{
    return PQbackendPID(c->pq);
}

static bool
succeeded(const PGresult *r)
{
    ExecStatusType status = PQresultStatus(r);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

int
pg_exec(struct pg_conn *c, const char *sql, struct pgs_err *err)
{
    PGresult *r = PQexec(c->pq, sql);
    int rc = succeeded(r) ? 0 : pg_fail(c, r, NULL, err);
    PQclear(r);
    return rc;
}

int
pg_execf(struct pg_conn *c, struct pgs_err *err, const char *fmt, ...)
{
    char *sql = NULL;
    va_list args;
    va_start(args, fmt);
    int size = vasprintf(&sql, fmt, args);
    va_end(args);
    if (size < 0)
        abort();
    int rc = pg_exec(c, sql, err);
    free(sql);
    return rc;
}

int
pg_query(struct pg_conn *c, const char *sql, size_t param_count, const char *const *params,
         struct pg_rows **rows, struct pgs_err *err)
{
    PGresult *r = PQexecParams(c->pq, sql, (int)param_count, NULL, params, NULL, NULL, 0);
    if (!succeeded(r)) {
        (void)pg_fail(c, r, NULL, err);
        PQclear(r);
        return err->kind;
    }
    if (rows == NULL)
        PQclear(r);
    else
        *rows = (struct pg_rows *)r;
    return 0;
}

static const PGresult *
result_of(const struct pg_rows *r)
{
    return (const PGresult *)r;
}

void
pg_rows_free(struct pg_rows *r)
{
    PQclear((PGresult *)r);
}

size_t
pg_rows_count(const struct pg_rows *r)
{
    return (size_t)PQntuples(result_of(r));
}

size_t
pg_rows_columns(const struct pg_rows *r)
{
    return (size_t)PQnfields(result_of(r));
}

uint64_t
pg_rows_affected(const struct pg_rows *r)
{
    return strtoull(PQcmdTuples((PGresult *)(uintptr_t)r), NULL, 10);
}

const char *
pg_cell(const struct pg_rows *r, size_t row, size_t column)
{
    if (PQgetisnull(result_of(r), (int)row, (int)column))
        return NULL;
    return PQgetvalue(result_of(r), (int)row, (int)column);
}

struct slice
pg_cell_slice(const struct pg_rows *r, size_t row, size_t column)
{
    const char *text = pg_cell(r, row, column);
    return text == NULL ? SLICE_NULL
                        : slice_of(text, (size_t)PQgetlength(result_of(r), (int)row, (int)column));
}

/* Takes every remaining result; the first failure is the answer. */
static int
drain_results(struct pg_conn *c, uint64_t *rows, struct pgs_err *err)
{
    int rc = 0;
    PGresult *r;
    while ((r = PQgetResult(c->pq)) != NULL) {
        if (!succeeded(r) && rc == 0)
            rc = pg_fail(c, r, NULL, err);
        if (rc == 0 && rows != NULL)
            *rows = strtoull(PQcmdTuples(r), NULL, 10);
        PQclear(r);
    }
    return rc;
}

static int
copy_begin(struct pg_conn *c, const char *sql, ExecStatusType expected, struct pgs_err *err)
{
    PGresult *r = PQexec(c->pq, sql);
    int rc = 0;
    if (PQresultStatus(r) != expected)
        rc = succeeded(r) ? err_set(err, PGS_E_DATABASE, "the statement is no such COPY")
                          : pg_fail(c, r, NULL, err);
    PQclear(r);
    return rc;
}

int
pg_copy_in_begin(struct pg_conn *c, const char *sql, struct pgs_err *err)
{
    return copy_begin(c, sql, PGRES_COPY_IN, err);
}

int
pg_copy_in_write(struct pg_conn *c, struct slice bytes, struct pgs_err *err)
{
    /* libpq counts in int. */
    const size_t most = (size_t)1 << 30;
    while (bytes.size > 0) {
        size_t size = bytes.size < most ? bytes.size : most;
        if (PQputCopyData(c->pq, (const char *)bytes.data, (int)size) != 1)
            return pg_fail(c, NULL, "cannot send COPY data", err);
        bytes = slice_of(bytes.data + size, bytes.size - size);
    }
    return 0;
}

int
pg_copy_in_end(struct pg_conn *c, const char *abort_reason, uint64_t *rows, struct pgs_err *err)
{
    uint64_t count = 0;
    if (PQputCopyEnd(c->pq, abort_reason) != 1)
        return pg_fail(c, NULL, "cannot end COPY", err);
    int rc = drain_results(c, &count, err);
    if (rc == 0 && rows != NULL)
        *rows = count;
    return rc;
}

int
pg_copy_out_begin(struct pg_conn *c, const char *sql, struct pgs_err *err)
{
    return copy_begin(c, sql, PGRES_COPY_OUT, err);
}

int
pg_copy_out_read(struct pg_conn *c, struct slice *row, struct pgs_err *err)
{
    PQfreemem(c->message);
    c->message = NULL;
    int size = PQgetCopyData(c->pq, &c->message, 0);
    if (size >= 0) {
        *row = slice_of(c->message, (size_t)size);
        return 0;
    }
    if (size == -2)
        return pg_fail(c, NULL, "cannot read COPY data", err);
    int rc = drain_results(c, NULL, err);
    return rc < 0 ? rc : PGS_NONE;
}

void
pg_cancel(struct pg_conn *c)
{
    char ignored[256];
    PGcancel *cancel = PQgetCancel(c->pq);
    if (cancel != NULL)
        (void)PQcancel(cancel, ignored, sizeof(ignored));
    PQfreeCancel(cancel);
}

void
pg_capture_notices(struct pg_conn *c, struct buf *sink)
{
    c->notices = sink;
}

int
pg_take_notifications(struct pg_conn *c, pg_notification_fn *fn, void *context, struct pgs_err *err)
{
    if (PQconsumeInput(c->pq) != 1)
        return pg_fail(c, NULL, "cannot read notifications", err);
    PGnotify *n;
    while ((n = PQnotifies(c->pq)) != NULL) {
        fn(context, n->relname, n->extra);
        PQfreemem(n);
    }
    return 0;
}
