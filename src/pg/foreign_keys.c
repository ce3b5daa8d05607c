/* foreign_keys.c: catalog_foreign_keys. */
#include "core/err.h"
#include "pg/catalog_internal.h"

/* One row per column, so that any name can be in it. */
static const char columns_sql[] =
    "SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.confmatchtype, k.convalidated,"
    " cn.nspname, c.relname, pn.nspname, p.relname, cardinality(k.conkey), ca.attname, pa.attname"
    " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
    " JOIN pg_namespace cn ON cn.oid = c.relnamespace JOIN pg_class p ON p.oid = k.confrelid"
    " JOIN pg_namespace pn ON pn.oid = p.relnamespace"
    " CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY u(child, parent, n)"
    " JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = u.child"
    " JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = u.parent"
    " WHERE k.contype = 'f' ORDER BY cn.nspname, c.relname, k.conname, k.oid, u.n";

static void
read_key(const struct pg_rows *rows, size_t i, struct arena *arena, struct foreign_key *k)
{
    size_t columns = cell_oid(rows, i, 10);
    *k = (struct foreign_key){
        .name = arena_dup(arena, pg_cell_slice(rows, i, 1)),
        .child_oid = cell_oid(rows, i, 2),
        .parent_oid = cell_oid(rows, i, 3),
        .match = pg_cell(rows, i, 4)[0],
        .validated = cell_true(rows, i, 5),
        .child_schema = arena_dup(arena, pg_cell_slice(rows, i, 6)),
        .child_name = arena_dup(arena, pg_cell_slice(rows, i, 7)),
        .parent_schema = arena_dup(arena, pg_cell_slice(rows, i, 8)),
        .parent_name = arena_dup(arena, pg_cell_slice(rows, i, 9)),
        .child_columns = arena_alloc_array(arena, columns, sizeof(struct slice)),
        .parent_columns = arena_alloc_array(arena, columns, sizeof(struct slice)),
    };
}

int
catalog_foreign_keys(struct pg_conn *c, struct arena *arena, struct foreign_key **keys,
                     size_t *count, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, columns_sql, PG_NO_PARAMS, &rows, err);
    if (rc < 0)
        return err_doing(err, "read foreign keys");
    size_t n = pg_rows_count(rows), found = 0;
    struct foreign_key *list = arena_alloc_array(arena, n + 1, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || cell_oid(rows, i, 0) != cell_oid(rows, i - 1, 0))
            read_key(rows, i, arena, &list[found++]);
        struct foreign_key *k = &list[found - 1];
        k->child_columns[k->column_count] = arena_dup(arena, pg_cell_slice(rows, i, 11));
        k->parent_columns[k->column_count++] = arena_dup(arena, pg_cell_slice(rows, i, 12));
    }
    pg_rows_free(rows);
    *keys = list;
    *count = found;
    return 0;
}
