#include "support/unit.h"

#include "core/err.h"
#include "support/fault_store.h"
#include "support/strata_world.h"

#include <stdio.h>
#include <stdlib.h>

static int
set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    world_open(w);
    *state = w;
    return 0;
}

static int
tear_down(void **state)
{
    struct world *w = *state;
    world_close(w);
    free(w);
    return 0;
}

/* A transaction of one change of `orders`. */
static void
change(struct world *w, pgs_lsn lsn, const char *tenant, enum version_op op, const char *id,
       const char *row, const char *prev_id)
{
    world_change(w, tenant, WORLD_ORDERS, 1, op, id, row, prev_id);
    world_commit(w, lsn, (pgs_time)lsn, lsn);
}

static void
base(struct world *w, const char *const *rows, size_t count)
{
    world_base(w, WORLD_ORDERS, 100, rows, count, 1);
}

static void
assert_rows(struct world *w, const char *tenant, pgs_lsn cut, const char *rows)
{
    assert_string_equal(world_rows(w, tenant, WORLD_ORDERS, cut), rows);
}

/* --- rows at a cut --- */

static const char *const two_rows[] = { "acme", "1|acme|a|long", "acme", "2|acme|b|~" };

static void
a_base_alone_is_the_state(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    assert_rows(w, "acme", 100, "1|acme|a|long\n2|acme|b|~\n");
    assert_rows(w, "other", 100, "");
    assert_rows(w, NULL, 100, "");
    assert_rows(w, "acme", 99, "refused: outside_coverage");
}

static void
a_change_counts_when_it_commits_before_the_cut(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    change(w, 200, "acme", VERSION_UPDATE, "1", "1|acme|c|=", NULL);
    change(w, 300, "acme", VERSION_DELETE, "1", NULL, NULL);
    change(w, 400, "acme", VERSION_INSERT, "1", "1|acme|d|e", NULL);
    world_flush(w);
    assert_rows(w, "acme", 200, "1|acme|a|long\n2|acme|b|~\n");
    assert_rows(w, "acme", 201, "1|acme|c|long\n2|acme|b|~\n");
    assert_rows(w, "acme", 301, "2|acme|b|~\n");
    assert_rows(w, "acme", 401, "1|acme|d|e\n2|acme|b|~\n");
}

/* A base and the stream overlap: the base holds what committed before its LSN, and only that. */
static void
changes_before_the_base_are_in_it_already(void **state)
{
    struct world *w = *state;
    change(w, 50, "acme", VERSION_INSERT, "3", "3|acme|old|~", NULL);
    change(w, 99, "acme", VERSION_UPDATE, "1", "1|acme|stale|~", NULL);
    change(w, 100, "acme", VERSION_UPDATE, "2", "2|acme|new|~", NULL);
    world_flush(w);
    base(w, two_rows, 2);
    assert_rows(w, "acme", 100, "1|acme|a|long\n2|acme|b|~\n");
    assert_rows(w, "acme", 101, "1|acme|a|long\n2|acme|new|~\n");
}

static void
a_tombstone_ends_whoever_holds_the_key(void **state)
{
    struct world *w = *state;
    const char *const rows[] = { "acme", "1|acme|a|~", "beta", "2|beta|a|~", NULL, "3|~|a|~" };
    base(w, rows, 3);
    change(w, 200, "*", VERSION_DELETE, "1", NULL, NULL);
    change(w, 300, "*", VERSION_DELETE, "2", NULL, NULL);
    change(w, 400, "*", VERSION_DELETE, "3", NULL, NULL);
    world_flush(w);
    assert_rows(w, "acme", 200, "1|acme|a|~\n");
    assert_rows(w, "acme", 201, "");
    assert_rows(w, "beta", 201, "2|beta|a|~\n");
    assert_rows(w, "beta", 301, "");
    assert_rows(w, NULL, 301, "3|~|a|~\n");
    assert_rows(w, NULL, 401, "");
}

static void
a_truncate_ends_what_was_and_nothing_that_comes(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    world_change(w, "acme", WORLD_ORDERS, 1, VERSION_INSERT, "3", "3|acme|a|~", NULL);
    world_change(w, "*", WORLD_ORDERS, 2, VERSION_TRUNCATE, NULL, NULL, NULL);
    world_change(w, "acme", WORLD_ORDERS, 3, VERSION_INSERT, "2", "2|acme|again|~", NULL);
    world_commit(w, 200, 200, 200);
    change(w, 300, "acme", VERSION_INSERT, "1", "1|acme|later|~", NULL);
    world_flush(w);
    assert_rows(w, "acme", 200, "1|acme|a|long\n2|acme|b|~\n");
    assert_rows(w, "acme", 201, "2|acme|again|~\n");
    assert_rows(w, "acme", 301, "1|acme|later|~\n2|acme|again|~\n");
}

