/* store_test.c: what does not depend on a driver: addresses, views, the probe; and what a caller
 * meets when calls fail or answers are lost. */
#include "support/unit.h"

#include "core/err.h"
#include "store/store.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>

static void
addresses_name_a_folder(void **state)
{
    char *folder = temp_folder_make();
    char url[128];
    struct store *s;
    struct pgs_err err;
    struct buf got = { 0 };
    (void)state;
    assert_int_equal(store_open(folder, &s, &err), 0);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), 0);
    store_close(s);
    snprintf(url, sizeof(url), "file://%s", folder);
    assert_int_equal(store_open(url, &s, &err), 0);
    assert_int_equal(store_get(s, "a", NULL, &got, &err), 0);
    store_close(s);
    store_close(NULL);
    buf_release(&got);
    temp_folder_remove(folder);
}

static void
unknown_addresses_are_refused(void **state)
{
    static const char *const urls[] = { "", "file://host/folder", "file://folder", "gopher://x" };
    struct store *s = NULL;
    struct pgs_err err;
    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        assert_int_equal(store_open(urls[i], &s, &err), PGS_E_USAGE);
        assert_true(err.hint[0] != '\0');
        assert_null(s);
    }
}

static void
an_address_keeps_its_secrets(void **state)
{
    struct store *s = NULL;
    struct pgs_err err;
    (void)state;
    assert_int_equal(store_open("gopher://user:hunter2@host/x", &s, &err), PGS_E_USAGE);
    assert_non_null(strstr(err.message, "gopher"));
    assert_null(strstr(err.message, "hunter2"));
    assert_null(strstr(err.hint, "hunter2"));
}

static void
a_view_needs_a_plain_prefix(void **state)
{
    static const char *const prefixes[] = { "", "a", "/", "a//", "../", "a/../", "a b/", "/a/" };
    struct store *inner = memory_store_new(), *view = NULL;
    struct pgs_err err;
    char longest[400];
    (void)state;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        assert_int_equal(store_open_prefix(inner, prefixes[i], &view, &err), PGS_E_USAGE);
    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 2] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(store_open_prefix(inner, longest, &view, &err), PGS_E_USAGE);
    assert_null(view);
    store_close(inner);
}

static void
a_view_is_a_part_of_the_store(void **state)
{
    struct store *inner = memory_store_new(), *view, *deeper;
    struct pgs_err err;
    (void)state;
    assert_int_equal(store_open_prefix(inner, "archive/", &view, &err), 0);
    assert_int_equal(store_open_prefix(view, "a1/", &deeper, &err), 0);
    assert_int_equal(store_put(deeper, "log/1", slice_str("x"), &err), 0);
    assert_string_equal(memory_store_name(inner, 0), "archive/a1/log/1");
    store_close(deeper);
    store_close(view);
    assert_int_equal(memory_store_count(inner), 1);
    store_close(inner);
}

/* The inner store's own limit counts the prefix too. */
static void
a_view_makes_names_longer(void **state)
{
    struct store *inner = memory_store_new(), *view;
    struct pgs_err err;
    char name[511];
    (void)state;
    assert_int_equal(store_open_prefix(inner, "a/", &view, &err), 0);
    memset(name, 'n', sizeof(name));
    name[510] = '\0';
    assert_int_equal(store_put(view, name, slice_str("x"), &err), 0);
    store_close(view);
    assert_int_equal(store_open_prefix(inner, "abc/", &view, &err), 0);
    assert_int_equal(store_put(view, name, slice_str("x"), &err), PGS_E_USAGE);
    store_close(view);
    store_close(inner);
}

/* --- the probe --- */

/* A store that takes "create only if absent" for "put", as some do. */
struct careless {
    struct store base;
    struct store *inner;
};

static int
careless_put(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    return store_put(((struct careless *)s)->inner, name, bytes, err);
}

static int
careless_remove(struct store *s, const char *name, struct pgs_err *err)
{
    return store_remove(((struct careless *)s)->inner, name, err);
}

static void
a_store_that_does_not_fence_is_refused(void **state)
{
    static const struct store_ops ops = { .scheme = "careless",
                                          .put_if_absent = careless_put,
                                          .remove = careless_remove };
    struct careless s = { .base = { &ops }, .inner = memory_store_new() };
    struct pgs_err err;
    (void)state;
    assert_int_equal(store_probe(&s.base, &err), PGS_E_REFUSED);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(memory_store_count(s.inner), 0);
    store_close(s.inner);
}

static void
a_probe_reports_what_failed(void **state)
{
    struct store *inner = memory_store_new(), *s = fault_store_new(inner);
    struct pgs_err err;
    (void)state;
    for (size_t call = 1; call <= 2; call++) {
        fault_store_next(s, FAULT_FAIL, call);
        assert_int_equal(store_probe(s, &err), PGS_E_STORE);
        assert_non_null(strstr(err.message, "cannot probe the store: "));
    }
    assert_int_equal(memory_store_count(inner), 0);
    store_close(s);
    store_close(inner);
}

/* --- faults --- */

