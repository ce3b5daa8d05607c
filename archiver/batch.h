/* batch.h: versions collected in memory until they become a segment and an entry of the log.
 *
 *     new -> (batch_run -> batch_add)... -> batch_txn... -> batch_write... -> free
 *
 * The builder fills a batch and seals it; a flusher sorts it into runs and writes it. One owner at
 * a time, so nothing here is locked. Rows are copied once, into the arena `rows`; what the entry
 * says (transactions, notes) lives in `meta`. A version costs 56 bytes beside its own bytes.
 *
 * Items come in stream order, thus by (commit LSN, sequence). Those from `complete_count` on belong
 * to a transaction whose commit has not come: they are written as a segment of their own, a spill,
 * that becomes visible with the entry of the commit (DESIGN 4.5). */
#ifndef ARCHIVER_BATCH_H
#define ARCHIVER_BATCH_H

#include "core/arena.h"
#include "strata/log_entry.h"

struct batch_item {
    uint64_t prefix;      /* the key's first 8 bytes, big-endian: decides most
                           comparisons */
    const uint8_t *bytes; /* key, row, previous key */
    uint64_t sequence;
    uint32_t key_size, row_size, prev_size; /* prev_size 0: no previous key, which is never empty */
    uint32_t run;
    uint32_t txn; /* index into lsns */
    uint8_t op;
};

struct batch_run {
    struct run_id id;
    uint64_t hash;
};

/* What an entry tells beside segments, gathered per transaction and then per batch. */
struct notes {
    struct log_shape *shapes;
    size_t shape_count, shape_capacity;
    struct log_base *bases; /* without segments: tables that begin empty */
    size_t base_count, base_capacity;
    struct log_break *breaks;
    size_t break_count, break_capacity;
    struct log_restore_point *restore_points;
    size_t restore_point_count, restore_point_capacity;
    struct slice *barriers;
    size_t barrier_count, barrier_capacity;
    uint64_t heartbeat_counter;
    struct slice heartbeat_nonce;
};
/* All copy into `arena`. */
void notes_shape(struct notes *n, struct arena *arena, pgs_lsn from, const struct relation *r);
void notes_base(struct notes *n, struct arena *arena, uint32_t oid, uint64_t shape_id, pgs_lsn lsn);
void notes_break(struct notes *n, struct arena *arena, const struct log_break *b);
void notes_restore_point(struct notes *n, struct arena *arena, const struct log_restore_point *p);
void notes_barrier(struct notes *n, struct arena *arena, struct slice id);
void notes_heartbeat(struct notes *n, struct arena *arena, uint64_t counter, struct slice nonce);
/* Appends a copy of everything in `from`. */
void notes_add(struct notes *n, struct arena *arena, const struct notes *from);
bool notes_empty(const struct notes *n);

struct base_done;

struct batch {
    struct arena *rows, *meta;
    struct batch_item **blocks;
    size_t block_capacity;
    size_t count; /* items */

    struct batch_run *runs;
    size_t run_count, run_capacity;
    uint32_t *run_table; /* open addressing: index + 1 */
    size_t run_table_size;
    uint32_t last_run; /* the one asked for last: mostly it is asked for again */

    pgs_lsn *lsns; /* commit LSNs of transactions that have items here */
    size_t lsn_count, lsn_capacity;

    struct txn *txns; /* complete ones, for the transaction table */
    size_t txn_count, txn_capacity;
    pgs_time time_min, time_max; /* commit times; PGS_TIME_NONE: none */

    /* what the builder says of it */
    struct notes notes;
    size_t complete_count; /* items of committed transactions: the first ones */
    bool closes_spilled;   /* the commit of a spilled transaction is in here */
    bool has_end;
    pgs_lsn end;             /* everything up to here is in; valid with has_end */
    struct base_done *bases; /* this batch is nothing but these bases */
    uint64_t ticket;         /* its turn in the log */
};

/* `budget` may be NULL. */
struct batch *batch_new(struct budget *budget);
void batch_free(struct batch *b); /* accepts NULL */
/* Frees the rows, keeps what the entry needs. */
void batch_drop_rows(struct batch *b);
/* Memory held. */
size_t batch_bytes(const struct batch *b);

/* The run of this tenant and table, made when new. The tenant's key is copied. */
uint32_t batch_run(struct batch *b, const struct run_id *id);
/* Copies key, row and previous key (SLICE_NULL: none). */
void batch_add(struct batch *b, uint32_t run, const struct version *v);
/* Forgets every item from index `count` on: of a transaction that must not be delivered. */
void batch_cut(struct batch *b, size_t count);
void batch_txn(struct batch *b, const struct txn *t);
/* A commit time counts for the entry, whether the transaction is recorded or not. */
void batch_time(struct batch *b, pgs_time commit_time);

/* Sorts the items [begin, end) into runs and writes them as segment `name`, with the transaction
 * table when `with_txns`. Changes nothing in the batch: may be called again after a failure. */
PGS_CHECKED int batch_write(const struct batch *b, size_t begin, size_t end, bool with_txns,
                            struct store *store, const char *name, struct budget *budget,
                            struct segment_info *info, struct pgs_err *err);

#endif
