#include "support/unit.h"

#include "control/backup_name.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

static void
folders_and_their_tenants(void **state)
{
    static const char *const pairs[][2] = {
        { "acme", "acme" },
        { "Acme_2.example-com", "Acme_2.example-com" },
        { "7d444840-9dc0-11d1-b245-5ffdce74fad2", "7d444840-9dc0-11d1-b245-5ffdce74fad2" },
        { "_shared", "_shared" },
        { "", "%" },
        { ".", "%2E" },
        { "..", "%2E." },
        { ".pgstrata", "%2Epgstrata" },
        { "-rf", "%2Drf" },
        { "a/b", "a%2Fb" },
        { "../../etc", "%2E.%2F..%2Fetc" },
        { "a b%", "a%20b%25" },
        { "M\xc3\xbcller", "M%C3%BCller" },
        { "%sha256-x", "%25sha256-x" },
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        struct buf folder = { 0 };
        struct pgs_err err;
        struct slice tenant = SLICE_NULL;
        backup_folder_put(&folder, slice_str(pairs[i][0]));
        assert_string_equal(buf_cstr(&folder), pairs[i][1]);
        assert_int_equal(backup_folder_parse(buf_slice(&folder), *state, &tenant, &err), 0);
        assert_int_equal(tenant.size, strlen(pairs[i][0]));
        assert_memory_equal(tenant.data, pairs[i][0], tenant.size);
        buf_release(&folder);
    }
}

/* Every byte a key can have, first and later: one folder each, and the way back. */
static void
every_byte_has_its_own_folder(void **state)
{
    for (int byte = 1; byte < 256; byte++) {
        uint8_t key[2] = { (uint8_t)byte, (uint8_t)byte };
        struct buf folder = { 0 };
        struct pgs_err err;
        struct slice tenant = SLICE_NULL;
        backup_folder_put(&folder, slice_of(key, 2));
        assert_null(memchr(folder.data, '/', folder.size));
        assert_true(folder.data[0] != '.' && folder.data[0] != '-');
        assert_int_equal(backup_folder_parse(buf_slice(&folder), *state, &tenant, &err), 0);
        assert_true(slice_equal(tenant, slice_of(key, 2)));
        buf_release(&folder);
    }
}

static void
long_keys_are_hashed(void **state)
{
    char key[201];
    struct buf folder = { 0 };
    struct pgs_err err;
    struct slice tenant = SLICE_NULL;
    memset(key, 'a', sizeof(key));
    backup_folder_put(&folder, slice_of(key, 200));
    assert_int_equal(folder.size, 200);
    buf_reset(&folder);
    backup_folder_put(&folder, slice_of(key, 201));
    assert_int_equal(folder.size, 8 + 64);
    assert_memory_equal(folder.data, "%sha256-", 8);
    assert_int_equal(backup_folder_parse(buf_slice(&folder), *state, &tenant, &err), PGS_NONE);
    assert_null(tenant.data);
    buf_reset(&folder);
    memset(key, ' ', sizeof(key)); /* 67 times three bytes */
    backup_folder_put(&folder, slice_of(key, 67));
    assert_int_equal(folder.size, 8 + 64);
    buf_release(&folder);
}

static void
folders_of_no_tenant(void **state)
{
    static const char *const folders[] = {
        "",
        ".",
        "..",
        ".pgstrata",
        "-rf",
        "a/b",
        "a b",
        "%4",
        "%zz",
        "%2f",
        "%41",
        "%00",
        "a%2E",
        "a%%",
        "%sha256-",
        "%sha256-0123",
        "%sha256-0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    for (size_t i = 0; i < COUNT(folders); i++) {
        struct pgs_err err;
        struct slice tenant = SLICE_NULL;
        if (backup_folder_parse(slice_str(folders[i]), *state, &tenant, &err) != PGS_E_USAGE)
            fail_msg("\"%s\" was taken for a folder", folders[i]);
    }
}

static pgs_time
at(const char *text)
{
    struct pgs_err err;
    pgs_time time = 0;
    assert_int_equal(time_parse(text, &time, &err), 0);
    return time;
}

