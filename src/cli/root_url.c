#include "cli/root_url.h"

#include "core/err.h"
#include "store/percent.h"
#include "store/s3_config.h"

#include <string.h>

#define SCHEME "s3://"

static bool
is_s3(const char *url)
{
    return url != NULL && strncmp(url, SCHEME, strlen(SCHEME)) == 0;
}

static void
option_add(struct buf *url, const char *name, const char *value)
{
    if (value == NULL)
        return;
    buf_printf(url, "%s=", name);
    percent_encode(url, value, false);
    buf_put_u8(url, '&');
}

static void
options_add(struct buf *url, const struct root_settings *s)
{
    option_add(url, "endpoint", s->endpoint);
    option_add(url, "region", s->region);
    option_add(url, "style", s->style);
    option_add(url, "ca_file", s->ca_file);
    option_add(url, "storage_class", s->storage_class);
    option_add(url, "sse", s->sse);
    option_add(url, "sse_kms_key", s->sse_kms_key);
    option_add(url, "fencing", s->unfenced ? "off" : NULL);
}

int
root_url_build(const struct root_settings *settings, struct arena *arena, const char **root_url,
               struct pgs_err *err)
{
    struct s3_config checked;
    struct buf full = { 0 };
    const char *url = settings->s3_url != NULL ? settings->s3_url : settings->dir;
    const char *key = settings->s3_url != NULL ? "BACKUP_S3_URL" : "BACKUP_DIR";
    if (settings->s3_url != NULL && !is_s3(url)) {
        (void)err_set(err, PGS_E_USAGE, "BACKUP_S3_URL does not begin with s3://");
        return err_hint(err, "give it as s3://bucket/prefix, and the server as BACKUP_S3_ENDPOINT");
    }
    if (!is_s3(url)) {
        *root_url = url;
        return 0;
    }
    size_t place = strcspn(url, "?");
    buf_printf(&full, "%.*s?", (int)place, url);
    options_add(&full, settings);
    buf_put_str(&full, url[place] == '?' ? url + place + 1 : "");
    int rc = s3_config_parse(buf_cstr(&full), &checked, err);
    if (rc == 0)
        *root_url = arena_strdup(arena, buf_cstr(&full));
    buf_release(&full);
    return rc < 0 ? err_doing(err, "use %s", key) : 0;
}
