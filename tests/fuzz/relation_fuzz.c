/* relation_fuzz.c: tables as JSON, and keys and rows of as many columns. A table that is accepted
 * means the same after writing it and reading it again, with the same decisions. */
#include "core/err.h"
#include "pg/catalog.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS_MAX 8

static void
check_json(struct slice json, struct arena *arena)
{
    static const struct catalog_rules rules = { .tenant_table = "tenants",
                                                .tenant_column = "tenant_id",
                                                .publication = "pgstrata" };
    struct relation *r = NULL, *again = NULL;
    struct pgs_err err;
    struct buf first = { 0 }, second = { 0 };
    int rc = relation_from_json(json, arena, &r, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
    if (rc < 0)
        return;
    catalog_decide(&rules, arena, r);
    pgs_assert(r->tenant_column < (int)r->column_count);
    relation_to_json(r, &first);
    for (size_t i = 0; i < first.size; i++)
        pgs_assert(first.data[i] >= ' ' && first.data[i] <= 0x7f); /* DEL is ASCII */
    pgs_assert(relation_from_json(buf_slice(&first), arena, &again, &err) == 0);
    catalog_decide(&rules, arena, again);
    pgs_assert(again->covered == r->covered && again->route == r->route);
    pgs_assert(relation_shape_id(again) == relation_shape_id(r));
    relation_to_json(again, &second);
    pgs_assert(slice_equal(buf_slice(&first), buf_slice(&second)));
    pgs_assert(relation_matches(r, relation_dup(arena, again)));
    buf_release(&first);
    buf_release(&second);
}

static void
check_row(struct slice image, size_t count)
{
    struct row_field fields[FIELDS_MAX];
    struct pgs_err err;
    struct buf again = { 0 };
    if (row_split(image, count, fields, &err) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (fields[i].kind == ROW_UNCHANGED)
            buf_put_u8(&again, ROW_UNCHANGED);
        else
            row_put_field(&again, fields[i].text);
    }
    pgs_assert(slice_compare(buf_slice(&again), image) == 0);
    buf_release(&again);
}

static void
check_key(struct slice key, size_t count)
{
    struct slice fields[FIELDS_MAX];
    struct pgs_err err;
    struct buf again = { 0 };
    if (key_split(key, count, fields, &err) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        key_put_field(&again, fields[i]);
    pgs_assert(slice_compare(buf_slice(&again), key) == 0);
    buf_release(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(NULL);
    struct slice input = slice_of(data, size);
    check_json(input, arena);
    for (size_t count = 0; count <= FIELDS_MAX; count++) {
        check_row(input, count);
        check_key(input, count);
    }
    arena_free(arena);
    return 0;
}
