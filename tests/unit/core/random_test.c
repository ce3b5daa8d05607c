#include "support/unit.h"

#include "core/random.h"

#include <stdbool.h>
#include <string.h>

static void
bytes_differ(void **state)
{
    uint8_t a[16] = { 0 }, b[16] = { 0 };
    (void)state;
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    random_bytes(b, 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

static void
only_what_was_asked_for_is_written(void **state)
{
    uint8_t bytes[300];
    (void)state;
    memset(bytes, 0xaa, sizeof(bytes));
    random_bytes(bytes, 298);
    assert_int_equal(bytes[298], 0xaa);
    assert_int_equal(bytes[299], 0xaa);
}

/* Every digit at every place, sooner or later: 1,000 tries miss one with probability 1e-26. */
static void
hex_uses_every_digit_everywhere(void **state)
{
    static const char digits[] = "0123456789abcdef";
    bool seen[8][16] = { 0 };
    char text[9];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_ptr_equal(random_hex(text, 4), text);
        assert_int_equal(strlen(text), 8);
        for (size_t place = 0; place < 8; place++) {
            const char *digit = strchr(digits, text[place]);
            assert_non_null(digit);
            seen[place][digit - digits] = true;
        }
    }
    for (size_t place = 0; place < 8; place++)
        for (size_t digit = 0; digit < 16; digit++)
            assert_true(seen[place][digit]);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_differ),
        cmocka_unit_test(only_what_was_asked_for_is_written),
        cmocka_unit_test(hex_uses_every_digit_everywhere),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
