/* Bases and the stream: which bases may become part of the history that is being written. */
#include "support/unit.h"

#include "archiver/builder_internal.h"
#include "core/err.h"

#include <stdlib.h>

#define OID 16384
#define BATCH_BYTES ((size_t)1 << 20)
#define HISTORY ((struct history_id){ 7, 1, 1 })

struct fixture {
    struct arena *arena;
    struct builder *b;
    struct relation *r;
    struct base_table table;
    struct base_done bases;
    size_t submitted; /* batches */
    size_t published; /* ... of bases */
};

static int64_t
never(void *context)
{
    (void)context;
    return INT64_C(1) << 40;
}

static uint64_t
much(void *context)
{
    (void)context;
    return UINT64_MAX;
}

static int
submit(void *context, struct batch *batch, struct pgs_err *err)
{
    struct fixture *f = context;
    (void)err;
    f->submitted++;
    f->published += batch->bases != NULL;
    base_done_answer(batch->bases, BASE_PUBLISHED);
    batch_free(batch);
    return 0;
}

static struct relation *
relation_new(struct arena *arena)
{
    struct relation *r = arena_alloc_zero(arena, sizeof(*r));
    r->oid = OID;
    r->schema = slice_str("public");
    r->name = slice_str("orders");
    r->route = ROUTE_SHARED;
    r->covered = r->published = true;
    r->tenant_column = -1;
    r->column_count = 1;
    r->columns = arena_alloc_zero(arena, sizeof(*r->columns));
    r->columns[0] = (struct column){
        .name = slice_str("id"), .attnum = 1, .type_oid = 23, .typmod = -1, .key = true
    };
    r->columns[0].type_name = slice_str("integer");
    return r;
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct builder_env env = { .context = f,
                                     .batch_bytes = BATCH_BYTES,
                                     .position = 100,
                                     .history = HISTORY,
                                     .flush_interval_ms = never,
                                     .range_interval_ms = never,
                                     .range_bytes = much,
                                     .submit = submit };
    f->arena = arena_new(NULL);
    f->b = builder_new(&env);
    f->r = relation_new(f->arena);
    f->table = (struct base_table){ .relation = f->r, .shape_id = relation_shape_id(f->r) };
    base_done_init(&f->bases);
    f->bases.history = HISTORY;
    f->bases.tables = &f->table;
    f->bases.table_count = 1;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    builder_free(f->b);
    base_done_release(&f->bases);
    arena_free(f->arena);
    free(f);
    return 0;
}

static enum base_answer
hand_in(struct fixture *f, pgs_lsn lsn)
{
    struct pgs_err err;
    f->bases.lsn = lsn;
    f->bases.answer = BASE_WAITS;
    assert_int_equal(builder_bases(f->b, &f->bases, &err), 0);
    return f->bases.answer;
}

static void
a_base_waits_until_the_stream_has_passed_it(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    assert_int_equal(hand_in(f, 150), BASE_WAITS);
    assert_int_equal(builder_position(f->b, 149, false, &err), 0);
    assert_int_equal(f->published, 0);
    assert_int_equal(builder_position(f->b, 150, false, &err), 0);
    assert_int_equal(f->published, 1);
    assert_false(f->table.left_out);
}

static void
must_be_refused(struct fixture *f, struct history_id history, pgs_lsn lsn)
{
    f->bases.history = history;
    f->table.left_out = false;
    assert_int_equal(hand_in(f, lsn), BASE_PUBLISHED); /* an answer: its owner takes another */
    assert_true(f->table.left_out);
    assert_int_equal(f->published, 0);
}

static void
a_base_of_another_server_or_era_is_not_published_nor_waited_for(void **state)
{
    struct fixture *f = *state;
    must_be_refused(f, (struct history_id){ 8, 1, 1 }, 90);
    must_be_refused(f, (struct history_id){ 7, 2, 1 }, 90);
    must_be_refused(f, (struct history_id){ 7, 1, 2 }, UINT64_MAX);
}

