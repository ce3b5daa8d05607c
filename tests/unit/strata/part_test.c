#include "support/unit.h"

#include "core/err.h"
#include "strata/crc32c.h"
#include "strata/part.h"

#include <stdlib.h>

static void
crc32c_gives_the_published_values(void **state)
{
    static const uint8_t zeros[32];
    (void)state;
    assert_int_equal(crc32c(slice_str("")), 0);
    assert_int_equal(crc32c(slice_str("123456789")), 0xe3069283);
    assert_int_equal(crc32c(slice_of(zeros, sizeof(zeros))), 0x8a9136aa); /* RFC 3720, B.4 */
}

/* `size` bytes that a compressor can do something with. */
static struct buf
bytes_make(size_t size)
{
    struct buf b = { 0 };
    for (size_t i = 0; i < size; i++)
        buf_put_u8(&b, (uint8_t)(i % 23 + i / 1000));
    return b;
}

static void
pack(const struct buf *raw, struct buf *stored)
{
    struct part_codec *codec = part_codec_take();
    struct pgs_err err;
    assert_int_equal(part_pack(codec, 1, buf_slice(raw), stored, &err), 0);
    part_codec_give(codec);
}

static int
unpack(const struct buf *stored, uint64_t raw_size, struct buf *raw, struct pgs_err *err)
{
    struct part_codec *codec = part_codec_take();
    int rc = part_unpack(codec, buf_slice(stored), raw_size, "a part", raw, err);
    part_codec_give(codec);
    return rc;
}

static void
parts_of_every_size_come_back(void **state)
{
    static const size_t sizes[] = { 1, 2, 511, 512, 513, 4096, 1 << 20 };
    struct pgs_err err;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf raw = bytes_make(sizes[i]), stored = { 0 }, back = { 0 };
        pack(&raw, &stored);
        assert_int_equal(unpack(&stored, raw.size, &back, &err), 0);
        assert_true(slice_equal(buf_slice(&raw), buf_slice(&back)));
        assert_true(sizes[i] <= 512 || stored.size < raw.size);
        buf_release(&raw);
        buf_release(&stored);
        buf_release(&back);
    }
}

/* One byte each, small and large: the checksums find it, and a cipher without a key (or the other
 * way round) is no encryption but damage. */
static void
every_damaged_byte_is_found(void **state)
{
    static const size_t sizes[] = { 100, 2000 };
    struct pgs_err err;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf raw = bytes_make(sizes[i]), stored = { 0 }, back = { 0 };
        pack(&raw, &stored);
        for (size_t at = 0; at < stored.size; at++) {
            stored.data[at] ^= 0x04;
            assert_int_equal(unpack(&stored, raw.size, &back, &err), PGS_E_CORRUPT);
            stored.data[at] ^= 0x04;
        }
        for (size_t size = 0; size < stored.size; size++) {
            struct buf cut = stored;
            cut.size = size;
            assert_int_equal(unpack(&cut, raw.size, &back, &err), PGS_E_CORRUPT);
        }
        buf_release(&raw);
        buf_release(&stored);
        buf_release(&back);
    }
}

static void
an_encrypted_part_is_refused(void **state)
{
    struct buf raw = bytes_make(100), stored = { 0 }, back = { 0 };
    struct pgs_err err;
    (void)state;
    pack(&raw, &stored);
    stored.data[1] = 1;                     /* the cipher */
    stored.data[PART_HEADER_BYTES - 1] = 7; /* the key */
    assert_int_equal(unpack(&stored, raw.size, &back, &err), PGS_E_REFUSED);
    buf_release(&raw);
    buf_release(&stored);
    buf_release(&back);
}

static void
a_size_that_is_not_the_part_s_is_found_before_memory_is_taken(void **state)
{
    struct buf raw = bytes_make(2000), stored = { 0 }, back = { 0 };
    struct pgs_err err;
    (void)state;
    pack(&raw, &stored);
    assert_int_equal(unpack(&stored, 1999, &back, &err), PGS_E_CORRUPT);
    assert_int_equal(unpack(&stored, PART_RAW_MAX, &back, &err), PGS_E_CORRUPT);
    assert_int_equal(unpack(&stored, UINT64_MAX, &back, &err), PGS_E_CORRUPT);
    assert_int_equal(back.capacity, 0);
    buf_release(&raw);
    buf_release(&stored);
    buf_release(&back);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_gives_the_published_values),
        cmocka_unit_test(parts_of_every_size_come_back),
        cmocka_unit_test(every_damaged_byte_is_found),
        cmocka_unit_test(an_encrypted_part_is_refused),
        cmocka_unit_test(a_size_that_is_not_the_part_s_is_found_before_memory_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
