/* base.c: exact states of tables, read under the snapshot of a temporary slot (DESIGN 4.3).
 *
 *   1. a temporary slot exports a snapshot; its consistent point is the base's LSN
 *   2. workers COPY tables under that snapshot, each row becomes an insert at that LSN
 *   3. a worker's batch is sorted and written as a segment when it is full; small tables share one
 *   4. one log entry names all segments, bases and shapes: the base is visible whole or not at all
 *
 * A version of the stream belongs after the base iff its commit LSN >= the base's LSN. */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/copytext.h"
#include "pg/quote.h"
#include "pg/replication.h"
#include "strata/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BASE_SHARE 8 /* of the budget: per worker's batch */
#define LOOK_INTERVAL_MS 1000
#define RETRY_AFTER_US (INT64_C(10) * 1000 * 1000)

struct base_table {
    const struct relation *relation;
    uint64_t rows;
    uint32_t *segments; /* indexes into base.segments */
    size_t segment_count;
};

/* One base of several tables. */
struct base {
    struct archiver *a;
    pgs_lsn lsn;
    char snapshot[64];
    struct arena *arena;
    struct base_table *tables;
    size_t table_count;
    pthread_mutex_t mutex; /* guards everything below, and the tables' segment lists */
    size_t next_table;
    struct segment_info *segments;
    size_t segment_count;
    bool failed;
    struct pgs_err failure;
};

struct worker {
    struct base *base;
    struct pg_conn *conn;
    struct batch *batch;
    struct arena *scratch;
    struct buf key, image;
    size_t batch_bytes_max;
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

static bool
batch_has_table(const struct batch *batch, uint32_t oid)
{
    for (size_t i = 0; i < batch->run_count; i++) {
        if (batch->runs[i].table_oid == oid)
            return true;
    }
    return false;
}

/* The segment belongs to every table that has rows in the batch. */
static void
segment_register(struct base *b, const struct batch *batch, const struct segment_info *info)
{
    pthread_mutex_lock(&b->mutex);
    struct segment_info *grown = arena_alloc_array(b->arena, b->segment_count + 1, sizeof(*grown));
    if (b->segment_count > 0)
        memcpy(grown, b->segments, b->segment_count * sizeof(*grown));
    grown[b->segment_count] = *info;
    b->segments = grown;
    for (size_t i = 0; i < b->table_count; i++) {
        struct base_table *t = &b->tables[i];
        if (!batch_has_table(batch, t->relation->oid))
            continue;
        uint32_t *list = arena_alloc_array(b->arena, t->segment_count + 1, sizeof(*list));
        if (t->segment_count > 0)
            memcpy(list, t->segments, t->segment_count * sizeof(*list));
        list[t->segment_count++] = (uint32_t)b->segment_count;
        t->segments = list;
    }
    b->segment_count++;
    pthread_mutex_unlock(&b->mutex);
}

static int
worker_write(struct worker *w, struct pgs_err *err)
{
    struct base *b = w->base;
    struct segment_info info;
    char name[SEGMENT_NAME_MAX];
    if (w->batch->count == 0)
        return 0;
    publisher_segment_name(b->a, name);
    int rc = batch_write(w->batch, 0, w->batch->count, false, b->a->store, name, &info, err);
    if (rc < 0)
        return rc;
    segment_register(b, w->batch, &info);
    batch_free(w->batch);
    w->batch = batch_new(&b->a->budget);
    return 0;
}

static int
copy_sql(struct worker *w, const struct relation *r, struct buf *sql, struct pgs_err *err)
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
    buf_put_str(sql, ") TO STDOUT");
    return rc;
}

static int
row_add(struct worker *w, const struct relation *r, uint64_t shape_id, struct slice line,
        struct pgs_err *err)
{
    struct slice *fields = arena_alloc_array(w->scratch, r->column_count + 1, sizeof(*fields));
    struct slice tenant = SLICE_NULL;
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
    bool shared = r->route != ROUTE_COLUMN || tenant.data == NULL;
    struct run_id run = { { shared ? SCOPE_SHARED : SCOPE_TENANT,
                            shared ? slice_of("", 0) : tenant },
                          r->oid,
                          shape_id };
    struct version v = { .key = buf_slice(&w->key),
                         .commit_lsn = w->base->lsn,
                         .op = VERSION_INSERT,
                         .row = buf_slice(&w->image),
                         .prev_key = SLICE_NULL };
    batch_add(w->batch, batch_run(w->batch, &run), &v);
    arena_reset(w->scratch);
    return 0;
}

