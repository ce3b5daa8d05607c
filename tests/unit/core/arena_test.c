#include "support/unit.h"

#include "core/arena.h"

#include <stdalign.h>

#define KIB ((size_t)1024)

static void
memory_is_aligned_for_any_type(void **state)
{
    struct arena *a = arena_new(NULL);
    (void)state;
    for (size_t size = 0; size < 5000; size = size * 2 + 1) {
        (void)arena_alloc_bytes(a, 1);
        assert_int_equal((uintptr_t)arena_alloc(a, size) % alignof(max_align_t), 0);
    }
    arena_free(a);
}

/* Each allocation is filled with its own byte; none may be overwritten by another. */
static void
allocations_do_not_overlap(void **state)
{
    enum { COUNT = 2000 };
    static uint8_t *blocks[COUNT];
    static size_t sizes[COUNT];
    struct arena *a = arena_new(NULL);
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = i % 97 == 0 ? 40 * KIB + i : i % 300;
        blocks[i] = i % 2 == 0 ? arena_alloc(a, sizes[i]) : arena_alloc_bytes(a, sizes[i]);
        memset(blocks[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(blocks[i][j], i & 0xff);
    arena_free(a);
}

static void
the_budget_knows_every_chunk(void **state)
{
    struct budget budget;
    (void)state;
    budget_init(&budget, 1 << 30);
    struct arena *a = arena_new(&budget), *b = arena_new(&budget);
    assert_int_equal(budget_used(&budget), 0);
    (void)arena_alloc(a, 1);
    assert_int_equal(arena_bytes(a), 64 * KIB);
    (void)arena_alloc(b, 300 * KIB); /* a chunk of its own */
    assert_int_equal(arena_bytes(b), 300 * KIB);
    assert_int_equal(budget_used(&budget), 364 * KIB);
    for (size_t i = 0; i < 5000; i++)
        (void)arena_alloc(a, 1000);
    assert_true(arena_bytes(a) >= 5000 * 1000);
    assert_int_equal(budget_used(&budget), arena_bytes(a) + 300 * KIB);
    arena_free(b);
    assert_int_equal(budget_used(&budget), arena_bytes(a));
    arena_free(a);
    assert_int_equal(budget_used(&budget), 0);
    assert_true(budget_peak(&budget) >= 5000 * 1000 + 300 * KIB);
}

static void
chunks_grow_to_a_limit(void **state)
{
    struct arena *a = arena_new(NULL);
    size_t before = 0, largest = 0;
    (void)state;
    for (size_t i = 0; i < 10000; i++) {
        (void)arena_alloc(a, 1000);
        size_t step = arena_bytes(a) - before;
        before = arena_bytes(a);
        largest = step > largest ? step : largest;
    }
    assert_int_equal(largest, KIB * KIB);
    assert_true(arena_bytes(a) < 10000 * 1000 + 2 * KIB * KIB);
    arena_free(a);
}

static void
a_reset_keeps_one_chunk(void **state)
{
    struct budget budget;
    (void)state;
    budget_init(&budget, 1 << 30);
    struct arena *a = arena_new(&budget);
    arena_reset(a);
    for (size_t i = 0; i < 3000; i++)
        (void)arena_alloc(a, 1000);
    (void)arena_alloc(a, 2 * KIB * KIB);
    arena_reset(a);
    size_t kept = arena_bytes(a);
    assert_int_equal(budget_used(&budget), kept);
    assert_true(kept <= KIB * KIB);
    for (size_t round = 0; round < 1000; round++) { /* one row's garbage, again and again */
        (void)arena_alloc(a, 1000);
        arena_reset(a);
    }
    assert_int_equal(arena_bytes(a), kept);
    arena_free(a);
    assert_int_equal(budget_used(&budget), 0);
}

static void
zeroed_memory_is_zero(void **state)
{
    struct arena *a = arena_new(NULL);
    (void)state;
    memset(arena_alloc(a, 4000), 0xee, 4000);
    arena_reset(a);
    uint32_t *numbers = arena_alloc_array(a, 500, sizeof(*numbers));
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(numbers[i], 0);
    const uint8_t *bytes = arena_alloc_zero(a, 2000);
    for (size_t i = 0; i < 2000; i++)
        assert_int_equal(bytes[i], 0);
    arena_free(a);
}

static void
copies_are_copies(void **state)
{
    struct arena *a = arena_new(NULL);
    char source[] = "text";
    (void)state;
    struct slice dup = arena_dup(a, slice_str(source));
    char *str = arena_strdup(a, source);
    char *slice = arena_slice_str(a, slice_of(source, 2));
    source[0] = 'n';
    assert_slice_equal(dup, "text");
    assert_string_equal(str, "text");
    assert_string_equal(slice, "te");
    assert_string_equal(arena_printf(a, "%s-%d", str, 7), "text-7");
    assert_string_equal(arena_printf(a, "%s", ""), "");
    assert_int_equal(strlen(arena_printf(a, "%070000d", 1)), 70000);
    arena_free(a);
}

static void
nothing_stays_nothing(void **state)
{
    struct arena *a = arena_new(NULL);
    (void)state;
    assert_null(arena_dup(a, SLICE_NULL).data);
    assert_null(arena_strdup(a, NULL));
    assert_string_equal(arena_slice_str(a, SLICE_NULL), "");
    assert_slice_equal(arena_dup(a, slice_str("")), ""); /* empty, not NULL */
    assert_non_null(arena_alloc(a, 0));
    arena_free(NULL);
    arena_free(a);
}

struct order {
    char text[8];
    size_t size;
};

static struct order order;

static void
note(void *handle)
{
    order.text[order.size++] = *(const char *)handle;
}

static void
deferred_functions_run_last_first_and_once(void **state)
{
    static char letters[] = "abc";
    struct arena *a = arena_new(NULL);
    (void)state;
    order = (struct order){ 0 };
    arena_defer(a, note, &letters[0]);
    arena_defer(a, note, &letters[1]);
    arena_reset(a);
    assert_string_equal(order.text, "ba");
    arena_defer(a, note, &letters[2]);
    arena_free(a);
    assert_string_equal(order.text, "bac");
}

#ifdef PGS_POISON
static void
what_is_reset_is_poisoned(void **state)
{
    struct arena *a = arena_new(NULL);
    (void)state;
    uint8_t *bytes = memset(arena_alloc(a, 100), 1, 100);
    arena_reset(a);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(bytes[i], 0xff);
    arena_free(a);
}
#endif

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_for_any_type),
        cmocka_unit_test(allocations_do_not_overlap),
        cmocka_unit_test(the_budget_knows_every_chunk),
        cmocka_unit_test(chunks_grow_to_a_limit),
        cmocka_unit_test(a_reset_keeps_one_chunk),
        cmocka_unit_test(zeroed_memory_is_zero),
        cmocka_unit_test(copies_are_copies),
        cmocka_unit_test(nothing_stays_nothing),
        cmocka_unit_test(deferred_functions_run_last_first_and_once),
#ifdef PGS_POISON
        cmocka_unit_test(what_is_reset_is_poisoned),
#endif
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
