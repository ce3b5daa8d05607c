/* export.c: export and verify: what the archive says, and whether it is sound. */
#include "cli/commands.h"
#include "core/err.h"

#include <inttypes.h>

static int
format_parse(const char *text, enum export_format *format, struct pgs_err *err)
{
    if (strcmp(text, "sql") == 0)
        *format = EXPORT_SQL;
    else if (strcmp(text, "csv") == 0)
        *format = EXPORT_CSV;
    else if (strcmp(text, "jsonl") == 0)
        *format = EXPORT_JSONL;
    else
        return err_set(err, PGS_E_USAGE, "--format: \"%s\" is none of sql, csv, jsonl", text);
    return 0;
}

static int
export_options(struct cli *cli, struct export_opts *opts, struct pgs_err *err)
{
    const char *at = cli_value(cli, "at");
    const char *format = cli_value(cli, "format");
    int rc = cli_required(cli, "tenant", &opts->tenant, err);
    if (rc == 0)
        rc = cli_required(cli, "output", &opts->directory, err);
    if (rc == 0)
        rc = format_parse(format != NULL ? format : "sql", &opts->format, err);
    if (rc == 0)
        rc = cli_list(cli, "tables", &opts->tables, &opts->table_count, err);
    if (rc == 0)
        rc = cli_target(cli, true, &opts->target, NULL, err);
    if (rc == 0 && at != NULL && opts->target.kind != TARGET_END)
        rc = err_set(err, PGS_E_USAGE, "--at and a --target option exclude each other");
    if (rc == 0 && at != NULL)
        rc = cli_position(at, &opts->target, err);
    if (rc == 0)
        rc = cli_era(cli, &opts->target.era, err);
    opts->target.exclusive = cli_given(cli, "exclusive");
    if (rc == 0 && at == NULL && opts->target.exclusive && opts->target.kind == TARGET_END)
        rc = err_set(err, PGS_E_USAGE, "--exclusive needs a target");
    return rc;
}

static int
run_export(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct export_opts opts = { 0 };
    struct export_result result = { 0 };
    struct restore_session *s;
    int rc = export_options(cli, &opts, err);
    if (rc == 0)
        rc = cli_milliseconds(cli, "timeout", env.timeout_ms, &env.timeout_ms, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = export_run(s, &opts, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    json_t *tables = json_array();
    for (size_t i = 0; i < result.table_count; i++) {
        const char *name =
            arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(result.tables[i].schema),
                         SLICE_PRINT(result.tables[i].name));
        json_array_append_new(tables, json_pack("{s:s, s:I, s:I, s:o}", "name", name, "rows",
                                                (json_int_t)result.tables[i].rows, "bytes",
                                                (json_int_t)result.tables[i].bytes, "path",
                                                json_of_slice(result.tables[i].path)));
        if (!cli->json)
            printf("%-40s %12s rows  %.*s\n", name, cli_count(cli, result.tables[i].rows),
                   SLICE_PRINT(result.tables[i].path));
    }
    if (cli->json)
        cli_print_json(json_pack("{s:o, s:o, s:o, s:o}", "target_lsn", json_of_lsn(result.cut.lsn),
                                 "last_kept", json_of_moment(&result.cut.last_kept), "first_undone",
                                 json_of_moment(&result.cut.first_undone), "tables", tables));
    else
        json_decref(tables);
    return 0;
}

const struct cli_command command_export = {
    .name = "export",
    .arguments = "",
    .summary = "write a tenant's rows at any moment to files",
    .details =
        "From the archive alone: no load on the database. `-t _shared` exports shared tables.",
    .examples = "  pgstrata export -t 42 --format csv -o /tmp/t42\n"
                "  pgstrata export -t 42 --at 2026-01-15T10:30:00Z --format sql -o /tmp/t42",
    .options = (const struct cli_option[]){ { "tenant", 't', "TENANT", "the tenant" },
                                            { "at", 0, "TIME|LSN", "the moment (now)" },
                                            CLI_TARGET_OPTIONS,
                                            { "format", 0, "FORMAT", "sql, csv or jsonl (sql)" },
                                            { "output", 'o', "DIR", "folder for the files" },
                                            { "tables", 0, "A,B", "only these tables" },
                                            { "timeout", 0, "TIME",
                                              "wait this long for the archive to catch up (30s)" },
                                            { 0 } },
    .run = run_export,
};

static void
verify_print(const struct verify_result *r)
{
    printf("read %" PRIu64 " log entries, %" PRIu64 " segments, %" PRIu64 " versions, %" PRIu64
           " bytes\n",
           r->entries, r->segments, r->versions, r->bytes);
    if (r->rows_compared > 0)
        printf("compared %" PRIu64 " rows with the live database\n", r->rows_compared);
    for (size_t i = 0; i < r->problem_count; i++)
        printf("problem: %.*s: %.*s\n", SLICE_PRINT(r->problems[i].object),
               SLICE_PRINT(r->problems[i].text));
    printf("%s\n", r->problem_count == 0 ? "sound" : "NOT SOUND");
}

static int
run_verify(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct verify_opts opts = { .tenant = cli_value(cli, "tenant"),
                                .live = cli_given(cli, "live") };
    struct verify_result result = { 0 };
    struct restore_session *s;
    int rc = cli_milliseconds(cli, "timeout", env.timeout_ms, &env.timeout_ms, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = verify_run(s, &opts, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    cli->exit_code = result.problem_count == 0 ? 0 : 1;
    if (!cli->json) {
        verify_print(&result);
        return 0;
    }
    json_t *problems = json_array();
    for (size_t i = 0; i < result.problem_count; i++)
        json_array_append_new(problems, json_pack("{s:o, s:o}", "object",
                                                  json_of_slice(result.problems[i].object), "text",
                                                  json_of_slice(result.problems[i].text)));
    cli_print_json(
        json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:o}", "valid", (int)(result.problem_count == 0),
                  "entries", (json_int_t)result.entries, "segments", (json_int_t)result.segments,
                  "versions", (json_int_t)result.versions, "bytes", (json_int_t)result.bytes,
                  "rows_compared", (json_int_t)result.rows_compared, "problems", problems));
    return 0;
}

const struct cli_command command_verify = {
    .name = "verify",
    .arguments = "",
    .summary = "read the archive and check every byte of it",
    .details = "Checks the chain of log entries, checksums, order and counts. With --live also "
               "compares the\n"
               "archive's state with a live snapshot at the same LSN. Exit code 1 when something "
               "is wrong.",
    .examples = "  pgstrata verify\n  pgstrata verify -t 42 --live --json",
    .options =
        (const struct cli_option[]){
            { "tenant", 't', "TENANT", "only what this tenant needs" },
            { "live", 0, NULL, "compare with the live database" },
            { "timeout", 0, "TIME", "wait this long for the archive to catch up (30s)" },
            { 0 } },
    .run = run_verify,
};
