/* timefmt.h: times and LSNs as text (DESIGN 6), clocks. Pure, thread-safe. */
#ifndef CORE_TIMEFMT_H
#define CORE_TIMEFMT_H

#include <pgstrata/error.h>

#define TIME_TEXT_MAX 40
#define LSN_TEXT_MAX 20

/* RFC 3339 with an offset, or `YYYY-MM-DD HH:MM:SS[.ffffff][+TZ]` (T or space, Z or +HH[:MM] or
 * +HHMM); without an offset UTC. Rejects impossible dates. PGS_E_USAGE. */
PGS_CHECKED int time_parse(const char *text, pgs_time *time, struct pgs_err *err);
/* "2026-11-23T16:20:00.123456Z" (no fraction when it is zero). Returns text. */
const char *time_format(pgs_time time, char text[TIME_TEXT_MAX]);
/* "2026-11-23T16:20:00.123Z", always with three digits: for lines below each other. */
const char *time_format_ms(pgs_time time, char text[TIME_TEXT_MAX]);
/* "16/B374D848": 1 to 8 hex digits, slash, 1 to 8 hex digits. PGS_E_USAGE. */
PGS_CHECKED int lsn_parse(const char *text, pgs_lsn *lsn, struct pgs_err *err);
const char *lsn_format(pgs_lsn lsn, char text[LSN_TEXT_MAX]);
/* "5s", "200ms", "2m", "1h", "7d"; a bare number is seconds. PGS_E_USAGE. */
PGS_CHECKED int duration_parse(const char *text, int64_t *milliseconds, struct pgs_err *err);
/* "256MiB", "64MB" (10^6), "1GiB", "100kB", bare bytes. PGS_E_USAGE. */
PGS_CHECKED int size_parse(const char *text, uint64_t *bytes, struct pgs_err *err);
/* "1.4 MiB". Returns text. */
const char *size_format(uint64_t bytes, char text[24]);
/* Wall clock now, in PostgreSQL's epoch. */
pgs_time time_now(void);
/* Monotonic microseconds, for durations and deadlines. */
int64_t clock_us(void);

#endif
