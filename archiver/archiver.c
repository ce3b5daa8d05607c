/* archiver.c: start-up checks, sessions of the pipeline, stop.
 *
 * A session is one life of the replication connection. When it ends for a reason that may pass,
 * everything between slot and log is thrown away and the next session starts at the durable end:
 * there is no state to mend (DESIGN 4.1). */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/random.h"
#include "core/timefmt.h"
#include "pg/replication.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STOP_MAX_US (INT64_C(8) * 1000 * 1000)
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 5000
#define SLOT_WAIT_MS 500
#define CHUNKS_SHARE 8 /* of the budget: what may wait between slot and builder */
#define FLUSH_THREADS_MAX 16

void
archiver_wake(struct archiver *a)
{
    uint64_t one = 1;
    if (write(a->wake_fd, &one, sizeof(one)) < 0) {
        /* The counter is full: it wakes all the same. */
    }
}

void
archiver_alive(struct archiver *a)
{
    atomic_store(&a->progress_us, clock_us());
}

void
archiver_stop(struct archiver *a)
{
    int_fast64_t never = 0;
    (void)atomic_compare_exchange_strong(&a->stop_us, &never, clock_us());
    atomic_store(&a->stopping, true);
    archiver_wake(a);
}

bool
archiver_stop_overdue(struct archiver *a)
{
    int64_t asked = atomic_load(&a->stop_us);
    return asked != 0 && clock_us() - asked > STOP_MAX_US;
}

void
archiver_fail(struct archiver *a, const struct pgs_err *err)
{
    pthread_mutex_lock(&a->failure_mutex);
    if (!a->failed)
        a->failure = *err;
    a->failed = true;
    pthread_mutex_unlock(&a->failure_mutex);
    atomic_store(&a->aborted, true);
    archiver_wake(a);
}

void
archiver_request_bases(struct archiver *a)
{
    atomic_store(&a->bases_wanted, true);
}

void
archiver_reload(struct archiver *a, const struct archiver_opts *opts)
{
    atomic_store(&a->opts, opts);
}

void
archiver_health(struct archiver *a, struct archiver_health *health)
{
    *health = (struct archiver_health){ .streaming = atomic_load(&a->streaming),
                                        .durable = atomic_load(&a->durable),
                                        .received = atomic_load(&a->received),
                                        .progress_us = atomic_load(&a->progress_us) };
}

static int
refuse_findings(const struct findings *f, struct pgs_err *err)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].level != FINDING_ERROR)
            continue;
        (void)err_set(err, PGS_E_REFUSED, "%.*s", SLICE_PRINT(f->items[i].text));
        return err_hint(err, "%.*s", SLICE_PRINT(f->items[i].fix));
    }
    return 0;
}

static int
read_archive_id(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct slice id;
    int rc = settings_get(c, "archive_id", a->arena, &id, err);
    if (rc == PGS_NONE) {
        (void)err_set(err, PGS_E_NOT_FOUND, "this database is not set up");
        return err_hint(err, "run `pgstrata setup`");
    }
    if (rc == 0)
        snprintf(a->archive_id, sizeof(a->archive_id), "%.*s", SLICE_PRINT(id));
    return rc;
}

/* A copy of the server goes on counting from an old heartbeat, or with another process's nonce. */
static int
clone_check(struct archiver *a, struct pg_conn *c, const struct log_entry *last,
            struct pgs_err *err)
{
    struct heartbeat beat;
    int rc = heartbeat_read(c, &beat, err);
    if (rc < 0 || last == NULL || last->heartbeat.counter == 0 || a->opts_first.take_over ||
        last->timeline != a->timeline)
        return rc;
    bool behind = beat.counter < last->heartbeat.counter;
    bool other = beat.counter == last->heartbeat.counter &&
                 !slice_equal(slice_str(beat.nonce), last->heartbeat.nonce);
    if (!behind && !other)
        return 0;
    (void)err_set(err, PGS_E_REFUSED,
                  "this server is a copy of the archived one: its heartbeat is %s the archive's",
                  behind ? "behind" : "not");
    (void)err_code(err, "clone");
    return err_hint(err, "run `pgstrata setup` with another BACKUP_DIR for the copy; --take-over "
                         "if it replaces the original");
}

struct slot_state {
    pgs_lsn confirmed;
    bool lost;
    const char *active_pid; /* NULL: free */
};

