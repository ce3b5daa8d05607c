#include "strata/barrier.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "pg/messages.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#define BARRIER_ID_BYTES 16

static int
barrier_id(char text[2 * BARRIER_ID_BYTES + 1], struct pgs_err *err)
{
    uint8_t random[BARRIER_ID_BYTES];
    if (RAND_bytes(random, sizeof(random)) != 1)
        return err_set(err, PGS_E_FAILED, "cannot make a random barrier id");
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    return 0;
}

/* One round trip: the statement is a transaction of its own. */
static int
barrier_emit(struct pg_conn *c, const char *id, pgs_time *server_now, struct pgs_err *err)
{
    struct buf body = { 0 };
    struct pg_rows *rows = NULL;
    message_flush_body(&body, id);
    int rc = pg_query(c,
                      "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
                      " FROM pg_logical_emit_message(true, $1, $2::text)",
                      PG_PARAMS(MESSAGE_FLUSH, buf_cstr(&body)), &rows, err);
    if (rc == 0)
        *server_now = strtoll(pg_cell(rows, 0, 0), NULL, 10) - PGS_EPOCH_UNIX_S * 1000000;
    pg_rows_free(rows);
    buf_release(&body);
    return rc;
}

int
barrier_flush(struct pg_conn *c, struct archive *archive, int64_t timeout_ms, pgs_lsn *end,
              pgs_time *server_now, struct pgs_err *err)
{
    char id[2 * BARRIER_ID_BYTES + 1];
    pgs_time now = PGS_TIME_NONE;
    int64_t deadline_us = clock_us() + timeout_ms * 1000;
    int rc = barrier_id(id, err);
    if (rc == 0)
        rc = barrier_emit(c, id, &now, err);
    if (rc == 0)
        rc = archive_wait_barrier(archive, slice_str(id), deadline_us, err);
    if (rc < 0)
        return err_doing(err, "flush the archive");
    *end = archive_end(archive);
    if (server_now != NULL)
        *server_now = now;
    return 0;
}
