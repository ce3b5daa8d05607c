#include "support/unit.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "support/strata_world.h"

#include <stdlib.h>

/* The archiver's clock is real; the stories' commit times are told from here. */
#define SECOND INT64_C(1000000)

struct fixture {
    struct world w;
    pgs_time start; /* of the story: before the world's entries were made */
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->start = time_now();
    world_open(&f->w);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    world_close(&f->w);
    free(f);
    return 0;
}

/* A transaction that inserts row `id`, at start + seconds. */
static void
commit(struct fixture *f, pgs_lsn lsn, int64_t seconds, uint64_t xid)
{
    const char *id = arena_printf(f->w.arena, "%03llu", (unsigned long long)xid);
    world_change(&f->w, "acme", WORLD_ORDERS, 1, VERSION_INSERT, id,
                 arena_printf(f->w.arena, "%s|acme|n|d", id), NULL);
    world_commit(&f->w, lsn, f->start + seconds * SECOND, xid);
}

static void
empty_base(struct fixture *f, uint32_t table, pgs_lsn lsn)
{
    world_base(&f->w, table, lsn, NULL, 0, 0);
}

/* --- coverage --- */

static void
check_covered(struct fixture *f, pgs_lsn cut, pgs_lsn base)
{
    struct coverage c;
    struct pgs_err err;
    world_must(archive_coverage(world_archive(&f->w), WORLD_ORDERS, cut, cut, &c, &err), &err);
    assert_int_equal(c.base_lsn, base);
    assert_int_equal(c.base->lsn, base);
    assert_int_equal(c.shape_id, f->w.shape_id);
    assert_int_equal(c.relation->oid, WORLD_ORDERS);
}

static void
check_refused(struct fixture *f, pgs_lsn cut, pgs_lsn before, pgs_lsn after)
{
    struct coverage c;
    struct pgs_err err;
    int rc = archive_coverage(world_archive(&f->w), WORLD_ORDERS, cut, cut, &c, &err);
    assert_int_equal(rc, PGS_E_REFUSED);
    assert_string_equal(err.code, "outside_coverage");
    assert_non_null(strstr(err.message, "public.orders"));
    assert_int_equal(err.nearest_before.lsn, before);
    assert_int_equal(err.nearest_after.lsn, after);
    if (before != 0)
        check_covered(f, before, 100);
    if (after != 0)
        check_covered(f, after, after);
}

static void
the_newest_base_at_or_before_answers(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    empty_base(f, WORLD_ITEMS, 150);
    empty_base(f, WORLD_ORDERS, 200);
    check_refused(f, 99, 0, 100);
    check_covered(f, 100, 100);
    check_covered(f, 199, 100);
    check_covered(f, 200, 200);
    check_covered(f, 900, 200);
}

/* A base is told of when its copy is done, and a break when a poll finds it: LSNs count, not
 * entries. */
static void
coverage_goes_by_lsn_whatever_the_order_of_entries(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 300);
    empty_base(f, WORLD_ORDERS, 100);
    world_break(&f->w, WORLD_ORDERS, 200, 201, "shape_changed");
    check_covered(f, 200, 100);
    check_refused(f, 201, 200, 300);
    check_refused(f, 299, 200, 300);
    check_covered(f, 300, 300);
}

static void
an_open_break_lasts_until_a_record_closes_it(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    world_break(&f->w, WORLD_ORDERS, 200, 0, "identity_lost");
    empty_base(f, WORLD_ORDERS, 250);
    check_covered(f, 200, 100);
    check_refused(f, 201, 200, 250);
    commit(f, 400, 0, 1);
    world_flush(&f->w);
    check_covered(f, 250, 250); /* exact at its own LSN, and no further */
    assert_false(archive_table_covered(world_archive(&f->w), WORLD_ORDERS));
    world_break(&f->w, WORLD_ORDERS, 200, 240, "identity_lost");
    check_covered(f, 900, 250);
}

