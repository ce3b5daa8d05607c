/* builder.h: from pgoutput messages to versions in batches.
 *
 *   1. Begin opens a transaction; each change finds its table's shape, its tenant and its key, and
 *      becomes one or two versions (builder_rows.c); our own messages act at their place.
 *   2. Commit closes it: its versions count as complete, what it said of tables goes into the
 *      entry.
 *   3. A batch is sealed when it is full, when the flush interval is over, or at a barrier; what an
 *      open transaction has in it is spilled.
 *   4. Tables change shape by DDL messages, by Relation messages that do not match, by looks at the
 *      catalog (builder_schema.c). What comes from outside the stream waits for its position.
 *
 * A version's place is (commit LSN, sequence). Nothing is decided on a message's own LSN (DESIGN
 * 4.2). One thread; the world outside is reached through `env` alone. */
#ifndef ARCHIVER_BUILDER_H
#define ARCHIVER_BUILDER_H

#include "archiver/batch.h"
#include "archiver/inbox.h"
#include "strata/alog.h"

struct builder_env {
    void *context;
    struct budget *budget;     /* may be NULL */
    size_t batch_bytes;        /* a batch of this size is full */
    pgs_lsn position;          /* the archive's end: where the stream starts */
    struct history_id history; /* of the stream */
    uint64_t xid;              /* a recent 64-bit transaction id */
    int64_t (*flush_interval_ms)(void *context);
    int64_t (*range_interval_ms)(void *context);
    uint64_t (*range_bytes)(void *context);
    const struct catalog_rules *(*rules)(void *context);
    /* The catalog now; text lives in `arena`. */
    int (*catalog)(void *context, struct arena *arena, struct catalog *catalog,
                   struct pgs_err *err);
    /* A table that is not published could be. */
    void (*want_sync)(void *context);
    /* Takes the batch over, also when it fails; waits for room. Batches come with tickets from 0
     * on, without holes. */
    int (*submit)(void *context, struct batch *batch, struct pgs_err *err);
};

struct builder;
struct builder *builder_new(const struct builder_env *env);
void builder_free(struct builder *b); /* accepts NULL */
/* The tables as the log knows them; before anything else. */
void builder_load(struct builder *b, const struct alog *log);

/* One pgoutput message. PGS_E_CORRUPT: the stream is not what it must be. */
PGS_CHECKED int builder_message(struct builder *b, struct slice bytes, struct pgs_err *err);
/* Everything that ends at or before lsn has been given. `urgent`: the server waits for it. */
PGS_CHECKED int builder_position(struct builder *b, pgs_lsn lsn, bool urgent, struct pgs_err *err);
/* Takes the poll over. An older one that still waits is dropped. */
PGS_CHECKED int builder_poll(struct builder *b, struct schema_poll *poll, struct pgs_err *err);
/* The bases wait until the stream has passed them; they are answered. */
PGS_CHECKED int builder_bases(struct builder *b, struct base_done *bases, struct pgs_err *err);
/* What is due by the clock. */
PGS_CHECKED int builder_tick(struct builder *b, struct pgs_err *err);
/* The end of the session: what is complete goes out, an open transaction will come again. */
PGS_CHECKED int builder_finish(struct builder *b, struct pgs_err *err);

#endif
