#include "pg/replication.h"

#include "core/cursor.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/conn_internal.h"
#include "pg/quote.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define STOP_WAIT_US (INT64_C(5) * 1000 * 1000)
#define STOP_POLL_MS 100
#define LOCK_NOT_AVAILABLE "55P03"
#define TRANSACTION_WAIT_S 60

static int
run(struct pg_conn *c, const char *command, PGresult **result, struct pgs_err *err)
{
    PGresult *r = PQexec(c->pq, command);
    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1) {
        (void)pg_fail(c, r, NULL, err);
        PQclear(r);
        return err->kind;
    }
    *result = r;
    return 0;
}

int
replication_identify(struct pg_conn *c, struct server_identity *id, struct pgs_err *err)
{
    PGresult *r = NULL;
    struct server_identity found;
    int rc = run(c, "IDENTIFY_SYSTEM", &r, err);
    if (rc < 0)
        return err_doing(err, "identify the server");
    found.system_id = strtoull(PQgetvalue(r, 0, 0), NULL, 10);
    found.timeline = (uint32_t)strtoul(PQgetvalue(r, 0, 1), NULL, 10);
    rc = lsn_parse(PQgetvalue(r, 0, 2), &found.flush_lsn, err);
    PQclear(r);
    if (rc == 0)
        *id = found;
    return rc;
}

/* A line "<timeline>\t<LSN>\t<reason>"; others (comments, blank) are skipped. */
static bool
history_line(const char *line, struct timeline_switch *out)
{
    char *end = NULL;
    char lsn[LSN_TEXT_MAX];
    struct pgs_err ignored;
    unsigned long timeline = strtoul(line, &end, 10);
    if (end == line || *end != '\t')
        return false;
    snprintf(lsn, sizeof(lsn), "%.*s", (int)strcspn(end + 1, "\t\n"), end + 1);
    out->timeline = (uint32_t)timeline;
    return lsn_parse(lsn, &out->end, &ignored) == 0;
}

int
replication_timeline_history(struct pg_conn *c, uint32_t timeline, struct arena *arena,
                             struct timeline_switch **switches, size_t *count, struct pgs_err *err)
{
    char command[64];
    PGresult *r = NULL;
    *switches = NULL;
    *count = 0;
    if (timeline <= 1)
        return 0;
    snprintf(command, sizeof(command), "TIMELINE_HISTORY %u", timeline);
    int rc = run(c, command, &r, err);
    if (rc < 0)
        return err_doing(err, "read the history of timeline %u", timeline);
    const char *text = PQgetvalue(r, 0, 1);
    struct timeline_switch *list = arena_alloc_array(arena, strlen(text) + 1, sizeof(*list));
    size_t n = 0;
    for (const char *line = text; *line != '\0';) {
        if (history_line(line, &list[n]))
            n++;
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    PQclear(r);
    *switches = list;
    *count = n;
    return 0;
}

static void
put_slot_options(struct buf *sql, const struct pg_conn *c, bool temporary, bool export_snapshot)
{
    int version = PQserverVersion(c->pq);
    if (version < 150000)
        buf_put_str(sql, export_snapshot ? " EXPORT_SNAPSHOT" : " NOEXPORT_SNAPSHOT");
    else
        buf_printf(sql, " (SNAPSHOT '%s'%s)", export_snapshot ? "export" : "nothing",
                   version >= 170000 && !temporary ? ", FAILOVER true" : "");
}

/* The transaction that has kept the server waiting, in words. */
static int
name_blocker(struct pg_conn *c, struct pgs_err *err)
{
    PGresult *r = PQexec(
        c->pq,
        "SELECT x.name, date_trunc('second', now() - x.since) FROM ("
        "  SELECT 'process ' || pid || ' of ' || coalesce(usename, 'another role'), xact_start"
        "    FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        "  UNION ALL SELECT 'prepared transaction ' || quote_literal(gid), prepared"
        "    FROM pg_prepared_xacts) x (name, since) ORDER BY x.since LIMIT 1");
    if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1)
        (void)err_set(err, PGS_E_DATABASE,
                      "waited %d s for open transactions; the oldest, of %s, is open for %s",
                      TRANSACTION_WAIT_S, PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    PQclear(r);
    return err_hint(err, "it goes on when that transaction has ended");
}

int
replication_create_slot(struct pg_conn *c, const char *name, bool temporary, bool export_snapshot,
                        struct slot_created *created, struct pgs_err *err)
{
    struct buf sql = { 0 };
    PGresult *r = NULL;
    buf_put_str(&sql, "CREATE_REPLICATION_SLOT ");
    int rc = quote_ident(c, &sql, slice_str(name), err);
    buf_put_str(&sql, temporary ? " TEMPORARY LOGICAL pgoutput" : " LOGICAL pgoutput");
    put_slot_options(&sql, c, temporary, export_snapshot);
    /* The server waits for transactions as for locks. */
    if (rc == 0)
        rc = pg_execf(c, err, "SET lock_timeout = '%ds'", TRANSACTION_WAIT_S);
    if (rc == 0)
        rc = run(c, buf_cstr(&sql), &r, err);
    if (rc < 0 && strcmp(err->sqlstate, LOCK_NOT_AVAILABLE) == 0)
        rc = name_blocker(c, err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "create slot %s", name);
    struct slot_created made = { 0 };
    rc = lsn_parse(PQgetvalue(r, 0, 1), &made.consistent_point, err);
    if (export_snapshot)
        snprintf(made.snapshot, sizeof(made.snapshot), "%s", PQgetvalue(r, 0, 2));
    PQclear(r);
    if (rc == 0)
        *created = made;
    return rc;
}

int
replication_start(struct pg_conn *c, const char *slot, pgs_lsn start, const char *publication,
                  struct pgs_err *err)
{
    struct buf sql = { 0 }, names = { 0 };
    buf_put_str(&sql, "START_REPLICATION SLOT ");
    int rc = quote_ident(c, &sql, slice_str(slot), err);
    if (rc == 0)
        rc = quote_ident(c, &names, slice_str(publication), err);
    buf_printf(&sql,
               " LOGICAL " PGS_LSN_FMT " (proto_version '1', messages 'true', publication_names ",
               PGS_LSN_ARGS(start));
    if (rc == 0)
        rc = quote_literal(c, &sql, buf_slice(&names), err);
    buf_put_str(&sql, ")");
    if (rc == 0) {
        PGresult *r = PQexec(c->pq, buf_cstr(&sql));
        if (PQresultStatus(r) != PGRES_COPY_BOTH)
            rc = pg_fail(c, r, NULL, err);
        PQclear(r);
    }
    buf_release(&names);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "start streaming from slot %s", slot) : 0;
}

