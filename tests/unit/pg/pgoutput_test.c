#include "support/unit.h"

#include "core/err.h"
#include "pg/pgoutput.h"

/* Puts fields as PostgreSQL sends them. */
static void
put_text(struct buf *b, const char *text)
{
    row_put_field(b, slice_str(text));
}

static void
put_name(struct buf *b, const char *name)
{
    buf_put(b, name, strlen(name) + 1);
}

static struct pgoutput_message
decoded(struct buf *b)
{
    struct pgoutput_message m;
    struct pgs_err err;
    assert_int_equal(pgoutput_decode(buf_slice(b), &m, &err), 0);
    assert_int_equal(m.kind, b->data[0]);
    return m;
}

/* Relation messages are told by pgoutput_relation, so both have to accept. */
static bool
is_accepted(struct slice bytes)
{
    struct pgoutput_message m;
    struct relation *r;
    struct pgs_err err;
    struct arena *arena = arena_new(NULL);
    int rc = pgoutput_decode(bytes, &m, &err);
    if (rc == 0 && m.kind == PGOUTPUT_RELATION)
        rc = pgoutput_relation(&m, arena, &r, &err);
    arena_free(arena);
    assert_true(rc == 0 || rc == PGS_E_CORRUPT);
    return rc == 0;
}

/* The bytes stand alone in their block, so that a read past the end is seen. */
static bool
is_accepted_cut(const struct buf *b, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, b->data, size);
    bool accepted = is_accepted(slice_of(exact, size));
    free(exact);
    return accepted;
}

/* Every beginning of it is refused, and so is a byte more. */
static void
assert_exact(struct buf *b)
{
    assert_true(is_accepted(buf_slice(b)));
    for (size_t size = 0; size < b->size; size++) {
        if (is_accepted_cut(b, size))
            fail_msg("%zu of %zu bytes were accepted", size, b->size);
    }
    buf_put_u8(b, 0);
    assert_false(is_accepted(buf_slice(b)));
    buf_release(b);
}

static void
begin_names_the_commit(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'B');
    buf_put_be64(&b, UINT64_C(0x1600000020));
    buf_put_be64(&b, (uint64_t)-5);
    buf_put_be32(&b, 4000000000u);
    struct pgoutput_message m = decoded(&b);
    assert_true(m.u.begin.commit_lsn == UINT64_C(0x1600000020));
    assert_true(m.u.begin.commit_time == -5);
    assert_int_equal(m.u.begin.xid, 4000000000u);
    assert_exact(&b);
}

static void
commit_tells_where_it_starts_and_ends(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'C');
    buf_put_u8(&b, 0);
    buf_put_be64(&b, 0x100);
    buf_put_be64(&b, 0x130);
    buf_put_be64(&b, 77);
    struct pgoutput_message m = decoded(&b);
    assert_true(m.u.commit.commit_lsn == 0x100);
    assert_true(m.u.commit.commit_end_lsn == 0x130);
    assert_true(m.u.commit.commit_time == 77);
    assert_exact(&b);
}

static void
put_tuple(struct buf *b, char kind)
{
    buf_put_u8(b, (uint8_t)kind);
    buf_put_be16(b, 3);
    put_text(b, "7");
    buf_put_u8(b, ROW_NULL);
    put_text(b, "");
}

static void
assert_tuple(const struct pgoutput_tuple *t)
{
    struct row_field fields[3];
    struct pgs_err err;
    assert_int_equal(t->column_count, 3);
    assert_int_equal(row_split(t->image, 3, fields, &err), 0);
    assert_slice_equal(fields[0].text, "7");
    assert_int_equal(fields[1].kind, ROW_NULL);
    assert_slice_equal(fields[2].text, "");
}

static void
an_insert_has_a_row(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'I');
    buf_put_be32(&b, 16385);
    put_tuple(&b, 'N');
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.u.insert.oid, 16385);
    assert_tuple(&m.u.insert.row);
    assert_exact(&b);
}

