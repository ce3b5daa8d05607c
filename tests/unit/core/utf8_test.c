#include "support/unit.h"

#include "core/utf8.h"

#include <stdio.h>

static void
characters_have_their_sizes(void **state)
{
    (void)state;
    assert_int_equal(utf8_char_size("a"), 1);
    assert_int_equal(utf8_char_size(""), 1);
    assert_int_equal(utf8_char_size("\xc3\xa9x"), 2);
    assert_int_equal(utf8_char_size("\xe2\x82\xac"), 3);
    assert_int_equal(utf8_char_size("\xed\x9f\xbf"), 3);     /* U+D7FF */
    assert_int_equal(utf8_char_size("\xf0\x9f\x90\x98"), 4); /* an elephant */
    assert_int_equal(utf8_char_size("\xf4\x8f\xbf\xbf"), 4); /* U+10FFFF */
}

static void
what_json_rejects_is_invalid(void **state)
{
    static const char *const texts[] = {
        "\x80",             /* a middle without a beginning */
        "\xc3",             /* cut off */
        "\xe2\x82",         /* cut off */
        "\xf0\x9f\x90",     /* cut off */
        "\xc0\xaf",         /* overlong '/' */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",     /* a surrogate */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(utf8_char_size(texts[i]), 0);
}

static void
mending_keeps_what_is_valid(void **state)
{
    char text[64];
    (void)state;
    snprintf(text, sizeof(text), "caf\xc3\xa9 \xe9t\xc3 \xed\xa0\x80 \xf0\x9f\x90\x98 \xf0\x9f");
    utf8_mend(text);
    assert_string_equal(text, "caf\xc3\xa9 ?t? ??? \xf0\x9f\x90\x98 ??");
    text[0] = '\0';
    utf8_mend(text);
    assert_string_equal(text, "");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_have_their_sizes),
        cmocka_unit_test(what_json_rejects_is_invalid),
        cmocka_unit_test(mending_keeps_what_is_valid),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
