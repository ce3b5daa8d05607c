/* setup_objects.c: publication, triggers, slot. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/quote.h"
#include "pg/replication.h"

#include <stdio.h>

int
setup_do(struct pg_conn *c, struct buf *script, const char *sql, struct pgs_err *err)
{
    if (script == NULL)
        return pg_exec(c, sql, err);
    buf_printf(script, "%s;\n", sql);
    return 0;
}

int
setup_exists(struct pg_conn *c, const char *sql, const char *name, bool *exists,
             struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, sql, PG_PARAMS(name), &rows, err);
    if (rc == 0)
        *exists = pg_rows_count(rows) > 0;
    pg_rows_free(rows);
    return rc;
}

static int
put_relation(struct pg_conn *c, struct buf *sql, const struct relation *r, struct pgs_err *err)
{
    return quote_qualified(c, sql, r->schema, r->name, err);
}

static bool
belongs_in_publication(const struct relation *r)
{
    return r->covered && r->route != ROUTE_EXCLUDED;
}

static int
publication_change(struct pg_conn *c, struct buf *script, const struct relation *r,
                   const char *verb, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_printf(&sql, "ALTER PUBLICATION " PUBLICATION_NAME " %s TABLE ONLY ", verb);
    int rc = put_relation(c, &sql, r, err);
    if (rc == 0)
        rc = setup_do(c, script, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc < 0
               ? err_doing(err, "publish %.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name))
               : 0;
}

int
setup_publication(struct pg_conn *c, struct buf *script, const struct catalog *catalog,
                  struct pgs_err *err)
{
    bool exists = false;
    int rc = setup_exists(c, "SELECT 1 FROM pg_publication WHERE pubname = $1", PUBLICATION_NAME,
                          &exists, err);
    if (rc == 0 && !exists)
        rc = setup_do(c, script, "CREATE PUBLICATION " PUBLICATION_NAME, err);
    for (size_t i = 0; rc == 0 && i < catalog->count; i++) {
        struct relation *r = catalog->relations[i];
        bool wanted = belongs_in_publication(r);
        if (wanted == r->published)
            continue;
        rc = publication_change(c, script, r, wanted ? "ADD" : "DROP", err);
        if (rc == 0 && script == NULL)
            r->published = wanted;
    }
    return rc;
}

bool
setup_needs_move_trigger(const struct relation *r)
{
    return r->covered && r->route == ROUTE_COLUMN && r->tenant_column >= 0 && !r->tenant_in_key &&
           r->identity != 'f';
}

int
setup_move_triggers(struct pg_conn *c, struct buf *script, const struct catalog *catalog,
                    struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < catalog->count; i++) {
        struct relation *r = catalog->relations[i];
        char oid[16];
        struct buf sql = { 0 };
        if (!setup_needs_move_trigger(r) || r->move_trigger)
            continue;
        snprintf(oid, sizeof(oid), "%u", r->oid);
        buf_printf(&sql, "SELECT pgstrata.watch_moves(%s, ", oid);
        rc = quote_literal(c, &sql, r->columns[r->tenant_column].name, err);
        buf_put_str(&sql, ")");
        if (rc == 0)
            rc = setup_do(c, script, buf_cstr(&sql), err);
        if (rc == 0 && script == NULL)
            r->move_trigger = true;
        buf_release(&sql);
    }
    return rc < 0 ? err_doing(err, "create the move triggers") : 0;
}

int
setup_event_triggers(struct pg_conn *c, struct buf *script, struct arena *arena,
                     struct findings *findings, struct pgs_err *err)
{
    static const struct {
        const char *name, *create;
    } triggers[] = {
        { "pgstrata_ddl",
          "CREATE EVENT TRIGGER pgstrata_ddl ON ddl_command_end EXECUTE FUNCTION pgstrata.on_ddl();"
          " ALTER EVENT TRIGGER pgstrata_ddl ENABLE ALWAYS" },
        { "pgstrata_drop",
          "CREATE EVENT TRIGGER pgstrata_drop ON sql_drop EXECUTE FUNCTION pgstrata.on_drop();"
          " ALTER EVENT TRIGGER pgstrata_drop ENABLE ALWAYS" },
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(triggers) / sizeof(triggers[0]); i++) {
        bool exists = false;
        rc = setup_exists(c, "SELECT 1 FROM pg_event_trigger WHERE evtname = $1", triggers[i].name,
                          &exists, err);
        if (rc == 0 && !exists)
            rc = setup_do(c, script, triggers[i].create, err);
    }
    if (rc < 0 && strcmp(err->sqlstate, "42501") == 0) {
        findings_add(
            findings, arena, FINDING_WARN, "event_trigger",
            "this role may not create event triggers: new and changed tables are found by polling",
            "run setup once as a superuser for exact coverage of new tables");
        return 0;
    }
    return rc < 0 ? err_doing(err, "create the event triggers") : 0;
}

int
setup_slot(struct pg_conn *c, const struct pg_target *target, const char *slot, struct buf *script,
           struct pgs_err *err)
{
    bool exists = false;
    struct pg_conn *replication = NULL;
    struct slot_created created;
    int rc = setup_exists(c, "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", slot,
                          &exists, err);
    if (rc < 0 || exists)
        return rc;
    if (script != NULL) {
        buf_printf(script, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput');\n", slot);
        return 0;
    }
    rc = pg_open(target, &(struct pg_open_opts){ .replication = true }, &replication, err);
    if (rc == 0)
        rc = replication_create_slot(replication, slot, false, false, &created, err);
    pg_close(replication);
    return rc;
}
