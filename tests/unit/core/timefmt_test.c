#include "support/unit.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define US INT64_C(1000000)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static pgs_time
parsed(const char *text)
{
    struct pgs_err err;
    pgs_time time = 77;
    int rc = time_parse(text, &time, &err);
    if (rc != 0)
        fail_msg("%s: %s", text, err.message);
    return time;
}

static void
assert_no_time(const char *text)
{
    struct pgs_err err;
    pgs_time time = 77;
    if (time_parse(text, &time, &err) != PGS_E_USAGE)
        fail_msg("\"%s\" was taken for a time", text);
    assert_int_equal(time, 77);
    assert_true(err.hint[0] != '\0');
}

static void
the_forms_of_a_time(void **state)
{
    static const char *const same[] = {
        "2026-11-23T16:20:00Z",      "2026-11-23t16:20:00z",        "2026-11-23 16:20:00",
        "2026-11-23 16:20:00Z",      "2026-11-23T16:20:00.000000Z", "2026-11-23T16:20:00.0+00:00",
        "2026-11-23 16:20:00+00",    "2026-11-23T17:20:00+01:00",   "2026-11-23T17:20:00+0100",
        "2026-11-23T17:20:00+01",    "2026-11-23 17:20:00 +01",     "2026-11-23T13:20:00-03:00",
        "2026-11-23T21:50:00+05:30", "2026-11-24T01:20:00+09:00",   "2026-11-23 16:20:00.000000-00",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(same); i++)
        assert_true(parsed(same[i]) == INT64_C(848766000) * US);
}

static void
the_epoch_is_postgresqls(void **state)
{
    (void)state;
    assert_true(parsed("2000-01-01 00:00:00") == 0);
    assert_true(parsed("2000-01-01 00:00:00.000001") == 1);
    assert_true(parsed("1999-12-31 23:59:59.999999") == -1);
    assert_true(parsed("1970-01-01 00:00:00") == -PGS_EPOCH_UNIX_S * US);
    assert_true(parsed("2000-01-01 00:00:00.5") == 500000);
    assert_true(parsed("2000-01-01 00:00:00.1234567899") == 123456); /* cut off, never rounded up */
}

static void
leap_years_are_known(void **state)
{
    (void)state;
    assert_true(parsed("2024-03-01 00:00:00") - parsed("2024-02-29 00:00:00") == 86400 * US);
    assert_true(parsed("2000-03-01 00:00:00") - parsed("2000-02-28 00:00:00") == 2 * 86400 * US);
    assert_true(parsed("1900-03-01 00:00:00") - parsed("1900-02-28 00:00:00") == 86400 * US);
    assert_no_time("2023-02-29 00:00:00");
    assert_no_time("1900-02-29 00:00:00");
    assert_no_time("2100-02-29 00:00:00");
}

static void
impossible_times_are_refused(void **state)
{
    static const char *const texts[] = {
        "2026-00-01 00:00:00",    "2026-13-01 00:00:00",    "2026-01-00 00:00:00",
        "2026-01-32 00:00:00",    "2026-04-31 00:00:00",    "2026-01-01 24:00:00",
        "2026-01-01 23:60:00",    "2016-12-31 23:59:60",    "2026-01-01 23:59:61",
        "0000-01-01 00:00:00",    "2026-01-01 00:00:00+16", "2026-01-01 00:00:00+01:60",
        "2026-01-01 00:00:00-99",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_no_time(texts[i]);
}

static void
other_texts_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "now",
        "yesterday",
        "infinity",
        "-infinity",
        "2026",
        "2026-11-23",
        "2026-11-23T",
        "2026-11-23T16",
        "2026-11-23T16:20",
        "2026-11-23T16:20:",
        "2026-11-23T16:20:0",
        "2026-11-23T16:20:00.",
        "2026-11-23T16:20:00.Z",
        "2026-11-23T16:20:00,5Z",
        "2026-11-23T16:20:00+",
        "2026-11-23T16:20:00+1",
        "2026-11-23T16:20:00+01:",
        "2026-11-23T16:20:00+01:0",
        "2026-11-23T16:20:00+01:000",
        "2026-11-23T16:20:00+010",
        "2026-11-23T16:20:00ZZ",
        "2026-11-23T16:20:00Z+01",
        "2026-11-23T16:20:00Zx",
        "2026-11-23T16:20:00 UTC",
        "2026-11-23T16:20:00 Europe/Berlin",
        "2026-11-23_16:20:00",
        "2026-11-23  16:20:00",
        " 2026-11-23 16:20:00",
        "2026-1-1 16:20:00",
        "20261123T162000Z",
        "12026-11-23 16:20:00",
        "-2026-11-23 16:20:00",
        "2026-11-23 16:20:00 BC",
        "0044-03-15 12:00:00 BC",
        "2026-11-23T-1:20:00",
        "2026-11-23T16:20:00\xc3\xa9",
        "\xff",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_no_time(texts[i]);
}

