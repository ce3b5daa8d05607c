#include "support/unit.h"

#include "control/manifest.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/digest.h"

#include <jansson.h>
#include <string.h>

#define SUM_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUM_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SUM_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

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

static const struct manifest_table tables[] = {
    { "public", "orders", 12 },
    { "Sch\xc3\xb6n \"x\"", "", UINT64_C(9007199254740993) },
};

static struct manifest
incremental(void)
{
    return (struct manifest){
        .id = "b2",
        .tenant = "M\xc3\xbcller & \"S\xc3\xb6hne\"",
        .type = BACKUP_INCREMENTAL,
        .parent = "b1",
        .parent_checksum = SUM_A,
        .since_lsn = 0x100,
        .lsn = 0x16B374D848,
        .time = 5000001,
        .created = 6000000,
        .expires = 7000000,
        .includes_schema = true,
        .includes_data = true,
        .all_tables = true,
        .compressed = true,
        .encrypted = true,
        .key_id = "k1",
        .size = 1234,
        .checksum = SUM_B,
        .body_size = 5678,
        .body_checksum = SUM_C,
        .tables = tables,
        .tables_count = 2,
    };
}

/* Empty in all that can be empty. */
static struct manifest
full(void)
{
    return (struct manifest){ .id = "b1",
                              .tenant = "",
                              .type = BACKUP_FULL,
                              .lsn = 1,
                              .time = 0,
                              .expires = PGS_TIME_NONE,
                              .includes_data = true,
                              .checksum = SUM_B,
                              .body_checksum = SUM_C };
}

static void
assert_text(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a != NULL)
        assert_string_equal(a, b);
}

static void
assert_same(const struct manifest *a, const struct manifest *b)
{
    assert_text(a->id, b->id);
    assert_text(a->tenant, b->tenant);
    assert_int_equal(a->type, b->type);
    assert_text(a->parent, b->parent);
    assert_text(a->parent_checksum, b->parent_checksum);
    assert_true(a->since_lsn == b->since_lsn && a->lsn == b->lsn);
    assert_true(a->time == b->time && a->created == b->created && a->expires == b->expires);
    assert_int_equal(a->includes_schema, b->includes_schema);
    assert_int_equal(a->includes_data, b->includes_data);
    assert_int_equal(a->all_tables, b->all_tables);
    assert_int_equal(a->compressed, b->compressed);
    assert_int_equal(a->encrypted, b->encrypted);
    assert_text(a->key_id, b->key_id);
    assert_true(a->size == b->size && a->body_size == b->body_size);
    assert_text(a->checksum, b->checksum);
    assert_text(a->body_checksum, b->body_checksum);
    assert_int_equal(a->tables_count, b->tables_count);
    for (size_t i = 0; i < a->tables_count; i++) {
        assert_text(a->tables[i].schema, b->tables[i].schema);
        assert_text(a->tables[i].name, b->tables[i].name);
        assert_true(a->tables[i].rows == b->tables[i].rows);
    }
}

static void
encoded(const struct manifest *manifest, struct buf *out)
{
    struct pgs_err err;
    if (manifest_encode(manifest, out, &err) != 0)
        fail_msg("%s", err.message);
}

static void
what_is_written_is_read(void **state)
{
    const struct manifest manifests[] = { incremental(), full() };
    for (size_t i = 0; i < 2; i++) {
        struct buf bytes = { 0 };
        struct pgs_err err;
        struct manifest read;
        encoded(&manifests[i], &bytes);
        if (manifest_decode(buf_slice(&bytes), *state, &read, &err) != 0)
            fail_msg("%s", err.message);
        assert_same(&read, &manifests[i]);
        buf_release(&bytes);
    }
}

static void
it_is_json_for_others_too(void **state)
{
    static const char *const lines[] = {
        "\"format\": \"pgstrata-backup\"",
        "\"version\": 1",
        "\"type\": \"incremental\"",
        "\"parent\": \"b1\"",
        "\"lsn\": \"16/B374D848\"",
        "\"since_lsn\": \"0/100\"",
        "\"time\": \"2000-01-01T00:00:05.000001Z\"",
        "\"compressed\": true",
        "\"key_id\": \"k1\"",
        "\"rows\": 9007199254740993",
        "\"checksum\": \"bbbb",
    };
    struct manifest manifest = incremental();
    struct buf bytes = { 0 };
    (void)state;
    encoded(&manifest, &bytes);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr(buf_cstr(&bytes), lines[i]) == NULL)
            fail_msg("no %s in %s", lines[i], buf_cstr(&bytes));
    }
    assert_int_equal(bytes.data[bytes.size - 1], '\n');
    buf_release(&bytes);
}

/* Each bit alone, and every place at which it could be cut off. */
static void
any_damage_is_found(void **state)
{
    struct manifest manifest = incremental();
    struct buf bytes = { 0 };
    (void)state;
    encoded(&manifest, &bytes);
    for (size_t i = 0; i < bytes.size - 1; i++) { /* the last is a newline: white space */
        for (int bit = 0; bit < 9; bit++) {
            struct arena *arena = arena_new(NULL);
            struct pgs_err err;
            struct manifest read = { .size = 77 };
            uint8_t kept = bytes.data[i];
            size_t size = bit < 8 ? bytes.size : i;
            bytes.data[i] ^= (uint8_t)(bit < 8 ? 1u << bit : 0);
            int rc = manifest_decode(slice_of(bytes.data, size), arena, &read, &err);
            if (rc != PGS_E_CORRUPT)
                fail_msg("byte %zu, bit %d: %d", i, bit, rc);
            assert_true(read.size == 77);
            bytes.data[i] = kept;
            arena_free(arena);
        }
    }
    buf_release(&bytes);
}

