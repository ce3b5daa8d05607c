/* base_now.c: `pgstrata base`: asks the running archiver for bases and waits until the log has
 * them. */
#include "archiver/archiver.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

#define POLL_NS (20 * 1000000L)
#define CATALOG_US (INT64_C(500) * 1000)
#define TELL_US (INT64_C(1000) * 1000)

struct request {
    const struct archiver_opts *opts;
    struct pg_conn *conn;
    struct store *root, *store;
    struct archive *archive;
    struct catalog catalog;
    int64_t catalog_us; /* when it was read */
    pgs_lsn from;
    int64_t told_us; /* 0: not yet */
};

static int
request_open(struct request *r, struct arena *arena, struct pgs_err *err)
{
    struct slice id;
    struct pg_rows *rows = NULL;
    int rc = pg_open(&r->opts->target, &(struct pg_open_opts){ 0 }, &r->conn, err);
    if (rc == 0)
        rc = settings_get(r->conn, "archive_id", arena, &id, err);
    if (rc == PGS_NONE) {
        (void)err_set(err, PGS_E_NOT_FOUND, "this database is not set up");
        return err_hint(err, "run `pgstrata setup`");
    }
    const char *archive_id = rc == 0 ? arena_slice_str(arena, id) : NULL;
    if (rc == 0)
        rc = store_open(r->opts->root_url, &r->root, err);
    if (rc == 0)
        rc = alog_store(r->root, archive_id, &r->store, err);
    if (rc == 0)
        rc = archive_open(r->store, archive_id, &r->archive, err);
    if (rc == 0)
        rc = catalog_read(r->conn, &r->opts->setup.rules, arena, &r->catalog, err);
    if (rc == 0)
        rc = pg_query(r->conn, "SELECT pg_current_wal_insert_lsn()", PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        rc = lsn_parse(pg_cell(rows, 0, 0), &r->from, err);
    pg_rows_free(rows);
    return rc;
}

/* Nobody hears a notification while nobody listens, as when the archiver is just starting: it is
 * made again and again. */
static int
request_tell(struct request *r, struct pgs_err *err)
{
    char from[LSN_TEXT_MAX];
    if (r->told_us != 0 && clock_us() - r->told_us < TELL_US)
        return 0;
    r->told_us = clock_us();
    return pg_query(r->conn, "SELECT pg_notify('pgstrata_base', $1)",
                    PG_PARAMS(lsn_format(r->from, from)), NULL, err);
}

static void
request_close(struct request *r)
{
    archive_close(r->archive);
    store_close(r->store);
    store_close(r->root);
    pg_close(r->conn);
}

/* The newest base of the table at or after the request; NULL: not yet. */
static const struct log_base *
find_base(const struct request *r, uint32_t oid)
{
    const struct alog *log = archive_log(r->archive);
    for (size_t i = alog_count(log); i-- > 0;) {
        const struct log_entry *e = alog_entry(log, i);
        for (size_t j = 0; e->kind == LOG_BASE && j < e->base_count; j++) {
            if (e->bases[j].table_oid == oid && e->bases[j].lsn >= r->from)
                return &e->bases[j];
        }
    }
    return NULL;
}

/* Tables come and go while we wait. */
static int
catalog_again(struct request *r, struct arena *arena, struct pgs_err *err)
{
    if (clock_us() - r->catalog_us < CATALOG_US)
        return 0;
    r->catalog_us = clock_us();
    return catalog_read(r->conn, &r->opts->setup.rules, arena, &r->catalog, err);
}

/* Whether every table has its base; then *result names them. */
static bool
result_fill(const struct request *r, struct arena *arena, struct base_result *result)
{
    struct base_result found = { .lsn = 0 };
    found.tables = arena_alloc_array(arena, r->catalog.count + 1, sizeof(*found.tables));
    for (size_t i = 0; i < r->catalog.count; i++) {
        const struct relation *table = r->catalog.relations[i];
        if (!table->covered || !table->published)
            continue;
        const struct log_base *base = find_base(r, table->oid);
        if (base == NULL)
            return false;
        found.tables[found.table_count].oid = table->oid;
        found.tables[found.table_count].schema = table->schema;
        found.tables[found.table_count].name = table->name;
        found.tables[found.table_count++].rows = base->rows;
        found.lsn = base->lsn > found.lsn ? base->lsn : found.lsn;
    }
    *result = found;
    return true;
}

static int
too_late(struct pgs_err *err)
{
    (void)err_set(err, PGS_E_NOT_RUNNING, "no base was taken in time");
    return err_hint(err, "is `pgstrata serve` running? `pgstrata status` tells");
}

int
archiver_base_now(const struct archiver_opts *opts, int64_t timeout_ms, struct arena *arena,
                  struct base_result *result, struct pgs_err *err)
{
    struct request r = { .opts = opts, .catalog_us = clock_us() };
    int64_t deadline_us = clock_us() + timeout_ms * 1000;
    int rc = request_open(&r, arena, err);
    while (rc >= 0) {
        struct timespec pause = { .tv_nsec = POLL_NS };
        rc = request_tell(&r, err);
        if (rc >= 0)
            rc = archive_refresh(r.archive, err);
        if (rc >= 0)
            rc = catalog_again(&r, arena, err);
        if (rc < 0 || result_fill(&r, arena, result))
            break;
        (void)nanosleep(&pause, NULL);
        if (clock_us() >= deadline_us)
            rc = too_late(err);
    }
    request_close(&r);
    return rc < 0 ? rc : 0;
}
