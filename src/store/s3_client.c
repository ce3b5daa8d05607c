#include "store/s3_client.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "store/percent.h"
#include "store/s3_credentials.h"
#include "store/s3_sign.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* S3 refuses 15 minutes; below this the clock is not why it refused. */
#define SKEW_MIN_S 300
/* A server that asks for more gets this: the layers above go on by themselves. */
#define RETRY_AFTER_MAX_S 4
#define HEADERS_MAX (S3_PAIRS_MAX + 5)

struct s3_client {
    struct s3_config config;
    struct http_pool *pool;
    struct s3_credentials *credentials;
    const struct retry_clock *clock;
    atomic_llong skew_s; /* the server's clock less ours */
    atomic_bool interrupted;
};

int
s3_client_new(const char *url, const struct retry_clock *clock, struct s3_client **client,
              struct pgs_err *err)
{
    struct s3_config config;
    int rc = s3_config_parse(url, &config, err);
    if (rc < 0)
        return rc;
    struct s3_client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->config = config;
    c->clock = clock;
    c->pool = http_pool_new();
    c->credentials = s3_credentials_new(c->pool, &c->config);
    *client = c;
    return 0;
}

void
s3_client_free(struct s3_client *c)
{
    if (c == NULL)
        return;
    s3_credentials_free(c->credentials);
    http_pool_free(c->pool);
    free(c);
}

void
s3_client_interrupt(struct s3_client *c)
{
    atomic_store(&c->interrupted, true);
}

const struct s3_config *
s3_client_config(const struct s3_client *c)
{
    return &c->config;
}

/* --- one try --- */

/* What is sent, built before each try: the date and the keys may be others. */
struct sending {
    struct buf host, path, query, url, authorization;
    char date[SIGN_DATE_TEXT], payload[SIGN_SHA256_TEXT];
    struct http_pair headers[HEADERS_MAX];
    size_t header_count;
};

static void
sending_release(struct sending *s)
{
    buf_release(&s->host);
    buf_release(&s->path);
    buf_release(&s->query);
    buf_release(&s->url);
    buf_release(&s->authorization);
}

static void
header_add(struct sending *s, const char *name, const char *value)
{
    pgs_assert(s->header_count < HEADERS_MAX);
    s->headers[s->header_count++] = (struct http_pair){ name, value };
}

static void
sending_address(struct sending *s, const struct s3_config *config, const struct s3_call *call)
{
    if (config->path_style)
        buf_printf(&s->host, "%s", config->host);
    else
        buf_printf(&s->host, "%s.%s", config->bucket, config->host);
    if (config->path_style)
        buf_printf(&s->path, "/%s", config->bucket);
    if (call->name != NULL || !config->path_style)
        buf_put_u8(&s->path, '/');
    if (call->name != NULL) {
        percent_encode(&s->path, config->prefix, true);
        percent_encode(&s->path, call->name, true);
    }
    sign_query(&s->query, call->query, call->query_count);
    buf_printf(&s->url, "%s://%s%s", config->tls ? "https" : "http", buf_cstr(&s->host),
               buf_cstr(&s->path));
    if (call->query_count > 0)
        buf_printf(&s->url, "?%s", buf_cstr(&s->query));
}

static void
sending_sign(struct sending *s, struct s3_client *c, const struct s3_call *call,
             const struct s3_keys *keys)
{
    int64_t now_s = (int64_t)time(NULL) + atomic_load(&c->skew_s);
    header_add(s, "host", buf_cstr(&s->host));
    header_add(s, "x-amz-date", sign_date(now_s, s->date));
    header_add(s, "x-amz-content-sha256", sign_sha256(call->body, s->payload));
    if (keys->session_token[0] != '\0')
        header_add(s, "x-amz-security-token", keys->session_token);
    for (size_t i = 0; i < call->header_count; i++)
        header_add(s, call->headers[i].name, call->headers[i].value);
    struct sign_request request = {
        .method = call->method,
        .path = buf_cstr(&s->path),
        .query = buf_cstr(&s->query),
        .headers = s->headers,
        .header_count = s->header_count,
        .payload_sha256 = s->payload,
    };
    struct sign_scope scope = { c->config.region, "s3", now_s };
    struct sign_keys pair = { keys->access_key, keys->secret_key };
    sign_authorization(&s->authorization, &request, &scope, &pair);
    header_add(s, "authorization", buf_cstr(&s->authorization));
}

/* One try. *sent: the keys were there, so a failure is the network's. */
static int
call_once(struct s3_client *c, const struct s3_call *call, struct s3_answer *answer, bool *sent,
          struct pgs_err *err)
{
    struct sending s = { 0 };
    struct s3_keys keys;
    *sent = false;
    int rc = s3_credentials_get(c->credentials, &keys, err);
    if (rc < 0)
        return rc;
    sending_address(&s, &c->config, call);
    sending_sign(&s, c, call, &keys);
    struct http_request request = {
        .method = call->method,
        .url = buf_cstr(&s.url),
        .headers = s.headers,
        .header_count = s.header_count,
        .body = call->body,
        .into = call->into,
        .interrupted = &c->interrupted,
        .ca_file = c->config.ca_file[0] != '\0' ? c->config.ca_file : NULL,
    };
    *sent = true;
    rc = http_send(c->pool, &request, &answer->http, err);
    OPENSSL_cleanse(&keys, sizeof(keys));
    sending_release(&s);
    return rc;
}

