#include "support/unit.h"

#include "core/err.h"
#include "pg/relation.h"
#include "strata/segment.h"
#include "support/fault_store.h"
#include "support/memory_store.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME "seg/1"

struct fixture {
    struct store *memory, *store;
    struct arena *arena;
    struct segment_info info;
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->memory = memory_store_new();
    f->store = fault_store_new(f->memory);
    f->arena = arena_new(NULL);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    arena_free(f->arena);
    store_close(f->store);
    store_close(f->memory);
    free(f);
    return 0;
}

static struct run_id
run_make(const char *tenant, uint32_t table, uint64_t shape)
{
    return (struct run_id){ { SCOPE_TENANT, slice_str(tenant) }, table, shape };
}

static struct version
version_make(const char *key, pgs_lsn lsn, const char *row)
{
    return (struct version){ .key = slice_str(key),
                             .commit_lsn = lsn,
                             .sequence = 1,
                             .op = VERSION_INSERT,
                             .row = slice_str(row) };
}

/* `keys` versions of each of `tenants` tenants in tables 10 and 20, and a transaction. */
static int
write_segment(struct fixture *f, size_t tenants, size_t keys, size_t block_bytes,
              struct pgs_err *err)
{
    struct segment_writer *w;
    char tenant[32], key[32];
    struct txn txn = { .commit_lsn = 90, .commit_end_lsn = 98, .commit_time = 5, .xid = 7 };
    int rc = segment_writer_new(f->store, NAME,
                                &(struct segment_opts){ .block_bytes = block_bytes }, &w, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < 2 * tenants; i++) {
        snprintf(tenant, sizeof(tenant), "t%05zu", i / 2);
        struct run_id run = run_make(tenant, i % 2 == 0 ? 10 : 20, 1);
        segment_writer_run_begin(w, &run);
        for (size_t j = 0; rc == 0 && j < keys; j++) {
            snprintf(key, sizeof(key), "k%05zu", j);
            struct version v = version_make(key, 100 + j, tenant);
            rc = segment_writer_add(w, &v, err);
        }
    }
    if (rc == 0)
        rc = segment_writer_txn(w, &txn, err);
    if (rc == 0)
        return segment_writer_finish(w, &f->info, err);
    segment_writer_abort(w);
    return rc;
}

static void
must_write(struct fixture *f, size_t tenants, size_t keys, size_t block_bytes)
{
    struct pgs_err err;
    assert_int_equal(write_segment(f, tenants, keys, block_bytes, &err), 0);
}

static struct segment *
must_open(struct fixture *f)
{
    struct segment *s;
    struct pgs_err err;
    assert_int_equal(segment_open(f->store, NAME, &f->info, &s, &err), 0);
    return s;
}

static struct run_ref *
must_find(struct fixture *f, struct segment *s, const char *tenant, uint32_t table, size_t count)
{
    const struct tenant wanted = { SCOPE_TENANT, slice_str(tenant) };
    struct run_ref *runs;
    struct pgs_err err;
    size_t found;
    assert_int_equal(segment_find(s, &wanted, table, f->arena, &runs, &found, &err), 0);
    assert_int_equal(found, count);
    return runs;
}

/* --- tests --- */

static void
a_run_reads_back_in_blocks_of_any_size(void **state)
{
    static const size_t sizes[] = { 1, 64, 0 };
    struct fixture *f = *state;
    struct pgs_err err;
    struct version v;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct run_cursor *c;
        must_write(f, 3, 50, sizes[i]);
        struct segment *s = must_open(f);
        struct run_ref *run = must_find(f, s, "t00001", 20, 1);
        assert_int_equal(run->version_count, 50);
        assert_int_equal(run->lsn.begin, 100);
        assert_int_equal(run->lsn.end, 150);
        assert_true(sizes[i] == 0 ? run->block_count == 1 : run->block_count > 1);
        assert_int_equal(run_cursor_open(s, run, &c, &err), 0);
        for (size_t j = 0; j < 50; j++) {
            char key[32];
            snprintf(key, sizeof(key), "k%05zu", j);
            assert_int_equal(run_cursor_next(c, &v, &err), 0);
            assert_slice_equal(v.key, key);
            assert_slice_equal(v.row, "t00001");
            assert_int_equal(v.commit_lsn, 100 + j);
        }
        assert_int_equal(run_cursor_next(c, &v, &err), PGS_NONE);
        run_cursor_close(c);
        segment_close(s);
    }
}

