#include "control/cron.h"

#include "core/calendar.h"

/* How a firing is found:
 *  1. Time is walked span by span of the zone: in a span local time is UTC plus a constant, so the
 *     fields can be looked up in local time, day by day, then by bits.
 *  2. Where a span begins, local time may jump ahead: a match in what was skipped fires there.
 *  3. A match in what an earlier span had already is dropped, if the hours are fixed. */

#define US_PER_S INT64_C(1000000)
#define S_PER_MINUTE INT64_C(60)
#define S_PER_DAY INT64_C(86400)
/* The rarest schedule is February 29, eight years apart around 1900 and 2100. */
#define SEARCH_S (9 * 366 * S_PER_DAY)
/* Local times farther apart than this cannot be the same one shown twice. */
#define REPEAT_S ((int64_t)(ZONE_OFFSET_MAX_S)-ZONE_OFFSET_MIN_S)
#define MINUTES_PER_HOUR 60
#define NO_MATCH INT64_MIN

static int64_t
floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

static int64_t
ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b > 0 ? 1 : 0);
}

static bool
day_matches(const struct cron *cron, int64_t days)
{
    struct calendar_date date = calendar_date(days);
    bool day = (cron->days >> date.day & 1) != 0;
    bool weekday = (cron->weekdays >> calendar_weekday(days) & 1) != 0;
    if ((cron->months >> date.month & 1) == 0)
        return false;
    return cron->days_are_set && cron->weekdays_are_set ? day || weekday : day && weekday;
}

/* The first minute of a day that matches, from `minute` on; -1: none. */
static int
minute_next(const struct cron *cron, int minute)
{
    for (int hour = minute / MINUTES_PER_HOUR; hour < 24; hour++) {
        int from = hour == minute / MINUTES_PER_HOUR ? minute % MINUTES_PER_HOUR : 0;
        uint64_t left = cron->minutes >> from;
        if ((cron->hours >> hour & 1) != 0 && left != 0)
            return hour * MINUTES_PER_HOUR + from + __builtin_ctzll(left);
    }
    return -1;
}

/* The last one up to `minute`; -1: none. */
static int
minute_prev(const struct cron *cron, int minute)
{
    for (int hour = minute / MINUTES_PER_HOUR; hour >= 0; hour--) {
        int upto = hour == minute / MINUTES_PER_HOUR ? minute % MINUTES_PER_HOUR : 59;
        uint64_t left = cron->minutes & ((UINT64_C(2) << upto) - 1);
        if ((cron->hours >> hour & 1) != 0 && left != 0)
            return hour * MINUTES_PER_HOUR + 63 - __builtin_clzll(left);
    }
    return -1;
}

/* A range of local seconds, half-open. */
struct local_range {
    int64_t begin, end;
};

static int64_t
local_first(const struct cron *cron, struct local_range range)
{
    int64_t minute = ceil_div(range.begin, S_PER_MINUTE);
    int64_t day = floor_div(minute, S_PER_DAY / S_PER_MINUTE);
    int from = (int)(minute - day * (S_PER_DAY / S_PER_MINUTE));
    for (; day * S_PER_DAY < range.end; day++, from = 0) {
        int found = day_matches(cron, day) ? minute_next(cron, from) : -1;
        int64_t local = day * S_PER_DAY + found * S_PER_MINUTE;
        if (found >= 0)
            return local < range.end ? local : NO_MATCH;
    }
    return NO_MATCH;
}

static int64_t
local_last(const struct cron *cron, struct local_range range)
{
    int64_t minute = floor_div(range.end - 1, S_PER_MINUTE);
    int64_t day = floor_div(minute, S_PER_DAY / S_PER_MINUTE);
    int upto = (int)(minute - day * (S_PER_DAY / S_PER_MINUTE));
    for (; (day + 1) * S_PER_DAY > range.begin; day--, upto = S_PER_DAY / S_PER_MINUTE - 1) {
        int found = day_matches(cron, day) ? minute_prev(cron, upto) : -1;
        int64_t local = day * S_PER_DAY + found * S_PER_MINUTE;
        if (found >= 0)
            return local >= range.begin ? local : NO_MATCH;
    }
    return NO_MATCH;
}