static void
keys_answer_for_those_that_ever_were(void **state)
{
    struct world *w = *state;
    static const char *const ids[] = { "0", "1", "2", "3", "9" };
    base(w, two_rows, 2);
    change(w, 200, "acme", VERSION_DELETE, "1", NULL, NULL);
    change(w, 300, "acme", VERSION_INSERT, "3", "3|acme|c|~", NULL);
    change(w, 400, "*", VERSION_DELETE, "9", NULL, NULL);
    world_flush(w);
    assert_string_equal(world_rows_of_keys(w, "acme", WORLD_ORDERS, 401, ids, 5),
                        "1 gone\n2|acme|b|~\n3|acme|c|~\n");
    assert_string_equal(world_rows_of_keys(w, "acme", WORLD_ORDERS, 401, ids, 0), "");
}

/* --- large values that did not change --- */

static void
a_large_value_follows_a_key_change(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    world_change(w, "acme", WORLD_ORDERS, 1, VERSION_DELETE, "1", NULL, NULL);
    world_change(w, "acme", WORLD_ORDERS, 1, VERSION_UPDATE, "7", "7|acme|x|=", "1");
    world_change(w, "acme", WORLD_ORDERS, 2, VERSION_DELETE, "7", NULL, NULL);
    world_change(w, "acme", WORLD_ORDERS, 2, VERSION_UPDATE, "8", "8|acme|y|=", "7");
    world_commit(w, 200, 200, 200);
    world_flush(w);
    change(w, 300, "acme", VERSION_UPDATE, "8", "8|acme|z|=", NULL);
    world_flush(w);
    assert_rows(w, "acme", 201, "2|acme|b|~\n8|acme|y|long\n");
    assert_rows(w, "acme", 301, "2|acme|b|~\n8|acme|z|long\n");
}

/* 'U' under the new tenant, then what the move trigger's message says. */
static void
move(struct world *w, pgs_lsn lsn, const char *from, const char *to, const char *row)
{
    world_change(w, to, WORLD_ORDERS, 1, VERSION_UPDATE, "1", row, NULL);
    world_change(w, from, WORLD_ORDERS, 2, VERSION_MOVED_OUT, "1", NULL, NULL);
    world_change(w, to, WORLD_ORDERS, 2, VERSION_MOVED_IN, "1", from != NULL ? from : "", NULL);
    world_commit(w, lsn, (pgs_time)lsn, lsn);
}

static void
a_large_value_follows_a_move_between_tenants(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    move(w, 200, "acme", "beta", "1|beta|x|=");
    world_flush(w);
    move(w, 300, "beta", NULL, "1|~|y|=");
    move(w, 400, NULL, "acme", "1|acme|z|=");
    world_flush(w);
    assert_rows(w, "beta", 201, "1|beta|x|long\n");
    assert_rows(w, "acme", 201, "2|acme|b|~\n");
    assert_rows(w, NULL, 301, "1|~|y|long\n");
    assert_rows(w, "beta", 301, "");
    assert_rows(w, "acme", 401, "1|acme|z|long\n2|acme|b|~\n");
}

static void
a_large_value_that_comes_from_nowhere_is_refused(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    change(w, 200, "acme", VERSION_UPDATE, "5", "5|acme|a|=", NULL);
    change(w, 300, "acme", VERSION_UPDATE, "6", "6|acme|a|=", "9");
    world_flush(w);
    assert_rows(w, "acme", 201, "refused: unresolved_toast");
    assert_rows(w, "acme", 301, "refused: unresolved_toast");
}

/* --- versions --- */

/* "op id@lsn.sequence" of each version, base rows in brackets. */
static const char *
versions(struct world *w, const char *tenant, pgs_lsn to)
{
    struct archive *a = world_archive(w);
    struct coverage coverage;
    struct scan_opts opts = {
        .tenant = world_tenant(tenant), .coverage = &coverage, .table_oid = WORLD_ORDERS, .to = to
    };
    struct pgs_err err;
    struct scan *scan;
    struct version v;
    bool from_base;
    struct buf out = { 0 };
    int rc;
    world_must(archive_coverage(a, WORLD_ORDERS, 100, 100, &coverage, &err), &err);
    world_must(scan_open(a, &opts, &scan, &err), &err);
    while ((rc = scan_next(scan, &v, &from_base, &err)) == 0) {
        struct slice id;
        world_must(key_split(v.key, 1, &id, &err), &err);
        if (from_base)
            buf_printf(&out, "[%.*s] ", SLICE_PRINT(id));
        else
            buf_printf(&out, "%c%.*s@%llu.%llu ", v.op, SLICE_PRINT(id),
                       (unsigned long long)v.commit_lsn, (unsigned long long)v.sequence);
    }
    assert_int_equal(rc, PGS_NONE);
    assert_int_equal(scan_next(scan, &v, &from_base, &err), PGS_NONE);
    scan_close(scan);
    const char *text = arena_strdup(w->arena, buf_cstr(&out));
    buf_release(&out);
    return text;
}

