#include "store/s3_credentials_internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define RENEW_BEFORE_S 300
/* After a renewal that failed, while the old keys still serve. */
#define RENEW_PAUSE_S 10
#define FILE_MAX_BYTES ((size_t)64 << 10)

struct s3_credentials {
    struct http_pool *pool;
    const struct s3_config *config;
    pthread_mutex_t mutex; /* guards what follows; held while keys are fetched, since who else
                            * comes needs just them */
    struct s3_keys keys;
    bool have, fixed;
    int64_t pause_until_s;
};

static const struct source {
    const char *name;
    keys_source_fn *fn;
    bool fixed; /* asking again gives the same keys */
} sources[] = {
    { "environment", keys_from_environment, true },
    { "web identity", keys_from_web_identity, false },
    { "shared file", keys_from_shared_file, false },
    { "container", keys_from_container, false },
    { "instance", keys_from_instance, false },
};

struct s3_credentials *
s3_credentials_new(struct http_pool *pool, const struct s3_config *config)
{
    struct s3_credentials *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->pool = pool;
    c->config = config;
    pthread_mutex_init(&c->mutex, NULL);
    return c;
}

void
s3_credentials_free(struct s3_credentials *c)
{
    if (c == NULL)
        return;
    pthread_mutex_destroy(&c->mutex);
    OPENSSL_cleanse(c, sizeof(*c));
    free(c);
}

static int
none_found(struct pgs_err *err)
{
    (void)err_set(err, PGS_E_STORE, "there are no keys for the store");
    return err_hint(err, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run "
                         "where a role gives them");
}

static int
fetch(struct s3_credentials *c, struct pgs_err *err)
{
    struct s3_keys keys = { .expires_s = S3_KEYS_NEVER };
    int rc = PGS_NONE;
    size_t i;
    for (i = 0; rc == PGS_NONE && i < sizeof(sources) / sizeof(sources[0]); i++)
        rc = sources[i].fn(c->pool, c->config, &keys, err);
    if (rc == 0) {
        c->keys = keys;
        c->have = true;
        c->fixed = sources[i - 1].fixed;
    } else if (rc == PGS_NONE) {
        rc = none_found(err);
    } else {
        rc = err_doing(err, "get keys for the store (%s)", sources[i - 1].name);
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    return rc;
}

static int
refresh(struct s3_credentials *c, int64_t now_s, struct pgs_err *err)
{
    bool serve = c->have && c->keys.expires_s > now_s;
    if (serve && (c->keys.expires_s - RENEW_BEFORE_S > now_s || now_s < c->pause_until_s))
        return 0;
    int rc = fetch(c, err);
    if (rc < 0 && serve) {
        c->pause_until_s = now_s + RENEW_PAUSE_S;
        diag_warn("s3_keys", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
                  "the store's keys end in %lld s and could not be renewed",
                  (long long)(c->keys.expires_s - now_s));
        rc = 0;
    }
    return rc;
}

int
s3_credentials_get(struct s3_credentials *c, struct s3_keys *keys, struct pgs_err *err)
{
    pthread_mutex_lock(&c->mutex);
    int rc = refresh(c, (int64_t)time(NULL), err);
    if (rc == 0)
        *keys = c->keys;
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

bool
s3_credentials_renew(struct s3_credentials *c)
{
    pthread_mutex_lock(&c->mutex);
    bool can = !c->fixed;
    if (can)
        c->have = false;
    pthread_mutex_unlock(&c->mutex);
    return can;
}

/* --- what the sources share --- */

const char *
keys_variable(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

int
keys_file(const char *path, struct buf *text, struct pgs_err *err)
{
    char bytes[4096];
    size_t n;
    FILE *file = fopen(path, "re");
    if (file == NULL && errno == ENOENT)
        return PGS_NONE;
    if (file == NULL)
        return err_set_errno(err, PGS_E_STORE, "cannot read %s", path);
    buf_init(text, FILE_MAX_BYTES);
    while ((n = fread(bytes, 1, sizeof(bytes), file)) > 0)
        buf_put(text, bytes, n);
    bool bad = ferror(file) != 0 || buf_failed(text);
    err_ignore(fclose(file));
    OPENSSL_cleanse(bytes, sizeof(bytes));
    if (bad)
        return err_set(err, PGS_E_STORE, "cannot read %s: too long, or unreadable", path);
    while (text->size > 0 && text->data[text->size - 1] <= ' ')
        text->size--;
    return 0;
}

int
keys_field(const char *name, const char *value, char *to, size_t size, struct pgs_err *err)
{
    bool good = value != NULL && value[0] != '\0' && strlen(value) < size;
    for (const char *c = value; good && *c != '\0'; c++)
        good = *c > ' ' && *c <= '~';
    if (!good)
        return err_set(err, PGS_E_STORE, "%s is missing, too long or no plain text", name);
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

int
keys_expiry(const char *text, int64_t *expires_s, struct pgs_err *err)
{
    pgs_time time;
    if (time_parse(text, &time, err) < 0)
        return err_set(err, PGS_E_STORE, "the keys' expiry is no time");
    *expires_s = time / 1000000 + PGS_EPOCH_UNIX_S;
    return 0;
}

/* --- environment --- */

int
keys_from_environment(struct http_pool *pool, const struct s3_config *config, struct s3_keys *keys,
                      struct pgs_err *err)
{
    const char *access_key = keys_variable("AWS_ACCESS_KEY_ID");
    const char *secret_key = keys_variable("AWS_SECRET_ACCESS_KEY");
    const char *token = keys_variable("AWS_SESSION_TOKEN");
    (void)pool;
    (void)config;
    if (access_key == NULL && secret_key == NULL)
        return PGS_NONE;
    int rc = keys_field("AWS_ACCESS_KEY_ID", access_key, keys->access_key, sizeof(keys->access_key),
                        err);
    if (rc == 0)
        rc = keys_field("AWS_SECRET_ACCESS_KEY", secret_key, keys->secret_key,
                        sizeof(keys->secret_key), err);
    if (rc == 0 && token != NULL)
        rc = keys_field("AWS_SESSION_TOKEN", token, keys->session_token,
                        sizeof(keys->session_token), err);
    return rc;
}