static void
a_break_of_every_table_is_one_of_each(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    empty_base(f, WORLD_ITEMS, 100);
    world_break(&f->w, WORLD_ITEMS, 150, 160, "skipped");
    check_covered(f, 155, 100);
    assert_true(archive_table_covered(world_archive(&f->w), WORLD_ORDERS));
    world_break(&f->w, 0, 200, 300, "gap");
    commit(f, 400, 0, 1);
    world_flush(&f->w);
    check_refused(f, 201, 200, 0);
    check_refused(f, 301, 200, 0);
    assert_false(archive_table_covered(world_archive(&f->w), WORLD_ITEMS));
}

static void
a_range_needs_one_base_and_no_break(void **state)
{
    struct fixture *f = *state;
    struct coverage c;
    struct pgs_err err;
    empty_base(f, WORLD_ORDERS, 100);
    world_break(&f->w, WORLD_ORDERS, 200, 201, "shape_changed");
    empty_base(f, WORLD_ORDERS, 300);
    struct archive *a = world_archive(&f->w);
    world_must(archive_coverage(a, WORLD_ORDERS, 150, 200, &c, &err), &err);
    assert_int_equal(archive_coverage(a, WORLD_ORDERS, 150, 201, &c, &err), PGS_E_REFUSED);
    assert_int_equal(archive_coverage(a, WORLD_ORDERS, 150, 400, &c, &err), PGS_E_REFUSED);
    assert_true(archive_coverage_longest(a, WORLD_ORDERS, 400, &c));
    assert_int_equal(c.base_lsn, 300);
    assert_true(archive_coverage_longest(a, WORLD_ORDERS, 180, &c));
    assert_int_equal(c.base_lsn, 100);
    assert_false(archive_coverage_longest(a, WORLD_ORDERS, 50, &c));
}

/* The times that a refusal names must be answered when they are asked for. */
static void
nearest_moments_can_be_asked_for_by_their_time(void **state)
{
    struct fixture *f = *state;
    struct coverage c;
    struct pgs_err err, ignored;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 150, 1, 1);
    world_flush(&f->w);
    world_break(&f->w, 0, 158, 300, "gap");
    empty_base(f, WORLD_ORDERS, 300);
    commit(f, 350, 9, 2);
    world_flush(&f->w);
    struct archive *a = world_archive(&f->w);
    assert_int_equal(archive_coverage(a, WORLD_ORDERS, 200, 200, &c, &err), PGS_E_REFUSED);
    const struct pgs_moment moments[] = { err.nearest_before, err.nearest_after };
    for (size_t i = 0; i < 2; i++) {
        struct target target = { .kind = TARGET_TIME, .time = moments[i].time };
        struct cut cut;
        assert_true(moments[i].time != PGS_TIME_NONE);
        world_must(archive_resolve(a, &target, PGS_TIME_NONE, &cut, &ignored), &ignored);
        world_must(archive_coverage(a, WORLD_ORDERS, cut.lsn, cut.lsn, &c, &ignored), &ignored);
    }
}

/* --- tables --- */