static void
an_update_may_have_an_old_row(void **state)
{
    static const char kinds[] = { 0, 'K', 'O' };
    (void)state;
    for (size_t i = 0; i < sizeof(kinds); i++) {
        struct buf b = { 0 };
        buf_put_u8(&b, 'U');
        buf_put_be32(&b, 5);
        if (kinds[i] != 0)
            put_tuple(&b, kinds[i]);
        put_tuple(&b, 'N');
        struct pgoutput_message m = decoded(&b);
        assert_int_equal(m.u.update.old_kind, kinds[i]);
        assert_tuple(&m.u.update.row);
        if (kinds[i] != 0)
            assert_tuple(&m.u.update.old);
        assert_exact(&b);
    }
}

static void
an_update_keeps_unchanged_toast_apart(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'U');
    buf_put_be32(&b, 5);
    buf_put_u8(&b, 'N');
    buf_put_be16(&b, 2);
    put_text(&b, "1");
    buf_put_u8(&b, ROW_UNCHANGED);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.u.update.row.image.data[m.u.update.row.image.size - 1], ROW_UNCHANGED);
    assert_exact(&b);
}

static void
a_delete_has_a_key_or_an_old_row(void **state)
{
    static const char kinds[] = { 'K', 'O' };
    (void)state;
    for (size_t i = 0; i < sizeof(kinds); i++) {
        struct buf b = { 0 };
        buf_put_u8(&b, 'D');
        buf_put_be32(&b, 5);
        put_tuple(&b, kinds[i]);
        struct pgoutput_message m = decoded(&b);
        assert_int_equal(m.u.delete.old_kind, kinds[i]);
        assert_tuple(&m.u.delete.old);
        assert_exact(&b);
    }
}

static void
a_truncate_names_its_tables(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'T');
    buf_put_be32(&b, 2);
    buf_put_u8(&b, 3);
    buf_put_be32(&b, 11);
    buf_put_be32(&b, 12);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.u.truncate.count, 2);
    assert_int_equal(m.u.truncate.options, 3);
    assert_int_equal(m.u.truncate.oids.size, 8);
    assert_int_equal(m.u.truncate.oids.data[7], 12);
    assert_exact(&b);
}

static void
a_message_has_prefix_and_content(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_put_u8(&b, 'M');
    buf_put_u8(&b, 1);
    buf_put_be64(&b, 0x99);
    put_name(&b, "pgstrata.flush");
    buf_put_be32(&b, 3);
    buf_put(&b, "a\0b", 3); /* content is bytes */
    struct pgoutput_message m = decoded(&b);
    assert_true(m.u.message.transactional);
    assert_true(m.u.message.lsn == 0x99);
    assert_slice_equal(m.u.message.prefix, "pgstrata.flush");
    assert_int_equal(m.u.message.content.size, 3);
    assert_exact(&b);
}

static void
put_relation(struct buf *b, const char *schema, const char *column, char identity)
{
    buf_put_u8(b, 'R');
    buf_put_be32(b, 16400);
    put_name(b, schema);
    put_name(b, "alunos");
    buf_put_u8(b, (uint8_t)identity);
    buf_put_be16(b, 2);
    buf_put_u8(b, 1);
    put_name(b, column);
    buf_put_be32(b, 2950);
    buf_put_be32(b, 0xffffffff);
    buf_put_u8(b, 0);
    put_name(b, "nota");
    buf_put_be32(b, 1700);
    buf_put_be32(b, 262150);
}

