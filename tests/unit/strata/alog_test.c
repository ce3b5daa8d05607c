#include "support/unit.h"

#include "core/err.h"
#include "strata/alog.h"
#include "support/fault_store.h"
#include "support/memory_store.h"

#include <stdlib.h>

#define FIRST ".pgstrata/a1/log/00000000000000000001"
#define SECOND ".pgstrata/a1/log/00000000000000000002"

struct fixture {
    struct store *memory, *root, *store;
    struct alog *log;
};

static struct alog *
log_open(struct fixture *f)
{
    struct alog *log;
    struct pgs_err err;
    assert_int_equal(alog_open(f->store, "a1", &log, &err), 0);
    return log;
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pgs_err err;
    f->memory = memory_store_new();
    f->root = fault_store_new(f->memory);
    assert_int_equal(alog_store(f->root, "a1", &f->store, &err), 0);
    f->log = log_open(f);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    alog_close(f->log);
    store_close(f->store);
    store_close(f->root);
    store_close(f->memory);
    free(f);
    return 0;
}

static void
must_take_epoch(struct alog *log)
{
    struct pgs_err err;
    assert_int_equal(alog_take_epoch(log, 7, 1, &err), 0);
}

static struct log_entry
range_entry(pgs_lsn begin, pgs_lsn end)
{
    return (struct log_entry){ .kind = LOG_RANGE,
                               .range = { begin, end },
                               .time_min = PGS_TIME_NONE,
                               .time_max = PGS_TIME_NONE };
}

static int
append_range(struct alog *log, pgs_lsn begin, pgs_lsn end, struct pgs_err *err)
{
    struct log_entry e = range_entry(begin, end);
    return alog_append(log, &e, err);
}

static void
must_append(struct alog *log, pgs_lsn begin, pgs_lsn end)
{
    struct pgs_err err;
    assert_int_equal(append_range(log, begin, end, &err), 0);
}

static void
a_new_archive_has_an_empty_log(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    assert_int_equal(alog_count(f->log), 0);
    assert_null(alog_last(f->log));
    assert_int_equal(alog_end(f->log), 0);
    assert_int_equal(alog_refresh(f->log, &err), PGS_NONE);
}

static void
what_one_appends_another_reads(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct alog *reader = log_open(f);
    must_take_epoch(f->log);
    must_append(f->log, 10, 20);
    must_append(f->log, 20, 35);
    assert_int_equal(alog_refresh(reader, &err), 0);
    assert_int_equal(alog_count(reader), 3);
    assert_int_equal(alog_end(reader), 35);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(alog_entry(reader, i)->number, i + 1);
        assert_memory_equal(alog_entry(reader, i)->mac, alog_entry(f->log, i)->mac, 32);
    }
    assert_int_equal(alog_refresh(reader, &err), PGS_NONE);
    alog_close(reader);
}

static void
what_an_entry_leaves_open_comes_from_the_one_before(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct log_entry e = range_entry(1, 2);
    must_take_epoch(f->log);
    e.era = 3;
    e.timeline = 9;
    e.heartbeat.counter = 4;
    e.heartbeat.nonce = slice_str("beat");
    assert_int_equal(alog_append(f->log, &e, &err), 0);
    must_append(f->log, 2, 3);
    const struct log_entry *last = alog_last(f->log);
    assert_int_equal(last->era, 3);
    assert_int_equal(last->timeline, 9);
    assert_int_equal(last->system_id, 7);
    assert_int_equal(last->heartbeat.counter, 4);
    assert_slice_equal(last->heartbeat.nonce, "beat");
    assert_slice_equal(last->archive_id, "a1");
    assert_true(last->created > 0);
}

static void
the_end_is_the_current_era_s(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct log_entry e = range_entry(5, 5);
    must_take_epoch(f->log);
    must_append(f->log, 1000, 2000);
    e.kind = LOG_ERA;
    e.era = 2;
    e.reason = slice_str("another server");
    assert_int_equal(alog_append(f->log, &e, &err), 0);
    assert_int_equal(alog_end(f->log), 5);
    must_append(f->log, 5, 60);
    assert_int_equal(alog_end(f->log), 60);
}

