/* mapping.h: how rows of the shape that a table had at the cut fit into the table of now.
 *
 * Columns are the same where their attnum is: a rename is no loss, a column dropped and made again
 * is another one. What differs is told in changes, never passed over:
 *
 *   renamed    nothing else happens
 *   dropped    its values of then have no place and are left out
 *   added      rows that are there keep its value; rows put back get its default
 *   converted  values become the new type as ALTER TYPE without USING would make them, which
 *              PostgreSQL does itself, by assignment; only where that needs no setting of the
 *              session
 *   key        rows are told apart by the key of now
 *
 * What cannot be mapped exactly is refused (`shape_changed`). See docs/decisions/0041. */
#ifndef RESTORE_MAPPING_H
#define RESTORE_MAPPING_H

#include "core/arena.h"
#include "pg/conn.h"
#include "pg/relation.h"

struct schema_change {
    const char *kind;    /* "renamed", "dropped", "added", "converted", "key" */
    struct slice column; /* its name now, or the last one; SLICE_NULL for a key */
    const char *text;    /* one sentence for people */
};

struct mapping {
    int *then;               /* by live column: index at the cut, -1: added since */
    int *now;                /* by column at the cut: live index, -1: dropped since */
    const char **from_types; /* by live column: the type it had as SQL names it; NULL: the same */
    bool changed;            /* the two shapes differ */
    bool converts;           /* some value may read differently: type or length changed */
    bool key_changed;        /* other columns make up the key */
    struct schema_change *changes;
    size_t change_count;
};

/* `label` names the table. Lives in `arena`. PGS_E_REFUSED `shape_changed`. */
PGS_CHECKED int mapping_build(struct pg_conn *c, const char *label, const struct relation *then,
                              const struct relation *now, struct arena *arena, struct mapping *out,
                              struct pgs_err *err);

/* Refuses with "table <label> has changed since then: ...", code `shape_changed` and the ways out.
 * Arguments may point into *err. */
int mapping_refuse(struct pgs_err *err, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
