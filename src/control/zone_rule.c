#include "control/zone_rule.h"

#include "core/calendar.h"
#include "core/cursor.h"

#define S_PER_DAY INT64_C(86400)
/* Hours of an offset and, by RFC 8536, of a clock: a week but one hour. */
#define OFFSET_HOURS_MAX 24
#define CLOCK_HOURS_MAX 167

/* --- the text --- */

static int
peek(const struct cursor *c)
{
    return cursor_left(c) > 0 ? *c->next : -1;
}

static bool
accept(struct cursor *c, char wanted)
{
    if (peek(c) != wanted)
        return false;
    (void)cursor_u8(c);
    return true;
}

static void
expect(struct cursor *c, char wanted)
{
    if (!accept(c, wanted))
        c->failed = true;
}

static int
read_number(struct cursor *c, int min, int max)
{
    int v = 0, count = 0;
    for (; peek(c) >= '0' && peek(c) <= '9' && count < 4; count++)
        v = v * 10 + (cursor_u8(c) - '0');
    if (count == 0 || v < min || v > max)
        c->failed = true;
    return v;
}

/* [+-]hh[:mm[:ss]] */
static int32_t
read_clock(struct cursor *c, int hours_max)
{
    int sign = accept(c, '-') ? -1 : 1;
    if (sign == 1)
        (void)accept(c, '+');
    int32_t seconds = read_number(c, 0, hours_max) * 3600;
    if (accept(c, ':'))
        seconds += read_number(c, 0, 59) * 60;
    if (accept(c, ':'))
        seconds += read_number(c, 0, 59);
    return sign * seconds;
}

static bool
is_letter(int ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

/* Three letters or more, or anything between < and >. What it says is of no use here. */
static void
skip_name(struct cursor *c)
{
    int count = 0;
    if (accept(c, '<')) {
        while (peek(c) >= 0 && peek(c) != '>')
            (void)cursor_u8(c);
        expect(c, '>');
        return;
    }
    for (; is_letter(peek(c)); count++)
        (void)cursor_u8(c);
    if (count < 3)
        c->failed = true;
}

static struct zone_day
read_day(struct cursor *c)
{
    struct zone_day day = { .kind = ZONE_DAY_OF_YEAR, .clock_s = 2 * 3600 };
    if (accept(c, 'M')) {
        day.kind = ZONE_DAY_WEEKDAY_OF_MONTH;
        day.month = read_number(c, 1, 12);
        expect(c, '.');
        day.week = read_number(c, 1, 5);
        expect(c, '.');
        day.day = read_number(c, 0, 6);
    } else if (accept(c, 'J')) {
        day.kind = ZONE_DAY_WITHOUT_LEAP;
        day.day = read_number(c, 1, 365);
    } else {
        day.day = read_number(c, 0, 365);
    }
    if (accept(c, '/'))
        day.clock_s = read_clock(c, CLOCK_HOURS_MAX);
    return day;
}

bool
zone_rule_parse(struct slice text, struct zone_rule *rule)
{
    struct cursor c = cursor_of(text);
    struct zone_rule r = { 0 };
    skip_name(&c);
    r.standard_s = -read_clock(&c, OFFSET_HOURS_MAX);
    r.has_summer = cursor_left(&c) > 0;
    if (r.has_summer) {
        skip_name(&c);
        r.summer_s = r.standard_s + 3600;
        if (peek(&c) != ',')
            r.summer_s = -read_clock(&c, OFFSET_HOURS_MAX);
        expect(&c, ',');
        r.summer_begin = read_day(&c);
        expect(&c, ',');
        r.summer_end = read_day(&c);
    }
    if (!cursor_at_end(&c))
        return false;
    *rule = r;
    return true;
}

/* --- the years --- */

static int64_t
day_in_year(const struct zone_day *day, int64_t year)
{
    int64_t new_year = calendar_days((struct calendar_date){ year, 1, 1 });
    if (day->kind == ZONE_DAY_OF_YEAR)
        return new_year + day->day;
    if (day->kind == ZONE_DAY_WITHOUT_LEAP)
        return new_year + day->day - 1 + (calendar_is_leap(year) && day->day >= 60 ? 1 : 0);
    int64_t first = calendar_days((struct calendar_date){ year, day->month, 1 });
    int64_t found = first + (day->day - calendar_weekday(first) + 7) % 7 + (day->week - 1) * 7;
    return found < first + calendar_days_in_month(year, day->month) ? found : found - 7;
}

struct change {
    int64_t at;
    int32_t offset_s; /* from then on */
};

/* Years around the one asked for: a clock of 167 hours carries a change a week past its year. */
#define YEARS_AROUND 2
#define CHANGES_COUNT (2 * (2 * YEARS_AROUND + 1))

/* Stable: where one year's summer ends as the next one's begins (summer all year), the later year's
 * word is the last. */
static void
sort_changes(struct change changes[CHANGES_COUNT])
{
    for (int i = 1; i < CHANGES_COUNT; i++) {
        struct change moved = changes[i];
        int j = i;
        for (; j > 0 && changes[j - 1].at > moved.at; j--)
            changes[j] = changes[j - 1];
        changes[j] = moved;
    }
}

struct zone_span
zone_rule_span_at(const struct zone_rule *rule, int64_t t)
{
    struct zone_span span = { INT64_MIN, INT64_MAX, rule->standard_s };
    struct change changes[CHANGES_COUNT];
    if (!rule->has_summer)
        return span;
    int64_t days = t / S_PER_DAY - (t % S_PER_DAY < 0 ? 1 : 0);
    int64_t year = calendar_date(days).year - YEARS_AROUND;
    for (int i = 0; i < CHANGES_COUNT; i += 2, year++) {
        int64_t begin = day_in_year(&rule->summer_begin, year) * S_PER_DAY;
        int64_t end = day_in_year(&rule->summer_end, year) * S_PER_DAY;
        changes[i].at = begin + rule->summer_begin.clock_s - rule->standard_s;
        changes[i].offset_s = rule->summer_s;
        changes[i + 1].at = end + rule->summer_end.clock_s - rule->summer_s;
        changes[i + 1].offset_s = rule->standard_s;
    }
    sort_changes(changes);
    for (int i = 0; i < CHANGES_COUNT; i++) {
        if (changes[i].at > t) {
            span.end_s = changes[i].at;
            break;
        }
        span.begin_s = changes[i].at;
        span.offset_s = changes[i].offset_s;
    }
    return span;
}
