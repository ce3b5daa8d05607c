/* s3_store_test.c: what the store does when the server is slow, lies, or loses answers. The server
 * is a function here; waits take no time. */
#include "support/unit.h"

#include "core/err.h"
#include "store/s3_store_internal.h"
#include "support/http_server.h"

#include <stdlib.h>

#define REQUESTS_MAX 256

struct world {
    struct http_server *server;
    struct store *store;
    struct retry_clock clock;
    /* Of the server's thread while a call is under way, of the test's between them. */
    struct buf object; /* the one object there is */
    bool there;
    unsigned requests;
    char methods[REQUESTS_MAX]; /* P, G, H, D, O for POST */
    char last_date[32], last_token[64];
    /* The script: what happens to requests first to last. */
    unsigned first, last;
    server_answer_fn *trouble;
    int64_t now_us;
};

/* Time passes by waiting alone. */
static int64_t
world_now(void *context)
{
    return ((struct world *)context)->now_us;
}

static void
world_wait(void *context, int64_t us)
{
    ((struct world *)context)->now_us += us;
}

static uint64_t
world_random(void *context)
{
    (void)context;
    return 50000;
}

/* --- a server with one object --- */

static void
put_object(struct world *w, const struct server_request *r, struct server_answer *a)
{
    char text[8];
    if (w->there && server_header(r, "if-none-match", text, sizeof(text))) {
        a->status = 412;
        return;
    }
    w->there = true;
    buf_reset(&w->object);
    buf_put_slice(&w->object, r->body);
}

static void
serve_well(struct world *w, const struct server_request *r, struct server_answer *a)
{
    if (strcmp(r->method, "PUT") == 0)
        put_object(w, r, a);
    else if (strcmp(r->method, "DELETE") == 0)
        a->status = 204;
    else if (!w->there)
        a->status = 404;
    else
        buf_put_slice(&a->body, buf_slice(&w->object));
}

static void
answer(void *context, const struct server_request *r, struct server_answer *a)
{
    struct world *w = context;
    assert_true(w->requests < REQUESTS_MAX);
    w->methods[w->requests++] = strcmp(r->method, "POST") == 0 ? 'O' : r->method[0];
    (void)server_header(r, "x-amz-date", w->last_date, sizeof(w->last_date));
    if (!server_header(r, "x-amz-security-token", w->last_token, sizeof(w->last_token)))
        w->last_token[0] = '\0';
    if (w->requests >= w->first && w->requests <= w->last)
        w->trouble(w, r, a);
    else
        serve_well(w, r, a);
}

static void
trouble_at(struct world *w, unsigned first, unsigned last, server_answer_fn *trouble)
{
    w->first = w->requests + first;
    w->last = w->requests + last;
    w->trouble = trouble;
}

static int
world_new_with(void **state, const char *options)
{
    struct world *w = calloc(1, sizeof(*w));
    struct pgs_err err;
    struct buf url = { 0 };
    setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", 1);
    unsetenv("AWS_SESSION_TOKEN");
    w->clock = (struct retry_clock){ world_now, world_wait, world_random, w };
    w->server = http_server_new(answer, w);
    buf_printf(&url, "s3://bucket/p?endpoint=%s%s", http_server_url(w->server), options);
    assert_int_equal(s3_store_open_with(buf_cstr(&url), &w->clock, &w->store, &err), 0);
    buf_release(&url);
    *state = w;
    return 0;
}

static int
world_new(void **state)
{
    return world_new_with(state, "");
}

static int
world_new_unfenced(void **state)
{
    return world_new_with(state, "&fencing=off&storage_class=STANDARD_IA&sse=AES256");
}

static int
world_free(void **state)
{
    struct world *w = *state;
    store_close(w->store);
    http_server_free(w->server);
    buf_release(&w->object);
    free(w);
    return 0;
}

/* --- troubles --- */

static void
say(struct server_answer *a, int status, const char *code)
{
    a->status = status;
    if (code != NULL)
        buf_printf(&a->body, "<Error><Code>%s</Code><Message>words</Message></Error>", code);
}

static void
busy(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    say(a, 503, "SlowDown");
}

static void
silent(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    a->drop = true;
}