static void
a_segment_tells_what_is_in_it(void **state)
{
    struct fixture *f = *state;
    must_write(f, 4, 5, 0);
    assert_int_equal(f->info.version_count, 40);
    assert_int_equal(f->info.txn_count, 1);
    assert_int_equal(f->info.lsn.begin, 100);
    assert_int_equal(f->info.lsn.end, 105);
    assert_int_equal(f->info.time_min, 5);
    assert_int_equal(f->info.time_max, 5);
    assert_int_equal(f->info.size, memory_store_object(f->memory, NAME)->size);
    assert_string_equal(f->info.name, NAME);
}

static void
an_empty_segment_is_one(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w;
    struct pgs_err err;
    struct run_ref *runs;
    struct run_id run = run_make("acme", 1, 1);
    size_t position = 0, count;
    assert_int_equal(segment_writer_new(f->store, NAME, NULL, &w, &err), 0);
    segment_writer_run_begin(w, &run); /* a run of nothing leaves no trace */
    assert_int_equal(segment_writer_finish(w, &f->info, &err), 0);
    assert_int_equal(f->info.lsn.end, 0);
    assert_int_equal(f->info.time_min, PGS_TIME_NONE);
    struct segment *s = must_open(f);
    assert_int_equal(segment_page(s, &position, f->arena, &runs, &count, &err), PGS_NONE);
    must_find(f, s, "acme", 1, 0);
    segment_close(s);
    assert_int_equal(segment_verify(f->store, &f->info, &err), 0);
}

/* The promise of the format: what one tenant's read costs does not grow with the tenants. */
static void
one_tenant_is_found_among_many_with_few_bytes(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    bool has;
    must_write(f, 5000, 1, 0);
    struct segment *s = must_open(f);
    must_find(f, s, "t04321", 10, 1);
    must_find(f, s, "t04321", 20, 1);
    must_find(f, s, "t04321", 15, 0);
    must_find(f, s, "nobody", 10, 0);
    must_find(f, s, "t00000", 10, 1);
    must_find(f, s, "t04999", 20, 1);
    assert_int_equal(
        segment_has_tenant(s, &(struct tenant){ SCOPE_TENANT, slice_str("t00042") }, &has, &err),
        0);
    assert_true(has);
    assert_int_equal(
        segment_has_tenant(s, &(struct tenant){ SCOPE_SHARED, slice_str("") }, &has, &err), 0);
    assert_false(has);
    assert_true(segment_bytes_read(s) < f->info.size / 5);
    segment_close(s);
}

static void
asking_for_table_after_table_reads_the_directory_once(void **state)
{
    struct fixture *f = *state;
    must_write(f, 5000, 1, 0);
    struct segment *s = must_open(f);
    must_find(f, s, "t02500", 10, 1);
    uint64_t bytes = segment_bytes_read(s);
    must_find(f, s, "t02500", 20, 1);
    must_find(f, s, "t02500", 30, 0);
    assert_int_equal(segment_bytes_read(s), bytes);
    segment_close(s);
}

static void
every_run_is_listed_in_order(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct run_ref *runs;
    size_t position = 0, count, total = 0;
    int rc;
    must_write(f, 3000, 1, 0);
    struct segment *s = must_open(f);
    while ((rc = segment_page(s, &position, f->arena, &runs, &count, &err)) == 0) {
        for (size_t i = 1; i < count; i++)
            assert_true(run_id_compare(&runs[i - 1].id, &runs[i].id) < 0);
        total += count;
    }
    assert_int_equal(rc, PGS_NONE);
    assert_int_equal(total, 6000);
    assert_true(position > 1);
    segment_close(s);
}