static int
message_parse_frame(struct slice bytes, struct replication_message *m, struct pgs_err *err)
{
    struct cursor c = cursor_of(bytes);
    struct replication_message out = { 0 };
    uint8_t kind = cursor_u8(&c);
    if (kind == 'w') {
        out.event = REPLICATION_DATA;
        out.wal_start = cursor_be64(&c);
        out.wal_end = cursor_be64(&c);
        (void)cursor_be64(&c); /* the server's clock */
        out.bytes = cursor_bytes(&c, cursor_left(&c));
    } else {
        out.event = REPLICATION_KEEPALIVE;
        out.wal_end = cursor_be64(&c);
        (void)cursor_be64(&c);
        out.reply_requested = cursor_u8(&c) != 0;
    }
    if ((kind != 'w' && kind != 'k') || !cursor_at_end(&c))
        return err_set(err, PGS_E_CORRUPT, "replication message of kind %u, %zu bytes", kind,
                       bytes.size);
    *m = out;
    return 0;
}

static int
stream_ended(struct pg_conn *c, struct replication_message *m, struct pgs_err *err)
{
    PGresult *r = PQgetResult(c->pq);
    ExecStatusType status = PQresultStatus(r);
    int rc = 0;
    if (r != NULL && status != PGRES_COPY_IN && status != PGRES_COMMAND_OK)
        rc = pg_fail(c, r, "the stream ended", err);
    PQclear(r);
    if (rc == 0)
        *m = (struct replication_message){ .event = REPLICATION_END };
    return rc;
}

int
replication_read(struct pg_conn *c, struct replication_message *m, struct pgs_err *err)
{
    PQfreemem(c->message);
    c->message = NULL;
    int size = PQgetCopyData(c->pq, &c->message, 1);
    if (size == 0) {
        if (PQconsumeInput(c->pq) != 1)
            return pg_fail(c, NULL, "cannot read the stream", err);
        size = PQgetCopyData(c->pq, &c->message, 1);
    }
    if (size == -2)
        return pg_fail(c, NULL, "cannot read the stream", err);
    if (size == -1)
        return stream_ended(c, m, err);
    if (size == 0) {
        *m = (struct replication_message){ .event = REPLICATION_WAIT };
        return 0;
    }
    return message_parse_frame(slice_of(c->message, (size_t)size), m, err);
}

int
replication_poll(struct pg_conn *c, int wake_fd, int timeout_ms, struct pgs_err *err)
{
    struct pollfd fds[2] = { { .fd = PQsocket(c->pq), .events = POLLIN },
                             { .fd = wake_fd, .events = POLLIN } };
    if (poll(fds, wake_fd >= 0 ? 2 : 1, timeout_ms) < 0 && errno != EINTR)
        return err_set_errno(err, PGS_E_FAILED, "cannot wait for the stream");
    return 0;
}

int
replication_status(struct pg_conn *c, pgs_lsn confirmed, bool request_reply, struct pgs_err *err)
{
    struct buf b = { 0 };
    buf_put_u8(&b, 'r');
    buf_put_be64(&b, confirmed); /* written */
    buf_put_be64(&b, confirmed); /* flushed */
    buf_put_be64(&b, confirmed); /* applied */
    buf_put_be64(&b, (uint64_t)time_now());
    buf_put_u8(&b, request_reply ? 1 : 0);
    bool sent = PQputCopyData(c->pq, (const char *)b.data, (int)b.size) == 1 && PQflush(c->pq) >= 0;
    buf_release(&b);
    return sent ? 0 : pg_fail(c, NULL, "cannot send a status update", err);
}

int
replication_stop(struct pg_conn *c, struct pgs_err *err)
{
    if (PQputCopyEnd(c->pq, NULL) != 1 || PQflush(c->pq) < 0)
        return pg_fail(c, NULL, "cannot end the stream", err);
    /* What was under way still arrives; none of it is taken, none of it is confirmed. */
    int64_t deadline_us = clock_us() + STOP_WAIT_US;
    struct replication_message m = { .event = REPLICATION_WAIT };
    int rc = 0;
    while (rc == 0 && m.event != REPLICATION_END && clock_us() < deadline_us) {
        rc = replication_read(c, &m, err);
        if (rc == 0 && m.event == REPLICATION_WAIT)
            rc = replication_poll(c, -1, STOP_POLL_MS, err);
    }
    return rc;
}
