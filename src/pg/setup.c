#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/quote.h"

#include <stdio.h>
#include <stdlib.h>

int
setup_names_read(struct pg_conn *c, const char *slot, struct setup_names *names,
                 struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    snprintf(names->publication, sizeof(names->publication), PUBLICATION_NAME);
    if (slot != NULL) {
        snprintf(names->slot, sizeof(names->slot), "%s", slot);
        return 0;
    }
    int rc = pg_query(c, "SELECT oid FROM pg_database WHERE datname = current_database()",
                      PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        snprintf(names->slot, sizeof(names->slot), "pgstrata_%s", pg_cell(rows, 0, 0));
    pg_rows_free(rows);
    return rc;
}

static int
refuse_errors(const struct findings *findings, struct pgs_err *err)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *f = &findings->items[i];
        char code[PGS_ERR_CODE_MAX];
        if (f->level != FINDING_ERROR)
            continue;
        (void)err_set(err, PGS_E_REFUSED, "%.*s", SLICE_PRINT(f->text));
        snprintf(code, sizeof(code), "%.*s", SLICE_PRINT(f->code));
        (void)err_code(err, code);
        return err_hint(err, "%.*s", SLICE_PRINT(f->fix));
    }
    return 0;
}

static void
report_unowned(const struct catalog *catalog, struct arena *arena, struct findings *findings)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        if (r->covered && !r->owned)
            findings_add(findings, arena, FINDING_ERROR, "owner",
                         arena_printf(arena, "table %.*s.%.*s belongs to another role",
                                      SLICE_PRINT(r->schema), SLICE_PRINT(r->name)),
                         "GRANT the role that owns the table TO this role: ALTER PUBLICATION and "
                         "triggers need it");
    }
    if (!catalog->tenants_found)
        findings_add(findings, arena, FINDING_WARN, "tenants_table",
                     "the tenants table was not found, or its primary key is not one column",
                     "set PGSTRATA_TENANT_TABLE");
}

static int
put_settings(struct pg_conn *c, const struct setup_opts *opts, struct pgs_err *err)
{
    int rc = settings_put(c, "tenant_table", opts->rules.tenant_table, err);
    if (rc == 0)
        rc = settings_put(c, "tenant_column", opts->rules.tenant_column, err);
    if (rc == 0)
        rc = pg_exec(c,
                     "INSERT INTO pgstrata.settings (name, value) VALUES"
                     " ('archive_id', gen_random_uuid()::text) ON CONFLICT DO NOTHING",
                     err);
    return rc;
}

static int
migrate_step(struct pg_conn *c, const struct setup_opts *opts, struct buf *script,
             struct pgs_err *err)
{
    int applied;
    if (script != NULL)
        return setup_pending_sql(c, script, err);
    int rc = setup_migrate(c, &applied, err);
    return rc < 0 ? rc : put_settings(c, opts, err);
}

int
setup_run(struct pg_conn *c, const struct pg_target *target, const struct setup_opts *opts,
          struct arena *arena, struct buf *script, struct catalog *catalog,
          struct findings *findings, struct pgs_err *err)
{
    struct setup_names names;
    struct buf *out = opts->dry_run ? script : NULL;
    int rc = setup_check_server(c, arena, findings, err);
    if (rc == 0)
        rc = refuse_errors(findings, err);
    if (rc == 0)
        rc = setup_names_read(c, opts->slot, &names, err);
    if (rc == 0)
        rc = catalog_read(c, &opts->rules, arena, catalog, err);
    if (rc == 0) {
        report_unowned(catalog, arena, findings);
        rc = refuse_errors(findings, err);
    }
    if (rc == 0)
        rc = migrate_step(c, opts, out, err);
    if (rc == 0)
        rc = setup_publication(c, out, catalog, err);
    if (rc == 0)
        rc = setup_move_triggers(c, out, catalog, err);
    if (rc == 0)
        rc = setup_event_triggers(c, out, arena, findings, err);
    /* The slot last: what is above is repeatable, and a slot keeps WAL from the moment it
     * exists. */
    if (rc == 0)
        rc = setup_slot(c, target, names.slot, out, err);
    return rc < 0 ? err_doing(err, "set up") : 0;
}

static void
doctor_tables(const struct catalog *catalog, struct arena *arena, struct findings *findings)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        const char *name =
            arena_printf(arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
        if (r->route == ROUTE_EXCLUDED)
            continue;
        if (!r->covered)
            findings_add(
                findings, arena, FINDING_WARN, "uncovered",
                arena_printf(arena, "table %s is not covered: %.*s", name, SLICE_PRINT(r->why_not)),
                arena_slice_str(arena, r->fix));
        else if (!r->published)
            findings_add(findings, arena, FINDING_ERROR, "unpublished",
                         arena_printf(arena, "table %s is not published", name),
                         "pgstrata doctor --fix");
        if (setup_needs_move_trigger(r) && !r->move_trigger)
            findings_add(
                findings, arena, FINDING_ERROR, "move_trigger",
                arena_printf(
                    arena,
                    "table %s has no move trigger: rows that change their tenant would be missed",
                    name),
                "pgstrata doctor --fix");
    }
}

