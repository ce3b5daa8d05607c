/* internal.h: the archiver's parts and what they share. Each field says which thread owns it. */
#ifndef ARCHIVER_INTERNAL_H
#define ARCHIVER_INTERNAL_H

#include "archiver/archiver.h"
#include "archiver/batch.h"
#include "core/queue.h"

#include <pthread.h>
#include <stdatomic.h>

/* Messages travel from slot to builder in chunks of about this size. */
#define CHUNK_BYTES ((size_t)256 << 10)

/* One record per message: kind, wal_end, size, bytes. Records are packed without padding. */
enum record_kind { RECORD_DATA = 'w', RECORD_POSITION = 'k', RECORD_POSITION_URGENT = 'K' };
struct record_head {
    uint64_t wal_end;
    uint32_t size;
    uint8_t kind;
};
struct chunk {
    struct buf bytes;
    struct budget *budget; /* charged with bytes.capacity at push */
    size_t charged;
};
void chunk_free(void *item);

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
    struct arena *arena; /* main thread, at start-up */
    struct setup_names names;
    struct store *root, *store;
    char archive_id[64];
    char nonce[40]; /* of our heartbeats */
    uint64_t system_id;
    uint32_t timeline;
    bool
        gap_pending; /* main: a break for [end, slot's position) must be written before streaming */
    struct budget budget;
    struct publisher publisher;
    struct queue *chunks, *batches; /* of the running session */
    _Atomic pgs_lsn durable, received;
    atomic_int_fast64_t progress_us, stop_us; /* stop_us: when stop was asked; 0: not */
    atomic_bool streaming, stopping,
        aborted;                   /* aborted: the session must end, nothing more is taken */
    atomic_bool bases_wanted;      /* of every table, not only of uncovered ones */
    atomic_bool look_at_coverage;  /* the base thread should look now */
    int wake_fd;                   /* eventfd: durable advanced, or stop */
    pthread_mutex_t failure_mutex; /* guards failed, failure */
    bool failed;
    struct pgs_err failure;     /* the first one */
    pthread_mutex_t room_mutex; /* with room: a batch was freed */
    pthread_cond_t room;
};

static inline const struct archiver_opts *
archiver_opts(struct archiver *a)
{
    return atomic_load(&a->opts);
}

/* Ends the session with this failure; the first one counts. */
void archiver_fail(struct archiver *a, const struct pgs_err *err);
void archiver_wake(struct archiver *a);
void archiver_alive(struct archiver *a);
/* Past this point a stop must not be held up by storage any longer (DESIGN 4.12: 10 s in all). */
bool archiver_stop_overdue(struct archiver *a);

/* slot.c: runs in the caller's thread until stop, failure or the end of the connection. */
PGS_CHECKED int slot_run(struct archiver *a, struct pg_conn *c, struct pgs_err *err);

/* builder.c */
struct builder;
PGS_CHECKED int builder_new(struct archiver *a, struct builder **b, struct pgs_err *err);
void *builder_thread(void *builder);
void builder_free(struct builder *b);
/* Decodes one pgoutput message; for tests too. */
PGS_CHECKED int builder_message(struct builder *b, struct slice bytes, struct pgs_err *err);

/* flusher.c */
void publisher_init(struct publisher *p, struct alog *log);
void publisher_release(struct publisher *p);
void *flusher_thread(void *archiver);
/* Appends an entry that is no part of the stream (bases, notes): retried while the store is
 * away. */
PGS_CHECKED int publisher_append(struct archiver *a, struct log_entry *e, struct pgs_err *err);
/* A name for a segment of ours. */
void publisher_segment_name(struct archiver *a, char name[SEGMENT_NAME_MAX]);

/* base.c, keeper.c: threads that live as long as archiver_run. */
void *base_thread(void *archiver);
void *keeper_thread(void *archiver);

#endif
