#include "support/unit.h"

#include "core/err.h"
#include "pg/relation.h"

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

/* orders (tenant_id text, "núm" bigint, note varchar(10)), key ("núm") */
static struct relation *
orders(struct arena *arena)
{
    struct relation *r = arena_alloc_zero(arena, sizeof(*r));
    r->oid = 4294967295u;
    r->schema = slice_str("public");
    r->name = slice_str("orders \"é𝄞\"");
    r->identity = 'd';
    r->route = ROUTE_COLUMN;
    r->tenant_column = 0;
    r->tenant_fk = slice_str("tenant_id");
    r->published = true;
    r->column_count = 3;
    r->columns = arena_alloc_array(arena, 3, sizeof(*r->columns));
    r->columns[0] = (struct column){ .name = slice_str("tenant_id"),
                                     .attnum = 2,
                                     .type_oid = 25,
                                     .typmod = -1,
                                     .type_name = slice_str("text"),
                                     .collation = slice_str("pg_catalog.\"C\"") };
    r->columns[1] = (struct column){ .name = slice_str("núm"),
                                     .attnum = 3,
                                     .type_oid = 20,
                                     .typmod = -1,
                                     .type_name = slice_str("bigint"),
                                     .key = true,
                                     .not_null = true,
                                     .identity = 'a' };
    r->columns[2] = (struct column){ .name = slice_str("note"),
                                     .attnum = 1600,
                                     .type_oid = 1043,
                                     .typmod = 14,
                                     .type_name = slice_str("character varying(10)") };
    r->generated_count = 1;
    r->generated = arena_alloc_array(arena, 1, sizeof(*r->generated));
    r->generated[0] = slice_str("total");
    return r;
}

static struct slice
json_of(struct arena *arena, const struct relation *r)
{
    struct buf b = { 0 };
    relation_to_json(r, &b);
    struct slice json = arena_dup(arena, buf_slice(&b));
    buf_release(&b);
    return json;
}

static struct relation *
parsed(struct arena *arena, struct slice json)
{
    struct relation *r = NULL;
    struct pgs_err err;
    assert_int_equal(relation_from_json(json, arena, &r, &err), 0);
    return r;
}

static void
json_and_back_is_the_same_table(void **state)
{
    struct relation *before = orders(*state);
    before->tenant_fk_ambiguous = before->unlogged = before->key_unusable = true;
    before->tenant_parent = slice_str("customers");
    struct slice json = json_of(*state, before);
    const struct relation *after = parsed(*state, json);
    assert_int_equal(after->oid, before->oid);
    assert_true(slice_equal(after->name, before->name));
    assert_int_equal(after->identity, 'd');
    assert_int_equal(after->route, ROUTE_COLUMN);
    assert_int_equal(after->tenant_column, 0);
    assert_slice_equal(after->tenant_fk, "tenant_id");
    assert_slice_equal(after->tenant_parent, "customers");
    assert_true(after->tenant_fk_ambiguous && after->unlogged && after->key_unusable);
    assert_true(after->published);
    assert_int_equal(after->generated_count, 1);
    assert_slice_equal(after->generated[0], "total");
    assert_int_equal(after->column_count, 3);
    assert_true(after->columns[1].key && after->columns[1].not_null);
    assert_int_equal(after->columns[1].identity, 'a');
    assert_int_equal(after->columns[2].identity, 0);
    assert_int_equal(after->columns[2].attnum, 1600);
    assert_int_equal(after->columns[2].typmod, 14);
    assert_null(after->columns[2].collation.data);
    assert_slice_equal(after->columns[0].collation, "pg_catalog.\"C\"");
    assert_true(slice_equal(json_of(*state, after), json));
}

static void
json_is_ascii(void **state)
{
    struct slice json = json_of(*state, orders(*state));
    for (size_t i = 0; i < json.size; i++)
        assert_in_range(json.data[i], 0x20, 0x7e);
}

static void
a_table_without_tenant_has_none_after_json(void **state)
{
    struct relation *r = orders(*state);
    r->route = ROUTE_SHARED;
    r->tenant_column = -1;
    assert_int_equal(parsed(*state, json_of(*state, r))->tenant_column, -1);
    assert_int_equal(parsed(*state, json_of(*state, r))->route, ROUTE_SHARED);
}

/* orders, in a schema that is acme's */
static struct relation *
acmes_orders(struct arena *arena)
{
    struct relation *r = orders(arena);
    r->schema = slice_str("app_acme");
    r->route = ROUTE_SCHEMA;
    r->tenant = slice_str("acme");
    r->tenant_column = -1;
    return r;
}