static void
several_shapes_of_a_table_are_several_runs(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w;
    struct pgs_err err;
    const struct version v = version_make("k", 100, "row");
    assert_int_equal(segment_writer_new(f->store, NAME, NULL, &w, &err), 0);
    for (uint64_t shape = 1; shape <= 3; shape++) {
        const struct run_id run = run_make("acme", 10, shape);
        segment_writer_run_begin(w, &run);
        assert_int_equal(segment_writer_add(w, &v, &err), 0);
    }
    assert_int_equal(segment_writer_finish(w, &f->info, &err), 0);
    struct segment *s = must_open(f);
    struct run_ref *runs = must_find(f, s, "acme", 10, 3);
    for (uint64_t shape = 1; shape <= 3; shape++)
        assert_int_equal(runs[shape - 1].id.shape_id, shape);
    segment_close(s);
}

static void
check_seek(struct run_cursor *c, const char *key, const char *found)
{
    struct pgs_err err;
    struct version v;
    assert_int_equal(run_cursor_seek(c, slice_str(key), &err), 0);
    int rc = run_cursor_next(c, &v, &err);
    assert_int_equal(rc, found != NULL ? 0 : PGS_NONE);
    if (found != NULL)
        assert_slice_equal(v.key, found);
}

static void
seeking_goes_forward_and_reads_only_blocks_that_matter(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct run_cursor *c;
    struct slice bound;
    must_write(f, 1, 5000, 200);
    struct segment *s = must_open(f);
    struct run_ref *run = must_find(f, s, "t00000", 10, 1);
    uint64_t directory = segment_bytes_read(s);
    assert_int_equal(run_cursor_open(s, run, &c, &err), 0);
    assert_true(run_cursor_bound(c, &bound));
    assert_slice_equal(bound, "k00000");
    assert_int_equal(segment_bytes_read(s), directory);
    check_seek(c, "k00010", "k00010");
    check_seek(c, "k02500x", "k02501");
    check_seek(c, "k00001", "k02502"); /* never back */
    check_seek(c, "k04999", "k04999");
    check_seek(c, "z", NULL);
    assert_false(run_cursor_bound(c, &bound));
    assert_true(segment_bytes_read(s) - directory < 2000);
    run_cursor_close(c);
    segment_close(s);
}

static void
seeking_the_same_key_twice_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct run_cursor *c;
    must_write(f, 1, 20, 64);
    struct segment *s = must_open(f);
    assert_int_equal(run_cursor_open(s, must_find(f, s, "t00000", 10, 1), &c, &err), 0);
    assert_int_equal(run_cursor_seek(c, slice_str("k00007"), &err), 0);
    assert_int_equal(run_cursor_seek(c, slice_str("k00003"), &err), 0);
    check_seek(c, "k00007", "k00007");
    run_cursor_close(c);
    segment_close(s);
}

static void
transactions_come_back_whole(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w;
    struct pgs_err err;
    struct txn *txns;
    size_t count;
    const struct txn wanted[] = {
        { .commit_lsn = 10, .commit_end_lsn = 12, .commit_time = -5, .xid = UINT64_C(1) << 40 },
        { .commit_lsn = 20, .commit_end_lsn = 22, .commit_time = 3, .actor = slice_str("ana") },
        { .commit_lsn = 22, .commit_end_lsn = 30, .commit_time = 1, .restore_id = slice_str("") },
    };
    assert_int_equal(segment_writer_new(f->store, NAME, NULL, &w, &err), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(segment_writer_txn(w, &wanted[i], &err), 0);
    assert_int_equal(segment_writer_finish(w, &f->info, &err), 0);
    assert_int_equal(f->info.time_min, -5);
    assert_int_equal(f->info.time_max, 3);
    struct segment *s = must_open(f);
    assert_int_equal(segment_txns(s, f->arena, &txns, &count, &err), 0);
    segment_close(s);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(txns[i].commit_lsn, wanted[i].commit_lsn);
        assert_int_equal(txns[i].commit_end_lsn, wanted[i].commit_end_lsn);
        assert_int_equal(txns[i].commit_time, wanted[i].commit_time);
        assert_int_equal(txns[i].xid, wanted[i].xid);
        assert_true(slice_equal(txns[i].actor, wanted[i].actor));
        assert_true(slice_equal(txns[i].restore_id, wanted[i].restore_id));
    }
}

