#include "core/timefmt.h"

#include "core/calendar.h"
#include "core/err.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define US_PER_S INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)
#define DAYS_TO_2000 INT64_C(10957) /* from 1970-01-01 */

/* A text being read; once wrong, it stays wrong. */
struct reader {
    const char *p;
    bool wrong;
};

static int
digits(struct reader *r, int count)
{
    int v = 0;
    for (int i = 0; i < count && !r->wrong; i++) {
        if (*r->p < '0' || *r->p > '9')
            r->wrong = true;
        else
            v = v * 10 + (*r->p++ - '0');
    }
    return v;
}

static bool
accept(struct reader *r, char c)
{
    if (r->wrong || *r->p != c)
        return false;
    r->p++;
    return true;
}

static void
expect(struct reader *r, char c)
{
    if (!accept(r, c))
        r->wrong = true;
}

static int64_t
read_date(struct reader *r)
{
    int year = digits(r, 4);
    expect(r, '-');
    int month = digits(r, 2);
    expect(r, '-');
    int day = digits(r, 2);
    if (r->wrong || year < 1 || month < 1 || month > 12 || day < 1 ||
        day > calendar_days_in_month(year, month)) {
        r->wrong = true;
        return 0;
    }
    return calendar_days((struct calendar_date){ .year = year, .month = month, .day = day });
}

static int64_t
read_fraction_us(struct reader *r)
{
    int64_t us = 0;
    int count = 0;
    if (!accept(r, '.'))
        return 0;
    for (; *r->p >= '0' && *r->p <= '9'; r->p++, count++)
        us = count < 6 ? us * 10 + (*r->p - '0') : us;
    if (count == 0)
        r->wrong = true;
    for (; count < 6; count++)
        us *= 10;
    return us;
}

/* Seconds can be 60 only where a leap second was announced: refused, PostgreSQL has none. */
static int64_t
read_clock_us(struct reader *r)
{
    int hour = digits(r, 2);
    expect(r, ':');
    int minute = digits(r, 2);
    expect(r, ':');
    int second = digits(r, 2);
    if (hour > 23 || minute > 59 || second > 59)
        r->wrong = true;
    return ((hour * 60 + minute) * 60 + second) * US_PER_S + read_fraction_us(r);
}

static int64_t
read_offset_s(struct reader *r)
{
    int sign = 0;
    if (accept(r, 'Z') || accept(r, 'z') || *r->p == '\0')
        return 0;
    if (accept(r, '+'))
        sign = 1;
    else if (accept(r, '-'))
        sign = -1;
    else
        r->wrong = true;
    int hours = digits(r, 2);
    int minutes = accept(r, ':') || *r->p != '\0' ? digits(r, 2) : 0;
    if (hours > 15 || minutes > 59)
        r->wrong = true;
    return sign * (hours * 3600 + minutes * 60);
}

int
time_parse(const char *text, pgs_time *time, struct pgs_err *err)
{
    struct reader r = { .p = text };
    int64_t days = read_date(&r);
    if (!accept(&r, 'T') && !accept(&r, 't'))
        expect(&r, ' ');
    int64_t us = read_clock_us(&r);
    while (accept(&r, ' '))
        continue;
    int64_t offset_s = r.wrong ? 0 : read_offset_s(&r);
    if (r.wrong || *r.p != '\0') {
        (void)err_set(err, PGS_E_USAGE, "\"%.60s\" is no time", text);
        return err_hint(err, "write it as 2026-01-15T10:30:00Z or '2026-01-15 10:30:00+01'");
    }
    *time = ((days - DAYS_TO_2000) * S_PER_DAY - offset_s) * US_PER_S + us;
    return 0;
}

/* Date and clock without fraction. The microseconds left over go to *fraction_us. */
static int
put_seconds(pgs_time time, char text[TIME_TEXT_MAX], int *fraction_us)
{
    int64_t us_per_day = S_PER_DAY * US_PER_S;
    int64_t days = time / us_per_day, us = time % us_per_day;
    if (us < 0) {
        us += us_per_day;
        days--;
    }
    struct calendar_date date = calendar_date(days + DAYS_TO_2000);
    int seconds = (int)(us / US_PER_S);
    *fraction_us = (int)(us % US_PER_S);
    return snprintf(text, TIME_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d", (int)date.year,
                    date.month, date.day, seconds / 3600, seconds / 60 % 60, seconds % 60);
}

