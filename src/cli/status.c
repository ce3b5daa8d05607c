/* status.c: status, flush, base, tenant list. */
#include "cli/commands.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/blockers.h"
#include "pg/quote.h"
#include "strata/barrier.h"

#include <inttypes.h>
#include <stdlib.h>

/* Behind by more than this the archiver is catching up rather than streaming. */
#define STREAMING_LAG_MAX ((uint64_t)64 << 20)
/* Behind, and nothing archived for this long: stalled. */
#define STALLED_AFTER_US (INT64_C(120) * 1000 * 1000)
#define STATEMENT_TIMEOUT "5s"

struct status {
    const char *state;
    const char *database_error; /* NULL: the database answered */
    const char *archive_error;
    pgs_lsn archived_lsn;
    pgs_time archived_time;
    pgs_time last_entry_time;
    bool slot_found, slot_active;
    const char *slot_name, *wal_status;
    int64_t lag_bytes, held_bytes; /* -1: not known */
    int64_t cap_bytes, left_bytes; /* -1: no cap */
    int64_t wal_rate_bytes_s;      /* -1: not known */
    int64_t tenants;               /* -1: not known */
    struct archive_gap *gaps;
    size_t gap_count;
    struct era *eras;
    size_t era_count;
    struct blocker *blockers; /* a base waits for them */
    size_t blocker_count;
};

static int64_t
cell_number(const struct pg_rows *rows, size_t column)
{
    const char *text = pg_cell(rows, 0, column);
    return text == NULL ? -1 : strtoll(text, NULL, 10);
}