static int
slot_look(struct archiver *a, struct pg_conn *c, struct slot_state *state, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c,
                      "SELECT confirmed_flush_lsn, active_pid, wal_status FROM pg_replication_slots"
                      " WHERE slot_name = $1",
                      PG_PARAMS(a->names.slot), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 0) {
        rc = err_set(err, PGS_E_NOT_FOUND, "slot %s does not exist", a->names.slot);
        (void)err_hint(err,
                       "run `pgstrata setup`; what happened since is a gap that a base closes");
    }
    if (rc == 0) {
        const char *lsn = pg_cell(rows, 0, 0), *status = pg_cell(rows, 0, 2);
        state->lost = status != NULL && strcmp(status, "lost") == 0;
        state->active_pid = arena_strdup(a->arena, pg_cell(rows, 0, 1));
        rc = lsn != NULL ? lsn_parse(lsn, &state->confirmed, err) : 0;
    }
    pg_rows_free(rows);
    if (rc == 0 && state->lost) {
        (void)err_set(err, PGS_E_REFUSED, "slot %s has lost WAL", a->names.slot);
        rc = err_hint(err, "drop it (pg_drop_replication_slot), run `pgstrata setup`: serve "
                           "records the gap and takes a base");
    }
    return rc;
}

/* What came between the archive's end and the slot's position is lost: it was never seen. */
static int
gap_record(struct archiver *a, pgs_lsn begin, pgs_lsn end, struct pgs_err *err)
{
    struct log_break gap = {
        0, begin, end, slice_str("gap"),
        slice_str("the slot was lost or made anew: changes in between were never seen")
    };
    struct log_entry e = { .kind = LOG_CHANGES,
                           .range = { begin, end },
                           .time_min = PGS_TIME_NONE,
                           .time_max = PGS_TIME_NONE,
                           .breaks = &gap,
                           .break_count = 1 };
    diag_error("gap", DIAG(diag_lsn("begin", begin), diag_lsn("end", end)),
               "history has a gap; a base closes it");
    int rc = alog_append(a->publisher.log, &e, err);
    if (rc == 0)
        a->publisher.end = end;
    return rc;
}

static int
era_begin(struct archiver *a, pgs_lsn begin, const char *reason, struct pgs_err *err)
{
    const struct log_entry *last = alog_last(a->publisher.log);
    struct log_entry e = { .kind = LOG_ERA,
                           .era = last->era + 1,
                           .system_id = a->system_id,
                           .timeline = a->timeline,
                           .range = { begin, begin },
                           .time_min = PGS_TIME_NONE,
                           .time_max = PGS_TIME_NONE,
                           .reason = slice_str(reason) };
    diag_warn("era", DIAG(diag_int(DIAG_KEY_ERA, e.era), diag_lsn(DIAG_KEY_LSN, begin)), "%s",
              reason);
    int rc = alog_append(a->publisher.log, &e, err);
    if (rc == 0)
        a->publisher.end = begin;
    return rc;
}

/* Whether our end lies on the way to the server's timeline. */
static int
timeline_check(struct archiver *a, struct pg_conn *replication, const struct log_entry *last,
               bool *diverged, struct pgs_err *err)
{
    struct timeline_switch *switches;
    size_t count;
    *diverged = a->timeline < last->timeline;
    if (a->timeline == last->timeline)
        return 0;
    int rc =
        replication_timeline_history(replication, a->timeline, a->arena, &switches, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (switches[i].timeline >= last->timeline && a->publisher.end > switches[i].end)
            *diverged = true;
    }
    return rc;
}

/* Where the stream starts: the archive's end (DESIGN 4.2). */
static int
start_position(struct archiver *a, struct pg_conn *replication, const struct slot_state *slot,
               const struct log_entry *last, struct pgs_err *err)
{
    bool diverged = false;
    if (last == NULL || a->publisher.end == 0) {
        a->publisher.end = slot->confirmed;
        return 0;
    }
    if (last->system_id != a->system_id) {
        if (!a->opts_first.take_over) {
            (void)err_set(err, PGS_E_REFUSED,
                          "this server is not the archived one: its system id differs");
            (void)err_code(err, "clone");
            return err_hint(err, "--take-over begins a new era, when the database was moved here");
        }
        return era_begin(a, slot->confirmed, "the database moved to a new system id", err);
    }
    int rc = timeline_check(a, replication, last, &diverged, err);
    if (rc < 0)
        return rc;
    if (diverged)
        return era_begin(a, slot->confirmed, "the server's timeline left the archive's", err);
    return slot->confirmed > a->publisher.end
               ? gap_record(a, a->publisher.end, slot->confirmed, err)
               : 0;
}

