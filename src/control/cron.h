/* cron.h: when a schedule fires: five fields, as in crontab(5), in a time zone.
 *
 *     minute  hour  day of month  month    day of week
 *     0-59    0-23  1-31          1-12     0-7, 0 and 7 are Sunday
 *                                 jan-dec  sun-sat
 *
 * A field is a list of: "*"; a value; a range "a-b"; each with a step "/n" ("a/n" is a to the end).
 * Also @yearly (@annually), @monthly, @weekly, @daily (@midnight), @hourly.
 *
 * Both day fields set (not "*"): a day of either fires. Where the clock changes
 * (docs/decisions/0010):
 *   skipped   a time that the day does not have fires once, at the first instant behind the gap
 *   repeated  an hour field of fixed hours fires at the first of the two; one that begins with "*"
 *             at both
 *
 * Pure and thread-safe; a struct cron is a plain value. */
#ifndef CONTROL_CRON_H
#define CONTROL_CRON_H

#include "control/zone.h"

/* What the column schedule_cron of the catalog takes. */
#define CRON_TEXT_MAX 100

/* Bit n: value n. */
struct cron {
    uint64_t minutes;
    uint32_t hours;
    uint32_t days;
    uint16_t months;
    uint8_t weekdays;
    bool every_hour;   /* the hour field begins with "*" */
    bool days_are_set; /* not "*" */
    bool weekdays_are_set;
};

/* PGS_E_USAGE names the field and what is wrong with it. Also refused: what can never fire, as
 * February 30. */
PGS_CHECKED int cron_parse(const char *text, struct cron *cron, struct pgs_err *err);
/* The first firing behind `after`. PGS_NONE: the years that can be counted end before it. */
PGS_CHECKED int cron_next(const struct cron *cron, const struct zone *zone, pgs_time after,
                          pgs_time *next);
/* The last firing at or before `at`: what was missed, if it is behind the last run. */
PGS_CHECKED int cron_prev(const struct cron *cron, const struct zone *zone, pgs_time at,
                          pgs_time *prev);

#endif
