/* s3_credentials_remote.c: keys that a service hands out for a while: STS for a web identity, a
 * container's agent, an instance's metadata. All are asked directly, never through a proxy but for
 * STS, and have little time: they are near, or not there. */
#include "store/s3_credentials_internal.h"

#include "core/err.h"
#include "store/percent.h"
#include "store/s3_xml.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <strings.h>

#define NEAR_TIMEOUT_MS 2000
#define STS_TIMEOUT_MS 10000
#define CONTAINER_AGENT "http://169.254.170.2"
#define INSTANCE_METADATA "http://169.254.169.254"
#define INSTANCE_PATH "/latest/meta-data/iam/security-credentials/"

static void
answer_wipe(struct http_answer *a)
{
    if (a->text.data != NULL)
        OPENSSL_cleanse(a->text.data, a->text.capacity);
    http_answer_release(a);
}

static int
ask(struct http_pool *pool, const struct http_request *request, struct http_answer *answer,
    struct pgs_err *err)
{
    int rc = http_send(pool, request, answer, err);
    if (rc == 0 && answer->status != 200)
        rc = err_set(err, PGS_E_STORE, "%.200s answered %d", request->url, answer->status);
    return rc;
}

/* --- JSON of containers and instances --- */

static int
json_field(json_t *root, const char *name, char *to, size_t size, struct pgs_err *err)
{
    return keys_field(name, json_string_value(json_object_get(root, name)), to, size, err);
}

static int
keys_from_json(struct slice text, struct s3_keys *keys, struct pgs_err *err)
{
    json_error_t where;
    const char *data = text.size > 0 ? (const char *)text.data : "";
    json_t *root = json_loadb(data, text.size, 0, &where);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, PGS_E_STORE, "the answer with the keys is no JSON object");
    }
    const char *expiry = json_string_value(json_object_get(root, "Expiration"));
    int rc = json_field(root, "AccessKeyId", keys->access_key, sizeof(keys->access_key), err);
    if (rc == 0)
        rc = json_field(root, "SecretAccessKey", keys->secret_key, sizeof(keys->secret_key), err);
    if (rc == 0)
        rc = json_field(root, "Token", keys->session_token, sizeof(keys->session_token), err);
    if (rc == 0 && expiry != NULL)
        rc = keys_expiry(expiry, &keys->expires_s, err);
    json_decref(root);
    return rc;
}

/* --- web identity --- */

