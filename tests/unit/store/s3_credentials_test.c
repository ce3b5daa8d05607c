/* s3_credentials_test.c: where keys come from. The services that hand them out are functions here,
 * on loopback; every key is made up. */
#include "support/unit.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "store/s3_credentials.h"
#include "support/http_server.h"
#include "support/temp_folder.h"

#include <stdlib.h>

static const char *const variables[] = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
};

struct world {
    char *folder;
    struct http_pool *pool;
    struct s3_config config;
    struct s3_credentials *credentials;
    struct http_server *server;
    int64_t lives_s; /* of the keys that the server gives */
    bool down;
    unsigned given;
    char seen[256]; /* what the server was shown as proof */
};

static int
world_new(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        unsetenv(variables[i]);
    w->folder = temp_folder_make();
    setenv("HOME", w->folder, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1); /* no test asks a real one */
    w->pool = http_pool_new();
    snprintf(w->config.region, sizeof(w->config.region), "us-east-1");
    w->credentials = s3_credentials_new(w->pool, &w->config);
    w->lives_s = 3600;
    *state = w;
    return 0;
}

static int
world_free(void **state)
{
    struct world *w = *state;
    if (w->server != NULL)
        http_server_free(w->server);
    s3_credentials_free(w->credentials);
    http_pool_free(w->pool);
    temp_folder_remove(w->folder);
    free(w);
    return 0;
}