static void
a_table_in_a_tenants_schema_keeps_its_tenant(void **state)
{
    struct relation *r = acmes_orders(*state);
    const struct relation *after = parsed(*state, json_of(*state, r));
    assert_int_equal(after->route, ROUTE_SCHEMA);
    assert_slice_equal(after->tenant, "acme");
    assert_true(relation_shape_id(after) == relation_shape_id(r));
    assert_slice_equal(relation_dup(*state, after)->tenant, "acme");
}

/* Renamed, the schema is another tenant's: its rows are, and no row event says so. */
static void
another_tenants_schema_is_another_shape(void **state)
{
    struct relation *r = acmes_orders(*state), *renamed = acmes_orders(*state);
    renamed->schema = slice_str("app_zenith");
    assert_false(relation_matches(r, renamed));
    assert_true(relation_shape_id(r) == relation_shape_id(renamed));
    renamed->tenant = slice_str("zenith");
    assert_false(relation_shape_id(r) == relation_shape_id(renamed));
}

/* What the event trigger sends: no route, no tenant column. */
static void
facts_alone_are_a_table_too(void **state)
{
    const struct relation *r = parsed(
        *state, slice_str("{\"oid\": 1, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"f\","
                          " \"columns\": [], \"tenant_fk\": null, \"tenants_table\": true}"));
    assert_int_equal(r->route, ROUTE_EXCLUDED);
    assert_int_equal(r->tenant_column, -1);
    assert_true(r->is_tenants_fact);
    assert_false(r->covered || r->published || r->unlogged);
    assert_null(r->tenant_fk.data);
}

#define COLUMN                                                        \
    "{\"name\": \"a\", \"attnum\": 1, \"type\": 23, \"typmod\": -1, " \
    "\"type_name\": \"integer\", \"key\": true, \"not_null\": true, " \
    "\"identity\": \"\", \"collation\": null}"
#define TABLE(more) \
    "{\"oid\": 1, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"d\", " more "}"

static void
what_is_no_table_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        TABLE("\"columns\": null"),
        TABLE("\"columns\": [1]"),
        TABLE("\"columns\": [" COLUMN ", " COLUMN "]"), /* attnums must go up */
        TABLE("\"columns\": [], \"columns\": []"),
        TABLE("\"columns\": [], \"route\": \"elsewhere\""),
        TABLE("\"columns\": [], \"route\": 1"),
        TABLE("\"columns\": [], \"route\": \"schema\""), /* whose? */
        TABLE("\"columns\": [], \"route\": \"schema\", \"tenant\": \"\""),
        TABLE("\"columns\": [], \"route\": \"shared\", \"tenant\": \"acme\""),
        TABLE("\"columns\": [" COLUMN "], \"tenant_column\": \"b\""),
        TABLE("\"columns\": [], \"unlogged\": \"no\""),
        TABLE("\"columns\": [], \"generated\": [1]"),
        TABLE("\"columns\": [], \"generated\": {}"),
        TABLE("\"columns\": [], \"tenant_fk\": 3"),
        "{\"oid\": 0, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"d\", \"columns\": []}",
        "{\"oid\": 4294967296, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"d\","
        " \"columns\": []}",
        "{\"oid\": 1, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"x\", \"columns\": []}",
        "{\"oid\": 1, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"\", \"columns\": []}",
        "{\"oid\": 1, \"schema\": \"s\", \"identity\": \"d\", \"columns\": []}",
        "{\"oid\": 1, \"schema\": \"s\", \"name\": \"a\\u0000b\", \"identity\": \"d\","
        " \"columns\": []}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct relation untouched, *r = &untouched;
        struct pgs_err err;
        if (relation_from_json(slice_str(bad[i]), *state, &r, &err) != PGS_E_CORRUPT)
            fail_msg("accepted: %s", bad[i]);
        assert_ptr_equal(r, &untouched);
    }
    (void)parsed(*state, slice_str(TABLE("\"columns\": [" COLUMN "]")));
}

static void
half_a_description_is_refused(void **state)
{
    struct slice json = json_of(*state, orders(*state));
    for (size_t size = 0; size < json.size; size++) {
        struct relation *r;
        struct pgs_err err;
        assert_int_equal(relation_from_json(slice_of(json.data, size), *state, &r, &err),
                         PGS_E_CORRUPT);
    }
}

/* Archives on disk name shapes by it: it may never change. */
static void
the_shape_id_is_what_it_was(void **state)
{
    assert_true(relation_shape_id(orders(*state)) == UINT64_C(0xc8037ddd9f724dd1));
}

