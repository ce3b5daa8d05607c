/* inbox.h: what travels to the builder: chunks of the stream, in the order it was received, and
 * between them what the other threads found out.
 *
 * A chunk packs messages back to back, so that a row costs a copy and no allocation:
 *     size u32 | kind u32 | bytes        in host order: a chunk never leaves the process
 * An item is freed by whoever popped it (inbox_free), also when nobody could push it. */
#ifndef ARCHIVER_INBOX_H
#define ARCHIVER_INBOX_H

#include "core/budget.h"
#include "core/slice.h"
#include "pg/catalog.h"
#include "strata/log_entry.h"

#define CHUNK_BYTES ((size_t)256 << 10)

enum frame_kind {
    FRAME_DATA,             /* one pgoutput message */
    FRAME_KEEPALIVE,        /* an LSN: all that ends at or before it has been sent */
    FRAME_KEEPALIVE_URGENT, /* as above, and the server waits for it to be confirmed */
};
struct frame {
    enum frame_kind kind;
    struct slice bytes;
    pgs_lsn lsn; /* keepalives */
};

/* Tables as the catalog shows them at some moment between two positions: what the snapshot sees
 * committed before `after`, and whatever committed before `before` is in it. */
struct schema_poll {
    struct arena *arena;
    pgs_lsn before, after;
    struct catalog catalog;
};

/* Bases that are written and wait for their place in the log. */
struct base_done {
    struct arena *arena;
    pgs_lsn lsn; /* the consistent point: exact state of every table below */
    struct segment_info *segments;
    size_t segment_count;
    struct base_table {
        const struct relation *relation;
        uint64_t shape_id;
        uint64_t rows;
        uint32_t *segments; /* indexes */
        size_t segment_count;
    } * tables;
    size_t table_count;
};

enum item_kind {
    ITEM_CHUNK,
    ITEM_RESET, /* the connection was lost: what follows the last commit comes again */
    ITEM_POLL,
    ITEM_BASES,
};
struct item {
    enum item_kind kind;
    struct schema_poll *poll;
    struct base_done *bases;
    struct budget *budget;
    size_t size, capacity; /* chunk */
    uint8_t data[];
};

/* A chunk that can take a frame of `bytes`; charged to the budget until freed. */
struct item *inbox_chunk(struct budget *budget, size_t bytes);
struct item *inbox_reset(void);
struct item *inbox_poll(struct schema_poll *poll);
struct item *inbox_bases(struct base_done *bases);
void inbox_free(void *pointer); /* with all it holds; accepts NULL */

/* Whether a frame of `bytes` fits. */
bool chunk_fits(const struct item *chunk, size_t bytes);
void chunk_put(struct item *chunk, enum frame_kind kind, struct slice bytes);
void chunk_put_keepalive(struct item *chunk, pgs_lsn lsn, bool urgent);
/* *position starts at 0. false: no more. */
bool chunk_next(const struct item *chunk, size_t *position, struct frame *frame);

void schema_poll_free(struct schema_poll *poll); /* accepts NULL */
void base_done_free(struct base_done *bases);    /* accepts NULL */

#endif