static void
a_long_text_is_not_repeated_whole(void **state)
{
    static char text[5000];
    struct pgs_err err;
    pgs_time time;
    (void)state;
    memset(text, '2', sizeof(text) - 1);
    assert_int_equal(time_parse(text, &time, &err), PGS_E_USAGE);
    assert_true(strlen(err.message) < 100);
}

static void
assert_written(pgs_time time, const char *text)
{
    char got[TIME_TEXT_MAX];
    assert_string_equal(time_format(time, got), text);
}

static void
times_are_written_in_utc(void **state)
{
    char text[TIME_TEXT_MAX];
    (void)state;
    assert_written(0, "2000-01-01T00:00:00Z");
    assert_written(1, "2000-01-01T00:00:00.000001Z");
    assert_written(-1, "1999-12-31T23:59:59.999999Z");
    assert_written(-PGS_EPOCH_UNIX_S * US, "1970-01-01T00:00:00Z");
    assert_written(parsed("2026-11-23T16:20:00.123456+02"), "2026-11-23T14:20:00.123456Z");
    assert_written(parsed("2024-02-29 23:59:59.1"), "2024-02-29T23:59:59.100000Z");
    assert_string_equal(time_format_ms(0, text), "2000-01-01T00:00:00.000Z");
    assert_string_equal(time_format_ms(-1, text), "1999-12-31T23:59:59.999Z");
    assert_string_equal(time_format_ms(123456, text), "2000-01-01T00:00:00.123Z");
}

/* PostgreSQL's infinities are the extremes of the type: no buffer may be too short for them. */
static void
the_extremes_fit(void **state)
{
    static const pgs_time times[] = { INT64_MIN, INT64_MIN + 1, INT64_MAX };
    char text[TIME_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < COUNT(times); i++) {
        size_t size = strlen(time_format(times[i], text));
        assert_true(size < TIME_TEXT_MAX && text[size - 1] == 'Z');
        size = strlen(time_format_ms(times[i], text));
        assert_true(size < TIME_TEXT_MAX && text[size - 1] == 'Z');
    }
}

/* Every day of 800 years against libc. */
static void
the_calendar_is_libcs(void **state)
{
    char text[TIME_TEXT_MAX], want[TIME_TEXT_MAX];
    (void)state;
    for (int64_t day = -146097; day < 146097; day += 1) {
        time_t unix_s = (time_t)(day * 86400 + PGS_EPOCH_UNIX_S);
        struct tm tm;
        gmtime_r(&unix_s, &tm);
        assert_true(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
        assert_string_equal(time_format(day * 86400 * US, text), want);
        assert_true(parsed(want) == day * 86400 * US);
    }
}

static void
clocks_go_on(void **state)
{
    time_t before = time(NULL);
    pgs_time now = time_now();
    int64_t first = clock_us();
    (void)state;
    assert_true(now / US + PGS_EPOCH_UNIX_S >= before - 1);
    assert_true(now / US + PGS_EPOCH_UNIX_S <= time(NULL) + 1);
    assert_true(clock_us() >= first && first > 0);
}

static void
lsns_come_back(void **state)
{
    static const struct {
        const char *text, *again;
        pgs_lsn lsn;
    } good[] = {
        { "0/0", "0/0", 0 },
        { "16/B374D848", "16/B374D848", UINT64_C(0x16B374D848) },
        { "16/b374d848", "16/B374D848", UINT64_C(0x16B374D848) },
        { "0/00000001", "0/1", 1 },
        { "FFFFFFFF/FFFFFFFF", "FFFFFFFF/FFFFFFFF", UINT64_MAX },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        char text[LSN_TEXT_MAX];
        struct pgs_err err;
        pgs_lsn lsn = 77;
        assert_int_equal(lsn_parse(good[i].text, &lsn, &err), 0);
        assert_true(lsn == good[i].lsn);
        assert_string_equal(lsn_format(lsn, text), good[i].again);
    }
}

static void
other_texts_are_no_lsns(void **state)
{
    static const char *const bad[] = { "",     "0",           "/",           "0/",
                                       "/0",   "1/2/3",       "g/0",         "0x1/0",
                                       " 0/0", "0/0 ",        "-1/0",        "1-0",
                                       "0/+1", "123456789/0", "0/123456789", "000000000/0" };
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pgs_err err;
        pgs_lsn lsn = 77;
        assert_int_equal(lsn_parse(bad[i], &lsn, &err), PGS_E_USAGE);
        assert_true(lsn == 77 && err.hint[0] != '\0');
    }
}

