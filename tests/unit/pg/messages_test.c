#include "support/unit.h"

#include "core/err.h"
#include "pg/messages.h"

static int
arena_setup(void **state)
{
    *state = arena_new(NULL);
    return 0;
}

static int
arena_teardown(void **state)
{
    arena_free(*state);
    return 0;
}

static struct message
parsed(struct arena *arena, const char *prefix, const char *body)
{
    struct message m = { .kind = MESSAGE_KIND_OTHER };
    struct pgs_err err;
    if (message_parse(slice_str(prefix), slice_str(body), arena, &m, &err) != 0)
        fail_msg("refused: %s %s", prefix, body);
    return m;
}

static void
what_we_write_is_read(void **state)
{
    struct buf b = { 0 };
    message_flush_body(&b, "f-1");
    assert_slice_equal(parsed(*state, MESSAGE_FLUSH, buf_cstr(&b)).u.flush.id, "f-1");
    buf_reset(&b);
    message_restore_point_body(&b, slice_str("antes da \"migração\" 𝄞"));
    assert_slice_equal(parsed(*state, MESSAGE_RESTORE_POINT, buf_cstr(&b)).u.restore_point.name,
                       "antes da \"migração\" 𝄞");
    for (size_t i = 0; i < b.size; i++)
        assert_in_range(b.data[i], 0x20, 0x7e);
    buf_reset(&b);
    message_restore_body(&b, slice_str("r1"), "begin", slice_str("acme"), SLICE_NULL);
    struct message m = parsed(*state, MESSAGE_RESTORE, buf_cstr(&b));
    assert_int_equal(m.kind, MESSAGE_KIND_RESTORE);
    assert_slice_equal(m.u.restore.phase, "begin");
    assert_slice_equal(m.u.restore.tenant, "acme");
    assert_null(m.u.restore.restore_point.data);
    buf_release(&b);
}

/* A name from a terminal can be anything; PostgreSQL refuses it, and we must live to tell. */
static void
a_name_that_is_no_text_is_written_all_the_same(void **state)
{
    struct buf b = { 0 };
    message_restore_point_body(&b, slice_str("a\xff\xc3z"));
    assert_slice_equal(parsed(*state, MESSAGE_RESTORE_POINT, buf_cstr(&b)).u.restore_point.name,
                       "a??z");
    buf_release(&b);
}

static void
a_heartbeat_and_an_actor(void **state)
{
    struct message m =
        parsed(*state, MESSAGE_HEARTBEAT, "{\"counter\": 9007199254740993, \"nonce\": \"n\"}");
    assert_true(m.u.heartbeat.counter == UINT64_C(9007199254740993));
    assert_slice_equal(m.u.heartbeat.nonce, "n");
    assert_slice_equal(parsed(*state, MESSAGE_ACTOR, "{\"actor\": \"Jo\\u00e3o\"}").u.actor.actor,
                       "João");
    assert_null(parsed(*state, MESSAGE_ACTOR, "{\"actor\": null}").u.actor.actor.data);
}

static void
a_move_has_an_encoded_key(void **state)
{
    struct message m = parsed(*state, MESSAGE_MOVE,
                              "{\"oid\": 16385, \"old\": null, \"new\": \"b\", \"key\": [\"1\", "
                              "null, \"\"]}");
    struct slice fields[3];
    struct pgs_err err;
    assert_int_equal(m.u.move.oid, 16385);
    assert_null(m.u.move.old_tenant.data);
    assert_slice_equal(m.u.move.new_tenant, "b");
    assert_int_equal(key_split(m.u.move.key, 3, fields, &err), 0);
    assert_slice_equal(fields[0], "1");
    assert_null(fields[1].data);
    assert_slice_equal(fields[2], "");
}

#define TABLE \
    "{\"oid\": 5, \"schema\": \"s\", \"name\": \"n\", \"identity\": \"d\", \"columns\": []}"

