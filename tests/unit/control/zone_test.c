/* libc is the oracle: it reads the same files, one zone at a time. */
#include "support/unit.h"

#include "control/zone.h"
#include "control/zone_rule.h"
#include "core/calendar.h"
#include "core/err.h"
#include "support/temp_folder.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int
arena_setup(void **state)
{
    *state = arena_new(NULL);
    return 0;
}

static int
arena_teardown(void **state)
{
    arena_free(*state);
    return 0;
}

static const struct zone *
opened(struct arena *arena, const char *name)
{
    struct pgs_err err;
    const struct zone *zone = NULL;
    if (zone_open(NULL, name, arena, &zone, &err) != 0)
        fail_msg("%s: %s", name, err.message);
    return zone;
}

static int64_t
libc_offset(int64_t t)
{
    time_t seconds = (time_t)t;
    struct tm tm;
    assert_non_null(localtime_r(&seconds, &tm));
    return tm.tm_gmtoff;
}

static int64_t
new_year(int64_t year)
{
    return calendar_days((struct calendar_date){ year, 1, 1 }) * 86400;
}

static void
assert_same_offset(const char *name, const struct zone *zone, int64_t t)
{
    struct zone_span span = zone_span_at(zone, t);
    assert_true(span.begin_s <= t && t < span.end_s);
    if (span.offset_s != libc_offset(t))
        fail_msg("%s at %lld: %d, libc says %lld", name, (long long)t, span.offset_s,
                 (long long)libc_offset(t));
}

/* At every hour of the day in turn, and on both sides of every border. */
static void
offsets_are_libcs(void **state)
{
    static const char *const names[] = {
        "Europe/Berlin",      "America/New_York",  "Australia/Lord_Howe",
        "Pacific/Apia",       "Africa/Casablanca", "Asia/Kathmandu",
        "America/St_Johns",   "Antarctica/Troll",  "Europe/Dublin",
        "Africa/Cairo",       "Asia/Gaza",         "America/Sao_Paulo",
        "Pacific/Kiritimati", "Europe/Lisbon",     "Asia/Tehran",
        "America/Nuuk",       "Etc/GMT+5",         "UTC",
    };
    struct arena *arena = *state;
    for (size_t i = 0; i < COUNT(names); i++) {
        const struct zone *zone = opened(arena, names[i]);
        setenv("TZ", names[i], 1);
        tzset();
        for (int64_t t = new_year(1900); t < new_year(2120); t += 25 * 3600)
            assert_same_offset(names[i], zone, t);
        for (int64_t t = new_year(1900); t < new_year(2120);) {
            struct zone_span span = zone_span_at(zone, t);
            assert_same_offset(names[i], zone, t);
            assert_same_offset(names[i], zone, span.end_s < new_year(2120) ? span.end_s - 1 : t);
            t = span.end_s;
        }
    }
}

static void
names_that_are_none(void **state)
{
    static const char *const names[] = {
        "",
        "/",
        "Europe/",
        "/etc/passwd",
        "../zoneinfo/UTC",
        "Europe",
        "Europe/Nope",
        "Europe/../UTC",
        "Europe//Berlin",
        "Europe/Berlin/x",
        "zone.tab",
        "UTC\n",
        "Europe/Berlin ",
        "%s",
    };
    struct arena *arena = *state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct pgs_err err;
        const struct zone *zone = NULL;
        int rc = zone_open(NULL, names[i], arena, &zone, &err);
        /* A folder opens, and is no zone. */
        if (rc != PGS_E_USAGE && !(rc == PGS_E_CORRUPT && strcmp(names[i], "Europe") == 0))
            fail_msg("\"%s\" was taken for a zone", names[i]);
        assert_null(zone);
    }
}