static void
a_row_larger_than_a_block_fits(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w;
    struct pgs_err err;
    struct run_cursor *c;
    struct version v = version_make("k", 100, ""), read;
    const struct run_id run = run_make("acme", 10, 1);
    size_t size = (size_t)3 << 20;
    char *row = malloc(size);
    memset(row, 'x', size);
    v.row = slice_of(row, size);
    assert_int_equal(segment_writer_new(f->store, NAME, NULL, &w, &err), 0);
    segment_writer_run_begin(w, &run);
    assert_int_equal(segment_writer_add(w, &v, &err), 0);
    assert_int_equal(segment_writer_finish(w, &f->info, &err), 0);
    struct segment *s = must_open(f);
    assert_int_equal(run_cursor_open(s, must_find(f, s, "acme", 10, 1), &c, &err), 0);
    assert_int_equal(run_cursor_next(c, &read, &err), 0);
    assert_true(slice_equal(read.row, v.row));
    run_cursor_close(c);
    segment_close(s);
    free(row);
}

static void
memory_is_charged_while_writing(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w;
    struct budget budget;
    struct pgs_err err;
    budget_init(&budget, 1 << 20);
    assert_int_equal(
        segment_writer_new(f->store, NAME, &(struct segment_opts){ .budget = &budget }, &w, &err),
        0);
    assert_true(budget_used(&budget) >= 2 * SEGMENT_BLOCK_BYTES);
    segment_writer_abort(w);
    assert_int_equal(budget_used(&budget), 0);
    assert_int_equal(memory_store_count(f->memory), 0);
}

/* --- failures and damage --- */

static void
a_store_that_fails_at_any_call_leaves_no_segment(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    for (size_t nth = 1;; nth++) {
        fault_store_next(f->store, FAULT_FAIL, nth);
        int rc = write_segment(f, 100, 1000, 0, &err);
        if (rc == 0)
            break;
        assert_int_equal(rc, PGS_E_STORE);
        assert_non_null(strstr(err.message, NAME));
        assert_int_equal(memory_store_count(f->memory), 0);
        assert_true(nth < 100);
    }
    fault_store_next(f->store, FAULT_NONE, 1);
    assert_int_equal(segment_verify(f->store, &f->info, &err), 0);
}

static int
read_all(struct fixture *f, struct pgs_err *err)
{
    struct segment *s;
    struct run_ref *runs;
    struct txn *txns;
    size_t position = 0, count;
    int rc = segment_open(f->store, NAME, &f->info, &s, err);
    if (rc < 0)
        return rc;
    while ((rc = segment_page(s, &position, f->arena, &runs, &count, err)) == 0) {
        for (size_t i = 0; rc == 0 && i < count; i++) {
            struct run_cursor *c;
            struct version v;
            rc = run_cursor_open(s, &runs[i], &c, err);
            while (rc == 0)
                rc = run_cursor_next(c, &v, err);
            run_cursor_close(c);
            rc = rc == PGS_NONE ? 0 : rc;
        }
        if (rc < 0)
            break;
    }
    if (rc == PGS_NONE)
        rc = segment_txns(s, f->arena, &txns, &count, err);
    segment_close(s);
    return rc;
}

