/* archiver.h: from the slot to the archive. The journey of one change:
 *
 *   1. slot       the slot thread reads the replication connection into chunks of messages, keeps
 *                 the status clock, never waits for storage        (archiver/slot.c)
 *   2. builder    decodes pgoutput, follows schema, routes each change to its tenant, collects
 *                 versions in a batch's arena                      (archiver/builder.c)
 *   3. flusher    sorts a batch into runs, writes segments in parallel, appends log entries in
 *                 order                                            (archiver/flusher.c)
 *   4. durable    the end of the last log entry: all the slot ever confirms (archiver/durable.c)
 *   beside it     bases under an exported snapshot                 (archiver/base.c)
 *                 heartbeat, catalog poll, slot watch               (archiver/keeper.c)
 *
 * Invariants: DESIGN 4. */
#ifndef ARCHIVER_ARCHIVER_H
#define ARCHIVER_ARCHIVER_H

#include "pg/setup.h"
#include "strata/archive.h"

struct archive;

struct archiver_opts {
    struct pg_target target;
    struct setup_opts setup;   /* rules, slot name */
    const char *root_url;      /* BACKUP_DIR */
    int64_t flush_interval_ms; /* 5000 */
    size_t memory_bytes;       /* 256 MiB */
    unsigned flush_threads;    /* 2 */
    unsigned base_threads;     /* parallel COPYs; 2 */
    int64_t base_interval_ms;  /* bases on a schedule; 0: never */
    int64_t range_interval_ms; /* range-only entries when idle; 60000 */
    uint64_t range_bytes;      /* or this much WAL; 64 MiB */
    bool no_initial_base;      /* stream first, take bases only when asked */
    bool take_over; /* explicit: go on although the heartbeat says clone, or a new server */
};

struct archiver;

/* Start-up checks of DESIGN 4.2: server checks, heartbeat (clone: PGS_E_REFUSED), archive's end
 * against slot and timeline (gap, new era), takes the writer epoch. Nothing streams yet. */
PGS_CHECKED int archiver_open(const struct archiver_opts *opts, struct archiver **a,
                              struct pgs_err *err);
/* Streams until archiver_stop, or a failure that a retry cannot mend. Reconnects by itself when
 * PostgreSQL or the store come and go. Returns 0 after a requested stop: everything received is
 * flushed, confirmed, and the connection closed. */
PGS_CHECKED int archiver_run(struct archiver *a, struct pgs_err *err);
/* Async-signal-safe. */
void archiver_stop(struct archiver *a);
/* Asks for bases of every published table, at `from` or after it, from any thread. Asking again for
 * what has been taken does nothing. */
void archiver_request_bases(struct archiver *a, pgs_lsn from);
/* SIGHUP: new values of flush_interval_ms and the routing rules; the rest needs a restart. `opts`
 * must stay alive. */
void archiver_reload(struct archiver *a, const struct archiver_opts *opts);
void archiver_close(struct archiver *a); /* accepts NULL */

/* For sd_notify and logs; from any thread. */
struct archiver_health {
    bool streaming;
    pgs_lsn durable, received;
    int64_t progress_us; /* clock_us when a thread last showed life: for the watchdog */
};
void archiver_health(struct archiver *a, struct archiver_health *health);

/* One-shot bases without serve's stream: for `pgstrata base`. With serve running it asks serve
 * (NOTIFY pgstrata_base) and waits until the bases are in the log; without it PGS_E_NOT_RUNNING. */
struct base_result {
    pgs_lsn lsn;
    struct {
        uint32_t oid;
        struct slice schema, name;
        uint64_t rows;
    } * tables;
    size_t table_count;
};
PGS_CHECKED int archiver_base_now(const struct archiver_opts *opts, int64_t timeout_ms,
                                  struct arena *arena, struct base_result *result,
                                  struct pgs_err *err);

#endif
