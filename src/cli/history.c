/* history.c: history, diff, timeline: the ways to find the moment to go back to. */
#include "cli/commands.h"
#include "core/err.h"

#include <inttypes.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 100000

static json_t *
item_json(const struct cli *cli, const struct history_item *i)
{
    return json_pack(
        "{s:o, s:o, s:o, s:I, s:o, s:s, s:s, s:o, s:o, s:o}", "commit_lsn",
        json_of_lsn(i->commit_lsn), "commit_end_lsn", json_of_lsn(i->commit_end_lsn), "commit_time",
        json_of_time(i->commit_time), "xid", (json_int_t)i->xid, "actor", json_of_slice(i->actor),
        "table",
        arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(i->schema), SLICE_PRINT(i->table)), "op",
        i->op, "key", json_of_raw(i->key_json), "before", json_of_raw(i->before_json), "after",
        json_of_raw(i->after_json));
}

static void
item_print(const struct cli *cli, const struct history_item *i)
{
    printf("%s  %-14s xid %-8" PRIu64 " %-16s %-8s %.*s %s\n", cli_time(cli, i->commit_time),
           cli_lsn(cli, i->commit_lsn), i->xid, cli_text(cli, i->actor), i->op,
           SLICE_PRINT(i->table), cli_text(cli, i->key_json));
    if (i->before_json.data != NULL)
        printf("    before  %s\n", cli_text(cli, i->before_json));
    if (i->after_json.data != NULL)
        printf("    after   %s\n", cli_text(cli, i->after_json));
}

static int
range_options(struct cli *cli, struct history_opts *opts, struct pgs_err *err)
{
    const char *from = cli_value(cli, "from"), *to = cli_value(cli, "to");
    int rc = 0;
    opts->has_from = from != NULL;
    opts->has_to = to != NULL;
    if (from != NULL)
        rc = cli_position(from, &opts->from, err);
    if (rc == 0 && to != NULL)
        rc = cli_position(to, &opts->to, err);
    if (rc == 0)
        rc = cli_era(cli, &opts->to.era, err);
    opts->from.era = opts->to.era;
    return rc;
}

static int
history_options(struct cli *cli, struct history_opts *opts, struct pgs_err *err)
{
    uint64_t limit = LIMIT_DEFAULT;
    int rc = cli_required(cli, "tenant", &opts->tenant, err);
    if (rc == 0)
        rc = range_options(cli, opts, err);
    if (rc == 0)
        rc = cli_list(cli, "key", &opts->key, &opts->key_count, err);
    if (rc == 0)
        rc = cli_number(cli, "limit", limit, LIMIT_MAX, &limit, err);
    if (rc < 0)
        return rc;
    opts->table = cli_value(cli, "table");
    opts->limit = (size_t)limit;
    opts->cursor = cli_value(cli, "cursor");
    opts->ascending = cli_given(cli, "ascending");
    if (opts->key_count > 0 && opts->table == NULL)
        return err_set(err, PGS_E_USAGE, "--key needs --table");
    return 0;
}