static int
read_slot(struct cli *cli, struct pg_conn *conn, struct status *st, struct pgs_err *err)
{
    /* The cap is in megabytes; -1 there means no cap, as here. */
    static const char sql[] =
        "SELECT s.active, s.wal_status,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint,"
        " (SELECT CASE WHEN setting::bigint < 0 THEN -1 ELSE setting::bigint * 1048576 END"
        "    FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),"
        " s.safe_wal_size,"
        " (SELECT (wal_bytes / greatest(extract(epoch FROM now() - stats_reset), 1))::bigint"
        "    FROM pg_stat_wal)"
        " FROM pg_replication_slots s WHERE s.slot_name = $1";
    struct setup_names names;
    struct pg_rows *rows = NULL;
    int rc = setup_names_read(conn, cli->config.slot, &names, err);
    if (rc < 0)
        return rc;
    st->slot_name = arena_strdup(cli->arena, names.slot);
    rc = pg_query(conn, sql, PG_PARAMS(names.slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 1) {
        st->slot_found = true;
        st->slot_active = strcmp(pg_cell(rows, 0, 0), "t") == 0;
        st->wal_status = arena_strdup(cli->arena, pg_cell(rows, 0, 1));
        st->lag_bytes = cell_number(rows, 2);
        st->held_bytes = cell_number(rows, 3);
        st->cap_bytes = cell_number(rows, 4);
        st->left_bytes = cell_number(rows, 5);
        st->wal_rate_bytes_s = cell_number(rows, 6);
    }
    pg_rows_free(rows);
    return rc;
}

static int
count_tenants(struct cli *cli, struct pg_conn *conn, int64_t *count, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    const char *table = cli->config.rules.tenant_table;
    /* The name is configured text, so it is looked up, never pasted. */
    int rc = pg_query(conn,
                      "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
                      " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND"
                      " (n.nspname || '.' || c.relname = $1 OR c.relname = $1 AND n.nspname"
                      " NOT IN ('pg_catalog', 'information_schema'))"
                      " ORDER BY n.nspname = 'public' DESC LIMIT 1",
                      PG_PARAMS(table), &rows, err);
    struct buf sql = { 0 };
    if (rc == 0 && pg_rows_count(rows) == 1) {
        buf_put_str(&sql, "SELECT count(*) FROM ");
        rc = quote_qualified(conn, &sql, pg_cell_slice(rows, 0, 0), pg_cell_slice(rows, 0, 1), err);
        pg_rows_free(rows);
        rows = NULL;
        if (rc == 0)
            rc = pg_query(conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
        if (rc == 0)
            *count = cell_number(rows, 0);
    }
    buf_release(&sql);
    pg_rows_free(rows);
    return rc;
}

static void
read_archive(struct cli *cli, struct restore_session *s, struct status *st)
{
    struct pgs_err err;
    const struct log_entry *last = alog_last(archive_log(s->archive));
    st->archived_lsn = archive_end(s->archive);
    st->archived_time = archive_end_time(s->archive);
    if (last != NULL)
        st->last_entry_time = last->created;
    if (archive_gaps(s->archive, cli->arena, &st->gaps, &st->gap_count, &err) < 0 ||
        archive_eras(s->archive, cli->arena, &st->eras, &st->era_count, &err) < 0)
        st->archive_error = arena_strdup(cli->arena, err.message);
}

static const char *
state_of(const struct status *st)
{
    if (st->database_error != NULL || !st->slot_found || !st->slot_active)
        return "down";
    bool behind = st->lag_bytes > (int64_t)STREAMING_LAG_MAX;
    if (behind && st->last_entry_time != PGS_TIME_NONE &&
        time_now() - st->last_entry_time > STALLED_AFTER_US)
        return "stalled";
    return behind ? "catching_up" : "streaming";
}

static const char *
advice_of(const struct status *st)
{
    if (!st->slot_found)
        return "there is no slot: run `pgstrata setup`";
    if (st->wal_status != NULL && strcmp(st->wal_status, "lost") == 0)
        return "the slot has lost WAL: run `pgstrata setup`, then `pgstrata base`";
    if (!st->slot_active)
        return "start `pgstrata serve`: while it is down PostgreSQL keeps WAL for it";
    if (st->cap_bytes < 0)
        return "max_slot_wal_keep_size is unlimited: watch the disk of PostgreSQL";
    if (st->left_bytes >= 0 && st->left_bytes < st->cap_bytes / 4)
        return "less than a quarter of max_slot_wal_keep_size is left: find what slows the "
               "archiver";
    return "";
}

static int64_t
seconds_to_loss(const struct status *st)
{
    if (st->left_bytes < 0 || st->wal_rate_bytes_s <= 0)
        return -1;
    return st->left_bytes / st->wal_rate_bytes_s;
}

static json_t *
number_json(int64_t n)
{
    return n < 0 ? json_null() : json_integer(n);
}

static json_t *
gap_tables_json(const struct cli *cli, struct restore_session *s, const struct archive_gap *gap)
{
    json_t *tables = json_array();
    const struct archive_table *known = NULL;
    size_t count = 0;
    struct pgs_err err;
    if (gap->table_oid == 0) {
        json_array_append_new(tables, json_string("*"));
        return tables;
    }
    if (archive_tables(s->archive, gap->begin, cli->arena, &known, &count, &err) < 0)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        if (known[i].oid == gap->table_oid)
            json_array_append_new(tables,
                                  json_string(arena_printf(cli->arena, "%.*s.%.*s",
                                                           SLICE_PRINT(known[i].relation->schema),
                                                           SLICE_PRINT(known[i].relation->name))));
    }
    return tables;
}

static json_t *
blockers_json(const struct status *st)
{
    json_t *list = json_array();
    for (size_t i = 0; i < st->blocker_count; i++) {
        const struct blocker *b = &st->blockers[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o}", "pid",
                                              b->pid == 0 ? json_null() : json_integer(b->pid),
                                              "application", json_of_slice(b->application), "user",
                                              json_of_slice(b->user), "open_seconds",
                                              number_json(b->open_s)));
    }
    return list;
}

static json_t *
eras_json(const struct status *st)
{
    json_t *list = json_array();
    for (size_t i = 0; i < st->era_count; i++) {
        const struct era *e = &st->eras[i];
        json_array_append_new(
            list, json_pack("{s:I, s:o, s:o, s:o, s:o}", "era", (json_int_t)e->number, "begin_lsn",
                            json_of_lsn(e->begin), "end_lsn",
                            i + 1 < st->era_count ? json_of_lsn(e->end) : json_null(), "time",
                            json_of_time(e->created), "reason", json_of_slice(e->reason)));
    }
    return list;
}