static void
check_tables(struct fixture *f, pgs_lsn cut, const char *names)
{
    const struct archive_table *tables;
    struct pgs_err err;
    size_t count;
    struct buf text = { 0 };
    world_must(archive_tables(world_archive(&f->w), cut, f->w.arena, &tables, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        buf_printf(&text, "%.*s ", SLICE_PRINT(tables[i].relation->name));
    assert_string_equal(buf_cstr(&text), names);
    buf_release(&text);
}

static void
tables_have_their_names_of_the_time(void **state)
{
    struct fixture *f = *state;
    struct relation renamed = *f->w.relations[1];
    renamed.name = slice_str("pieces");
    struct log_shape shape = { 500, f->w.shape_id, &renamed };
    struct log_entry e = { .kind = LOG_NOTE, .shapes = &shape, .shape_count = 1 };
    world_append(&f->w, &e);
    check_tables(f, 499, "items orders ");
    check_tables(f, 500, "orders pieces ");
    check_tables(f, 0, "orders pieces ");
}

static void
a_dropped_table_is_there_for_cuts_before(void **state)
{
    struct fixture *f = *state;
    world_break(&f->w, WORLD_ITEMS, 300, 0, "dropped");
    check_tables(f, 300, "items orders ");
    check_tables(f, 301, "orders ");
    check_tables(f, 0, "orders ");
}

static void
gaps_are_told_once_with_their_ends(void **state)
{
    struct fixture *f = *state;
    struct archive_gap *gaps;
    struct pgs_err err;
    size_t count;
    world_break(&f->w, WORLD_ITEMS, 500, 0, "identity_lost");
    world_break(&f->w, 0, 200, 300, "gap");
    world_break(&f->w, WORLD_ITEMS, 500, 600, "identity_lost");
    world_must(archive_gaps(world_archive(&f->w), f->w.arena, &gaps, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_int_equal(gaps[0].begin, 200);
    assert_int_equal(gaps[0].end, 300);
    assert_slice_equal(gaps[0].code, "gap");
    assert_int_equal(gaps[1].table_oid, WORLD_ITEMS);
    assert_int_equal(gaps[1].end, 600);
}

static void
tenants_are_listed_once_in_order(void **state)
{
    struct fixture *f = *state;
    const char *const rows[] = { "zeta", "1|zeta|a|b", NULL, "2|~|a|b", "acme", "3|acme|a|b" };
    struct pgs_err err;
    struct slice *tenants;
    size_t count;
    bool has;
    world_base(&f->w, WORLD_ORDERS, 100, rows, 3, 1);
    for (uint64_t i = 1; i < 4; i++) {
        commit(f, 100 + 10 * i, 0, i);
        world_flush(&f->w);
    }
    struct archive *a = world_archive(&f->w);
    world_must(archive_tenants(a, f->w.arena, &tenants, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_slice_equal(tenants[0], "acme");
    assert_slice_equal(tenants[1], "zeta");
    world_must(archive_has_tenant(a, slice_str("zeta"), &has, &err), &err);
    assert_true(has);
    world_must(archive_has_tenant(a, slice_str("zet"), &has, &err), &err);
    assert_false(has);
}

/* What an older server wrote is kept, and never mixed with what the new one does. */
static void
a_new_era_begins_with_nothing(void **state)
{
    struct fixture *f = *state;
    struct log_entry era = { .kind = LOG_ERA, .era = 2, .range = { 50, 50 } };
    bool has = true;
    struct pgs_err err;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 1, 1);
    world_flush(&f->w);
    check_covered(f, 150, 100);
    world_append(&f->w, &era);
    struct archive *a = world_archive(&f->w);
    assert_int_equal(archive_era(a), 2);
    assert_int_equal(archive_end(a), 50);
    assert_false(archive_table_covered(a, WORLD_ORDERS));
    world_must(archive_has_tenant(a, slice_str("acme"), &has, &err), &err);
    assert_false(has);
}

/* --- targets --- */

static struct cut
must_resolve(struct fixture *f, struct target target)
{
    struct cut cut;
    struct pgs_err err;
    world_must(archive_resolve(world_archive(&f->w), &target, PGS_TIME_NONE, &cut, &err), &err);
    return cut;
}

static void
check_cut(struct fixture *f, struct target target, pgs_lsn lsn, uint64_t kept, uint64_t undone)
{
    struct cut cut = must_resolve(f, target);
    assert_int_equal(cut.lsn, lsn);
    assert_int_equal(cut.last_kept.xid, kept);
    assert_int_equal(cut.first_undone.xid, undone);
}

static void
check_not_resolved(struct fixture *f, struct target target, int kind, const char *code)
{
    struct cut cut;
    struct pgs_err err;
    assert_int_equal(
        archive_resolve(world_archive(&f->w), &target, f->start + 1000 * SECOND, &cut, &err), kind);
    assert_string_equal(err.code, code);
}

#define AT(seconds) ((struct target){ .kind = TARGET_TIME, .time = f->start + (seconds)*SECOND })
#define BEFORE(seconds) \
    ((struct target){ .kind = TARGET_TIME, .exclusive = true, .time = f->start + (seconds)*SECOND })
#define LSN(value) ((struct target){ .kind = TARGET_LSN, .lsn = (value) })
#define XID(value) ((struct target){ .kind = TARGET_XID, .xid = (value) })
#define BEFORE_XID(value) ((struct target){ .kind = TARGET_BEFORE_XID, .xid = (value) })
#define BEFORE_LSN(value) ((struct target){ .kind = TARGET_BEFORE_LSN, .lsn = (value) })
#define END ((struct target){ .kind = TARGET_END })

/* Transactions 1 to 9, at 200, 300, ... and 10 s, 20 s, ...; `each` of them in an entry. */
static void
nine_transactions(struct fixture *f, uint64_t each)
{
    empty_base(f, WORLD_ORDERS, 100);
    for (uint64_t i = 1; i <= 9; i++) {
        commit(f, 100 + 100 * i, (int64_t)(10 * i), i);
        if (i % each == 0)
            world_flush(&f->w);
    }
    world_flush(&f->w);
}

static void
times_keep_what_committed_by_then(void **state)
{
    struct fixture *f = *state;
    for (uint64_t each = 1; each <= 4; each += 3) {
        if (each > 1) {
            tear_down(state);
            set_up(state);
            f = *state;
        }
        nine_transactions(f, each);
        for (uint64_t i = 1; i < 9; i++) {
            pgs_lsn lsn = 100 + 100 * i, end = lsn + WORLD_COMMIT_BYTES;
            check_cut(f, AT((int64_t)(10 * i)), end, i, i + 1);
            check_cut(f, AT((int64_t)(10 * i + 5)), lsn + 100, i, i + 1);
            check_cut(f, BEFORE((int64_t)(10 * i)), lsn, i - 1, i);
            check_cut(f, BEFORE((int64_t)(10 * i + 5)), lsn + 100, i, i + 1);
        }
        check_cut(f, AT(90), 1008, 9, 0);
        check_cut(f, AT(95), 1008, 9, 0);
        check_cut(f, BEFORE(91), 1008, 9, 0);
    }
}

static void
lsns_keep_what_ended_by_then(void **state)
{
    struct fixture *f = *state;
    nine_transactions(f, 4);
    check_cut(f, LSN(299), 299, 1, 2);
    check_cut(f, LSN(300), 300, 1, 2);
    check_cut(f, LSN(304), 300, 1, 2); /* in the middle of a commit record */
    check_cut(f, LSN(308), 308, 2, 3);
    check_cut(f, LSN(350), 350, 2, 3);
    check_cut(f, LSN(1008), 1008, 9, 0);
    check_cut(f, LSN(101), 101, 0, 1);
    check_cut(f, END, 1008, 9, 0);
}

static void
a_transaction_is_a_moment_by_itself(void **state)
{
    struct fixture *f = *state;
    nine_transactions(f, 4);
    struct target before = XID(5);
    before.exclusive = true;
    check_cut(f, XID(5), 608, 5, 6);
    check_cut(f, before, 600, 4, 5);
    check_cut(f, BEFORE_XID(5), 600, 4, 5);
    check_cut(f, BEFORE_XID(1), 200, 0, 1);
    check_cut(f, XID(9), 1008, 9, 0);
    check_cut(f, BEFORE_LSN(600), 600, 4, 5);
    check_cut(f, BEFORE_LSN(608), 600, 4, 5);
    check_not_resolved(f, XID(10), PGS_E_NOT_FOUND, "not_found");
    check_not_resolved(f, BEFORE_LSN(601), PGS_E_NOT_FOUND, "not_found");
}

static void
a_32_bit_xid_means_the_newest_with_these_bits(void **state)
{
    struct fixture *f = *state;
    uint64_t old = 700, new = (UINT64_C(1) << 32) + 700;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 1, old);
    world_flush(&f->w);
    commit(f, 300, 2, new);
    commit(f, 400, 3, new + 1);
    world_flush(&f->w);
    check_cut(f, XID(700), 308, new, new + 1);
    check_cut(f, XID(new), 308, new, new + 1);
}

static void
an_lsn_of_two_transactions_means_the_one_that_starts_there(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 1, 1);
    world_flush(&f->w);
    commit(f, 208, 2, 2);
    world_flush(&f->w);
    check_cut(f, BEFORE_LSN(208), 208, 1, 2);
    check_cut(f, BEFORE_LSN(200), 200, 0, 1);
    check_cut(f, BEFORE_LSN(216), 208, 1, 2);
}

static void
point_append(struct fixture *f, const char *name, pgs_lsn lsn)
{
    struct log_restore_point point = { .name = slice_str(name),
                                       .commit_lsn = lsn,
                                       .commit_end_lsn = lsn + WORLD_COMMIT_BYTES };
    struct log_entry e = { .kind = LOG_NOTE, .restore_points = &point, .restore_point_count = 1 };
    world_append(&f->w, &e);
}

static void
names_mean_their_transaction(void **state)
{
    struct fixture *f = *state;
    struct target target = { .kind = TARGET_NAME, .name = slice_str("antes") };
    nine_transactions(f, 4);
    check_not_resolved(f, target, PGS_E_NOT_FOUND, "not_found");
    point_append(f, "antes", 400);
    point_append(f, "depois", 500);
    check_cut(f, target, 408, 3, 4);
    target.exclusive = true;
    check_cut(f, target, 400, 2, 3);
    point_append(f, "antes", 600);
    check_not_resolved(f, target, PGS_E_REFUSED, "ambiguous_name");
}

static void
the_future_is_refused(void **state)
{
    struct fixture *f = *state;
    nine_transactions(f, 4);
    check_not_resolved(f, AT(1001), PGS_E_REFUSED, "future");
    check_not_resolved(f, LSN(1009), PGS_E_REFUSED, "future");
    check_cut(f, AT(1000), 1008, 9, 0);
}

static void
an_archive_of_nothing_is_refused(void **state)
{
    struct fixture *f = *state;
    check_not_resolved(f, END, PGS_E_REFUSED, "outside_coverage");
}

static void
times_that_run_backwards_by_little_are_cut_at_the_first(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 10, 1);
    commit(f, 300, 30, 2);
    commit(f, 400, 20, 3);
    world_flush(&f->w);
    check_cut(f, AT(25), 300, 1, 2);
}

static void
times_that_run_backwards_by_much_are_refused(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 10, 1);
    commit(f, 300, 60, 2);
    world_flush(&f->w);
    commit(f, 400, 20, 3);
    commit(f, 500, 70, 4);
    world_flush(&f->w);
    check_not_resolved(f, AT(31), PGS_E_REFUSED, "time_ambiguous");
    check_cut(f, AT(30), 300, 1, 2); /* 10 s are not more than 10 s */
    check_cut(f, AT(15), 300, 1, 2);
    check_cut(f, AT(65), 500, 3, 4);
}

/* Before its first base a table may have been anything, however quiet the stream was. */
static void
a_time_before_the_archive_never_reaches_its_first_base(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, 100, 1);
    world_flush(&f->w);
    struct cut cut = must_resolve(f, AT(-10));
    assert_true(cut.lsn < 100);
    assert_int_equal(cut.first_undone.xid, 1);
    check_cut(f, AT(50), 200, 0, 1); /* the base was there by then */
}

