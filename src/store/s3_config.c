#include "store/s3_config.h"

#include "core/err.h"
#include "store/name.h"
#include "store/percent.h"

#include <stdlib.h>
#include <string.h>

#define SCHEME "s3://"
#define OPTION_MAX 512
#define PREFIX_MAX 255 /* with 512 of a name and a slash below S3's 1024 */

struct option {
    const char *name;
    size_t offset, size;
};

#define OPTION(field)                                                                    \
    {                                                                                    \
#field, offsetof(struct options, field), sizeof(((struct options *)NULL)->field) \
    }

struct options {
    char endpoint[OPTION_MAX];
    char region[64];
    char style[16];
    char ca_file[512];
    char storage_class[32];
    char sse[16];
    char sse_kms_key[256];
    char fencing[8];
};

static const struct option options[] = {
    OPTION(endpoint),      OPTION(region), OPTION(style),   OPTION(ca_file),
    OPTION(storage_class), OPTION(sse),    OPTION(fencing), OPTION(sse_kms_key),
};

/* Control characters and blanks would end a header early. */
static bool
is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static int
option_read(const char *name, size_t name_size, char *value, struct options *into,
            struct pgs_err *err)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        const struct option *o = &options[i];
        if (strlen(o->name) != name_size || memcmp(o->name, name, name_size) != 0)
            continue;
        if (!percent_decode(value) || strlen(value) >= o->size || !is_printable(value))
            return err_set(err, PGS_E_USAGE, "the store's %s cannot be used", o->name);
        memcpy((char *)into + o->offset, value, strlen(value) + 1);
        return 0;
    }
    return err_set(err, PGS_E_USAGE, "\"%.*s\" is no option of a store",
                   (int)(name_size < 40 ? name_size : 40), name);
}

/* "a=1&b=2" */
static int
options_read(const char *text, struct options *into, struct pgs_err *err)
{
    while (*text != '\0') {
        char value[OPTION_MAX];
        size_t size = strcspn(text, "&");
        size_t name_size = strcspn(text, "=&");
        size_t skip = name_size < size ? name_size + 1 : size;
        if (size - skip >= sizeof(value))
            return err_set(err, PGS_E_USAGE, "an option of the store is too long");
        memcpy(value, text + skip, size - skip);
        value[size - skip] = '\0';
        int rc = option_read(text, name_size, value, into, err);
        if (rc < 0)
            return rc;
        text += size + (text[size] == '&' ? 1 : 0);
    }
    return 0;
}

static int
bucket_read(const char *name, size_t size, struct s3_config *c, struct pgs_err *err)
{
    bool good = size >= 3 && size < sizeof(c->bucket) && name[0] != '.' && name[0] != '-';
    for (size_t i = 0; good && i < size; i++)
        good = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
               name[i] == '-' || name[i] == '.';
    if (!good)
        return err_set(err, PGS_E_USAGE, "\"%.*s\" is no name of a bucket",
                       (int)(size < 80 ? size : 80), name);
    memcpy(c->bucket, name, size);
    c->bucket[size] = '\0';
    return 0;
}

/* Folders separated by slashes; slashes around them do not matter. */
static int
prefix_read(const char *text, size_t size, struct s3_config *c, struct pgs_err *err)
{
    size_t used = 0;
    while (size > 0) {
        const char *slash = memchr(text, '/', size);
        size_t part = slash != NULL ? (size_t)(slash - text) : size;
        if (part > 0) {
            if (!store_name_part_is_plain(text, part) || used + part + 1 > PREFIX_MAX) {
                (void)err_set(err, PGS_E_USAGE, "the store's prefix cannot be used");
                return err_hint(err, "letters, digits, . _ - and /, at most %d of them",
                                PREFIX_MAX - 1);
            }
            memcpy(c->prefix + used, text, part);
            used += part;
            c->prefix[used++] = '/';
        }
        part += part < size ? 1 : 0;
        text += part;
        size -= part;
    }
    c->prefix[used] = '\0';
    return 0;
}

static const char *
environment_first(const char *first, const char *second)
{
    const char *text = getenv(first);
    if (text == NULL || text[0] == '\0')
        text = getenv(second);
    return text != NULL ? text : "";
}

static int
region_read(const struct options *o, struct s3_config *c, struct pgs_err *err)
{
    const char *region =
        o->region[0] != '\0' ? o->region : environment_first("AWS_REGION", "AWS_DEFAULT_REGION");
    if (region[0] == '\0')
        region = "us-east-1";
    if (strlen(region) >= sizeof(c->region) || !store_name_part_is_plain(region, strlen(region)))
        return err_set(err, PGS_E_USAGE, "\"%.80s\" is no region", region);
    memcpy(c->region, region, strlen(region) + 1);
    return 0;
}

