/* keeper.c: what happens by the clock beside the stream: heartbeat, tables that come and change,
 * requests for bases, the slot's WAL. */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>

#define TICK_MS 100
#define SECOND_US (INT64_C(1000) * 1000)
#define HEARTBEAT_US (60 * SECOND_US)
#define SLOT_US (30 * SECOND_US)
/* Without event triggers polling is the only source; with them it looks whether they miss some. */
#define POLL_US (10 * SECOND_US)
#define POLL_TRIGGERED_US (60 * SECOND_US)
/* PostgreSQL refuses updates of a published table that lost its identity until it leaves the
 * publication. Event triggers see to that at once; where they are missing, this does. */
#define IDENTITY_US SECOND_US
/* Warn when less than this part of the WAL that the slot may keep is left. */
#define SLOT_LEFT_PART 3

struct keeper {
    struct archiver *a;
    struct pg_conn *conn;
    int64_t heartbeat_us, poll_us, slot_us, identity_us; /* when each was done last; 0: never */
    bool triggers;  /* event triggers tell of new and changed tables */
    pgs_lsn polled; /* everything before it is in every later poll */
    bool slot_warned;
    bool identity_lost; /* as last looked: polled for once, since our role may not mend it */
};

static int
keeper_connect(struct keeper *k, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    if (k->conn != NULL)
        return 0;
    k->polled = 0; /* it may be another server */
    int rc = pg_open(&archiver_opts(k->a)->target, &(struct pg_open_opts){ .wires = &k->a->wires },
                     &k->conn, err);
    if (rc == 0)
        rc = pg_exec(k->conn, "LISTEN pgstrata_base", err);
    if (rc == 0)
        rc = pg_query(k->conn,
                      "SELECT 1 FROM pg_event_trigger WHERE evtname IN ('pgstrata_ddl', "
                      "'pgstrata_drop') AND evtenabled = 'A'",
                      PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        k->triggers = pg_rows_count(rows) == 2;
    pg_rows_free(rows);
    return rc;
}

static int
slot_watch(struct keeper *k, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(k->conn,
                      "SELECT safe_wal_size, "
                      "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
                      " FROM pg_replication_slots WHERE slot_name = $1",
                      PG_PARAMS(k->a->names.slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 1 && pg_cell(rows, 0, 0) != NULL) {
        int64_t left = strtoll(pg_cell(rows, 0, 0), NULL, 10);
        int64_t held = pg_cell(rows, 0, 1) != NULL ? strtoll(pg_cell(rows, 0, 1), NULL, 10) : 0;
        bool low = left < (left + held) / SLOT_LEFT_PART;
        if (low && !k->slot_warned)
            diag_warn("slot_lag",
                      DIAG(diag_int(DIAG_KEY_LAG_BYTES, held), diag_int(DIAG_KEY_BYTES, left)),
                      "the slot may lose WAL: little of max_slot_wal_keep_size is left");
        k->slot_warned = low;
    }
    pg_rows_free(rows);
    return rc;
}

static int
insert_lsn(struct keeper *k, pgs_lsn *lsn, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(k->conn, "SELECT pg_current_wal_insert_lsn()", PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        rc = lsn_parse(pg_cell(rows, 0, 0), lsn, err);
    pg_rows_free(rows);
    return rc;
}

/* In one snapshot, and the position behind everything that it shows. */
static int
poll_read(struct keeper *k, struct schema_poll *poll, struct pgs_err *err)
{
    const struct catalog_rules *rules = &archiver_opts(k->a)->setup.rules;
    int rc = pg_exec(k->conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);
    if (rc == 0)
        rc = catalog_read(k->conn, rules, poll->arena, &poll->catalog, err);
    if (rc == 0)
        rc = insert_lsn(k, &poll->after, err);
    if (rc == 0)
        rc = pg_exec(k->conn, "COMMIT", err);
    return rc;
}

/* A transaction shows in snapshots a little after its commit record was written, so the position of
 * the poll before this one, seconds ago, stands for what surely is in this one. */
static int
tables_poll(struct keeper *k, struct pgs_err *err)
{
    struct arena *arena = arena_new(NULL);
    struct schema_poll *poll = arena_alloc_zero(arena, sizeof(*poll));
    poll->arena = arena;
    poll->before = k->polled;
    int rc = poll_read(k, poll, err);
    if (rc < 0) {
        schema_poll_free(poll);
        return rc;
    }
    k->polled = poll->after;
    struct item *item = inbox_poll(poll);
    if (!archiver_post(k->a, item))
        inbox_free(item);
    return 0;
}

/* Tables that could be archived join the publication, those without identity leave it. */
static int
tables_sync(struct keeper *k, struct pgs_err *err)
{
    struct arena *arena = arena_new(NULL);
    struct catalog catalog;
    int rc = setup_sync_tables(k->conn, &archiver_opts(k->a)->setup, arena, &catalog, err);
    arena_free(arena);
    return rc < 0 ? rc : tables_poll(k, err);
}

/* Whether a published table has no identity, so that its updates fail now. */
static int
identity_watch(struct keeper *k, bool *lost, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(k->conn,
                      "SELECT 1 FROM pg_publication p"
                      " JOIN pg_publication_rel r ON r.prpubid = p.oid"
                      " JOIN pg_class c ON c.oid = r.prrelid"
                      " WHERE p.pubname = $1 AND c.relkind = 'r' AND c.relreplident <> 'f'"
                      "  AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid"
                      "   AND ((c.relreplident = 'd' AND i.indisprimary)"
                      "    OR (c.relreplident = 'i' AND i.indisreplident))) LIMIT 1",
                      PG_PARAMS(k->a->names.publication), &rows, err);
    if (rc == 0)
        *lost = pg_rows_count(rows) > 0;
    pg_rows_free(rows);
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

/* `pgstrata base` tells from which LSN on it wants one. */
static void
base_wanted(void *archiver, const char *channel, const char *payload)
{
    struct pgs_err ignored;
    pgs_lsn from;
    (void)channel; /* we listen to one */
    if (lsn_parse(payload, &from, &ignored) == 0)
        archiver_request_bases(archiver, from);
}

static int
keeper_tick(struct keeper *k, struct pgs_err *err)
{
    struct heartbeat beat;
    int rc = keeper_connect(k, err);
    if (rc == 0)
        rc = pg_take_notifications(k->conn, base_wanted, k->a, err);
    if (rc == 0 && due(&k->heartbeat_us, HEARTBEAT_US))
        rc = heartbeat_beat(k->conn, k->a->nonce, &beat, err);
    if (atomic_exchange(&k->a->sync_wanted, false))
        k->poll_us = 0;
    if (rc == 0 && due(&k->identity_us, IDENTITY_US)) {
        bool before = k->identity_lost;
        rc = identity_watch(k, &k->identity_lost, err);
        if (k->identity_lost && !before)
            k->poll_us = 0;
    }
    if (rc == 0 && due(&k->poll_us, k->triggers ? POLL_TRIGGERED_US : POLL_US))
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
        archiver_pause(k.a, TICK_MS);
        if (!atomic_load(&k.a->streaming))
            continue;
        int rc = keeper_tick(&k, &err);
        if (rc < 0 && !warned)
            diag_warn("keeper_failed", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                      "heartbeat or catalog poll failed; trying again");
        if (rc < 0) {
            pg_close(k.conn);
            k.conn = NULL;
        }
        warned = rc < 0;
    }
    pg_close(k.conn);
    return NULL;
}
