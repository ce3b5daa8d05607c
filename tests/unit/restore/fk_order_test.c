#include "restore/fk_order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static size_t
place_of(const size_t *order, size_t count, size_t thing)
{
    for (size_t i = 0; i < count; i++) {
        if (order[i] == thing)
            return i;
    }
    return count;
}

static void
parents_come_before_their_children(void **state)
{
    const struct fk_edge edges[] = { { 0, 1 }, { 1, 2 }, { 3, 2 }, { 0, 3 } };
    size_t order[4];
    (void)state;
    fk_order(4, edges, COUNT(edges), order);
    for (size_t i = 0; i < COUNT(edges); i++)
        assert_true(place_of(order, 4, edges[i].parent) < place_of(order, 4, edges[i].child));
}

static void
without_foreign_keys_the_order_stays(void **state)
{
    size_t order[3];
    (void)state;
    fk_order(3, NULL, 0, order);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(order[i], i);
}

/* employees.boss_id -> employees */
static void
a_table_that_refers_to_itself_is_no_obstacle(void **state)
{
    const struct fk_edge edges[] = { { 0, 0 }, { 1, 0 } };
    size_t order[2];
    (void)state;
    fk_order(2, edges, COUNT(edges), order);
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 1);
}

static void
a_cycle_is_entered_at_its_lowest_and_the_rest_is_ordered(void **state)
{
    const struct fk_edge edges[] = { { 1, 2 }, { 2, 1 }, { 0, 2 } };
    size_t order[3];
    (void)state;
    fk_order(3, edges, COUNT(edges), order);
    for (size_t i = 0; i < 3; i++)
        assert_true(place_of(order, 3, i) < 3); /* each is there */
    assert_true(place_of(order, 3, 1) < place_of(order, 3, 2) ||
                place_of(order, 3, 2) < place_of(order, 3, 1));
}

static void
nothing_has_an_order(void **state)
{
    size_t order[1] = { 7 };
    (void)state;
    fk_order(0, NULL, 0, order);
    assert_int_equal(order[0], 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parents_come_before_their_children),
        cmocka_unit_test(without_foreign_keys_the_order_stays),
        cmocka_unit_test(a_table_that_refers_to_itself_is_no_obstacle),
        cmocka_unit_test(a_cycle_is_entered_at_its_lowest_and_the_rest_is_ordered),
        cmocka_unit_test(nothing_has_an_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
