#include "support/unit.h"

#include "core/err.h"

#include <errno.h>

static void
each_kind_has_its_row(void **state)
{
    static const struct {
        enum pgs_kind kind;
        const char *code;
        int exit_code, http_status;
        bool transient;
    } rows[] = {
        { PGS_E_FAILED, "failed", 1, 500, false },
        { PGS_E_USAGE, "usage", 2, 400, false },
        { PGS_E_NOT_FOUND, "not_found", 3, 404, false },
        { PGS_E_REFUSED, "refused", 4, 422, false },
        { PGS_E_CONFLICT, "conflict", 5, 409, false },
        { PGS_E_STORE, "store", 1, 503, true },
        { PGS_E_DATABASE, "database", 1, 503, true },
        { PGS_E_CORRUPT, "corrupt", 1, 500, false },
        { PGS_E_FENCED, "fenced", 1, 500, false },
        { PGS_E_NOT_RUNNING, "archiver_not_running", 1, 503, false },
        { PGS_E_CANCELLED, "cancelled", 1, 500, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pgs_err err;
        assert_int_equal(err_set(&err, rows[i].kind, "x"), rows[i].kind);
        assert_string_equal(err.code, rows[i].code);
        assert_int_equal(err_exit_code(rows[i].kind), rows[i].exit_code);
        assert_int_equal(err_http_status(rows[i].kind), rows[i].http_status);
        assert_int_equal(err_is_transient(&err), rows[i].transient);
    }
    assert_int_equal(err_exit_code((enum pgs_kind)0), 0);
}

static void
layers_add_what_they_were_doing(void **state)
{
    struct pgs_err err;
    (void)state;
    (void)err_set(&err, PGS_E_STORE, "cannot read object %s: %d", "log/41", 403);
    assert_int_equal(err_hint(&err, "check s3:GetObject on %s", "log/*"), PGS_E_STORE);
    assert_int_equal(err_doing(&err, "open the archive"), PGS_E_STORE);
    assert_string_equal(err.message, "cannot open the archive: cannot read object log/41: 403");
    assert_string_equal(err.hint, "check s3:GetObject on log/*");
    assert_int_equal(err_code(&err, "no_access"), PGS_E_STORE);
    assert_string_equal(err.code, "no_access");
}

static void
setting_anew_forgets_the_old(void **state)
{
    struct pgs_err err;
    (void)state;
    (void)err_set(&err, PGS_E_REFUSED, "first");
    (void)err_hint(&err, "hint");
    (void)err_code(&err, "outside_coverage");
    err.nearest_before.lsn = 1;
    err.sqlstate[0] = '4';
    (void)err_set(&err, PGS_E_USAGE, "second");
    assert_string_equal(err.message, "second");
    assert_string_equal(err.code, "usage");
    assert_string_equal(err.hint, "");
    assert_string_equal(err.sqlstate, "");
    assert_true(err.nearest_before.lsn == 0 && err.nearest_before.time == PGS_TIME_NONE);
    assert_true(err.nearest_after.lsn == 0 && err.nearest_after.time == PGS_TIME_NONE);
}

static void
errno_gives_the_reason(void **state)
{
    struct pgs_err err;
    (void)state;
    errno = ENOSPC;
    assert_int_equal(err_set_errno(&err, PGS_E_STORE, "cannot write %s", "x"), PGS_E_STORE);
    assert_string_equal(err.message, "cannot write x: No space left on device");
}

static void
arguments_may_be_the_error_itself(void **state)
{
    struct pgs_err err;
    (void)state;
    (void)err_set(&err, PGS_E_STORE, "inner");
    (void)err_hint(&err, "cure");
    (void)err_hint(&err, "%s, %s", err.hint, err.message);
    assert_string_equal(err.hint, "cure, inner");
    (void)err_set(&err, PGS_E_DATABASE, "%s (%s)", err.message, err.code);
    assert_string_equal(err.message, "inner (store)");
    (void)err_doing(&err, "%s", err.message);
    assert_string_equal(err.message, "cannot inner (store): inner (store)");
}

/* 3000 characters of two bytes: no limit falls between them all. */
static void
long_messages_are_cut_between_characters(void **state)
{
    static char text[6001];
    struct pgs_err err;
    (void)state;
    for (size_t i = 0; i < 6000; i++)
        text[i] = i % 2 == 0 ? '\xc3' : '\xa9';
    (void)err_set(&err, PGS_E_FAILED, "%s", text);
    assert_int_equal(strlen(err.message), PGS_ERR_MESSAGE_MAX - 1);
    assert_int_equal(err.message[PGS_ERR_MESSAGE_MAX - 2], '?');
    (void)err_hint(&err, "%s", text);
    assert_int_equal(strlen(err.hint), PGS_ERR_HINT_MAX - 1);
    assert_int_equal(err.hint[PGS_ERR_HINT_MAX - 2], '?');
    (void)err_doing(&err, "%s", text);
    assert_true(strlen(err.message) < PGS_ERR_MESSAGE_MAX);
    assert_memory_equal(err.message, "cannot \xc3\xa9", 9);
    errno = ENOENT;
    (void)err_set_errno(&err, PGS_E_FAILED, "%s", text);
    assert_int_equal(strlen(err.message), PGS_ERR_MESSAGE_MAX - 1);
    assert_non_null(strstr(err.message, ": No such file or directory"));
    (void)err_code(&err, text);
    assert_int_equal(strlen(err.code), PGS_ERR_CODE_MAX - 1);
}

static void
foreign_bytes_become_question_marks(void **state)
{
    struct pgs_err err;
    (void)state;
    (void)err_set(&err, PGS_E_USAGE, "\"%s\" is no time", "caf\xe9");
    assert_string_equal(err.message, "\"caf?\" is no time");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_row),
        cmocka_unit_test(layers_add_what_they_were_doing),
        cmocka_unit_test(setting_anew_forgets_the_old),
        cmocka_unit_test(errno_gives_the_reason),
        cmocka_unit_test(arguments_may_be_the_error_itself),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(foreign_bytes_become_question_marks),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