static void
file_write(struct world *w, const char *name, const char *text, char path[256])
{
    snprintf(path, 256, "%s/%s", w->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
assert_keys(struct world *w, const char *access_key, const char *secret_key, const char *token)
{
    struct s3_keys keys;
    struct pgs_err err;
    assert_int_equal(s3_credentials_get(w->credentials, &keys, &err), 0);
    assert_string_equal(keys.access_key, access_key);
    assert_string_equal(keys.secret_key, secret_key);
    assert_string_equal(keys.session_token, token);
}

static void
assert_none(struct world *w, const char *words)
{
    struct s3_keys keys;
    struct pgs_err err;
    assert_int_equal(s3_credentials_get(w->credentials, &keys, &err), PGS_E_STORE);
    if (strstr(err.message, words) == NULL)
        fail_msg("%s", err.message);
    assert_null(strstr(err.message, "hidden"));
}

static void
the_environment_comes_first(void **state)
{
    struct world *w = *state;
    char path[256];
    file_write(w, "file", "[default]\naws_access_key_id=F\naws_secret_access_key=G\n", path);
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    setenv("AWS_ACCESS_KEY_ID", "A", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "S", 1);
    setenv("AWS_SESSION_TOKEN", "T", 1);
    assert_keys(w, "A", "S", "T");
    assert_false(s3_credentials_renew(w->credentials));
}

static void
half_a_pair_is_an_error(void **state)
{
    struct world *w = *state;
    setenv("AWS_ACCESS_KEY_ID", "A", 1);
    assert_none(w, "AWS_SECRET_ACCESS_KEY");
    setenv("AWS_SECRET_ACCESS_KEY", "hidden\nhidden", 1);
    assert_none(w, "AWS_SECRET_ACCESS_KEY");
}

static void
without_any_source_the_answer_says_what_to_set(void **state)
{
    assert_none(*state, "there are no keys");
}

static void
the_shared_file_has_profiles(void **state)
{
    static const char text[] = "# words\n[default]\naws_access_key_id = D\n"
                               "aws_secret_access_key = E\r\n\n[ other ]\n; words\n"
                               "aws_access_key_id=O\naws_secret_access_key=P==\n"
                               "aws_session_token = Q\nregion = x\n[half]\naws_access_key_id=H\n";
    struct world *w = *state;
    char path[256];
    file_write(w, "file", text, path);
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    assert_keys(w, "D", "E", "");
    setenv("AWS_PROFILE", "other", 1);
    assert_keys(w, "D", "E", ""); /* kept, until they are called stale */
    assert_true(s3_credentials_renew(w->credentials));
    assert_keys(w, "O", "P==", "Q");
    assert_true(s3_credentials_renew(w->credentials));
    setenv("AWS_PROFILE", "half", 1);
    assert_none(w, "profile half has no keys");
    setenv("AWS_PROFILE", "absent", 1);
    assert_none(w, "no profile absent");
}

/* --- services --- */

static void
expiry_put(struct world *w, struct buf *out)
{
    char text[TIME_TEXT_MAX];
    buf_put_str(out, time_format(time_now() + w->lives_s * 1000000, text));
}

static void
json_put(struct world *w, struct server_answer *a)
{
    buf_printf(&a->body,
               "{\"Code\":\"Success\",\"AccessKeyId\":\"K%u\",\"SecretAccessKey\":\"hiddenS\","
               "\"Token\":\"T\",\"Expiration\":\"",
               ++w->given);
    expiry_put(w, &a->body);
    buf_put_str(&a->body, "\"}");
}

static void
container(void *context, const struct server_request *r, struct server_answer *a)
{
    struct world *w = context;
    a->status = w->down || strcmp(r->target, "/creds") != 0 ? 500 : 200;
    if (!server_header(r, "authorization", w->seen, sizeof(w->seen)))
        w->seen[0] = '\0';
    if (a->status == 200)
        json_put(w, a);
}

static void
serve(struct world *w, server_answer_fn *fn, const char *variable, const char *path)
{
    char url[128];
    w->server = http_server_new(fn, w);
    snprintf(url, sizeof(url), "%s%s", http_server_url(w->server), path);
    setenv(variable, url, 1);
}

static void
a_container_gets_keys_that_are_kept_while_they_live(void **state)
{
    struct world *w = *state;
    char path[256];
    file_write(w, "token", "proof\n", path);
    serve(w, container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
    assert_keys(w, "K1", "hiddenS", "T");
    assert_keys(w, "K1", "hiddenS", "T");
    assert_string_equal(w->seen, "proof");
    assert_int_equal(w->given, 1);
    w->lives_s = 200; /* less than what is left when they are renewed */
    assert_true(s3_credentials_renew(w->credentials));
    assert_keys(w, "K2", "hiddenS", "T");
    assert_keys(w, "K3", "hiddenS", "T");
    w->down = true; /* they live on while their source is down */
    assert_keys(w, "K3", "hiddenS", "T");
    w->down = false; /* and it is not asked again at once */
    assert_keys(w, "K3", "hiddenS", "T");
}

static void
keys_that_have_ended_do_not_serve(void **state)
{
    struct world *w = *state;
    serve(w, container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds");
    w->lives_s = -1;
    assert_keys(w, "K1", "hiddenS", "T");
    w->down = true;
    assert_none(w, "answered 500");
}

static void
a_container_asks_nobody_far_away_in_the_clear(void **state)
{
    static const char *const urls[] = { "http://example.com/creds",
                                        "http://127.0.0.1.example/creds",
                                        "http://127.0.0.1@example.com/", "ftp://127.0.0.1/" };
    struct world *w = *state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", urls[i], 1);
        assert_none(w, "neither https nor on this machine");
    }
}

static void
instance(void *context, const struct server_request *r, struct server_answer *a)
{
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    struct world *w = context;
    char text[64] = "";
    if (strcmp(r->method, "PUT") == 0 && strcmp(r->target, "/latest/api/token") == 0) {
        a->status = server_header(r, "x-aws-ec2-metadata-token-ttl-seconds", text, sizeof(text))
                        ? 200
                        : 400;
        buf_put_str(&a->body, "session");
        return;
    }
    if (!server_header(r, "x-aws-ec2-metadata-token", text, sizeof(text)) ||
        strcmp(text, "session") != 0)
        a->status = 401;
    else if (strcmp(r->target, roles) == 0)
        buf_put_str(&a->body, "the-role\n");
    else if (strncmp(r->target, roles, strlen(roles)) == 0 &&
             strcmp(r->target + strlen(roles), "the-role") == 0)
        json_put(w, a);
    else
        a->status = 404;
}

static void
an_instance_gets_the_keys_of_its_role(void **state)
{
    struct world *w = *state;
    serve(w, instance, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "/");
    assert_none(w, "there are no keys"); /* switched off */
    setenv("AWS_EC2_METADATA_DISABLED", "false", 1);
    assert_keys(w, "K1", "hiddenS", "T");
}

static void
sts(void *context, const struct server_request *r, struct server_answer *a)
{
    struct world *w = context;
    snprintf(w->seen, sizeof(w->seen), "%.*s", SLICE_PRINT(r->body));
    if (w->down) {
        a->status = 403;
        return;
    }
    buf_put_str(&a->body,
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/\">"
                "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>W</AccessKeyId>"
                "<SecretAccessKey>hiddenV</SecretAccessKey><SessionToken>U</SessionToken>"
                "<Expiration>");
    expiry_put(w, &a->body);
    buf_put_str(&a->body, "</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                          "</AssumeRoleWithWebIdentityResponse>");
}

static void
a_web_identity_is_exchanged(void **state)
{
    struct world *w = *state;
    char path[256];
    file_write(w, "token", "hidden.jwt\n", path);
    serve(w, sts, "AWS_ENDPOINT_URL_STS", "/");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    assert_none(w, "there are no keys"); /* no role, no exchange */
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x", 1);
    assert_keys(w, "W", "hiddenV", "U");
    assert_string_equal(w->seen,
                        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15"
                        "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&RoleSessionName=pgstrata"
                        "&WebIdentityToken=hidden.jwt");
    assert_true(s3_credentials_renew(w->credentials));
    w->down = true;
    assert_none(w, "answered 403"); /* nobody else's keys instead */
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        WORLD(the_environment_comes_first),
        WORLD(half_a_pair_is_an_error),
        WORLD(without_any_source_the_answer_says_what_to_set),
        WORLD(the_shared_file_has_profiles),
        WORLD(a_container_gets_keys_that_are_kept_while_they_live),
        WORLD(keys_that_have_ended_do_not_serve),
        WORLD(a_container_asks_nobody_far_away_in_the_clear),
        WORLD(an_instance_gets_the_keys_of_its_role),
        WORLD(a_web_identity_is_exchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