/* A table joins, with a base, between two transactions of others. */
static void
a_time_between_never_reaches_a_younger_base(void **state)
{
    struct fixture *f = *state;
    struct coverage c;
    struct pgs_err err;
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, -100, 1);
    world_flush(&f->w);
    empty_base(f, WORLD_ITEMS, 250); /* at about 0 s */
    commit(f, 300, 100, 2);
    world_flush(&f->w);
    struct archive *a = world_archive(&f->w);
    struct cut early = must_resolve(f, AT(-50)), late = must_resolve(f, AT(50));
    assert_int_equal(early.last_kept.xid, late.last_kept.xid);
    assert_int_equal(archive_coverage(a, WORLD_ITEMS, early.lsn, early.lsn, &c, &err),
                     PGS_E_REFUSED);
    world_must(archive_coverage(a, WORLD_ORDERS, early.lsn, early.lsn, &c, &err), &err);
    world_must(archive_coverage(a, WORLD_ITEMS, late.lsn, late.lsn, &c, &err), &err);
    assert_int_equal(late.lsn, 300);
}

static void
the_transaction_of_a_commit_is_found(void **state)
{
    struct fixture *f = *state;
    struct txn txn;
    struct pgs_err err;
    nine_transactions(f, 4);
    struct archive *a = world_archive(&f->w);
    for (uint64_t i = 1; i <= 9; i++) {
        world_must(archive_txn(a, 100 + 100 * i, f->w.arena, &txn, &err), &err);
        assert_int_equal(txn.xid, i);
    }
    assert_int_equal(archive_txn(a, 250, f->w.arena, &txn, &err), PGS_NONE);
}

