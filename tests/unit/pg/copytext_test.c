#include "support/unit.h"

#include "core/err.h"
#include "pg/copytext.h"

static int
arena_setup(void **state)
{
    *state = arena_new(NULL);
    return 0;
}

static int
arena_teardown(void **state)
{
    arena_free(*state);
    return 0;
}

static struct slice
one(struct arena *arena, const char *line)
{
    struct slice field = SLICE_NULL;
    struct pgs_err err;
    assert_int_equal(copytext_split(slice_str(line), 1, &field, arena, &err), 0);
    return field;
}

static void
nasty_values_come_back(void **state)
{
    static const struct slice values[] = {
        { (const uint8_t *)"", 0 },
        { NULL, 0 },
        { (const uint8_t *)"\\N", 2 },
        { (const uint8_t *)"\\", 1 },
        { (const uint8_t *)"\\\\.", 3 },
        { (const uint8_t *)"\\.", 2 },
        { (const uint8_t *)"a\tb\nc\rd\be\ff\vg", 13 },
        { (const uint8_t *)"N", 1 },
        { (const uint8_t *)"\\x41\\101", 8 },
        { (const uint8_t *)"\x01\x02\x1f\x7f", 4 },
        { (const uint8_t *)"日本 𝄞 é", 15 },
        { (const uint8_t *)"\t", 1 },
        { (const uint8_t *)"\n", 1 },
    };
    const size_t count = sizeof(values) / sizeof(values[0]);
    struct slice fields[sizeof(values) / sizeof(values[0])];
    struct buf line = { 0 };
    struct pgs_err err;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_put_u8(&line, '\t');
        copytext_put(&line, values[i]);
    }
    buf_put_u8(&line, '\n');
    assert_int_equal(copytext_split(buf_slice(&line), count, fields, *state, &err), 0);
    for (size_t i = 0; i < count; i++) {
        if (!slice_equal(fields[i], values[i]))
            fail_msg("value %zu is another", i);
    }
    buf_release(&line);
}

static void
every_byte_comes_back(void **state)
{
    struct slice field;
    struct buf line = { 0 };
    struct pgs_err err;
    for (unsigned c = 1; c < 256; c++) {
        uint8_t value[3] = { 'x', (uint8_t)c, 'y' };
        buf_reset(&line);
        copytext_put(&line, slice_of(value, 3));
        assert_null(memchr(line.data, '\n', line.size));
        assert_null(memchr(line.data, '\t', line.size));
        assert_int_equal(copytext_split(buf_slice(&line), 1, &field, *state, &err), 0);
        assert_true(slice_equal(field, slice_of(value, 3)));
    }
    buf_release(&line);
}

static void
what_postgresql_writes_is_read(void **state)
{
    assert_slice_equal(one(*state, "plain\n"), "plain");
    assert_slice_equal(one(*state, "a\\tb\\\\c\n"), "a\tb\\c");
    assert_slice_equal(one(*state, "\n"), "");
    assert_slice_equal(one(*state, ""), "");
    assert_null(one(*state, "\\N\n").data);
    assert_slice_equal(one(*state, "\\\\N\n"), "\\N");
    assert_slice_equal(one(*state, "\\b\\f\\v\\n\\r"), "\b\f\v\n\r");
}

/* COPY's documentation allows these forms for input; nothing is lost by reading them. */
static void
other_escapes_are_read_as_documented(void **state)
{
    assert_slice_equal(one(*state, "\\101\\60"), "A0");
    assert_slice_equal(one(*state, "\\1018"), "A8");
    assert_slice_equal(one(*state, "\\x41\\x4G"), "A\x04G");
    assert_slice_equal(one(*state, "\\xg\\q"), "xgq");
}

static void
only_fields_with_escapes_are_copied(void **state)
{
    struct slice line = slice_str("plain\tesc\\taped");
    struct slice fields[2];
    struct pgs_err err;
    assert_int_equal(copytext_split(line, 2, fields, *state, &err), 0);
    assert_ptr_equal(fields[0].data, line.data);
    assert_false(fields[1].data >= line.data && fields[1].data < line.data + line.size);
}

static void
a_wrong_number_of_columns_is_refused(void **state)
{
    struct slice fields[3];
    struct pgs_err err;
    assert_int_equal(copytext_split(slice_str("a\tb\n"), 1, fields, *state, &err), PGS_E_CORRUPT);
    assert_int_equal(copytext_split(slice_str("a\tb\n"), 3, fields, *state, &err), PGS_E_CORRUPT);
    assert_int_equal(copytext_split(slice_str("a\n"), 0, fields, *state, &err), PGS_E_CORRUPT);
    assert_int_equal(copytext_split(slice_str("\n"), 0, fields, *state, &err), 0);
    assert_int_equal(copytext_split(slice_str("\t\n"), 2, fields, *state, &err), 0);
    assert_slice_equal(fields[1], "");
    assert_int_equal(copytext_split(SLICE_NULL, 1, fields, *state, &err), 0);
    assert_slice_equal(fields[0], "");
}

static void
a_lone_backslash_is_refused(void **state)
{
    struct slice fields[2];
    struct pgs_err err;
    assert_int_equal(copytext_split(slice_str("a\\\n"), 1, fields, *state, &err), PGS_E_CORRUPT);
    assert_int_equal(copytext_split(slice_str("\\\tb"), 2, fields, *state, &err), PGS_E_CORRUPT);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nasty_values_come_back, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(every_byte_comes_back, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(what_postgresql_writes_is_read, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(other_escapes_are_read_as_documented, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(only_fields_with_escapes_are_copied, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_wrong_number_of_columns_is_refused, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_lone_backslash_is_refused, arena_setup, arena_teardown),
    };
    return cmocka_run_group_tests_name("copytext", tests, NULL, NULL);
}
