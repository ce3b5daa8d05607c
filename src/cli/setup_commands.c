/* setup_commands.c: setup, doctor, migrate, teardown. */
#include "cli/commands.h"
#include "core/err.h"

static const char *
level_name(enum finding_level level)
{
    switch (level) {
    case FINDING_OK: return "ok";
    case FINDING_WARN: return "warning";
    case FINDING_ERROR: return "error";
    }
    return "error";
}

static const char *
identity_text(const struct cli *cli, const struct relation *r)
{
    struct buf text = { 0 };
    static const struct {
        char code;
        const char *name;
    } names[] = { { 'd', "primary key" }, { 'n', "nothing" }, { 'f', "full" }, { 'i', "index" } };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].code == r->identity)
            buf_put_str(&text, names[i].name);
    }
    const char *separator = " (";
    for (size_t i = 0; i < r->column_count; i++) {
        if (!r->columns[i].key)
            continue;
        buf_put_str(&text, separator);
        buf_put_slice(&text, r->columns[i].name);
        separator = ", ";
    }
    if (separator[0] == ',')
        buf_put_str(&text, ")");
    const char *copy = arena_strdup(cli->arena, buf_cstr(&text));
    buf_release(&text);
    return copy;
}

static const char *
covered_text(const struct cli *cli, const struct relation *r)
{
    if (r->route == ROUTE_EXCLUDED)
        return "-";
    if (r->covered)
        return r->published ? "yes" : "no: not published yet";
    return arena_printf(cli->arena, "no: %.*s", SLICE_PRINT(r->why_not));
}

static void
print_tables(const struct cli *cli, const struct catalog *catalog)
{
    struct cli_table *t = cli_table_new(
        cli->arena, 5, (const char *const[]){ "table", "route", "why", "identity", "covered" });
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        cli_table_row(
            t, (const char *const[]){ arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(r->schema),
                                                   SLICE_PRINT(r->name)),
                                      route_name(r->route), cli_text(cli, r->route_reason),
                                      identity_text(cli, r), covered_text(cli, r) });
    }
    cli_table_print(t, stdout);
}

static json_t *
tables_json(const struct cli *cli, const struct catalog *catalog)
{
    json_t *items = json_array();
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        json_array_append_new(
            items, json_pack("{s:o, s:o, s:s, s:o, s:s, s:b, s:b, s:o, s:o}", "schema",
                             json_of_slice(r->schema), "table", json_of_slice(r->name), "route",
                             route_name(r->route), "route_reason", json_of_slice(r->route_reason),
                             "identity", identity_text(cli, r), "covered", (int)r->covered,
                             "published", (int)r->published, "why_not",
                             r->covered ? json_null() : json_of_slice(r->why_not), "fix",
                             r->covered ? json_null() : json_of_slice(r->fix)));
    }
    return items;
}

static json_t *
findings_json(const struct findings *findings)
{
    json_t *items = json_array();
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *f = &findings->items[i];
        json_array_append_new(items,
                              json_pack("{s:s, s:o, s:o, s:o}", "level", level_name(f->level),
                                        "code", json_of_slice(f->code), "text",
                                        json_of_slice(f->text), "fix", json_of_slice(f->fix)));
    }
    return items;
}

static void
print_findings(const struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *f = &findings->items[i];
        printf("%-8s %.*s\n", level_name(f->level), SLICE_PRINT(f->text));
        if (f->fix.size > 0)
            printf("         fix: %.*s\n", SLICE_PRINT(f->fix));
    }
}

static bool
findings_bad(const struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        if (findings->items[i].level == FINDING_ERROR)
            return true;
    }
    return false;
}

static void
print_fixes(const struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        if (!r->covered && r->route != ROUTE_EXCLUDED && r->fix.size > 0)
            printf("%.*s.%.*s: %.*s\n", SLICE_PRINT(r->schema), SLICE_PRINT(r->name),
                   SLICE_PRINT(r->fix));
    }
}

static void
script_release(void *handle)
{
    buf_release(handle);
}

static struct buf *
script_new(struct cli *cli)
{
    struct buf *script = arena_alloc_zero(cli->arena, sizeof(*script));
    arena_defer(cli->arena, script_release, script);
    return script;
}

static void
answer_report(struct cli *cli, const struct catalog *catalog, const struct findings *findings,
              struct buf *script)
{
    if (cli->json) {
        json_t *answer = json_pack("{s:o, s:o}", "tables", tables_json(cli, catalog), "findings",
                                   findings_json(findings));
        if (script != NULL)
            json_object_set_new(answer, "sql", json_of_slice(buf_slice(script)));
        cli_print_json(answer);
        return;
    }
    if (script != NULL) {
        printf("%s", buf_cstr(script));
        return;
    }
    print_tables(cli, catalog);
    printf("\n");
    print_findings(findings);
    print_fixes(catalog);
}

