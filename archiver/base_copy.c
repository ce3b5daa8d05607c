/* base_copy.c: tables into segments, by several workers under one snapshot. */
#include "archiver/base.h"

#include "archiver/crash.h"
#include "core/err.h"
#include "pg/copytext.h"
#include "pg/quote.h"

#include <stdlib.h>

#define BASE_SHARE 8 /* of the budget: all workers' batches together */
#define BATCH_BYTES_MIN ((size_t)1 << 20)
#define UNIT_PAGES 8192     /* 64 MiB of table: large enough to compress, small enough to share */
#define LOCK_TIMEOUT "'5s'" /* behind a lock that waits, everybody waits */
#define LOCK_NOT_AVAILABLE "55P03"
#define TID_RANGE_VERSION 140000 /* scans of a range of pages came with PostgreSQL 14 */

/* What a worker copies at once: a table, or some of its pages. */
struct base_unit {
    size_t table;
    uint64_t begin, end; /* pages; end 0: to the end */
    bool whole;
};

struct worker {
    struct base *base;
    struct pg_conn *conn;
    struct batch *batch;
    size_t batch_bytes;
    struct arena *scratch;
    struct buf key, image;
};

static void
base_fail(struct base *b, const struct pgs_err *err)
{
    pthread_mutex_lock(&b->mutex);
    if (!b->failed)
        b->failure = *err;
    b->failed = true;
    pthread_mutex_unlock(&b->mutex);
}

/* --- connections --- */