static void
sts_form(struct buf *form, const char *role, const char *session, const char *token)
{
    buf_put_str(form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=");
    percent_encode(form, role, false);
    buf_put_str(form, "&RoleSessionName=");
    percent_encode(form, session != NULL ? session : "pgstrata", false);
    buf_put_str(form, "&WebIdentityToken=");
    percent_encode(form, token, false);
}

#define STS_KEYS "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials/"

static int
sts_field(struct slice text, const char *path, char *to, size_t size, struct pgs_err *err)
{
    int rc = xml_text(text, path, to, size, err);
    return rc == PGS_NONE ? err_set(err, PGS_E_STORE, "the answer of STS has no keys") : rc;
}

static int
sts_read(struct slice text, struct s3_keys *keys, struct pgs_err *err)
{
    char expiry[64];
    int rc =
        sts_field(text, STS_KEYS "AccessKeyId", keys->access_key, sizeof(keys->access_key), err);
    if (rc == 0)
        rc = sts_field(text, STS_KEYS "SecretAccessKey", keys->secret_key, sizeof(keys->secret_key),
                       err);
    if (rc == 0)
        rc = sts_field(text, STS_KEYS "SessionToken", keys->session_token,
                       sizeof(keys->session_token), err);
    if (rc == 0)
        rc = sts_field(text, STS_KEYS "Expiration", expiry, sizeof(expiry), err);
    return rc == 0 ? keys_expiry(expiry, &keys->expires_s, err) : rc;
}

static int
sts_ask(struct http_pool *pool, const struct s3_config *config, struct slice form,
        struct s3_keys *keys, struct pgs_err *err)
{
    static const struct http_pair headers[] = {
        { "content-type", "application/x-www-form-urlencoded" },
    };
    const char *endpoint = keys_variable("AWS_ENDPOINT_URL_STS");
    struct http_answer answer = { 0 };
    struct buf url = { 0 };
    if (endpoint != NULL)
        buf_printf(&url, "%s", endpoint);
    else
        buf_printf(&url, "https://sts.%s.amazonaws.com/", config->region);
    struct http_request request = {
        .method = "POST",
        .url = buf_cstr(&url),
        .headers = headers,
        .header_count = 1,
        .body = form,
        .timeout_ms = STS_TIMEOUT_MS,
        .ca_file = config->ca_file[0] != '\0' ? config->ca_file : NULL,
    };
    int rc = ask(pool, &request, &answer, err);
    if (rc == 0)
        rc = sts_read(buf_slice(&answer.text), keys, err);
    answer_wipe(&answer);
    buf_release(&url);
    return rc;
}

int
keys_from_web_identity(struct http_pool *pool, const struct s3_config *config, struct s3_keys *keys,
                       struct pgs_err *err)
{
    const char *path = keys_variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = keys_variable("AWS_ROLE_ARN");
    struct buf token = { 0 }, form = { 0 };
    if (path == NULL || role == NULL)
        return PGS_NONE;
    int rc = keys_file(path, &token, err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "there is no file %s", path);
    if (rc == 0) {
        sts_form(&form, role, keys_variable("AWS_ROLE_SESSION_NAME"), buf_cstr(&token));
        rc = sts_ask(pool, config, buf_slice(&form), keys, err);
    }
    if (token.data != NULL)
        OPENSSL_cleanse(token.data, token.capacity);
    if (form.data != NULL)
        OPENSSL_cleanse(form.data, form.capacity);
    buf_release(&token);
    buf_release(&form);
    return rc;
}

/* --- container --- */

/* Keys come back, and a token goes there: by plain HTTP only to this machine and to the two agents
 * that Amazon's documents name. */
static bool
container_is_trusted(const char *url)
{
    static const char *const hosts[] = { "http://127.0.0.1",      "http://localhost",
                                         "http://[::1]",          "http://169.254.170.2",
                                         "http://169.254.170.23", "http://[fd00:ec2::23]" };
    if (strncmp(url, "https://", 8) == 0)
        return true;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t size = strlen(hosts[i]);
        if (strncmp(url, hosts[i], size) == 0 &&
            (url[size] == '/' || url[size] == ':' || url[size] == '\0') && strchr(url, '@') == NULL)
            return true;
    }
    return false;
}

static int
container_token(struct buf *token, struct pgs_err *err)
{
    const char *path = keys_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *text = keys_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    int rc = path != NULL ? keys_file(path, token, err) : 0;
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "there is no file %s", path);
    if (path == NULL && text != NULL)
        buf_put_str(token, text);
    for (size_t i = 0; rc == 0 && i < token->size; i++) {
        if (token->data[i] < ' ' || token->data[i] > '~')
            rc = err_set(err, PGS_E_STORE, "the container's token is no plain text");
    }
    return rc;
}

