#include "restore/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NAME(text)                                \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

static const struct table_name known[] = { { NAME("public"), NAME("orders") },
                                           { NAME("public"), NAME("items") },
                                           { NAME("shop"), NAME("orders") } };
#define KNOWN_COUNT (sizeof(known) / sizeof(known[0]))

static bool
keeps(const struct selection *s, const char *schema, const char *name)
{
    return selection_keeps(s, slice_str(schema), slice_str(name));
}

static void
without_a_selection_every_table_is_meant(void **state)
{
    const struct selection all = { 0 };
    (void)state;
    assert_true(keeps(&all, "public", "orders"));
    assert_false(selection_names(&all, slice_str("public"), slice_str("orders")));
}

static void
a_bare_name_means_every_schema_and_a_full_one_only_its_own(void **state)
{
    const char *const bare[] = { "orders" }, *const full[] = { "shop.orders" };
    const struct selection b = { .tables = bare, .table_count = 1 };
    const struct selection f = { .tables = full, .table_count = 1 };
    (void)state;
    assert_true(keeps(&b, "public", "orders"));
    assert_true(keeps(&b, "shop", "orders"));
    assert_false(keeps(&b, "public", "items"));
    assert_true(keeps(&f, "shop", "orders"));
    assert_false(keeps(&f, "public", "orders"));
}

static void
what_is_excluded_stays_out_even_when_it_is_named(void **state)
{
    const char *const names[] = { "orders" }, *const excluded[] = { "public.orders" };
    const struct selection s = {
        .tables = names, .table_count = 1, .excluded = excluded, .excluded_count = 1
    };
    (void)state;
    assert_false(keeps(&s, "public", "orders"));
    assert_true(keeps(&s, "shop", "orders"));
}

static void
a_name_that_fits_no_table_is_not_found_and_a_near_one_is_offered(void **state)
{
    const char *const names[] = { "public.ordres" };
    const struct selection s = { .tables = names, .table_count = 1 };
    struct pgs_err err = { 0 };
    (void)state;
    assert_int_equal(selection_check(&s, known, KNOWN_COUNT, &err), PGS_E_NOT_FOUND);
    assert_non_null(strstr(err.hint, "orders"));
}

static void
names_are_near_by_a_few_letters_only(void **state)
{
    const struct slice names[] = { NAME("rede-aurora"), NAME("rede-zenite"), NAME("42") };
    (void)state;
    assert_true(slice_equal(name_near(slice_str("rede-aurara"), names, 3), names[0]));
    assert_true(slice_equal(name_near(slice_str("REDE-ZENITE"), names, 3), names[1]));
    assert_null(name_near(slice_str("something else"), names, 3).data);
    assert_null(name_near(slice_str("99"), names, 3).data);
    assert_null(name_near(slice_str("rede-aurora"), names, 0).data);
}

static void
the_shared_tables_have_a_name_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(tenant_of("_shared").scope, SCOPE_SHARED);
    assert_int_equal(tenant_of("_shared2").scope, SCOPE_TENANT);
    assert_int_equal(tenant_of("_shared").key.size, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_selection_every_table_is_meant),
        cmocka_unit_test(a_bare_name_means_every_schema_and_a_full_one_only_its_own),
        cmocka_unit_test(what_is_excluded_stays_out_even_when_it_is_named),
        cmocka_unit_test(a_name_that_fits_no_table_is_not_found_and_a_near_one_is_offered),
        cmocka_unit_test(names_are_near_by_a_few_letters_only),
        cmocka_unit_test(the_shared_tables_have_a_name_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
