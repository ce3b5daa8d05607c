/* flusher.c: writes segments in parallel, appends log entries in order.
 *
 * A batch holds complete transactions first, then perhaps a part of one that is still open. The
 * first become a segment and, when it is this batch's turn, a log entry; the rest becomes a spilled
 * segment that the entry with its commit will name. Storage that is away is waited for; being
 * fenced is the end. */
#include "archiver/internal.h"

#include "archiver/crash.h"
#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/random.h"

#include <stdlib.h>

#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 5000

void
publisher_init(struct publisher *p, struct alog *log)
{
    *p = (struct publisher){ .log = log, .end = alog_end(log) };
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->turn, NULL);
}

void
publisher_release(struct publisher *p)
{
    free(p->spilled);
    alog_close(p->log);
    pthread_cond_destroy(&p->turn);
    pthread_mutex_destroy(&p->mutex);
}

void
publisher_segment_name(struct archiver *a, char name[SEGMENT_NAME_MAX])
{
    /* The epoch never changes while we write. */
    alog_segment_name(a->publisher.log, name);
}

void
publisher_begin(struct archiver *a)
{
    struct publisher *p = &a->publisher;
    struct pgs_err ignored;
    pthread_mutex_lock(&p->mutex);
    p->next_ticket = 0;
    /* Parts of a transaction that comes again from its begin. What cannot be removed is named by no
     * entry: garbage collection finds it. */
    for (size_t i = 0; i < p->spilled_count; i++)
        err_ignore(store_remove(a->store, p->spilled[i].name, &ignored));
    p->spilled_count = 0;
    pthread_mutex_unlock(&p->mutex);
}

struct backoff {
    long ms;
    bool warned;
};

/* Up to half of it less, so that several clients of a store that comes back do not meet. */
static long
jittered(long ms)
{
    uint16_t random;
    random_bytes(&random, sizeof(random));
    return ms - ms * (random % 1000) / 2000;
}

/* Waits before the next try; false: give up, the error stands. */
static bool
retry(struct archiver *a, struct backoff *b, const struct pgs_err *err, const char *doing)
{
    if (err->kind != PGS_E_STORE || atomic_load(&a->session_over) || archiver_stop_overdue(a))
        return false;
    if (!b->warned)
        diag_warn("storage_down", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
                  "cannot %s: waiting for the store; PostgreSQL keeps the WAL meanwhile", doing);
    b->warned = true;
    b->ms = b->ms == 0 ? RETRY_FIRST_MS : b->ms * 2 < RETRY_MAX_MS ? b->ms * 2 : RETRY_MAX_MS;
    archiver_pause(a, jittered(b->ms));
    return true;
}

static void
retry_over(const struct backoff *b)
{
    if (b->warned)
        diag_info("storage_back", DIAG_NO_FIELDS, "the store answers again");
}

static int
segment_write(struct archiver *a, const struct batch *b, size_t begin, size_t end, bool with_txns,
              struct segment_info *info, struct pgs_err *err)
{
    struct backoff backoff = { 0 };
    char name[SEGMENT_NAME_MAX];
    int rc;
    crash_point("flush.begin");
    do {
        publisher_segment_name(a, name);
        rc = batch_write(b, begin, end, with_txns, a->store, name, &a->budget, info, err);
    } while (rc < 0 && retry(a, &backoff, err, "write a segment"));
    if (rc == 0)
        retry_over(&backoff);
    crash_point("flush.segment_written");
    return rc;
}

/* With the mutex held: the one step that makes anything visible. */
static int
entry_append(struct archiver *a, struct log_entry *e, struct pgs_err *err)
{
    struct backoff backoff = { 0 };
    int rc;
    crash_point("flush.before_entry");
    do {
        rc = alog_append(a->publisher.log, e, err);
    } while (rc < 0 && retry(a, &backoff, err, "append a log entry"));
    if (rc < 0)
        return rc;
    retry_over(&backoff);
    if (e->shape_count + e->break_count + e->base_count > 0)
        atomic_store(&a->look_at_coverage, true);
    crash_point("flush.entry_appended");
    return 0;
}

static void
spilled_add(struct publisher *p, const struct segment_info *info)
{
    struct segment_info *list = realloc(p->spilled, (p->spilled_count + 1) * sizeof(*list));
    if (list == NULL)
        abort();
    list[p->spilled_count++] = *info;
    p->spilled = list;
}

static void
entry_from_notes(struct log_entry *e, const struct notes *n)
{
    e->shapes = n->shapes;
    e->shape_count = n->shape_count;
    e->bases = n->bases;
    e->base_count = n->base_count;
    e->breaks = n->breaks;
    e->break_count = n->break_count;
    e->restore_points = n->restore_points;
    e->restore_point_count = n->restore_point_count;
    e->barriers = n->barriers;
    e->barrier_count = n->barrier_count;
    e->heartbeat.counter = n->heartbeat_counter;
    e->heartbeat.nonce = n->heartbeat_nonce;
}

