/* base.c: exact states of tables, read under the snapshot of a temporary slot (DESIGN 4.3).
 *
 *   1. a temporary slot exports a snapshot; its consistent point is the base's LSN. The wait for
 *      transactions that were open names them, and is bounded (base_slot.c)
 *   2. workers COPY tables under that snapshot, large ones in ranges of pages; each row becomes an
 *      insert at that LSN (base_copy.c)
 *   3. a worker's batch is sorted and written as a segment when it is full; small tables share one
 *   4. the builder gives the bases their place: behind the stream's passing of their LSN, with the
 *      shapes and breaks they bring; one log entry makes them visible, at once or not at all
 *
 * A version of the stream belongs after the base iff its commit LSN >= the base's LSN. */
#include "archiver/base.h"

#include "archiver/crash.h"
#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "strata/archive.h"

#include <stdlib.h>

#define TICK_MS 20
#define SECOND_US (INT64_C(1000) * 1000)
#define LOOK_US (30 * SECOND_US) /* at coverage, when nothing asks for it */
#define RETRY_US (10 * SECOND_US)
#define ANSWER_MS 100
#define LEFT_OUT_TRIES 3

struct base_loop {
    struct archiver *a;
    struct archive *archive; /* our own view of the log */
    struct pg_conn *conn;    /* for the catalog; NULL: not connected */
    int64_t looked_us, taken_us, failed_us;
    pgs_lsn all_lsn; /* the last base of every table */
    bool automatic;  /* bases are taken unasked */
};

/* Waits for the answer also when a stop was asked for: the session's end gives it. */
static enum base_answer
base_hand_in(struct archiver *a, struct base_done *done)
{
    struct item *item = inbox_bases(done);
    enum base_answer answer;
    done->answer = BASE_WAITS;
    if (!archiver_post(a, item)) {
        inbox_free(item); /* answers too */
        return BASE_RETURNED;
    }
    atomic_store(&a->wanted, done->lsn);
    archiver_wake(a);
    while ((answer = base_done_wait(done, ANSWER_MS)) == BASE_WAITS)
        continue;
    return answer;
}

/* The session may end meanwhile: the bases stay exact, and are handed to the next one. */
static int
base_publish(struct base *b, struct pgs_err *err)
{
    while (base_hand_in(b->a, &b->done) != BASE_PUBLISHED) {
        if (atomic_load(&b->a->stopping))
            return err_set(err, PGS_E_CANCELLED, "stop was requested");
        archiver_pause(b->a, ANSWER_MS);
    }
    return 0;
}

static void
base_report(const struct base *b, int64_t started_us)
{
    uint64_t rows = 0;
    size_t count = 0;
    for (size_t i = 0; i < b->done.table_count; i++) {
        if (!b->done.tables[i].left_out) {
            rows += b->done.tables[i].rows;
            count++;
        }
    }
    diag_info("base_taken",
              DIAG(diag_lsn(DIAG_KEY_LSN, b->done.lsn), diag_int(DIAG_KEY_ROWS, (int64_t)rows),
                   diag_int(DIAG_KEY_DURATION_MS, (clock_us() - started_us) / 1000)),
              "base of %zu tables", count);
}

static void
segments_remove(struct base *b)
{
    struct pgs_err ignored;
    for (size_t i = 0; i < b->done.segment_count; i++)
        err_ignore(store_remove(b->a->store, b->done.segments[i].name, &ignored));
}

/* Which tables the base is of: all, those that cannot be answered for, or the ones named, which
 * were left out before and are locked now. */
struct choice {
    bool all;
    struct archive *archive; /* who knows what can be answered for */
    const uint32_t *oids;    /* NULL: none are named */
    size_t oid_count;
};

static bool
is_named(const struct choice *choice, uint32_t oid)
{
    for (size_t i = 0; i < choice->oid_count; i++) {
        if (choice->oids[i] == oid)
            return true;
    }
    return false;
}

static bool
is_chosen(const struct relation *r, const struct choice *choice)
{
    if (!r->covered || !r->published)
        return false;
    if (choice->oids != NULL)
        return is_named(choice, r->oid);
    return choice->all || !archive_table_covered(choice->archive, r->oid);
}

static void
tables_choose(struct base *b, const struct catalog *catalog, const struct choice *choice)
{
    b->done.tables = arena_alloc_array(b->arena, catalog->count + 1, sizeof(*b->done.tables));
    for (size_t i = 0; i < catalog->count; i++) {
        const struct relation *r = catalog->relations[i];
        if (is_chosen(r, choice))
            b->done.tables[b->done.table_count++] =
                (struct base_table){ .relation = r, .shape_id = relation_shape_id(r) };
    }
}

static int
base_take(struct base *b, const struct choice *choice, struct pgs_err *err)
{
    struct catalog catalog;
    int64_t started_us = clock_us();
    int rc = base_connect(b, err);
    if (rc == 0 && choice->oids != NULL)
        rc = catalog_read(b->workers[0], &archiver_opts(b->a)->setup.rules, b->arena, &b->known,
                          err);
    if (rc == 0)
        rc = base_slot_open(b, err);
    crash_point("base.slot");
    if (rc == 0)
        rc = base_join(b, choice->oids, choice->oid_count, &catalog, err);
    base_slot_close(b); /* the workers hold the snapshot now */
    if (rc < 0)
        return rc;
    tables_choose(b, &catalog, choice);
    if (b->done.table_count == 0)
        return 0;
    rc = base_copy(b, err);
    crash_point("base.copied");
    if (rc == 0)
        rc = base_publish(b, err);
    if (rc < 0 && !b->done.offered)
        segments_remove(b);
    else if (rc == 0)
        base_report(b, started_us);
    return rc;
}

