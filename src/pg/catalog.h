/* catalog.h: reads the database's tables and decides routes, identity and coverage (DESIGN 5).
 *
 * Reading is one query each for tables, columns and keys, in the connection's current snapshot, so
 * that it can be done under an exported snapshot too. */
#ifndef PG_CATALOG_H
#define PG_CATALOG_H

#include "pg/conn.h"
#include "pg/relation.h"

struct route_override {
    const char *table; /* "schema.table" */
    enum route route;
    const char *column; /* ROUTE_COLUMN: the tenant column; NULL: the default name */
};

struct catalog_rules {
    const char *tenant_table;  /* "tenants" or "schema.tenants" */
    const char *tenant_column; /* "tenant_id" */
    /* "app_*": a schema of that name is one tenant's, whose key is what the star stands for. NULL:
     * no schema is. */
    const char *tenant_schemas;
    const char *publication; /* to fill relation.published */
    const struct route_override *overrides;
    size_t override_count;
};

struct catalog {
    struct relation **relations; /* ordinary tables and leaf partitions, by (schema, name) */
    struct relation **by_oid;    /* the same, for catalog_by_oid */
    size_t count;
    bool tenants_found;
    struct slice tenants_type; /* format_type of the tenants table's key; empty if not found */
};

/* The tenant whose schema this is by the rules' pattern, pointing into `schema`; SLICE_NULL:
 * nobody's. PostgreSQL's own schemas, ours and `public` are never a tenant's. */
struct slice catalog_schema_tenant(const struct catalog_rules *rules, struct slice schema);

/* Decides route, tenant column, coverage and their reasons from the facts in *r and the rules.
 * Pure; text it makes lives in `arena`, or is a constant. The same facts and rules give the same
 * decisions wherever the facts came from: catalog_read, a DDL message, a log entry. */
void catalog_decide(const struct catalog_rules *rules, struct arena *arena, struct relation *r);

PGS_CHECKED int catalog_read(struct pg_conn *c, const struct catalog_rules *rules,
                             struct arena *arena, struct catalog *catalog, struct pgs_err *err);
const struct relation *catalog_by_oid(const struct catalog *catalog, uint32_t oid);
const struct relation *catalog_by_name(const struct catalog *catalog, struct slice schema,
                                       struct slice name);

/* Foreign keys among the given tables (and to and from others): for restore's order and checks. */
struct foreign_key {
    struct slice name;
    uint32_t child_oid, parent_oid;
    size_t column_count;
    struct slice *child_columns;
    struct slice *parent_columns;
    struct slice parent_schema, parent_name, child_schema, child_name;
    char match; /* 's' simple, 'f' full, 'p' partial */
    bool validated;
};
PGS_CHECKED int catalog_foreign_keys(struct pg_conn *c, struct arena *arena,
                                     struct foreign_key **keys, size_t *count, struct pgs_err *err);

#endif
