/* slot.c: the only thread that touches the replication connection. It never waits for storage: when
 * the queue is full it stops reading, and status updates go out by the clock all the same (DESIGN
 * 4.6). */
#include "archiver/internal.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "pg/replication.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STATUS_INTERVAL_US (INT64_C(1000) * 1000)
#define POLL_MS 100
#define FULL_PAUSE_NS (5 * 1000 * 1000)
/* The server sends each row by itself. Taking them as they come costs a wake-up on both sides for
 * every one of them, more than everything else together; so while rows flow we sleep a little
 * between reads. A Unix socket holds some 250 small rows: about a millisecond of decoding. */
#define NAP_NS (300 * 1000)
#define CHUNK_AGE_US (5 * 1000)
/* A server that shuts down waits for our confirmation, and asks again after every answer; storage
 * that is down must not hold it up (DESIGN 4.12). A server that merely looks whether we live asks
 * once in a long while. */
#define REPLY_HELD_MAX_US (INT64_C(5) * 1000 * 1000)
#define ASKED_MIN 3

struct slot {
    struct archiver *a;
    struct pg_conn *c;
    struct chunk *chunk; /* being filled, or refused by the full queue */
    int64_t chunk_us;    /* when its first message came */
    unsigned taken;      /* messages since the last look at an empty socket */
    bool full;
    pgs_lsn confirmed; /* what the server was told last */
    int64_t status_us;
    bool reply_asked;  /* and not answered yet */
    pgs_lsn reply_lsn; /* the server wants this position confirmed ... */
    int64_t reply_us;  /* ... since then; 0: it has what it wants */
    int64_t asked_us;  /* when it asked last */
    unsigned asked;    /* how often, one soon after the other */
};

void
chunk_free(void *item)
{
    struct chunk *chunk = item;
    if (chunk == NULL)
        return;
    budget_give(chunk->budget, chunk->charged);
    buf_release(&chunk->bytes);
    free(chunk);
}

static struct chunk *
chunk_new(struct slot *s)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (chunk == NULL)
        abort();
    chunk->budget = &s->a->budget;
    (void)buf_reserve(&chunk->bytes, CHUNK_BYTES + CHUNK_BYTES / 4);
    return chunk;
}

static void
chunk_put(struct slot *s, enum record_kind kind, pgs_lsn wal_end, struct slice bytes)
{
    struct record_head head = { .wal_end = wal_end,
                                .size = (uint32_t)bytes.size,
                                .kind = (uint8_t)kind };
    if (s->chunk == NULL) {
        s->chunk = chunk_new(s);
        s->chunk_us = clock_us();
    }
    buf_put(&s->chunk->bytes, &head, sizeof(head));
    buf_put_slice(&s->chunk->bytes, bytes);
}

/* Hands the chunk on; when the queue is full it stays here and nothing more is read. */
static void
chunk_push(struct slot *s)
{
    struct chunk *chunk = s->chunk;
    if (chunk == NULL)
        return;
    if (chunk->charged == 0) {
        chunk->charged = chunk->bytes.capacity;
        budget_take(chunk->budget, chunk->charged);
    }
    int rc = queue_try_push(s->a->chunks, chunk, chunk->charged);
    s->full = rc == PGS_FULL;
    if (rc == 0)
        s->chunk = NULL;
}

static int
status_send(struct slot *s, struct pgs_err *err)
{
    s->confirmed = atomic_load(&s->a->durable);
    s->status_us = clock_us();
    s->reply_asked = false;
    if (s->confirmed >= s->reply_lsn)
        s->reply_us = 0;
    return replication_status(s->c, s->confirmed, false, err);
}

/* At once when there is news, else by the clock. A request is no reason for more: after an answer
 * that does not satisfy it, a server that shuts down asks again without a pause. */
static int
status_by_clock(struct slot *s, struct pgs_err *err)
{
    int64_t now = clock_us();
    bool news = atomic_load(&s->a->durable) != s->confirmed;
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

static void
message_take(struct slot *s, const struct replication_message *m)
{
    s->taken++;
    if (m->event == REPLICATION_DATA) {
        chunk_put(s, RECORD_DATA, m->wal_end, m->bytes);
        atomic_store_explicit(&s->a->received, m->wal_end, memory_order_relaxed);
        s->reply_us = 0;
        return;
    }
    chunk_put(s, m->reply_requested ? RECORD_POSITION_URGENT : RECORD_POSITION, m->wal_end,
              SLICE_NULL);
    if (m->wal_end > atomic_load(&s->a->received))
        atomic_store(&s->a->received, m->wal_end);
    if (m->reply_requested)
        reply_wanted(s, m->wal_end);
}

/* Nothing is there right now. */
static int
wait_for_more(struct slot *s, struct pgs_err *err)
{
    struct timespec nap = { .tv_nsec = NAP_NS };
    bool flows = s->taken > 0;
    s->taken = 0;
    if (s->chunk != NULL && (!flows || clock_us() - s->chunk_us > CHUNK_AGE_US))
        chunk_push(s);
    if (s->full)
        return 0;
    if (!flows)
        return replication_poll(s->c, s->a->wake_fd, POLL_MS, err);
    (void)nanosleep(&nap, NULL);
    return 0;
}

/* Reads until nothing is there, the queue is full or the clock wants a look. */
static int
read_some(struct slot *s, bool *ended, struct pgs_err *err)
{
    struct replication_message m;
    for (unsigned i = 0; i < 4096; i++) {
        int rc = replication_read(s->c, &m, err);
        if (rc < 0)
            return rc;
        if (m.event == REPLICATION_END) {
            *ended = true;
            return 0;
        }
        if (m.event == REPLICATION_WAIT)
            return wait_for_more(s, err);
        message_take(s, &m);
        if (s->chunk->bytes.size >= CHUNK_BYTES) {
            chunk_push(s);
            if (s->full)
                return 0;
        }
    }
    return 0;
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
    while (rc == 0 && !ended && !atomic_load(&a->stopping) && !atomic_load(&a->aborted)) {
        archiver_alive(a);
        wake_drain(a);
        if (s.full) {
            struct timespec pause = { .tv_nsec = FULL_PAUSE_NS };
            (void)nanosleep(&pause, NULL);
            chunk_push(&s);
        } else {
            rc = read_some(&s, &ended, err);
        }
        if (rc == 0)
            rc = status_by_clock(&s, err);
    }
    /* What was read in whole goes on; a chunk that the full queue refused is read again next
     * time. */
    chunk_push(&s);
    chunk_free(s.chunk);
    if (rc == 0 && ended)
        rc = err_set(err, PGS_E_DATABASE, "the server ended the stream");
    return rc;
}
