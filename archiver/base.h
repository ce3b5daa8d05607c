/* base.h: one base of several tables under way, for base.c, base_slot.c and base_copy.c.
 *
 *     base_connect -> base_slot_open -> base_join -> base_slot_close -> base_copy -> base_close
 *
 * From the slot's consistent point to the reading of a table every moment counts: a TRUNCATE in
 * between is not to be seen under the snapshot. So connections are opened before. */
#ifndef ARCHIVER_BASE_H
#define ARCHIVER_BASE_H

#include "archiver/internal.h"

#define BASE_WORKERS_MAX 32

struct base {
    struct archiver *a;
    struct arena *arena;   /* guarded by mutex while workers run */
    struct catalog known;  /* the catalog before the snapshot: names to lock by */
    struct base_done done; /* lists guarded by mutex while workers run */
    struct pg_conn *slot;  /* its snapshot lives until the next command on it */
    char snapshot[64];
    struct pg_conn *workers[BASE_WORKERS_MAX]; /* each in a transaction under the snapshot */
    unsigned worker_count;
    pthread_mutex_t mutex; /* guards what follows, too */
    struct base_unit *units;
    size_t unit_count, next_unit;
    bool failed;
    struct pgs_err failure;
};

/* Connections for the workers. */
PGS_CHECKED int base_connect(struct base *b, struct pgs_err *err);
/* Makes the temporary slot: b->done.lsn and the snapshot. Waits for open transactions, names them
 * after a while, gives up in the end. */
PGS_CHECKED int base_slot_open(struct base *b, struct pgs_err *err);
void base_slot_close(struct base *b);
/* The workers take the snapshot; the catalog as it shows it, in b->arena. Tables named by oid are
 * locked against TRUNCATE and DDL at once, until base_close: for those that were left
 * out before. */
PGS_CHECKED int base_join(struct base *b, const uint32_t *oids, size_t count,
                          struct catalog *catalog, struct pgs_err *err);
/* Copies b->done.tables into segments. What was written before a failure is in b->done.segments. */
PGS_CHECKED int base_copy(struct base *b, struct pgs_err *err);
/* Ends all connections, and with them snapshot and locks. */
void base_close(struct base *b);

#endif
