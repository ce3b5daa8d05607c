/* batch.h: versions collected in memory, and how they become a segment.
 *
 *     new -> (batch_run -> batch_add)... -> batch_txn... -> batch_write -> free
 *
 * Used by the builder (changes) and by bases. One owner at a time; a whole batch may be handed to
 * another thread. All memory is charged to the budget given. */
#ifndef ARCHIVER_BATCH_H
#define ARCHIVER_BATCH_H

#include "strata/log_entry.h"

struct batch_version {
    uint64_t prefix; /* first 8 bytes of the key, big-endian: most comparisons end here */
    const uint8_t *key;
    const uint8_t *row;
    const uint8_t *prev_key; /* NULL: none */
    pgs_lsn commit_lsn;
    uint64_t sequence;
    uint32_t key_size, row_size, prev_key_size;
    uint32_t run;
    uint8_t op;
};

struct batch {
    struct arena *arena;
    struct budget *budget;
    struct batch_version *versions;
    size_t count, capacity;
    struct run_id *runs; /* tenants live in the arena */
    size_t run_count, run_capacity;
    uint32_t *run_slots; /* open addressing: index + 1 */
    size_t run_slot_count;
    struct txn *txns;
    size_t txn_count, txn_capacity;

    /* what the builder says of it; see builder.c */
    size_t complete_count; /* versions of committed transactions: the first ones */
    bool closes_spilled;   /* a transaction whose begin was spilled commits in here */
    bool drops_spilled;    /* such a transaction will never commit in this session */
    bool has_end;
    pgs_lsn end; /* everything up to here is in; valid with has_end */
    uint64_t ticket;
    struct log_entry notes; /* shapes, bases, breaks, restore points, barriers, heartbeat */
};

struct batch *batch_new(struct budget *budget);
void batch_free(struct batch *b); /* accepts NULL */
size_t batch_bytes(const struct batch *b);
/* Index of the run, made when new. The tenant's key is copied. */
uint32_t batch_run(struct batch *b, const struct run_id *run);
/* Copies key, row and prev_key (SLICE_NULL: none). */
void batch_add(struct batch *b, uint32_t run, const struct version *v);
/* Forgets every version from index `count` on: a transaction that must not be delivered. */
void batch_cut(struct batch *b, size_t count);
void batch_txn(struct batch *b, const struct txn *t);
/* Sorts versions [from, to) and writes them as a segment, with the transaction table when
 * with_txns. The versions keep their order in the batch. */
PGS_CHECKED int batch_write(const struct batch *b, size_t from, size_t to, bool with_txns,
                            struct store *store, const char *name, struct segment_info *info,
                            struct pgs_err *err);

#endif
