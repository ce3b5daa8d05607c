/* internal.h: the archiver's parts and what they share. Each field says which thread owns it.
 *
 * A session is one life of the replication connection: slot, builder and flushers, with the queues
 * between them. When it ends for a reason that may pass, all of that is thrown away, and the next
 * one starts at the durable end: there is no state to mend (DESIGN 4.1). Base and keeper threads
 * live as long as archiver_run and reach a session through archiver_post alone. */
#ifndef ARCHIVER_INTERNAL_H
#define ARCHIVER_INTERNAL_H

#include "archiver/archiver.h"
#include "archiver/batch.h"
#include "archiver/durable.h"
#include "archiver/inbox.h"
#include "core/queue.h"
#include "pg/replication.h"
#include "pg/wires.h"

#include <pthread.h>
#include <stdatomic.h>

/* The log has one writer; this is its door. Batches enter in ticket order. */
struct publisher {
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t turn;
    struct alog *log;
    uint64_t next_ticket;
    pgs_lsn end; /* of the stream in the log */
    struct segment_info *spilled;
    size_t spilled_count;
};

struct archiver {
    const struct archiver_opts *_Atomic opts;
    struct archiver_opts opts_first;

    /* main thread: start-up and between sessions */
    struct arena *arena;
    struct setup_names names;
    struct store *root, *store;
    char archive_id[64];
    uint64_t system_id;
    uint32_t timeline;
    pgs_lsn server_lsn; /* where its WAL ended when the session began */
    atomic_uint era;    /* of the session; read by the base thread */
    bool taken_over;    /* --take-over has had its effect */

    char nonce[40]; /* of our heartbeats; constant */
    struct budget budget;
    struct publisher publisher;
    struct durable durable;
    struct pg_wires wires; /* every connection to the server */

    pthread_mutex_t session_mutex; /* guards inbox, as a pointer */
    struct queue *inbox;           /* of the running session; NULL: there is none */
    struct queue *batches;         /* builder to flushers */
    atomic_bool session_over;      /* nothing waits for storage any more */

    _Atomic pgs_lsn received;
    _Atomic pgs_lsn wanted; /* a position that somebody waits for the stream to reach */
    atomic_int_fast64_t progress_us;
    atomic_int_fast64_t stop_us; /* when stop was asked; 0: not */
    atomic_bool streaming, stopping;
    _Atomic pgs_lsn bases_wanted; /* of every table, not only of uncovered ones, from here on */
    atomic_bool look_at_coverage; /* the log tells something new of tables */
    atomic_bool sync_wanted;      /* a table might join the publication */
    int wake_fd;                  /* eventfd for the slot thread: durable advanced, or stop */

    pthread_mutex_t failure_mutex; /* guards failed, failure */
    atomic_bool failed;            /* this session: by `failure` */
    struct pgs_err failure;        /* the first one */

    pthread_mutex_t room_mutex; /* guards in_flight; with room: a batch was written */
    pthread_cond_t room;
    unsigned in_flight; /* batches whose rows are in memory, beside the builder's */
};

static inline const struct archiver_opts *
archiver_opts(struct archiver *a)
{
    return atomic_load(&a->opts);
}

/* Ends the session with this failure; the first one counts. */
void archiver_fail(struct archiver *a, const struct pgs_err *err);
void archiver_wake(struct archiver *a);
/* For the watchdog: called by the main thread alone, which never waits for storage. */
void archiver_alive(struct archiver *a);
/* Past this point a stop must not be held up by storage any longer (DESIGN 4.12: 10 s in all). */
bool archiver_stop_overdue(struct archiver *a);
/* Sleeps, in slices: a stop cuts it short. */
void archiver_pause(struct archiver *a, long ms);
/* Joins a thread that has been told to end. A server that does not answer must not keep it: after a
 * while the connections are cut; nor must a store, once the stop is overdue. */
void archiver_join(struct archiver *a, pthread_t thread);
/* The same for one that only writes to the store: connections stay, to confirm what it wrote. */
void archiver_join_flusher(struct archiver *a, pthread_t thread);
/* Hands an item to the builder of the running session. false: still yours (no session, or no
 * room). */
bool archiver_post(struct archiver *a, struct item *item);

/* start.c: from a connection to a place in the log (DESIGN 4.2). Waits until the slot is free,
 * takes the writer epoch once, records gap and era; then a->durable is where the stream starts. */
PGS_CHECKED int start_open(struct archiver *a, struct pgs_err *err);
PGS_CHECKED int start_session(struct archiver *a, struct pg_conn *replication, struct pgs_err *err);

/* session.c: streams over `c` until stop, failure or the end of the connection. */
PGS_CHECKED int session_stream(struct archiver *a, struct pg_conn *c, struct pgs_err *err);

/* slot.c: runs in the caller's thread until stop, failure or the end of the connection. */
PGS_CHECKED int slot_run(struct archiver *a, struct pg_conn *c, struct pgs_err *err);

/* flusher.c */
void publisher_init(struct publisher *p, struct alog *log);
void publisher_release(struct publisher *p);
/* Before a session: tickets begin anew, what the last one spilled is removed. */
void publisher_begin(struct archiver *a);
void *flusher_thread(void *archiver);
/* A name for a segment of ours. */
void publisher_segment_name(struct archiver *a, char name[SEGMENT_NAME_MAX]);

/* base.c, keeper.c: threads that live as long as archiver_run. */
void *base_thread(void *archiver);
void *keeper_thread(void *archiver);

#endif
