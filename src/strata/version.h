/* version.h: the atom of the archive, and whose it is.
 *
 * A version is one row image at one commit. Its place in history is (commit LSN, sequence): commit
 * LSN is where the commit record starts, sequence counts the changes and messages of that
 * transaction from 1; a change of a key is one change, so the end of the old key and the version of
 * the new one share a sequence. Nothing is ever ordered by a change's own LSN (DESIGN 4.2). */
#ifndef STRATA_VERSION_H
#define STRATA_VERSION_H

#include "core/slice.h"
#include <pgstrata/types.h>

/* Whose versions a run holds. Runs sort by (scope, tenant, table, shape). */
enum scope {
    SCOPE_TENANT = 0, /* of the tenant whose key is `tenant` */
    SCOPE_SHARED = 1, /* `_shared`: shared tables, and rows whose tenant is NULL; tenant is empty */
    /* Of no tenant in particular: deletes whose identity lacks the tenant, and truncates. They
     * apply to whoever holds the key. tenant is empty. */
    SCOPE_TOMBSTONES = 2,
};

struct tenant {
    enum scope scope;
    struct slice key; /* text of the tenant column; empty for the other scopes */
};

/* How people name SCOPE_SHARED on the command line. */
#define TENANT_SHARED_NAME "_shared"

enum version_op {
    VERSION_INSERT = 'I',
    VERSION_UPDATE = 'U',   /* row: the new image; fields of kind 'u' carry over */
    VERSION_DELETE = 'D',   /* row: empty */
    VERSION_TRUNCATE = 'T', /* SCOPE_TOMBSTONES, key empty: ends every older version of the table */
    /* The row left for another tenant: a delete for this one. row: empty. */
    VERSION_MOVED_OUT = 'M',
    /* The row came from tenant `row` (text), whose version of the same key carries this one's 'u'
     * fields. Follows the version it explains. */
    VERSION_MOVED_IN = 'L',
};

struct version {
    struct slice key; /* key encoding of pg/relation.h */
    pgs_lsn commit_lsn;
    uint64_t sequence;
    enum version_op op;
    struct slice row;      /* row image of pg/relation.h; empty where the op has none */
    struct slice prev_key; /* UPDATE that changed the key: the old key; else SLICE_NULL */
};

/* Order within a run: (key, commit LSN, sequence). */
static inline int
version_compare(const struct version *a, const struct version *b)
{
    int order = slice_compare(a->key, b->key);
    if (order != 0)
        return order;
    if (a->commit_lsn != b->commit_lsn)
        return a->commit_lsn < b->commit_lsn ? -1 : 1;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

/* A committed transaction, as the transaction table of a segment keeps it. */
struct txn {
    pgs_lsn commit_lsn;     /* start of the commit record */
    pgs_lsn commit_end_lsn; /* its end */
    pgs_time commit_time;
    uint64_t xid;            /* 64-bit */
    struct slice actor;      /* pgstrata.set_actor; SLICE_NULL: none */
    struct slice restore_id; /* the restore that wrote it; SLICE_NULL: none */
};

#endif