static void
each_writer_has_an_epoch_of_its_own(void **state)
{
    struct fixture *f = *state;
    char name[SEGMENT_NAME_MAX], other[SEGMENT_NAME_MAX];
    must_take_epoch(f->log);
    assert_int_equal(alog_epoch(f->log), 1);
    struct alog *second = log_open(f);
    must_take_epoch(second);
    assert_int_equal(alog_epoch(second), 2);
    assert_int_equal(alog_last(second)->kind, LOG_EPOCH);
    alog_segment_name(second, name);
    alog_segment_name(second, other);
    assert_memory_equal(name, "seg/0000000002/", 15);
    assert_string_not_equal(name, other);
    alog_close(second);
}

/* Two writers: whoever comes second is stopped, and nothing of the first is overwritten. */
static void
the_older_writer_is_fenced(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    struct alog *second = log_open(f);
    must_take_epoch(second);
    assert_int_equal(append_range(f->log, 1, 2, &err), PGS_E_FENCED);
    assert_int_equal(append_range(f->log, 1, 2, &err), PGS_E_FENCED);
    must_append(second, 1, 5);
    alog_close(second);
    struct alog *reader = log_open(f);
    assert_int_equal(alog_end(reader), 5);
    alog_close(reader);
}

static void
an_epoch_that_was_not_taken_can_be_taken_again(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    fault_store_next(f->root, FAULT_FAIL, 1);
    assert_int_equal(alog_take_epoch(f->log, 7, 1, &err), PGS_E_STORE);
    assert_int_equal(alog_epoch(f->log), 0);
    must_take_epoch(f->log);
    assert_int_equal(alog_epoch(f->log), 1);
}

static void
an_epoch_whose_answer_was_lost_is_recognised(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    fault_store_next(f->root, FAULT_LOSE_ANSWER, 1);
    assert_int_equal(alog_take_epoch(f->log, 7, 1, &err), PGS_E_STORE);
    must_take_epoch(f->log);
    assert_int_equal(alog_epoch(f->log), 1);
    assert_int_equal(alog_count(f->log), 1);
    must_append(f->log, 1, 2);
}

static void
an_entry_whose_answer_was_lost_is_recognised(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct log_entry e = range_entry(1, 2);
    must_take_epoch(f->log);
    fault_store_next(f->root, FAULT_LOSE_ANSWER, 1);
    assert_int_equal(alog_append(f->log, &e, &err), PGS_E_STORE);
    assert_int_equal(alog_append(f->log, &e, &err), 0);
    assert_int_equal(alog_count(f->log), 2);
    must_append(f->log, 2, 3);
    struct alog *reader = log_open(f);
    assert_int_equal(alog_count(reader), 3);
    alog_close(reader);
}

/* Appends three entries, each tried until it is in. */
static void
append_through(struct fixture *f, enum fault_kind kind, size_t nth)
{
    struct pgs_err err;
    for (pgs_lsn i = 1; i <= 3; i++) {
        struct log_entry e = range_entry(i, i + 1);
        int rc, tries = 0;
        fault_store_next(f->root, kind, nth);
        do {
            rc = alog_append(f->log, &e, &err);
            assert_true(rc == 0 || rc == PGS_E_STORE);
        } while (rc != 0 && ++tries < 10);
        assert_int_equal(rc, 0);
    }
    fault_store_next(f->root, FAULT_NONE, 1);
}

static void
appending_goes_on_after_any_failing_call(void **state)
{
    struct fixture *f = *state;
    must_take_epoch(f->log);
    for (size_t nth = 1; nth <= 3; nth++) {
        append_through(f, FAULT_FAIL, nth);
        append_through(f, FAULT_LOSE_ANSWER, nth);
    }
    struct alog *reader = log_open(f);
    assert_int_equal(alog_count(reader), 1 + 3 * 2 * 3);
    alog_close(reader);
}

static void
a_failure_to_read_is_told(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct alog *log;
    must_take_epoch(f->log);
    fault_store_next(f->root, FAULT_FAIL, 1);
    assert_int_equal(alog_open(f->store, "a1", &log, &err), PGS_E_STORE);
}

static int
open_anew(struct fixture *f, struct pgs_err *err)
{
    struct alog *log;
    int rc = alog_open(f->store, "a1", &log, err);
    if (rc == 0)
        alog_close(log);
    return rc;
}

static void
a_damaged_entry_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    must_append(f->log, 1, 2);
    memory_store_object(f->memory, FIRST)->data[20] ^= 1;
    assert_int_equal(open_anew(f, &err), PGS_E_CORRUPT);
    assert_non_null(strstr(err.message, "00000000000000000001"));
    assert_true(err.hint[0] != '\0');
}