static void
a_relation_describes_a_table(void **state)
{
    struct buf b = { 0 };
    struct arena *arena = arena_new(NULL);
    struct relation *r = NULL;
    struct pgs_err err;
    (void)state;
    put_relation(&b, "", "código", 'd');
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(pgoutput_relation(&m, arena, &r, &err), 0);
    assert_int_equal(r->oid, 16400);
    assert_slice_equal(r->schema, "pg_catalog"); /* sent as nothing */
    assert_slice_equal(r->name, "alunos");
    assert_int_equal(r->identity, 'd');
    assert_int_equal(r->tenant_column, -1);
    assert_int_equal(r->column_count, 2);
    assert_true(r->columns[0].key && !r->columns[1].key);
    assert_slice_equal(r->columns[0].name, "código");
    assert_int_equal(r->columns[0].typmod, -1);
    assert_int_equal(r->columns[1].type_oid, 1700);
    assert_int_equal(r->columns[1].typmod, 262150);
    assert_int_equal(r->columns[1].attnum, 0);
    arena_free(arena);
    assert_exact(&b);
}

static void
a_relation_with_impossible_words_is_refused(void **state)
{
    static const struct {
        const char *schema, *column;
        char identity;
    } bad[] = { { "s\xff", "c", 'd' }, { "s", "c\xc3", 'd' }, { "s", "", 'd' }, { "s", "c", 'x' } };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf b = { 0 };
        put_relation(&b, bad[i].schema, bad[i].column, bad[i].identity);
        assert_false(is_accepted(buf_slice(&b)));
        buf_release(&b);
    }
}

static void
type_and_origin_are_passed_over(void **state)
{
    static const char kinds[] = { 'Y', 'O' };
    (void)state;
    for (size_t i = 0; i < sizeof(kinds); i++) {
        struct buf b = { 0 };
        buf_put_u8(&b, (uint8_t)kinds[i]);
        buf_put_be32(&b, 16500);
        put_name(&b, "public");
        put_name(&b, "mood");
        (void)decoded(&b);
        buf_release(&b);
    }
}

static void
unknown_kinds_are_refused(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 256; kind++) {
        const uint8_t bytes[] = { (uint8_t)kind, 0, 0, 0, 0, 0, 0, 0 };
        struct pgoutput_message m = { .kind = PGOUTPUT_TYPE };
        struct pgs_err err;
        if (kind != 0 && strchr("BCORYIUDTM", (int)kind) != NULL)
            continue;
        assert_int_equal(pgoutput_decode(slice_of(bytes, sizeof(bytes)), &m, &err), PGS_E_CORRUPT);
        assert_int_equal(m.kind, PGOUTPUT_TYPE);
    }
}

static void
counts_beyond_the_message_are_refused(void **state)
{
    static const uint8_t truncate[] = { 'T', 0x40, 0, 0, 1, 0, 0, 0, 0, 1 };
    static const uint8_t insert[] = { 'I', 0, 0, 0, 1, 'N', 0xff, 0xff, 'n', 'n' };
    static const uint8_t binary[] = { 'I', 0, 0, 0, 1, 'N', 0, 1, 'b', 0, 0, 0, 0 };
    (void)state;
    assert_false(is_accepted(slice_of(truncate, sizeof(truncate))));
    assert_false(is_accepted(slice_of(insert, sizeof(insert))));
    assert_false(is_accepted(slice_of(binary, sizeof(binary))));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin_names_the_commit),
        cmocka_unit_test(commit_tells_where_it_starts_and_ends),
        cmocka_unit_test(an_insert_has_a_row),
        cmocka_unit_test(an_update_may_have_an_old_row),
        cmocka_unit_test(an_update_keeps_unchanged_toast_apart),
        cmocka_unit_test(a_delete_has_a_key_or_an_old_row),
        cmocka_unit_test(a_truncate_names_its_tables),
        cmocka_unit_test(a_message_has_prefix_and_content),
        cmocka_unit_test(a_relation_describes_a_table),
        cmocka_unit_test(a_relation_with_impossible_words_is_refused),
        cmocka_unit_test(type_and_origin_are_passed_over),
        cmocka_unit_test(unknown_kinds_are_refused),
        cmocka_unit_test(counts_beyond_the_message_are_refused),
    };
    return cmocka_run_group_tests_name("pgoutput", tests, NULL, NULL);
}