static int
doctor_slot(struct pg_conn *c, const char *slot, struct arena *arena, struct findings *findings,
            struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = $1",
                      PG_PARAMS(slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 0)
        findings_add(findings, arena, FINDING_ERROR, "slot",
                     arena_printf(arena, "slot %s does not exist", slot), "pgstrata setup");
    else if (rc == 0 && pg_cell(rows, 0, 1) != NULL && strcmp(pg_cell(rows, 0, 1), "lost") == 0)
        findings_add(findings, arena, FINDING_ERROR, "slot",
                     arena_printf(arena, "slot %s has lost WAL that was not archived", slot),
                     "drop the slot, run pgstrata setup; serve records the gap and takes a base");
    pg_rows_free(rows);
    return rc;
}

int
setup_doctor(struct pg_conn *c, const struct pg_target *target, const struct setup_opts *opts,
             struct arena *arena, struct catalog *catalog, struct findings *findings,
             struct pgs_err *err)
{
    struct setup_names names;
    struct slice id;
    (void)target;
    int rc = setup_check_server(c, arena, findings, err);
    if (rc == 0)
        rc = setup_names_read(c, opts->slot, &names, err);
    if (rc == 0)
        rc = catalog_read(c, &opts->rules, arena, catalog, err);
    if (rc < 0)
        return rc;
    report_unowned(catalog, arena, findings);
    rc = settings_get(c, "archive_id", arena, &id, err);
    if (rc == PGS_NONE) {
        findings_add(findings, arena, FINDING_ERROR, "not_set_up", "this database is not set up",
                     "pgstrata setup");
        return 0;
    }
    if (rc == 0 && opts->fix)
        rc = setup_publication(c, NULL, catalog, err);
    if (rc == 0 && opts->fix)
        rc = setup_move_triggers(c, NULL, catalog, err);
    if (rc < 0)
        return rc;
    doctor_tables(catalog, arena, findings);
    return doctor_slot(c, names.slot, arena, findings, err);
}

int
setup_sync_tables(struct pg_conn *c, const struct setup_opts *opts, struct arena *arena,
                  struct catalog *catalog, struct pgs_err *err)
{
    int rc = catalog_read(c, &opts->rules, arena, catalog, err);
    if (rc == 0)
        rc = setup_publication(c, NULL, catalog, err);
    return rc < 0 ? rc : setup_move_triggers(c, NULL, catalog, err);
}

static int
drop_triggers(struct pg_conn *c, struct buf *script, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(
        c,
        "SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = $1"
        " AND t.tgparentid = 0",
        PG_PARAMS(MOVE_TRIGGER_NAME), &rows, err);
    for (size_t i = 0; rc == 0 && i < pg_rows_count(rows); i++) {
        struct buf sql = { 0 };
        buf_put_str(&sql, "DROP TRIGGER \"" MOVE_TRIGGER_NAME "\" ON ");
        rc = quote_qualified(c, &sql, pg_cell_slice(rows, i, 0), pg_cell_slice(rows, i, 1), err);
        if (rc == 0)
            rc = setup_do(c, script, buf_cstr(&sql), err);
        buf_release(&sql);
    }
    pg_rows_free(rows);
    return rc;
}

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

int
setup_teardown(struct pg_conn *c, const struct setup_opts *opts, struct arena *arena,
               struct buf *script, struct pgs_err *err)
{
    struct setup_names names;
    struct buf *out = opts->dry_run ? script : NULL;
    (void)arena;
    int rc = setup_names_read(c, opts->slot, &names, err);
    if (rc == 0)
        rc = drop_slot(c, names.slot, out, err);
    if (rc == 0)
        rc = setup_do(c, out, "DROP EVENT TRIGGER IF EXISTS pgstrata_ddl", err);
    if (rc == 0)
        rc = setup_do(c, out, "DROP EVENT TRIGGER IF EXISTS pgstrata_drop", err);
    if (rc == 0)
        rc = drop_triggers(c, out, err);
    if (rc == 0)
        rc = setup_do(c, out, "DROP PUBLICATION IF EXISTS " PUBLICATION_NAME, err);
    if (rc == 0)
        rc = setup_do(c, out, "DROP SCHEMA IF EXISTS pgstrata CASCADE", err);
    return rc < 0 ? err_doing(err, "tear down") : 0;
}
