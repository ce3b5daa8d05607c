/* blockers.h: whom a base waits for. Its temporary slot becomes consistent when the transactions
 * that were open have ended (DESIGN 4.3); one that stays open is named, in the log and by
 * `status`. */
#ifndef PG_BLOCKERS_H
#define PG_BLOCKERS_H

#include "core/arena.h"
#include "pg/conn.h"

/* Slots of bases are named with this and what makes them unique. */
#define BASE_SLOT_PREFIX "pgstrata_base_"

struct blocker {
    int pid;                        /* 0: a prepared transaction */
    struct slice application, user; /* empty where this role may not see them */
    int64_t open_s;                 /* how long the transaction has been open; -1: not known */
};

/* Those that bases in this database wait for now, into `arena`; usually none. */
PGS_CHECKED int blockers_read(struct pg_conn *c, struct arena *arena, struct blocker **blockers,
                              size_t *count, struct pgs_err *err);
/* "process 42 (psql, user ana, open for 120 s)" */
void blocker_print(struct buf *out, const struct blocker *b);

#endif