/* Cost follows the cut, not the length of history. */
static void
resolving_reads_only_transactions_near_the_cut(void **state)
{
    struct fixture *f = *state;
    empty_base(f, WORLD_ORDERS, 100);
    for (uint64_t i = 1; i <= 200; i++) {
        commit(f, 100 + 100 * i, (int64_t)(10 * i), i);
        world_flush(&f->w);
    }
    struct archive *a = world_archive(&f->w);
    check_cut(f, AT(1005), 10200, 100, 101);
    uint64_t one = archive_bytes_read(a);
    assert_true(one > 0);
    check_cut(f, LSN(5150), 5150, 50, 51);
    check_cut(f, AT(305), 3200, 30, 31);
    assert_true(archive_bytes_read(a) <= 4 * one);
}

/* --- barriers --- */

static void
a_barrier_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct slice barrier = slice_str("b1");
    struct log_entry e = { .kind = LOG_RANGE, .barriers = &barrier, .barrier_count = 1 };
    struct archive *a = world_archive(&f->w);
    assert_int_equal(archive_wait_barrier(a, barrier, clock_us() + 3000, &err), PGS_E_NOT_RUNNING);
    assert_string_equal(err.code, "archiver_not_running");
    world_append(&f->w, &e);
    world_must(archive_wait_barrier(a, barrier, clock_us(), &err), &err);
    world_must(archive_wait_barrier(a, barrier, clock_us(), &err), &err); /* already read */
    assert_int_equal(archive_wait_barrier(a, slice_str("b2"), clock_us(), &err), PGS_E_NOT_RUNNING);
}

