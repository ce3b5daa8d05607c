/* pitr.c: point-in-time recovery of one tenant, and restore points. */
#include "cli/commands.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>
#include <unistd.h>

#define SAMPLES_DEFAULT 3
#define SAMPLES_MAX 1000

static void
progress(void *context, const char *step, uint64_t done, uint64_t total)
{
    const struct cli *cli = context;
    if (cli->json)
        return;
    bool terminal = isatty(STDERR_FILENO);
    if (total > 0)
        fprintf(stderr, "%s%s: %" PRIu64 " of %" PRIu64 "%s", terminal ? "\r\033[K" : "", step,
                done, total, terminal && done < total ? "" : "\n");
    else
        fprintf(stderr, "%s%s%s", terminal ? "\r\033[K" : "", step, "\n");
}

static const char *
table_name(const struct cli *cli, const struct pitr_table *t)
{
    return arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(t->schema), SLICE_PRINT(t->name));
}

static json_t *
sample_json(const struct pitr_sample *sample)
{
    char op[2] = { sample->op, '\0' };
    const char *word = op[0] == 'I' ? "insert" : op[0] == 'U' ? "update" : "delete";
    return json_pack("{s:s, s:o, s:o, s:o}", "op", word, "key", json_of_raw(sample->key_json),
                     "before", json_of_raw(sample->before_json), "after",
                     json_of_raw(sample->after_json));
}

static void
tables_json(const struct cli *cli, const struct pitr_table *tables, size_t count, json_t **out,
            json_t **samples)
{
    *out = json_array();
    *samples = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct pitr_table *t = &tables[i];
        const char *name = table_name(cli, t);
        json_array_append_new(*out,
                              json_pack("{s:s, s:I, s:I, s:I}", "name", name, "inserted",
                                        (json_int_t)t->inserted, "updated", (json_int_t)t->updated,
                                        "deleted", (json_int_t)t->deleted));
        for (size_t j = 0; j < t->sample_count; j++) {
            json_t *sample = sample_json(&t->samples[j]);
            json_object_set_new(sample, "table", json_string(name));
            json_array_append_new(*samples, sample);
        }
    }
}

static json_t *
changes_json(const struct cli *cli, const struct pitr_result *r)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->table_count; i++) {
        const struct pitr_table *t = &r->tables[i];
        for (size_t j = 0; j < t->change_count; j++) {
            const struct schema_change *c = &t->changes[j];
            const char *name = table_name(cli, t);
            json_array_append_new(out, json_pack("{s:s, s:s, s:o, s:s}", "table", name, "change",
                                                 c->kind, "column", json_of_slice(c->column),
                                                 "text", c->text));
        }
    }
    return out;
}

static json_t *
pitr_json(const struct cli *cli, const struct pitr_result *r)
{
    json_t *tables, *samples;
    tables_json(cli, r->tables, r->table_count, &tables, &samples);
    json_t *innocence = r->innocence_checked ? json_pack("{s:I}", "other_tenants_versions",
                                                         (json_int_t)r->foreign_versions)
                                             : json_null();
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:I, s:I, s:o, "
                     "s:o, s:o, s:o}",
                     "status", r->status, "target_lsn", json_of_lsn(r->target_lsn), "target_time",
                     json_of_time(r->target_time), "method", r->method, "plan",
                     r->plan[0] == '\0' ? json_null() : json_string(r->plan), "last_kept",
                     json_of_moment(&r->cut.last_kept), "first_undone",
                     json_of_moment(&r->cut.first_undone), "tables", tables, "inserted",
                     (json_int_t)r->inserted, "updated", (json_int_t)r->updated, "deleted",
                     (json_int_t)r->deleted, "samples", samples, "bytes_read",
                     (json_int_t)r->bytes_read, "duration_ms", (json_int_t)r->duration_ms,
                     "restore_point", json_of_slice(r->restore_point), "xid",
                     r->restore_xid == 0 ? json_null() : json_integer((json_int_t)r->restore_xid),
                     "innocence", innocence, "schema_changes", changes_json(cli, r));
}

static void
print_tables(const struct cli *cli, const struct pitr_table *tables, size_t count,
             const char *const *titles)
{
    struct cli_table *t = cli_table_new(cli->arena, 4, titles);
    for (size_t i = 0; i < count; i++) {
        cli_table_row(t, (const char *const[]){ table_name(cli, &tables[i]),
                                                cli_count(cli, tables[i].inserted),
                                                cli_count(cli, tables[i].updated),
                                                cli_count(cli, tables[i].deleted) });
    }
    cli_table_print(t, stdout);
}