/* Tables that were left out, into `arena`. */
static size_t
left_out(const struct base_done *done, struct arena *arena, uint32_t **oids)
{
    size_t count = 0;
    *oids = arena_alloc_array(arena, done->table_count + 1, sizeof(**oids));
    for (size_t i = 0; i < done->table_count; i++) {
        if (done->tables[i].left_out)
            (*oids)[count++] = done->tables[i].relation->oid;
    }
    return count;
}

static int
base_try(struct archiver *a, const struct choice *choice, struct arena *arena, uint32_t **oids,
         size_t *oid_count, pgs_lsn *lsn, struct pgs_err *err)
{
    struct base b = { .a = a, .mutex = PTHREAD_MUTEX_INITIALIZER };
    b.arena = arena_new(NULL);
    base_done_init(&b.done);
    int rc = base_take(&b, choice, err);
    if (rc == 0) {
        *oid_count = left_out(&b.done, arena, oids);
        *lsn = b.done.lsn;
    }
    base_close(&b);
    base_done_release(&b.done);
    arena_free(b.arena);
    return rc;
}

/* What was left out is taken again, under a lock. *again: something still is. *lsn: none of the
 * bases is older. */
static int
base_run(struct base_loop *l, bool all, bool *again, pgs_lsn *lsn, struct pgs_err *err)
{
    struct choice choice = { .all = all, .archive = l->archive };
    struct arena *arena = arena_new(NULL);
    uint32_t *oids = NULL;
    size_t count = 0;
    int rc = base_try(l->a, &choice, arena, &oids, &count, lsn, err);
    for (int i = 0; rc == 0 && count > 0 && i < LEFT_OUT_TRIES; i++) {
        choice.oids = oids;
        choice.oid_count = count;
        pgs_lsn later;
        rc = base_try(l->a, &choice, arena, &oids, &count, &later, err);
    }
    *again = count > 0;
    arena_free(arena);
    return rc < 0 ? err_doing(err, "take a base") : 0;
}

/* Whether some published table cannot be answered for. */
static int
base_is_needed(struct base_loop *l, bool *needed, struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(l->a);
    const struct choice choice = { .archive = l->archive };
    struct arena *arena = arena_new(NULL);
    struct catalog catalog = { 0 };
    int rc = l->conn != NULL
                 ? 0
                 : pg_open(&opts->target, &(struct pg_open_opts){ .wires = &l->a->wires }, &l->conn,
                           err);
    if (rc == 0)
        rc = catalog_read(l->conn, &opts->setup.rules, arena, &catalog, err);
    *needed = false;
    for (size_t i = 0; rc == 0 && !*needed && i < catalog.count; i++)
        *needed = is_chosen(catalog.relations[i], &choice);
    arena_free(arena);
    if (rc < 0) {
        pg_close(l->conn);
        l->conn = NULL;
    }
    return rc;
}

static bool
is_asked(const struct base_loop *l)
{
    return atomic_load(&l->a->bases_wanted) > l->all_lsn;
}

static bool
is_scheduled(const struct base_loop *l)
{
    int64_t interval_us = archiver_opts(l->a)->base_interval_ms * 1000;
    return interval_us > 0 && clock_us() - l->taken_us > interval_us;
}

static int
base_look(struct base_loop *l, struct pgs_err *err)
{
    bool all = is_asked(l) || is_scheduled(l);
    bool needed = false, again = false;
    pgs_lsn lsn = 0;
    int rc = archive_refresh(l->archive, err);
    /* Told not to take bases unasked, it starts to after the first one that was asked for. */
    if (rc >= 0 && !all && l->automatic)
        rc = base_is_needed(l, &needed, err);
    if (rc < 0 || (!all && !needed))
        return rc < 0 ? rc : 0;
    rc = base_run(l, all, &again, &lsn, err);
    if (all && rc == 0 && !again)
        l->all_lsn = lsn;
    if (again)
        atomic_store(&l->a->look_at_coverage, true);
    l->taken_us = clock_us();
    l->automatic = l->automatic || all;
    return rc;
}

static bool
is_due(struct base_loop *l)
{
    int64_t now = clock_us();
    if (!atomic_load(&l->a->streaming) || now - l->failed_us < RETRY_US)
        return false;
    bool asked = is_asked(l) || is_scheduled(l) || atomic_exchange(&l->a->look_at_coverage, false);
    if (!asked && now - l->looked_us < LOOK_US)
        return false;
    l->looked_us = now;
    return true;
}

static void
base_loop_run(struct base_loop *l)
{
    struct pgs_err err;
    while (!atomic_load(&l->a->stopping)) {
        archiver_pause(l->a, TICK_MS);
        if (!is_due(l) || base_look(l, &err) == 0 || atomic_load(&l->a->stopping))
            continue;
        l->failed_us = clock_us();
        diag_warn("base_failed",
                  DIAG(diag_str(DIAG_KEY_ERROR, err.message), diag_str(DIAG_KEY_HINT, err.hint)),
                  "a base could not be taken; trying again");
    }
}

void *
base_thread(void *archiver)
{
    struct base_loop l = {
        .a = archiver, .taken_us = clock_us(), .looked_us = -LOOK_US, .failed_us = -RETRY_US
    };
    struct pgs_err err;
    l.automatic = !l.a->opts_first.no_initial_base;
    if (archive_open(l.a->store, l.a->archive_id, &l.archive, &err) < 0)
        archiver_fail(l.a, &err);
    else
        base_loop_run(&l);
    pg_close(l.conn);
    archive_close(l.archive);
    return NULL;
}