/* --- eras --- */

/* fork 0: another server's. */
static void
era(struct fixture *f, pgs_lsn fork, pgs_lsn begin)
{
    struct log_break left = { 0, fork, begin, slice_str("gap"), slice_str("left") };
    struct log_entry e = { .kind = LOG_ERA,
                           .era = archive_era_current(world_archive(&f->w)) + 1,
                           .range = { begin, begin },
                           .reason = slice_str("it moved"),
                           .breaks = &left,
                           .break_count = fork != 0 };
    world_append(&f->w, &e);
    f->w.flushed = f->w.last_end = begin;
}

static struct cut
resolve(struct fixture *f, struct target target)
{
    struct cut cut;
    struct pgs_err err;
    struct archive *a = world_archive(&f->w);
    world_must(archive_resolve(a, &target, PGS_TIME_NONE, &cut, &err), &err);
    assert_int_equal(archive_era(a), archive_era_current(a));
    return cut;
}

static void
check_era(struct fixture *f, struct target target, uint32_t number, pgs_lsn lsn)
{
    struct cut cut = resolve(f, target);
    assert_int_equal(cut.era, number);
    assert_int_equal(cut.lsn, lsn);
}

static void
check_left(struct fixture *f, struct target target, pgs_lsn before)
{
    struct cut cut;
    struct pgs_err err;
    assert_int_equal(archive_resolve(world_archive(&f->w), &target, PGS_TIME_NONE, &cut, &err),
                     PGS_E_REFUSED);
    assert_string_equal(err.code, "outside_coverage");
    assert_non_null(strstr(err.message, "is no part of the database's history"));
    assert_int_equal(err.nearest_before.lsn, before);
}

