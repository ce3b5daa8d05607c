/* base_slot.c: the temporary slot of a base. Its consistent point comes when the transactions that
 * were open have ended: one that stays open for hours would hold the base, so it is named. */
#include "archiver/base.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/blockers.h"

#include <stdio.h>
#include <unistd.h>

#define SECOND_US (INT64_C(1000) * 1000)
#define NAME_AFTER_US (5 * SECOND_US)
#define NAME_EVERY_US (60 * SECOND_US)
#define GIVE_UP_US (600 * SECOND_US)
#define WATCH_MS 100

/* The call that may take long, in a thread of its own. */
struct making {
    struct base *b;
    char name[64];
    struct slot_created slot;
    int rc;
    struct pgs_err err;
    atomic_bool ended;
};

static void *
making_thread(void *context)
{
    struct making *m = context;
    m->rc = replication_create_slot(m->b->slot, m->name, true, true, &m->slot, &m->err);
    atomic_store(&m->ended, true);
    return NULL;
}

/* PGS_NONE: nobody is in the way just now. */
static int
blockers_name(struct base *b, struct buf *names, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct arena *scratch = arena_new(NULL);
    struct blocker *blockers = NULL;
    size_t count = 0;
    int rc = pg_open(&archiver_opts(b->a)->target, &(struct pg_open_opts){ .wires = &b->a->wires },
                     &c, err);
    if (rc == 0)
        rc = blockers_read(c, scratch, &blockers, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        buf_put_str(names, i == 0 ? "" : ", ");
        blocker_print(names, &blockers[i]);
    }
    arena_free(scratch);
    pg_close(c);
    return rc == 0 && count == 0 ? PGS_NONE : rc;
}

static void
blockers_tell(struct base *b)
{
    struct buf names = { 0 };
    struct pgs_err err;
    int rc = blockers_name(b, &names, &err);
    if (rc == 0)
        diag_warn("base_waits", DIAG_NO_FIELDS, "a base waits for transactions that are open: %s",
                  buf_cstr(&names));
    else if (rc < 0)
        diag_warn("base_waits", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                  "a base waits for transactions that are open, and they could not be named");
    buf_release(&names);
}

/* A request to cancel may be lost, or come when the server does not wait: it is made again. */
static void
making_watch(struct making *m)
{
    int64_t begin_us = clock_us(), told_us = begin_us + NAME_AFTER_US - NAME_EVERY_US;
    int64_t cancelled_us = 0;
    while (!atomic_load(&m->ended)) {
        int64_t now = clock_us();
        archiver_pause(m->b->a, now - begin_us < WATCH_MS * 1000 ? 1 : WATCH_MS);
        bool over = now - begin_us > GIVE_UP_US || atomic_load(&m->b->a->stopping);
        if (over && now - cancelled_us > SECOND_US) {
            pg_cancel(m->b->slot);
            cancelled_us = now;
        } else if (!over && now - told_us > NAME_EVERY_US) {
            blockers_tell(m->b);
            told_us = now;
        }
    }
}

int
base_slot_open(struct base *b, struct pgs_err *err)
{
    struct making m = { .b = b };
    pthread_t thread;
    snprintf(m.name, sizeof(m.name), BASE_SLOT_PREFIX "%d_%llx", (int)getpid(),
             (unsigned long long)clock_us());
    struct server_identity id;
    /* First of all: an era that begins meanwhile makes the base useless, not wrong. */
    uint32_t era = atomic_load(&b->a->era);
    int rc = pg_open(&archiver_opts(b->a)->target,
                     &(struct pg_open_opts){ .replication = true, .wires = &b->a->wires }, &b->slot,
                     err);
    if (rc == 0)
        rc = replication_identify(b->slot, &id, err);
    if (rc < 0)
        return rc;
    if (pthread_create(&thread, NULL, making_thread, &m) != 0)
        return err_set(err, PGS_E_FAILED, "cannot start a thread");
    making_watch(&m);
    (void)pthread_join(thread, NULL);
    if (m.rc < 0) {
        *err = m.err;
        return err_hint(err, "end the transactions that have been open for long");
    }
    b->done.history = (struct history_id){ id.system_id, id.timeline, era };
    b->done.lsn = m.slot.consistent_point;
    snprintf(b->snapshot, sizeof(b->snapshot), "%s", m.slot.snapshot);
    return 0;
}

void
base_slot_close(struct base *b)
{
    pg_close(b->slot);
    b->slot = NULL;
}
