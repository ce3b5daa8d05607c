/* zone_rule.h: the rule in the footer of a TZif file, as POSIX writes it in TZ with the additions
 * of RFC 8536: "CET-1CEST,M3.5.0,M10.5.0/3". Pure. */
#ifndef CONTROL_ZONE_RULE_H
#define CONTROL_ZONE_RULE_H

#include "control/zone.h"

enum zone_day_kind {
    ZONE_DAY_OF_YEAR,         /* n: 0 to 365, February 29 counts */
    ZONE_DAY_WITHOUT_LEAP,    /* Jn: 1 to 365, February 29 never counts */
    ZONE_DAY_WEEKDAY_OF_MONTH /* Mm.w.d: d 0 is Sunday, w 5 is the last */
};

struct zone_day {
    enum zone_day_kind kind;
    int day, week, month;
    int32_t clock_s; /* local, may be negative or beyond the day */
};

struct zone_rule {
    bool has_summer;
    int32_t standard_s, summer_s; /* offsets, positive is east: the opposite of the text's sign */
    struct zone_day summer_begin, summer_end;
};

/* false: it is no such rule. */
bool zone_rule_parse(struct slice text, struct zone_rule *rule);
struct zone_span zone_rule_span_at(const struct zone_rule *rule, int64_t t);

#endif
