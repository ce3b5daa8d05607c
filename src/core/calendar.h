/* calendar.h: dates as counted days, in the proleptic Gregorian calendar. Pure, thread-safe. */
#ifndef CORE_CALENDAR_H
#define CORE_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

struct calendar_date {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
};

bool calendar_is_leap(int64_t year);
int calendar_days_in_month(int64_t year, int month);
/* Days since 1970-01-01; negative before. */
int64_t calendar_days(struct calendar_date date);
/* The inverse of calendar_days. */
struct calendar_date calendar_date(int64_t days);
/* 0 is Sunday, 6 Saturday. */
int calendar_weekday(int64_t days);

#endif