static void
a_store_that_fails_at_any_call_is_told_to_readers(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_write(f, 20, 30, 500);
    for (size_t nth = 1;; nth++) {
        fault_store_next(f->store, FAULT_FAIL, nth);
        int rc = read_all(f, &err);
        if (rc == 0)
            break;
        assert_int_equal(rc, PGS_E_STORE);
        assert_non_null(strstr(err.message, NAME));
        assert_true(nth < 1000);
    }
}

/* Verify finds every byte; a reader may pass over one that it needs not, but never stumbles. */
static void
every_damaged_byte_is_found_by_verify(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_write(f, 3, 10, 64);
    struct buf *object = memory_store_object(f->memory, NAME);
    assert_int_equal(segment_verify(f->store, &f->info, &err), 0);
    for (size_t i = 0; i < object->size; i++) {
        object->data[i] ^= 0x04;
        int rc = segment_verify(f->store, &f->info, &err);
        assert_true(rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED);
        rc = read_all(f, &err);
        assert_true(rc == 0 || rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED);
        object->data[i] ^= 0x04;
    }
}

static void
a_segment_cut_short_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_write(f, 3, 10, 64);
    struct buf *object = memory_store_object(f->memory, NAME);
    size_t whole = object->size;
    for (size_t size = 0; size < whole; size++) {
        struct segment *s;
        object->size = size;
        f->info.size = size; /* even if the log said so */
        assert_int_equal(segment_open(f->store, NAME, &f->info, &s, &err), PGS_E_CORRUPT);
    }
    object->size = whole;
}

static void
an_absent_segment_is_corrupt_and_says_so(void **state)
{
    struct fixture *f = *state;
    struct segment *s;
    struct pgs_err err;
    assert_int_equal(segment_open(f->store, NAME, NULL, &s, &err), PGS_E_CORRUPT);
    assert_non_null(strstr(err.message, "missing"));
    assert_true(err.hint[0] != '\0');
}

static void
a_newer_format_is_refused(void **state)
{
    struct fixture *f = *state;
    struct segment *s;
    struct pgs_err err;
    must_write(f, 1, 1, 0);
    struct buf *object = memory_store_object(f->memory, NAME);
    object->data[object->size - 9] = 2; /* the last byte of the version, before the end magic */
    assert_int_equal(segment_open(f->store, NAME, &f->info, &s, &err), PGS_E_REFUSED);
    assert_non_null(strstr(err.message, "version 2"));
}

static void
a_segment_that_is_not_the_log_s_is_found(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_write(f, 1, 3, 0);
    struct segment_info info = f->info;
    info.sha256[0] ^= 1;
    assert_int_equal(segment_verify(f->store, &info, &err), PGS_E_CORRUPT);
    info = f->info;
    info.version_count++;
    assert_int_equal(segment_verify(f->store, &info, &err), PGS_E_CORRUPT);
    info = f->info;
    info.size++;
    assert_int_equal(segment_verify(f->store, &info, &err), PGS_E_CORRUPT);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_run_reads_back_in_blocks_of_any_size),
        TEST(a_segment_tells_what_is_in_it),
        TEST(an_empty_segment_is_one),
        TEST(one_tenant_is_found_among_many_with_few_bytes),
        TEST(asking_for_table_after_table_reads_the_directory_once),
        TEST(every_run_is_listed_in_order),
        TEST(several_shapes_of_a_table_are_several_runs),
        TEST(seeking_goes_forward_and_reads_only_blocks_that_matter),
        TEST(seeking_the_same_key_twice_loses_nothing),
        TEST(transactions_come_back_whole),
        TEST(a_row_larger_than_a_block_fits),
        TEST(memory_is_charged_while_writing),
        TEST(a_store_that_fails_at_any_call_leaves_no_segment),
        TEST(a_store_that_fails_at_any_call_is_told_to_readers),
        TEST(every_damaged_byte_is_found_by_verify),
        TEST(a_segment_cut_short_is_corrupt),
        TEST(an_absent_segment_is_corrupt_and_says_so),
        TEST(a_newer_format_is_refused),
        TEST(a_segment_that_is_not_the_log_s_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
