#include "support/unit.h"

#include "core/err.h"
#include "strata/log_entry.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

static struct column columns[] = {
    { .attnum = 1, .type_oid = 20, .typmod = -1, .key = true, .not_null = true, .identity = 'a' },
    { .attnum = 3, .type_oid = 1043, .typmod = 24 },
};
static struct relation relation = {
    .oid = 16400, .identity = 'd', .route = ROUTE_COLUMN, .tenant_column = 1, .column_count = 2
};

static void
relation_fill(void)
{
    columns[0].name = slice_str("id");
    columns[0].type_name = slice_str("bigint");
    columns[1].name = slice_str("inquilino \"\xc3\xa9\"");
    columns[1].type_name = slice_str("character varying(20)");
    relation.schema = slice_str("public");
    relation.name = slice_str("alunos");
    relation.columns = columns;
}

/* Every field has a value of its own. */
static struct log_entry
entry_full(struct arena *arena)
{
    struct log_entry e = { .kind = LOG_CHANGES,
                           .number = 41,
                           .archive_id = slice_str("a1"),
                           .era = 2,
                           .system_id = UINT64_C(18446744073709551610),
                           .timeline = 3,
                           .writer = { 5, slice_str("n0nce") },
                           .range = { 0x100, UINT64_C(0x16B374D848) },
                           .time_min = -7,
                           .time_max = INT64_C(817000000000000),
                           .created = INT64_C(817000000123456),
                           .reason = slice_str("because"),
                           .segment_count = 2,
                           .shape_count = 1,
                           .base_count = 2,
                           .break_count = 1,
                           .restore_point_count = 1,
                           .barrier_count = 2,
                           .heartbeat = { 9, slice_str("beat") } };
    memset(e.previous_mac, 0xab, sizeof(e.previous_mac));
    e.segments = arena_alloc_array(arena, 2, sizeof(*e.segments));
    e.segments[0] = (struct segment_info){ .name = "seg/0000000005/00",
                                           .size = UINT64_C(1) << 40,
                                           .lsn = { 0x101, 0x200 },
                                           .time_min = PGS_TIME_NONE,
                                           .time_max = PGS_TIME_NONE,
                                           .version_count = 7,
                                           .txn_count = 1,
                                           .raw_bytes = 99 };
    memset(e.segments[0].sha256, 0xcd, sizeof(e.segments[0].sha256));
    e.segments[1] = e.segments[0];
    snprintf(e.segments[1].name, sizeof(e.segments[1].name), "seg/0000000005/01");
    e.shapes = arena_alloc_array(arena, 1, sizeof(*e.shapes));
    e.shapes[0] = (struct log_shape){ 0x99, relation_shape_id(&relation), &relation };
    e.bases = arena_alloc_array(arena, 2, sizeof(*e.bases));
    e.bases[0] = (struct log_base){ 16400, e.shapes[0].id, 0x150, 12, NULL, 1 };
    e.bases[0].segments = arena_alloc_array(arena, 1, sizeof(uint32_t));
    e.bases[0].segments[0] = 1;
    e.bases[1] = (struct log_base){ 16401, 4, 0x151, 0, NULL, 0 };
    e.breaks = arena_alloc_array(arena, 1, sizeof(*e.breaks));
    e.breaks[0] =
        (struct log_break){ 0, 0x120, 0, slice_str("gap"), slice_str("the slot was dropped") };
    e.restore_points = arena_alloc_array(arena, 1, sizeof(*e.restore_points));
    e.restore_points[0] =
        (struct log_restore_point){ slice_str("antes"), 0x110, 0x118, 4, UINT64_C(1) << 33 };
    e.barriers = arena_alloc_array(arena, 2, sizeof(*e.barriers));
    e.barriers[0] = slice_str("b0");
    e.barriers[1] = slice_str("b1");
    return e;
}

