#include "support/unit.h"

#include "core/queue.h"
#include "core/timefmt.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PUSHERS 3
#define POPPERS 3
#define ITEMS 5000

static void
items_come_out_in_order(void **state)
{
    int items[3];
    void *item;
    struct queue *q = queue_new(100);
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(queue_push(q, &items[i], 10), 0);
    assert_int_equal(queue_bytes(q), 30);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(queue_pop(q, 0, &item), 0);
        assert_ptr_equal(item, &items[i]);
    }
    assert_int_equal(queue_bytes(q), 0);
    queue_free(q, NULL);
    queue_free(NULL, NULL);
}

static void
a_full_queue_takes_no_more(void **state)
{
    int items[3];
    void *item;
    struct queue *q = queue_new(100);
    (void)state;
    assert_int_equal(queue_try_push(q, &items[0], 60), 0);
    assert_int_equal(queue_try_push(q, &items[1], 41), PGS_FULL);
    assert_int_equal(queue_try_push(q, &items[1], SIZE_MAX), PGS_FULL);
    assert_int_equal(queue_try_push(q, &items[1], 40), 0);
    assert_int_equal(queue_try_push(q, &items[2], 1), PGS_FULL);
    assert_int_equal(queue_try_push(q, &items[2], 0), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(queue_pop(q, 0, &item), 0);
    queue_free(q, NULL);
}

/* Else one large item would wait for ever. */
static void
an_empty_queue_takes_any_item(void **state)
{
    int items[2];
    void *item;
    struct queue *q = queue_new(100);
    (void)state;
    assert_int_equal(queue_push(q, &items[0], 1000), 0);
    assert_int_equal(queue_try_push(q, &items[1], 1), PGS_FULL);
    assert_int_equal(queue_pop(q, 0, &item), 0);
    assert_int_equal(queue_try_push(q, &items[1], 1), 0);
    assert_int_equal(queue_pop(q, -1, &item), 0);
    queue_free(q, NULL);
}

static void
a_pop_ends_in_time(void **state)
{
    void *item = state;
    struct queue *q = queue_new(100);
    assert_int_equal(queue_pop(q, 0, &item), PGS_TIMEOUT);
    int64_t before = clock_us();
    assert_int_equal(queue_pop(q, 20, &item), PGS_TIMEOUT);
    assert_true(clock_us() - before >= 20000);
    assert_ptr_equal(item, state);
    queue_free(q, NULL);
}

static void
a_closed_queue_is_emptied(void **state)
{
    int items[2];
    void *item;
    struct queue *q = queue_new(100);
    (void)state;
    assert_int_equal(queue_push(q, &items[0], 1), 0);
    queue_close(q);
    queue_close(q);
    assert_int_equal(queue_push(q, &items[1], 1), PGS_CLOSED);
    assert_int_equal(queue_try_push(q, &items[1], 1), PGS_CLOSED);
    assert_int_equal(queue_pop(q, -1, &item), 0);
    assert_ptr_equal(item, &items[0]);
    assert_int_equal(queue_pop(q, -1, &item), PGS_CLOSED);
    assert_int_equal(queue_pop(q, 0, &item), PGS_CLOSED);
    queue_free(q, NULL);
}

static size_t released;

static void
release(void *item)
{
    (void)item;
    released++;
}

static void
an_aborted_queue_keeps_the_rest_for_free(void **state)
{
    int items[2];
    void *item;
    struct queue *q = queue_new(100);
    (void)state;
    assert_int_equal(queue_push(q, &items[0], 1), 0);
    assert_int_equal(queue_push(q, &items[1], 1), 0);
    queue_close(q);
    queue_abort(q);
    assert_int_equal(queue_pop(q, -1, &item), PGS_CLOSED);
    released = 0;
    queue_free(q, release);
    assert_int_equal(released, 2);
}

/* --- threads --- */

struct world {
    struct queue *queue;
    atomic_size_t popped, sum, refused;
    atomic_bool wrong;
};

static void *
push_numbers(void *context)
{
    struct world *w = context;
    for (size_t i = 1; i <= ITEMS; i++) {
        size_t *number = malloc(sizeof(*number));
        *number = i;
        if (queue_push(w->queue, number, i % 50) != 0) {
            free(number);
            atomic_fetch_add(&w->refused, 1);
        }
    }
    return NULL;
}

static void *
pop_numbers(void *context)
{
    struct world *w = context;
    void *item;
    int rc;
    while ((rc = queue_pop(w->queue, 10000, &item)) == 0) {
        atomic_fetch_add(&w->popped, 1);
        atomic_fetch_add(&w->sum, *(size_t *)item);
        free(item);
    }
    if (rc != PGS_CLOSED)
        atomic_store(&w->wrong, true);
    return NULL;
}

static void
start(pthread_t *threads, size_t count, void *(*run)(void *), struct world *w)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, w), 0);
}

static void
join(pthread_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void
nothing_is_lost_between_threads(void **state)
{
    struct world w = { .queue = queue_new(200) };
    pthread_t pushers[PUSHERS], poppers[POPPERS];
    (void)state;
    start(poppers, POPPERS, pop_numbers, &w);
    start(pushers, PUSHERS, push_numbers, &w);
    join(pushers, PUSHERS);
    queue_close(w.queue);
    join(poppers, POPPERS);
    assert_false(w.wrong);
    assert_int_equal(w.refused, 0);
    assert_int_equal(w.popped, PUSHERS * ITEMS);
    assert_int_equal(w.sum, PUSHERS * (size_t)ITEMS * (ITEMS + 1) / 2);
    assert_int_equal(queue_bytes(w.queue), 0);
    queue_free(w.queue, NULL);
}

/* Pushers that wait for room, and poppers that wait for items, must all wake up. */
static void
an_abort_wakes_everybody(void **state)
{
    struct world full = { .queue = queue_new(1) }, empty = { .queue = queue_new(1) };
    pthread_t pushers[PUSHERS], poppers[POPPERS];
    (void)state;
    start(pushers, PUSHERS, push_numbers, &full);
    start(poppers, POPPERS, pop_numbers, &empty);
    while (queue_bytes(full.queue) == 0)
        sched_yield();
    queue_abort(full.queue);
    queue_abort(empty.queue);
    join(pushers, PUSHERS);
    join(poppers, POPPERS);
    assert_false(empty.wrong);
    assert_int_equal(empty.popped, 0);
    assert_true(full.refused > 0);
    queue_free(full.queue, free);
    queue_free(empty.queue, NULL);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_order),
        cmocka_unit_test(a_full_queue_takes_no_more),
        cmocka_unit_test(an_empty_queue_takes_any_item),
        cmocka_unit_test(a_pop_ends_in_time),
        cmocka_unit_test(a_closed_queue_is_emptied),
        cmocka_unit_test(an_aborted_queue_keeps_the_rest_for_free),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(an_abort_wakes_everybody),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
