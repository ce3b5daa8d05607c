#include "support/unit.h"

#include "core/budget.h"

#include <pthread.h>

#define THREADS 4
#define ROUNDS 20000

static void
what_fits_is_what_is_left(void **state)
{
    struct budget b;
    (void)state;
    budget_init(&b, 100);
    assert_true(budget_fits(&b, 100));
    assert_false(budget_fits(&b, 101));
    budget_take(&b, 60);
    assert_true(budget_fits(&b, 40));
    assert_false(budget_fits(&b, 41));
    assert_false(budget_fits(&b, SIZE_MAX));
    budget_give(&b, 60);
    assert_true(budget_fits(&b, 100));
    assert_int_equal(budget_peak(&b), 60);
}

/* A unit of work that has begun must be able to finish. */
static void
taking_beyond_the_limit_is_counted(void **state)
{
    struct budget b;
    (void)state;
    budget_init(&b, 100);
    budget_take(&b, 150);
    assert_int_equal(budget_used(&b), 150);
    assert_false(budget_fits(&b, 0));
    budget_give(&b, 50);
    assert_true(budget_fits(&b, 0));
    assert_false(budget_fits(&b, 1));
    assert_int_equal(budget_peak(&b), 150);
}

static void
no_budget_is_no_limit(void **state)
{
    (void)state;
    budget_take(NULL, 1);
    budget_give(NULL, 1);
    assert_true(budget_fits(NULL, SIZE_MAX));
}

static void *
take_and_give(void *context)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        budget_take(context, i % 7);
        budget_give(context, i % 7);
    }
    budget_take(context, 10);
    return NULL;
}

static void
threads_lose_no_byte(void **state)
{
    struct budget b;
    pthread_t threads[THREADS];
    (void)state;
    budget_init(&b, 1000);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &b), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(budget_used(&b), THREADS * 10);
    assert_in_range(budget_peak(&b), THREADS * 10, THREADS * 16);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_what_is_left),
        cmocka_unit_test(taking_beyond_the_limit_is_counted),
        cmocka_unit_test(no_budget_is_no_limit),
        cmocka_unit_test(threads_lose_no_byte),
    };
    return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
