#include "support/unit.h"

#include "pg/standby_names.h"

static void
every_form_that_waits_for_us_is_seen(void **state)
{
    static const char *const waits[] = {
        "pgstrata",
        "*",
        "s1, pgstrata",
        "PgStrata",
        "\"pgstrata\"",
        "\"*\"",
        "1 (pgstrata)",
        "2 (s1,*)",
        "FIRST 1 (s1, \"pgstrata\", s2)",
        "ANY 2(s1,\tPGSTRATA\n)",
        "any 1 (*)",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        if (!standby_names_include(waits[i], "pgstrata"))
            fail_msg("missed: %s", waits[i]);
    }
}

static void
others_are_not_us(void **state)
{
    static const char *const fine[] = {
        "",
        "  ",
        "s1",
        "pgstrata2, my_pgstrata",
        "FIRST 1 (s1, s2)",
        "\"pg\"\"strata\"",
        "\"pgstrata, s1\"", /* one name, with a comma in it */
        "\"a * b\"",
        "\"pgstrata ",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        if (standby_names_include(fine[i], "pgstrata"))
            fail_msg("mistaken: %s", fine[i]);
    }
    assert_true(standby_names_include("\"a\"\"b\"", "a\"b"));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_that_waits_for_us_is_seen),
        cmocka_unit_test(others_are_not_us),
    };
    return cmocka_run_group_tests_name("standby_names", tests, NULL, NULL);
}