/* With the mutex held. */
static int
changes_publish(struct archiver *a, struct batch *b, const struct segment_info *complete,
                struct pgs_err *err)
{
    struct publisher *p = &a->publisher;
    size_t spilled = b->closes_spilled ? p->spilled_count : 0;
    pgs_lsn end = b->has_end && b->end > p->end ? b->end : p->end;
    struct log_entry e = { .kind = LOG_RANGE,
                           .range = { p->end, end },
                           .time_min = b->time_min,
                           .time_max = b->time_max };
    entry_from_notes(&e, &b->notes);
    if (end == p->end && complete == NULL && notes_empty(&b->notes))
        return 0;
    e.segments = arena_alloc_array(b->meta, spilled + 1, sizeof(*e.segments));
    if (spilled > 0)
        memcpy(e.segments, p->spilled, spilled * sizeof(*e.segments));
    if (complete != NULL)
        e.segments[spilled] = *complete;
    e.segment_count = spilled + (complete != NULL ? 1 : 0);
    if (e.segment_count > 0 || b->time_max != PGS_TIME_NONE || !notes_empty(&b->notes))
        e.kind = LOG_CHANGES;
    int rc = entry_append(a, &e, err);
    /* Also when it failed: the answer may be what was lost, and then the entry names them. */
    if (b->closes_spilled)
        p->spilled_count = 0;
    if (rc < 0)
        return rc;
    p->end = end;
    durable_advance(&a->durable, end);
    crash_point("flush.durable");
    diag_debug("flushed",
               DIAG(diag_lsn(DIAG_KEY_LSN, end), diag_int(DIAG_KEY_ENTRY, (int64_t)e.number)),
               "log entry %s", log_kind_name(e.kind));
    return 0;
}

/* With the mutex held. */
static int
bases_publish(struct archiver *a, struct batch *b, struct pgs_err *err)
{
    struct base_done *done = b->bases;
    struct publisher *p = &a->publisher;
    struct log_entry e = { .kind = LOG_BASE,
                           .range = { p->end, p->end },
                           .time_min = PGS_TIME_NONE,
                           .time_max = PGS_TIME_NONE,
                           .segments = done->segments,
                           .segment_count = done->segment_count };
    e.bases = arena_alloc_array(b->meta, done->table_count + 1, sizeof(*e.bases));
    for (size_t i = 0; i < done->table_count; i++) {
        const struct base_table *t = &done->tables[i];
        if (!t->left_out)
            e.bases[e.base_count++] = (struct log_base){ .table_oid = t->relation->oid,
                                                         .shape_id = t->shape_id,
                                                         .lsn = done->lsn,
                                                         .rows = t->rows,
                                                         .segments = t->segments,
                                                         .segment_count = t->segment_count };
    }
    done->offered = true;
    int rc = entry_append(a, &e, err);
    crash_point("base.entry_appended");
    return rc;
}

static void
turn_wait(struct publisher *p, uint64_t ticket)
{
    while (p->next_ticket != ticket)
        pthread_cond_wait(&p->turn, &p->mutex);
}

static void
turn_end(struct publisher *p)
{
    p->next_ticket++;
    pthread_cond_broadcast(&p->turn);
}

static void
rows_done(struct archiver *a, struct batch *b)
{
    batch_drop_rows(b);
    pthread_mutex_lock(&a->room_mutex);
    a->in_flight--;
    pthread_cond_broadcast(&a->room);
    pthread_mutex_unlock(&a->room_mutex);
}

static void
bases_answer(struct batch *b, int rc)
{
    base_done_answer(b->bases, rc == 0 ? BASE_PUBLISHED : BASE_RETURNED);
    b->bases = NULL;
}

/* Every batch takes its turn, also after a failure: those behind it wait for theirs. A batch whose
 * turn comes after a failure is not published: a hole must never become visible. */
static int
batch_flush(struct archiver *a, struct batch *b, struct pgs_err *err)
{
    struct publisher *p = &a->publisher;
    struct segment_info complete, open;
    bool has_complete = b->complete_count > 0 || b->txn_count > 0;
    bool has_open = b->count > b->complete_count;
    int rc = atomic_load(&a->failed) ? err_set(err, PGS_E_CANCELLED, "the session has ended") : 0;
    if (rc == 0 && has_complete)
        rc = segment_write(a, b, 0, b->complete_count, true, &complete, err);
    if (rc == 0 && has_open)
        rc = segment_write(a, b, b->complete_count, b->count, false, &open, err);
    rows_done(a, b);
    pthread_mutex_lock(&p->mutex);
    turn_wait(p, b->ticket);
    if (rc == 0 && atomic_load(&a->failed))
        rc = err_set(err, PGS_E_CANCELLED, "the session has ended");
    if (rc == 0)
        rc = b->bases != NULL ? bases_publish(a, b, err)
                              : changes_publish(a, b, has_complete ? &complete : NULL, err);
    if (rc == 0 && has_open)
        spilled_add(p, &open);
    if (rc == 0 && has_open)
        crash_point("flush.spilled");
    if (rc < 0)
        archiver_fail(a, err);
    turn_end(p);
    pthread_mutex_unlock(&p->mutex);
    bases_answer(b, rc);
    return rc;
}

void *
flusher_thread(void *archiver)
{
    struct archiver *a = archiver;
    void *item;
    while (queue_pop(a->batches, -1, &item) == 0) {
        struct batch *b = item;
        struct pgs_err err;
        if (batch_flush(a, b, &err) < 0)
            diag_debug("batch_lost", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                       "a batch was not archived; it will come again");
        batch_free(b);
    }
    return NULL;
}