static void
versions_come_in_order_with_tombstones_among_them(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    w->segments_per_flush = 2;
    change(w, 200, "acme", VERSION_UPDATE, "1", "1|acme|x|~", NULL);
    change(w, 300, "*", VERSION_DELETE, "1", NULL, NULL);
    change(w, 310, "*", VERSION_DELETE, "5", NULL, NULL); /* nobody of ours */
    world_flush(w);
    change(w, 400, "acme", VERSION_INSERT, "1", "1|acme|y|~", NULL);
    change(w, 500, "*", VERSION_TRUNCATE, NULL, NULL, NULL);
    change(w, 600, "acme", VERSION_INSERT, "3", "3|acme|z|~", NULL);
    world_flush(w);
    assert_string_equal(versions(w, "acme", 1000),
                        "[1] U1@200.1 D1@300.1 I1@400.1 T1@500.1 [2] T2@500.1 T3@500.1 I3@600.1 ");
    assert_string_equal(versions(w, "acme", 400), "[1] U1@200.1 D1@300.1 [2] ");
}

static void
a_run_of_another_shape_is_corrupt(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    base(w, two_rows, 2);
    w->shape_id++;
    change(w, 200, "acme", VERSION_UPDATE, "1", "1|acme|x|~", NULL);
    world_flush(w);
    w->shape_id--;
    struct archive *a = world_archive(w);
    struct coverage coverage;
    struct scan_opts opts = {
        .tenant = world_tenant("acme"), .coverage = &coverage, .table_oid = WORLD_ORDERS, .to = 300
    };
    struct scan *scan;
    world_must(archive_coverage(a, WORLD_ORDERS, 100, 100, &coverage, &err), &err);
    assert_int_equal(scan_open(a, &opts, &scan, &err), PGS_E_CORRUPT);
    opts.to = 200; /* before it, it does not matter */
    world_must(scan_open(a, &opts, &scan, &err), &err);
    scan_close(scan);
}

/* Others delete many rows whose tenant is not known; one tenant's read must not pay for it. */
static void
tombstones_of_others_are_not_read(void **state)
{
    struct world *w = *state;
    char id[32];
    const char *const rows[] = { "acme", "m00100|acme|a|~", "acme", "m00101|acme|b|~" };
    w->segment.block_bytes = 1000;
    base(w, rows, 2);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(id, sizeof(id), "%c%05u", i % 2 == 0 ? 'a' : 'z', i);
        world_change(w, "*", WORLD_ORDERS, i + 1, VERSION_DELETE, id, NULL, NULL);
    }
    world_change(w, "*", WORLD_ORDERS, 30000, VERSION_DELETE, "m00100", NULL, NULL);
    world_commit(w, 200, 200, 200);
    world_flush(w);
    uint64_t size = alog_last(w->log)->segments[0].size;
    assert_rows(w, "acme", 201, "m00101|acme|b|~\n");
    assert_true(archive_bytes_read(w->archive) < size / 4);
}

/* --- changed keys --- */

/* `ids`: a key of which the tenant is not sure has a question mark. */
static void
check_changed(struct world *w, pgs_lsn from, pgs_lsn to, const char *ids, bool truncated)
{
    struct tenant tenant = world_tenant("acme");
    struct pgs_err err;
    struct changed_keys changed;
    struct buf text = { 0 };
    world_must(scan_changed_keys(world_archive(w), &tenant, WORLD_ORDERS,
                                 (struct pgs_lsn_range){ from, to }, w->arena, &changed, &err),
               &err);
    for (size_t i = 0; i < changed.count; i++) {
        struct slice id;
        world_must(key_split(changed.keys[i], 1, &id, &err), &err);
        buf_printf(&text, "%.*s%s ", SLICE_PRINT(id), changed.own[i] ? "" : "?");
    }
    assert_string_equal(buf_cstr(&text), ids);
    assert_int_equal(changed.truncated, truncated);
    buf_release(&text);
}