static int
run_history(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct history_opts opts = { 0 };
    struct history_result result = { 0 };
    struct restore_session *s;
    int rc = history_options(cli, &opts, err);
    if (rc == 0)
        rc = cli_milliseconds(cli, "timeout", env.timeout_ms, &env.timeout_ms, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = history_run(s, &opts, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    json_t *items = json_array();
    for (size_t i = 0; i < result.count; i++) {
        if (cli->json)
            json_array_append_new(items, item_json(cli, &result.items[i]));
        else
            item_print(cli, &result.items[i]);
    }
    if (cli->json) {
        cli_print_json(json_pack("{s:o, s:o}", "items", items, "next_cursor",
                                 json_of_slice(result.next_cursor)));
        return 0;
    }
    json_decref(items);
    if (result.next_cursor.data != NULL)
        printf("more: --cursor %.*s\n", SLICE_PRINT(result.next_cursor));
    return 0;
}

const struct cli_command command_history = {
    .name = "history",
    .arguments = "",
    .summary = "who changed what, when: every version of a tenant's rows",
    .details = "Newest first. --key takes the key's column values in the table's column order, "
               "separated by\n"
               "commas. The xid of an answer goes into `pgstrata pitr --before-xid`.",
    .examples =
        "  pgstrata history -t 42 --table orders --limit 20\n"
        "  pgstrata history -t 42 --table orders --key 1071\n"
        "  pgstrata history -t 42 --from 2026-01-15T10:00:00Z --to 2026-01-15T11:00:00Z --json",
    .options =
        (const struct cli_option[]){
            { "tenant", 't', "TENANT", "the tenant" },
            { "table", 0, "TABLE", "only this table" },
            { "key", 0, "A,B", "only the row with this key" },
            { "from", 0, "TIME|LSN", "only changes after this" },
            { "to", 0, "TIME|LSN", "only changes up to this" },
            CLI_ERA_OPTION,
            { "limit", 0, "N", "items per answer (100)" },
            { "cursor", 0, "CURSOR", "go on where an answer ended" },
            { "ascending", 0, NULL, "oldest first" },
            { "timeout", 0, "TIME", "wait this long for the archive to catch up (30s)" },
            { 0 } },
    .run = run_history,
};

static json_t *
diff_json(const struct cli *cli, const struct diff_result *r)
{
    json_t *tables = json_array();
    for (size_t i = 0; i < r->table_count; i++) {
        const struct pitr_table *t = &r->tables[i];
        json_t *rows = json_array();
        for (size_t j = 0; j < t->sample_count; j++) {
            const struct pitr_sample *s = &t->samples[j];
            json_array_append_new(rows, json_pack("{s:s, s:o, s:o, s:o}", "op",
                                                  s->op == 'I'   ? "insert"
                                                  : s->op == 'U' ? "update"
                                                                 : "delete",
                                                  "key", json_of_raw(s->key_json), "before",
                                                  json_of_raw(s->before_json), "after",
                                                  json_of_raw(s->after_json)));
        }
        json_array_append_new(tables,
                              json_pack("{s:s, s:I, s:I, s:I, s:o}", "name",
                                        arena_printf(cli->arena, "%.*s.%.*s",
                                                     SLICE_PRINT(t->schema), SLICE_PRINT(t->name)),
                                        "inserted", (json_int_t)t->inserted, "updated",
                                        (json_int_t)t->updated, "deleted", (json_int_t)t->deleted,
                                        "rows", rows));
    }
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I}", "from", json_of_lsn(r->from.lsn), "to",
                     json_of_lsn(r->to.lsn), "tables", tables, "inserted", (json_int_t)r->inserted,
                     "updated", (json_int_t)r->updated, "deleted", (json_int_t)r->deleted);
}

static void
diff_print(const struct cli *cli, const struct diff_result *r)
{
    struct cli_table *t = cli_table_new(
        cli->arena, 4, (const char *const[]){ "table", "inserted", "updated", "deleted" });
    for (size_t i = 0; i < r->table_count; i++) {
        const struct pitr_table *d = &r->tables[i];
        cli_table_row(
            t, (const char *const[]){ arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(d->schema),
                                                   SLICE_PRINT(d->name)),
                                      cli_count(cli, d->inserted), cli_count(cli, d->updated),
                                      cli_count(cli, d->deleted) });
    }
    printf("from %s to %s\n", cli_lsn(cli, r->from.lsn), cli_lsn(cli, r->to.lsn));
    cli_table_print(t, stdout);
    for (size_t i = 0; i < r->table_count; i++) {
        for (size_t j = 0; j < r->tables[i].sample_count; j++) {
            const struct pitr_sample *s = &r->tables[i].samples[j];
            printf("%c %.*s %s\n",
                   s->op == 'I'   ? '+'
                   : s->op == 'U' ? '~'
                                  : '-',
                   SLICE_PRINT(r->tables[i].name), cli_text(cli, s->key_json));
            if (s->before_json.data != NULL)
                printf("    before  %s\n", cli_text(cli, s->before_json));
            if (s->after_json.data != NULL)
                printf("    after   %s\n", cli_text(cli, s->after_json));
        }
    }
}