static void
utc_needs_no_file(void **state)
{
    struct pgs_err err;
    const struct zone *zone = NULL;
    char *folder = temp_folder_make();
    assert_int_equal(zone_open(folder, "UTC", *state, &zone, &err), 0);
    assert_int_equal(zone_span_at(zone, 0).offset_s, 0);
    assert_true(zone_span_at(zone, 0).begin_s == INT64_MIN);
    assert_true(zone_span_at(zone, 0).end_s == INT64_MAX);
    assert_int_equal(zone_open(folder, "Europe/Berlin", *state, &zone, &err), PGS_E_USAGE);
    temp_folder_remove(folder);
}

/* Cut off at every byte: an error, or (the footer's newline) never a wrong answer. */
static void
a_file_cut_off_is_refused(void **state)
{
    static uint8_t bytes[64 << 10];
    FILE *file = fopen("/usr/share/zoneinfo/America/New_York", "rbe");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    assert_true(size > 100 && size < sizeof(bytes));
    for (size_t cut = 0; cut <= size; cut++) {
        struct pgs_err err;
        const struct zone *zone = NULL;
        struct arena *arena = arena_new(NULL);
        uint8_t *exact = malloc(cut + 1);
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        int rc = zone_read(slice_of(exact, cut), arena, &zone, &err);
        assert_int_equal(rc, cut == size ? 0 : PGS_E_CORRUPT);
        free(exact);
        arena_free(arena);
    }
    (void)state;
}

static void
rules_that_are_none(void **state)
{
    static const char *const texts[] = {
        "",
        "CET",
        "CE-1",
        "CET-1CEST",
        "CET-1CEST,",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M3.5.0,",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,J0,J365",
        "CET-1CEST,0,366",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "CET-25",
        "CET-1:60",
        "<+01-1",
        "CET-1CEST,M3.5.0,M10.5.0/3x",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct zone_rule rule = { .standard_s = 77 };
        if (zone_rule_parse(slice_str(texts[i]), &rule))
            fail_msg("\"%s\" was taken for a rule", texts[i]);
        assert_int_equal(rule.standard_s, 77);
    }
}

static void
rules_are_libcs(void **state)
{
    static const char *const texts[] = {
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "EST5EDT,M3.2.0,M11.1.0",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "IST-1GMT0,M10.5.0,M3.5.0/1",
        "EET-2EEST,M4.5.5/0,M10.5.4/24",
        "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
        "AAA3BBB,J60/0,J300/2",
        "AAA-3BBB,59/0,299/2",
        "EET-2EEST,M3.4.4/50,M10.4.4/50",
        "<+0545>-5:45",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct zone_rule rule;
        assert_true(zone_rule_parse(slice_str(texts[i]), &rule));
        setenv("TZ", texts[i], 1);
        tzset();
        for (int64_t t = new_year(1971); t < new_year(2011); t += 3600) {
            struct zone_span span = zone_rule_span_at(&rule, t);
            assert_true(span.begin_s <= t && t < span.end_s);
            if (span.offset_s != libc_offset(t))
                fail_msg("%s at %lld: %d, libc says %lld", texts[i], (long long)t, span.offset_s,
                         (long long)libc_offset(t));
        }
    }
}

/* RFC 8536, 3.3.1: one year's summer ends as the next one's begins. libc has winter for it. */
static void
summer_all_year_is_summer(void **state)
{
    struct zone_rule rule;
    (void)state;
    assert_true(zone_rule_parse(slice_str("XXX3EDT4,0/0,J365/23"), &rule));
    for (int64_t t = new_year(1999); t < new_year(2005); t += 1800) {
        assert_int_equal(zone_rule_span_at(&rule, t).offset_s, -4 * 3600);
        assert_true(zone_rule_span_at(&rule, t).end_s > t);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_are_libcs),         cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(utc_needs_no_file),         cmocka_unit_test(a_file_cut_off_is_refused),
        cmocka_unit_test(rules_that_are_none),       cmocka_unit_test(rules_are_libcs),
        cmocka_unit_test(summer_all_year_is_summer),
    };
    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
