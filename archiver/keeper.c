/* keeper.c: what happens by the clock beside the stream: heartbeat, new tables, requests, the
 * slot's WAL. */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

#define TICK_NS (100 * 1000000L)
#define HEARTBEAT_US (INT64_C(60) * 1000 * 1000)
#define TABLES_US (INT64_C(10) * 1000 * 1000)
#define SLOT_US (INT64_C(30) * 1000 * 1000)
/* Warn when less than this share of the WAL the slot may keep is left. */
#define SLOT_LEFT_SHARE 3

struct keeper {
    struct archiver *a;
    struct pg_conn *conn;
    int64_t heartbeat_us, tables_us, slot_us; /* when each was done last */
    bool slot_warned;
};

static int
connect_if_needed(struct keeper *k, struct pgs_err *err)
{
    if (k->conn != NULL)
        return 0;
    int rc = pg_open(&archiver_opts(k->a)->target, &(struct pg_open_opts){ 0 }, &k->conn, err);
    if (rc == 0)
        rc = pg_exec(k->conn, "LISTEN pgstrata_base", err);
    return rc;
}

static int
slot_watch(struct keeper *k, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc =
        pg_query(k->conn,
                 "SELECT safe_wal_size, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
                 " FROM pg_replication_slots WHERE slot_name = $1",
                 PG_PARAMS(k->a->names.slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 1 && pg_cell(rows, 0, 0) != NULL) {
        int64_t left = strtoll(pg_cell(rows, 0, 0), NULL, 10);
        int64_t held = pg_cell(rows, 0, 1) != NULL ? strtoll(pg_cell(rows, 0, 1), NULL, 10) : 0;
        bool low = left < (left + held) / SLOT_LEFT_SHARE;
        if (low && !k->slot_warned)
            diag_warn("slot_lag",
                      DIAG(diag_int(DIAG_KEY_LAG_BYTES, held), diag_int(DIAG_KEY_BYTES, left)),
                      "the slot may lose WAL: little of max_slot_wal_keep_size is left");
        k->slot_warned = low;
    }
    pg_rows_free(rows);
    return rc;
}

/* Where no event trigger may be, new tables join here; and ones without identity leave. */
static int
tables_sync(struct keeper *k, struct pgs_err *err)
{
    struct arena *arena = arena_new(NULL);
    struct catalog catalog;
    int rc = setup_sync_tables(k->conn, &archiver_opts(k->a)->setup, arena, &catalog, err);
    arena_free(arena);
    return rc;
}

static bool
due(int64_t *last_us, int64_t interval_us)
{
    int64_t now = clock_us();
    if (*last_us != 0 && now - *last_us < interval_us)
        return false;
    *last_us = now;
    return true;
}

static int
keeper_tick(struct keeper *k, struct pgs_err *err)
{
    struct heartbeat beat;
    bool notified = false;
    int rc = connect_if_needed(k, err);
    if (rc == 0)
        rc = pg_take_notifications(k->conn, &notified, err);
    if (rc == 0 && notified)
        atomic_store(&k->a->bases_wanted, true);
    if (rc == 0 && due(&k->heartbeat_us, HEARTBEAT_US))
        rc = heartbeat_beat(k->conn, k->a->nonce, &beat, err);
    if (rc == 0 && due(&k->tables_us, TABLES_US))
        rc = tables_sync(k, err);
    if (rc == 0 && due(&k->slot_us, SLOT_US))
        rc = slot_watch(k, err);
    return rc;
}

void *
keeper_thread(void *archiver)
{
    struct keeper k = { .a = archiver };
    struct pgs_err err;
    bool warned = false;
    while (!atomic_load(&k.a->stopping)) {
        struct timespec pause = { .tv_nsec = TICK_NS };
        (void)nanosleep(&pause, NULL);
        if (!atomic_load(&k.a->streaming))
            continue;
        int rc = keeper_tick(&k, &err);
        if (rc < 0) {
            if (!warned)
                diag_warn("keeper_failed", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                          "heartbeat or catalog poll failed; trying again");
            pg_close(k.conn);
            k.conn = NULL;
        }
        warned = rc < 0;
    }
    pg_close(k.conn);
    return NULL;
}
