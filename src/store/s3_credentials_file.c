/* s3_credentials_file.c: the file that Amazon's tools share: "[profile]", then "name = value". */
#include "store/s3_credentials_internal.h"

#include "core/err.h"

#include <openssl/crypto.h>
#include <stdlib.h>

struct reading {
    const char *profile;
    struct s3_keys *keys;
    bool inside, found;
};

/* The text between blanks, NUL-terminated in place. */
static char *
trimmed(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t' || text[size - 1] == '\r'))
        text[--size] = '\0';
    return text;
}

static int
setting_read(struct reading *r, const char *name, const char *value, struct pgs_err *err)
{
    struct s3_keys *k = r->keys;
    if (strcmp(name, "aws_access_key_id") == 0)
        return keys_field(name, value, k->access_key, sizeof(k->access_key), err);
    if (strcmp(name, "aws_secret_access_key") == 0)
        return keys_field(name, value, k->secret_key, sizeof(k->secret_key), err);
    if (strcmp(name, "aws_session_token") == 0)
        return keys_field(name, value, k->session_token, sizeof(k->session_token), err);
    return 0; /* what other tools keep there */
}

static int
line_read(struct reading *r, char *line, struct pgs_err *err)
{
    char *text = trimmed(line), *end = text + strlen(text);
    if (*text == '[' && end > text + 1 && end[-1] == ']') {
        end[-1] = '\0';
        r->inside = strcmp(trimmed(text + 1), r->profile) == 0;
        r->found = r->found || r->inside;
        return 0;
    }
    char *equals = strchr(text, '=');
    if (!r->inside || *text == '#' || *text == ';' || equals == NULL)
        return 0;
    *equals = '\0';
    return setting_read(r, trimmed(text), trimmed(equals + 1), err);
}

static int
lines_read(struct reading *r, char *text, struct pgs_err *err)
{
    int rc = 0;
    for (char *next; rc == 0 && text != NULL; text = next) {
        next = strchr(text, '\n');
        if (next != NULL)
            *next++ = '\0';
        rc = line_read(r, text, err);
    }
    if (rc == 0 && !r->found)
        return PGS_NONE;
    if (rc == 0 && (r->keys->access_key[0] == '\0' || r->keys->secret_key[0] == '\0'))
        rc = err_set(err, PGS_E_STORE, "profile %s has no keys", r->profile);
    return rc;
}

int
keys_from_shared_file(struct http_pool *pool, const struct s3_config *config, struct s3_keys *keys,
                      struct pgs_err *err)
{
    const char *path = keys_variable("AWS_SHARED_CREDENTIALS_FILE");
    const char *profile = keys_variable("AWS_PROFILE");
    const char *home = keys_variable("HOME");
    struct reading r = { .profile = profile != NULL ? profile : "default", .keys = keys };
    struct buf standard = { 0 }, text = { 0 };
    (void)pool;
    (void)config;
    if (path == NULL && home != NULL) {
        buf_printf(&standard, "%s/.aws/credentials", home);
        path = buf_cstr(&standard);
    }
    int rc = path != NULL ? keys_file(path, &text, err) : PGS_NONE;
    if (rc == 0) {
        buf_put_u8(&text, '\0');
        rc = lines_read(&r, (char *)text.data, err);
    }
    if (rc == PGS_NONE && profile != NULL)
        rc = err_set(err, PGS_E_STORE, "there is no profile %s in %s", profile,
                     path != NULL ? path : "any file");
    if (text.data != NULL)
        OPENSSL_cleanse(text.data, text.capacity);
    buf_release(&text);
    buf_release(&standard);
    return rc;
}