static json_t *
status_json(const struct cli *cli, struct restore_session *s, const struct status *st)
{
    json_t *gaps = json_array();
    for (size_t i = 0; i < st->gap_count; i++) {
        const struct archive_gap *g = &st->gaps[i];
        json_array_append_new(
            gaps, json_pack("{s:o, s:o, s:o, s:o, s:o}", "begin_lsn", json_of_lsn(g->begin),
                            "end_lsn", json_of_lsn(g->end), "tables", gap_tables_json(cli, s, g),
                            "code", json_of_slice(g->code), "reason", json_of_slice(g->reason)));
    }
    json_t *slot = json_pack(
        "{s:s?, s:b, s:s?, s:o, s:o, s:o, s:o, s:s}", "name", st->slot_name, "active",
        (int)st->slot_active, "wal_status", st->wal_status, "wal_held", number_json(st->held_bytes),
        "cap", number_json(st->cap_bytes), "bytes_left", number_json(st->left_bytes),
        "seconds_to_loss", number_json(seconds_to_loss(st)), "advice", advice_of(st));
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s?, s:s?}", "state",
                     st->state, "archived_lsn", json_of_lsn(st->archived_lsn), "archived_time",
                     json_of_time(st->archived_time), "slot_lag_bytes", number_json(st->lag_bytes),
                     "slot", slot, "tenants", number_json(st->tenants), "gaps", gaps, "eras",
                     eras_json(st), "base_waits_for", blockers_json(st), "database_error",
                     st->database_error, "archive_error", st->archive_error);
}

static void
status_print(const struct cli *cli, const struct status *st)
{
    printf("state         %s\n", st->state);
    printf("archived      %s (%s)\n", cli_lsn(cli, st->archived_lsn),
           cli_time(cli, st->archived_time));
    if (st->lag_bytes >= 0)
        printf("lag           %s\n", cli_size(cli, (uint64_t)st->lag_bytes));
    if (st->held_bytes >= 0)
        printf("WAL kept      %s of %s\n", cli_size(cli, (uint64_t)st->held_bytes),
               st->cap_bytes < 0 ? "no limit" : cli_size(cli, (uint64_t)st->cap_bytes));
    if (st->tenants >= 0)
        printf("tenants       %s\n", cli_count(cli, (uint64_t)st->tenants));
    if (st->database_error != NULL)
        printf("database      %s\n", st->database_error);
    if (st->archive_error != NULL)
        printf("archive       %s\n", st->archive_error);
    for (size_t i = 1; i < st->era_count; i++)
        printf("era %-9u %s since %s: %s\n", st->eras[i].number, cli_lsn(cli, st->eras[i].begin),
               cli_time(cli, st->eras[i].created), cli_text(cli, st->eras[i].reason));
    for (size_t i = 0; i < st->gap_count; i++)
        printf("gap           %s to %s: %s\n", cli_lsn(cli, st->gaps[i].begin),
               st->gaps[i].end == 0 ? "now" : cli_lsn(cli, st->gaps[i].end),
               cli_text(cli, st->gaps[i].reason));
    for (size_t i = 0; i < st->blocker_count; i++) {
        struct buf name = { 0 };
        blocker_print(&name, &st->blockers[i]);
        printf("base waits    for %s\n", cli_text(cli, buf_slice(&name)));
        buf_release(&name);
    }
    if (advice_of(st)[0] != '\0')
        printf("advice        %s\n", advice_of(st));
}

/* Somebody's lock must not keep the answer back. */
static int
read_database(struct cli *cli, struct pg_conn *conn, struct status *st, struct pgs_err *err)
{
    int rc = pg_exec(conn, "SET statement_timeout = '" STATEMENT_TIMEOUT "'", err);
    if (rc == 0)
        rc = read_slot(cli, conn, st, err);
    if (rc == 0)
        rc = blockers_read(conn, cli->arena, &st->blockers, &st->blocker_count, err);
    return rc == 0 ? count_tenants(cli, conn, &st->tenants, err) : rc;
}

/* Whatever is down, the rest is still told. */
static int
run_status(struct cli *cli, struct pgs_err *err)
{
    struct status st = { .lag_bytes = -1,
                         .held_bytes = -1,
                         .cap_bytes = -1,
                         .left_bytes = -1,
                         .wal_rate_bytes_s = -1,
                         .tenants = -1,
                         .archived_time = PGS_TIME_NONE,
                         .last_entry_time = PGS_TIME_NONE };
    struct restore_env env = config_restore_env(&cli->config);
    struct restore_session *session = NULL;
    struct pg_conn *conn = NULL;
    struct pgs_err problem;
    (void)err;
    if (cli_connect(cli, &conn, &problem) < 0 || read_database(cli, conn, &st, &problem) < 0)
        st.database_error = arena_strdup(cli->arena, problem.message);
    if (cli_session(cli, &env, &session, &problem) < 0)
        st.archive_error = arena_strdup(cli->arena, problem.message);
    else
        read_archive(cli, session, &st);
    st.state = state_of(&st);
    if (cli->json)
        cli_print_json(status_json(cli, session, &st));
    else
        status_print(cli, &st);
    cli->exit_code = strcmp(st.state, "down") == 0 ? 1 : 0;
    return 0;
}

