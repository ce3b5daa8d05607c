/* teardown.c: the way back. The slot first: without its publication it could not be read, and it
 * keeps WAL. Then what calls schema pgstrata, then the schema. Each step finds what is there, so
 * that it can be repeated from wherever it stopped. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/quote.h"

#include <stdlib.h>

static int
drop_slot(struct pg_conn *c, const char *slot, struct buf *script, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1",
                      PG_PARAMS(slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 1) {
        const char *pid = pg_cell(rows, 0, 0);
        if (pid != NULL && script == NULL) {
            (void)err_set(err, PGS_E_CONFLICT, "slot %s is in use by process %s", slot, pid);
            rc = err_hint(err, "stop `pgstrata serve` first");
        } else if (script != NULL) {
            buf_printf(script, "SELECT pg_drop_replication_slot('%s');\n", slot);
        } else {
            rc = pg_query(c, "SELECT pg_drop_replication_slot($1)", PG_PARAMS(slot), NULL, err);
        }
    }
    pg_rows_free(rows);
    return rc;
}

/* What outside of schema pgstrata would go with it: a view or function of the user's that calls
 * set_actor, say. That is not ours to drop. */
static int
refuse_dependents(struct pg_conn *c, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(
        c,
        "WITH ours (classid, objid) AS ("
        "  SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p"
        "    WHERE p.pronamespace = to_regnamespace('pgstrata')"
        "  UNION ALL SELECT 'pg_class'::regclass, k.oid FROM pg_class k"
        "    WHERE k.relnamespace = to_regnamespace('pgstrata')"
        "  UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t"
        "    WHERE t.typnamespace = to_regnamespace('pgstrata'))"
        " SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ')"
        " FROM pg_depend d JOIN ours ON d.refclassid = ours.classid AND d.refobjid = ours.objid"
        " WHERE d.deptype = 'n' AND (d.classid, d.objid) NOT IN (SELECT classid, objid FROM ours)"
        " AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass,"
        "   'pg_event_trigger'::regclass)"
        " AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger t"
        "   WHERE t.oid = d.objid AND t.tgname = $1))",
        PG_PARAMS(MOVE_TRIGGER_NAME), &rows, err);
    if (rc == 0 && pg_cell(rows, 0, 0) != NULL) {
        (void)err_set(err, PGS_E_REFUSED, "something of yours uses schema pgstrata: %s",
                      pg_cell(rows, 0, 0));
        rc = err_hint(err, "drop it first");
    }
    pg_rows_free(rows);
    return rc;
}

static int
drop_event_triggers(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < setup_event_triggers_count; i++) {
        const char *name = setup_event_triggers_list[i].name;
        bool exists = false;
        struct buf sql = { 0 };
        rc = setup_exists(c, "SELECT FROM pg_event_trigger WHERE evtname = $1", name, &exists, err);
        buf_printf(&sql, "DROP EVENT TRIGGER %s", name);
        if (rc == 0 && exists)
            rc = setup_do(c, script, buf_cstr(&sql), err);
        buf_release(&sql);
    }
    return rc;
}

static int
drop_move_trigger(struct pg_conn *c, struct buf *script, const struct pg_rows *rows, size_t i,
                  struct pgs_err *err)
{
    struct buf sql = { 0 };
    uint32_t oid = (uint32_t)strtoul(pg_cell(rows, i, 0), NULL, 10);
    buf_put_str(&sql, "DROP TRIGGER \"" MOVE_TRIGGER_NAME "\" ON ");
    int rc = quote_qualified(c, &sql, pg_cell_slice(rows, i, 1), pg_cell_slice(rows, i, 2), err);
    if (rc == 0)
        rc = script != NULL ? setup_do(c, script, buf_cstr(&sql), err)
                            : setup_locked(c, LOCK_PATIENTLY, oid, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "drop the move trigger of %s.%s", pg_cell(rows, i, 1),
                              pg_cell(rows, i, 2))
                  : 0;
}

static int
drop_move_triggers(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(
        c,
        "SELECT c.oid, n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = $1"
        " AND t.tgparentid = 0 ORDER BY 2, 3",
        PG_PARAMS(MOVE_TRIGGER_NAME), &rows, err);
    for (size_t i = 0; rc == 0 && i < pg_rows_count(rows); i++)
        rc = drop_move_trigger(c, script, rows, i, err);
    pg_rows_free(rows);
    return rc;
}

static int
drop_if(struct pg_conn *c, struct buf *script, const char *question, const char *drop,
        struct pgs_err *err)
{
    bool exists = false;
    int rc = setup_exists(c, question, "pgstrata", &exists, err);
    return rc == 0 && exists ? setup_do(c, script, drop, err) : rc;
}

int
setup_teardown(struct pg_conn *c, const struct setup_opts *opts, struct arena *arena,
               struct buf *script, struct pgs_err *err)
{
    struct setup_names names;
    struct buf *out = opts->dry_run ? script : NULL;
    (void)arena;
    int rc = setup_names_read(c, opts->slot, &names, err);
    if (rc == 0)
        rc = refuse_dependents(c, err);
    if (rc == 0)
        rc = drop_slot(c, names.slot, out, err);
    if (rc == 0)
        rc = drop_event_triggers(c, out, err);
    if (rc == 0)
        rc = drop_move_triggers(c, out, err);
    if (rc == 0)
        rc = drop_if(c, out, "SELECT FROM pg_publication WHERE pubname = $1",
                     "DROP PUBLICATION " PUBLICATION_NAME, err);
    if (rc == 0)
        rc = drop_if(c, out, "SELECT FROM pg_namespace WHERE nspname = $1",
                     "DROP SCHEMA pgstrata CASCADE", err);
    return rc < 0 ? err_doing(err, "tear down") : 0;
}
