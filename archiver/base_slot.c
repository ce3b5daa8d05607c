/* base_slot.c: the temporary slot of a base. Its consistent point comes when the transactions that
 * were open have ended: one that stays open for hours would hold the base, so it is named. */
#include "archiver/base.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdio.h>
#include <unistd.h>

#define SECOND_US (INT64_C(1000) * 1000)
#define NAME_AFTER_US (5 * SECOND_US)
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

static int
blockers_read(struct base *b, struct arena *arena, struct slice *pids, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct pg_rows *rows = NULL;
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", pg_backend_pid(b->slot));
    int rc = pg_open(&archiver_opts(b->a)->target, &(struct pg_open_opts){ 0 }, &c, err);
    if (rc == 0)
        rc = pg_query(c, "SELECT array_to_string(pg_blocking_pids($1::int), ', ')", PG_PARAMS(pid),
                      &rows, err);
    if (rc == 0)
        *pids = arena_dup(arena, pg_cell_slice(rows, 0, 0));
    pg_rows_free(rows);
    pg_close(c);
    return rc;
}

static void
blockers_tell(struct base *b)
{
    struct arena *scratch = arena_new(NULL);
    struct slice pids = slice_str("");
    struct pgs_err ignored;
    err_ignore(blockers_read(b, scratch, &pids, &ignored));
    diag_warn("base_waits", DIAG_NO_FIELDS,
              "a base waits for transactions that are open: processes %.*s", SLICE_PRINT(pids));
    arena_free(scratch);
}

static void
making_watch(struct making *m)
{
    int64_t begin_us = clock_us();
    bool told = false, cancelled = false;
    while (!atomic_load(&m->ended)) {
        int64_t waited_us = clock_us() - begin_us;
        archiver_pause(m->b->a, waited_us < WATCH_MS * 1000 ? 1 : WATCH_MS);
        if (waited_us > NAME_AFTER_US && !told) {
            blockers_tell(m->b);
            told = true;
        }
        if (!cancelled && (waited_us > GIVE_UP_US || atomic_load(&m->b->a->stopping))) {
            pg_cancel(m->b->slot);
            cancelled = true;
        }
    }
}

int
base_slot_open(struct base *b, struct pgs_err *err)
{
    struct making m = { .b = b };
    pthread_t thread;
    snprintf(m.name, sizeof(m.name), "pgstrata_base_%d_%llx", (int)getpid(),
             (unsigned long long)clock_us());
    int rc = pg_open(&archiver_opts(b->a)->target, &(struct pg_open_opts){ .replication = true },
                     &b->slot, err);
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