static void
check_lists(const struct log_entry *a, const struct log_entry *b)
{
    assert_int_equal(a->segment_count, b->segment_count);
    for (size_t i = 0; i < a->segment_count; i++)
        assert_memory_equal(&a->segments[i], &b->segments[i], sizeof(a->segments[i]));
    assert_int_equal(a->shape_count, b->shape_count);
    for (size_t i = 0; i < a->shape_count; i++) {
        assert_int_equal(a->shapes[i].from, b->shapes[i].from);
        assert_int_equal(a->shapes[i].id, b->shapes[i].id);
        assert_int_equal(relation_shape_id(b->shapes[i].relation), b->shapes[i].id);
        assert_true(slice_equal(a->shapes[i].relation->name, b->shapes[i].relation->name));
    }
    assert_int_equal(a->base_count, b->base_count);
    for (size_t i = 0; i < a->base_count; i++) {
        assert_int_equal(a->bases[i].table_oid, b->bases[i].table_oid);
        assert_int_equal(a->bases[i].shape_id, b->bases[i].shape_id);
        assert_int_equal(a->bases[i].lsn, b->bases[i].lsn);
        assert_int_equal(a->bases[i].rows, b->bases[i].rows);
        assert_int_equal(a->bases[i].segment_count, b->bases[i].segment_count);
        for (size_t j = 0; j < a->bases[i].segment_count; j++)
            assert_int_equal(a->bases[i].segments[j], b->bases[i].segments[j]);
    }
    assert_int_equal(a->barrier_count, b->barrier_count);
    for (size_t i = 0; i < a->barrier_count; i++)
        assert_true(slice_equal(a->barriers[i], b->barriers[i]));
}

static void
check_notes(const struct log_entry *a, const struct log_entry *b)
{
    assert_int_equal(a->break_count, b->break_count);
    for (size_t i = 0; i < a->break_count; i++) {
        assert_int_equal(a->breaks[i].table_oid, b->breaks[i].table_oid);
        assert_int_equal(a->breaks[i].begin, b->breaks[i].begin);
        assert_int_equal(a->breaks[i].end, b->breaks[i].end);
        assert_true(slice_equal(a->breaks[i].code, b->breaks[i].code));
        assert_true(slice_equal(a->breaks[i].reason, b->breaks[i].reason));
    }
    assert_int_equal(a->restore_point_count, b->restore_point_count);
    for (size_t i = 0; i < a->restore_point_count; i++) {
        const struct log_restore_point *x = &a->restore_points[i], *y = &b->restore_points[i];
        assert_true(slice_equal(x->name, y->name));
        assert_int_equal(x->commit_lsn, y->commit_lsn);
        assert_int_equal(x->commit_end_lsn, y->commit_end_lsn);
        assert_int_equal(x->time, y->time);
        assert_int_equal(x->xid, y->xid);
    }
}

static void
check_heads(const struct log_entry *a, const struct log_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->number, b->number);
    assert_true(slice_equal(a->archive_id, b->archive_id));
    assert_int_equal(a->era, b->era);
    assert_true(a->system_id == b->system_id);
    assert_int_equal(a->timeline, b->timeline);
    assert_int_equal(a->writer.epoch, b->writer.epoch);
    assert_true(slice_equal(a->writer.nonce, b->writer.nonce));
    assert_memory_equal(a->previous_mac, b->previous_mac, 32);
    assert_memory_equal(a->mac, b->mac, 32);
    assert_int_equal(a->range.begin, b->range.begin);
    assert_int_equal(a->range.end, b->range.end);
    assert_int_equal(a->time_min, b->time_min);
    assert_int_equal(a->time_max, b->time_max);
    assert_int_equal(a->created, b->created);
    assert_true(slice_equal(a->reason, b->reason));
    assert_int_equal(a->heartbeat.counter, b->heartbeat.counter);
    assert_true(slice_equal(a->heartbeat.nonce, b->heartbeat.nonce));
}

static int
set_up(void **state)
{
    relation_fill();
    *state = arena_new(NULL);
    return 0;
}