/* Each entry is whole by itself; only the chain tells that one was put in another's place. */
static void
a_replaced_entry_breaks_the_chain(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    must_append(f->log, 1, 2);
    must_append(f->log, 2, 3);
    struct store *other_root = memory_store_new(), *other;
    struct alog *log;
    assert_int_equal(alog_store(other_root, "a1", &other, &err), 0);
    assert_int_equal(alog_open(other, "a1", &log, &err), 0);
    must_take_epoch(log);
    must_append(log, 1, 7);
    struct buf *theirs = memory_store_object(other_root, SECOND);
    struct buf *ours = memory_store_object(f->memory, SECOND);
    buf_reset(ours);
    buf_put_slice(ours, buf_slice(theirs));
    assert_int_equal(open_anew(f, &err), PGS_E_CORRUPT);
    assert_non_null(strstr(err.message, "chain"));
    alog_close(log);
    store_close(other);
    store_close(other_root);
}

static void
an_entry_in_another_s_place_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    must_append(f->log, 1, 2);
    struct buf *first = memory_store_object(f->memory, FIRST);
    struct buf *second = memory_store_object(f->memory, SECOND);
    buf_reset(second);
    buf_put_slice(second, buf_slice(first));
    assert_int_equal(open_anew(f, &err), PGS_E_CORRUPT);
}

static void
another_archive_s_log_is_corrupt_here(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct alog *log;
    must_take_epoch(f->log);
    assert_int_equal(alog_open(f->store, "a2", &log, &err), PGS_E_CORRUPT);
}

static void
archives_are_listed(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct arena *arena = arena_new(NULL);
    struct store *other;
    struct alog *log;
    struct slice *ids;
    size_t count;
    assert_int_equal(alog_archives(f->root, arena, &ids, &count, &err), 0);
    assert_int_equal(count, 0);
    must_take_epoch(f->log);
    assert_int_equal(alog_store(f->root, "b2", &other, &err), 0);
    assert_int_equal(alog_open(other, "b2", &log, &err), 0);
    must_take_epoch(log);
    must_append(log, 1, 2);
    alog_close(log);
    store_close(other);
    assert_int_equal(alog_archives(f->root, arena, &ids, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_slice_equal(ids[0], "a1");
    assert_slice_equal(ids[1], "b2");
    arena_free(arena);
}

static void
a_writer_resumes_behind_an_entry_whose_answer_was_lost(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    must_append(f->log, 10, 20);
    fault_store_next(f->root, FAULT_LOSE_ANSWER, 1);
    assert_int_equal(append_range(f->log, 20, 30, &err), PGS_E_STORE);
    assert_int_equal(alog_resume(f->log, &err), 0);
    assert_int_equal(alog_end(f->log), 30);
    must_append(f->log, 30, 40);
}

static void
a_writer_does_not_resume_behind_another(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    must_take_epoch(f->log);
    struct alog *other = log_open(f);
    must_take_epoch(other);
    alog_close(other);
    assert_int_equal(alog_resume(f->log, &err), PGS_E_FENCED);
    assert_int_equal(alog_resume(f->log, &err), PGS_E_FENCED);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_new_archive_has_an_empty_log),
        TEST(what_one_appends_another_reads),
        TEST(what_an_entry_leaves_open_comes_from_the_one_before),
        TEST(the_end_is_the_current_era_s),
        TEST(each_writer_has_an_epoch_of_its_own),
        TEST(the_older_writer_is_fenced),
        TEST(an_epoch_that_was_not_taken_can_be_taken_again),
        TEST(an_epoch_whose_answer_was_lost_is_recognised),
        TEST(an_entry_whose_answer_was_lost_is_recognised),
        TEST(appending_goes_on_after_any_failing_call),
        TEST(a_failure_to_read_is_told),
        TEST(a_damaged_entry_is_corrupt),
        TEST(a_replaced_entry_breaks_the_chain),
        TEST(an_entry_in_another_s_place_is_corrupt),
        TEST(another_archive_s_log_is_corrupt_here),
        TEST(archives_are_listed),
        TEST(a_writer_resumes_behind_an_entry_whose_answer_was_lost),
        TEST(a_writer_does_not_resume_behind_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
