/* types.h: the few scalars that every part of pgstrata shares. */
#ifndef PGSTRATA_TYPES_H
#define PGSTRATA_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A WAL position of PostgreSQL. 0 is "no position": PostgreSQL never uses it. */
typedef uint64_t pgs_lsn;

/* LSN in PostgreSQL's notation: printf("at " PGS_LSN_FMT, PGS_LSN_ARGS(lsn)). */
#define PGS_LSN_FMT "%X/%X"
#define PGS_LSN_ARGS(lsn) (uint32_t)((lsn) >> 32), (uint32_t)(lsn)

/* Microseconds since 2000-01-01 00:00:00 UTC, PostgreSQL's epoch, as in the replication
 * protocol. */
typedef int64_t pgs_time;

/* "No time": before every time PostgreSQL can represent. */
#define PGS_TIME_NONE INT64_MIN

/* Seconds between the epochs of Unix (1970-01-01) and PostgreSQL (2000-01-01): 10957 days. */
#define PGS_EPOCH_UNIX_S INT64_C(946684800)

/* A half-open range of WAL: begin <= x < end. */
struct pgs_lsn_range {
    pgs_lsn begin;
    pgs_lsn end;
};

/* A place in history, as answers show it. lsn == 0: there is none. */
struct pgs_moment {
    pgs_lsn lsn;
    pgs_time time; /* PGS_TIME_NONE: not known */
    uint64_t xid;  /* 64-bit; 0: not known */
};

#define PGS_MOMENT_NONE       \
    (struct pgs_moment)       \
    {                         \
        .time = PGS_TIME_NONE \
    }

#endif