/* A transaction that lost a change is not in a base at its commit, and not whole behind it. */
static void
a_base_at_the_very_commit_that_lost_changes_does_not_close_the_break(void **state)
{
    struct fixture *f = *state;
    struct table *t = tables_set(&f->b->tables, f->r, 50);
    t->archived = true;
    t->broken_since = 100;
    assert_int_equal(hand_in(f, 100), BASE_PUBLISHED);
    assert_true(f->table.left_out);
    assert_int_equal(t->broken_since, 100);
}

/* --- messages as pgoutput sends them --- */

static void
put_be64(struct buf *m, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        buf_put_u8(m, (uint8_t)(value >> shift));
}

static void
put_be32(struct buf *m, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_put_u8(m, (uint8_t)(value >> shift));
}

static void
give(struct fixture *f, struct buf *m)
{
    struct pgs_err err;
    assert_int_equal(builder_message(f->b, buf_slice(m), &err), 0);
    buf_reset(m);
}

static void
give_begin(struct fixture *f, pgs_lsn commit_lsn)
{
    struct buf m = { 0 };
    buf_put_u8(&m, 'B');
    put_be64(&m, commit_lsn);
    put_be64(&m, 1000);
    put_be32(&m, 5);
    give(f, &m);
    buf_release(&m);
}

static void
give_message(struct fixture *f, const char *prefix, const char *body)
{
    struct buf m = { 0 };
    buf_put_u8(&m, 'M');
    buf_put_u8(&m, 1); /* transactional */
    put_be64(&m, 0);
    buf_put_str(&m, prefix);
    buf_put_u8(&m, 0);
    put_be32(&m, (uint32_t)strlen(body));
    buf_put_str(&m, body);
    give(f, &m);
    buf_release(&m);
}

static void
give_commit(struct fixture *f, pgs_lsn commit_lsn)
{
    struct buf m = { 0 };
    buf_put_u8(&m, 'C');
    buf_put_u8(&m, 0);
    put_be64(&m, commit_lsn);
    put_be64(&m, commit_lsn + 10);
    put_be64(&m, 1000);
    give(f, &m);
    buf_release(&m);
}

static void
rows_that_changed_without_row_events_break_coverage_there(void **state)
{
    struct fixture *f = *state;
    struct table *t = tables_set(&f->b->tables, f->r, 50);
    t->archived = true;
    give_begin(f, 120);
    give_message(f, MESSAGE_DDL,
                 "{\"tag\": \"ALTER TYPE\", \"relations\": [], \"dropped\": [],"
                 " \"changed\": [16384]}");
    give_commit(f, 120);
    const struct notes *n = &f->b->batch->notes;
    assert_int_equal(n->break_count, 1);
    assert_int_equal(n->breaks[0].table_oid, OID);
    assert_int_equal(n->breaks[0].begin, 120);
    assert_int_equal(n->breaks[0].end, 121);
    assert_int_equal(hand_in(f, 110), BASE_PUBLISHED);
    assert_true(f->table.left_out); /* it may have read what came after it */
}

/* DESIGN 4.5: the messages of move triggers come behind the last change of their statement. */
static void
a_transaction_of_messages_alone_is_spilled_too(void **state)
{
    struct fixture *f = *state;
    struct table *t = tables_set(&f->b->tables, f->r, 50);
    t->archived = true;
    give_begin(f, 120);
    for (unsigned i = 0; i < 20000; i++)
        give_message(f, MESSAGE_MOVE,
                     "{\"oid\": 16384, \"old\": \"a\", \"new\": \"b\", \"key\": [\"1\"]}");
    assert_true(f->submitted > 0);
    assert_true(batch_bytes(f->b->batch) < 2 * BATCH_BYTES);
    give_commit(f, 120);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_base_waits_until_the_stream_has_passed_it),
        TEST(a_base_of_another_server_or_era_is_not_published_nor_waited_for),
        TEST(a_base_at_the_very_commit_that_lost_changes_does_not_close_the_break),
        TEST(rows_that_changed_without_row_events_break_coverage_there),
        TEST(a_transaction_of_messages_alone_is_spilled_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
