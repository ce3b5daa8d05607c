#include "support/unit.h"

#include "core/slice.h"

static int
order(const char *a, const char *b)
{
    int order = slice_compare(slice_str(a), slice_str(b));
    assert_int_equal(slice_compare(slice_str(b), slice_str(a)) > 0, order < 0);
    return order;
}

static void
null_equals_only_null(void **state)
{
    (void)state;
    assert_true(slice_equal(SLICE_NULL, SLICE_NULL));
    assert_false(slice_equal(SLICE_NULL, slice_str("")));
    assert_false(slice_equal(slice_str(""), SLICE_NULL));
    assert_true(slice_equal(slice_str(""), slice_str("")));
    assert_null(slice_str(NULL).data);
}

static void
equal_is_equal_bytes(void **state)
{
    (void)state;
    assert_true(slice_equal(slice_of("a\0b", 3), slice_of("a\0b", 3)));
    assert_false(slice_equal(slice_of("a\0b", 3), slice_of("a\0c", 3)));
    assert_false(slice_equal(slice_str("a"), slice_str("ab")));
}

static void
order_is_bytewise_and_unsigned(void **state)
{
    (void)state;
    assert_true(order("a", "b") < 0);
    assert_true(order("a", "aa") < 0);
    assert_true(order("B", "a") < 0); /* no collation */
    assert_true(order("z", "\xc3\xa9") < 0);
    assert_true(order("", "a") < 0);
    assert_int_equal(order("a", "a"), 0);
    assert_int_equal(slice_compare(SLICE_NULL, slice_str("")), 0);
    assert_true(slice_compare(slice_of("a\0", 2), slice_of("a", 1)) > 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_equals_only_null),
        cmocka_unit_test(equal_is_equal_bytes),
        cmocka_unit_test(order_is_bytewise_and_unsigned),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