/* Everything a store can do, once; the first failure ends it. */
static int
scenario(struct store *s, struct pgs_err *err)
{
    struct store_upload *u = NULL;
    struct buf got = { 0 };
    int rc = store_put_if_absent(s, "log/1", slice_str("entry"), err);
    if (rc == 0)
        rc = store_upload_begin(s, "segments/1", &u, err);
    if (rc == 0 && (rc = store_upload_write(u, slice_str("some "), err)) == 0 &&
        (rc = store_upload_write(u, slice_str("bytes"), err)) == 0) {
        rc = store_upload_finish(u, err);
        u = NULL;
    }
    store_upload_abort(u);
    if (rc == 0)
        rc = store_get(s, "segments/1", NULL, &got, err);
    if (rc == 0)
        rc = store_put(s, "boundary", slice_str("1"), err);
    if (rc == 0)
        rc = store_remove(s, "log/1", err);
    buf_release(&got);
    return rc;
}

static void
assert_absent_or(struct store *s, const char *name, const char *text)
{
    struct pgs_err err;
    struct buf got = { 0 };
    int rc = store_get(s, name, NULL, &got, &err);
    if (rc != PGS_NONE)
        assert_slice_equal(buf_slice(&got), text);
    buf_release(&got);
}

/* Runs the scenario failing its 1st, 2nd, 3rd... call, until none is left to fail. */
static size_t
torture(enum fault_kind kind)
{
    for (size_t call = 1;; call++) {
        char *folder = temp_folder_make();
        struct store *inner;
        struct pgs_err err;
        assert_int_equal(store_open(folder, &inner, &err), 0);
        struct store *s = fault_store_new(inner);
        fault_store_next(s, kind, call);
        int rc = scenario(s, &err);
        size_t calls = fault_store_calls(s);
        assert_absent_or(inner, "log/1", "entry");
        assert_absent_or(inner, "segments/1", "some bytes");
        assert_absent_or(inner, "boundary", "1");
        store_close(s);
        store_close(inner);
        temp_folder_remove(folder);
        if (calls < call)
            return rc == 0 ? calls : 0;
        assert_int_equal(rc, PGS_E_STORE);
        assert_true(err_is_transient(&err));
    }
}

static void
after_any_failure_objects_are_absent_or_whole(void **state)
{
    (void)state;
    assert_int_equal(torture(FAULT_FAIL), 8);
    assert_int_equal(torture(FAULT_LOSE_ANSWER), 8);
}

static void
a_lost_answer_leaves_the_object(void **state)
{
    struct store *inner = memory_store_new(), *s = fault_store_new(inner);
    struct pgs_err err;
    struct buf got = { 0 };
    (void)state;
    fault_store_next(s, FAULT_LOSE_ANSWER, 1);
    assert_int_equal(store_put_if_absent(s, "log/1", slice_str("x"), &err), PGS_E_STORE);
    assert_int_equal(store_put_if_absent(s, "log/1", slice_str("x"), &err), PGS_NONE);
    fault_store_next(s, FAULT_LOSE_ANSWER, 1);
    assert_int_equal(store_get(s, "log/1", NULL, &got, &err), PGS_E_STORE);
    assert_int_equal(got.size, 0);
    store_close(s);
    store_close(inner);
    buf_release(&got);
}

static void
a_lying_store_loses_bytes(void **state)
{
    struct store *inner = memory_store_new(), *s = fault_store_new(inner);
    struct pgs_err err;
    struct buf got = { 0 };
    (void)state;
    fault_store_next(s, FAULT_TRUNCATE, 1);
    assert_int_equal(store_put(s, "a", slice_str("1234"), &err), 0);
    assert_int_equal(store_get(s, "a", NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "12");
    fault_store_next(s, FAULT_TRUNCATE, 1);
    assert_int_equal(store_get(s, "a", NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "121");
    store_close(s);
    store_close(inner);
    buf_release(&got);
}

static void
count_up(void *context)
{
    ++*(size_t *)context;
}

static void
an_outage_lasts(void **state)
{
    struct store *inner = memory_store_new(), *s = fault_store_new(inner);
    struct pgs_err err;
    size_t delays = 0;
    (void)state;
    fault_store_from(s, FAULT_FAIL, 2);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), 0);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), PGS_E_STORE);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), PGS_E_STORE);
    fault_store_on_delay(s, count_up, &delays);
    fault_store_next(s, FAULT_DELAY, 1);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), 0);
    assert_int_equal(store_put(s, "a", slice_str("x"), &err), 0);
    assert_int_equal(delays, 1);
    store_close(s);
    store_close(inner);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_name_a_folder),
        cmocka_unit_test(unknown_addresses_are_refused),
        cmocka_unit_test(an_address_keeps_its_secrets),
        cmocka_unit_test(a_view_needs_a_plain_prefix),
        cmocka_unit_test(a_view_is_a_part_of_the_store),
        cmocka_unit_test(a_view_makes_names_longer),
        cmocka_unit_test(a_store_that_does_not_fence_is_refused),
        cmocka_unit_test(a_probe_reports_what_failed),
        cmocka_unit_test(after_any_failure_objects_are_absent_or_whole),
        cmocka_unit_test(a_lost_answer_leaves_the_object),
        cmocka_unit_test(a_lying_store_loses_bytes),
        cmocka_unit_test(an_outage_lasts),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
