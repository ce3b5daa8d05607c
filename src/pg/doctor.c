/* doctor.c: what is, against what should be. */
#include "pg/setup_internal.h"

#include "core/err.h"

#define FIX "pgstrata doctor --fix"

static const char *
name_of(struct arena *arena, const struct relation *r)
{
    return arena_printf(arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
}

static bool
owner_reported(const struct catalog *catalog, size_t until)
{
    for (size_t i = 0; i < until; i++) {
        const struct relation *r = catalog->relations[i];
        if (setup_is_wanted(r) && !r->owned && !r->published &&
            slice_equal(r->owner, catalog->relations[until]->owner))
            return true;
    }
    return false;
}

/* One finding an owner: a GRANT for each is what helps. */
static int
report_unowned(struct pg_conn *c, const struct relation *r, struct arena *arena,
               struct findings *findings, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, "SELECT format('GRANT %I TO %I;', $1::text, current_user)",
                      PG_PARAMS(arena_slice_str(arena, r->owner)), &rows, err);
    if (rc == 0)
        findings_add(findings, arena, FINDING_ERROR, "owner",
                     arena_printf(arena,
                                  "table %s belongs to role %.*s: to publish it takes membership "
                                  "in that role",
                                  name_of(arena, r), SLICE_PRINT(r->owner)),
                     pg_cell(rows, 0, 0));
    pg_rows_free(rows);
    return rc;
}

int
setup_report_tables(struct pg_conn *c, const struct catalog *catalog, struct arena *arena,
                    struct findings *findings, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        if (setup_is_wanted(r) && !r->owned && !r->published && !owner_reported(catalog, i))
            rc = report_unowned(c, r, arena, findings, err);
    }
    if (rc == 0 && !catalog->tenants_found)
        findings_add(findings, arena, FINDING_WARN, "tenants_table",
                     "the tenants table was not found, or its primary key is not one column",
                     "set PGSTRATA_TENANT_TABLE to its name");
    return rc;
}

/* What stands in the way of the table being archived as the rules say. */
static void
examine_table(const struct relation *r, struct arena *arena, struct findings *findings)
{
    const char *name = name_of(arena, r);
    if (!r->covered && r->route != ROUTE_EXCLUDED)
        findings_add(
            findings, arena, FINDING_WARN, "uncovered",
            arena_printf(arena, "table %s is not covered: %.*s", name, SLICE_PRINT(r->why_not)),
            arena_slice_str(arena, r->fix));
    if (r->published && !setup_is_wanted(r))
        findings_add(findings, arena, FINDING_ERROR, "published",
                     arena_printf(arena, "table %s is published and must not be: %s", name,
                                  r->covered ? "it is excluded" : "updates of it may fail"),
                     FIX);
    if (!r->published && setup_is_wanted(r))
        findings_add(findings, arena, FINDING_ERROR, "unpublished",
                     arena_printf(arena, "table %s is not published", name), FIX);
    if (r->published_in_part)
        findings_add(
            findings, arena, FINDING_ERROR, "published_in_part",
            arena_printf(arena, "table %s is published with a row filter or a column list", name),
            FIX);
    if (setup_needs_move_trigger(r) && !r->move_trigger)
        findings_add(
            findings, arena, FINDING_ERROR, "move_trigger",
            arena_printf(arena,
                         "table %s has no move trigger: rows that change their tenant are missed",
                         name),
            FIX);
}

static int
examine_publication(struct pg_conn *c, struct arena *arena, struct findings *findings,
                    struct pgs_err *err)
{
    bool exists = false, sound = false;
    int rc = setup_exists(c, "SELECT FROM pg_publication WHERE pubname = $1", PUBLICATION_NAME,
                          &exists, err);
    if (rc == 0)
        rc = setup_exists(c,
                          "SELECT FROM pg_publication WHERE pubname = $1 AND NOT puballtables"
                          " AND pubinsert AND pubupdate AND pubdelete AND pubtruncate"
                          " AND NOT pubviaroot",
                          PUBLICATION_NAME, &sound, err);
    if (rc == 0 && !exists)
        findings_add(findings, arena, FINDING_ERROR, "publication",
                     "publication " PUBLICATION_NAME " does not exist", FIX);
    else if (rc == 0 && !sound)
        findings_add(findings, arena, FINDING_ERROR, "publication",
                     "publication " PUBLICATION_NAME
                     " is for all tables, leaves operations out, or publishes by partition root",
                     FIX);
    return rc;
}

