#include "support/unit.h"

#include "core/calendar.h"

/* Day by day beside a counter that knows only how long months are. */
static void
dates_follow_each_other(void **state)
{
    struct calendar_date expected = { -4, 1, 1 };
    int64_t days = calendar_days(expected);
    int weekday = calendar_weekday(days);
    (void)state;
    for (; expected.year < 2405; days++) {
        struct calendar_date date = calendar_date(days);
        assert_true(date.year == expected.year && date.month == expected.month &&
                    date.day == expected.day);
        assert_true(calendar_days(date) == days);
        assert_int_equal(calendar_weekday(days), weekday);
        weekday = weekday == 6 ? 0 : weekday + 1;
        if (++expected.day > calendar_days_in_month(expected.year, expected.month)) {
            expected.day = 1;
            expected.month = expected.month == 12 ? 1 : expected.month + 1;
            expected.year += expected.month == 1 ? 1 : 0;
        }
    }
}

static void
known_days(void **state)
{
    (void)state;
    assert_true(calendar_days((struct calendar_date){ 1970, 1, 1 }) == 0);
    assert_true(calendar_days((struct calendar_date){ 2000, 1, 1 }) == 10957);
    assert_int_equal(calendar_weekday(0), 4);
    assert_int_equal(calendar_weekday(-1), 3);
    assert_true(calendar_is_leap(2000) && calendar_is_leap(2024));
    assert_false(calendar_is_leap(1900) || calendar_is_leap(2023));
    assert_int_equal(calendar_days_in_month(2024, 2), 29);
    assert_int_equal(calendar_days_in_month(2023, 2), 28);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_follow_each_other),
        cmocka_unit_test(known_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