const char *
time_format(pgs_time time, char text[TIME_TEXT_MAX])
{
    int fraction_us;
    int size = put_seconds(time, text, &fraction_us);
    if (fraction_us != 0)
        size += snprintf(text + size, (size_t)(TIME_TEXT_MAX - size), ".%06d", fraction_us);
    snprintf(text + size, (size_t)(TIME_TEXT_MAX - size), "Z");
    return text;
}

const char *
time_format_ms(pgs_time time, char text[TIME_TEXT_MAX])
{
    int fraction_us;
    int size = put_seconds(time, text, &fraction_us);
    snprintf(text + size, (size_t)(TIME_TEXT_MAX - size), ".%03dZ", fraction_us / 1000);
    return text;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static uint32_t
read_hex32(struct reader *r)
{
    uint32_t v = 0;
    int count = 0;
    for (; hex_value(*r->p) >= 0 && count <= 8; r->p++, count++)
        v = v << 4 | (uint32_t)hex_value(*r->p);
    if (count < 1 || count > 8)
        r->wrong = true;
    return v;
}

int
lsn_parse(const char *text, pgs_lsn *lsn, struct pgs_err *err)
{
    struct reader r = { .p = text };
    uint64_t high = read_hex32(&r);
    expect(&r, '/');
    uint64_t low = r.wrong ? 0 : read_hex32(&r);
    if (r.wrong || *r.p != '\0') {
        (void)err_set(err, PGS_E_USAGE, "\"%.60s\" is no LSN", text);
        return err_hint(err, "write it as PostgreSQL does: 16/B374D848");
    }
    *lsn = high << 32 | low;
    return 0;
}

const char *
lsn_format(pgs_lsn lsn, char text[LSN_TEXT_MAX])
{
    snprintf(text, LSN_TEXT_MAX, PGS_LSN_FMT, PGS_LSN_ARGS(lsn));
    return text;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* A whole number and a unit of the table (first without a name: what a bare number means). */
static bool
read_number_unit(const char *text, const struct unit *units, size_t count, uint64_t *value)
{
    uint64_t v = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    }
    if (p == text)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(p, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(v, units[i].factor, &v))
            return false;
        *value = v;
        return true;
    }
    return false;
}

int
duration_parse(const char *text, int64_t *milliseconds, struct pgs_err *err)
{
    static const struct unit units[] = { { "", 1000 },     { "ms", 1 },      { "s", 1000 },
                                         { "m", 60000 },   { "min", 60000 }, { "h", 3600000 },
                                         { "d", 86400000 } };
    uint64_t v;
    /* A thousand years: far from where sums of deadlines could overflow. */
    const uint64_t max = UINT64_C(1000) * 365 * 86400000;
    if (!read_number_unit(text, units, sizeof(units) / sizeof(units[0]), &v) || v > max) {
        (void)err_set(err, PGS_E_USAGE, "\"%.60s\" is no duration", text);
        return err_hint(err, "write it as 200ms, 5s, 2m, 1h or 7d");
    }
    *milliseconds = (int64_t)v;
    return 0;
}

int
size_parse(const char *text, uint64_t *bytes, struct pgs_err *err)
{
    static const struct unit units[] = { { "", 1 },
                                         { "B", 1 },
                                         { "kB", 1000 },
                                         { "KB", 1000 },
                                         { "MB", 1000000 },
                                         { "GB", 1000000000 },
                                         { "TB", UINT64_C(1000000000000) },
                                         { "KiB", 1 << 10 },
                                         { "MiB", 1 << 20 },
                                         { "GiB", 1 << 30 },
                                         { "TiB", UINT64_C(1) << 40 } };
    if (!read_number_unit(text, units, sizeof(units) / sizeof(units[0]), bytes)) {
        (void)err_set(err, PGS_E_USAGE, "\"%.60s\" is no size", text);
        return err_hint(err, "write it as 256MiB, 1GiB or 64MB");
    }
    return 0;
}

const char *
size_format(uint64_t bytes, char text[24])
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    size_t unit = 0;
    while (v >= (unit == 0 ? 1024 : 1023.95) && unit + 1 < sizeof(names) / sizeof(names[0])) {
        v /= 1024;
        unit++;
    }
    snprintf(text, 24, unit == 0 ? "%.0f %s" : "%.1f %s", v, names[unit]);
    return text;
}

pgs_time
time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((int64_t)t.tv_sec - PGS_EPOCH_UNIX_S) * US_PER_S + t.tv_nsec / 1000;
}

int64_t
clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}