/* It does its work, and nobody hears. */
static void
lost(void *context, const struct server_request *r, struct server_answer *a)
{
    serve_well(context, r, a);
    a->drop = true;
}

/* Another writer comes first, and our answer is lost. */
static void
overtaken(void *context, const struct server_request *r, struct server_answer *a)
{
    struct world *w = context;
    (void)r;
    w->there = true;
    buf_put_str(&w->object, "theirs");
    a->drop = true;
}

static void
conflict(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    say(a, 409, "ConditionalRequestConflict");
}

static void
denied(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    say(a, 403, "AccessDenied");
}

static void
denied_an_hour_ahead(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    a->status = 403;
    a->headers = "Date: Tue, 01 Jan 2036 00:00:00 GMT\r\n";
}

static void
no_bucket(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    say(a, 404, "NoSuchBucket");
}

static void
elsewhere(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    a->status = 301;
    a->headers = "x-amz-bucket-region: eu-central-1\r\n";
}

static void
not_implemented(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    say(a, 501, "NotImplemented");
}

/* A store that takes the condition for an unknown header. */
static void
careless(void *context, const struct server_request *r, struct server_answer *a)
{
    struct world *w = context;
    if (strcmp(r->method, "PUT") == 0)
        w->there = false;
    serve_well(w, r, a);
}

/* --- tests --- */

static void
assert_methods(struct world *w, const char *methods)
{
    assert_int_equal(w->requests, strlen(methods));
    assert_memory_equal(w->methods, methods, w->requests);
}

static void
what_passes_is_waited_for(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 2, busy);
    assert_int_equal(store_put(w->store, "x", slice_str("bytes"), &err), 0);
    assert_slice_equal(buf_slice(&w->object), "bytes");
    assert_methods(w, "PPP");
    trouble_at(w, 1, 1, silent);
    assert_int_equal(store_put(w->store, "x", slice_str("others"), &err), 0);
    assert_slice_equal(buf_slice(&w->object), "others");
}

static void
a_storm_ends_the_call_in_its_time(void **state)
{
    struct world *w = *state;
    struct buf got = { 0 };
    struct pgs_err err;
    trouble_at(w, 1, REQUESTS_MAX, busy);
    w->now_us = 1;
    buf_put_str(&got, "kept");
    assert_int_equal(store_get(w->store, "x", NULL, &got, &err), PGS_E_STORE);
    assert_non_null(strstr(err.message, "503 SlowDown"));
    assert_true(w->now_us <= 1 + RETRY_FOR_US);
    assert_slice_equal(buf_slice(&got), "kept");
    buf_release(&got);
}

static void
what_lasts_is_not_tried_again(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 9, denied);
    assert_int_equal(store_put(w->store, "x", slice_str("bytes"), &err), PGS_E_STORE);
    assert_methods(w, "P");
    assert_non_null(strstr(err.message, "AccessDenied"));
    assert_null(strstr(err.message, "EXAMPLEKEY"));
    assert_string_not_equal(err.hint, "");
}

static void
our_own_create_is_recognised_when_its_answer_was_lost(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 1, lost);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("nonce 7"), &err), 0);
    assert_methods(w, "PPG");
}

static void
anothers_create_is_not_ours(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 1, overtaken);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("nonce 7"), &err), PGS_NONE);
    assert_slice_equal(buf_slice(&w->object), "theirs");
    /* Longer than ours, and with ours at its beginning. */
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("their"), &err), PGS_NONE);
    trouble_at(w, 1, 1, silent);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("their"), &err), PGS_NONE);
}

static void
a_taken_name_needs_no_reading(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("same"), &err), 0);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("same"), &err), PGS_NONE);
    assert_methods(w, "PP");
}

static void
two_at_once_are_told_to_try_again(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 1, conflict);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("a"), &err), 0);
    assert_methods(w, "PP");
}