static void
durations_have_units(void **state)
{
    static const struct {
        const char *text;
        int64_t milliseconds;
    } good[] = { { "0", 0 },
                 { "5", 5000 },
                 { "5s", 5000 },
                 { "200ms", 200 },
                 { "2m", 120000 },
                 { "2min", 120000 },
                 { "1h", 3600000 },
                 { "7d", 604800000 },
                 { "007s", 7000 },
                 { "0ms", 0 },
                 { "365000d", INT64_C(31536000000000) } };
    static const char *const bad[] = { "",
                                       "s",
                                       "-1s",
                                       "+1s",
                                       "1.5s",
                                       "1 s",
                                       " 1s",
                                       "1s ",
                                       "1S",
                                       "1x",
                                       "1w",
                                       "1ss",
                                       "1h30m",
                                       "0x10",
                                       "365001d",
                                       "99999999999999999999s",
                                       "18446744073709551615" };
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct pgs_err err;
        int64_t got = -1;
        assert_int_equal(duration_parse(good[i].text, &got, &err), 0);
        assert_true(got == good[i].milliseconds);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pgs_err err;
        int64_t got = -1;
        assert_int_equal(duration_parse(bad[i], &got, &err), PGS_E_USAGE);
        assert_true(got == -1 && err.hint[0] != '\0');
    }
}

static void
sizes_have_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = { { "0", 0 },
                 { "1000", 1000 },
                 { "7B", 7 },
                 { "100kB", 100000 },
                 { "64MB", 64000000 },
                 { "1GB", 1000000000 },
                 { "1TB", UINT64_C(1000000000000) },
                 { "4KiB", 4096 },
                 { "256MiB", 268435456 },
                 { "1GiB", 1073741824 },
                 { "2TiB", UINT64_C(2199023255552) },
                 { "18446744073709551615", UINT64_MAX } };
    static const char *const bad[] = { "",
                                       "MiB",
                                       "-1",
                                       "1.5GiB",
                                       "1 MiB",
                                       "1mib",
                                       "1M",
                                       "1MiBx",
                                       "1Mi",
                                       "18446744073709551616",
                                       "18446744073709551615kB",
                                       "16777216TiB" };
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct pgs_err err;
        uint64_t got = 77;
        assert_int_equal(size_parse(good[i].text, &got, &err), 0);
        assert_true(got == good[i].bytes);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pgs_err err;
        uint64_t got = 77;
        if (size_parse(bad[i], &got, &err) != PGS_E_USAGE)
            fail_msg("\"%s\" was taken for %" PRIu64 " bytes", bad[i], got);
        assert_true(got == 77 && err.hint[0] != '\0');
    }
}

static void
sizes_are_written_for_people(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = { { 0, "0 B" },
                 { 1023, "1023 B" },
                 { 1024, "1.0 KiB" },
                 { 1468006, "1.4 MiB" },
                 { 1048575, "1.0 MiB" }, /* not 1024.0 KiB */
                 { UINT64_C(5) << 30, "5.0 GiB" },
                 { UINT64_MAX, "16.0 EiB" } };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[24];
        assert_string_equal(size_format(rows[i].bytes, text), rows[i].text);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_forms_of_a_time),
        cmocka_unit_test(the_epoch_is_postgresqls),
        cmocka_unit_test(leap_years_are_known),
        cmocka_unit_test(impossible_times_are_refused),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(a_long_text_is_not_repeated_whole),
        cmocka_unit_test(times_are_written_in_utc),
        cmocka_unit_test(the_extremes_fit),
        cmocka_unit_test(the_calendar_is_libcs),
        cmocka_unit_test(clocks_go_on),
        cmocka_unit_test(lsns_come_back),
        cmocka_unit_test(other_texts_are_no_lsns),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(sizes_are_written_for_people),
    };
    return cmocka_run_group_tests_name("timefmt", tests, NULL, NULL);
}
