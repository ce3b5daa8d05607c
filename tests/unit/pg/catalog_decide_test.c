#include "support/unit.h"

#include "pg/catalog.h"

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

/* Columns by name, those with a star are the key: "tenant_id *id note". */
static struct relation *
table(struct arena *arena, const char *columns)
{
    struct relation *r = arena_alloc_zero(arena, sizeof(*r));
    r->schema = slice_str("public");
    r->name = slice_str("orders");
    r->identity = 'd';
    r->tenant_column = -1;
    r->columns = arena_alloc_array(arena, 8, sizeof(*r->columns));
    for (const char *p = columns; *p != '\0'; p += strspn(p, " ")) {
        struct column *c = &r->columns[r->column_count++];
        c->key = *p == '*';
        p += c->key;
        c->name = slice_of(p, strcspn(p, " "));
        c->attnum = (int16_t)r->column_count;
        p += c->name.size;
    }
    return r;
}

static const struct catalog_rules defaults = { .tenant_table = "tenants",
                                               .tenant_column = "tenant_id",
                                               .publication = "pgstrata" };

static void
decide_with(struct arena *arena, struct relation *r, const char *name, enum route route,
            const char *column)
{
    const struct route_override override = { name, route, column };
    struct catalog_rules rules = defaults;
    rules.overrides = &override;
    rules.override_count = 1;
    catalog_decide(&rules, arena, r);
}

static void
assert_route(const struct relation *r, enum route route, int tenant_column, bool covered)
{
    assert_int_equal(r->route, route);
    assert_int_equal(r->tenant_column, tenant_column);
    assert_int_equal(r->covered, covered);
    assert_int_equal(covered, r->why_not.data == NULL);
    assert_true(r->route_reason.size > 0);
}

static void
the_tenant_column_is_found_by_name(void **state)
{
    struct relation *r = table(*state, "*id tenant_id");
    r->tenant_fk = slice_str("id"); /* the name says more than a foreign key */
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, 1, true);
    assert_false(r->tenant_in_key);
    r = table(*state, "*tenant_id *id");
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, 0, true);
    assert_true(r->tenant_in_key);
}

static void
or_by_the_one_foreign_key(void **state)
{
    struct relation *r = table(*state, "*id school");
    r->tenant_fk = slice_str("school");
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, 1, true);
}

static void
several_foreign_keys_are_not_guessed_from(void **state)
{
    struct relation *r = table(*state, "*id seller buyer");
    r->tenant_fk_ambiguous = true;
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, -1, false);
    decide_with(*state, r, "public.orders", ROUTE_COLUMN, "buyer");
    assert_route(r, ROUTE_COLUMN, 2, true);
}

static void
the_tenants_row_belongs_to_its_tenant(void **state)
{
    struct relation *r = table(*state, "name *id");
    r->is_tenants_fact = true;
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, 1, true);
    assert_true(r->is_tenants_table && r->tenant_in_key);
    r = table(*state, "*region *id");
    r->is_tenants_fact = true;
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, -1, false);
}

static void
without_a_tenant_rows_are_shared(void **state)
{
    struct relation *r = table(*state, "*code name");
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_SHARED, -1, true);
}

static void
unless_they_refer_to_rows_with_one(void **state)
{
    struct relation *r = table(*state, "*id order_id");
    r->tenant_parent = slice_str("orders");
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_PARENT, -1, false);
    assert_non_null(strstr((const char *)r->why_not.data, "through orders"));
    decide_with(*state, r, "public.orders", ROUTE_SHARED, NULL);
    assert_route(r, ROUTE_SHARED, -1, true);
}