int
keys_from_container(struct http_pool *pool, const struct s3_config *config, struct s3_keys *keys,
                    struct pgs_err *err)
{
    const char *path = keys_variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = keys_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    struct buf url = { 0 }, token = { 0 };
    struct http_answer answer = { 0 };
    (void)config;
    if (path == NULL && full == NULL)
        return PGS_NONE;
    if (path != NULL)
        buf_printf(&url, "%s%s%s", CONTAINER_AGENT, path[0] == '/' ? "" : "/", path);
    else
        buf_put_str(&url, full);
    int rc = 0;
    if (!container_is_trusted(buf_cstr(&url)))
        rc = err_set(err, PGS_E_STORE,
                     "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor "
                     "on this machine");
    if (rc == 0)
        rc = container_token(&token, err);
    struct http_pair header = { "authorization", buf_cstr(&token) };
    struct http_request request = {
        .method = "GET",
        .url = buf_cstr(&url),
        .headers = &header,
        .header_count = token.size > 0 ? 1 : 0,
        .timeout_ms = NEAR_TIMEOUT_MS,
        .direct = true,
    };
    if (rc == 0)
        rc = ask(pool, &request, &answer, err);
    if (rc == 0)
        rc = keys_from_json(buf_slice(&answer.text), keys, err);
    answer_wipe(&answer);
    if (token.data != NULL)
        OPENSSL_cleanse(token.data, token.capacity);
    buf_release(&token);
    buf_release(&url);
    return rc;
}

/* --- instance --- */

static int
instance_ask(struct http_pool *pool, const char *method, const char *path,
             const struct http_pair *header, struct http_answer *answer, struct pgs_err *err)
{
    const char *endpoint = keys_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    struct buf url = { 0 };
    buf_printf(&url, "%s", endpoint != NULL ? endpoint : INSTANCE_METADATA);
    while (url.size > 0 && url.data[url.size - 1] == '/')
        url.size--;
    buf_put_str(&url, path);
    struct http_request request = {
        .method = method,
        .url = buf_cstr(&url),
        .headers = header,
        .header_count = 1,
        .timeout_ms = NEAR_TIMEOUT_MS,
        .direct = true,
    };
    int rc = ask(pool, &request, answer, err);
    buf_release(&url);
    return rc;
}

/* The answer's first line as text of its own. */
static int
first_line(struct http_answer *a, const char *what, char *to, size_t size, struct pgs_err *err)
{
    struct buf *text = &a->text;
    buf_put_u8(text, '\0');
    char *line = (char *)text->data;
    line[strcspn(line, "\r\n")] = '\0';
    return keys_field(what, line, to, size, err);
}

static int
instance_keys(struct http_pool *pool, const struct http_pair *token, struct s3_keys *keys,
              struct pgs_err *err)
{
    char role[256];
    struct buf path = { 0 };
    struct http_answer answer = { 0 };
    int rc = instance_ask(pool, "GET", INSTANCE_PATH, token, &answer, err);
    if (rc == 0)
        rc = first_line(&answer, "the name of the instance's role", role, sizeof(role), err);
    if (rc == 0) {
        buf_put_str(&path, INSTANCE_PATH);
        percent_encode(&path, role, false);
        rc = instance_ask(pool, "GET", buf_cstr(&path), token, &answer, err);
    }
    if (rc == 0)
        rc = keys_from_json(buf_slice(&answer.text), keys, err);
    answer_wipe(&answer);
    buf_release(&path);
    return rc;
}

int
keys_from_instance(struct http_pool *pool, const struct s3_config *config, struct s3_keys *keys,
                   struct pgs_err *err)
{
    static const struct http_pair lifetime = { "x-aws-ec2-metadata-token-ttl-seconds", "21600" };
    const char *disabled = keys_variable("AWS_EC2_METADATA_DISABLED");
    struct http_answer answer = { 0 };
    char token[512];
    (void)config;
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return PGS_NONE;
    int rc = instance_ask(pool, "PUT", "/latest/api/token", &lifetime, &answer, err);
    if (rc < 0) {
        answer_wipe(&answer);
        return PGS_NONE; /* no instance of a cloud, as most machines */
    }
    rc = first_line(&answer, "the token of the instance's metadata", token, sizeof(token), err);
    if (rc == 0) {
        struct http_pair header = { "x-aws-ec2-metadata-token", token };
        rc = instance_keys(pool, &header, keys, err);
    }
    OPENSSL_cleanse(token, sizeof(token));
    answer_wipe(&answer);
    return rc;
}