/* Two transactions up to the fork at 300, one behind it; then an era from 350 on. */
static void
forked(struct fixture *f)
{
    empty_base(f, WORLD_ORDERS, 100);
    commit(f, 200, -300, 1);
    commit(f, 280, -200, 2);
    commit(f, 400, -100, 3);
    world_flush(&f->w);
    era(f, 300, 350);
    empty_base(f, WORLD_ORDERS, 360);
    commit(f, 400, 100, 3);
    world_flush(&f->w);
}

static void
a_position_of_before_the_era_is_one_of_the_era_that_it_left(void **state)
{
    struct fixture *f = *state;
    forked(f);
    check_era(f, (struct target){ .kind = TARGET_LSN, .lsn = 250 }, 1, 250);
    check_era(f, (struct target){ .kind = TARGET_LSN, .lsn = 300 }, 1, 300);
    check_left(f, (struct target){ .kind = TARGET_LSN, .lsn = 301 }, 300);
    check_era(f, (struct target){ .kind = TARGET_LSN, .lsn = 400 }, 2, 400);
    check_left(f, (struct target){ .kind = TARGET_LSN, .lsn = 400, .era = 1 }, 300);
}

static void
what_an_era_had_behind_its_end_is_in_no_answer(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    forked(f);
    struct cut cut = resolve(f, (struct target){ .kind = TARGET_END, .era = 1 });
    assert_int_equal(cut.lsn, 300);
    assert_int_equal(cut.last_kept.xid, 2);
    assert_int_equal(cut.first_undone.xid, 0);
    check_era(f, (struct target){ .kind = TARGET_XID, .xid = 3 }, 2, 408);
    check_era(f, (struct target){ .kind = TARGET_XID, .xid = 2 }, 1, 288);
    check_left(f, (struct target){ .kind = TARGET_XID, .xid = 3, .era = 1 }, 300);
    struct archive *a = world_archive(&f->w);
    world_must(archive_view(a, 1, &err), &err);
    assert_int_equal(archive_end(a), 300);
    archive_view_current(a);
    assert_int_equal(archive_end(a), 408);
}

static void
a_time_means_the_era_of_that_time(void **state)
{
    struct fixture *f = *state;
    forked(f);
    check_era(f, (struct target){ .kind = TARGET_TIME, .time = f->start - 250 * SECOND }, 1, 280);
    check_era(f, (struct target){ .kind = TARGET_TIME, .time = f->start - 200 * SECOND }, 1, 288);
    check_left(f, (struct target){ .kind = TARGET_TIME, .time = f->start - 150 * SECOND }, 300);
    check_left(f, (struct target){ .kind = TARGET_TIME, .time = f->start - 100 * SECOND }, 300);
    check_era(f, (struct target){ .kind = TARGET_TIME, .time = f->start + 100 * SECOND }, 2, 408);
}