/* Another sidecar may still hold the slot: it is waited for, by name. */
static int
slot_wait(struct archiver *a, struct pg_conn *c, struct slot_state *slot, struct pgs_err *err)
{
    bool told = false;
    for (;;) {
        int rc = slot_look(a, c, slot, err);
        if (rc < 0 || slot->active_pid == NULL)
            return rc;
        if (!told)
            diag_warn("slot_busy", DIAG(diag_str(DIAG_KEY_SLOT, a->names.slot)),
                      "slot is in use by process %s: waiting", slot->active_pid);
        told = true;
        if (atomic_load(&a->stopping))
            return err_set(err, PGS_E_CANCELLED, "stop was requested");
        struct timespec pause = { .tv_nsec = SLOT_WAIT_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
    }
}

static int
open_database(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct findings findings = { 0 };
    int rc = setup_check_server(c, a->arena, &findings, err);
    if (rc == 0)
        rc = refuse_findings(&findings, err);
    if (rc == 0)
        rc = setup_names_read(c, a->opts_first.setup.slot, &a->names, err);
    return rc < 0 ? rc : read_archive_id(a, c, err);
}

static int
open_archive(struct archiver *a, struct pgs_err *err)
{
    struct alog *log;
    int rc = store_open(a->opts_first.root_url, &a->root, err);
    if (rc == 0)
        rc = store_probe(a->root, err);
    if (rc == 0)
        rc = alog_store(a->root, a->archive_id, &a->store, err);
    if (rc == 0)
        rc = alog_open(a->store, a->archive_id, &log, err);
    if (rc == 0)
        publisher_init(&a->publisher, log);
    return rc;
}

static int
open_stream(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct pg_conn *replication = NULL;
    struct server_identity id;
    struct slot_state slot = { 0 };
    const struct log_entry *last = alog_last(a->publisher.log);
    int rc = pg_open(&a->opts_first.target, &(struct pg_open_opts){ .replication = true },
                     &replication, err);
    if (rc == 0)
        rc = replication_identify(replication, &id, err);
    if (rc == 0) {
        a->system_id = id.system_id;
        a->timeline = id.timeline;
        rc = clone_check(a, c, last, err);
    }
    if (rc == 0)
        rc = slot_wait(a, c, &slot, err);
    /* The other writer may have gone on while we waited. */
    if (rc == 0 && (rc = alog_refresh(a->publisher.log, err)) >= 0) {
        a->publisher.end = alog_end(a->publisher.log);
        rc = alog_take_epoch(a->publisher.log, last == NULL ? id.system_id : 0,
                             last == NULL ? id.timeline : 0, err);
    }
    if (rc == 0)
        rc = start_position(a, replication, &slot, last, err);
    pg_close(replication);
    if (rc == 0)
        atomic_store(&a->durable, a->publisher.end);
    return rc;
}

int
archiver_open(const struct archiver_opts *opts, struct archiver **archiver, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct archiver *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    a->opts_first = *opts;
    atomic_store(&a->opts, &a->opts_first);
    a->arena = arena_new(NULL);
    a->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    budget_init(&a->budget, opts->memory_bytes);
    pthread_mutex_init(&a->failure_mutex, NULL);
    pthread_mutex_init(&a->room_mutex, NULL);
    pthread_cond_init(&a->room, NULL);
    (void)random_hex(a->nonce, 16);
    archiver_alive(a);
    int rc = a->wake_fd < 0 ? err_set_errno(err, PGS_E_FAILED, "cannot make an eventfd") : 0;
    if (rc == 0)
        rc = pg_open(&opts->target, &(struct pg_open_opts){ 0 }, &c, err);
    if (rc == 0)
        rc = open_database(a, c, err);
    if (rc == 0)
        rc = open_archive(a, err);
    if (rc == 0)
        rc = open_stream(a, c, err);
    pg_close(c);
    if (rc < 0) {
        archiver_close(a);
        return rc;
    }
    diag_info("archive_open",
              DIAG(diag_lsn(DIAG_KEY_LSN, a->publisher.end),
                   diag_int(DIAG_KEY_EPOCH, (int64_t)alog_epoch(a->publisher.log)),
                   diag_str(DIAG_KEY_SLOT, a->names.slot)),
              "archive %s", a->archive_id);
    *archiver = a;
    return 0;
}

void
archiver_close(struct archiver *a)
{
    if (a == NULL)
        return;
    if (a->publisher.log != NULL)
        publisher_release(&a->publisher);
    store_close(a->store);
    store_close(a->root);
    if (a->wake_fd >= 0)
        close(a->wake_fd);
    pthread_cond_destroy(&a->room);
    pthread_mutex_destroy(&a->room_mutex);
    pthread_mutex_destroy(&a->failure_mutex);
    arena_free(a->arena);
    free(a);
}

static void
thread_start(pthread_t *thread, void *(*fn)(void *), void *context)
{
    int rc = pthread_create(thread, NULL, fn, context);
    pgs_assert(rc == 0);
}

/* The pipeline of one session: slot in this thread, builder and flushers beside it. */
static int
pipeline_run(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    pthread_t builder_id, flushers[FLUSH_THREADS_MAX];
    unsigned count = a->opts_first.flush_threads;
    struct builder *builder;
    int rc = builder_new(a, &builder, err);
    if (rc < 0)
        return rc;
    count = count < 1 ? 1 : count > FLUSH_THREADS_MAX ? FLUSH_THREADS_MAX : count;
    a->chunks = queue_new(a->budget.limit / CHUNKS_SHARE);
    a->batches = queue_new(a->budget.limit / CHUNKS_SHARE);
    thread_start(&builder_id, builder_thread, builder);
    for (unsigned i = 0; i < count; i++)
        thread_start(&flushers[i], flusher_thread, a);
    atomic_store(&a->streaming, true);
    rc = slot_run(a, c, err);
    atomic_store(&a->streaming, false);
    /* After a stop what was read goes through; after a failure it comes again. */
    if (atomic_load(&a->stopping) && rc == 0 && !atomic_load(&a->aborted))
        queue_close(a->chunks);
    else
        queue_abort(a->chunks);
    (void)pthread_join(builder_id, NULL);
    for (unsigned i = 0; i < count; i++)
        (void)pthread_join(flushers[i], NULL);
    builder_free(builder);
    queue_free(a->chunks, chunk_free);
    queue_free(a->batches, NULL);
    a->chunks = a->batches = NULL;
    return rc;
}

static int
session_run(struct archiver *a, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct pgs_err ignored;
    atomic_store(&a->aborted, false);
    a->failed = false;
    int rc =
        pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ .replication = true }, &c, err);
    if (rc == 0)
        rc = replication_start(c, a->names.slot, atomic_load(&a->durable), a->names.publication,
                               err);
    if (rc == 0) {
        diag_info("streaming",
                  DIAG(diag_lsn(DIAG_KEY_LSN, atomic_load(&a->durable)),
                       diag_str(DIAG_KEY_SLOT, a->names.slot)),
                  "streaming from the archive's end");
        rc = pipeline_run(a, c, err);
    }
    if (a->failed) {
        *err = a->failure;
        rc = err->kind;
    }
    /* Once more: what the last flush made durable. */
    if (rc == 0)
        err_ignore(replication_status(c, atomic_load(&a->durable), false, &ignored));
    pg_close(c);
    return rc;
}

