/* session.c: the pipeline of one session: slot in the caller's thread, builder and flushers beside
 * it. */
#include "archiver/internal.h"

#include "archiver/builder.h"
#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

#define FLUSH_THREADS_MAX 16
#define INBOX_SHARE 8 /* of the budget: what may wait between slot and builder */
#define BATCH_SHARE 6 /* ... one batch: one is filled, one or two are written, one may wait */
#define TICK_MS 100

/* The builder's side of the session. */
struct builder_context {
    struct archiver *a;
    struct builder *builder;
    struct pg_conn *sql; /* for the catalog; NULL: not connected */
    size_t batch_bytes;
};

bool
archiver_post(struct archiver *a, struct item *item)
{
    pthread_mutex_lock(&a->session_mutex);
    bool posted = a->inbox != NULL && queue_try_push(a->inbox, item, 0) == 0;
    pthread_mutex_unlock(&a->session_mutex);
    return posted;
}

/* --- what the builder needs of the world --- */

static int64_t
env_flush_interval(void *context)
{
    const struct builder_context *c = context;
    return archiver_opts(c->a)->flush_interval_ms;
}

static int64_t
env_range_interval(void *context)
{
    const struct builder_context *c = context;
    return archiver_opts(c->a)->range_interval_ms;
}

static uint64_t
env_range_bytes(void *context)
{
    const struct builder_context *c = context;
    return archiver_opts(c->a)->range_bytes;
}

static const struct catalog_rules *
env_rules(void *context)
{
    const struct builder_context *c = context;
    return &archiver_opts(c->a)->setup.rules;
}

static int
env_catalog(void *context, struct arena *arena, struct catalog *catalog, struct pgs_err *err)
{
    struct builder_context *c = context;
    const struct archiver_opts *opts = archiver_opts(c->a);
    int rc =
        c->sql != NULL
            ? 0
            : pg_open(&opts->target, &(struct pg_open_opts){ .wires = &c->a->wires }, &c->sql, err);
    if (rc == 0)
        rc = catalog_read(c->sql, &opts->setup.rules, arena, catalog, err);
    if (rc < 0) { /* the next look opens a new one */
        pg_close(c->sql);
        c->sql = NULL;
    }
    return rc;
}

static void
env_want_sync(void *context)
{
    const struct builder_context *c = context;
    atomic_store(&c->a->sync_wanted, true);
}

/* Waits until the budget has room for one more batch, while others are being written. */
static void
room_wait(struct archiver *a, size_t bytes)
{
    pthread_mutex_lock(&a->room_mutex);
    while (a->in_flight > 0 && !budget_fits(&a->budget, bytes)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        (void)pthread_cond_timedwait(&a->room, &a->room_mutex, &until);
    }
    pthread_mutex_unlock(&a->room_mutex);
}

static int
env_submit(void *context, struct batch *batch, struct pgs_err *err)
{
    const struct builder_context *c = context;
    struct archiver *a = c->a;
    pthread_mutex_lock(&a->room_mutex);
    a->in_flight++;
    pthread_mutex_unlock(&a->room_mutex);
    /* The budget bounds the queue. Nothing closes it before the builder has ended. */
    int rc = queue_try_push(a->batches, batch, 0);
    pgs_assert(rc == 0);
    room_wait(a, c->batch_bytes);
    return atomic_load(&a->failed) ? err_set(err, PGS_E_CANCELLED, "the session has ended") : 0;
}

/* --- the builder's thread --- */