static int
run_diff(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct diff_opts opts = { .to = { .kind = TARGET_END } };
    struct diff_result result = { 0 };
    struct restore_session *s;
    const char *from;
    uint64_t limit = LIMIT_DEFAULT;
    int rc = cli_required(cli, "tenant", &opts.tenant, err);
    if (rc == 0)
        rc = cli_required(cli, "from", &from, err);
    if (rc == 0)
        rc = cli_position(from, &opts.from, err);
    if (rc == 0 && cli_given(cli, "to"))
        rc = cli_position(cli_value(cli, "to"), &opts.to, err);
    if (rc == 0)
        rc = cli_era(cli, &opts.to.era, err);
    opts.from.era = opts.to.era;
    if (rc == 0)
        rc = cli_list(cli, "tables", &opts.tables, &opts.table_count, err);
    if (rc == 0)
        rc = cli_number(cli, "limit", limit, LIMIT_MAX, &limit, err);
    if (rc == 0)
        rc = cli_milliseconds(cli, "timeout", env.timeout_ms, &env.timeout_ms, err);
    opts.limit = (size_t)limit;
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = diff_run(s, &opts, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        cli_print_json(diff_json(cli, &result));
    else
        diff_print(cli, &result);
    return 0;
}

const struct cli_command command_diff = {
    .name = "diff",
    .arguments = "",
    .summary = "how a tenant's rows differ between two moments",
    .examples = "  pgstrata diff -t 42 --from 2026-01-15T10:00:00Z --to 2026-01-15T11:00:00Z\n"
                "  pgstrata diff -t 42 --from 0/3FA9E20 --json",
    .options =
        (const struct cli_option[]){
            { "tenant", 't', "TENANT", "the tenant" },
            { "from", 0, "TIME|LSN", "the earlier moment" },
            { "to", 0, "TIME|LSN", "the later moment (now)" },
            CLI_ERA_OPTION,
            { "tables", 0, "A,B", "only these tables" },
            { "limit", 0, "N", "rows shown per table; counts are always whole (100)" },
            { "timeout", 0, "TIME", "wait this long for the archive to catch up (30s)" },
            { 0 } },
    .run = run_diff,
};

struct timeline {
    const struct cli *cli;
    json_t *items;
};

static void
timeline_add(struct timeline *t, const char *kind, pgs_lsn begin, pgs_lsn end, pgs_time time,
             const char *text)
{
    if (!t->cli->json)
        printf("%-14s %-16s %-16s %-28s %s\n", kind, cli_lsn(t->cli, begin),
               end == 0 ? "" : cli_lsn(t->cli, end), cli_time(t->cli, time), text);
    json_array_append_new(t->items,
                          json_pack("{s:s, s:o, s:o, s:o, s:s}", "kind", kind, "begin_lsn",
                                    json_of_lsn(begin), "end_lsn", json_of_lsn(end), "time",
                                    json_of_time(time), "text", text));
}

static void
timeline_entry(struct timeline *t, const struct log_entry *e)
{
    struct arena *arena = t->cli->arena;
    if (e->kind == LOG_ERA)
        timeline_add(t, "era", e->range.begin, 0, e->created,
                     arena_printf(arena, "era %u: %.*s", e->era, SLICE_PRINT(e->reason)));
    for (size_t i = 0; i < e->base_count; i++)
        timeline_add(t, "base", e->bases[i].lsn, 0, e->created,
                     arena_printf(arena, "table %u, %" PRIu64 " rows", e->bases[i].table_oid,
                                  e->bases[i].rows));
    for (size_t i = 0; i < e->break_count; i++)
        timeline_add(t, "gap", e->breaks[i].begin, e->breaks[i].end, e->created,
                     cli_text(t->cli, e->breaks[i].reason));
    for (size_t i = 0; i < e->restore_point_count; i++)
        timeline_add(t, "restore_point", e->restore_points[i].commit_end_lsn, 0,
                     e->restore_points[i].time, cli_text(t->cli, e->restore_points[i].name));
}

static int
run_timeline(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct timeline t = { .cli = cli };
    struct restore_session *s;
    const char *tenant;
    bool known = false;
    int rc = cli_required(cli, "tenant", &tenant, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = archive_has_tenant(s->archive, slice_str(tenant), &known, err);
    if (rc < 0)
        return rc;
    if (!known)
        return err_set(err, PGS_E_NOT_FOUND, "the archive knows no tenant \"%s\"", tenant);
    t.items = json_array();
    const struct alog *log = archive_log(s->archive);
    for (size_t i = 0; i < alog_count(log); i++)
        timeline_entry(&t, alog_entry(log, i));
    timeline_add(&t, "end", archive_end(s->archive), 0, archive_end_time(s->archive),
                 "archived up to here");
    if (cli->json)
        cli_print_json(json_pack("{s:o, s:n}", "items", t.items, "next_cursor"));
    else
        json_decref(t.items);
    return 0;
}

const struct cli_command command_timeline = {
    .name = "timeline",
    .arguments = "",
    .summary = "what a tenant's history is made of: eras, bases, gaps, restore points",
    .examples = "  pgstrata timeline -t 42",
    .options = (const struct cli_option[]){ { "tenant", 't', "TENANT", "the tenant" }, { 0 } },
    .run = run_timeline,
};
