/* setup.c: the order of the steps. */
#include "pg/setup_internal.h"

#include "core/err.h"

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

/* As PostgreSQL names slots: no quoting is ever needed. */
static int
slot_name_check(const char *slot, struct pgs_err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    size_t size = strlen(slot);
    if (size > 0 && size < sizeof(((struct setup_names *)NULL)->slot) &&
        strspn(slot, allowed) == size)
        return 0;
    (void)err_set(err, PGS_E_USAGE, "\"%.80s\" is no name for a replication slot", slot);
    return err_hint(err, "1 to 63 lower-case letters, digits and underscores");
}

int
setup_names_read(struct pg_conn *c, const char *slot, struct setup_names *names,
                 struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct setup_names out;
    snprintf(out.publication, sizeof(out.publication), PUBLICATION_NAME);
    int rc = slot != NULL ? slot_name_check(slot, err)
                          : pg_query(c,
                                     "SELECT 'pgstrata_' || oid FROM pg_database"
                                     " WHERE datname = current_database()",
                                     PG_NO_PARAMS, &rows, err);
    if (rc == 0) {
        snprintf(out.slot, sizeof(out.slot), "%s", slot != NULL ? slot : pg_cell(rows, 0, 0));
        *names = out;
    }
    pg_rows_free(rows);
    return rc;
}

/* All error findings in one refusal, so that nobody mends one, tries again and meets the next. */
static int
refuse_errors(const struct findings *findings, struct pgs_err *err)
{
    struct buf texts = { 0 }, fixes = { 0 };
    char code[PGS_ERR_CODE_MAX] = "";
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *f = &findings->items[i];
        if (f->level != FINDING_ERROR)
            continue;
        if (code[0] == '\0')
            snprintf(code, sizeof(code), "%.*s", SLICE_PRINT(f->code));
        buf_printf(&texts, "%s%.*s", texts.size > 0 ? "; " : "", SLICE_PRINT(f->text));
        buf_printf(&fixes, "%s%.*s", fixes.size > 0 && f->fix.size > 0 ? " " : "",
                   SLICE_PRINT(f->fix));
    }
    int rc = 0;
    if (code[0] != '\0') {
        (void)err_set(err, PGS_E_REFUSED, "%s", buf_cstr(&texts));
        (void)err_code(err, code);
        rc = err_hint(err, "%s", buf_cstr(&fixes));
    }
    buf_release(&texts);
    buf_release(&fixes);
    return rc;
}

static int
migrate_step(struct pg_conn *c, const struct setup_opts *opts, struct buf *script,
             struct pgs_err *err)
{
    int applied;
    int rc = script != NULL ? setup_pending_sql(c, script, err) : setup_migrate(c, &applied, err);
    return rc < 0 ? rc : setup_settings(c, &opts->rules, script, err);
}

/* What changes the database, in the order that leaves it sound wherever it stops: everything before
 * the slot is repeatable, and a slot keeps WAL from the moment it exists. */
static int
make_objects(struct pg_conn *c, const struct pg_target *target, const struct setup_opts *opts,
             const char *slot, struct arena *arena, struct buf *script,
             const struct catalog *catalog, struct findings *findings, struct pgs_err *err)
{
    int rc = migrate_step(c, opts, script, err);
    if (rc == 0)
        rc = setup_publication(c, script, err);
    if (rc == 0)
        rc = setup_event_triggers(c, script, arena, findings, err);
    if (rc == 0)
        rc = setup_tables(c, script, LOCK_PATIENTLY, catalog, err);
    if (rc == 0)
        rc = setup_slot(c, target, slot, script, err);
    if (rc < 0 && err->hint[0] == '\0')
        (void)err_hint(err, "what was made so far stays, and is harmless: run setup again, or "
                            "pgstrata teardown");
    return rc;
}

int
setup_run(struct pg_conn *c, const struct pg_target *target, const struct setup_opts *opts,
          struct arena *arena, struct buf *script, struct catalog *catalog,
          struct findings *findings, struct pgs_err *err)
{
    struct setup_names names;
    int rc = setup_check_server(c, arena, findings, err);
    if (rc == 0)
        rc = refuse_errors(findings, err);
    if (rc == 0)
        rc = setup_names_read(c, opts->slot, &names, err);
    if (rc == 0)
        rc = catalog_read(c, &opts->rules, arena, catalog, err);
    if (rc == 0)
        rc = setup_report_tables(c, catalog, arena, findings, err);
    if (rc == 0)
        rc = refuse_errors(findings, err);
    if (rc == 0)
        rc = make_objects(c, target, opts, names.slot, arena, opts->dry_run ? script : NULL,
                          catalog, findings, err);
    return rc < 0 ? err_doing(err, "set up") : 0;
}

int
setup_sync_tables(struct pg_conn *c, const struct setup_opts *opts, struct arena *arena,
                  struct catalog *catalog, struct pgs_err *err)
{
    int rc = catalog_read(c, &opts->rules, arena, catalog, err);
    if (rc == 0)
        rc = setup_settings(c, &opts->rules, NULL, err);
    return rc < 0 ? rc : setup_tables(c, NULL, LOCK_ONCE, catalog, err);
}
