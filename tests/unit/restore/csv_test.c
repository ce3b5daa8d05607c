#include "restore/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void
assert_csv(struct slice field, const char *expected)
{
    struct buf b = { 0 };
    csv_put_field(&b, field);
    assert_string_equal(buf_cstr(&b), expected);
    buf_release(&b);
}

static void
null_is_nothing_and_the_empty_string_is_quoted(void **state)
{
    (void)state;
    assert_csv(SLICE_NULL, "");
    assert_csv(slice_str(""), "\"\"");
}

static void
plain_text_stays_as_it_is(void **state)
{
    (void)state;
    assert_csv(slice_str("abc"), "abc");
    assert_csv(slice_str("João"), "João");
    assert_csv(slice_str("\\N"), "\\N");
}

static void
separators_and_quotes_are_quoted(void **state)
{
    (void)state;
    assert_csv(slice_str("a,b"), "\"a,b\"");
    assert_csv(slice_str("a\nb"), "\"a\nb\"");
    assert_csv(slice_str("a\rb"), "\"a\rb\"");
    assert_csv(slice_str("say \"so\""), "\"say \"\"so\"\"\"");
    assert_csv(slice_str(" a"), "\" a\"");
}

/* Alone on its line it would end the data of a COPY. */
static void
the_end_of_copy_data_is_quoted(void **state)
{
    (void)state;
    assert_csv(slice_str("\\."), "\"\\.\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_nothing_and_the_empty_string_is_quoted),
        cmocka_unit_test(plain_text_stays_as_it_is),
        cmocka_unit_test(separators_and_quotes_are_quoted),
        cmocka_unit_test(the_end_of_copy_data_is_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