static void
positions_of_another_server_are_compared_with_none(void **state)
{
    struct fixture *f = *state;
    struct cut cut;
    struct pgs_err err;
    empty_base(f, WORLD_ORDERS, 1000);
    commit(f, 2000, -300, 1);
    world_flush(&f->w);
    era(f, 0, 500);
    empty_base(f, WORLD_ORDERS, 500);
    commit(f, 600, 100, 9);
    world_flush(&f->w);
    struct target low = { .kind = TARGET_LSN, .lsn = 400 };
    struct target high = { .kind = TARGET_LSN, .lsn = 1500 };
    struct archive *a = world_archive(&f->w);
    assert_int_equal(archive_resolve(a, &low, PGS_TIME_NONE, &cut, &err), PGS_E_REFUSED);
    assert_non_null(strstr(err.message, "on another server"));
    assert_int_equal(archive_resolve(a, &high, PGS_TIME_NONE, &cut, &err), PGS_E_REFUSED);
    assert_string_equal(err.code, "future");
    high.era = 1;
    check_era(f, high, 1, 1500);
    check_era(f, (struct target){ .kind = TARGET_XID, .xid = 1 }, 1, 2008);
    check_era(f, (struct target){ .kind = TARGET_LSN, .lsn = 550 }, 2, 550);
}

/* The third era left the second's history where that was still the first's. */
static void
an_era_may_be_left_twice(void **state)
{
    struct fixture *f = *state;
    struct era *eras;
    size_t count;
    struct pgs_err err;
    forked(f);
    era(f, 240, 500);
    world_must(archive_eras(world_archive(&f->w), f->w.arena, &eras, &count, &err), &err);
    assert_int_equal(count, 3);
    assert_int_equal(eras[0].end, 240);
    assert_int_equal(eras[1].end, 240);
    check_era(f, (struct target){ .kind = TARGET_LSN, .lsn = 230 }, 1, 230);
    check_left(f, (struct target){ .kind = TARGET_LSN, .lsn = 250 }, 240);
    check_left(f, (struct target){ .kind = TARGET_XID, .xid = 2 }, 240);
    check_left(f, (struct target){ .kind = TARGET_TIME, .time = f->start - 200 * SECOND }, 240);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_newest_base_at_or_before_answers),
        TEST(coverage_goes_by_lsn_whatever_the_order_of_entries),
        TEST(an_open_break_lasts_until_a_record_closes_it),
        TEST(a_break_of_every_table_is_one_of_each),
        TEST(a_range_needs_one_base_and_no_break),
        TEST(nearest_moments_can_be_asked_for_by_their_time),
        TEST(tables_have_their_names_of_the_time),
        TEST(a_dropped_table_is_there_for_cuts_before),
        TEST(gaps_are_told_once_with_their_ends),
        TEST(tenants_are_listed_once_in_order),
        TEST(a_new_era_begins_with_nothing),
        TEST(times_keep_what_committed_by_then),
        TEST(lsns_keep_what_ended_by_then),
        TEST(a_transaction_is_a_moment_by_itself),
        TEST(a_32_bit_xid_means_the_newest_with_these_bits),
        TEST(an_lsn_of_two_transactions_means_the_one_that_starts_there),
        TEST(names_mean_their_transaction),
        TEST(the_future_is_refused),
        TEST(an_archive_of_nothing_is_refused),
        TEST(times_that_run_backwards_by_little_are_cut_at_the_first),
        TEST(times_that_run_backwards_by_much_are_refused),
        TEST(a_time_before_the_archive_never_reaches_its_first_base),
        TEST(a_time_between_never_reaches_a_younger_base),
        TEST(the_transaction_of_a_commit_is_found),
        TEST(resolving_reads_only_transactions_near_the_cut),
        TEST(a_barrier_is_waited_for),
        TEST(a_position_of_before_the_era_is_one_of_the_era_that_it_left),
        TEST(what_an_era_had_behind_its_end_is_in_no_answer),
        TEST(a_time_means_the_era_of_that_time),
        TEST(positions_of_another_server_are_compared_with_none),
        TEST(an_era_may_be_left_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
