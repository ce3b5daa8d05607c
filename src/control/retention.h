/* retention.h: which of a tenant's backups may go.
 *
 * Decides, touches nothing: the caller reads the catalog, asks, shows the verdicts (--dry-run) or
 * deletes in the order given. Pure and thread-safe.
 *
 * A backup is *good* when it and all it stands on are completed and not known to be damaged. Never
 * deleted, whatever the policy says:
 *   busy      pending or running: it belongs to a job
 *   held      under legal hold
 *   last      the last good ones: as many as the policy's keep_last, at least one. Only whole ones
 *             count (a newer backup of one table is no reason to drop the last of all tables),
 *             unless no whole one is good
 *   needed    a backup that is kept stands on it, directly or not
 *
 * All others go when they are due: older than the policy allows, or past their own expiry. */
#ifndef CONTROL_RETENTION_H
#define CONTROL_RETENTION_H

#include "core/arena.h"
#include <pgstrata/error.h>

/* The catalog's status column (DESIGN 10). */
enum backup_status {
    BACKUP_PENDING,
    BACKUP_RUNNING,
    BACKUP_COMPLETED,
    BACKUP_FAILED,
    BACKUP_CANCELLED,
    BACKUP_EXPIRED, /* deleted; its row is history */
};

struct retention_backup {
    const char *id;
    const char *parent; /* what an incremental or differential one stands on; NULL: a full one */
    enum backup_status status;
    pgs_time time;    /* the moment it holds */
    pgs_time expires; /* PGS_TIME_NONE: by the policy alone */
    uint64_t size;
    bool whole;   /* schema and data of every table */
    bool held;    /* legal hold, on it or its tenant */
    bool damaged; /* a validation found it so */
};

struct retention_policy {
    pgs_time now;
    int64_t days;     /* older ones are due; negative: age alone is no reason */
    bool by_expiry;   /* those past their own expiry are due too */
    size_t keep_last; /* 0 counts as 1 */
};

enum retention_reason {
    RETENTION_DELETE,
    RETENTION_KEEP_BUSY,
    RETENTION_KEEP_HELD,
    RETENTION_KEEP_LAST,
    RETENTION_KEEP_NOT_DUE,
    RETENTION_KEEP_NEEDED,
    RETENTION_GONE, /* expired before: nothing is left to decide */
};

struct retention_verdict {
    enum retention_reason reason;
    size_t needed_by; /* RETENTION_KEEP_NEEDED: index of a kept backup that stands on it */
};

struct retention_plan {
    struct retention_verdict *verdicts; /* one a backup, in the order given */
    size_t *deletions;                  /* indexes: what stands on another before that, so that */
    size_t deletions_count;             /* one that ends in the middle leaves no orphan */
    uint64_t deletions_bytes;
};

/* One tenant's backups, in any order. The plan is in `arena`. PGS_E_CORRUPT: two have one id. */
PGS_CHECKED int retention_decide(const struct retention_backup *backups, size_t count,
                                 const struct retention_policy *policy, struct arena *arena,
                                 struct retention_plan *plan, struct pgs_err *err);
/* "delete", "busy", "held", "last good", "not due", "needed", "gone": for people and JSON. */
const char *retention_reason_name(enum retention_reason reason);

#endif