static int
run_setup(struct cli *cli, struct pgs_err *err)
{
    struct setup_opts opts = config_setup_opts(&cli->config);
    struct catalog catalog = { 0 };
    struct findings findings = { 0 };
    struct buf *script = NULL;
    struct pg_conn *conn;
    opts.dry_run = cli_given(cli, "dry-run");
    if (opts.dry_run)
        script = script_new(cli);
    int rc = cli_connect(cli, &conn, err);
    if (rc == 0)
        rc = setup_run(conn, &cli->config.target, &opts, cli->arena, script, &catalog, &findings,
                       err);
    if (rc < 0)
        return rc;
    answer_report(cli, &catalog, &findings, script);
    if (!cli->json && !opts.dry_run)
        printf("\nset up. Next: pgstrata serve\n");
    return 0;
}

const struct cli_command command_setup = {
    .name = "setup",
    .arguments = "",
    .summary = "prepare the database: schema, publication, triggers, slot",
    .details =
        "Checks the server, creates schema pgstrata, the publication with every table that can be\n"
        "covered, move and event triggers where the role may, then the replication slot. Prints "
        "how\n"
        "each table finds its tenant and whether it is covered. May be repeated at any time.",
    .examples =
        "  pgstrata setup --dry-run\n  pgstrata setup --dsn 'host=db1 dbname=app user=strata'",
    .options = (const struct cli_option[]){ { "dry-run", 0, NULL, "print the SQL, change nothing" },
                                            { 0 } },
    .run = run_setup,
};

static int
run_doctor(struct cli *cli, struct pgs_err *err)
{
    struct setup_opts opts = config_setup_opts(&cli->config);
    struct catalog catalog = { 0 };
    struct findings findings = { 0 };
    struct pg_conn *conn;
    opts.fix = cli_given(cli, "fix");
    int rc = cli_connect(cli, &conn, err);
    if (rc == 0)
        rc = setup_doctor(conn, &cli->config.target, &opts, cli->arena, &catalog, &findings, err);
    if (rc < 0)
        return rc;
    answer_report(cli, &catalog, &findings, NULL);
    cli->exit_code = findings_bad(&findings) ? 1 : 0;
    return 0;
}

const struct cli_command command_doctor = {
    .name = "doctor",
    .arguments = "",
    .summary = "say what is covered, what is not, and how to mend it",
    .details =
        "Exit code 1 when something is wrong. With --fix mends what needs no decision of yours.",
    .examples = "  pgstrata doctor\n  pgstrata doctor --fix",
    .options = (const struct cli_option[]){ { "fix", 0, NULL, "mend what can be mended" }, { 0 } },
    .run = run_doctor,
};

static int
run_migrate(struct cli *cli, struct pgs_err *err)
{
    struct pg_conn *conn;
    int applied = 0;
    int rc = cli_connect(cli, &conn, err);
    if (rc == 0)
        rc = setup_migrate(conn, &applied, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        cli_print_json(json_pack("{s:i}", "applied", applied));
    else
        printf("%d migration%s applied\n", applied, applied == 1 ? "" : "s");
    return 0;
}

const struct cli_command command_migrate = {
    .name = "migrate",
    .arguments = "",
    .summary = "bring schema pgstrata up to this version",
    .examples = "  pgstrata migrate",
    .options = (const struct cli_option[]){ { 0 } },
    .run = run_migrate,
};

static int
run_teardown(struct cli *cli, struct pgs_err *err)
{
    struct setup_opts opts = config_setup_opts(&cli->config);
    struct buf *script = script_new(cli);
    struct pg_conn *conn;
    opts.dry_run = cli_given(cli, "dry-run");
    int rc = 0;
    if (!opts.dry_run)
        rc = cli_confirm_strictly(cli, err,
                                  "remove slot, publication, triggers and schema pgstrata? "
                                  "Changes from now on are not archived.");
    if (rc == 0)
        rc = cli_connect(cli, &conn, err);
    if (rc == 0)
        rc = setup_teardown(conn, &opts, cli->arena, script, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        cli_print_json(json_pack("{s:b, s:o}", "removed", (int)!opts.dry_run, "sql",
                                 json_of_slice(buf_slice(script))));
    else if (opts.dry_run)
        printf("%s", buf_cstr(script));
    else
        printf("removed every trace from the database; the archive is untouched\n");
    return 0;
}

const struct cli_command command_teardown = {
    .name = "teardown",
    .arguments = "",
    .summary = "remove every trace of pgstrata from the database",
    .details = "Stop `pgstrata serve` first. The archive's files stay where they are.",
    .examples = "  pgstrata teardown --dry-run\n  pgstrata teardown --yes",
    .options = (const struct cli_option[]){ { "dry-run", 0, NULL, "print the SQL, change nothing" },
                                            { 0 } },
    .run = run_teardown,
};