static int
table_copy(struct worker *w, struct base_table *t, struct pgs_err *err)
{
    struct buf sql = { 0 };
    struct slice line;
    uint64_t shape_id = relation_shape_id(t->relation);
    int rc = copy_sql(w, t->relation, &sql, err);
    if (rc == 0)
        rc = pg_copy_out_begin(w->conn, buf_cstr(&sql), err);
    while (rc == 0 && (rc = pg_copy_out_read(w->conn, &line, err)) == 0) {
        rc = row_add(w, t->relation, shape_id, line, err);
        t->rows++;
        if (rc == 0 && batch_bytes(w->batch) >= w->batch_bytes_max)
            rc = worker_write(w, err);
        if (atomic_load(&w->base->a->stopping))
            rc = err_set(err, PGS_E_CANCELLED, "stop was requested");
    }
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "copy table %.*s.%.*s", SLICE_PRINT(t->relation->schema),
                              SLICE_PRINT(t->relation->name))
                  : 0;
}

static struct base_table *
table_take(struct base *b)
{
    struct base_table *t = NULL;
    pthread_mutex_lock(&b->mutex);
    if (!b->failed && b->next_table < b->table_count)
        t = &b->tables[b->next_table++];
    pthread_mutex_unlock(&b->mutex);
    return t;
}

static int
snapshot_join(struct base *b, struct pg_conn *c, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ");
    int rc = quote_literal(c, &sql, slice_str(b->snapshot), err);
    if (rc == 0)
        rc = pg_exec(c, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

static void *
worker_thread(void *base)
{
    struct base *b = base;
    struct worker w = { .base = b, .batch_bytes_max = b->a->budget.limit / BASE_SHARE };
    struct pgs_err err;
    struct base_table *t;
    w.batch = batch_new(&b->a->budget);
    w.scratch = arena_new(NULL);
    int rc = pg_open(&archiver_opts(b->a)->target, &(struct pg_open_opts){ 0 }, &w.conn, &err);
    if (rc == 0)
        rc = snapshot_join(b, w.conn, &err);
    while (rc == 0 && (t = table_take(b)) != NULL)
        rc = table_copy(&w, t, &err);
    if (rc == 0)
        rc = worker_write(&w, &err);
    if (rc < 0)
        base_fail(b, &err);
    pg_close(w.conn);
    batch_free(w.batch);
    arena_free(w.scratch);
    buf_release(&w.key);
    buf_release(&w.image);
    return NULL;
}

static void
workers_run(struct base *b)
{
    pthread_t threads[64];
    unsigned count = archiver_opts(b->a)->base_threads;
    if (count > b->table_count)
        count = (unsigned)b->table_count;
    if (count > sizeof(threads) / sizeof(threads[0]))
        count = sizeof(threads) / sizeof(threads[0]);
    unsigned started = 0;
    while (started + 1 < count && pthread_create(&threads[started], NULL, worker_thread, b) == 0)
        started++;
    (void)worker_thread(b);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
}

/* Largest first would be better balanced; sizes are not known without asking. */
static int
tables_choose(struct base *b, struct archive *archive, bool all, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct catalog catalog = { 0 };
    const struct archiver_opts *opts = archiver_opts(b->a);
    int rc = pg_open(&opts->target, &(struct pg_open_opts){ 0 }, &c, err);
    if (rc == 0)
        rc = snapshot_join(b, c, err);
    if (rc == 0)
        rc = catalog_read(c, &opts->setup.rules, b->arena, &catalog, err);
    pg_close(c);
    if (rc < 0)
        return rc;
    b->tables = arena_alloc_array(b->arena, catalog.count + 1, sizeof(*b->tables));
    for (size_t i = 0; i < catalog.count; i++) {
        const struct relation *r = catalog.relations[i];
        if (r->covered && r->published && (all || !archive_table_covered(archive, r->oid)))
            b->tables[b->table_count++].relation = r;
    }
    return 0;
}

static int
base_publish(struct base *b, struct pgs_err *err)
{
    struct log_entry e = { .kind = LOG_BASE, .time_min = PGS_TIME_NONE, .time_max = PGS_TIME_NONE };
    struct log_base *bases = arena_alloc_array(b->arena, b->table_count + 1, sizeof(*bases));
    struct log_shape *shapes = arena_alloc_array(b->arena, b->table_count + 1, sizeof(*shapes));
    for (size_t i = 0; i < b->table_count; i++) {
        struct base_table *t = &b->tables[i];
        uint64_t id = relation_shape_id(t->relation);
        bases[i] = (struct log_base){ t->relation->oid, id,          b->lsn,
                                      t->rows,          t->segments, t->segment_count };
        shapes[i] = (struct log_shape){ b->lsn, id, relation_dup(b->arena, t->relation) };
    }
    e.segments = b->segments;
    e.segment_count = b->segment_count;
    e.bases = bases;
    e.shapes = shapes;
    e.base_count = e.shape_count = b->table_count;
    return publisher_append(b->a, &e, err);
}

static void
segments_remove(struct base *b)
{
    struct pgs_err ignored;
    for (size_t i = 0; i < b->segment_count; i++)
        err_ignore(store_remove(b->a->store, b->segments[i].name, &ignored));
}

static int
base_take(struct base *b, struct archive *archive, bool all, struct pgs_err *err)
{
    int64_t started_us = clock_us();
    uint64_t rows = 0;
    int rc = tables_choose(b, archive, all, err);
    if (rc < 0 || b->table_count == 0)
        return rc;
    workers_run(b);
    if (b->failed) {
        *err = b->failure;
        segments_remove(b);
        return err->kind;
    }
    rc = base_publish(b, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < b->table_count; i++)
        rows += b->tables[i].rows;
    diag_info("base_taken",
              DIAG(diag_lsn(DIAG_KEY_LSN, b->lsn), diag_int(DIAG_KEY_ROWS, (int64_t)rows),
                   diag_int(DIAG_KEY_DURATION_MS, (clock_us() - started_us) / 1000)),
              "base of %zu tables", b->table_count);
    return 0;
}

/* The slot and its snapshot live as long as the replication connection stays quiet. */
static int
base_run(struct archiver *a, struct archive *archive, bool all, struct pgs_err *err)
{
    struct base b = { .a = a, .mutex = PTHREAD_MUTEX_INITIALIZER };
    struct pg_conn *replication = NULL;
    struct slot_created slot;
    char name[64];
    snprintf(name, sizeof(name), "pgstrata_base_%d_%lld", (int)getpid(), (long long)clock_us());
    int rc = pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ .replication = true },
                     &replication, err);
    if (rc == 0)
        rc = replication_create_slot(replication, name, true, true, &slot, err);
    if (rc == 0) {
        b.arena = arena_new(NULL);
        b.lsn = slot.consistent_point;
        snprintf(b.snapshot, sizeof(b.snapshot), "%s", slot.snapshot);
        rc = base_take(&b, archive, all, err);
        arena_free(b.arena);
    }
    pg_close(replication);
    return rc < 0 ? err_doing(err, "take a base") : 0;
}

