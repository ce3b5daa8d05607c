#include "support/unit.h"

#include "strata/version_codec.h"

/* Encodes and decodes what a block would hold, and compares. */
static void
check_round_trip(const struct version *versions, size_t count)
{
    struct version_codec writer = { 0 }, reader = { 0 };
    struct buf block = { 0 };
    for (size_t i = 0; i < count; i++)
        version_encode(&writer, &block, &versions[i]);
    assert_false(buf_failed(&block));
    struct cursor c = cursor_of(buf_slice(&block));
    for (size_t i = 0; i < count; i++) {
        struct version v;
        assert_true(version_decode(&reader, &c, &v));
        assert_int_equal(version_compare(&v, &versions[i]), 0);
        assert_int_equal(v.op, versions[i].op);
        assert_true(slice_equal(v.row, versions[i].row));
        assert_true(slice_equal(v.prev_key, versions[i].prev_key));
    }
    assert_true(cursor_at_end(&c));
    buf_release(&block);
    version_codec_release(&writer);
    version_codec_release(&reader);
}

static struct version
version_make(const char *key, pgs_lsn lsn, uint64_t sequence, enum version_op op, const char *row)
{
    return (struct version){ .key = slice_str(key),
                             .commit_lsn = lsn,
                             .sequence = sequence,
                             .op = op,
                             .row = slice_str(row) };
}

static void
versions_come_back_as_they_were(void **state)
{
    struct version versions[] = {
        version_make("", 1, 1, VERSION_TRUNCATE, ""),
        version_make("a", 100, 1, VERSION_INSERT, "row"),
        version_make("a", 200, 7, VERSION_UPDATE, "another row"),
        version_make("a", UINT64_MAX - 1, UINT64_MAX, VERSION_DELETE, ""),
        version_make("ab", 50, 1, VERSION_MOVED_OUT, ""),
        version_make("abc", 51, 0, VERSION_MOVED_IN, "acme"),
        version_make("b", 0, 1, VERSION_UPDATE, "x"),
    };
    (void)state;
    versions[6].prev_key = slice_str("abc");
    check_round_trip(versions, sizeof(versions) / sizeof(versions[0]));
    versions[6].prev_key = slice_str(""); /* empty is not absent */
    check_round_trip(versions, sizeof(versions) / sizeof(versions[0]));
}

static void
a_block_shares_nothing_with_the_one_before(void **state)
{
    struct version_codec writer = { 0 }, reader = { 0 };
    struct buf block = { 0 };
    struct version v = version_make("same key", 100, 1, VERSION_INSERT, "row"), read;
    (void)state;
    version_encode(&writer, &block, &v);
    version_codec_begin(&writer);
    buf_reset(&block);
    version_encode(&writer, &block, &v);
    struct cursor c = cursor_of(buf_slice(&block));
    assert_true(version_decode(&reader, &c, &read));
    assert_int_equal(version_compare(&read, &v), 0);
    buf_release(&block);
    version_codec_release(&writer);
    version_codec_release(&reader);
}

static bool
decodes(const void *bytes, size_t size)
{
    struct version_codec reader = { 0 };
    struct cursor c = cursor_of(slice_of(bytes, size));
    struct version v;
    bool ok = version_decode(&reader, &c, &v) && cursor_at_end(&c);
    version_codec_release(&reader);
    return ok;
}

static void
malformed_versions_are_recognised(void **state)
{
    (void)state;
    assert_true(decodes("I\0\0\1k\2\1", 7));
    assert_false(decodes("", 0));
    assert_false(decodes("I\0\0\1k\2", 6));      /* cut off */
    assert_false(decodes("X\0\0\1k\2\1", 7));    /* no such op */
    assert_false(decodes("I\4\0\1k\2\1", 7));    /* no such flag */
    assert_false(decodes("I\0\1\1k\2\1", 7));    /* shares with a key that is not there */
    assert_false(decodes("I\1\0\1k\2\1\5r", 9)); /* a row that is longer than what is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_come_back_as_they_were),
        cmocka_unit_test(a_block_shares_nothing_with_the_one_before),
        cmocka_unit_test(malformed_versions_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