static void
names_there_and_back(void **state)
{
    const struct {
        struct backup_name name;
        const char *path;
    } cases[] = {
        { { slice_str("acme"), at("2026-11-23 16:20:07"), 1, false, false },
          "acme/acme-2026-11-23T16-20-07.sql" },
        { { slice_str("acme"), at("2026-11-23 16:20:07"), 2, true, false },
          "acme/acme-2026-11-23T16-20-07-2.sql.zst" },
        { { slice_str("acme"), at("1999-12-31 23:59:59"), 59, true, true },
          "acme/acme-1999-12-31T23-59-59-59.sql.zst.enc" },
        { { slice_str("acme"), at("0001-01-01 00:00:00"), 999999, false, true },
          "acme/acme-0001-01-01T00-00-00-999999.sql.enc" },
        { { slice_str("a-2026-11-23T16-20-07"), at("2026-11-23 16:20:08"), 1, false, false },
          "a-2026-11-23T16-20-07/a-2026-11-23T16-20-07-2026-11-23T16-20-08.sql" },
        { { slice_str("a-2026-11-23T16-20-07-2"), at("2026-11-23 16:20:08"), 3, false, false },
          "a-2026-11-23T16-20-07-2/a-2026-11-23T16-20-07-2-2026-11-23T16-20-08-3.sql" },
        { { slice_str("a.sql"), at("2026-11-23 16:20:08"), 1, false, false },
          "a.sql/a.sql-2026-11-23T16-20-08.sql" },
        { { slice_str("%"), at("2026-11-23 16:20:08"), 1, false, false },
          "%/%-2026-11-23T16-20-08.sql" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf path = { 0 };
        struct pgs_err err;
        struct backup_name name;
        backup_name_put(&path, &cases[i].name);
        assert_string_equal(buf_cstr(&path), cases[i].path);
        assert_int_equal(backup_name_parse(slice_str(cases[i].path), &name, &err), 0);
        assert_true(slice_equal(name.folder, cases[i].name.folder));
        assert_true(name.time == cases[i].name.time && name.number == cases[i].name.number);
        assert_true(name.compressed == cases[i].name.compressed);
        assert_true(name.encrypted == cases[i].name.encrypted);
        buf_release(&path);
    }
}

static void
fractions_are_dropped(void **state)
{
    struct backup_name name = { slice_str("a"), at("1999-12-31 23:59:59.999999"), 1, false, false };
    struct buf path = { 0 };
    (void)state;
    backup_name_put(&path, &name);
    assert_string_equal(buf_cstr(&path), "a/a-1999-12-31T23-59-59.sql");
    buf_release(&path);
}

static void
names_of_no_backup(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        ".sql",
        "acme",
        "acme/acme.sql",
        "acme-2026-11-23T16-20-07.sql",
        "acme/other-2026-11-23T16-20-07.sql",
        "acme/acme-2026-11-23T16-20-07",
        "acme/acme-2026-11-23T16-20-07.sql.json",
        "acme/acme-2026-11-23T16-20-07.sql.enc.zst",
        "acme/acme-2026-11-23T16-20-07.sql.gz",
        "acme/acme-2026-11-23T16:20:07.sql",
        "acme/acme-2026-11-23 16-20-07.sql",
        "acme/acme-2026-11-31T16-20-07.sql",
        "acme/acme-2026-11-23T24-20-07.sql",
        "acme/acme-2026-11-23T16-20-07-1.sql",
        "acme/acme-2026-11-23T16-20-07-02.sql",
        "acme/acme-2026-11-23T16-20-07-.sql",
        "acme/acme-2026-11-23T16-20-07-1000000.sql",
        "acme/acme2026-11-23T16-20-07.sql",
        "./.-2026-11-23T16-20-07.sql",
        "../..-2026-11-23T16-20-07.sql",
        ".pgstrata/.pgstrata-2026-11-23T16-20-07.sql",
        "/-2026-11-23T16-20-07.sql",
        "x/acme/acme-2026-11-23T16-20-07.sql",
        "a/b/a/b-2026-11-23T16-20-07.sql",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct pgs_err err;
        struct backup_name name = { .number = 77 };
        if (backup_name_parse(slice_str(paths[i]), &name, &err) != PGS_E_USAGE)
            fail_msg("\"%s\" was taken for a backup", paths[i]);
        assert_int_equal(name.number, 77);
        assert_true(err.hint[0] != '\0');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_and_their_tenants),
        cmocka_unit_test(every_byte_has_its_own_folder),
        cmocka_unit_test(long_keys_are_hashed),
        cmocka_unit_test(folders_of_no_tenant),
        cmocka_unit_test(names_there_and_back),
        cmocka_unit_test(fractions_are_dropped),
        cmocka_unit_test(names_of_no_backup),
    };
    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
