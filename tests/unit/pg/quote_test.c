/* quote_test.c: the offline forms; libpq's own need a server. */
#include "support/unit.h"

#include "pg/quote.h"

static const char *
quoted(struct buf *b, bool literal, struct slice text)
{
    buf_reset(b);
    if (literal)
        quote_literal_offline(b, text);
    else
        quote_ident_offline(b, text);
    return buf_cstr(b);
}

static void
names_are_always_quoted(void **state)
{
    struct buf b = { 0 };
    (void)state;
    assert_string_equal(quoted(&b, false, slice_str("id")), "\"id\"");
    assert_string_equal(quoted(&b, false, slice_str("a\"; DROP")), "\"a\"\"; DROP\"");
    assert_string_equal(quoted(&b, false, slice_str("\"")), "\"\"\"\"");
    assert_string_equal(quoted(&b, false, slice_str("it's")), "\"it's\"");
    buf_release(&b);
}

static void
values_keep_their_backslashes(void **state)
{
    struct buf b = { 0 };
    (void)state;
    assert_string_equal(quoted(&b, true, slice_str("it's \\' \"x\"")), "'it''s \\'' \"x\"'");
    assert_string_equal(quoted(&b, true, slice_of("", 0)), "''");
    assert_string_equal(quoted(&b, true, SLICE_NULL), "NULL");
    assert_string_equal(quoted(&b, true, slice_str("é\n")), "'é\n'");
    buf_release(&b);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_always_quoted),
        cmocka_unit_test(values_keep_their_backslashes),
    };
    return cmocka_run_group_tests_name("quote", tests, NULL, NULL);
}
