/* strata_world.h: a small archive over a memory store, built change by change, read back as text.
 *
 *     open -> ((change... -> commit)... -> flush, base, break)... -> rows -> close
 *
 * Two tables, `orders` and `items`, of the same shape: id (the key), tenant_id, note, document.
 * Rows are text: "7|acme|paid|long", where ~ is NULL and = an unchanged TOAST value. Every
 * failure fails the running test with the error's words. */
#ifndef SUPPORT_STRATA_WORLD_H
#define SUPPORT_STRATA_WORLD_H

#include "core/buf.h"
#include "strata/scan.h"

#define WORLD_ARCHIVE_ID "a1"
#define WORLD_PREFIX ".pgstrata/a1/"
#define WORLD_SYSTEM_ID UINT64_C(7000000000000000001)
#define WORLD_ORDERS 100u
#define WORLD_ITEMS 101u
#define WORLD_COLUMNS 4u
/* A commit record of this world is that long. */
#define WORLD_COMMIT_BYTES 8

struct world_change {
    struct run_id run;
    struct version version;
};

struct world {
    struct store *memory; /* the objects; names begin with WORLD_PREFIX */
    struct store *root;   /* a fault store over it */
    struct store *store;  /* the archive's part of root */
    struct alog *log;
    struct archive *archive; /* NULL until the first look */
    struct arena *arena;
    struct relation *relations[2];
    uint64_t shape_id;
    struct segment_opts segment; /* block_bytes 64 unless a test says otherwise */
    size_t segments_per_flush;   /* changes are dealt out over that many; 1 */
    /* Since the last flush. */
    struct world_change *changes;
    size_t change_count, change_capacity, committed_count;
    struct txn *txns;
    size_t txn_count, txn_capacity;
    pgs_lsn flushed, last_end; /* commit_end_lsn of the last flushed, of the last committed */
};

void world_open(struct world *w);
void world_close(struct world *w);
/* rc must be 0. */
void world_must(int rc, const struct pgs_err *err);

/* NULL: SCOPE_SHARED; "*": SCOPE_TOMBSTONES. */
struct tenant world_tenant(const char *name);
struct slice world_key(struct world *w, const char *id);
/* The image of "7|acme|paid|long", or empty for NULL. */
struct slice world_row(struct world *w, const char *text);

/* One change of the open transaction; sequences are the caller's. prev_id NULL: none. */
void world_change(struct world *w, const char *tenant, uint32_t table, uint64_t sequence,
                  enum version_op op, const char *id, const char *row, const char *prev_id);
void world_commit(struct world *w, pgs_lsn commit_lsn, pgs_time time, uint64_t xid);
/* Everything committed since becomes visible in one entry, up to the last commit's end. */
void world_flush(struct world *w);
/* rows: "tenant", row, "tenant", row, ...; dealt out over `segments` segments. */
void world_base(struct world *w, uint32_t table, pgs_lsn lsn, const char *const *rows, size_t count,
                size_t segments);
void world_break(struct world *w, uint32_t table, pgs_lsn begin, pgs_lsn end, const char *code);
/* Appends what a test filled in; time fields that are 0 become PGS_TIME_NONE. */
void world_append(struct world *w, struct log_entry *e);

/* The archive with everything appended so far. */
struct archive *world_archive(struct world *w);
/* The tenant's rows at the cut, one a line, in key order. A refusal gives "refused: <code>". */
const char *world_rows(struct world *w, const char *tenant, uint32_t table, pgs_lsn cut);
/* The same by keys ("1", "2", ... NULL), "7 gone" for a key without a row. */
const char *world_rows_of_keys(struct world *w, const char *tenant, uint32_t table, pgs_lsn cut,
                               const char *const *ids, size_t count);

#endif
