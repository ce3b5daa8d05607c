/* segment.h: a segment, an immutable object with the runs of many tenants (docs/format.md).
 *
 *     header | (block | directory page)... | transaction table | footer | trailer
 *
 * A block holds versions of one run, compressed where that helps, with its own checksum. A
 * directory page lists runs in (scope, tenant, table, shape) order, each with its blocks (offset,
 * sizes, versions, LSN range, first and last key); the footer indexes the pages by their first
 * run, so that a reader finds one tenant's table with two small reads, whatever the number of
 * tenants. Every block, page and footer carries cipher_id and key_id (0: none). */
#ifndef STRATA_SEGMENT_H
#define STRATA_SEGMENT_H

#include "core/arena.h"
#include "store/store.h"
#include "strata/version.h"

#define SEGMENT_NAME_MAX 128
#define SEGMENT_BLOCK_BYTES ((size_t)128 << 10) /* of versions before compression */

struct run_id {
    struct tenant tenant;
    uint32_t table_oid;
    uint64_t shape_id;
};
int run_id_compare(const struct run_id *a, const struct run_id *b);

/* What a log entry says of a segment. */
struct segment_info {
    char name[SEGMENT_NAME_MAX];
    uint64_t size;
    uint8_t sha256[32];          /* of the whole object */
    struct pgs_lsn_range lsn;    /* commit LSNs of its versions: first, last + 1; 0,0 none */
    pgs_time time_min, time_max; /* commit times of its transaction table; PGS_TIME_NONE: none */
    uint64_t version_count, txn_count, raw_bytes;
};

/* --- writing ---
 *
 *     new -> (run_begin -> add... )... -> txn... -> finish | abort      (both free the writer)
 *
 * Runs come in order, versions in order within a run, transactions in commit-LSN order: asserted,
 * since the merge relies on it. One thread. Holds two blocks and the directory in memory. */
struct segment_writer;

struct segment_opts {
    size_t block_bytes;    /* 0: SEGMENT_BLOCK_BYTES */
    int compression;       /* zstd level; 0: 1 */
    struct budget *budget; /* may be NULL */
};

PGS_CHECKED int segment_writer_new(struct store *store, const char *name,
                                   const struct segment_opts *opts, struct segment_writer **w,
                                   struct pgs_err *err);
void segment_writer_run_begin(struct segment_writer *w, const struct run_id *run);
/* Copies. PGS_E_STORE: nothing became visible; only abort is allowed now. */
PGS_CHECKED int segment_writer_add(struct segment_writer *w, const struct version *v,
                                   struct pgs_err *err);
PGS_CHECKED int segment_writer_txn(struct segment_writer *w, const struct txn *t,
                                   struct pgs_err *err);
/* The object is durable, though no reader finds it before a log entry names it. */
PGS_CHECKED int segment_writer_finish(struct segment_writer *w, struct segment_info *info,
                                      struct pgs_err *err);
void segment_writer_abort(struct segment_writer *w); /* accepts NULL */

/* --- reading --- all bytes are foreign: PGS_E_CORRUPT names the segment and what is wrong. */
struct segment;

/* Reads trailer and footer, checks them (and size against the store). `expected` may be NULL. */
PGS_CHECKED int segment_open(struct store *store, const char *name,
                             const struct segment_info *expected, struct segment **s,
                             struct pgs_err *err);
void segment_close(struct segment *s); /* accepts NULL */
const char *segment_name(const struct segment *s);
/* Bytes fetched from the store so far. */
uint64_t segment_bytes_read(const struct segment *s);

struct block_ref {
    uint64_t offset;
    uint32_t stored_size, raw_size, version_count;
    struct pgs_lsn_range lsn; /* first commit LSN, last + 1 */
    struct slice first_key, last_key;
};
struct run_ref {
    struct run_id id;
    uint64_t version_count;
    struct pgs_lsn_range lsn;
    struct block_ref *blocks;
    size_t block_count;
};

/* Every run of (tenant, table), one per shape, into `arena`; *count 0 when there is none. The
 * directory entries of the last tenant asked for are kept, so asking for table after table of one
 * tenant reads once. */
PGS_CHECKED int segment_find(struct segment *s, const struct tenant *tenant, uint32_t table_oid,
                             struct arena *arena, struct run_ref **runs, size_t *count,
                             struct pgs_err *err);
/* Whether the tenant has any run. */
PGS_CHECKED int segment_has_tenant(struct segment *s, const struct tenant *tenant, bool *has,
                                   struct pgs_err *err);
/* All runs in order, page by page: PGS_NONE at the end. *position starts at 0. For verify and
 * lists. */
PGS_CHECKED int segment_page(struct segment *s, size_t *position, struct arena *arena,
                             struct run_ref **runs, size_t *count, struct pgs_err *err);
/* The transaction table, into `arena`. */
PGS_CHECKED int segment_txns(struct segment *s, struct arena *arena, struct txn **txns,
                             size_t *count, struct pgs_err *err);

/* Versions of one run in order, block by block. `segment` and `run` must outlive it. */
struct run_cursor;
PGS_CHECKED int run_cursor_open(struct segment *s, const struct run_ref *run, struct run_cursor **c,
                                struct pgs_err *err);
void run_cursor_close(struct run_cursor *c); /* accepts NULL */
/* *v is valid until the next call on this cursor. PGS_NONE: no more. */
PGS_CHECKED int run_cursor_next(struct run_cursor *c, struct version *v, struct pgs_err *err);
/* The next `next` gives the first version at or after the current place whose key is >= key;
 * blocks that cannot hold it are not read. Never goes back. */
PGS_CHECKED int run_cursor_seek(struct run_cursor *c, struct slice key, struct pgs_err *err);

/* A key no later version is smaller than, without reading a block; false: nothing comes any more.
 * *key is valid until the next call on this cursor. */
bool run_cursor_bound(const struct run_cursor *c, struct slice *key);

/* Reads every byte: object checksum against `expected`, block checksums, order, directory against
 * blocks, counts. */
PGS_CHECKED int segment_verify(struct store *store, const struct segment_info *expected,
                               struct pgs_err *err);

#endif
