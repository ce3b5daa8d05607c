/* builder_internal.h: the builder's state, for builder.c, builder_rows.c and builder_schema.c. */
#ifndef ARCHIVER_BUILDER_INTERNAL_H
#define ARCHIVER_BUILDER_INTERNAL_H

#include "archiver/builder.h"
#include "archiver/tables.h"
#include "pg/messages.h"
#include "pg/pgoutput.h"

struct builder {
    struct builder_env env;
    struct tables tables;
    struct arena *scratch; /* one message */
    struct batch *batch;
    int64_t batch_since_us; /* when its first content came; 0: it has none */
    uint64_t next_ticket;
    struct buf key, old_key, image;

    bool in_txn;
    bool skipping; /* the archive has the open transaction already */
    struct txn txn;
    uint64_t sequence;
    size_t txn_first; /* its first version in the batch */
    bool txn_spilled; /* a part of it is in an earlier batch */
    bool txn_speaks;  /* it said something that makes it a moment of its own
                       (actor, restore) */
    bool flush_now;   /* a barrier is among its messages */
    struct arena *txn_arena;
    struct notes txn_notes; /* become the batch's at commit */

    pgs_lsn start;            /* the archive's end when the session began */
    pgs_lsn position;         /* everything that ends at or before has been seen */
    pgs_lsn sealed;           /* ... and handed on */
    int64_t sealed_us;        /* when */
    bool position_urgent;     /* the server waits for it */
    struct schema_poll *poll; /* waits for its position */
    struct base_done *bases;  /* wait for theirs; the base thread has one set at a time */
};

/* Where something found in the stream holds from: the open transaction's commit. */
static inline pgs_lsn
builder_here(const struct builder *b)
{
    return b->txn.commit_lsn;
}

/* The batch has something to tell now. */
void builder_touch(struct builder *b);
PGS_CHECKED int builder_seal(struct builder *b, struct pgs_err *err);

/* builder_rows.c */
PGS_CHECKED int rows_change(struct builder *b, const struct pgoutput_message *m,
                            struct pgs_err *err);
void rows_truncate(struct builder *b, const struct pgoutput_message *m);
void rows_move(struct builder *b, const struct message *m);

/* builder_schema.c */
PGS_CHECKED int schema_relation(struct builder *b, const struct pgoutput_message *m,
                                struct pgs_err *err);
PGS_CHECKED int schema_ddl(struct builder *b, const struct message *m, struct pgs_err *err);
/* Its changes are lost from `begin` on, until a base. */
void schema_lose(struct builder *b, struct notes *notes, struct arena *arena, struct table *t,
                 pgs_lsn begin, const char *code, const char *reason);
/* Between transactions: the catalog as a poll showed it. */
void schema_poll_apply(struct builder *b, const struct schema_poll *poll);
/* Between transactions: shapes and breaks that make the bases usable; *usable: tables that stay. */
void schema_bases_apply(struct builder *b, struct base_done *bases, size_t *usable);

#endif