static bool
may_pass(const struct pgs_err *err)
{
    return err->kind == PGS_E_DATABASE || err->kind == PGS_E_STORE || err->kind == PGS_E_CANCELLED;
}

static void
pause_before_retry(struct archiver *a, long *ms)
{
    for (long waited = 0; waited < *ms && !atomic_load(&a->stopping); waited += RETRY_FIRST_MS) {
        struct timespec pause = { .tv_nsec = RETRY_FIRST_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
        archiver_alive(a);
    }
    *ms = *ms * 2 < RETRY_MAX_MS ? *ms * 2 : RETRY_MAX_MS;
}

static int
sessions_run(struct archiver *a, struct pgs_err *err)
{
    long retry_ms = RETRY_FIRST_MS;
    for (;;) {
        pgs_lsn before = atomic_load(&a->durable);
        int rc = session_run(a, err);
        if (atomic_load(&a->stopping))
            return rc < 0 && !may_pass(err) ? rc : 0;
        if (rc < 0 && !may_pass(err))
            return rc;
        if (atomic_load(&a->durable) > before)
            retry_ms = RETRY_FIRST_MS;
        diag_warn("session_ended", DIAG(diag_str(DIAG_KEY_ERROR, rc < 0 ? err->message : "")),
                  "connecting again");
        pause_before_retry(a, &retry_ms);
        if (atomic_load(&a->stopping))
            return 0;
    }
}

int
archiver_run(struct archiver *a, struct pgs_err *err)
{
    pthread_t base_id, keeper_id;
    thread_start(&base_id, base_thread, a);
    thread_start(&keeper_id, keeper_thread, a);
    int rc = sessions_run(a, err);
    archiver_stop(a); /* the other two threads */
    (void)pthread_join(base_id, NULL);
    (void)pthread_join(keeper_id, NULL);
    return rc;
}