static void
a_ddl_message_names_tables(void **state)
{
    struct message m = parsed(*state, MESSAGE_DDL,
                              "{\"tag\": \"ALTER TYPE\", \"relations\": [" TABLE
                              "], \"dropped\": [7, 8], \"changed\": [5]}");
    assert_slice_equal(m.u.ddl.tag, "ALTER TYPE");
    assert_int_equal(m.u.ddl.relation_count, 1);
    assert_int_equal(m.u.ddl.relations[0]->oid, 5);
    assert_int_equal(m.u.ddl.dropped_count, 2);
    assert_int_equal(m.u.ddl.dropped[1], 8);
    assert_int_equal(m.u.ddl.changed_count, 1);
    assert_int_equal(m.u.ddl.changed[0], 5);
}

static void
other_prefixes_are_other_peoples(void **state)
{
    assert_int_equal(parsed(*state, "pgstrata", "not json").kind, MESSAGE_KIND_OTHER);
    assert_int_equal(parsed(*state, "pgstrata.flush2", "").kind, MESSAGE_KIND_OTHER);
    assert_int_equal(parsed(*state, "", "{}").kind, MESSAGE_KIND_OTHER);
}

static void
bodies_that_say_something_else_are_refused(void **state)
{
    static const char *const bad[][2] = {
        { MESSAGE_FLUSH, "" },
        { MESSAGE_FLUSH, "{}" },
        { MESSAGE_FLUSH, "{\"id\": 1}" },
        { MESSAGE_FLUSH, "{\"id\": \"a\", \"id\": \"b\"}" },
        { MESSAGE_FLUSH, "{\"id\": \"a\"} x" },
        { MESSAGE_FLUSH, "{\"id\": \"\xff\"}" },
        { MESSAGE_HEARTBEAT, "{\"counter\": -1, \"nonce\": \"n\"}" },
        { MESSAGE_HEARTBEAT, "{\"counter\": 1.5, \"nonce\": \"n\"}" },
        { MESSAGE_MOVE, "{\"oid\": 1, \"old\": \"a\", \"new\": \"b\", \"key\": []}" },
        { MESSAGE_MOVE, "{\"oid\": 1, \"old\": \"a\", \"new\": \"b\", \"key\": [1]}" },
        { MESSAGE_MOVE, "{\"oid\": 0, \"old\": \"a\", \"new\": \"b\", \"key\": [\"1\"]}" },
        { MESSAGE_MOVE, "{\"oid\": 1, \"new\": \"b\", \"key\": [\"1\"]}" },
        { MESSAGE_DDL, "{\"tag\": \"t\", \"relations\": [], \"dropped\": []}" },
        { MESSAGE_DDL, "{\"tag\": \"t\", \"relations\": [{}], \"dropped\": [], \"changed\": []}" },
        { MESSAGE_DDL, "{\"tag\": \"t\", \"relations\": [], \"dropped\": [-1], \"changed\": []}" },
        { MESSAGE_DDL, "{\"tag\": \"t\", \"relations\": [], \"dropped\": [], \"changed\": null}" },
        { MESSAGE_RESTORE, "{\"id\": \"r\", \"phase\": \"begin\"}" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct message m = { .kind = MESSAGE_KIND_OTHER };
        struct pgs_err err;
        if (message_parse(slice_str(bad[i][0]), slice_str(bad[i][1]), *state, &m, &err) !=
            PGS_E_CORRUPT)
            fail_msg("accepted: %s %s", bad[i][0], bad[i][1]);
        assert_int_equal(m.kind, MESSAGE_KIND_OTHER);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_we_write_is_read, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(a_name_that_is_no_text_is_written_all_the_same, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(a_heartbeat_and_an_actor, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(a_move_has_an_encoded_key, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(a_ddl_message_names_tables, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(other_prefixes_are_other_peoples, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(bodies_that_say_something_else_are_refused, arena_setup,
                                        arena_teardown),
    };
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