/* The full one with a field replaced (NULL: removed), under a checksum that is right. */
static int
decode_with(struct arena *arena, const char *key, const char *json, struct pgs_err *err)
{
    struct manifest manifest = full(), read;
    struct buf bytes = { 0 };
    char hex[DIGEST_HEX_SIZE];
    encoded(&manifest, &bytes);
    json_t *root = json_loadb((const char *)bytes.data, bytes.size, 0, NULL);
    assert_int_equal(json_object_del(root, "manifest_checksum"), 0);
    if (json == NULL)
        assert_int_equal(json_object_del(root, key), 0);
    else
        assert_int_equal(json_object_set_new(root, key, json_loads(json, JSON_DECODE_ANY, NULL)),
                         0);
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    assert_non_null(text);
    digest_sha256_hex(slice_str(text), hex);
    free(text);
    assert_int_equal(json_object_set_new(root, "manifest_checksum", json_string(hex)), 0);
    text = json_dumps(root, 0);
    assert_non_null(text);
    int rc = manifest_decode(slice_str(text), arena, &read, err);
    free(text);
    json_decref(root);
    buf_release(&bytes);
    return rc;
}

static void
bad_fields_are_named(void **state)
{
    static const char *const cases[][3] = {
        { "id", NULL, "bad id" },
        { "id", "\"\"", "bad id" },
        { "id", "null", "bad id" },
        { "tenant", "5", "bad tenant" },
        { "type", "\"half\"", "bad type" },
        { "type", "\"incremental\"", "type and parent do not fit" },
        { "parent", "\"b0\"", "type and parent do not fit" },
        { "parent_checksum", "\"" SUM_A "\"", "do not fit together" },
        { "since_lsn", "\"0/1\"", "do not fit together" },
        { "lsn", "null", "lsn is before since_lsn" },
        { "lsn", "\"x\"", "bad lsn" },
        { "time", "null", "bad time" },
        { "time", "\"yesterday\"", "bad time" },
        { "time", "\"2026-11-23T17:20:00+01:00\"", "bad time" },
        { "time", "\"0001-01-01T00:00:00+01:00\"", "bad time" },
        { "created", "7", "bad created" },
        { "expires", NULL, "bad expires" },
        { "includes_data", "false", "neither schema nor data" },
        { "all_tables", "1", "bad all_tables" },
        { "encrypted", "true", "encrypted and key_id" },
        { "key_id", "\"k\"", "encrypted and key_id" },
        { "size", "-1", "bad size" },
        { "size", "1.5", "bad size" },
        { "checksum", "null", "bad checksum" },
        { "checksum", "\"ABC\"", "bad checksum" },
        { "body_size", "\"1\"", "bad body_size" },
        { "body_checksum", NULL, "bad body_checksum" },
        { "tables", "null", "bad tables" },
        { "tables", "[5]", "bad tables" },
        { "tables", "[{\"schema\": \"a\", \"name\": \"b\"}]", "bad tables" },
        { "format", "\"other\"", "not one of a backup" },
        { "version", "0", "bad version" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pgs_err err;
        int rc = decode_with(*state, cases[i][0], cases[i][1], &err);
        if (rc != PGS_E_CORRUPT || strstr(err.message, cases[i][2]) == NULL)
            fail_msg("%s %s: %d %s", cases[i][0], cases[i][1], rc, rc < 0 ? err.message : "");
    }
}

static void
later_versions_are_refused_and_more_fields_are_not(void **state)
{
    struct pgs_err err;
    assert_int_equal(decode_with(*state, "version", "2", &err), PGS_E_REFUSED);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(decode_with(*state, "remark", "{\"more\": 1}", &err), 0);
}

static void
bytes_that_are_no_manifest(void **state)
{
    static const char *const texts[] = {
        "", "{", "[]", "5", "{}", "{\"id\": 1, \"id\": 1}", "{\"manifest_checksum\": null}"
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct pgs_err err;
        struct manifest read;
        assert_int_equal(manifest_decode(slice_str(texts[i]), *state, &read, &err), PGS_E_CORRUPT);
    }
}

static void
text_that_is_no_utf8_is_not_written(void **state)
{
    struct manifest manifest = incremental();
    struct manifest_table table = { "public", "\xff", 1 };
    struct buf out = { 0 };
    struct pgs_err err;
    (void)state;
    manifest.tables = &table;
    manifest.tables_count = 1;
    assert_int_equal(manifest_encode(&manifest, &out, &err), PGS_E_FAILED);
    manifest = incremental();
    manifest.tenant = "\xff";
    assert_int_equal(manifest_encode(&manifest, &out, &err), PGS_E_FAILED);
    assert_int_equal(out.size, 0);
    buf_release(&out);
}

static void
names_of_types(void **state)
{
    enum backup_type type = BACKUP_FULL;
    (void)state;
    assert_true(backup_type_parse("differential", &type));
    assert_int_equal(type, BACKUP_DIFFERENTIAL);
    assert_string_equal(backup_type_name(BACKUP_INCREMENTAL), "incremental");
    assert_false(backup_type_parse("Full", &type) || backup_type_parse("", &type));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(it_is_json_for_others_too),
        cmocka_unit_test(any_damage_is_found),
        cmocka_unit_test(bad_fields_are_named),
        cmocka_unit_test(later_versions_are_refused_and_more_fields_are_not),
        cmocka_unit_test(bytes_that_are_no_manifest),
        cmocka_unit_test(text_that_is_no_utf8_is_not_written),
        cmocka_unit_test(names_of_types),
    };
    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