static int
endpoint_read(const struct options *o, struct s3_config *c, struct pgs_err *err)
{
    const char *url = o->endpoint[0] != '\0'
                          ? o->endpoint
                          : environment_first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    if (url[0] == '\0') {
        bool china = strncmp(c->region, "cn-", 3) == 0;
        c->tls = true;
        snprintf(c->host, sizeof(c->host), "s3.%s.amazonaws.com%s", c->region, china ? ".cn" : "");
        return 0;
    }
    c->tls = strncmp(url, "https://", 8) == 0;
    const char *host = strstr(url, "://");
    size_t size = host != NULL ? strcspn(host + 3, "/") : 0;
    bool known = c->tls || strncmp(url, "http://", 7) == 0;
    /* No "user:password@", and no path: what is signed would have to know it. */
    if (!known || size == 0 || size >= sizeof(c->host) - sizeof(c->bucket) ||
        host[3 + size + (host[3 + size] == '/')] != '\0' || memchr(host + 3, '@', size) != NULL ||
        !is_printable(host)) {
        (void)err_set(err, PGS_E_USAGE, "the store's endpoint cannot be used");
        return err_hint(err, "give it as https://host or https://host:port");
    }
    memcpy(c->host, host + 3, size);
    c->host[size] = '\0';
    return 0;
}

static bool
host_is_amazons(const char *host)
{
    const char *found = strstr(host, ".amazonaws.com");
    return found != NULL && (found[14] == '\0' || strcmp(found + 14, ".cn") == 0);
}

static int
style_read(const struct options *o, struct s3_config *c, struct pgs_err *err)
{
    bool path = strcmp(o->style, "path") == 0;
    if (o->style[0] != '\0' && !path && strcmp(o->style, "virtual") != 0)
        return err_set(err, PGS_E_USAGE, "the store's style is neither path nor virtual");
    if (o->style[0] == '\0')
        path = !host_is_amazons(c->host);
    /* A certificate for *.host covers no dots of a bucket's name. */
    c->path_style = path || (c->tls && strchr(c->bucket, '.') != NULL);
    return 0;
}

static int
rest_read(const struct options *o, struct s3_config *c, struct pgs_err *err)
{
    const char *ca_file = o->ca_file[0] != '\0' ? o->ca_file : getenv("AWS_CA_BUNDLE");
    if (o->fencing[0] != '\0' && strcmp(o->fencing, "on") != 0 && strcmp(o->fencing, "off") != 0)
        return err_set(err, PGS_E_USAGE, "the store's fencing is neither on nor off");
    if (o->sse[0] != '\0' && strcmp(o->sse, "AES256") != 0 && strcmp(o->sse, "aws:kms") != 0)
        return err_set(err, PGS_E_USAGE, "the store's sse is neither AES256 nor aws:kms");
    if (o->sse_kms_key[0] != '\0' && strcmp(o->sse, "aws:kms") != 0)
        return err_set(err, PGS_E_USAGE, "the store's sse_kms_key goes with sse aws:kms alone");
    if (ca_file != NULL && strlen(ca_file) >= sizeof(c->ca_file))
        return err_set(err, PGS_E_USAGE, "the store's ca_file has too long a name");
    c->unfenced = strcmp(o->fencing, "off") == 0;
    snprintf(c->ca_file, sizeof(c->ca_file), "%s", ca_file != NULL ? ca_file : "");
    snprintf(c->storage_class, sizeof(c->storage_class), "%s", o->storage_class);
    snprintf(c->sse, sizeof(c->sse), "%s", o->sse);
    snprintf(c->sse_kms_key, sizeof(c->sse_kms_key), "%s", o->sse_kms_key);
    return 0;
}

int
s3_config_parse(const char *url, struct s3_config *config, struct pgs_err *err)
{
    struct s3_config c = { 0 };
    struct options o = { 0 };
    pgs_assert(strncmp(url, SCHEME, strlen(SCHEME)) == 0);
    const char *bucket = url + strlen(SCHEME);
    size_t bucket_size = strcspn(bucket, "/?");
    const char *prefix = bucket + bucket_size;
    size_t prefix_size = strcspn(prefix, "?");
    const char *query = prefix + prefix_size;
    int rc = options_read(*query == '?' ? query + 1 : query, &o, err);
    if (rc == 0)
        rc = bucket_read(bucket, bucket_size, &c, err);
    if (rc == 0)
        rc = prefix_read(prefix, prefix_size, &c, err);
    if (rc == 0)
        rc = region_read(&o, &c, err);
    if (rc == 0)
        rc = endpoint_read(&o, &c, err);
    if (rc == 0)
        rc = style_read(&o, &c, err);
    if (rc == 0)
        rc = rest_read(&o, &c, err);
    if (rc == 0)
        *config = c;
    return rc;
}