static int
examine_event_triggers(struct pg_conn *c, struct arena *arena, struct findings *findings,
                       struct pgs_err *err)
{
    size_t missing = 0;
    int rc = setup_event_triggers_missing(c, &missing, err);
    if (rc == 0 && missing > 0)
        findings_add(
            findings, arena, FINDING_WARN, "event_trigger",
            arena_printf(arena,
                         "%zu of %zu event triggers are missing or do not fire always: new and "
                         "changed tables are found by polling, and for a second or two after a "
                         "table lost its primary key PostgreSQL refuses its updates and deletes",
                         missing, setup_event_triggers_count),
            "run pgstrata setup once as a superuser");
    return rc;
}

static void
examine_slot_row(const struct pg_rows *rows, const char *slot, struct arena *arena,
                 struct findings *findings)
{
    const char *again = arena_printf(arena,
                                     "SELECT pg_drop_replication_slot('%s'); then pgstrata setup: "
                                     "serve records the gap and takes a base",
                                     slot);
    const char *status = pg_cell(rows, 0, 0), *ours = pg_cell(rows, 0, 1);
    if (ours == NULL || ours[0] != 't')
        findings_add(
            findings, arena, FINDING_ERROR, "slot",
            arena_printf(arena, "slot %s is not of plugin pgoutput in this database", slot), again);
    else if (status != NULL && strcmp(status, "lost") == 0)
        findings_add(findings, arena, FINDING_ERROR, "slot",
                     arena_printf(arena, "slot %s has lost WAL that was not archived", slot),
                     again);
    else if (status != NULL && strcmp(status, "unreserved") == 0)
        findings_add(
            findings, arena, FINDING_WARN, "slot_lag",
            arena_printf(arena,
                         "slot %s keeps more WAL than max_slot_wal_keep_size allows and may "
                         "lose it at the next checkpoint",
                         slot),
            "start pgstrata serve, or raise max_slot_wal_keep_size, now");
}

static int
examine_slot(struct pg_conn *c, const char *slot, struct arena *arena, struct findings *findings,
             struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c,
                      "SELECT wal_status, plugin = 'pgoutput' AND database = current_database()"
                      " AND NOT temporary FROM pg_replication_slots WHERE slot_name = $1",
                      PG_PARAMS(slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 0)
        findings_add(findings, arena, FINDING_ERROR, "slot",
                     arena_printf(arena, "slot %s does not exist", slot), "pgstrata setup");
    else if (rc == 0)
        examine_slot_row(rows, slot, arena, findings);
    pg_rows_free(rows);
    return rc;
}

/* What needs no decision of the user's. A slot is not made: that would hide the gap. */
static int
mend(struct pg_conn *c, const struct setup_opts *opts, struct arena *arena,
     const struct catalog *catalog, struct findings *findings, struct pgs_err *err)
{
    int applied;
    int rc = setup_migrate(c, &applied, err);
    if (rc == 0)
        rc = setup_settings(c, &opts->rules, NULL, err);
    if (rc == 0)
        rc = setup_publication(c, NULL, err);
    if (rc == 0)
        rc = setup_event_triggers(c, NULL, arena, findings, err);
    if (rc == 0)
        rc = setup_tables(c, NULL, LOCK_PATIENTLY, catalog, err);
    return rc < 0 ? err_doing(err, "mend what was found") : 0;
}

static int
examine_all(struct pg_conn *c, const char *slot, const struct catalog *catalog, struct arena *arena,
            struct findings *findings, struct pgs_err *err)
{
    bool pending = false;
    int rc = setup_migrations_pending(c, &pending, err);
    if (rc == 0 && pending)
        findings_add(findings, arena, FINDING_ERROR, "migrations",
                     "schema pgstrata is older than this program", "pgstrata migrate");
    if (rc == 0)
        rc = examine_publication(c, arena, findings, err);
    if (rc == 0)
        rc = examine_event_triggers(c, arena, findings, err);
    for (size_t i = 0; rc == 0 && i < catalog->count; i++)
        examine_table(catalog->relations[i], arena, findings);
    return rc < 0 ? rc : examine_slot(c, slot, arena, findings, err);
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
    if (rc == 0)
        rc = setup_report_tables(c, catalog, arena, findings, err);
    if (rc == 0)
        rc = settings_get(c, "archive_id", arena, &id, err);
    if (rc == PGS_NONE) {
        findings_add(findings, arena, FINDING_ERROR, "not_set_up", "this database is not set up",
                     "pgstrata setup");
        return 0;
    }
    if (rc == 0 && opts->fix)
        rc = mend(c, opts, arena, catalog, findings, err);
    return rc < 0 ? rc : examine_all(c, names.slot, catalog, arena, findings, err);
}
