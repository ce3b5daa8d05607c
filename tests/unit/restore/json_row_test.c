#include "restore/json_row.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* id (key), name, code (key) */
static struct column columns[] = { { .name = { (const uint8_t *)"id", 2 }, .key = true },
                                   { .name = { (const uint8_t *)"na\"me", 5 } },
                                   { .name = { (const uint8_t *)"code", 4 }, .key = true } };
static const struct relation table = { .columns = columns, .column_count = 3 };

static void
assert_text(struct slice text, const char *expected)
{
    struct buf b = { 0 };
    json_put_text(&b, text);
    assert_string_equal(buf_cstr(&b), expected);
    buf_release(&b);
}

static void
null_and_the_empty_string_differ(void **state)
{
    (void)state;
    assert_text(SLICE_NULL, "null");
    assert_text(slice_str(""), "\"\"");
}

static void
what_json_cannot_hold_is_escaped(void **state)
{
    (void)state;
    assert_text(slice_str("a\"b\\c"), "\"a\\\"b\\\\c\"");
    assert_text(slice_str("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    assert_text(slice_str("\x01\x1f\x7f"), "\"\\u0001\\u001f\\u007f\"");
}

static void
utf8_passes_unchanged(void **state)
{
    (void)state;
    assert_text(slice_str("São Paulo 🎓"), "\"São Paulo 🎓\"");
}

static void
rows_keep_the_tables_order(void **state)
{
    struct buf b = { 0 };
    const struct row_field fields[] = { { ROW_TEXT, slice_str("7") },
                                        { ROW_NULL, SLICE_NULL },
                                        { ROW_TEXT, slice_str("") } };
    (void)state;
    json_put_row(&b, &table, fields);
    assert_string_equal(buf_cstr(&b), "{\"id\": \"7\", \"na\\\"me\": null, \"code\": \"\"}");
    buf_release(&b);
}

static void
keys_have_the_key_columns_alone(void **state)
{
    struct buf key = { 0 }, b = { 0 };
    struct pgs_err err;
    (void)state;
    key_put_field(&key, slice_str("7"));
    key_put_field(&key, SLICE_NULL);
    assert_int_equal(relation_key_count(&table), 2);
    assert_int_equal(json_put_encoded_key(&b, &table, buf_slice(&key), &err), 0);
    assert_string_equal(buf_cstr(&b), "{\"id\": \"7\", \"code\": null}");
    buf_release(&key);
    buf_release(&b);
}

static void
a_key_of_another_table_is_found_out(void **state)
{
    struct buf key = { 0 }, b = { 0 };
    struct pgs_err err;
    (void)state;
    key_put_field(&key, slice_str("7"));
    assert_int_equal(json_put_encoded_key(&b, &table, buf_slice(&key), &err), PGS_E_CORRUPT);
    buf_release(&key);
    buf_release(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_and_the_empty_string_differ),
        cmocka_unit_test(what_json_cannot_hold_is_escaped),
        cmocka_unit_test(utf8_passes_unchanged),
        cmocka_unit_test(rows_keep_the_tables_order),
        cmocka_unit_test(keys_have_the_key_columns_alone),
        cmocka_unit_test(a_key_of_another_table_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
