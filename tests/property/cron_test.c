/* cron_test.c: a naive cron beside the real one.
 *
 * The naive one asks libc what clocks show, minute by minute of real time, and looks each label up
 * in the fields: a label that was skipped fires with the minute behind the gap, one that was shown
 * before fires again only if every hour does. Random schedules over years of zones with hard
 * borders; cron_next must then walk through exactly those firings, and cron_prev back. A failure
 * names the zone, the year, the schedule and the seed, and
 *
 *     PGS_PROPERTY_SEED=<seed> test_property_cron
 *
 * draws those schedules again. */
#include "control/cron.h"
#include "core/buf.h"
#include "core/calendar.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "support/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define US_PER_S INT64_C(1000000)
#define SCHEDULES 24
#define YEAR_MINUTES_MAX (366 * 24 * 60)

static const struct {
    const char *zone;
    int year;
} years[] = {
    { "Europe/Berlin", 2026 },     { "Europe/Berlin", 2044 },
    { "America/New_York", 2007 },  { "Australia/Lord_Howe", 2025 },
    { "Pacific/Apia", 2011 },      { "America/St_Johns", 2010 },
    { "Africa/Casablanca", 2024 }, { "Europe/Dublin", 1972 },
    { "America/Sao_Paulo", 2018 }, { "Antarctica/Troll", 2023 },
    { "Asia/Gaza", 2016 },         { "Asia/Pyongyang", 2018 },
    { "Pacific/Kwajalein", 1993 }, { "America/Caracas", 2007 },
    { "Asia/Kathmandu", 1986 },    { "Europe/Lisbon", 1992 },
    { "America/Nuuk", 2023 },      { "Antarctica/Casey", 2020 },
    { "America/Juneau", 1983 },    { "UTC", 2024 },
};

/* --- schedules --- */

static uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static int
pick(uint64_t *state, int min, int max)
{
    return min + (int)(random_next(state) % (uint64_t)(max - min + 1));
}

/* "*" in stars of eight cases; else a step, a value, a list, a range. */
static void
put_field(uint64_t *state, struct buf *text, int min, int max, int stars)
{
    int a = pick(state, min, max), b = pick(state, a, max);
    if (pick(state, 1, 8) <= stars) {
        buf_put_str(text, "* ");
        return;
    }
    switch (pick(state, 0, 4)) {
    case 0: buf_printf(text, "*/%d ", pick(state, 1, max - min + (min == 0 ? 0 : 1))); break;
    case 1: buf_printf(text, "%d ", a); break;
    case 2: buf_printf(text, "%d,%d ", a, pick(state, min, max)); break;
    case 3: buf_printf(text, "%d-%d ", a, b); break;
    default: buf_printf(text, "%d-%d/%d ", a, b, pick(state, 1, 5)); break;
    }
}

struct schedule {
    char text[CRON_TEXT_MAX];
    struct cron cron;
    pgs_time *firings;
    size_t count;
};

static void
draw_schedule(uint64_t *state, struct schedule *s)
{
    struct pgs_err err;
    struct buf text = { 0 };
    do {
        buf_reset(&text);
        put_field(state, &text, 0, 59, 1);
        put_field(state, &text, 0, pick(state, 0, 1) == 0 ? 4 : 23, 2);
        put_field(state, &text, 1, 31, 5);
        put_field(state, &text, 1, 12, 6);
        put_field(state, &text, 0, 6, 5);
        snprintf(s->text, sizeof(s->text), "%s", buf_cstr(&text));
    } while (cron_parse(s->text, &s->cron, &err) != 0 && strstr(err.message, "has that day"));
    assert_int_equal(cron_parse(s->text, &s->cron, &err), 0);
    s->count = 0;
    buf_release(&text);
}

/* --- the naive one --- */

/* What clocks show in one minute. */
struct label {
    int64_t minutes; /* since 1970, as if it were UTC */
    struct calendar_date date;
    int weekday, hour, minute;
};

static struct label
label_read(int64_t minutes)
{
    int64_t day = minutes / 1440 - (minutes % 1440 < 0 ? 1 : 0);
    int minute = (int)(minutes - day * 1440);
    return (struct label){ minutes, calendar_date(day), calendar_weekday(day), minute / 60,
                           minute % 60 };
}

static bool
label_matches(const struct cron *cron, struct label label)
{
    bool by_day = (cron->days >> label.date.day & 1) != 0;
    bool by_weekday = (cron->weekdays >> label.weekday & 1) != 0;
    bool both = cron->days_are_set && cron->weekdays_are_set;
    return (cron->minutes >> label.minute & 1) != 0 && (cron->hours >> label.hour & 1) != 0 &&
           (cron->months >> label.date.month & 1) != 0 &&
           (both ? by_day || by_weekday : by_day && by_weekday);
}

