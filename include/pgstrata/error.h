/* error.h: how every call of pgstrata reports failure.
 *
 * A call that can fail returns int and takes a struct pgs_err last. Negative: it failed, and *err
 * says what and what to do about it. 0: done. PGS_NONE: an ordinary "not there" or "no more", no
 * failure. Out parameters change on success only. The caller owns the struct; it needs no
 * release. */
#ifndef PGSTRATA_ERROR_H
#define PGSTRATA_ERROR_H

#include <pgstrata/types.h>

#define PGS_CHECKED __attribute__((warn_unused_result))

/* An ordinary "no more", "not there" or, where the call says so, "already there". */
#define PGS_NONE 1

/* Kinds are few, since each decides something: exit code, HTTP status, whether a retry can help.
 * The table is in core/err.c. */
enum pgs_kind {
    PGS_E_FAILED = -1,       /* anything else; exit 1 */
    PGS_E_USAGE = -2,        /* the caller asked wrongly; exit 2 */
    PGS_E_NOT_FOUND = -3,    /* a named thing is absent; exit 3 */
    PGS_E_REFUSED = -4,      /* doing it would be unsafe or inexact; exit 4 */
    PGS_E_CONFLICT = -5,     /* the world changed meanwhile; exit 5 */
    PGS_E_STORE = -6,        /* the object store failed; exit 1, a retry can help */
    PGS_E_DATABASE = -7,     /* PostgreSQL failed or is unreachable; exit 1, a retry can help */
    PGS_E_CORRUPT = -8,      /* bytes from disk or wire are not what they must be; exit 1 */
    PGS_E_FENCED = -9,       /* another writer owns the archive's log; exit 1, never retry */
    PGS_E_NOT_RUNNING = -10, /* the archiver did not answer in time; exit 1 */
    PGS_E_CANCELLED = -11,   /* a signal or a deadline ended it; exit 1 */
};

#define PGS_ERR_MESSAGE_MAX 1024
#define PGS_ERR_HINT_MAX 512
#define PGS_ERR_CODE_MAX 48

struct pgs_err {
    enum pgs_kind kind;
    char code[PGS_ERR_CODE_MAX];       /* stable word for programs, as "outside_coverage" */
    char message[PGS_ERR_MESSAGE_MAX]; /* lower-case, no full stop: what failed on what */
    char hint[PGS_ERR_HINT_MAX];       /* what the operator can do; may be empty */
    char sqlstate[6];                  /* PGS_E_DATABASE: PostgreSQL's code; else empty */
    /* PGS_E_REFUSED outside coverage: the nearest moments that can be answered. */
    struct pgs_moment nearest_before;
    struct pgs_moment nearest_after;
};

#endif
