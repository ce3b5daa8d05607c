/* slot.c: the only thread that touches the replication connection. It never waits for storage: when
 * the queue is full it stops reading, and status updates go out by the clock all the same (DESIGN
 * 4.6). */
#include "archiver/internal.h"

#include "archiver/crash.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/replication.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STATUS_INTERVAL_US (INT64_C(1000) * 1000)
#define POLL_MS 100
#define LOOK_MESSAGES 4096 /* between two looks at the clock */
#define POSITION_ASK_US (INT64_C(50) * 1000)
#define FULL_PAUSE_NS (5 * 1000 * 1000)
/* The server sends each row by itself. Taking them as they come costs a wake-up on both sides for
 * every one of them, more than everything else together; so while rows flow we sleep a little
 * between reads. A Unix socket holds some 250 small rows: about a millisecond of decoding. */
#define NAP_NS (300 * 1000)
/* On some machines, at some times, timers come a millisecond late. The socket is full by then, and
 * server and sidecar work one after the other instead of side by side; so after a late nap rows are
 * taken as they come, for a while. */
#define NAP_LATE_NS (700 * 1000)
#define NAPLESS_NS (50 * 1000 * 1000)
#define CHUNK_AGE_MS 5
/* A server that shuts down waits for our confirmation, and asks again after every answer; storage
 * that is down must not hold it up (DESIGN 4.12). A server that merely looks whether we live asks
 * once in a long while. */
#define REPLY_HELD_MAX_US (INT64_C(5) * 1000 * 1000)
#define ASKED_MIN 3

struct slot {
    struct archiver *a;
    struct pg_conn *c;
    struct item *chunk;           /* being filled, or refused by the full queue */
    int64_t chunk_us;             /* when its first message came */
    unsigned taken;               /* messages since the last look at an empty socket */
    int64_t napless_ns;           /* no naps until then, by the monotonic clock */
    struct replication_message m; /* read, and valid until the next read */
    bool holding;                 /* m waits for room */
    bool full;
    pgs_lsn confirmed; /* what the server was told last */
    int64_t status_us;
    bool reply_asked;  /* and not answered yet */
    pgs_lsn reply_lsn; /* the server wants this position confirmed ... */
    int64_t reply_us;  /* ... since then; 0: it has what it wants */
    int64_t asked_us;  /* when it asked last */
    unsigned asked;    /* how often, one soon after the other */
    pgs_lsn position;  /* the server's last word on how far it has sent everything */
    int64_t position_asked_us;
};

/* Hands the chunk on; when the queue is full it stays here and nothing more is read. */
static void
chunk_push(struct slot *s)
{
    if (s->chunk == NULL)
        return;
    int rc = queue_try_push(s->a->inbox, s->chunk, s->chunk->capacity);
    s->full = rc == PGS_FULL;
    if (rc == 0)
        s->chunk = NULL;
}

static int
status_send(struct slot *s, struct pgs_err *err)
{
    s->confirmed = durable_lsn(&s->a->durable);
    s->status_us = clock_us();
    s->reply_asked = false;
    if (s->confirmed >= s->reply_lsn)
        s->reply_us = 0;
    int rc = replication_status(s->c, s->confirmed, false, err);
    crash_point("slot.confirmed");
    return rc;
}

/* At once when there is news, else by the clock. A request is no reason for more: after an answer
 * that does not satisfy it, a server that shuts down asks again without a pause. */
static int
status_by_clock(struct slot *s, struct pgs_err *err)
{
    int64_t now = clock_us();
    bool news = durable_lsn(&s->a->durable) != s->confirmed;
    bool satisfied = s->reply_asked && s->confirmed >= s->reply_lsn;
    if (news || satisfied || now - s->status_us >= STATUS_INTERVAL_US) {
        int rc = status_send(s, err);
        if (rc < 0)
            return rc;
    }
    if (s->reply_us != 0 && s->asked >= ASKED_MIN && now - s->reply_us > REPLY_HELD_MAX_US)
        return err_set(err, PGS_E_DATABASE,
                       "the server waits for a confirmation that storage holds up: connection "
                       "closed");
    return 0;
}

static void
reply_wanted(struct slot *s, pgs_lsn lsn)
{
    int64_t now = clock_us();
    s->reply_asked = true;
    s->reply_lsn = lsn;
    if (s->reply_us == 0 || now - s->asked_us > REPLY_HELD_MAX_US) {
        s->reply_us = now;
        s->asked = 0;
    }
    s->asked++;
    s->asked_us = now;
}

