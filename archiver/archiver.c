/* archiver.c: sessions one after the other, stop, health. */
#include "archiver/internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/random.h"
#include "core/timefmt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STOP_MAX_US (INT64_C(6) * 1000 * 1000)
#define JOIN_US (INT64_C(2) * 1000 * 1000)
#define JOIN_LOOK_NS 100000000L
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 5000
#define PAUSE_SLICE_MS 50
#define NONCE_BYTES 16

/* Async-signal-safe. */
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
    int saved = errno;
    int_fast64_t never = 0;
    (void)atomic_compare_exchange_strong(&a->stop_us, &never, clock_us());
    atomic_store(&a->stopping, true);
    archiver_wake(a);
    errno = saved;
}

bool
archiver_stop_overdue(struct archiver *a)
{
    int64_t asked = atomic_load(&a->stop_us);
    return asked != 0 && clock_us() - asked > STOP_MAX_US;
}

void
archiver_pause(struct archiver *a, long ms)
{
    /* Once a stop was asked for, one slice is left: who waits goes on and looks for itself. */
    do {
        long slice = ms < PAUSE_SLICE_MS ? ms : PAUSE_SLICE_MS;
        struct timespec pause = { .tv_nsec = slice * 1000000L };
        (void)nanosleep(&pause, NULL);
        ms -= slice;
    } while (ms > 0 && !atomic_load(&a->stopping) && !atomic_load(&a->session_over));
}

/* True when the thread has ended, false after a short while. */
static bool
joined_soon(pthread_t thread)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += JOIN_LOOK_NS;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

void
archiver_join_flusher(struct archiver *a, pthread_t thread)
{
    while (!joined_soon(thread)) {
        if (archiver_stop_overdue(a))
            store_interrupt(a->root);
    }
}

void
archiver_join(struct archiver *a, pthread_t thread)
{
    int64_t begin_us = clock_us();
    while (!joined_soon(thread)) {
        /* Again and again: the thread may have more than one thing to ask. */
        if (clock_us() - begin_us > JOIN_US)
            pg_wires_cut(&a->wires);
        if (archiver_stop_overdue(a))
            store_interrupt(a->root);
    }
}

void
archiver_fail(struct archiver *a, const struct pgs_err *err)
{
    pthread_mutex_lock(&a->failure_mutex);
    if (!atomic_load(&a->failed))
        a->failure = *err;
    atomic_store(&a->failed, true);
    pthread_mutex_unlock(&a->failure_mutex);
    archiver_wake(a);
}

void
archiver_request_bases(struct archiver *a, pgs_lsn from)
{
    pgs_lsn known = atomic_load(&a->bases_wanted);
    while (known < from && !atomic_compare_exchange_weak(&a->bases_wanted, &known, from)) {
        /* `known` is what another thread asked for meanwhile. */
    }
}

void
archiver_reload(struct archiver *a, const struct archiver_opts *opts)
{
    atomic_store(&a->opts, opts);
    atomic_store(&a->sync_wanted, true);
}

void
archiver_health(struct archiver *a, struct archiver_health *health)
{
    *health = (struct archiver_health){ .streaming = atomic_load(&a->streaming),
                                        .durable = durable_lsn(&a->durable),
                                        .received = atomic_load(&a->received),
                                        .progress_us = atomic_load(&a->progress_us) };
}

int
archiver_open(const struct archiver_opts *opts, struct archiver **archiver, struct pgs_err *err)
{
    struct archiver *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    a->opts_first = *opts;
    atomic_store(&a->opts, &a->opts_first);
    a->arena = arena_new(NULL);
    a->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    durable_init(&a->durable, 0, a->wake_fd);
    pg_wires_init(&a->wires);
    budget_init(&a->budget, opts->memory_bytes);
    pthread_mutex_init(&a->session_mutex, NULL);
    pthread_mutex_init(&a->failure_mutex, NULL);
    pthread_mutex_init(&a->room_mutex, NULL);
    pthread_cond_init(&a->room, NULL);
    (void)random_hex(a->nonce, NONCE_BYTES);
    archiver_alive(a);
    int rc = a->wake_fd < 0 ? err_set_errno(err, PGS_E_FAILED, "cannot make an eventfd")
                            : start_open(a, err);
    if (rc < 0) {
        archiver_close(a);
        return rc;
    }
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
    pg_wires_release(&a->wires);
    pthread_cond_destroy(&a->room);
    pthread_mutex_destroy(&a->room_mutex);
    pthread_mutex_destroy(&a->failure_mutex);
    pthread_mutex_destroy(&a->session_mutex);
    arena_free(a->arena);
    free(a);
}

/* *streamed: it got as far as that. */
static int
session_run(struct archiver *a, bool *streamed, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    int rc = pg_open(&archiver_opts(a)->target,
                     &(struct pg_open_opts){ .replication = true, .wires = &a->wires }, &c, err);
    if (rc == 0)
        rc = start_session(a, c, err);
    pgs_lsn begin = durable_lsn(&a->durable);
    if (rc == 0)
        rc = replication_start(c, a->names.slot, begin, a->names.publication, err);
    *streamed = rc == 0;
    if (rc == 0) {
        diag_info("streaming",
                  DIAG(diag_lsn(DIAG_KEY_LSN, begin), diag_str(DIAG_KEY_SLOT, a->names.slot)),
                  "streaming from the archive's end");
        rc = session_stream(a, c, err);
    }
    pg_close(c);
    return rc;
}

static bool
may_pass(const struct pgs_err *err)
{
    return err_is_transient(err) || err->kind == PGS_E_CANCELLED;
}

/* A stop that storage did not let finish is still a stop: nothing of it was confirmed. */
static void
stopped_behind(const struct pgs_err *err)
{
    diag_warn("stopped_behind", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
              "what could not be archived was not confirmed, and comes again");
}

static int
sessions_run(struct archiver *a, struct pgs_err *err)
{
    long retry_ms = RETRY_FIRST_MS;
    bool told = false;
    for (;;) {
        bool streamed = false;
        archiver_alive(a);
        int rc = session_run(a, &streamed, err);
        if (rc < 0 && !may_pass(err))
            return rc;
        if (atomic_load(&a->stopping)) {
            if (rc < 0 && streamed)
                stopped_behind(err);
            return 0;
        }
        /* Once per change of state, not once per try. */
        if (streamed || !told)
            diag_warn("session_ended", DIAG(diag_str(DIAG_KEY_ERROR, rc < 0 ? err->message : "")),
                      "not streaming: trying again");
        told = true;
        retry_ms = streamed ? RETRY_FIRST_MS : retry_ms;
        atomic_store(&a->session_over, false);
        archiver_pause(a, retry_ms);
        retry_ms = retry_ms * 2 < RETRY_MAX_MS ? retry_ms * 2 : RETRY_MAX_MS;
        if (atomic_load(&a->stopping))
            return 0;
    }
}

int
archiver_run(struct archiver *a, struct pgs_err *err)
{
    pthread_t base, keeper;
    if (pthread_create(&base, NULL, base_thread, a) != 0)
        return err_set(err, PGS_E_FAILED, "cannot start a thread");
    if (pthread_create(&keeper, NULL, keeper_thread, a) != 0) {
        archiver_stop(a);
        archiver_join(a, base);
        return err_set(err, PGS_E_FAILED, "cannot start a thread");
    }
    int rc = sessions_run(a, err);
    archiver_stop(a); /* the other two threads */
    archiver_join(a, base);
    archiver_join(a, keeper);
    return rc;
}
