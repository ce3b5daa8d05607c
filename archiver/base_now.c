/* base_now.c: `pgstrata base`: asks the running archiver for bases and waits until the log has
 * them. */
#include "archiver/archiver.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

#define POLL_NS (20 * 1000000L)

struct request {
    const struct archiver_opts *opts;
    struct pg_conn *conn;
    struct store *root, *store;
    struct archive *archive;
    struct catalog catalog;
    pgs_lsn from;
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
    if (rc == 0)
        rc = pg_exec(r->conn, "NOTIFY pgstrata_base", err);
    return rc;
}

static void
request_close(struct request *r)
{
    archive_close(r->archive);
    store_close(r->store);
    store_close(r->root);
    pg_close(r->conn);
}

/* The entry that has a base at or after the request; NULL: not yet. */
static const struct log_entry *
find_bases(const struct request *r)
{
    const struct alog *log = archive_log(r->archive);
    for (size_t i = alog_count(log); i-- > 0;) {
        const struct log_entry *e = alog_entry(log, i);
        if (e->kind == LOG_BASE && e->base_count > 0 && e->bases[0].lsn >= r->from)
            return e;
    }
    return NULL;
}

static void
result_fill(const struct request *r, const struct log_entry *e, struct arena *arena,
            struct base_result *result)
{
    result->lsn = e->bases[0].lsn;
    result->table_count = e->base_count;
    result->tables = arena_alloc_array(arena, e->base_count + 1, sizeof(*result->tables));
    for (size_t i = 0; i < e->base_count; i++) {
        const struct relation *known = catalog_by_oid(&r->catalog, e->bases[i].table_oid);
        result->tables[i].oid = e->bases[i].table_oid;
        result->tables[i].rows = e->bases[i].rows;
        result->tables[i].schema = known != NULL ? known->schema : slice_str("?");
        result->tables[i].name = known != NULL ? known->name : slice_str("?");
    }
}

int
archiver_base_now(const struct archiver_opts *opts, int64_t timeout_ms, struct arena *arena,
                  struct base_result *result, struct pgs_err *err)
{
    struct request r = { .opts = opts };
    const struct log_entry *e = NULL;
    int64_t deadline_us = clock_us() + timeout_ms * 1000;
    int rc = request_open(&r, arena, err);
    while (rc >= 0 && (rc = archive_refresh(r.archive, err)) >= 0 && (e = find_bases(&r)) == NULL) {
        struct timespec pause = { .tv_nsec = POLL_NS };
        if (clock_us() >= deadline_us) {
            (void)err_set(err, PGS_E_NOT_RUNNING, "no base was taken in time");
            rc = err_hint(err, "is `pgstrata serve` running? `pgstrata status` tells");
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    if (rc >= 0)
        result_fill(&r, e, arena, result);
    request_close(&r);
    return rc < 0 ? rc : 0;
}