static void
configuration_wins(void **state)
{
    struct relation *r = table(*state, "*id tenant_id account");
    decide_with(*state, r, "public.orders", ROUTE_COLUMN, "account");
    assert_route(r, ROUTE_COLUMN, 2, true);
    decide_with(*state, r, "public.orders", ROUTE_EXCLUDED, NULL);
    assert_route(r, ROUTE_EXCLUDED, -1, false);
    decide_with(*state, r, "public.orders", ROUTE_COLUMN, "absent");
    assert_route(r, ROUTE_COLUMN, -1, false);
    decide_with(*state, r, "public.orders", ROUTE_SCHEMA, NULL);
    assert_route(r, ROUTE_SCHEMA, -1, true);
    assert_slice_equal(r->tenant, "public");
    decide_with(*state, r, "other.orders", ROUTE_SHARED, NULL);
    assert_route(r, ROUTE_COLUMN, 1, true);
}

static void
assert_schema_tenant(const char *pattern, const char *schema, const char *tenant)
{
    struct catalog_rules rules = defaults;
    rules.tenant_schemas = pattern;
    struct slice found = catalog_schema_tenant(&rules, slice_str(schema));
    if (tenant == NULL)
        assert_null(found.data);
    else
        assert_slice_equal(found, tenant);
}

static void
the_star_stands_for_the_tenant(void **state)
{
    (void)state;
    assert_schema_tenant("app_*", "app_acme", "acme");
    assert_schema_tenant("app_*", "app_", NULL);
    assert_schema_tenant("app_*", "acme", NULL);
    assert_schema_tenant("*_data", "acme_data", "acme");
    assert_schema_tenant("a*a", "a", NULL);
    assert_schema_tenant("a*a", "aa", NULL);
    assert_schema_tenant("a*a", "aba", "b");
    assert_schema_tenant("*", "acme", "acme");
    assert_schema_tenant(NULL, "acme", NULL);
    assert_schema_tenant("", "acme", NULL);
}

static void
some_schemas_are_nobodys(void **state)
{
    (void)state;
    assert_schema_tenant("*", "public", NULL);
    assert_schema_tenant("*", "pgstrata", NULL);
    assert_schema_tenant("*", "information_schema", NULL);
    assert_schema_tenant("p*", "pg_toast", NULL);
    assert_schema_tenant("p*", "pgx", "gx");
}

/* The schema counts before a column, the configuration of the very table before the schema. */
static void
a_table_in_a_tenants_schema_is_the_tenants(void **state)
{
    const struct route_override column = { "app_acme.orders", ROUTE_COLUMN, NULL };
    struct catalog_rules rules = defaults;
    struct relation *r = table(*state, "*id tenant_id");
    rules.tenant_schemas = "app_*";
    r->schema = slice_str("app_acme");
    catalog_decide(&rules, *state, r);
    assert_route(r, ROUTE_SCHEMA, -1, true);
    assert_slice_equal(r->tenant, "acme");
    r->identity = 'n';
    catalog_decide(&rules, *state, r);
    assert_route(r, ROUTE_SCHEMA, -1, false);
    r->identity = 'd';
    rules.overrides = &column;
    rules.override_count = 1;
    catalog_decide(&rules, *state, r);
    assert_route(r, ROUTE_COLUMN, 1, true);
    assert_null(r->tenant.data);
}

static void
our_own_tables_are_never_archived(void **state)
{
    static const char *const names[][2] = { { "pgstrata", "settings" },
                                            { "app", "tenant_backups" },
                                            { "public", "tenant_backup_schedules" },
                                            { "public", "tenant_backup_logs" } };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct relation *r = table(*state, "*id tenant_id");
        r->schema = slice_str(names[i][0]);
        r->name = slice_str(names[i][1]);
        catalog_decide(&defaults, *state, r);
        assert_route(r, ROUTE_EXCLUDED, -1, false);
        decide_with(*state, r, arena_printf(*state, "%s.%s", names[i][0], names[i][1]),
                    ROUTE_SHARED, NULL);
        assert_route(r, ROUTE_EXCLUDED, -1, false);
    }
}

static void
a_generated_tenant_column_is_not_in_the_stream(void **state)
{
    struct slice generated = slice_str("tenant_id");
    struct relation *r = table(*state, "*id");
    r->generated = &generated;
    r->generated_count = 1;
    catalog_decide(&defaults, *state, r);
    assert_route(r, ROUTE_COLUMN, -1, false);
}