static void
print_changes(const struct cli *cli, const struct pitr_result *r)
{
    for (size_t i = 0; i < r->table_count; i++) {
        const struct pitr_table *t = &r->tables[i];
        for (size_t j = 0; j < t->change_count; j++)
            printf("  ! %s: %s\n", table_name(cli, t), t->changes[j].text);
    }
}

static void
print_samples(const struct cli *cli, const struct pitr_table *tables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < tables[i].sample_count; j++) {
            const struct pitr_sample *s = &tables[i].samples[j];
            const char *mark = s->op == 'I' ? "+" : s->op == 'U' ? "~" : "-";
            printf("  %s %.*s %s\n", mark, SLICE_PRINT(tables[i].name), cli_text(cli, s->key_json));
            if (s->before_json.data != NULL)
                printf("      now    %s\n", cli_text(cli, s->before_json));
            if (s->after_json.data != NULL)
                printf("      then   %s\n", cli_text(cli, s->after_json));
        }
    }
}

static void
print_moment(const struct cli *cli, const char *label, const struct pgs_moment *m)
{
    if (m->lsn == 0)
        printf("%-13s -\n", label);
    else
        printf("%-13s %s  %s  xid %" PRIu64 "\n", label, cli_lsn(cli, m->lsn),
               cli_time(cli, m->time), m->xid);
}

static void
pitr_print(const struct cli *cli, const struct pitr_result *r, const char *tenant)
{
    printf("%-13s %s\n", "tenant", tenant);
    printf("%-13s %s (%s)\n", "target", cli_lsn(cli, r->target_lsn), cli_time(cli, r->target_time));
    print_moment(cli, "last kept", &r->cut.last_kept);
    print_moment(cli, "first undone", &r->cut.first_undone);
    printf("%-13s %s, read %s in %" PRId64 " ms\n", "method", r->method,
           cli_size(cli, r->bytes_read), r->duration_ms);
    printf("%-13s %s\n\n", "plan", r->plan[0] == '\0' ? "-" : r->plan);
    print_tables(cli, r->tables, r->table_count,
                 (const char *const[]){ "table", "put back", "changed back", "removed" });
    printf("\n");
    print_changes(cli, r);
    print_samples(cli, r->tables, r->table_count);
    if (strcmp(r->status, "previewed") == 0)
        printf("\npreview only: nothing was changed. Apply exactly this with --plan %s\n", r->plan);
    else if (r->restore_point.data != NULL)
        printf("\n%s. To undo: pgstrata pitr -t %s --target-name %s\n", r->status, tenant,
               cli_text(cli, r->restore_point));
    else
        printf("\n%s\n", r->status);
    if (r->innocence_checked)
        printf("versions of other tenants written by this restore: %" PRIu64 "\n",
               r->foreign_versions);
}

static int
pitr_options(struct cli *cli, struct pitr_opts *opts, struct restore_env *env, struct pgs_err *err)
{
    uint64_t samples = SAMPLES_DEFAULT;
    int rc = cli_required(cli, "tenant", &opts->tenant, err);
    if (rc == 0)
        rc = cli_target(cli, false, &opts->target, &opts->target_name_label, err);
    if (rc == 0)
        rc = cli_list(cli, "tables", &opts->tables, &opts->table_count, err);
    if (rc == 0)
        rc =
            cli_list(cli, "exclude-tables", &opts->exclude_tables, &opts->exclude_table_count, err);
    if (rc == 0)
        rc = cli_number(cli, "samples", samples, SAMPLES_MAX, &samples, err);
    if (rc == 0)
        rc = cli_milliseconds(cli, "timeout", env->timeout_ms, &env->timeout_ms, err);
    if (rc == 0)
        rc =
            cli_milliseconds(cli, "lock-timeout", env->lock_timeout_ms, &env->lock_timeout_ms, err);
    if (rc < 0)
        return rc;
    opts->sample_rows = (unsigned)samples;
    opts->dry_run = cli_given(cli, "dry-run");
    opts->plan = cli_value(cli, "plan");
    opts->to_schema = cli_value(cli, "to-schema");
    return 0;
}

/* On a terminal the person sees the preview first, and then decides. */
static int
preview_and_ask(struct cli *cli, struct restore_session *s, struct pitr_opts *opts,
                struct pgs_err *err)
{
    struct pitr_result preview = { 0 };
    if (cli->yes || opts->to_schema != NULL || opts->plan != NULL || !isatty(STDIN_FILENO) ||
        !isatty(STDERR_FILENO))
        return 0;
    opts->dry_run = true;
    int rc = pitr_run(s, opts, cli->arena, &preview, err);
    opts->dry_run = false;
    if (rc < 0)
        return rc;
    pitr_print(cli, &preview, opts->tenant);
    opts->plan = arena_strdup(cli->arena, preview.plan);
    return cli_confirm(cli, err, "apply this to tenant %s?", opts->tenant);
}

