#include "support/unit.h"

#include "core/buf.h"
#include "core/cursor.h"

#define BYTES(...) \
    slice_of((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void
numbers_are_read_in_network_order(void **state)
{
    struct cursor c = cursor_of(BYTES(0xfe, 0x01, 0x02, 0x80, 0, 0, 0x01, 0x80, 0, 0, 0, 0, 0, 0, 1,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe));
    (void)state;
    assert_int_equal(cursor_u8(&c), 0xfe);
    assert_int_equal(cursor_be16(&c), 0x0102);
    assert_int_equal(cursor_be32(&c), 0x80000001);
    assert_true(cursor_be64(&c) == UINT64_C(0x8000000000000001));
    assert_true(cursor_be64_signed(&c) == -2);
    assert_true(cursor_at_end(&c));
}

static void
nothing_is_read_past_the_end(void **state)
{
    (void)state;
    for (size_t size = 0; size < 8; size++) {
        static const uint8_t bytes[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
        struct cursor c = cursor_of(slice_of(bytes, size));
        assert_true(cursor_be64(&c) == 0);
        assert_false(cursor_ok(&c));
    }
    struct cursor empty = cursor_of(SLICE_NULL);
    assert_true(cursor_at_end(&empty));
    assert_int_equal(cursor_u8(&empty), 0);
    assert_false(cursor_ok(&empty));
}

static void
the_first_failure_lasts(void **state)
{
    struct cursor c = cursor_of(BYTES(1, 2, 'a', 0, 3));
    (void)state;
    assert_int_equal(cursor_be64(&c), 0);
    assert_int_equal(cursor_left(&c), 0);
    assert_int_equal(cursor_u8(&c), 0);
    assert_int_equal(cursor_be16(&c), 0);
    assert_int_equal(cursor_be32(&c), 0);
    assert_true(cursor_varint(&c) == 0);
    assert_null(cursor_bytes(&c, 0).data);
    assert_null(cursor_varslice(&c).data);
    assert_null(cursor_cstr(&c).data);
    assert_false(cursor_ok(&c));
    assert_false(cursor_at_end(&c));
}

static void
bytes_left_over_are_no_end(void **state)
{
    struct cursor c = cursor_of(BYTES(1, 2));
    (void)state;
    assert_int_equal(cursor_u8(&c), 1);
    assert_true(cursor_ok(&c));
    assert_false(cursor_at_end(&c));
    assert_int_equal(cursor_left(&c), 1);
}

static void
varints_come_back(void **state)
{
    static const uint64_t values[] = {
        0,         1, 127, 128, 300, 16383, 16384, UINT32_MAX, (uint64_t)1 << 62, (uint64_t)1 << 63,
        UINT64_MAX
    };
    struct buf b = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        buf_put_varint(&b, values[i]);
    struct cursor c = cursor_of(buf_slice(&b));
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_true(cursor_varint(&c) == values[i]);
    assert_true(cursor_at_end(&c));
    buf_release(&b);
}

static void
assert_no_varint(struct slice bytes)
{
    struct cursor c = cursor_of(bytes);
    assert_true(cursor_varint(&c) == 0);
    assert_false(cursor_ok(&c));
}

/* One value, one form: else equal directories could have different checksums. */
static void
only_the_shortest_varint_counts(void **state)
{
    (void)state;
    assert_no_varint(BYTES(0x80, 0x00));
    assert_no_varint(BYTES(0xff, 0x00));
    assert_no_varint(BYTES(0x81, 0x80, 0x00));
}

static void
varints_end_within_ten_bytes(void **state)
{
    (void)state;
    assert_no_varint(SLICE_NULL);
    assert_no_varint(BYTES(0x80));
    assert_no_varint(BYTES(0xff, 0xff));
    /* 2^64, and eleven bytes */
    assert_no_varint(BYTES(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02));
    assert_no_varint(BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x01));
}

static void
slices_point_into_the_source(void **state)
{
    struct slice source = BYTES(2, 'h', 'i', 0, 'x', 'y');
    struct cursor c = cursor_of(source);
    (void)state;
    struct slice hi = cursor_varslice(&c);
    assert_slice_equal(hi, "hi");
    assert_ptr_equal(hi.data, source.data + 1);
    assert_slice_equal(cursor_varslice(&c), ""); /* empty, not NULL */
    assert_slice_equal(cursor_bytes(&c, 2), "xy");
    assert_slice_equal(cursor_bytes(&c, 0), "");
    assert_true(cursor_at_end(&c));
}

static void
a_length_beyond_the_end_fails(void **state)
{
    struct cursor c = cursor_of(BYTES(3, 'h', 'i'));
    (void)state;
    assert_null(cursor_varslice(&c).data);
    assert_false(cursor_ok(&c));
    c = cursor_of(BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'));
    assert_null(cursor_varslice(&c).data);
    assert_false(cursor_ok(&c));
    c = cursor_of(BYTES('x'));
    assert_null(cursor_bytes(&c, SIZE_MAX).data);
    assert_false(cursor_ok(&c));
}

static void
text_needs_its_nul(void **state)
{
    struct cursor c = cursor_of(BYTES('h', 'i', 0, 0, 'x'));
    (void)state;
    assert_slice_equal(cursor_cstr(&c), "hi");
    assert_slice_equal(cursor_cstr(&c), "");
    assert_null(cursor_cstr(&c).data);
    assert_false(cursor_ok(&c));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_in_network_order),
        cmocka_unit_test(nothing_is_read_past_the_end),
        cmocka_unit_test(the_first_failure_lasts),
        cmocka_unit_test(bytes_left_over_are_no_end),
        cmocka_unit_test(varints_come_back),
        cmocka_unit_test(only_the_shortest_varint_counts),
        cmocka_unit_test(varints_end_within_ten_bytes),
        cmocka_unit_test(slices_point_into_the_source),
        cmocka_unit_test(a_length_beyond_the_end_fails),
        cmocka_unit_test(text_needs_its_nul),
    };
    return cmocka_run_group_tests_name("cursor", tests, NULL, NULL);
}