static int64_t
label_of(int64_t minute)
{
    time_t t = (time_t)(minute * 60);
    struct tm tm;
    assert_non_null(localtime_r(&t, &tm));
    struct calendar_date date = { tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday };
    return calendar_days(date) * 1440 + tm.tm_hour * 60 + tm.tm_min;
}

static bool
naive_fires(const struct cron *cron, struct label label, int64_t latest)
{
    for (int64_t skipped = latest + 1; skipped < label.minutes; skipped++) {
        if (label_matches(cron, label_read(skipped)))
            return true;
    }
    return (label.minutes > latest || cron->every_hour) && label_matches(cron, label);
}

static void
naive_year(struct schedule schedules[SCHEDULES], int64_t begin, int64_t end)
{
    int64_t latest = label_of(begin - 1); /* the latest label that was shown */
    for (int64_t minute = begin; minute < end; minute++) {
        struct label label = label_read(label_of(minute));
        for (size_t i = 0; i < SCHEDULES; i++) {
            struct schedule *s = &schedules[i];
            if (naive_fires(&s->cron, label, latest))
                s->firings[s->count++] = (minute * 60 - PGS_EPOCH_UNIX_S) * US_PER_S;
        }
        latest = label.minutes > latest ? label.minutes : latest;
    }
}

/* --- both --- */

static void
differ(size_t year, const struct schedule *s, const char *call, pgs_time got, pgs_time expected)
{
    char got_text[TIME_TEXT_MAX], expected_text[TIME_TEXT_MAX];
    fail_msg("%s %d, \"%s\": %s says %s, not %s", years[year].zone, years[year].year, s->text, call,
             time_format(got, got_text), time_format(expected, expected_text));
}

static void
compare(size_t year, const struct schedule *s, const struct zone *zone, pgs_time begin,
        pgs_time end)
{
    pgs_time time = begin - 1, prev = 0;
    for (size_t i = 0; i < s->count; i++) {
        assert_int_equal(cron_next(&s->cron, zone, time, &time), 0);
        if (time != s->firings[i])
            differ(year, s, "cron_next", time, s->firings[i]);
    }
    if (cron_next(&s->cron, zone, time, &time) == 0 && time < end)
        differ(year, s, "cron_next", time, end);
    time = end - 1;
    for (size_t i = s->count; i-- > 0; time = prev - 1) {
        assert_int_equal(cron_prev(&s->cron, zone, time, &prev), 0);
        if (prev != s->firings[i])
            differ(year, s, "cron_prev", prev, s->firings[i]);
    }
}

static void
play_year(size_t year, uint64_t *state, struct schedule schedules[SCHEDULES])
{
    struct pgs_err err;
    struct arena *arena = arena_new(NULL);
    const struct zone *zone = NULL;
    int64_t begin = calendar_days((struct calendar_date){ years[year].year, 1, 1 }) * 1440;
    int64_t end = calendar_days((struct calendar_date){ years[year].year + 1, 1, 1 }) * 1440;
    if (zone_open(NULL, years[year].zone, arena, &zone, &err) != 0)
        fail_msg("%s", err.message);
    setenv("TZ", years[year].zone, 1);
    tzset();
    for (size_t i = 0; i < SCHEDULES; i++)
        draw_schedule(state, &schedules[i]);
    naive_year(schedules, begin, end);
    for (size_t i = 0; i < SCHEDULES; i++)
        compare(year, &schedules[i], zone, (begin * 60 - PGS_EPOCH_UNIX_S) * US_PER_S,
                (end * 60 - PGS_EPOCH_UNIX_S) * US_PER_S);
    arena_free(arena);
}

static void
firings_are_those_of_the_naive_cron(void **unused)
{
    const char *given = getenv("PGS_PROPERTY_SEED");
    uint64_t state = given != NULL ? strtoull(given, NULL, 10) : 20261123;
    struct schedule *schedules = calloc(SCHEDULES, sizeof(*schedules));
    (void)unused;
    assert_non_null(schedules);
    print_message("seed %llu\n", (unsigned long long)state);
    for (size_t i = 0; i < SCHEDULES; i++) {
        schedules[i].firings = calloc(YEAR_MINUTES_MAX, sizeof(pgs_time));
        assert_non_null(schedules[i].firings);
    }
    for (size_t year = 0; year < COUNT(years); year++)
        play_year(year, &state, schedules);
    for (size_t i = 0; i < SCHEDULES; i++)
        free(schedules[i].firings);
    free(schedules);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(firings_are_those_of_the_naive_cron) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