static void
changed_keys_are_those_of_the_range(void **state)
{
    struct world *w = *state;
    base(w, two_rows, 2);
    change(w, 200, "acme", VERSION_UPDATE, "2", "2|acme|x|~", NULL);
    change(w, 300, "acme", VERSION_UPDATE, "1", "1|acme|x|~", NULL);
    change(w, 400, "acme", VERSION_UPDATE, "2", "2|acme|y|~", NULL);
    change(w, 500, "beta", VERSION_INSERT, "4", "4|beta|y|~", NULL);
    change(w, 600, "*", VERSION_DELETE, "3", NULL, NULL);
    world_flush(w);
    change(w, 700, "*", VERSION_TRUNCATE, NULL, NULL, NULL);
    world_flush(w);
    check_changed(w, 100, 200, "", false);
    check_changed(w, 200, 301, "1 2 ", false);
    check_changed(w, 301, 600, "2 ", false);
    check_changed(w, 200, 700, "1 2 3? ", false);
    check_changed(w, 601, 701, "", true);
}

static void
keys_that_others_deleted_are_not_held(void **state)
{
    struct world *w = *state;
    struct coverage coverage;
    struct pgs_err err;
    struct slice *held;
    size_t count;
    const struct slice keys[] = { world_key(w, "0"), world_key(w, "1"), world_key(w, "2"),
                                  world_key(w, "3"), world_key(w, "4") };
    struct scan_opts opts = { .tenant = world_tenant("acme"),
                              .coverage = &coverage,
                              .table_oid = WORLD_ORDERS,
                              .to = 1000,
                              .keys = keys,
                              .key_count = 5 };
    base(w, two_rows, 2);
    change(w, 200, "*", VERSION_DELETE, "0", NULL, NULL);
    change(w, 300, "*", VERSION_DELETE, "1", NULL, NULL);
    change(w, 400, "acme", VERSION_INSERT, "3", "3|acme|c|~", NULL);
    change(w, 500, "beta", VERSION_INSERT, "4", "4|beta|c|~", NULL);
    change(w, 600, "*", VERSION_TRUNCATE, NULL, NULL, NULL);
    world_flush(w);
    struct archive *a = world_archive(w);
    world_must(archive_coverage(a, WORLD_ORDERS, 100, 1000, &coverage, &err), &err);
    world_must(scan_held_keys(a, &opts, w->arena, &held, &count, &err), &err);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(slice_equal(held[i], keys[i + 1]));
}

/* --- failures --- */

static int
read_state(struct world *w, struct pgs_err *err)
{
    struct archive *a = NULL;
    struct coverage coverage;
    struct scan_opts opts = {
        .tenant = world_tenant("acme"), .coverage = &coverage, .table_oid = WORLD_ORDERS, .to = 400
    };
    struct state *rows = NULL;
    struct state_row row;
    int rc = archive_open(w->store, WORLD_ARCHIVE_ID, &a, err);
    if (rc == 0)
        rc = archive_coverage(a, WORLD_ORDERS, 400, 400, &coverage, err);
    if (rc == 0)
        rc = state_open(a, &opts, &rows, err);
    while (rc == 0)
        rc = state_next(rows, &row, err);
    state_close(rows);
    archive_close(a);
    return rc;
}

static void
a_store_that_fails_at_any_call_is_told(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    int rc;
    base(w, two_rows, 2);
    change(w, 200, "acme", VERSION_UPDATE, "1", "1|acme|x|=", NULL);
    change(w, 300, "*", VERSION_DELETE, "2", NULL, NULL);
    world_flush(w);
    for (size_t nth = 1;; nth++) {
        fault_store_next(w->root, FAULT_FAIL, nth);
        rc = read_state(w, &err);
        if (rc == PGS_NONE)
            return;
        assert_int_equal(rc, PGS_E_STORE);
        assert_true(nth < 100);
    }
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_base_alone_is_the_state),
        TEST(a_change_counts_when_it_commits_before_the_cut),
        TEST(changes_before_the_base_are_in_it_already),
        TEST(a_tombstone_ends_whoever_holds_the_key),
        TEST(a_truncate_ends_what_was_and_nothing_that_comes),
        TEST(keys_answer_for_those_that_ever_were),
        TEST(a_large_value_follows_a_key_change),
        TEST(a_large_value_follows_a_move_between_tenants),
        TEST(a_large_value_that_comes_from_nowhere_is_refused),
        TEST(versions_come_in_order_with_tombstones_among_them),
        TEST(a_run_of_another_shape_is_corrupt),
        TEST(tombstones_of_others_are_not_read),
        TEST(changed_keys_are_those_of_the_range),
        TEST(keys_that_others_deleted_are_not_held),
        TEST(a_store_that_fails_at_any_call_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