static void
a_rename_of_the_table_keeps_the_shape(void **state)
{
    struct relation *r = orders(*state);
    uint64_t id = relation_shape_id(r);
    r->schema = slice_str("archive");
    r->name = slice_str("old_orders");
    r->oid = 7;
    r->identity = 'f';
    r->published = r->unlogged = true;
    r->columns[0].not_null = true;
    assert_true(relation_shape_id(r) == id);
    assert_true(relation_shape_id(parsed(*state, json_of(*state, r))) == id);
}

static void
whatever_changes_rows_changes_the_shape(void **state)
{
    uint64_t ids[8];
    for (size_t i = 0; i < 8; i++) {
        struct relation *r = orders(*state);
        switch (i) {
        case 1: r->columns[0].name = slice_str("tenant"); break;
        case 2: r->columns[2].typmod = 15; break;
        case 3: r->columns[2].type_oid = 25; break;
        case 4: r->columns[0].key = true; break;
        case 5: r->tenant_column = 2; break;
        case 6: r->route = ROUTE_SHARED; break;
        case 7: r->column_count = 2; break;
        default: break;
        }
        ids[i] = relation_shape_id(r);
        for (size_t j = 0; j < i; j++)
            assert_false(ids[i] == ids[j]);
    }
}

/* Sizes stand before names, so that no two lists of columns are encoded alike. */
static void
names_cannot_run_into_each_other(void **state)
{
    struct relation *a = orders(*state), *b = orders(*state);
    a->columns[0].name = slice_str("ab");
    a->columns[1].name = slice_str("c");
    b->columns[0].name = slice_str("a");
    b->columns[1].name = slice_str("bc");
    assert_false(relation_shape_id(a) == relation_shape_id(b));
}

static void
a_relation_message_matches_by_columns(void **state)
{
    struct relation *known = orders(*state), *message = orders(*state);
    for (size_t i = 0; i < 3; i++)
        message->columns[i].attnum = 0; /* pgoutput has none */
    assert_true(relation_matches(known, message));
    message->columns[0].key = true;
    assert_false(relation_matches(known, message));
    message->identity = 'f'; /* then every column is flagged, and the key is ours to choose */
    message->columns[2].key = true;
    assert_true(relation_matches(known, message));
    message->columns[2].typmod = 20;
    assert_false(relation_matches(known, message));
    message->columns[2].typmod = 14;
    message->column_count = 2;
    assert_false(relation_matches(known, message));
    message->column_count = 3;
    message->oid = 1;
    assert_false(relation_matches(known, message));
}

static void
a_duplicate_owns_all_its_text(void **state)
{
    struct arena *short_lived = arena_new(NULL);
    struct relation *r = parsed(short_lived, json_of(short_lived, orders(short_lived)));
    r->owner = arena_dup(short_lived, slice_str("app"));
    r->candidate_index = arena_dup(short_lived, slice_str("orders_u"));
    struct relation *copy = relation_dup(*state, r);
    arena_free(short_lived);
    copy->is_tenants_table = false;
    assert_slice_equal(copy->schema, "public");
    assert_slice_equal(copy->owner, "app");
    assert_slice_equal(copy->candidate_index, "orders_u");
    assert_slice_equal(copy->generated[0], "total");
    assert_slice_equal(copy->columns[1].name, "núm");
    assert_slice_equal(copy->columns[2].type_name, "character varying(10)");
    assert_true(relation_shape_id(copy) == relation_shape_id(orders(*state)));
}

static void
routes_have_names(void **state)
{
    struct pgs_err err;
    (void)state;
    for (enum route route = ROUTE_COLUMN; route <= ROUTE_SCHEMA; route++) {
        enum route back = ROUTE_EXCLUDED;
        assert_int_equal(route_parse(route_name(route), &back, &err), 0);
        assert_int_equal(back, route);
    }
    enum route untouched = ROUTE_PARENT;
    assert_int_equal(route_parse("Column", &untouched, &err), PGS_E_USAGE);
    assert_int_equal(untouched, ROUTE_PARENT);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(json_and_back_is_the_same_table, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(json_is_ascii, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(a_table_without_tenant_has_none_after_json, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_table_in_a_tenants_schema_keeps_its_tenant, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(another_tenants_schema_is_another_shape, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(facts_alone_are_a_table_too, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_table_is_refused, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(half_a_description_is_refused, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(the_shape_id_is_what_it_was, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(a_rename_of_the_table_keeps_the_shape, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(whatever_changes_rows_changes_the_shape, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(names_cannot_run_into_each_other, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_relation_message_matches_by_columns, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_duplicate_owns_all_its_text, arena_setup, arena_teardown),
        cmocka_unit_test(routes_have_names),
    };
    return cmocka_run_group_tests_name("relation", tests, NULL, NULL);
}
