/* settings.c: the small values of schema pgstrata: settings and heartbeat. */
#include "pg/setup.h"

#include "core/err.h"
#include "pg/messages.h"

#include <stdio.h>
#include <stdlib.h>

#define UNDEFINED_TABLE "42P01"
#define UNDEFINED_SCHEMA "3F000"

/* No table is the same as no row: not set up. */
static int
absent_or(int rc, const struct pgs_err *err)
{
    bool absent = rc < 0 && (strcmp(err->sqlstate, UNDEFINED_TABLE) == 0 ||
                             strcmp(err->sqlstate, UNDEFINED_SCHEMA) == 0);
    return absent ? PGS_NONE : rc;
}

int
settings_get(struct pg_conn *c, const char *name, struct arena *arena, struct slice *value,
             struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = absent_or(pg_query(c, "SELECT value FROM pgstrata.settings WHERE name = $1",
                                PG_PARAMS(name), &rows, err),
                       err);
    if (rc == 0 && pg_rows_count(rows) == 0)
        rc = PGS_NONE;
    if (rc == 0)
        *value = arena_dup(arena, pg_cell_slice(rows, 0, 0));
    pg_rows_free(rows);
    return rc;
}

int
settings_put(struct pg_conn *c, const char *name, const char *value, struct pgs_err *err)
{
    return pg_query(c,
                    "INSERT INTO pgstrata.settings (name, value) VALUES ($1, $2)"
                    " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    PG_PARAMS(name, value), NULL, err);
}

static void
heartbeat_fill(const struct pg_rows *rows, struct heartbeat *hb)
{
    hb->counter = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    snprintf(hb->nonce, sizeof(hb->nonce), "%s", pg_cell(rows, 0, 1));
}

int
heartbeat_read(struct pg_conn *c, struct heartbeat *hb, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = absent_or(
        pg_query(c, "SELECT counter, nonce FROM pgstrata.heartbeat", PG_NO_PARAMS, &rows, err),
        err);
    *hb = (struct heartbeat){ 0 };
    if (rc == 0 && pg_rows_count(rows) == 1)
        heartbeat_fill(rows, hb);
    pg_rows_free(rows);
    return rc < 0 ? rc : 0;
}

int
heartbeat_beat(struct pg_conn *c, const char *nonce, struct heartbeat *hb, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(
        c,
        "WITH beat AS (INSERT INTO pgstrata.heartbeat (counter, nonce) VALUES (1, $1)"
        " ON CONFLICT (single) DO UPDATE SET counter = heartbeat.counter + 1,"
        "   nonce = excluded.nonce, beat_at = now() RETURNING counter, nonce)"
        " SELECT counter, nonce, pg_logical_emit_message(true, '" MESSAGE_HEARTBEAT "',"
        "   pgstrata.ascii_json(jsonb_build_object('counter', counter, 'nonce', nonce))) FROM beat",
        PG_PARAMS(nonce), &rows, err);
    if (rc == 0)
        heartbeat_fill(rows, hb);
    pg_rows_free(rows);
    return rc;
}
