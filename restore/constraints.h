/* constraints.h: what the live database demands of its rows: operators that decide whether keys are
 * equal, foreign keys, deferrable unique and exclusion constraints, triggers.
 *
 * Read from the catalog inside the restore's transaction, after its tables are locked against
 * changes of their shape. All text lives in the arena given. */
#ifndef RESTORE_CONSTRAINTS_H
#define RESTORE_CONSTRAINTS_H

#include "pg/conn.h"

/* A table's column as SQL names it. */
struct column_pair {
    const char *child, *parent; /* quoted identifiers; unique constraints use `child` alone */
    int16_t child_attnum, parent_attnum;
    const char *equals; /* OPERATOR(schema.=): parent on the left, child on the right */
};

struct foreign_key_check {
    uint32_t child_oid, parent_oid;
    const char *name;
    const char *child, *parent; /* quoted, with ONLY where the table is no partitioned one */
    bool child_side;            /* says what rows of child_oid need */
    bool parent_side;           /* says who may refer to rows of parent_oid */
    struct column_pair *columns;
    size_t column_count;
};

/* Deferrable unique or exclusion constraint: its recheck is a trigger, off while restoring. */
struct unique_check {
    uint32_t table_oid;
    const char *name;
    const char *elements;  /* SQL: the index's columns and expressions, as e1, e2... */
    const char *predicate; /* SQL: which rows it is about; NULL: all */
    const char *conflict;  /* SQL: condition over a.e1, b.e1... under which two rows clash */
};

struct key_operator {
    uint32_t table_oid;
    int16_t attnum;
    const char *equals; /* OPERATOR(schema.name) */
};

/* A column in a unique or exclusion index: two rows that swap values there cannot be updated one
 * after the other. */
struct indexed_column {
    uint32_t table_oid;
    int16_t attnum;
};

struct firing_trigger {
    uint32_t table_oid;
    const char *table, *name;
    bool in_replica, in_origin; /* fires under that session_replication_role */
};

struct constraints {
    struct key_operator *operators;
    size_t operator_count;
    struct indexed_column *indexed;
    size_t indexed_count;
    struct foreign_key_check *foreign_keys;
    size_t foreign_key_count;
    struct unique_check *uniques;
    size_t unique_count;
    struct firing_trigger *triggers; /* the user's, and rules; ours are left out */
    size_t trigger_count;
};

/* All that concerns the tables with these oids. */
PGS_CHECKED int constraints_read(struct pg_conn *c, const uint32_t *oids, size_t oid_count,
                                 struct arena *arena, struct constraints *out, struct pgs_err *err);
/* "OPERATOR(pg_catalog.=)" when none is known. */
const char *constraints_equals(const struct constraints *c, uint32_t table_oid, int16_t attnum);
bool constraints_indexed(const struct constraints *c, uint32_t table_oid, int16_t attnum);

#endif
