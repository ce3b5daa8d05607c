/* conn.h: one connection to PostgreSQL. libpq's types stop in this folder.
 *
 * Every connection pins the settings that decide how values look (DESIGN 4.4) and checks that they
 * took, so that base, stream and restore render values identically. One thread at a time. */
#ifndef PG_CONN_H
#define PG_CONN_H

#include "core/arena.h"
#include "core/buf.h"
#include <pgstrata/error.h>

struct pg_conn;

/* Where and who. dsn: a connection string or URI, NULL for libpq's environment. The password
 * travels in the struct, never in argv or messages. */
struct pg_target {
    const char *dsn;
    const char *host, *port, *dbname, *user, *password; /* override the dsn where not NULL */
};

struct pg_open_opts {
    const char *application_name; /* NULL: "pgstrata" */
    bool replication;             /* replication=database: for pg/replication.h */
    int connect_timeout_s;        /* 0: 10 */
    struct pg_wires *wires;       /* pg/wires.h: another thread may cut it; NULL: none may */
};

/* A result table in text form; cells point into it. */
struct pg_rows;

PGS_CHECKED int pg_open(const struct pg_target *target, const struct pg_open_opts *opts,
                        struct pg_conn **conn, struct pgs_err *err);
void pg_close(struct pg_conn *c);               /* accepts NULL */
int pg_server_version(const struct pg_conn *c); /* 150018 */
int pg_socket(const struct pg_conn *c);
int pg_backend_pid(const struct pg_conn *c);

/* Runs SQL without parameters (also several statements); rows are dropped. */
PGS_CHECKED int pg_exec(struct pg_conn *c, const char *sql, struct pgs_err *err);
PGS_CHECKED int pg_execf(struct pg_conn *c, struct pgs_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* One statement with text parameters $1..$n (NULL: SQL NULL). `rows` may be NULL. */
PGS_CHECKED int pg_query(struct pg_conn *c, const char *sql, size_t param_count,
                         const char *const *params, struct pg_rows **rows, struct pgs_err *err);
#define PG_PARAMS(...)                                                                           \
    (sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *)), (const char *const[]) \
    {                                                                                            \
        __VA_ARGS__                                                                              \
    }
#define PG_NO_PARAMS 0, NULL

void pg_rows_free(struct pg_rows *r); /* accepts NULL */
size_t pg_rows_count(const struct pg_rows *r);
size_t pg_rows_columns(const struct pg_rows *r);
/* Rows changed by INSERT, UPDATE, DELETE, COPY; 0 otherwise. */
uint64_t pg_rows_affected(const struct pg_rows *r);
/* NULL for SQL NULL. Lives as long as the rows. */
const char *pg_cell(const struct pg_rows *r, size_t row, size_t column);
struct slice pg_cell_slice(const struct pg_rows *r, size_t row, size_t column);

/* COPY ... FROM STDIN: begin -> write... -> end. `abort_reason` not NULL makes the server fail
 * it. */
PGS_CHECKED int pg_copy_in_begin(struct pg_conn *c, const char *sql, struct pgs_err *err);
PGS_CHECKED int pg_copy_in_write(struct pg_conn *c, struct slice bytes, struct pgs_err *err);
PGS_CHECKED int pg_copy_in_end(struct pg_conn *c, const char *abort_reason, uint64_t *rows,
                               struct pgs_err *err);
/* COPY ... TO STDOUT: begin -> read until PGS_NONE. A row is valid until the next read. */
PGS_CHECKED int pg_copy_out_begin(struct pg_conn *c, const char *sql, struct pgs_err *err);
PGS_CHECKED int pg_copy_out_read(struct pg_conn *c, struct slice *row, struct pgs_err *err);

/* Takes the notifications (LISTEN) that have arrived, without waiting. */
typedef void pg_notification_fn(void *context, const char *channel, const char *payload);
PGS_CHECKED int pg_take_notifications(struct pg_conn *c, pg_notification_fn *fn, void *context,
                                      struct pgs_err *err);

/* Asks the server to cancel what runs; from any thread. */
void pg_cancel(struct pg_conn *c);

/* Notices go to diag debug; this collects the next ones into `sink` instead (NULL: stop). */
void pg_capture_notices(struct pg_conn *c, struct buf *sink);

#endif
