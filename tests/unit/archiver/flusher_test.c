/* What a lost answer of the store must not lead to: a log entry whose segments are gone, or a
 * writer that takes its own entry for another's. */
#include "support/unit.h"

#include "archiver/internal.h"
#include "core/err.h"
#include "strata/alog.h"
#include "support/fault_store.h"
#include "support/memory_store.h"

#include <stdlib.h>

struct fixture {
    struct store *memory, *root, *store;
    struct archiver a;
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pgs_err err;
    struct alog *log;
    f->memory = memory_store_new();
    f->root = fault_store_new(f->memory);
    assert_int_equal(alog_store(f->root, "a1", &f->store, &err), 0);
    assert_int_equal(alog_open(f->store, "a1", &log, &err), 0);
    assert_int_equal(alog_take_epoch(log, 7, 1, &err), 0);
    publisher_init(&f->a.publisher, log);
    f->a.store = f->store;
    f->a.wake_fd = -1;
    durable_init(&f->a.durable, 0, -1);
    budget_init(&f->a.budget, (size_t)64 << 20);
    pthread_mutex_init(&f->a.failure_mutex, NULL);
    pthread_mutex_init(&f->a.room_mutex, NULL);
    pthread_cond_init(&f->a.room, NULL);
    atomic_store(&f->a.session_over, true); /* a call that fails is not tried again */
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    publisher_release(&f->a.publisher);
    pthread_cond_destroy(&f->a.room);
    pthread_mutex_destroy(&f->a.room_mutex);
    pthread_mutex_destroy(&f->a.failure_mutex);
    store_close(f->store);
    store_close(f->root);
    store_close(f->memory);
    free(f);
    return 0;
}

/* As the flusher thread does, here and now. */
static void
flush(struct fixture *f, struct batch *b)
{
    f->a.batches = queue_new((size_t)1 << 20);
    f->a.in_flight = 1;
    assert_int_equal(queue_try_push(f->a.batches, b, 0), 0);
    queue_close(f->a.batches);
    assert_null(flusher_thread(&f->a));
    queue_free(f->a.batches, NULL);
}

/* A part of a transaction that is still open. */
static struct batch *
open_part(struct fixture *f)
{
    struct batch *b = batch_new(&f->a.budget);
    const struct run_id run = { { SCOPE_TENANT, slice_str("t1") }, 16384, 5 };
    struct buf key = { 0 };
    key_put_field(&key, slice_str("1"));
    struct version v = { .key = buf_slice(&key),
                         .commit_lsn = 100,
                         .sequence = 1,
                         .op = VERSION_DELETE,
                         .row = slice_of("", 0),
                         .prev_key = SLICE_NULL };
    batch_add(b, batch_run(b, &run), &v);
    buf_release(&key);
    return b;
}

/* Its commit. */
static struct batch *
closing_part(struct fixture *f)
{
    struct batch *b = batch_new(&f->a.budget);
    batch_time(b, 1000);
    b->ticket = 1;
    b->has_end = true;
    b->end = 120;
    b->closes_spilled = true;
    return b;
}

static void
spills_of_an_entry_whose_answer_was_lost_stay(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct store_stat stat;
    flush(f, open_part(f));
    fault_store_next(f->root, FAULT_LOSE_ANSWER, 1);
    flush(f, closing_part(f));
    assert_true(atomic_load(&f->a.failed));
    publisher_begin(&f->a); /* the next session */
    assert_int_equal(alog_resume(f->a.publisher.log, &err), 0);
    const struct log_entry *e = alog_last(f->a.publisher.log);
    assert_int_equal(e->kind, LOG_CHANGES);
    assert_int_equal(alog_end(f->a.publisher.log), 120);
    assert_int_equal(e->segment_count, 1);
    assert_int_equal(store_head(f->store, e->segments[0].name, &stat, &err), 0);
}

static void
spills_of_a_transaction_that_comes_again_are_removed(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct store_stat stat;
    char name[SEGMENT_NAME_MAX];
    flush(f, open_part(f));
    assert_int_equal(f->a.publisher.spilled_count, 1);
    memcpy(name, f->a.publisher.spilled[0].name, sizeof(name));
    publisher_begin(&f->a);
    assert_int_equal(store_head(f->store, name, &stat, &err), PGS_NONE);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(spills_of_an_entry_whose_answer_was_lost_stay),
        TEST(spills_of_a_transaction_that_comes_again_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
