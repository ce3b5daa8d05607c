/* settings.c: the small values of schema pgstrata: settings and heartbeat. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/messages.h"
#include "pg/quote.h"

#include <jansson.h>
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

/* {"schema.table": {"route": "...", "column": "..."|null}}, in the order given. */
static char *
routes_json(const struct catalog_rules *rules)
{
    json_t *routes = json_object();
    for (size_t i = 0; i < rules->override_count; i++) {
        const struct route_override *o = &rules->overrides[i];
        json_object_set_new(
            routes, o->table,
            json_pack("{s:s, s:s?}", "route", route_name(o->route), "column", o->column));
    }
    char *text = json_dumps(routes, JSON_COMPACT | JSON_ENSURE_ASCII);
    pgs_assert(text != NULL);
    json_decref(routes);
    return text;
}

static int
put_if_other(struct pg_conn *c, const char *name, const char *value, struct buf *script,
             struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct slice now = SLICE_NULL;
    int rc = settings_get(c, name, scratch, &now, err);
    if (rc >= 0 && !slice_equal(now, slice_str(value))) {
        struct buf sql = { 0 };
        buf_put_str(&sql, "INSERT INTO pgstrata.settings (name, value) VALUES (");
        quote_literal_offline(&sql, slice_str(name));
        buf_put_str(&sql, ", ");
        quote_literal_offline(&sql, slice_str(value));
        buf_put_str(&sql, ") ON CONFLICT (name) DO UPDATE SET value = excluded.value");
        rc = setup_do(c, script, buf_cstr(&sql), err);
        buf_release(&sql);
    }
    arena_free(scratch);
    return rc < 0 ? rc : 0;
}

int
setup_settings(struct pg_conn *c, const struct catalog_rules *rules, struct buf *script,
               struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct slice id;
    char *routes = routes_json(rules);
    int rc = put_if_other(c, "tenant_table", rules->tenant_table, script, err);
    if (rc == 0)
        rc = put_if_other(c, "tenant_column", rules->tenant_column, script, err);
    if (rc == 0)
        rc = put_if_other(c, "tenant_schemas",
                          rules->tenant_schemas != NULL ? rules->tenant_schemas : "", script, err);
    if (rc == 0)
        rc = put_if_other(c, "routes", routes, script, err);
    if (rc == 0)
        rc = settings_get(c, "archive_id", scratch, &id, err);
    if (rc == PGS_NONE)
        rc = setup_do(c, script,
                      "INSERT INTO pgstrata.settings (name, value) VALUES"
                      " ('archive_id', gen_random_uuid()::text) ON CONFLICT DO NOTHING",
                      err);
    free(routes);
    arena_free(scratch);
    return rc;
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