static int
run_pitr(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct pitr_opts opts = { 0 };
    struct pitr_result result = { 0 };
    struct restore_session *s;
    env.progress = progress;
    env.progress_context = cli;
    int rc = pitr_options(cli, &opts, &env, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0 && !opts.dry_run)
        rc = preview_and_ask(cli, s, &opts, err);
    if (rc == 0)
        rc = pitr_run(s, &opts, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        cli_print_json(pitr_json(cli, &result));
    else
        pitr_print(cli, &result, opts.tenant);
    return 0;
}

const struct cli_command command_pitr = {
    .name = "pitr",
    .arguments = "",
    .summary = "put one tenant back to any moment (also: point-in-time-recovery)",
    .details =
        "Flushes the archive, works out the tenant's rows at the target, and changes only "
        "rows that\n"
        "differ, in one transaction, while everybody else keeps working. A restore point is "
        "made first\n"
        "and named in the answer, so that the restore can be undone. Refused where the "
        "answer would not\n"
        "be exact. Where columns changed since, rows of then go into the table of now: the answer "
        "says how.\n"
        "--dry-run shows what would change, and the plan to pass to --plan.",
    .examples =
        "  pgstrata pitr -t 42 --target-time 2026-01-15T10:30:00Z --dry-run\n"
        "  pgstrata pitr -t 42 --before-xid 7391 --plan 5d41402a...\n"
        "  pgstrata pitr -t 42 --target-lsn 0/3FA9E20 --to-schema look --tables orders,items",
    .options =
        (const struct cli_option[]){
            { "tenant", 't', "TENANT", "the tenant, as its column shows it" },
            CLI_TARGET_OPTIONS,
            { "dry-run", 0, NULL, "show what would change, change nothing" },
            { "plan", 0, "ID", "apply only if the plan still is this one (exit 5 otherwise)" },
            { "tables", 0, "A,B", "only these tables" },
            { "exclude-tables", 0, "A,B", "all but these tables" },
            { "to-schema", 0, "SCHEMA", "load the rows into tables of this schema instead" },
            { "samples", 0, "N", "sample rows per table (3)" },
            { "timeout", 0, "TIME", "wait this long for the archive to catch up (30s)" },
            { "lock-timeout", 0, "TIME", "wait this long for a lock (10s)" },
            { 0 } },
    .run = run_pitr,
};

static int
run_restore_point_create(struct cli *cli, struct pgs_err *err)
{
    struct pg_conn *conn;
    pgs_lsn lsn = 0;
    int rc = cli_connect(cli, &conn, err);
    if (rc == 0)
        rc = restore_point_create(conn, slice_str(cli->words[0]), SLICE_NULL, "manual", &lsn, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        cli_print_json(json_pack("{s:s, s:o}", "name", cli->words[0], "lsn", json_of_lsn(lsn)));
    else
        printf("restore point %s at %s\n", cli->words[0], cli_lsn(cli, lsn));
    return 0;
}

const struct cli_command command_restore_point_create = {
    .name = "restore-point create",
    .arguments = "NAME",
    .summary = "name this moment, for --target-name",
    .examples = "  pgstrata restore-point create before-import",
    .options = (const struct cli_option[]){ { 0 } },
    .words_min = 1,
    .words_max = 1,
    .run = run_restore_point_create,
};

static int
run_restore_point_list(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct restore_session *s;
    int rc = cli_session(cli, &env, &s, err);
    if (rc < 0)
        return rc;
    json_t *items = json_array();
    const struct alog *log = archive_log(s->archive);
    for (size_t i = 0; i < alog_count(log); i++) {
        const struct log_entry *e = alog_entry(log, i);
        for (size_t j = 0; j < e->restore_point_count; j++) {
            const struct log_restore_point *p = &e->restore_points[j];
            json_array_append_new(
                items, json_pack("{s:o, s:o, s:o, s:I, s:I}", "name", json_of_slice(p->name), "lsn",
                                 json_of_lsn(p->commit_end_lsn), "time", json_of_time(p->time),
                                 "xid", (json_int_t)p->xid, "era", (json_int_t)e->era));
            if (!cli->json)
                printf("%-18s %-28s %.*s\n", cli_lsn(cli, p->commit_end_lsn),
                       cli_time(cli, p->time), SLICE_PRINT(p->name));
        }
    }
    if (cli->json)
        cli_print_json(json_pack("{s:o, s:n}", "items", items, "next_cursor"));
    else
        json_decref(items);
    return 0;
}

const struct cli_command command_restore_point_list = {
    .name = "restore-point list",
    .arguments = "",
    .summary = "restore points in the archive",
    .examples = "  pgstrata restore-point list --json",
    .options = (const struct cli_option[]){ { 0 } },
    .run = run_restore_point_list,
};