static void
rows_that_cannot_be_told_apart_are_not_covered(void **state)
{
    for (int i = 0; i < 7; i++) {
        struct relation *r = table(*state, "*id tenant_id");
        switch (i) {
        case 0: r->identity = 'n'; break;
        case 1: r->columns[0].key = false; break;
        case 2: r->key_unusable = true; break;
        case 3: r->unlogged = true; break;
        case 4: r->rls_blocks = true; break;
        case 5: /* FULL, without a primary key */
            r->identity = 'f';
            r->columns[0].key = false;
            break;
        default: /* the index of the identity was dropped */
            r->identity = 'i';
            r->columns[0].key = false;
            break;
        }
        catalog_decide(&defaults, *state, r);
        assert_route(r, ROUTE_COLUMN, 1, false);
        assert_true(r->fix.size > 0);
    }
    struct relation *full = table(*state, "*id tenant_id");
    full->identity = 'f';
    catalog_decide(&defaults, *state, full);
    assert_route(full, ROUTE_COLUMN, 1, true);
}

static void
the_fix_can_be_pasted(void **state)
{
    struct relation *r = table(*state, "id tenant_id");
    r->name = slice_str("Odd \"name");
    r->candidate_index = slice_str("u");
    catalog_decide(&defaults, *state, r);
    assert_slice_equal(r->fix,
                       "ALTER TABLE \"public\".\"Odd \"\"name\" REPLICA IDENTITY USING INDEX"
                       " \"u\";");
    r->unlogged = true;
    catalog_decide(&defaults, *state, r);
    assert_slice_equal(r->fix, "ALTER TABLE \"public\".\"Odd \"\"name\" SET LOGGED;");
}

/* After a restart tables come from log entries, and are decided again. */
static void
deciding_again_from_json_gives_the_same(void **state)
{
    for (int i = 0; i < 5; i++) {
        struct relation *r = table(*state, "*id a"), *again = NULL;
        struct buf json = { 0 };
        struct pgs_err err;
        r->oid = 9;
        for (size_t j = 0; j < 2; j++) {
            r->columns[j].type_oid = 25;
            r->columns[j].type_name = slice_str("text");
        }
        switch (i) {
        case 0: r->tenant_fk = slice_str("a"); break;
        case 1: r->tenant_fk_ambiguous = true; break;
        case 2: r->tenant_parent = slice_str("p"); break;
        case 3: r->is_tenants_fact = true; break;
        default: r->unlogged = true; break;
        }
        catalog_decide(&defaults, *state, r);
        relation_to_json(r, &json);
        assert_int_equal(relation_from_json(buf_slice(&json), *state, &again, &err), 0);
        catalog_decide(&defaults, *state, again);
        assert_route(again, r->route, r->tenant_column, r->covered);
        assert_true(relation_shape_id(again) == relation_shape_id(r));
        assert_int_equal(again->is_tenants_table, r->is_tenants_table);
        buf_release(&json);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_tenant_column_is_found_by_name, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(or_by_the_one_foreign_key, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(several_foreign_keys_are_not_guessed_from, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(the_tenants_row_belongs_to_its_tenant, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(without_a_tenant_rows_are_shared, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(unless_they_refer_to_rows_with_one, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(configuration_wins, arena_setup, arena_teardown),
        cmocka_unit_test(the_star_stands_for_the_tenant),
        cmocka_unit_test(some_schemas_are_nobodys),
        cmocka_unit_test_setup_teardown(a_table_in_a_tenants_schema_is_the_tenants, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(our_own_tables_are_never_archived, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_generated_tenant_column_is_not_in_the_stream, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(rows_that_cannot_be_told_apart_are_not_covered, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(the_fix_can_be_pasted, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(deciding_again_from_json_gives_the_same, arena_setup,
                                        arena_teardown),
    };
    return cmocka_run_group_tests_name("catalog_decide", tests, NULL, NULL);
}
