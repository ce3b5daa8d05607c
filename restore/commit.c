#include "restore/commit.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define ASK_PAUSE_NS (100L * 1000 * 1000)

enum outcome { OUTCOME_UNKNOWN, OUTCOME_COMMITTED, OUTCOME_ABORTED };

/* While the old session has not ended, its transaction is still "in progress". */
static int
status_read(struct pg_conn *c, uint64_t xid, enum outcome *outcome, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, xid);
    int rc = pg_query(c, "SELECT pg_xact_status($1::text::xid8)", PG_PARAMS(text), &rows, err);
    const char *status = rc == 0 ? pg_cell(rows, 0, 0) : NULL;
    *outcome = OUTCOME_UNKNOWN;
    if (status != NULL && strcmp(status, "committed") == 0)
        *outcome = OUTCOME_COMMITTED;
    else if (status != NULL && strcmp(status, "aborted") == 0)
        *outcome = OUTCOME_ABORTED;
    pg_rows_free(rows);
    return rc;
}

/* A server that restarts refuses connections for a while. */
static enum outcome
outcome_ask(struct restore_session *s, uint64_t xid, int64_t wait_ms, struct pg_conn **conn)
{
    struct pg_open_opts opts = { .application_name = "pgstrata restore" };
    int64_t deadline_us = clock_us() + wait_ms * 1000;
    enum outcome outcome = OUTCOME_UNKNOWN;
    while (outcome == OUTCOME_UNKNOWN && clock_us() < deadline_us) {
        struct pgs_err ignored;
        const struct timespec pause = { .tv_nsec = ASK_PAUSE_NS };
        int rc = *conn != NULL ? 0 : pg_open(&s->env->target, &opts, conn, &ignored);
        if (rc == 0)
            rc = status_read(*conn, xid, &outcome, &ignored);
        if (rc < 0) {
            pg_close(*conn);
            *conn = NULL;
        }
        if (outcome == OUTCOME_UNKNOWN)
            (void)nanosleep(&pause, NULL);
    }
    return outcome;
}

static int
unknown(uint64_t xid, struct pgs_err *err)
{
    struct pgs_err cause = *err;
    (void)err_set(err, PGS_E_FAILED,
                  "the connection ended at COMMIT, and whether transaction %" PRIu64
                  " was committed could not be learnt: %s",
                  xid, cause.message);
    (void)err_code(err, "outcome_unknown");
    return err_hint(err, "`SELECT pg_xact_status('%" PRIu64 "')` tells once the server answers",
                    xid);
}

int
commit_restore(struct restore_session *s, uint64_t xid, int64_t wait_ms, struct pgs_err *err)
{
    struct pg_conn *conn = NULL;
    int rc = pg_exec(s->conn, "COMMIT", err);
    if (rc == 0)
        return 0;
    enum outcome outcome = outcome_ask(s, xid, wait_ms, &conn);
    if (outcome == OUTCOME_COMMITTED) {
        pg_close(s->conn);
        s->conn = conn;
        return 0;
    }
    pg_close(conn);
    return outcome == OUTCOME_ABORTED ? rc : unknown(xid, err);
}
