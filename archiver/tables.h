/* tables.h: what the builder knows of tables: their shapes at its place in the stream, and whether
 * their changes are archived. Owned by the builder's thread.
 *
 * At the start of a session everything comes from the archive's log: its shapes are those of its
 * end, which is where the stream resumes. From there on the stream itself tells (Relation and DDL
 * messages), and the catalog where it must be asked (builder_schema.c). */
#ifndef ARCHIVER_TABLES_H
#define ARCHIVER_TABLES_H

#include "core/hash.h"
#include "strata/alog.h"

/* uthash's own hash falls through its cases, which clang takes for a slip. */
#define HASH_FUNCTION(key, size, hash) ((hash) = (unsigned)hash_bytes(slice_of((key), (size)), 0))
#include <uthash.h>

struct table {
    uint32_t oid;
    struct relation *relation;
    uint64_t shape_id;
    int last_needed;         /* index of the last column that key or tenant need */
    pgs_lsn from;            /* it has this shape since */
    pgs_lsn agreed;          /* the latest position at which the server had the same */
    pgs_lsn kept_from;       /* every change at or after it is archived; meaningful
                        while `archived` */
    bool archived;           /* its changes are kept */
    bool fresh;              /* made by the open transaction, and no version yet */
    pgs_lsn broken_since;    /* an open break of coverage; 0: none */
    struct run_id fixed_run; /* of rows that no tenant column sends elsewhere */
    struct run_id tombstone_run;
    UT_hash_handle hh;
};

struct tables {
    struct arena *arena;
    struct table *hash;
    struct table *last; /* rows of one table come in a row */
    /* Every change of every published table from here on is archived; 0: the log tells nothing,
     * UINT64_MAX: a gap is open. */
    pgs_lsn unbroken_from;
};

void tables_init(struct tables *t);
void tables_release(struct tables *t);
/* Shapes and open breaks of the log's current era. */
void tables_load(struct tables *t, const struct alog *log);
/* NULL: not known. */
struct table *tables_find(struct tables *t, uint32_t oid);
/* Adopts a shape; a table not known yet is made, not archived. */
struct table *tables_set(struct tables *t, const struct relation *r, pgs_lsn from);
void tables_remove(struct tables *t, struct table *table);

#endif
