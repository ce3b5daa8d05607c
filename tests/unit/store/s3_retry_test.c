#include "support/unit.h"

#include "core/slice.h"
#include "store/s3_retry.h"

/* Time that passes only by waiting, and chance that always gives the longest wait. */
struct stopped {
    int64_t now_us;
    int64_t waits[64];
    size_t wait_count;
    uint64_t random;
};

static int64_t
stopped_now(void *context)
{
    return ((struct stopped *)context)->now_us;
}

static void
stopped_wait(void *context, int64_t us)
{
    struct stopped *s = context;
    s->now_us += us;
    assert_true(s->wait_count < 64);
    s->waits[s->wait_count++] = us;
}

static uint64_t
stopped_random(void *context)
{
    return ((struct stopped *)context)->random;
}

static struct retry_clock
clock_of(struct stopped *s)
{
    return (struct retry_clock){ stopped_now, stopped_wait, stopped_random, s };
}

static void
waits_double_and_end(void **state)
{
    /* 8 s lie between 100 + 200 + 400 + 800 + 1600 ms = 3.1 s, and 3.2 s more. */
    static const int64_t expected[] = { 100000, 200000, 400000, 800000, 1600000, 3200000 };
    struct stopped s = { .now_us = 77 };
    struct retry_clock clock = clock_of(&s);
    struct retry r = retry_begin(&clock, NULL);
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        s.random = (uint64_t)expected[i]; /* modulo bound + 1: the bound itself */
        assert_true(retry_wait(&r, 0));
        assert_int_equal(s.waits[i], expected[i]);
    }
    s.random = 4000000;
    assert_false(retry_wait(&r, 0));
    assert_int_equal(s.wait_count, 6);
}

static void
chance_may_give_no_wait_at_all(void **state)
{
    struct stopped s = { 0 };
    struct retry_clock clock = clock_of(&s);
    struct retry r = retry_begin(&clock, NULL);
    (void)state;
    for (size_t i = 0; i < 20; i++)
        assert_true(retry_wait(&r, 0));
    assert_int_equal(s.now_us, 0);
}

static void
the_server_is_given_the_time_it_asks_for(void **state)
{
    struct stopped s = { 0 };
    struct retry_clock clock = clock_of(&s);
    struct retry r = retry_begin(&clock, NULL);
    (void)state;
    assert_true(retry_wait(&r, 4000000));
    assert_true(retry_wait(&r, 4000000));
    assert_false(retry_wait(&r, 4000000));
    assert_int_equal(s.now_us, RETRY_FOR_US);
}

static void
a_call_that_took_long_is_not_tried_again(void **state)
{
    struct stopped s = { 0 };
    struct retry_clock clock = clock_of(&s);
    struct retry r = retry_begin(&clock, NULL);
    (void)state;
    s.now_us = RETRY_FOR_US + 1;
    assert_false(retry_wait(&r, 0));
}

struct interrupting {
    struct stopped stopped;
    atomic_bool interrupted;
};

static void
interrupting_wait(void *context, int64_t us)
{
    struct interrupting *i = context;
    stopped_wait(&i->stopped, us);
    atomic_store(&i->interrupted, i->stopped.wait_count == 3);
}

static void
an_interruption_cuts_a_wait_short(void **state)
{
    struct interrupting i = { 0 };
    struct retry_clock clock = { stopped_now, interrupting_wait, stopped_random, &i };
    struct retry r = retry_begin(&clock, &i.interrupted);
    (void)state;
    assert_false(retry_wait(&r, 4000000));
    assert_int_equal(i.stopped.now_us, 300000);
}

static void
the_real_clock_waits_and_its_chance_changes(void **state)
{
    const struct retry_clock *c = &retry_clock_real;
    int64_t before = c->now_us(c->context);
    (void)state;
    c->wait_us(c->context, 1000);
    assert_true(c->now_us(c->context) - before >= 1000);
    assert_int_not_equal(c->random(c->context), c->random(c->context));
}

static void
only_what_can_pass_is_tried_again(void **state)
{
    static const int passing[] = { 408, 429, 500, 502, 503, 504 };
    static const int lasting[] = { 301, 400, 401, 403, 404, 405, 409, 412, 416, 501, 505 };
    (void)state;
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        assert_true(retry_is_worth(passing[i], ""));
    for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++)
        assert_false(retry_is_worth(lasting[i], "AccessDenied"));
    assert_true(retry_is_worth(409, "ConditionalRequestConflict"));
    assert_true(retry_is_worth(409, "OperationAborted"));
    assert_true(retry_is_worth(400, "RequestTimeout"));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_and_end),
        cmocka_unit_test(chance_may_give_no_wait_at_all),
        cmocka_unit_test(the_server_is_given_the_time_it_asks_for),
        cmocka_unit_test(a_call_that_took_long_is_not_tried_again),
        cmocka_unit_test(an_interruption_cuts_a_wait_short),
        cmocka_unit_test(the_real_clock_waits_and_its_chance_changes),
        cmocka_unit_test(only_what_can_pass_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
