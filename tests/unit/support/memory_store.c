#include "support/memory_store.h"

#include "core/err.h"

#include <stdlib.h>

struct object {
    char *name;
    struct buf bytes;
};

struct memory_store {
    struct store base;
    struct object *objects; /* in bytewise order of names */
    size_t count, capacity;
    uint64_t bytes_read;
};

struct memory_upload {
    struct store_upload base;
    char *name;
    struct buf bytes;
};

static struct memory_store *
memory_of(struct store *s)
{
    return (struct memory_store *)s;
}

/* Index of the first object whose name is not smaller. */
static size_t
object_place(const struct memory_store *s, const char *name)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(s->objects[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *
object_find(struct memory_store *s, const char *name)
{
    size_t place = object_place(s, name);
    bool there = place < s->count && strcmp(s->objects[place].name, name) == 0;
    return there ? &s->objects[place] : NULL;
}

static void
object_set(struct memory_store *s, const char *name, struct slice bytes)
{
    struct object *o = object_find(s, name);
    if (o == NULL) {
        size_t place = object_place(s, name);
        if (s->count == s->capacity) {
            s->capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
            s->objects = realloc(s->objects, s->capacity * sizeof(*s->objects));
            if (s->objects == NULL)
                abort();
        }
        memmove(&s->objects[place + 1], &s->objects[place],
                (s->count - place) * sizeof(*s->objects));
        s->count++;
        o = &s->objects[place];
        *o = (struct object){ .name = strdup(name) };
    }
    buf_reset(&o->bytes);
    buf_put_slice(&o->bytes, bytes);
}

static int
memory_put(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    (void)err;
    object_set(memory_of(base), name, bytes);
    return 0;
}

static int
memory_put_if_absent(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    (void)err;
    bool taken = object_find(memory_of(base), name) != NULL;
    if (!taken)
        object_set(memory_of(base), name, bytes);
    return taken ? PGS_NONE : 0;
}

static int
memory_get(struct store *base, const char *name, const struct store_range *range, struct buf *out,
           struct pgs_err *err)
{
    struct memory_store *s = memory_of(base);
    struct object *o = object_find(s, name);
    if (o == NULL)
        return PGS_NONE;
    uint64_t total = o->bytes.size, offset = range != NULL ? range->offset : 0;
    uint64_t size = range != NULL ? range->size : 0;
    if (offset > total || size > total - offset)
        return err_set(err, PGS_E_CORRUPT, "object %s is too short", name);
    size = size != 0 ? size : total - offset;
    buf_put(out, o->bytes.data + offset, size);
    s->bytes_read += size;
    return 0;
}

static int
memory_head(struct store *base, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    (void)err;
    struct object *o = object_find(memory_of(base), name);
    if (o == NULL)
        return PGS_NONE;
    *stat = (struct store_stat){ .size = o->bytes.size };
    return 0;
}

static int
memory_list(struct store *base, const char *prefix, const char *after, store_list_fn *fn,
            void *context, struct pgs_err *err)
{
    struct memory_store *s = memory_of(base);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->count; i++) {
        const struct object *o = &s->objects[i];
        struct store_stat stat = { .size = o->bytes.size };
        if (strncmp(o->name, prefix, strlen(prefix)) == 0 &&
            (after == NULL || strcmp(o->name, after) > 0))
            rc = fn(context, o->name, &stat, err);
    }
    return rc < 0 ? rc : 0;
}

static int
memory_remove(struct store *base, const char *name, struct pgs_err *err)
{
    (void)err;
    struct memory_store *s = memory_of(base);
    struct object *o = object_find(s, name);
    if (o != NULL) {
        free(o->name);
        buf_release(&o->bytes);
        size_t behind = (size_t)(&s->objects[s->count] - o) - 1;
        memmove(o, o + 1, behind * sizeof(*o));
        s->count--;
    }
    return 0;
}

static int
memory_upload_begin(struct store *base, const char *name, struct store_upload **upload,
                    struct pgs_err *err)
{
    (void)err;
    struct memory_upload *u = calloc(1, sizeof(*u));
    if (u == NULL)
        abort();
    u->base.store = base;
    u->name = strdup(name);
    *upload = &u->base;
    return 0;
}

static int
memory_upload_write(struct store_upload *base, struct slice bytes, struct pgs_err *err)
{
    (void)err;
    buf_put_slice(&((struct memory_upload *)base)->bytes, bytes);
    return 0;
}

static void
memory_upload_abort(struct store_upload *base)
{
    struct memory_upload *u = (struct memory_upload *)base;
    buf_release(&u->bytes);
    free(u->name);
    free(u);
}

static int
memory_upload_finish(struct store_upload *base, struct pgs_err *err)
{
    (void)err;
    struct memory_upload *u = (struct memory_upload *)base;
    object_set(memory_of(base->store), u->name, buf_slice(&u->bytes));
    memory_upload_abort(base);
    return 0;
}

static void
memory_close(struct store *base)
{
    struct memory_store *s = memory_of(base);
    for (size_t i = 0; i < s->count; i++) {
        free(s->objects[i].name);
        buf_release(&s->objects[i].bytes);
    }
    free(s->objects);
    free(s);
}

static const struct store_ops memory_ops = {
    .scheme = "memory",
    .put = memory_put,
    .put_if_absent = memory_put_if_absent,
    .get = memory_get,
    .head = memory_head,
    .list = memory_list,
    .remove = memory_remove,
    .upload_begin = memory_upload_begin,
    .upload_write = memory_upload_write,
    .upload_finish = memory_upload_finish,
    .upload_abort = memory_upload_abort,
    .close = memory_close,
};

struct store *
memory_store_new(void)
{
    struct memory_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->base.ops = &memory_ops;
    return &s->base;
}

size_t
memory_store_count(const struct store *s)
{
    return ((const struct memory_store *)s)->count;
}

struct buf *
memory_store_object(struct store *s, const char *name)
{
    struct object *o = object_find(memory_of(s), name);
    return o != NULL ? &o->bytes : NULL;
}

const char *
memory_store_name(const struct store *s, size_t index)
{
    return ((const struct memory_store *)s)->objects[index].name;
}

uint64_t
memory_store_bytes_read(const struct store *s)
{
    return ((const struct memory_store *)s)->bytes_read;
}