static int
snapshot_join(struct base *b, struct pg_conn *c, const char *locks, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ");
    int rc = quote_literal(c, &sql, slice_str(b->snapshot), err);
    buf_put_str(&sql, "; SET LOCAL lock_timeout = " LOCK_TIMEOUT ";");
    buf_put_str(&sql, locks);
    if (rc == 0)
        rc = pg_exec(c, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

int
base_connect(struct base *b, struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(b->a);
    unsigned count = opts->base_threads < 1 ? 1 : opts->base_threads;
    int rc = 0;
    count = count > BASE_WORKERS_MAX ? BASE_WORKERS_MAX : count;
    while (rc == 0 && b->worker_count < count) {
        rc = pg_open(&opts->target, &(struct pg_open_opts){ .wires = &b->a->wires },
                     &b->workers[b->worker_count], err);
        b->worker_count += rc == 0 ? 1 : 0;
    }
    return rc;
}

static int
put_lock(struct base *b, struct buf *sql, const struct relation *r, struct pgs_err *err)
{
    buf_put_str(sql, "LOCK TABLE ONLY ");
    int rc = quote_qualified(b->workers[0], sql, r->schema, r->name, err);
    buf_put_str(sql, " IN ACCESS SHARE MODE;");
    return rc;
}

/* The first worker locks in the same round trip that gives it the snapshot. */
int
base_join(struct base *b, const uint32_t *oids, size_t count, struct catalog *catalog,
          struct pgs_err *err)
{
    const struct catalog_rules *rules = &archiver_opts(b->a)->setup.rules;
    struct buf locks = { 0 };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct relation *r = catalog_by_oid(&b->known, oids[i]);
        rc = r != NULL ? put_lock(b, &locks, r, err) : 0;
    }
    for (unsigned i = 0; rc == 0 && i < b->worker_count; i++)
        rc = snapshot_join(b, b->workers[i], i == 0 ? buf_cstr(&locks) : "", err);
    buf_release(&locks);
    return rc < 0 ? rc : catalog_read(b->workers[0], rules, b->arena, catalog, err);
}

void
base_close(struct base *b)
{
    for (unsigned i = 0; i < b->worker_count; i++)
        pg_close(b->workers[i]);
    b->worker_count = 0;
    base_slot_close(b);
}

/* --- units --- */

/* PGS_NONE: not to be had now; a lock is in the way, or the table is gone. */
static int
not_now(const struct pgs_err *err)
{
    bool gone = strncmp(err->sqlstate, "42", 2) == 0; /* syntax error or access rule violation */
    return gone || strcmp(err->sqlstate, LOCK_NOT_AVAILABLE) == 0 ? PGS_NONE : (int)err->kind;
}

static int
pages_ask(struct pg_conn *c, const struct relation *r, uint64_t *pages, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct arena *scratch = arena_new(NULL);
    int rc = pg_query(c, "SELECT pg_relation_size($1::oid) / current_setting('block_size')::int",
                      PG_PARAMS(arena_printf(scratch, "%u", r->oid)), &rows, err);
    if (rc == 0) {
        const char *text = pg_cell(rows, 0, 0);
        *pages = text != NULL ? strtoull(text, NULL, 10) : 0;
    }
    pg_rows_free(rows);
    arena_free(scratch);
    return rc < 0 ? not_now(err) : 0;
}

/* As pages_ask; its lock ends with it. */
static int
pages_read(struct base *b, const struct relation *r, uint64_t *pages, struct pgs_err *err)
{
    int rc = pg_exec(b->workers[0], "SAVEPOINT pages", err);
    int asked = rc < 0 ? rc : pages_ask(b->workers[0], r, pages, err);
    if (asked >= 0)
        rc = pg_exec(b->workers[0], "ROLLBACK TO SAVEPOINT pages", err);
    return rc < 0 ? rc : asked;
}

static void
unit_add(struct base *b, size_t *capacity, struct base_unit unit)
{
    if (b->unit_count == *capacity) {
        *capacity = *capacity == 0 ? 64 : *capacity * 2;
        struct base_unit *more = arena_alloc_array(b->arena, *capacity, sizeof(*more));
        if (b->unit_count > 0)
            memcpy(more, b->units, b->unit_count * sizeof(*more));
        b->units = more;
    }
    b->units[b->unit_count++] = unit;
}

static int
units_make(struct base *b, struct pgs_err *err)
{
    size_t capacity = 0;
    bool ranges = pg_server_version(b->workers[0]) >= TID_RANGE_VERSION;
    for (size_t i = 0; i < b->done.table_count; i++) {
        uint64_t pages = 0;
        int rc = pages_read(b, b->done.tables[i].relation, &pages, err);
        if (rc < 0)
            return rc;
        if (rc == PGS_NONE) {
            b->done.tables[i].left_out = true;
            continue;
        }
        if (!ranges || pages < 2 * UNIT_PAGES) {
            unit_add(b, &capacity, (struct base_unit){ .table = i, .whole = true });
            continue;
        }
        for (uint64_t begin = 0; begin < pages; begin += UNIT_PAGES) {
            uint64_t end = begin + UNIT_PAGES < pages ? begin + UNIT_PAGES : 0;
            unit_add(b, &capacity, (struct base_unit){ .table = i, .begin = begin, .end = end });
        }
    }
    return 0;
}

static const struct base_unit *
unit_take(struct base *b)
{
    const struct base_unit *unit = NULL;
    pthread_mutex_lock(&b->mutex);
    if (!b->failed && b->next_unit < b->unit_count)
        unit = &b->units[b->next_unit++];
    pthread_mutex_unlock(&b->mutex);
    return unit;
}

/* --- segments --- */

static bool
batch_has_table(const struct batch *batch, uint32_t oid)
{
    for (size_t i = 0; i < batch->run_count; i++) {
        if (batch->runs[i].id.table_oid == oid)
            return true;
    }
    return false;
}

/* The segment belongs to every table that has rows in the batch. */
static void
segment_register(struct base *b, const struct batch *batch, const struct segment_info *info)
{
    struct base_done *d = &b->done;
    pthread_mutex_lock(&b->mutex);
    struct segment_info *list = arena_alloc_array(b->arena, d->segment_count + 1, sizeof(*list));
    if (d->segment_count > 0)
        memcpy(list, d->segments, d->segment_count * sizeof(*list));
    list[d->segment_count] = *info;
    d->segments = list;
    for (size_t i = 0; i < d->table_count; i++) {
        struct base_table *t = &d->tables[i];
        if (!batch_has_table(batch, t->relation->oid))
            continue;
        uint32_t *indexes = arena_alloc_array(b->arena, t->segment_count + 1, sizeof(*indexes));
        if (t->segment_count > 0)
            memcpy(indexes, t->segments, t->segment_count * sizeof(*indexes));
        indexes[t->segment_count++] = (uint32_t)d->segment_count;
        t->segments = indexes;
    }
    d->segment_count++;
    pthread_mutex_unlock(&b->mutex);
}

static int
worker_write(struct worker *w, struct pgs_err *err)
{
    struct archiver *a = w->base->a;
    struct segment_info info;
    char name[SEGMENT_NAME_MAX];
    if (w->batch->count == 0)
        return 0;
    publisher_segment_name(a, name);
    int rc =
        batch_write(w->batch, 0, w->batch->count, false, a->store, name, &a->budget, &info, err);
    if (rc < 0)
        return rc;
    crash_point("base.segment_written");
    segment_register(w->base, w->batch, &info);
    batch_free(w->batch);
    w->batch = batch_new(&a->budget);
    return 0;
}

/* --- rows --- */

static int
copy_sql(struct worker *w, const struct relation *r, const struct base_unit *unit, struct buf *sql,
         struct pgs_err *err)
{
    int rc = 0;
    buf_put_str(sql, "COPY (SELECT ");
    for (size_t i = 0; rc == 0 && i < r->column_count; i++) {
        buf_put_str(sql, i > 0 ? ", " : "");
        rc = quote_ident(w->conn, sql, r->columns[i].name, err);
    }
    buf_put_str(sql, " FROM ONLY ");
    if (rc == 0)
        rc = quote_qualified(w->conn, sql, r->schema, r->name, err);
    if (!unit->whole)
        buf_printf(sql, " WHERE ctid >= '(%llu,0)'", (unsigned long long)unit->begin);
    if (unit->end != 0)
        buf_printf(sql, " AND ctid < '(%llu,0)'", (unsigned long long)unit->end);
    buf_put_str(sql, ") TO STDOUT");
    return rc;
}

static int
row_add(struct worker *w, const struct base_table *t, struct slice line, struct pgs_err *err)
{
    const struct relation *r = t->relation;
    struct slice *fields = arena_alloc_array(w->scratch, r->column_count + 1, sizeof(*fields));
    struct slice tenant = r->tenant; /* a schema's; else the tenant column tells */
    int rc = copytext_split(line, r->column_count, fields, w->scratch, err);
    if (rc < 0)
        return rc;
    buf_reset(&w->key);
    buf_reset(&w->image);
    for (size_t i = 0; i < r->column_count; i++) {
        row_put_field(&w->image, fields[i]);
        if (r->columns[i].key)
            key_put_field(&w->key, fields[i]);
        if ((int)i == r->tenant_column)
            tenant = fields[i];
    }
    bool shared = tenant.data == NULL;
    struct run_id run = { { shared ? SCOPE_SHARED : SCOPE_TENANT,
                            shared ? slice_of("", 0) : tenant },
                          r->oid,
                          t->shape_id };
    struct version v = { .key = buf_slice(&w->key),
                         .commit_lsn = w->base->done.lsn,
                         .op = VERSION_INSERT,
                         .row = buf_slice(&w->image),
                         .prev_key = SLICE_NULL };
    batch_add(w->batch, batch_run(w->batch, &run), &v);
    arena_reset(w->scratch);
    return 0;
}

static int
unit_rows(struct worker *w, const struct base_table *t, uint64_t *count, struct pgs_err *err)
{
    struct slice line;
    int rc;
    while ((rc = pg_copy_out_read(w->conn, &line, err)) == 0) {
        rc = row_add(w, t, line, err);
        if (rc == 0 && batch_bytes(w->batch) >= w->batch_bytes)
            rc = worker_write(w, err);
        if (rc == 0 && atomic_load(&w->base->a->stopping))
            rc = err_set(err, PGS_E_CANCELLED, "stop was requested");
        if (rc < 0)
            return rc;
        ++*count;
    }
    return rc < 0 ? rc : 0;
}

/* TRUNCATE and ALTER TABLE give a table new files, and files have no history: to a snapshot from
 * before them the table would look empty or changed. The read holds a lock now, so what is compared
 * stays. The catalog's row is seen as of the snapshot, the function tells of today. */
static int
table_is_as_seen(struct worker *w, const struct relation *r, bool *as_seen, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct arena *scratch = arena_new(NULL);
    int rc = pg_query(w->conn,
                      "SELECT 1 FROM pg_class WHERE oid = $1::oid"
                      " AND relfilenode = pg_relation_filenode(oid)",
                      PG_PARAMS(arena_printf(scratch, "%u", r->oid)), &rows, err);
    if (rc == 0)
        *as_seen = pg_rows_count(rows) == 1;
    pg_rows_free(rows);
    arena_free(scratch);
    return rc;
}

static int
unit_read(struct worker *w, const struct base_unit *unit, uint64_t *count, bool *as_seen,
          struct pgs_err *err)
{
    const struct base_table *t = &w->base->done.tables[unit->table];
    struct buf sql = { 0 };
    int rc = copy_sql(w, t->relation, unit, &sql, err);
    if (rc == 0)
        rc = pg_copy_out_begin(w->conn, buf_cstr(&sql), err);
    if (rc == 0)
        rc = unit_rows(w, t, count, err);
    if (rc == 0)
        rc = table_is_as_seen(w, t->relation, as_seen, err);
    buf_release(&sql);
    if (rc < 0)
        rc = not_now(err);
    if (rc == PGS_NONE)
        *as_seen = false;
    return rc < 0 ? rc : 0;
}

/* Within a savepoint, so that its lock ends with it: nobody's DDL waits for the whole base. */
static int
unit_copy(struct worker *w, const struct base_unit *unit, struct pgs_err *err)
{
    struct base_table *t = &w->base->done.tables[unit->table];
    uint64_t count = 0;
    bool as_seen = true;
    int rc = pg_exec(w->conn, "SAVEPOINT unit", err);
    if (rc == 0)
        rc = unit_read(w, unit, &count, &as_seen, err);
    if (rc == 0)
        rc = pg_exec(w->conn, "ROLLBACK TO SAVEPOINT unit", err);
    if (rc < 0)
        return err_doing(err, "copy table %.*s.%.*s", SLICE_PRINT(t->relation->schema),
                         SLICE_PRINT(t->relation->name));
    pthread_mutex_lock(&w->base->mutex);
    t->rows += count;
    t->left_out = t->left_out || !as_seen;
    pthread_mutex_unlock(&w->base->mutex);
    return 0;
}

/* --- workers --- */

static void
worker_run(struct base *b, struct pg_conn *conn)
{
    struct worker w = { .base = b, .conn = conn };
    struct pgs_err err;
    const struct base_unit *unit;
    int rc = 0;
    w.batch_bytes = b->a->budget.limit / BASE_SHARE / b->worker_count;
    w.batch_bytes = w.batch_bytes < BATCH_BYTES_MIN ? BATCH_BYTES_MIN : w.batch_bytes;
    w.batch = batch_new(&b->a->budget);
    w.scratch = arena_new(NULL);
    while (rc == 0 && (unit = unit_take(b)) != NULL)
        rc = unit_copy(&w, unit, &err);
    if (rc == 0)
        rc = worker_write(&w, &err);
    if (rc < 0)
        base_fail(b, &err);
    batch_free(w.batch);
    arena_free(w.scratch);
    buf_release(&w.key);
    buf_release(&w.image);
}

struct worker_start {
    struct base *base;
    struct pg_conn *conn;
};

static void *
worker_thread(void *context)
{
    const struct worker_start *start = context;
    worker_run(start->base, start->conn);
    return NULL;
}

int
base_copy(struct base *b, struct pgs_err *err)
{
    pthread_t threads[BASE_WORKERS_MAX];
    struct worker_start starts[BASE_WORKERS_MAX];
    unsigned started = 1;
    int rc = units_make(b, err);
    if (rc < 0)
        return rc;
    while (started < b->worker_count && started < b->unit_count) {
        starts[started] = (struct worker_start){ b, b->workers[started] };
        if (pthread_create(&threads[started], NULL, worker_thread, &starts[started]) != 0)
            break;
        started++;
    }
    worker_run(b, b->workers[0]);
    for (unsigned i = 1; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    if (b->failed)
        *err = b->failure;
    return b->failed ? (int)err->kind : 0;
}