/* Puts the message into a chunk. false: there is no room now, it is held. */
static bool
message_take(struct slot *s)
{
    const struct replication_message *m = &s->m;
    size_t size = m->event == REPLICATION_DATA ? m->bytes.size : sizeof(m->wal_end);
    if (s->chunk != NULL && !chunk_fits(s->chunk, size))
        chunk_push(s);
    s->holding = s->chunk != NULL && !chunk_fits(s->chunk, size);
    if (s->holding)
        return false;
    if (s->chunk == NULL) {
        s->chunk = inbox_chunk(&s->a->budget, size);
        s->chunk_us = clock_us();
    }
    s->taken++;
    if (m->event == REPLICATION_DATA) {
        chunk_put(s->chunk, m->bytes);
        s->reply_us = 0;
        if (m->wal_end != 0)
            atomic_store_explicit(&s->a->received, m->wal_end, memory_order_relaxed);
        return true;
    }
    chunk_put_position(s->chunk, m->wal_end, m->reply_requested);
    s->position = m->wal_end;
    if (m->wal_end > atomic_load(&s->a->received))
        atomic_store(&s->a->received, m->wal_end);
    if (m->reply_requested)
        reply_wanted(s, m->wal_end);
    return true;
}

static int64_t
monotonic_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Lets some rows come together. false: not now, naps come late. */
static bool
nap(struct slot *s)
{
    struct timespec length = { .tv_nsec = NAP_NS };
    int64_t began = monotonic_ns();
    if (began < s->napless_ns)
        return false;
    (void)nanosleep(&length, NULL);
    int64_t ended = monotonic_ns();
    if (ended - began > NAP_LATE_NS)
        s->napless_ns = ended + NAPLESS_NS;
    return true;
}

/* Nothing is there right now. */
static int
wait_for_more(struct slot *s, struct pgs_err *err)
{
    bool flows = s->taken > 0;
    s->taken = 0;
    if (s->chunk != NULL && (!flows || clock_us() - s->chunk_us > CHUNK_AGE_MS * 1000))
        chunk_push(s);
    if (s->full)
        return 0;
    if (flows && nap(s))
        return 0;
    return replication_poll(s->c, s->a->wake_fd, s->chunk != NULL ? CHUNK_AGE_MS : POLL_MS, err);
}

/* Reads until nothing is there, the queue is full or the clock wants a look. */
static int
read_some(struct slot *s, bool *ended, struct pgs_err *err)
{
    for (unsigned i = 0; i < LOOK_MESSAGES; i++) {
        int rc = s->holding ? 0 : replication_read(s->c, &s->m, err);
        if (rc < 0)
            return rc;
        if (s->m.event == REPLICATION_END) {
            *ended = true;
            return 0;
        }
        if (s->m.event == REPLICATION_WAIT)
            return wait_for_more(s, err);
        if (!message_take(s))
            return 0;
    }
    return 0;
}

/* Somebody waits for the stream to come by a place that an idle server would tell of later. */
static int
position_ask(struct slot *s, struct pgs_err *err)
{
    int64_t now = clock_us();
    if (atomic_load(&s->a->wanted) <= s->position || now - s->position_asked_us < POSITION_ASK_US)
        return 0;
    s->position_asked_us = now;
    return replication_status(s->c, durable_lsn(&s->a->durable), true, err);
}

static void
wake_drain(struct archiver *a)
{
    uint64_t count;
    if (read(a->wake_fd, &count, sizeof(count)) < 0) {
        /* Nothing to drain. */
    }
}

int
slot_run(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct slot s = { .a = a, .c = c };
    bool ended = false;
    int rc = status_send(&s, err);
    while (rc == 0 && !ended && !atomic_load(&a->stopping) && !atomic_load(&a->failed)) {
        archiver_alive(a);
        wake_drain(a);
        if (s.full) {
            struct timespec pause = { .tv_nsec = FULL_PAUSE_NS };
            (void)nanosleep(&pause, NULL);
            chunk_push(&s);
        }
        if (!s.full)
            rc = read_some(&s, &ended, err);
        if (rc == 0)
            rc = status_by_clock(&s, err);
        if (rc == 0)
            rc = position_ask(&s, err);
    }
    /* What was read in whole goes on; a chunk that the full queue refused is read again next
     * time. */
    chunk_push(&s);
    inbox_free(s.chunk);
    if (rc == 0 && ended)
        rc = err_set(err, PGS_E_DATABASE, "the server ended the stream");
    return rc;
}