static void
a_clock_that_is_wrong_follows_the_server(void **state)
{
    struct world *w = *state;
    struct store_stat stat;
    struct pgs_err err;
    trouble_at(w, 1, 1, denied_an_hour_ahead);
    assert_int_equal(store_head(w->store, "x", &stat, &err), PGS_NONE);
    assert_methods(w, "HH");
    assert_memory_equal(w->last_date, "20360101T0000", 13);
    /* And stays so; a second refusal is one. */
    assert_int_equal(store_head(w->store, "x", &stat, &err), PGS_NONE);
    assert_memory_equal(w->last_date, "20360101T0000", 13);
    trouble_at(w, 1, 9, denied_an_hour_ahead);
    assert_int_equal(store_head(w->store, "x", &stat, &err), PGS_E_STORE);
}

static void
an_absent_bucket_is_no_absent_object(void **state)
{
    struct world *w = *state;
    struct buf got = { 0 };
    struct pgs_err err;
    assert_int_equal(store_get(w->store, "x", NULL, &got, &err), PGS_NONE);
    trouble_at(w, 1, 9, no_bucket);
    assert_int_equal(store_get(w->store, "x", NULL, &got, &err), PGS_E_STORE);
    assert_non_null(strstr(err.hint, "create the bucket"));
    buf_release(&got);
}

static void
a_bucket_elsewhere_is_named(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, 9, elsewhere);
    assert_int_equal(store_remove(w->store, "x", &err), PGS_E_STORE);
    assert_non_null(strstr(err.hint, "eu-central-1"));
}

static void
a_store_that_cannot_fence_is_refused(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, REQUESTS_MAX, careless);
    assert_int_equal(store_probe(w->store, &err), PGS_E_REFUSED);
    assert_non_null(strstr(err.hint, "--unsafe-no-fencing"));
    trouble_at(w, 1, REQUESTS_MAX, not_implemented);
    assert_int_equal(store_probe(w->store, &err), PGS_E_REFUSED);
    assert_non_null(strstr(err.hint, "--unsafe-no-fencing"));
}

static void
headers_go_along(void *context, const struct server_request *r, struct server_answer *a)
{
    char text[32];
    if (strcmp(r->method, "PUT") == 0) {
        assert_false(server_header(r, "if-none-match", text, sizeof(text)));
        assert_true(server_header(r, "x-amz-storage-class", text, sizeof(text)));
        assert_string_equal(text, "STANDARD_IA");
        assert_true(server_header(r, "x-amz-server-side-encryption", text, sizeof(text)));
        assert_string_equal(text, "AES256");
        assert_string_equal(r->target, "/bucket/p/log/1");
    }
    serve_well(context, r, a);
}

static void
it_goes_on_without_fencing_when_told_to(void **state)
{
    struct world *w = *state;
    struct pgs_err err;
    trouble_at(w, 1, REQUESTS_MAX, headers_go_along);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("a"), &err), 0);
    assert_int_equal(store_put_if_absent(w->store, "log/1", slice_str("b"), &err), PGS_NONE);
    assert_methods(w, "HPH");
}

static void
whole_for_part(void *context, const struct server_request *r, struct server_answer *a)
{
    (void)context;
    (void)r;
    buf_put_str(&a->body, "0123456789");
}

static void
a_whole_object_is_no_range(void **state)
{
    struct world *w = *state;
    struct buf got = { 0 };
    struct pgs_err err;
    trouble_at(w, 1, REQUESTS_MAX, whole_for_part);
    assert_true(store_get(w->store, "x", &(struct store_range){ 2, 3 }, &got, &err) < 0);
    assert_int_equal(got.size, 0);
    buf_release(&got);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        WORLD(what_passes_is_waited_for),
        WORLD(a_storm_ends_the_call_in_its_time),
        WORLD(what_lasts_is_not_tried_again),
        WORLD(our_own_create_is_recognised_when_its_answer_was_lost),
        WORLD(anothers_create_is_not_ours),
        WORLD(a_taken_name_needs_no_reading),
        WORLD(two_at_once_are_told_to_try_again),
        WORLD(a_clock_that_is_wrong_follows_the_server),
        WORLD(an_absent_bucket_is_no_absent_object),
        WORLD(a_bucket_elsewhere_is_named),
        WORLD(a_store_that_cannot_fence_is_refused),
        cmocka_unit_test_setup_teardown(it_goes_on_without_fencing_when_told_to, world_new_unfenced,
                                        world_free),
        WORLD(a_whole_object_is_no_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
