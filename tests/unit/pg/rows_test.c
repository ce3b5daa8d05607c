/* rows_test.c: row images and keys, the two encodings that every layer shares. */
#include "support/unit.h"

#include "core/err.h"
#include "pg/relation.h"

static struct slice
bytes(const struct buf *b)
{
    return buf_slice(b);
}

static void
a_row_and_back(void **state)
{
    struct buf b = { 0 };
    struct row_field fields[4];
    struct pgs_err err;
    (void)state;
    row_put_field(&b, slice_str("a\tb"));
    row_put_field(&b, SLICE_NULL);
    buf_put_u8(&b, ROW_UNCHANGED);
    row_put_field(&b, slice_of("", 0));
    assert_int_equal(row_split(bytes(&b), 4, fields, &err), 0);
    assert_int_equal(fields[0].kind, ROW_TEXT);
    assert_slice_equal(fields[0].text, "a\tb");
    assert_int_equal(fields[1].kind, ROW_NULL);
    assert_null(fields[1].text.data);
    assert_int_equal(fields[2].kind, ROW_UNCHANGED);
    assert_int_equal(fields[3].kind, ROW_TEXT);
    assert_slice_equal(fields[3].text, "");
    buf_release(&b);
}

static void
a_row_is_what_pgoutput_sends(void **state)
{
    static const uint8_t sent[] = { 't', 0, 0, 0, 2, '4', '2', 'n', 'u' };
    struct buf b = { 0 };
    (void)state;
    row_put_field(&b, slice_str("42"));
    row_put_field(&b, SLICE_NULL);
    buf_put_u8(&b, ROW_UNCHANGED);
    assert_int_equal(b.size, sizeof(sent));
    assert_memory_equal(b.data, sent, sizeof(sent));
    buf_release(&b);
}

static void
a_row_cut_off_anywhere_is_refused(void **state)
{
    struct buf b = { 0 };
    struct row_field fields[3];
    struct pgs_err err;
    (void)state;
    row_put_field(&b, slice_str("one"));
    row_put_field(&b, SLICE_NULL);
    row_put_field(&b, slice_str("three"));
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(row_split(slice_of(b.data, size), 3, fields, &err), PGS_E_CORRUPT);
    assert_int_equal(row_split(bytes(&b), 2, fields, &err), PGS_E_CORRUPT);
    assert_int_equal(row_split(bytes(&b), 3, fields, &err), 0);
    buf_release(&b);
}

static void
a_row_of_unknown_kinds_or_sizes_is_refused(void **state)
{
    static const uint8_t binary[] = { 'b', 0, 0, 0, 1, 7 };
    static const uint8_t huge[] = { 't', 0xff, 0xff, 0xff, 0xff, 'x' };
    struct row_field field;
    struct pgs_err err;
    (void)state;
    assert_int_equal(row_split(slice_of(binary, sizeof(binary)), 1, &field, &err), PGS_E_CORRUPT);
    assert_int_equal(row_split(slice_of(huge, sizeof(huge)), 1, &field, &err), PGS_E_CORRUPT);
    assert_int_equal(row_split(slice_of("", 0), 0, &field, &err), 0);
}

static void
a_key_and_back(void **state)
{
    struct buf b = { 0 };
    struct slice fields[4];
    struct pgs_err err;
    (void)state;
    key_put_field(&b, slice_str("\x01\x02 ação"));
    key_put_field(&b, SLICE_NULL);
    key_put_field(&b, slice_of("", 0));
    key_put_field(&b, slice_str("z"));
    assert_int_equal(key_split(bytes(&b), 4, fields, &err), 0);
    assert_slice_equal(fields[0], "\x01\x02 ação");
    assert_null(fields[1].data);
    assert_slice_equal(fields[2], "");
    assert_slice_equal(fields[3], "z");
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(key_split(slice_of(b.data, size), 4, fields, &err), PGS_E_CORRUPT);
    assert_int_equal(key_split(bytes(&b), 3, fields, &err), PGS_E_CORRUPT);
    assert_int_equal(key_split(slice_str("\x03"), 1, fields, &err), PGS_E_CORRUPT);
    buf_release(&b);
}

/* NULL, then text by its bytes, column by column; and no key is the beginning of another, since a
 * merge compares keys as plain bytes. */
static void
keys_sort_column_by_column(void **state)
{
    static const char *const sorted[][2] = {
        { NULL, NULL }, { NULL, "" },  { NULL, "a" }, { "", NULL }, { "", "b" },
        { "\x01", "" }, { "a", NULL }, { "a", "" },   { "a", "b" }, { "a", "ba" },
        { "ab", "" },   { "b", "a" },  { "é", "" },
    };
    const size_t count = sizeof(sorted) / sizeof(sorted[0]);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            struct buf x = { 0 }, y = { 0 };
            for (size_t k = 0; k < 2; k++) {
                key_put_field(&x, slice_str(sorted[i][k]));
                key_put_field(&y, slice_str(sorted[j][k]));
            }
            int order = slice_compare(bytes(&x), bytes(&y));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
            bool begins = i != j && x.size <= y.size && memcmp(x.data, y.data, x.size) == 0;
            assert_false(begins);
            buf_release(&x);
            buf_release(&y);
        }
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_and_back),
        cmocka_unit_test(a_row_is_what_pgoutput_sends),
        cmocka_unit_test(a_row_cut_off_anywhere_is_refused),
        cmocka_unit_test(a_row_of_unknown_kinds_or_sizes_is_refused),
        cmocka_unit_test(a_key_and_back),
        cmocka_unit_test(keys_sort_column_by_column),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