const struct cli_command command_status = {
    .name = "status",
    .arguments = "",
    .summary = "how far the archive is, what the slot keeps, where history has gaps",
    .details = "Always answers. Exit code 1 when the archiver is down.",
    .examples = "  pgstrata status\n  pgstrata status --json | jq .slot",
    .options = (const struct cli_option[]){ { 0 } },
    .run = run_status,
};

static int
run_flush(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct restore_session *s;
    pgs_lsn end = 0;
    int rc = cli_milliseconds(cli, "timeout", env.timeout_ms, &env.timeout_ms, err);
    if (rc == 0)
        rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = barrier_flush(s->conn, s->archive, env.timeout_ms, &end, NULL, err);
    if (rc != 0)
        return rc;
    if (cli->json)
        cli_print_json(json_pack("{s:o, s:o}", "archived_lsn", json_of_lsn(end), "archived_time",
                                 json_of_time(archive_end_time(s->archive))));
    else
        printf("archived up to %s\n", cli_lsn(cli, end));
    return 0;
}

const struct cli_command command_flush = {
    .name = "flush",
    .arguments = "",
    .summary = "wait until everything committed so far is archived",
    .examples = "  pgstrata flush\n  pgstrata flush --timeout 5s",
    .options =
        (const struct cli_option[]){ { "timeout", 0, "TIME", "give up after this long (30s)" },
                                     { 0 } },
    .run = run_flush,
};

static int
run_base(struct cli *cli, struct pgs_err *err)
{
    struct archiver_opts opts = config_archiver_opts(&cli->config);
    struct base_result result = { 0 };
    int64_t timeout_ms;
    int rc = cli_milliseconds(cli, "timeout", INT64_C(3600) * 1000, &timeout_ms, err);
    if (rc == 0)
        rc = archiver_base_now(&opts, timeout_ms, cli->arena, &result, err);
    if (rc < 0)
        return rc;
    json_t *tables = json_array();
    for (size_t i = 0; i < result.table_count; i++) {
        const char *name =
            arena_printf(cli->arena, "%.*s.%.*s", SLICE_PRINT(result.tables[i].schema),
                         SLICE_PRINT(result.tables[i].name));
        json_array_append_new(tables, json_pack("{s:s, s:I}", "name", name, "rows",
                                                (json_int_t)result.tables[i].rows));
        if (!cli->json)
            printf("%-40s %12s rows\n", name, cli_count(cli, result.tables[i].rows));
    }
    if (cli->json) {
        cli_print_json(json_pack("{s:o, s:o}", "lsn", json_of_lsn(result.lsn), "tables", tables));
        return 0;
    }
    json_decref(tables);
    printf("base at %s\n", cli_lsn(cli, result.lsn));
    return 0;
}

const struct cli_command command_base = {
    .name = "base",
    .arguments = "",
    .summary = "take a base snapshot of every table now",
    .details = "`pgstrata serve` takes it; this command asks and waits.",
    .examples = "  pgstrata base\n  pgstrata base --timeout 2h --json",
    .options =
        (const struct cli_option[]){
            { "timeout", 0, "TIME", "give up waiting after this long (1h)" }, { 0 } },
    .run = run_base,
};

static int
run_tenant_list(struct cli *cli, struct pgs_err *err)
{
    struct restore_env env = config_restore_env(&cli->config);
    struct restore_session *s;
    struct slice *tenants;
    size_t count;
    int rc = cli_session(cli, &env, &s, err);
    if (rc == 0)
        rc = archive_tenants(s->archive, cli->arena, &tenants, &count, err);
    if (rc != 0)
        return rc;
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(items, json_pack("{s:o}", "tenant", json_of_slice(tenants[i])));
        if (!cli->json)
            printf("%.*s\n", SLICE_PRINT(tenants[i]));
    }
    if (cli->json)
        cli_print_json(json_pack("{s:o, s:n}", "items", items, "next_cursor"));
    else
        json_decref(items);
    return 0;
}

const struct cli_command command_tenant_list = {
    .name = "tenant list",
    .arguments = "",
    .summary = "the tenants the archive knows",
    .examples = "  pgstrata tenant list --json",
    .options = (const struct cli_option[]){ { 0 } },
    .run = run_tenant_list,
};