static int
chunk_take(struct builder *b, const struct item *chunk, struct pgs_err *err)
{
    struct frame frame;
    size_t position = 0;
    while (chunk_next(chunk, &position, &frame)) {
        int rc = frame.kind == FRAME_DATA
                     ? builder_message(b, frame.bytes, err)
                     : builder_position(b, frame.lsn, frame.kind == FRAME_POSITION_URGENT, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int
item_take(struct builder *b, struct item *item, struct pgs_err *err)
{
    struct schema_poll *poll = item->poll;
    struct base_done *bases = item->bases;
    int rc = 0;
    item->poll = NULL;
    item->bases = NULL;
    switch (item->kind) {
    case ITEM_CHUNK: rc = chunk_take(b, item, err); break;
    case ITEM_POLL: rc = builder_poll(b, poll, err); break;
    case ITEM_BASES: rc = builder_bases(b, bases, err); break;
    }
    inbox_free(item);
    return rc;
}

static void *
builder_thread(void *context)
{
    struct builder_context *c = context;
    struct archiver *a = c->a;
    struct pgs_err err;
    int rc = 0;
    for (;;) {
        void *item;
        int64_t interval = archiver_opts(a)->flush_interval_ms;
        int popped = queue_pop(a->inbox, interval < TICK_MS ? (int)interval : TICK_MS, &item);
        if (popped == PGS_CLOSED)
            break;
        rc = popped == 0 ? item_take(c->builder, item, &err) : 0;
        if (rc == 0)
            rc = builder_tick(c->builder, &err);
        if (rc < 0)
            break;
    }
    if (rc == 0 && !atomic_load(&a->failed))
        rc = builder_finish(c->builder, &err);
    if (rc < 0)
        archiver_fail(a, &err);
    queue_close(a->batches);
    return NULL;
}

static int
xid_read(struct pg_conn *c, uint64_t *xid, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc =
        pg_query(c, "SELECT pg_snapshot_xmax(pg_current_snapshot())", PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        *xid = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    return rc;
}

static int
builder_open(struct builder_context *c, struct pgs_err *err)
{
    struct archiver *a = c->a;
    uint64_t xid = 0;
    int rc = pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ .wires = &a->wires },
                     &c->sql, err);
    if (rc == 0)
        rc = xid_read(c->sql, &xid, err);
    if (rc < 0)
        return rc;
    c->batch_bytes = a->budget.limit / BATCH_SHARE;
    c->builder = builder_new(
        &(struct builder_env){ .context = c,
                               .budget = &a->budget,
                               .batch_bytes = c->batch_bytes,
                               .position = durable_lsn(&a->durable),
                               .history = { a->system_id, a->timeline, atomic_load(&a->era) },
                               .xid = xid,
                               .flush_interval_ms = env_flush_interval,
                               .range_interval_ms = env_range_interval,
                               .range_bytes = env_range_bytes,
                               .rules = env_rules,
                               .catalog = env_catalog,
                               .want_sync = env_want_sync,
                               .submit = env_submit });
    pthread_mutex_lock(&a->publisher.mutex);
    builder_load(c->builder, a->publisher.log);
    pthread_mutex_unlock(&a->publisher.mutex);
    return 0;
}

/* --- the session --- */

static void
inbox_set(struct archiver *a, struct queue *inbox)
{
    pthread_mutex_lock(&a->session_mutex);
    a->inbox = inbox;
    pthread_mutex_unlock(&a->session_mutex);
}

static void
thread_start(pthread_t *thread, void *(*fn)(void *), void *context)
{
    int rc = pthread_create(thread, NULL, fn, context);
    pgs_assert(rc == 0);
}

static int
pipeline_run(struct builder_context *c, struct pg_conn *replication, struct pgs_err *err)
{
    struct archiver *a = c->a;
    pthread_t builder, flushers[FLUSH_THREADS_MAX];
    unsigned count = a->opts_first.flush_threads;
    struct queue *inbox = queue_new(a->budget.limit / INBOX_SHARE);
    count = count < 1 ? 1 : count > FLUSH_THREADS_MAX ? FLUSH_THREADS_MAX : count;
    a->batches = queue_new(a->budget.limit);
    inbox_set(a, inbox);
    thread_start(&builder, builder_thread, c);
    for (unsigned i = 0; i < count; i++)
        thread_start(&flushers[i], flusher_thread, a);
    atomic_store(&a->streaming, true);
    int rc = slot_run(a, replication, err);
    atomic_store(&a->streaming, false);
    /* After a stop what was read goes through. After a failure it comes again, and storage that is
     * away must not keep us from connecting anew. */
    if (rc == 0 && !atomic_load(&a->failed))
        queue_close(inbox);
    else
        queue_abort(inbox);
    atomic_store(&a->session_over, rc < 0);
    archiver_join(a, builder);
    for (unsigned i = 0; i < count; i++)
        archiver_join_flusher(a, flushers[i]);
    inbox_set(a, NULL);
    queue_free(inbox, inbox_free);
    queue_free(a->batches, NULL);
    a->batches = NULL;
    return rc;
}

int
session_stream(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct builder_context context = { .a = a };
    struct pgs_err ignored;
    atomic_store(&a->failed, false);
    atomic_store(&a->session_over, false);
    publisher_begin(a);
    int rc = builder_open(&context, err);
    if (rc == 0)
        rc = pipeline_run(&context, c, err);
    builder_free(context.builder);
    pg_close(context.sql);
    if (atomic_load(&a->failed)) {
        *err = a->failure;
        rc = err->kind;
    }
    /* Once more: what the last flush made durable. */
    if (rc == 0)
        err_ignore(replication_status(c, durable_lsn(&a->durable), false, &ignored));
    return rc;
}