static int
tear_down(void **state)
{
    arena_free(*state);
    return 0;
}

static struct slice
encoded(struct arena *arena, struct log_entry *e)
{
    struct buf bytes = { 0 };
    struct pgs_err err;
    assert_int_equal(log_entry_encode(e, &bytes, &err), 0);
    struct slice kept = arena_dup(arena, buf_slice(&bytes));
    buf_release(&bytes);
    return kept;
}

static void
every_field_comes_back(void **state)
{
    struct arena *arena = *state;
    struct log_entry e = entry_full(arena), *back;
    struct pgs_err err;
    assert_int_equal(log_entry_decode(encoded(arena, &e), arena, &back, &err), 0);
    check_heads(&e, back);
    check_lists(&e, back);
    check_notes(&e, back);
}

static void
an_entry_of_nothing_comes_back(void **state)
{
    struct arena *arena = *state;
    struct pgs_err err;
    struct log_entry *back;
    for (enum log_kind kind = LOG_EPOCH; kind <= LOG_NOTE; kind++) {
        struct log_entry e = { .kind = kind,
                               .number = 1,
                               .archive_id = slice_str("a"),
                               .time_min = PGS_TIME_NONE,
                               .time_max = PGS_TIME_NONE };
        assert_int_equal(log_entry_decode(encoded(arena, &e), arena, &back, &err), 0);
        check_heads(&e, back);
        check_lists(&e, back);
        check_notes(&e, back);
    }
}

static void
every_damaged_byte_is_found(void **state)
{
    struct arena *arena = *state, *scratch = arena_new(NULL);
    struct log_entry e = entry_full(arena), *back = NULL;
    struct slice bytes = encoded(arena, &e);
    struct pgs_err err;
    uint8_t *copy = arena_alloc_bytes(arena, bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    for (size_t i = 0; i < bytes.size; i++) {
        copy[i] ^= 0x01;
        int rc = log_entry_decode(slice_of(copy, bytes.size), scratch, &back, &err);
        assert_true(rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED);
        assert_null(back);
        copy[i] ^= 0x01;
        rc = log_entry_decode(slice_of(copy, i), scratch, &back, &err);
        assert_int_equal(rc, PGS_E_CORRUPT);
        arena_reset(scratch);
    }
    arena_free(scratch);
}

/* An entry with a MAC that is right, whatever it says. */
static struct slice
sealed(struct arena *arena, const char *body)
{
    uint8_t digest[32];
    struct buf b = { 0 };
    buf_printf(&b, "%s\n", body);
    SHA256(b.data, b.size, digest);
    buf_put_str(&b, "mac 0 0 ");
    for (size_t i = 0; i < sizeof(digest); i++)
        buf_printf(&b, "%02x", digest[i]);
    buf_put_str(&b, "\n");
    struct slice kept = arena_dup(arena, buf_slice(&b));
    buf_release(&b);
    return kept;
}

/* The JSON of an entry with `from` replaced. */
static struct slice
changed(struct arena *arena, const char *from, const char *to)
{
    struct log_entry e = entry_full(arena);
    char *text = arena_slice_str(arena, encoded(arena, &e));
    *strchr(text, '\n') = '\0';
    char *place = strstr(text, from);
    assert_non_null(place);
    return sealed(arena, arena_printf(arena, "%.*s%s%s", (int)(place - text), text, to,
                                      place + strlen(from)));
}

static int
decode_changed(struct arena *arena, const char *from, const char *to, struct pgs_err *err)
{
    struct log_entry *back;
    return log_entry_decode(changed(arena, from, to), arena, &back, err);
}

static void
fields_that_later_versions_add_are_passed_over(void **state)
{
    struct pgs_err err;
    assert_int_equal(decode_changed(*state, "{\"format\":1", "{\"new\":[1],\"format\":1", &err), 0);
    assert_int_equal(decode_changed(*state, "{\"name\":\"seg", "{\"level\":0,\"name\":\"seg", &err),
                     0);
}

static void
wrong_fields_are_named(void **state)
{
    static const struct {
        const char *from, *to, *named;
    } cases[] = {
        { "\"number\":41", "\"number\":-1", "number" },
        { "\"number\":41", "\"numb\":41", "number" },
        { "\"era\":2", "\"era\":4294967296", "era" },
        { "\"era\":2", "\"era\":\"2\"", "era" },
        { "\"kind\":\"changes\"", "\"kind\":\"magic\"", "kind" },
        { "\"18446744073709551610\"", "\"18446744073709551616\"", "system_id" },
        { "\"18446744073709551610\"", "\"-5\"", "system_id" },
        { "\"begin\":\"0/100\"", "\"begin\":\"0/100/\"", "begin" },
        { "\"begin\":\"0/100\"", "\"begin\":\"FF/0\"", "range" },
        { "\"segments\":[1]", "\"segments\":[2]", "bases.segments" },
        { "\"segments\":[1]", "\"segments\":{}", "segments" },
        { "cdcd", "cdxd", "sha256" },
        { "\"name\":\"seg/0000000005/00\"", "\"name\":\"\"", "segments.name" },
        { "\"identity\":\"d\"", "\"identity\":5", "shapes.relation" },
        { "\"barriers\":[\"b0\"", "\"barriers\":[7", "barriers" },
    };
    struct pgs_err err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(decode_changed(*state, cases[i].from, cases[i].to, &err), PGS_E_CORRUPT);
        if (strstr(err.message, cases[i].named) == NULL)
            fail_msg("%s -> %s: %s", cases[i].from, cases[i].to, err.message);
    }
}