/* --- what the answer means --- */

static bool
is_answered(const struct s3_answer *a)
{
    int status = a->http.status;
    return (status >= 200 && status < 300) || status == 412 || status == 416 ||
           (status == 404 && strcmp(a->error.code, "NoSuchBucket") != 0);
}

static void
hint_for(const struct s3_client *c, const struct s3_answer *a, struct pgs_err *err)
{
    const char *region = a->error.region[0] != '\0' ? a->error.region : a->http.region;
    if (region[0] != '\0' && strcmp(region, c->config.region) != 0)
        err_ignore(
            err_hint(err, "the bucket is in another region: set BACKUP_S3_REGION to %s", region));
    else if (a->http.status == 403 || a->http.status == 401)
        err_ignore(err_hint(err, "check the keys, and what they may do in the bucket"));
    else if (a->http.status == 404)
        err_ignore(err_hint(err, "create the bucket %s, or name another", c->config.bucket));
    else if (a->http.status == 501)
        err_ignore(err_hint(err, "the store lacks what pgstrata needs"));
    else if (a->http.status >= 300 && a->http.status < 400)
        err_ignore(err_hint(err, "check BACKUP_S3_ENDPOINT and BACKUP_S3_REGION"));
}

static int
refused(const struct s3_client *c, const struct s3_answer *a, struct pgs_err *err)
{
    if (a->error.code[0] != '\0')
        (void)err_set(err, PGS_E_STORE, "the store answered %d %s: %s", a->http.status,
                      a->error.code, a->error.message);
    else
        (void)err_set(err, PGS_E_STORE, "the store answered %d", a->http.status);
    hint_for(c, a, err);
    return PGS_E_STORE;
}

/* What is mended at once, and once in a call. */
struct mended {
    bool clock, keys;
};

/* HEAD has no body that could say RequestTimeTooSkewed, so the clocks themselves are compared. */
static bool
mend_clock(struct s3_client *c, const struct s3_answer *a, struct mended *m)
{
    int64_t skew_s = a->http.date_s - (int64_t)time(NULL);
    int64_t change_s = skew_s - atomic_load(&c->skew_s);
    if (m->clock || a->http.status != 403 || a->http.date_s < 0 ||
        (change_s < SKEW_MIN_S && change_s > -SKEW_MIN_S))
        return false;
    m->clock = true;
    atomic_store(&c->skew_s, skew_s);
    diag_warn("s3_clock", DIAG_NO_FIELDS,
              "the store's clock is %lld s ahead of ours (negative: behind); requests follow it",
              (long long)skew_s);
    return true;
}

static bool
mend_keys(struct s3_client *c, const struct s3_answer *a, struct mended *m)
{
    static const char *const codes[] = { "ExpiredToken", "ExpiredTokenException",
                                         "InvalidAccessKeyId", "InvalidToken" };
    bool stale = a->http.status == 401;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        stale = stale || strcmp(a->error.code, codes[i]) == 0;
    if (m->keys || !stale)
        return false;
    m->keys = true;
    return s3_credentials_renew(c->credentials);
}

static int64_t
asked_to_wait_us(const struct s3_answer *a)
{
    int64_t s = a->http.retry_after_s;
    return (s < RETRY_AFTER_MAX_S ? s : RETRY_AFTER_MAX_S) * 1000000;
}

int
s3_call(struct s3_client *c, const struct s3_call *call, struct s3_answer *answer,
        struct pgs_err *err)
{
    struct retry retry = retry_begin(c->clock, &c->interrupted);
    struct mended mended = { 0 };
    answer->repeated = false;
    for (;;) {
        bool sent;
        int64_t wait_us = 0;
        int rc = call_once(c, call, answer, &sent, err);
        if (rc < 0 && (!sent || rc != PGS_E_STORE))
            return rc;
        if (rc == 0) {
            xml_s3_error(buf_slice(&answer->http.text), &answer->error);
            if (is_answered(answer))
                return 0;
            rc = refused(c, answer, err);
            if (mend_clock(c, answer, &mended) || mend_keys(c, answer, &mended))
                continue;
            if (!retry_is_worth(answer->http.status, answer->error.code))
                return rc;
            wait_us = asked_to_wait_us(answer);
        }
        answer->repeated = true;
        if (!retry_wait(&retry, wait_us))
            return rc;
        diag_debug("s3_retry", DIAG(diag_str(DIAG_KEY_ERROR, err->message)), "%s is tried again",
                   call->method);
    }
}

int
s3_answer_failed(const struct s3_answer *answer, struct pgs_err *err)
{
    return err_set(err, PGS_E_STORE, "the store answered %d, but in it %s: %s", answer->http.status,
                   answer->error.code, answer->error.message);
}

void
s3_answer_release(struct s3_answer *answer)
{
    http_answer_release(&answer->http);
}
