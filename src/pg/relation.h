/* relation.h: what pgstrata knows of a table: its columns as they are published, its identity, and
 * how its rows find their tenant (the route, DESIGN 5). Plain values; text lives in the arena they
 * came from. */
#ifndef PG_RELATION_H
#define PG_RELATION_H

#include "core/arena.h"
#include "core/buf.h"
#include <pgstrata/error.h>

enum route {
    ROUTE_COLUMN,   /* the tenant column names the tenant */
    ROUTE_SHARED,   /* reference table: tenant `_shared` */
    ROUTE_EXCLUDED, /* not archived */
    ROUTE_PARENT,   /* by foreign key to a row that has a tenant: recognised, not yet archived */
    ROUTE_SCHEMA,   /* the schema is one tenant's: every row is relation.tenant's */
};
const char *route_name(enum route route);
PGS_CHECKED int route_parse(const char *text, enum route *route, struct pgs_err *err);

struct column {
    struct slice name;
    int16_t attnum; /* 0: not known (came from a Relation message) */
    uint32_t type_oid;
    int32_t typmod;
    struct slice type_name; /* format_type, schema-qualified where needed, as SQL wants it */
    bool key;               /* part of the replica identity used as the row key */
    bool not_null;
    char identity;          /* 'a' always, 'd' by default, 0 none */
    struct slice collation; /* qualified and quoted, or SLICE_NULL for the type's default */
};

struct relation {
    uint32_t oid;
    struct slice schema, name;
    char identity; /* pg_class.relreplident: d, n, f, i */
    enum route route;
    struct slice route_reason; /* "column tenant_id", "no tenant column", "configured" */
    int tenant_column;         /* index into columns, -1: none */
    struct slice tenant;       /* ROUTE_SCHEMA: whose rows these all are; else SLICE_NULL */
    bool is_tenants_table;     /* the table whose key is the tenant */
    bool covered;              /* changes can be archived and restored exactly */
    struct slice why_not;      /* !covered: the reason, one sentence */
    struct slice fix;          /* !covered: what the user can do; may be empty */
    /* Facts that decide route and coverage (catalog_decide). */
    struct slice tenant_fk;   /* the one column that alone refers to the tenants table's key */
    bool tenant_fk_ambiguous; /* there are several such columns, so tenant_fk is SLICE_NULL */
    struct slice
        tenant_parent; /* table on a foreign-key path to one with a tenant, or SLICE_NULL */
    bool unlogged;
    bool key_unusable;    /* the key is deferrable or holds a generated column */
    bool rls_blocks;      /* row-level security would hide rows from our role */
    bool is_tenants_fact; /* it is the configured tenants table */
    bool published;       /* in our publication now */
    bool tenant_in_key;   /* the tenant column is part of the key */
    /* Generated columns: not published, so no tenant column either. */
    struct slice *generated;
    size_t generated_count;
    /* Published columns in attnum order; generated and dropped ones are left out. */
    struct column *columns;
    size_t column_count;
    /* Known only where the catalog was read; not in JSON. */
    struct slice owner;           /* the role that owns the table */
    bool owned;                   /* our role may alter it */
    bool move_trigger;            /* the move trigger is there, for this tenant column */
    int16_t move_column;          /* whose changes the move trigger tells, 0: there is none */
    bool published_in_part;       /* with a row filter or a column list: not by us */
    struct slice candidate_index; /* a unique index that could be the identity, or SLICE_NULL */
};

/* Names the shape of a relation: same columns (attnum, name, type, typmod, key), route, tenant
 * column and, with ROUTE_SCHEMA, tenant give the same number, on any machine. Not the table's own
 * name: a rename changes no row. First 8 bytes, big-endian, of SHA-256 over a canonical encoding
 * (docs/format.md). */
uint64_t relation_shape_id(const struct relation *r);

/* Same published columns as seen in a Relation message (names, types, key flags; attnums
 * ignored), and the same schema where that is what names the tenant. */
bool relation_matches(const struct relation *known, const struct relation *message);

/* Index of the column with this attnum, -1: it is not published, or there is none. */
int relation_column(const struct relation *r, int16_t attnum);

struct relation *relation_dup(struct arena *arena, const struct relation *r);

/* JSON object of a relation, ASCII only (DDL messages, log entries):
 *
 *   {"oid": n, "schema": "...", "name": "...", "identity": "d|n|f|i", "route": "...",
 *    "tenant_column": "..."|null, "tenant": "..." (schema routes only),
 *    "tenants_table": bool, "tenant_fk": "..."|null, "tenant_fk_ambiguous": bool,
 *    "tenant_parent": "..."|null, "unlogged": bool,
 *    "key_unusable": bool, "published": bool, "generated": ["..."],
 *    "columns": [{"name": "...", "attnum": n, "type": oid, "typmod": n, "type_name": "...",
 *                 "key": bool, "not_null": bool, "identity": ""|"a"|"d",
 *                 "collation": "..."|null}]}
 *
 * All facts of catalog_decide are in it, so that deciding again gives the same. In messages made
 * inside the database (sql/0002_tables.sql) route, tenant_column and tenant are absent:
 * catalog_decide fills them. Facts that are absent are false or NULL. Parsing checks everything;
 * PGS_E_CORRUPT. */
void relation_to_json(const struct relation *r, struct buf *out);
PGS_CHECKED int relation_from_json(struct slice json, struct arena *arena, struct relation **r,
                                   struct pgs_err *err);

/* --- keys and row images: the two encodings that every layer shares (docs/format.md) ---
 *
 * Row image: the columns in order, as pgoutput's TupleData has them after its count: 'n' (NULL) |
 * 'u' (unchanged TOAST: carried from the previous version) | 't' int32 size, text bytes.
 * Key: the key columns in order, each 0x01 for NULL, or 0x02, text bytes, 0x00 (text holds no NUL),
 * so that bytewise order is well defined and no key is a prefix of another. */
#define ROW_NULL 'n'
#define ROW_UNCHANGED 'u'
#define ROW_TEXT 't'

void row_put_field(struct buf *out, struct slice field); /* SLICE_NULL: 'n' */
void key_put_field(struct buf *out, struct slice field);

struct row_field {
    uint8_t kind; /* ROW_NULL, ROW_UNCHANGED, ROW_TEXT */
    struct slice text;
};
/* Splits an image into exactly `count` fields that point into it. PGS_E_CORRUPT. */
PGS_CHECKED int row_split(struct slice image, size_t count, struct row_field *fields,
                          struct pgs_err *err);
/* Splits a key into its fields (SLICE_NULL for NULL), pointing into it. PGS_E_CORRUPT. */
PGS_CHECKED int key_split(struct slice key, size_t count, struct slice *fields,
                          struct pgs_err *err);

#endif
