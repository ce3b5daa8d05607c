#include "support/unit.h"

#include "core/buf.h"

static void
puts_add_up(void **state)
{
    static const uint8_t want[] = { 'a',  'b', 1,   0x01, 0x02, 0x01, 0x02, 0x03, 0x04,
                                    1,    2,   3,   4,    5,    6,    7,    8,    0xac,
                                    0x02, 3,   'x', 'y',  'z',  '4',  '2' };
    struct buf b;
    (void)state;
    buf_init(&b, 1000);
    buf_put_str(&b, "a");
    buf_put(&b, "b", 1);
    buf_put_u8(&b, 1);
    buf_put_be16(&b, 0x0102);
    buf_put_be32(&b, 0x01020304);
    buf_put_be64(&b, UINT64_C(0x0102030405060708));
    buf_put_varint(&b, 300);
    buf_put_varslice(&b, slice_str("xyz"));
    buf_printf(&b, "%d", 42);
    assert_false(buf_failed(&b));
    assert_int_equal(b.size, sizeof(want));
    assert_memory_equal(b.data, want, sizeof(want));
    buf_release(&b);
}

static void
an_empty_buffer_is_empty_text(void **state)
{
    struct buf b = { 0 };
    (void)state;
    assert_slice_equal(buf_slice(&b), "");
    buf_put(&b, NULL, 0);
    buf_put_slice(&b, SLICE_NULL);
    buf_printf(&b, "%s", "");
    assert_string_equal(buf_cstr(&b), "");
    assert_int_equal(b.size, 0);
    buf_release(&b);
    buf_release(&b);
}

static void
text_ends_with_a_nul_that_does_not_count(void **state)
{
    struct buf b = { 0 };
    (void)state;
    for (size_t i = 0; i < 500; i++) {
        assert_int_equal(strlen(buf_cstr(&b)), i);
        buf_put_u8(&b, 'x');
        assert_int_equal(b.size, i + 1);
    }
    buf_release(&b);
}

static void
what_exceeds_the_limit_changes_nothing(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 4);
    buf_put_str(&b, "1234");
    assert_false(buf_failed(&b));
    buf_put_u8(&b, '5');
    assert_true(buf_failed(&b));
    assert_slice_equal(buf_slice(&b), "1234");
    assert_string_equal(buf_cstr(&b), "1234");
    buf_release(&b);
}

/* So that what follows a hole cannot be taken for the whole. */
static void
a_failure_lasts_until_reset(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 4);
    buf_put_str(&b, "12345");
    buf_put_str(&b, "1");
    buf_printf(&b, "1");
    buf_put_varint(&b, 1);
    assert_false(buf_reserve(&b, 1));
    assert_true(buf_failed(&b));
    assert_int_equal(b.size, 0);
    assert_string_equal(buf_cstr(&b), "");
    buf_reset(&b);
    buf_put_str(&b, "1");
    assert_false(buf_failed(&b));
    assert_slice_equal(buf_slice(&b), "1");
    buf_release(&b);
}

static void
sizes_near_the_end_of_numbers_do_not_wrap(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_put_u8(&b, 'x');
    assert_false(buf_reserve(&b, SIZE_MAX));
    buf_reset(&b);
    buf_put_u8(&b, 'x');
    assert_false(buf_reserve(&b, SIZE_MAX - 1));
    buf_release(&b);
}

static void
growing_keeps_what_is_there(void **state)
{
    struct buf b = { 0 };
    (void)state;
    for (uint32_t i = 0; i < 100000; i++)
        buf_put_be32(&b, i);
    assert_int_equal(b.size, 400000);
    for (uint32_t i = 0; i < 100000; i += 997) {
        const uint8_t *p = b.data + (size_t)i * 4;
        assert_int_equal((uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3], i);
    }
    buf_release(&b);
}

static void
a_reserve_makes_room_at_once(void **state)
{
    struct buf b = { 0 };
    (void)state;
    assert_true(buf_reserve(&b, 1000));
    const uint8_t *before = b.data;
    for (size_t i = 0; i < 1000; i++)
        buf_put_u8(&b, 'x');
    assert_ptr_equal(b.data, before);
    buf_release(&b);
}

static void
long_formats_fit(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_printf(&b, "%0500d|", 7);
    buf_printf(&b, "%s", "end");
    assert_int_equal(b.size, 504);
    assert_memory_equal(b.data + 499, "7|end", 5);
    buf_release(&b);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_add_up),
        cmocka_unit_test(an_empty_buffer_is_empty_text),
        cmocka_unit_test(text_ends_with_a_nul_that_does_not_count),
        cmocka_unit_test(what_exceeds_the_limit_changes_nothing),
        cmocka_unit_test(a_failure_lasts_until_reset),
        cmocka_unit_test(sizes_near_the_end_of_numbers_do_not_wrap),
        cmocka_unit_test(growing_keeps_what_is_there),
        cmocka_unit_test(a_reserve_makes_room_at_once),
        cmocka_unit_test(long_formats_fit),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
