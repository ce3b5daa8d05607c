/* inbox.h: what travels to the builder: chunks of the stream, in the order it was received, and
 * between them what the other threads found out.
 *
 * A chunk packs messages back to back, so that a row costs a copy and no allocation:
 *     size u32 | kind u32 | bytes        in host order: a chunk never leaves the process
 * An item is freed by whoever popped it (inbox_free), also when nobody could push it. */
#ifndef ARCHIVER_INBOX_H
#define ARCHIVER_INBOX_H

#include "archiver/base_done.h"
#include "core/budget.h"
#include "pg/catalog.h"

#define CHUNK_BYTES ((size_t)256 << 10)

enum frame_kind {
    FRAME_DATA,            /* one pgoutput message */
    FRAME_POSITION,        /* an LSN: all that ends at or before it has been sent */
    FRAME_POSITION_URGENT, /* as above, and the server waits for it to be
                            confirmed */
};
struct frame {
    enum frame_kind kind;
    struct slice bytes;
    pgs_lsn lsn; /* positions */
};

/* The tables as the catalog shows them at some moment: all that committed before `before` is in it,
 * and nothing that committed at or after `after`. Lives in its own arena. */
struct schema_poll {
    struct arena *arena;
    pgs_lsn before, after;
    struct catalog catalog;
};
void schema_poll_free(struct schema_poll *poll); /* accepts NULL */

enum item_kind { ITEM_CHUNK, ITEM_POLL, ITEM_BASES };
struct item {
    enum item_kind kind;
    struct schema_poll *poll;
    struct base_done *bases;
    struct budget *budget;
    size_t size, capacity; /* of a chunk */
    uint8_t data[];
};

/* A chunk that can take a frame of `bytes`; charged to the budget until freed. */
struct item *inbox_chunk(struct budget *budget, size_t bytes);
struct item *inbox_poll(struct schema_poll *poll); /* takes the poll over */
struct item *inbox_bases(struct base_done *bases); /* the bases stay their owner's */
void inbox_free(void *item_or_null);               /* accepts NULL; bases are handed back */

/* Whether a frame of `bytes` fits. */
bool chunk_fits(const struct item *chunk, size_t bytes);
void chunk_put(struct item *chunk, struct slice bytes);
void chunk_put_position(struct item *chunk, pgs_lsn lsn, bool urgent);
/* *position starts at 0. false: no more. */
bool chunk_next(const struct item *chunk, size_t *position, struct frame *frame);

#endif
