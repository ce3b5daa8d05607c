#include "support/unit.h"

#include "control/cron.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct world {
    struct arena *arena;
};

static int
world_setup(void **state)
{
    static struct world world;
    world.arena = arena_new(NULL);
    *state = &world;
    return 0;
}

static int
world_teardown(void **state)
{
    struct world *w = *state;
    arena_free(w->arena);
    return 0;
}

static struct cron
parsed(const char *text)
{
    struct pgs_err err;
    struct cron cron;
    if (cron_parse(text, &cron, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return cron;
}

static bool
cron_equal(struct cron a, struct cron b)
{
    return a.minutes == b.minutes && a.hours == b.hours && a.days == b.days &&
           a.months == b.months && a.weekdays == b.weekdays && a.every_hour == b.every_hour &&
           a.days_are_set == b.days_are_set && a.weekdays_are_set == b.weekdays_are_set;
}

static void
equal_forms(void **state)
{
    static const char *const pairs[][2] = {
        { "@daily", "0 0 * * *" },
        { "@Midnight", " 0 0\t* *  * " },
        { "@hourly", "0 * * * *" },
        { "@weekly", "0 0 * * 7" },
        { "@weekly", "0 0 * * sun" },
        { "@monthly", "0 0 1 * *" },
        { "@yearly", "0 0 1 jan *" },
        { "@annually", "00 000 1 JAN *" },
        { "*/15 2 * * *", "0,15,30,45 2 * * *" },
        { "5/20 2 * * *", "5,25,45 2 * * *" },
        { "10-30/10 2 * * *", "10,20,30 2 * * *" },
        { "0 2 * * mon-fri", "0 2 * * 1-5" },
        { "0 2 * * sat-sun", "0 2 * * 6,0" },
        { "0 2 * * 6-7", "0 2 * * sun,sat" },
        { "0 2 * * 7/2", "0 2 * * 0" },
        { "0 2 * jan,Mar-may *", "0 2 * 1,3,4,5 *" },
        { "*/60 */24 * * *", "*/60 */24 * * *" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        if (!cron_equal(parsed(pairs[i][0]), parsed(pairs[i][1])))
            fail_msg("%s is not %s", pairs[i][0], pairs[i][1]);
    }
}

static void
the_fields_are_sets_of_values(void **state)
{
    (void)state;
    struct cron cron = parsed("59 23 31 12 0-7");
    assert_true(cron.minutes == UINT64_C(1) << 59);
    assert_true(cron.hours == UINT32_C(1) << 23);
    assert_true(cron.days == UINT32_C(1) << 31);
    assert_true(cron.months == 1 << 12);
    assert_true(cron.weekdays == 0x7f);
    assert_true(cron.days_are_set && cron.weekdays_are_set && !cron.every_hour);
    cron = parsed("* */2 * * *");
    assert_true(cron.minutes == (UINT64_C(1) << 60) - 1);
    assert_true(cron.every_hour && !cron.days_are_set && !cron.weekdays_are_set);
}

static void
errors_name_the_field_and_the_cause(void **state)
{
    static const char *const cases[][2] = {
        { "60 2 * * *", "cannot read the minute field \"60\" of a schedule: "
                        "60 is not within 0 to 59" },
        { "0 24 * * *", "the hour field \"24\" of a schedule: 24 is not within 0 to 23" },
        { "0 2 0 * *", "the day of month field \"0\" of a schedule: 0 is not within 1 to 31" },
        { "0 2 * 13 *", "the month field \"13\" of a schedule: 13 is not within 1 to 12" },
        { "0 2 * * 8", "the day of week field \"8\" of a schedule: 8 is not within 0 to 7" },
        { "0 99999999999999999999 * * *", "is not within 0 to 23" },
        { "0 2 * foo *", "\"foo\" is no name; they are jan to dec" },
        { "0 2 * * monday", "\"monday\" is no name; they are sun to sat" },
        { "x 2 * * *", "it takes numbers, not \"x\"" },
        { "0 22-2 * * *", "a range from 22 down to 2; write it as two ranges" },
        { "*/0 2 * * *", "a step of 0 never moves" },
        { "*/90 2 * * *", "a step of 90 is beyond the 60 values there are" },
        { "*/ 2 * * *", "a step is a number" },
        { "1,,2 2 * * *", "a value is missing" },
        { "1, 2 * * *", "a value is missing" },
        { "1- 2 * * *", "a value is missing" },
        { "-1 2 * * *", "\"-\" has no meaning there" },
        { "1.5 2 * * *", "\".\" has no meaning there" },
        { "*5 2 * * *", "\"5\" has no meaning there" },
        { "0 2 L * *", "it takes numbers, not \"L\"" },
        { "0 2 ? * *", "\"?\" has no meaning there" },
        { "0 2 * * 5#2", "\"#\" has no meaning there" },
        { "", "fewer than five fields" },
        { "   ", "fewer than five fields" },
        { "0 2 * *", "fewer than five fields" },
        { "0 0 2 * * *", "more than five fields" },
        { "@reboot", "only @yearly" },
        { "@every 5m", "only @yearly" },
        { "@daily 5", "only @yearly" },
        { "0 0 30 2 *", "none of its months has that day" },
        { "0 0 31 2,4,6,9,11 *", "none of its months has that day" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pgs_err err;
        struct cron cron = { .minutes = 77 };
        int rc = cron_parse(cases[i][0], &cron, &err);
        if (rc != PGS_E_USAGE)
            fail_msg("\"%s\" was taken for a schedule", cases[i][0]);
        if (strstr(err.message, cases[i][1]) == NULL)
            fail_msg("\"%s\": %s", cases[i][0], err.message);
        assert_true(cron.minutes == 77);
    }
}

static void
a_text_longer_than_its_column_is_refused(void **state)
{
    char text[CRON_TEXT_MAX + 2];
    struct pgs_err err;
    struct cron cron;
    (void)state;
    memset(text, ' ', sizeof(text));
    memcpy(text, "@daily", 6);
    text[6] = '\0';
    assert_int_equal(cron_parse(text, &cron, &err), 0);
    text[6] = ' ';
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(cron_parse(text, &cron, &err), PGS_E_USAGE);
}

/* A row: the zone, the schedule, a time, and the firings behind it, in order. */
struct firing_case {
    const char *zone, *cron, *after;
    const char *firings[5];
};

static pgs_time
at(const char *text)
{
    struct pgs_err err;
    pgs_time time = 0;
    if (time_parse(text, &time, &err) != 0)
        fail_msg("%s", err.message);
    return time;
}

static void
check_prev(const struct firing_case *row, const struct cron *cron, const struct zone *zone,
           pgs_time time, pgs_time expected)
{
    char text[TIME_TEXT_MAX];
    pgs_time prev = 0;
    assert_int_equal(cron_prev(cron, zone, time, &prev), 0);
    if (prev != expected)
        fail_msg("%s in %s: the last one was %s", row->cron, row->zone, time_format(prev, text));
}

static void
check_firings(struct arena *arena, const struct firing_case *row)
{
    struct pgs_err err;
    struct cron cron = parsed(row->cron);
    const struct zone *zone = NULL;
    char text[TIME_TEXT_MAX];
    pgs_time time = at(row->after), previous = PGS_TIME_NONE;
    if (zone_open(NULL, row->zone, arena, &zone, &err) != 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < COUNT(row->firings) && row->firings[i] != NULL; i++) {
        assert_int_equal(cron_next(&cron, zone, time, &time), 0);
        if (time != at(row->firings[i]))
            fail_msg("%s in %s: %s, not %s", row->cron, row->zone, time_format(time, text),
                     row->firings[i]);
        check_prev(row, &cron, zone, time, time);
        if (previous != PGS_TIME_NONE)
            check_prev(row, &cron, zone, time - 1, previous);
        previous = time;
    }
}

static void
check_all(struct arena *arena, const struct firing_case *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_firings(arena, &rows[i]);
}

static void
firings_on_plain_days(void **state)
{
    static const struct firing_case rows[] = {
        { "UTC",
          "0 2 * * *",
          "2026-11-23 01:59:59.999999",
          { "2026-11-23 02:00:00", "2026-11-24 02:00:00" } },
        { "UTC", "0 2 * * *", "2026-11-23 02:00:00", { "2026-11-24 02:00:00" } },
        { "Asia/Kathmandu", "0 2 * * *", "2026-11-23 00:00:00", { "2026-11-23 20:15:00" } },
        { "UTC", "59 23 31 12 *", "2026-12-31 23:59:00", { "2027-12-31 23:59:00" } },
        { "UTC", "0 0 29 2 *", "2097-01-01 00:00:00", { "2104-02-29 00:00:00" } },
        { "UTC",
          "*/20 22-23 * * *",
          "2026-11-23 22:50:00",
          { "2026-11-23 23:00:00", "2026-11-23 23:20:00", "2026-11-23 23:40:00",
            "2026-11-24 22:00:00" } },
    };
    struct world *w = *state;
    check_all(w->arena, rows, COUNT(rows));
}

/* 2026-11-23 is a Monday. */
static void
day_of_month_or_day_of_week_when_both_are_set(void **state)
{
    static const struct firing_case rows[] = {
        { "UTC",
          "0 0 13 * fri",
          "2026-11-01 00:00:00",
          { "2026-11-06 00:00:00", "2026-11-13 00:00:00", "2026-11-20 00:00:00",
            "2026-11-27 00:00:00", "2026-12-04 00:00:00" } },
        { "UTC",
          "0 0 24 * mon",
          "2026-11-22 00:00:00",
          { "2026-11-23 00:00:00", "2026-11-24 00:00:00", "2026-11-30 00:00:00" } },
        { "UTC",
          "0 0 * * mon",
          "2026-11-22 00:00:00",
          { "2026-11-23 00:00:00", "2026-11-30 00:00:00" } },
        { "UTC",
          "0 0 24 * *",
          "2026-11-22 00:00:00",
          { "2026-11-24 00:00:00", "2026-12-24 00:00:00" } },
        /* A step is a set day, not "*". */
        { "UTC",
          "0 0 */20 * wed",
          "2026-11-20 00:00:00",
          { "2026-11-21 00:00:00", "2026-11-25 00:00:00", "2026-12-01 00:00:00" } },
        /* Never by its day, so by the weekday alone. */
        { "UTC",
          "0 0 30 2 mon",
          "2026-01-01 00:00:00",
          { "2026-02-02 00:00:00", "2026-02-09 00:00:00" } },
    };
    struct world *w = *state;
    check_all(w->arena, rows, COUNT(rows));
}

/* Berlin: 2026-03-29 has no 02:00 to 03:00 (01:00 UTC). */
static void
a_skipped_time_fires_once_right_behind_the_gap(void **state)
{
    static const struct firing_case rows[] = {
        { "Europe/Berlin",
          "30 2 * * *",
          "2026-03-28 12:00:00",
          { "2026-03-29 01:00:00", "2026-03-30 00:30:00" } },
        { "Europe/Berlin",
          "*/15 2 * * *",
          "2026-03-28 12:00:00",
          { "2026-03-29 01:00:00", "2026-03-30 00:00:00" } },
        { "Europe/Berlin", "0 3 * * *", "2026-03-28 12:00:00", { "2026-03-29 01:00:00" } },
        { "Europe/Berlin",
          "30 2,3 * * *",
          "2026-03-28 12:00:00",
          { "2026-03-29 01:00:00", "2026-03-29 01:30:00", "2026-03-30 00:30:00" } },
        { "Europe/Berlin",
          "30 * * * *",
          "2026-03-28 23:45:00",
          { "2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-29 01:30:00" } },
        { "Europe/Berlin",
          "0 * * * *",
          "2026-03-28 23:45:00",
          { "2026-03-29 00:00:00", "2026-03-29 01:00:00", "2026-03-29 02:00:00" } },
        /* Half an hour only. */
        { "Australia/Lord_Howe",
          "15 2 * * *",
          "2026-10-03 00:00:00",
          { "2026-10-03 15:30:00", "2026-10-04 15:15:00" } },
        /* A day that began at 01:00. */
        { "America/Sao_Paulo",
          "0 0 * * *",
          "2018-11-03 12:00:00",
          { "2018-11-04 03:00:00", "2018-11-05 02:00:00" } },
        /* A whole day that was not. */
        { "Pacific/Apia",
          "0 12 30 12 *",
          "2011-01-01 00:00:00",
          { "2011-12-30 10:00:00", "2012-12-29 22:00:00" } },
    };
    struct world *w = *state;
    check_all(w->arena, rows, COUNT(rows));
}

/* Berlin: 2026-10-25 has 02:00 to 03:00 twice, from 00:00 and from 01:00 UTC. */
static void
a_repeated_hour_fires_once_if_fixed_and_twice_if_not(void **state)
{
    static const struct firing_case rows[] = {
        { "Europe/Berlin",
          "30 2 * * *",
          "2026-10-24 12:00:00",
          { "2026-10-25 00:30:00", "2026-10-26 01:30:00" } },
        { "Europe/Berlin",
          "30 * * * *",
          "2026-10-25 00:00:00",
          { "2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00" } },
        { "Europe/Berlin",
          "30 */2 * * *",
          "2026-10-24 23:00:00",
          { "2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 03:30:00" } },
        { "Europe/Berlin",
          "0 0-23 * * *",
          "2026-10-24 23:30:00",
          { "2026-10-25 00:00:00", "2026-10-25 02:00:00" } },
        { "Europe/Berlin", "0 3 * * *", "2026-10-24 12:00:00", { "2026-10-25 02:00:00" } },
        { "America/New_York",
          "30 1 * * *",
          "2026-10-31 12:00:00",
          { "2026-11-01 05:30:00", "2026-11-02 06:30:00" } },
        /* From the middle of it, and from its second pass. */
        { "America/New_York", "30 1 * * *", "2026-11-01 05:45:00", { "2026-11-02 06:30:00" } },
        /* By the rule in the footer, behind every table. */
        { "Europe/Berlin",
          "30 2 * * *",
          "2100-10-30 12:00:00",
          { "2100-10-31 00:30:00", "2100-11-01 01:30:00" } },
    };
    struct world *w = *state;
    check_all(w->arena, rows, COUNT(rows));
}

static void
the_ends_of_time_are_none(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    struct cron cron = parsed("@hourly");
    const struct zone *zone = NULL;
    pgs_time time = 77;
    assert_int_equal(zone_open(NULL, "Europe/Berlin", w->arena, &zone, &err), 0);
    assert_int_equal(cron_next(&cron, zone, INT64_MAX, &time), PGS_NONE);
    assert_int_equal(cron_prev(&cron, zone, INT64_MIN, &time), PGS_NONE);
    assert_true(time == 77);
    assert_int_equal(cron_next(&cron, zone, INT64_MIN, &time), 0);
    assert_int_equal(cron_prev(&cron, zone, INT64_MAX, &time), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_forms),
        cmocka_unit_test(the_fields_are_sets_of_values),
        cmocka_unit_test(errors_name_the_field_and_the_cause),
        cmocka_unit_test(a_text_longer_than_its_column_is_refused),
        cmocka_unit_test(firings_on_plain_days),
        cmocka_unit_test(day_of_month_or_day_of_week_when_both_are_set),
        cmocka_unit_test(a_skipped_time_fires_once_right_behind_the_gap),
        cmocka_unit_test(a_repeated_hour_fires_once_if_fixed_and_twice_if_not),
        cmocka_unit_test(the_ends_of_time_are_none),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
