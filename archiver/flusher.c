/* flusher.c: writes segments in parallel, appends log entries in order.
 *
 * A batch holds complete transactions first, then perhaps a part of one that is still open. The
 * first become a segment and, when it is this batch's turn, a log entry; the rest becomes a spilled
 * segment that the entry with its commit will name. Storage that is away is waited for; being
 * fenced is the end. */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

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

struct backoff {
    long ms;
    bool warned;
};

/* Waits before the next try; false: give up, the error stands. */
static bool
retry(struct archiver *a, struct backoff *b, const struct pgs_err *err, const char *doing)
{
    if (err->kind != PGS_E_STORE || atomic_load(&a->aborted) || archiver_stop_overdue(a))
        return false;
    if (!b->warned) {
        diag_warn("storage_down", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
                  "cannot %s: waiting for the store; PostgreSQL keeps the WAL meanwhile", doing);
        b->warned = true;
    }
    b->ms = b->ms == 0 ? RETRY_FIRST_MS : b->ms * 2 < RETRY_MAX_MS ? b->ms * 2 : RETRY_MAX_MS;
    /* Slices, so that a stop is seen. */
    for (long waited = 0; waited < b->ms && !atomic_load(&a->stopping); waited += RETRY_FIRST_MS) {
        struct timespec pause = { .tv_nsec = RETRY_FIRST_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
        archiver_alive(a);
    }
    if (atomic_load(&a->stopping)) {
        struct timespec pause = { .tv_nsec = RETRY_FIRST_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

static void
retry_over(const struct backoff *b)
{
    if (b->warned)
        diag_info("storage_back", DIAG_NO_FIELDS, "the store answers again");
}

static int
segment_write(struct archiver *a, const struct batch *b, size_t from, size_t to, bool with_txns,
              struct segment_info *info, struct pgs_err *err)
{
    struct backoff backoff = { 0 };
    char name[SEGMENT_NAME_MAX];
    int rc;
    do {
        publisher_segment_name(a, name);
        rc = batch_write(b, from, to, with_txns, a->store, name, info, err);
    } while (rc < 0 && retry(a, &backoff, err, "write a segment"));
    if (rc == 0)
        retry_over(&backoff);
    return rc;
}

/* With the mutex held. */
static int
entry_append(struct archiver *a, struct log_entry *e, struct pgs_err *err)
{
    struct backoff backoff = { 0 };
    int rc;
    do {
        rc = alog_append(a->publisher.log, e, err);
    } while (rc < 0 && retry(a, &backoff, err, "append a log entry"));
    if (rc == 0)
        retry_over(&backoff);
    return rc;
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

/* Spilled parts of a transaction that will come again from its begin. */
static void
spilled_drop(struct archiver *a)
{
    struct publisher *p = &a->publisher;
    struct pgs_err ignored;
    for (size_t i = 0; i < p->spilled_count; i++)
        err_ignore(store_remove(a->store, p->spilled[i].name, &ignored));
    p->spilled_count = 0;
}

static bool
has_notes(const struct log_entry *e)
{
    return e->shape_count + e->base_count + e->break_count + e->restore_point_count +
               e->barrier_count >
           0;
}

/* With the mutex held: the one step that makes the batch visible. */
static int
batch_publish(struct archiver *a, struct batch *b, const struct segment_info *complete,
              struct pgs_err *err)
{
    struct publisher *p = &a->publisher;
    struct log_entry *e = &b->notes;
    size_t spilled = b->closes_spilled ? p->spilled_count : 0;
    bool advances = b->has_end && b->end > p->end;
    if (!advances && complete == NULL && !has_notes(e))
        return 0;
    e->kind = complete != NULL || spilled > 0 || has_notes(e) ? LOG_CHANGES : LOG_RANGE;
    e->range = (struct pgs_lsn_range){ p->end, advances ? b->end : p->end };
    e->segments = arena_alloc_array(b->arena, spilled + 1, sizeof(*e->segments));
    if (spilled > 0)
        memcpy(e->segments, p->spilled, spilled * sizeof(*e->segments));
    e->segment_count = spilled;
    if (complete != NULL) {
        e->segments[e->segment_count++] = *complete;
        e->time_min = complete->time_min;
        e->time_max = complete->time_max;
    }
    int rc = entry_append(a, e, err);
    if (rc < 0)
        return rc;
    if (b->closes_spilled)
        p->spilled_count = 0;
    pgs_assert(e->range.end >= p->end);
    p->end = e->range.end;
    pgs_assert(p->end >= atomic_load(&a->durable));
    atomic_store(&a->durable, p->end);
    archiver_wake(a);
    diag_debug(
        "flushed",
        DIAG(diag_lsn(DIAG_KEY_LSN, p->end), diag_int(DIAG_KEY_ROWS, (int64_t)b->complete_count)),
        "log entry %s", log_kind_name(e->kind));
    return 0;
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

/* Every batch takes its turn, also after a failure: those behind it wait for theirs. */
static int
batch_flush(struct archiver *a, struct batch *b, struct pgs_err *err)
{
    struct publisher *p = &a->publisher;
    struct segment_info complete, open;
    bool has_complete = b->complete_count > 0 || b->txn_count > 0;
    bool has_open = b->count > b->complete_count;
    int rc = atomic_load(&a->aborted) ? err_set(err, PGS_E_CANCELLED, "the session has ended") : 0;
    if (rc == 0 && has_complete)
        rc = segment_write(a, b, 0, b->complete_count, true, &complete, err);
    if (rc == 0 && has_open)
        rc = segment_write(a, b, b->complete_count, b->count, false, &open, err);
    pthread_mutex_lock(&p->mutex);
    turn_wait(p, b->ticket);
    /* A batch before this one may have failed meanwhile: a hole must never become visible. */
    if (rc == 0 && atomic_load(&a->aborted))
        rc = err_set(err, PGS_E_CANCELLED, "the session has ended");
    /* First: what is dropped was spilled before this batch. */
    if (b->drops_spilled)
        spilled_drop(a);
    if (rc == 0)
        rc = batch_publish(a, b, has_complete ? &complete : NULL, err);
    if (rc == 0 && has_open)
        spilled_add(p, &open);
    if (rc < 0 && rc != PGS_E_CANCELLED)
        archiver_fail(a, err);
    turn_end(p);
    pthread_mutex_unlock(&p->mutex);
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
        pthread_mutex_lock(&a->room_mutex);
        pthread_cond_broadcast(&a->room);
        pthread_mutex_unlock(&a->room_mutex);
        archiver_alive(a);
    }
    return NULL;
}

int
publisher_append(struct archiver *a, struct log_entry *e, struct pgs_err *err)
{
    struct publisher *p = &a->publisher;
    pthread_mutex_lock(&p->mutex);
    e->range = (struct pgs_lsn_range){ p->end, p->end };
    int rc = entry_append(a, e, err);
    pthread_mutex_unlock(&p->mutex);
    return rc;
}