/* Some published table cannot be answered for at the archive's end. */
static int
base_is_needed(struct archiver *a, struct pg_conn **conn, struct archive *archive, bool *needed,
               struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(a);
    struct arena *arena = arena_new(NULL);
    struct catalog catalog;
    int rc = *conn != NULL ? 0 : pg_open(&opts->target, &(struct pg_open_opts){ 0 }, conn, err);
    if (rc == 0)
        rc = catalog_read(*conn, &opts->setup.rules, arena, &catalog, err);
    *needed = false;
    for (size_t i = 0; rc == 0 && !*needed && i < catalog.count; i++) {
        const struct relation *r = catalog.relations[i];
        *needed = r->covered && r->published && !archive_table_covered(archive, r->oid);
    }
    arena_free(arena);
    if (rc < 0) {
        pg_close(*conn);
        *conn = NULL;
    }
    return rc;
}

struct base_loop {
    struct pg_conn *conn;
    struct archive *archive;
    int64_t taken_us, failed_us;
    bool automatic;
};

static int
base_look(struct archiver *a, struct base_loop *l, struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(a);
    bool all = atomic_exchange(&a->bases_wanted, false);
    bool needed = false;
    int rc = archive_refresh(l->archive, err);
    if (rc < 0)
        return rc;
    if (opts->base_interval_ms > 0 && clock_us() - l->taken_us > opts->base_interval_ms * 1000)
        all = true;
    /* Told not to take bases unasked, it starts to after the first one that was asked for. */
    if (!all && l->automatic)
        rc = base_is_needed(a, &l->conn, l->archive, &needed, err);
    if (rc < 0 || (!all && !needed))
        return rc;
    rc = base_run(a, l->archive, all, err);
    if (rc < 0 && all)
        atomic_store(&a->bases_wanted, true);
    l->taken_us = clock_us();
    l->automatic = l->automatic || all;
    return rc;
}

void *
base_thread(void *archiver)
{
    struct archiver *a = archiver;
    struct base_loop l = { .taken_us = clock_us(),
                           .failed_us = -RETRY_AFTER_US,
                           .automatic = !a->opts_first.no_initial_base };
    struct pgs_err err;
    int64_t look_us = 0;
    if (archive_open(a->store, a->archive_id, &l.archive, &err) < 0) {
        archiver_fail(a, &err);
        return NULL;
    }
    while (!atomic_load(&a->stopping)) {
        struct timespec pause = { .tv_nsec = 20 * 1000000L };
        bool asked = atomic_load(&a->bases_wanted) || atomic_load(&a->look_at_coverage);
        (void)nanosleep(&pause, NULL);
        if (!atomic_load(&a->streaming) || clock_us() - l.failed_us < RETRY_AFTER_US ||
            (!asked && clock_us() - look_us < LOOK_INTERVAL_MS * 1000))
            continue;
        look_us = clock_us();
        atomic_store(&a->look_at_coverage, false);
        if (base_look(a, &l, &err) < 0 && !atomic_load(&a->stopping)) {
            l.failed_us = clock_us();
            diag_warn("base_failed", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                      "a base could not be taken; trying again");
            if (err.kind == PGS_E_FENCED)
                archiver_fail(a, &err);
        }
    }
    pg_close(l.conn);
    archive_close(l.archive);
    return NULL;
}