static void
what_is_newer_is_refused_not_called_damaged(void **state)
{
    struct arena *arena = *state;
    struct log_entry e = entry_full(arena), *back;
    struct pgs_err err;
    assert_int_equal(decode_changed(arena, "\"format\":1", "\"format\":2", &err), PGS_E_REFUSED);
    assert_non_null(strstr(err.message, "version 2"));
    const char *text = arena_slice_str(arena, encoded(arena, &e));
    const char *line = strchr(text, '\n') + 1;
    const char *other = arena_printf(arena, "%.*smac 1 7 %s", (int)(line - text), text, line + 8);
    assert_int_equal(log_entry_decode(slice_str(other), arena, &back, &err), PGS_E_REFUSED);
}

static void
what_is_no_entry_is_corrupt(void **state)
{
    static const char *const bodies[] = {
        "",          "{}", "[]", "{\"format\":0}", "{\"format\":1}", "{\"format\":1,\"format\":1}",
        "\"format\""
    };
    struct log_entry *back;
    struct pgs_err err;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        assert_int_equal(log_entry_decode(sealed(*state, bodies[i]), *state, &back, &err),
                         PGS_E_CORRUPT);
    assert_int_equal(log_entry_decode(slice_str(""), *state, &back, &err), PGS_E_CORRUPT);
    assert_int_equal(log_entry_decode(slice_str("\n"), *state, &back, &err), PGS_E_CORRUPT);
}

static void
text_that_is_no_utf8_cannot_be_written(void **state)
{
    struct arena *arena = *state;
    struct log_entry e = entry_full(arena);
    struct buf bytes = { 0 };
    struct pgs_err err;
    e.reason = slice_str("\xff");
    assert_int_equal(log_entry_encode(&e, &bytes, &err), PGS_E_FAILED);
    buf_release(&bytes);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back),      TEST(an_entry_of_nothing_comes_back),
        TEST(every_damaged_byte_is_found), TEST(fields_that_later_versions_add_are_passed_over),
        TEST(wrong_fields_are_named),      TEST(what_is_newer_is_refused_not_called_damaged),
        TEST(what_is_no_entry_is_corrupt), TEST(text_that_is_no_utf8_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
