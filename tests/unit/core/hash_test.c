#include "support/unit.h"

#include "core/hash.h"

#include <stdio.h>
#include <stdlib.h>

static int
number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void
equal_bytes_have_equal_hashes(void **state)
{
    char a[] = "tenant", b[] = "xtenant";
    (void)state;
    assert_true(hash_bytes(slice_str(a), 1) == hash_bytes(slice_of(b + 1, 6), 1));
    assert_true(hash_bytes(slice_str(a), 1) != hash_bytes(slice_str(a), 2));
}

static void
size_counts(void **state)
{
    static const uint8_t zeros[64];
    uint64_t hashes[64];
    (void)state;
    for (size_t i = 0; i < 64; i++)
        hashes[i] = hash_bytes(slice_of(zeros, i), 0);
    qsort(hashes, 64, sizeof(hashes[0]), number_order);
    for (size_t i = 1; i < 64; i++)
        assert_true(hashes[i] != hashes[i - 1]);
    assert_true(hash_bytes(SLICE_NULL, 0) == hash_bytes(slice_str(""), 0));
}

/* Keys as they come: small numbers in text. Any 16 bits of the hash must spread them. */
static void
numbers_spread_evenly(void **state)
{
    enum { KEYS = 100000, SLOTS = 1 << 10 };
    static unsigned low[SLOTS], high[SLOTS];
    (void)state;
    for (int i = 0; i < KEYS; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        uint64_t h = hash_bytes(slice_str(text), 0);
        low[h % SLOTS]++;
        high[h >> 54]++;
    }
    for (size_t i = 0; i < SLOTS; i++) { /* 98 a slot, standard deviation 10 */
        assert_in_range(low[i], 40, 160);
        assert_in_range(high[i], 40, 160);
    }
}

static void
one_bit_changes_half_of_the_hash(void **state)
{
    uint8_t bytes[24] = { 0 };
    uint64_t before = hash_bytes(slice_of(bytes, sizeof(bytes)), 7);
    int changed = 0;
    (void)state;
    for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(1u << bit % 8);
        uint64_t after = hash_bytes(slice_of(bytes, sizeof(bytes)), 7);
        bytes[bit / 8] = 0;
        assert_true(after != before);
        changed += __builtin_popcountll(before ^ after);
    }
    assert_in_range(changed / (int)(sizeof(bytes) * 8), 24, 40);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_bytes_have_equal_hashes),
        cmocka_unit_test(size_counts),
        cmocka_unit_test(numbers_spread_evenly),
        cmocka_unit_test(one_bit_changes_half_of_the_hash),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
