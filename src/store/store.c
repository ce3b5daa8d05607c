/* store.c: names are checked here, once for every driver. */
#include "store/store.h"

#include "core/arena.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "store/file_store.h"
#include "store/name.h"
#include "store/s3_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PREFIX_MAX 256

static bool
chars_are_plain(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

bool
store_name_part_is_plain(const char *part, size_t size)
{
    bool dots = (size == 1 && part[0] == '.') || (size == 2 && memcmp(part, "..", 2) == 0);
    return size > 0 && !dots && chars_are_plain(part, size);
}

/* Whether everything up to the last slash is plain; *last is what follows it. */
static bool
folders_are_plain(const char *name, const char **last)
{
    const char *slash;
    for (*last = name; (slash = strchr(*last, '/')) != NULL; *last = slash + 1) {
        if (!store_name_part_is_plain(*last, (size_t)(slash - *last)))
            return false;
    }
    return true;
}

static int
name_check(const char *name, struct pgs_err *err)
{
    const char *last;
    if (strlen(name) <= STORE_NAME_MAX && folders_are_plain(name, &last) &&
        store_name_part_is_plain(last, strlen(last)))
        return 0;
    return err_set(err, PGS_E_USAGE, "\"%.100s\" is no name of an object", name);
}

/* A prefix, or where a listing goes on, may end in the middle of a part. */
static int
prefix_check(const char *prefix, struct pgs_err *err)
{
    const char *last;
    if (strlen(prefix) <= STORE_NAME_MAX && folders_are_plain(prefix, &last) &&
        chars_are_plain(last, strlen(last)))
        return 0;
    return err_set(err, PGS_E_USAGE, "\"%.100s\" is no beginning of a name", prefix);
}

int
store_open(const char *url, struct store **store, struct pgs_err *err)
{
    const char *scheme_end = strstr(url, "://");
    bool is_file = strncmp(url, "file:///", 8) == 0;
    if (strncmp(url, "s3://", 5) == 0)
        return s3_store_open(url, store, err);
    if (url[0] == '\0' || (!is_file && scheme_end != NULL)) {
        /* The scheme alone: what follows may hold a secret. */
        int size = scheme_end != NULL ? (int)(scheme_end - url) : 0;
        (void)err_set(err, PGS_E_USAGE, "store \"%.*s\" is none that this version knows", size,
                      url);
        return err_hint(err, "give a folder, file:///folder or s3://bucket/prefix");
    }
    return file_store_open(is_file ? url + strlen("file://") : url, store, err);
}

void
store_close(struct store *s)
{
    if (s != NULL)
        s->ops->close(s);
}

void
store_interrupt(struct store *s)
{
    if (s->ops->interrupt != NULL)
        s->ops->interrupt(s);
}

int
store_put(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->put(s, name, bytes, err);
}

int
store_put_if_absent(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->put_if_absent(s, name, bytes, err);
}

int
store_get(struct store *s, const char *name, const struct store_range *range, struct buf *out,
          struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->get(s, name, range, out, err);
}

int
store_head(struct store *s, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->head(s, name, stat, err);
}

int
store_list(struct store *s, const char *prefix, const char *after, store_list_fn *fn, void *context,
           struct pgs_err *err)
{
    int rc = prefix_check(prefix, err);
    if (rc == 0 && after != NULL)
        rc = prefix_check(after, err);
    return rc < 0 ? rc : s->ops->list(s, prefix, after, fn, context, err);
}

int
store_remove(struct store *s, const char *name, struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->remove(s, name, err);
}

int
store_remove_many(struct store *s, const char *const *names, size_t count, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = name_check(names[i], err);
    if (rc == 0 && s->ops->remove_many != NULL && count > 0)
        return s->ops->remove_many(s, names, count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = s->ops->remove(s, names[i], err);
    return rc;
}

int
store_upload_begin(struct store *s, const char *name, struct store_upload **upload,
                   struct pgs_err *err)
{
    int rc = name_check(name, err);
    return rc < 0 ? rc : s->ops->upload_begin(s, name, upload, err);
}

int
store_upload_write(struct store_upload *u, struct slice bytes, struct pgs_err *err)
{
    return u->store->ops->upload_write(u, bytes, err);
}

int
store_upload_finish(struct store_upload *u, struct pgs_err *err)
{
    return u->store->ops->upload_finish(u, err);
}

void
store_upload_abort(struct store_upload *u)
{
    if (u != NULL)
        u->store->ops->upload_abort(u);
}

/* --- a view under a prefix --- */

struct prefix_store {
    struct store base;
    struct store *inner;
    char prefix[PREFIX_MAX];
};

struct prefix_name {
    char text[STORE_NAME_MAX + PREFIX_MAX]; /* too long for an object is found by the inner store */
};

static struct prefix_name
full_name(struct store *s, const char *name)
{
    struct prefix_name full;
    snprintf(full.text, sizeof(full.text), "%s%s", ((struct prefix_store *)s)->prefix, name);
    return full;
}

static struct store *
inner_of(struct store *s)
{
    return ((struct prefix_store *)s)->inner;
}

static int
prefix_put(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    return store_put(inner_of(s), full_name(s, name).text, bytes, err);
}

static int
prefix_put_if_absent(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    return store_put_if_absent(inner_of(s), full_name(s, name).text, bytes, err);
}

static int
prefix_get(struct store *s, const char *name, const struct store_range *range, struct buf *out,
           struct pgs_err *err)
{
    return store_get(inner_of(s), full_name(s, name).text, range, out, err);
}

static int
prefix_head(struct store *s, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    return store_head(inner_of(s), full_name(s, name).text, stat, err);
}

struct prefix_list {
    size_t skip;
    store_list_fn *fn;
    void *context;
};

static int
prefix_list_name(void *context, const char *name, const struct store_stat *stat,
                 struct pgs_err *err)
{
    struct prefix_list *l = context;
    return l->fn(l->context, name + l->skip, stat, err);
}

static int
prefix_list(struct store *s, const char *prefix, const char *after, store_list_fn *fn,
            void *context, struct pgs_err *err)
{
    struct prefix_list l = { strlen(((struct prefix_store *)s)->prefix), fn, context };
    struct prefix_name from = full_name(s, after != NULL ? after : "");
    return store_list(inner_of(s), full_name(s, prefix).text, after != NULL ? from.text : NULL,
                      prefix_list_name, &l, err);
}

static int
prefix_remove(struct store *s, const char *name, struct pgs_err *err)
{
    return store_remove(inner_of(s), full_name(s, name).text, err);
}

static int
prefix_remove_many(struct store *s, const char *const *names, size_t count, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    const char **full = arena_alloc_array(scratch, count, sizeof(*full));
    for (size_t i = 0; i < count; i++)
        full[i] = arena_strdup(scratch, full_name(s, names[i]).text);
    int rc = store_remove_many(inner_of(s), full, count, err);
    arena_free(scratch);
    return rc;
}

/* The handle is the inner store's own: its writes need no prefix. */
static int
prefix_upload_begin(struct store *s, const char *name, struct store_upload **upload,
                    struct pgs_err *err)
{
    return store_upload_begin(inner_of(s), full_name(s, name).text, upload, err);
}

static void
prefix_interrupt(struct store *s)
{
    store_interrupt(inner_of(s));
}

static void
prefix_close(struct store *s)
{
    free(s);
}

static const struct store_ops prefix_ops = {
    .scheme = "prefix",
    .put = prefix_put,
    .put_if_absent = prefix_put_if_absent,
    .get = prefix_get,
    .head = prefix_head,
    .list = prefix_list,
    .remove = prefix_remove,
    .remove_many = prefix_remove_many,
    .upload_begin = prefix_upload_begin,
    .interrupt = prefix_interrupt,
    .close = prefix_close,
};

int
store_open_prefix(struct store *inner, const char *prefix, struct store **store,
                  struct pgs_err *err)
{
    const char *last;
    size_t size = strlen(prefix);
    if (size == 0 || size >= PREFIX_MAX || !folders_are_plain(prefix, &last) || *last != '\0')
        return err_set(err, PGS_E_USAGE, "\"%.100s\" is no prefix of names", prefix);
    struct prefix_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->base.ops = &prefix_ops;
    s->inner = inner;
    memcpy(s->prefix, prefix, size + 1);
    *store = &s->base;
    return 0;
}

int
store_probe(struct store *s, struct pgs_err *err)
{
    char name[64];
    snprintf(name, sizeof(name), "probe-%d-%lld", (int)getpid(), (long long)time_now());
    int rc = store_put_if_absent(s, name, slice_str("probe"), err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "object %s is there already", name);
    if (rc < 0)
        return err_doing(err, "probe the store");
    rc = store_put_if_absent(s, name, slice_str("again"), err);
    struct pgs_err ignored;
    int removed = store_remove(s, name, &ignored);
    (void)removed; /* an object left behind is named probe-*, and harms no one */
    if (rc == 0) {
        (void)err_set(err, PGS_E_REFUSED, "the store creates an object twice: it cannot fence");
        return err_hint(err,
                        "use a store that honours conditional create; --unsafe-no-fencing goes "
                        "on where only one `serve` can ever run");
    }
    return rc < 0 ? err_doing(err, "probe the store") : 0;
}
