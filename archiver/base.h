/* base.h: one base of several tables under way, for base.c, base_slot.c and base_copy.c.
 *
 *     base_slot_open -> base_workers_open -> base_slot_close -> base_copy -> base_workers_close */
#ifndef ARCHIVER_BASE_H
#define ARCHIVER_BASE_H

#include "archiver/internal.h"

#define BASE_WORKERS_MAX 32

struct base {
    struct archiver *a;
    struct arena *arena;   /* guarded by mutex while workers run */
    struct base_done done; /* lists guarded by mutex while workers run */
    struct pg_conn *slot;  /* its snapshot lives until the next command on it */
    char snapshot[64];
    struct pg_conn *workers[BASE_WORKERS_MAX]; /* each in a transaction under the snapshot */
    unsigned worker_count;
    size_t rewritten_count; /* tables left out since the snapshot cannot show them any more */
    pthread_mutex_t mutex;  /* guards what follows, too */
    struct base_unit *units;
    size_t unit_count, next_unit;
    bool failed;
    struct pgs_err failure;
};

/* Makes the temporary slot: b->done.lsn and the snapshot. Waits for open transactions, names them
 * after a while, gives up in the end. */
PGS_CHECKED int base_slot_open(struct base *b, struct pgs_err *err);
void base_slot_close(struct base *b);

/* Connections that hold the snapshot; the catalog as it shows it, in b->arena. */
PGS_CHECKED int base_workers_open(struct base *b, struct catalog *catalog, struct pgs_err *err);
void base_workers_close(struct base *b);
/* Copies b->done.tables into segments. What was written before a failure is in b->done.segments. */
PGS_CHECKED int base_copy(struct base *b, struct pgs_err *err);

#endif
