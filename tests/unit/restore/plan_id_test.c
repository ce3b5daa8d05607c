#include "restore/plan_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

static struct plan_id_table tables[] = {
    { .oid = 16384, .shape_id = 0x1122, .inserted = 1, .updated = 2, .deleted = 3, .digest = "aa" },
    { .oid = 16390, .shape_id = 0x3344, .digest = "" },
};

static struct plan_id_input
example(void)
{
    return (struct plan_id_input){ .tenant = slice_str("acme"),
                                   .last_kept = { .lsn = 0x500, .time = 7, .xid = 9 },
                                   .cut_lsn = 0x600,
                                   .tables = tables,
                                   .table_count = 2 };
}

static const char *
id_of(const struct plan_id_input *input, char id[PLAN_ID_SIZE])
{
    plan_id(input, id);
    return id;
}

static void
the_same_plan_has_the_same_id(void **state)
{
    char one[PLAN_ID_SIZE], two[PLAN_ID_SIZE];
    struct plan_id_input a = example(), b = example();
    (void)state;
    assert_string_equal(id_of(&a, one), id_of(&b, two));
    assert_int_equal(strlen(one), PLAN_ID_SIZE - 1);
}

/* Where nothing came after the target, the cut's LSN grows with the archive: it is the same cut. */
static void
a_growing_archive_does_not_change_the_id(void **state)
{
    char one[PLAN_ID_SIZE], two[PLAN_ID_SIZE];
    struct plan_id_input a = example(), b = example();
    (void)state;
    b.cut_lsn = 0x700;
    assert_string_equal(id_of(&a, one), id_of(&b, two));
    a.last_kept.lsn = b.last_kept.lsn = 0; /* nothing is kept: then only the cut tells them apart */
    assert_string_not_equal(id_of(&a, one), id_of(&b, two));
}

static void
whatever_matters_changes_the_id(void **state)
{
    char plain[PLAN_ID_SIZE], other[PLAN_ID_SIZE];
    struct plan_id_table changed[2];
    struct plan_id_input a = example(), b;
    (void)state;
    plan_id(&a, plain);

    b = example();
    b.tenant = slice_str("acm");
    assert_string_not_equal(plain, id_of(&b, other));
    b = example();
    memcpy(changed, tables, sizeof(changed));
    changed[1].live_shape_id = 0x5566; /* rows of then would go into other columns */
    b.tables = changed;
    assert_string_not_equal(plain, id_of(&b, other));
    b = example();
    b.last_kept.lsn = 0x501;
    assert_string_not_equal(plain, id_of(&b, other));
    b = example();
    b.to_schema = "look";
    assert_string_not_equal(plain, id_of(&b, other));
    b = example();
    b.table_count = 1;
    assert_string_not_equal(plain, id_of(&b, other));

    memcpy(changed, tables, sizeof(changed));
    b = example();
    b.tables = changed;
    assert_string_equal(plain, id_of(&b, other));
    changed[0].digest = "ab";
    assert_string_not_equal(plain, id_of(&b, other));
    changed[0].digest = tables[0].digest;
    changed[1].shape_id++;
    assert_string_not_equal(plain, id_of(&b, other));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_plan_has_the_same_id),
        cmocka_unit_test(a_growing_archive_does_not_change_the_id),
        cmocka_unit_test(whatever_matters_changes_the_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