/* Whether clocks showed `local` before, in a span that ended a little before `span`. */
static bool
was_shown_before(const struct zone *zone, struct zone_span span, int64_t local)
{
    int64_t t = local - span.offset_s;
    while (span.begin_s != INT64_MIN && span.begin_s > t - REPEAT_S) {
        span = zone_span_at(zone, span.begin_s - 1);
        bool begun = span.begin_s == INT64_MIN || span.begin_s + span.offset_s <= local;
        if (begun && local < span.end_s + span.offset_s)
            return true;
    }
    return false;
}

/* Whether a firing falls into the local times that were skipped where `span` begins. */
static bool
gap_matches(const struct cron *cron, const struct zone *zone, struct zone_span span)
{
    struct zone_span before = zone_span_at(zone, span.begin_s - 1);
    struct local_range gap = { span.begin_s + before.offset_s, span.begin_s + span.offset_s };
    return gap.begin < gap.end && local_first(cron, gap) != NO_MATCH;
}

/* The first firing of the span that is at or behind t, and before limit. */
static int64_t
span_first(const struct cron *cron, const struct zone *zone, struct zone_span span, int64_t t,
           int64_t limit)
{
    if (span.begin_s >= t && gap_matches(cron, zone, span))
        return span.begin_s;
    int64_t end = span.end_s < limit ? span.end_s : limit;
    struct local_range range = { (span.begin_s > t ? span.begin_s : t) + span.offset_s,
                                 end + span.offset_s };
    int64_t local = local_first(cron, range);
    while (local != NO_MATCH && !cron->every_hour && was_shown_before(zone, span, local)) {
        range.begin = local + 1;
        local = local_first(cron, range);
    }
    return local == NO_MATCH ? NO_MATCH : local - span.offset_s;
}

/* The last firing of the span that is at or before t, and at or behind limit. */
static int64_t
span_last(const struct cron *cron, const struct zone *zone, struct zone_span span, int64_t t,
          int64_t limit)
{
    bool whole = span.begin_s >= limit;
    int64_t end = span.end_s <= t ? span.end_s : t + 1;
    struct local_range range = { (whole ? span.begin_s : limit) + span.offset_s,
                                 end + span.offset_s };
    int64_t local = local_last(cron, range);
    while (local != NO_MATCH && !cron->every_hour && was_shown_before(zone, span, local)) {
        range.end = local;
        local = local_last(cron, range);
    }
    if (local != NO_MATCH)
        return local - span.offset_s;
    return whole && gap_matches(cron, zone, span) ? span.begin_s : NO_MATCH;
}

static pgs_time
time_of(int64_t unix_s)
{
    return (unix_s - PGS_EPOCH_UNIX_S) * US_PER_S;
}

int
cron_next(const struct cron *cron, const struct zone *zone, pgs_time after, pgs_time *next)
{
    int64_t t = floor_div(after, US_PER_S) + 1 + PGS_EPOCH_UNIX_S;
    int64_t limit = t + SEARCH_S;
    if (limit > INT64_MAX / US_PER_S)
        return PGS_NONE;
    while (t < limit) {
        struct zone_span span = zone_span_at(zone, t);
        int64_t found = span_first(cron, zone, span, t, limit);
        if (found != NO_MATCH) {
            *next = time_of(found);
            return 0;
        }
        t = span.end_s;
    }
    return PGS_NONE;
}

int
cron_prev(const struct cron *cron, const struct zone *zone, pgs_time at, pgs_time *prev)
{
    int64_t t = floor_div(at, US_PER_S) + PGS_EPOCH_UNIX_S;
    int64_t limit = t - SEARCH_S;
    if (limit < INT64_MIN / US_PER_S + PGS_EPOCH_UNIX_S)
        return PGS_NONE;
    while (t >= limit) {
        struct zone_span span = zone_span_at(zone, t);
        int64_t found = span_last(cron, zone, span, t, limit);
        if (found != NO_MATCH) {
            *prev = time_of(found);
            return 0;
        }
        if (span.begin_s == INT64_MIN)
            break;
        t = span.begin_s - 1;
    }
    return PGS_NONE;
}
