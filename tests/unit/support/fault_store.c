#include "support/fault_store.h"

#include "core/err.h"

#include <stdatomic.h>
#include <stdlib.h>

struct fault_store {
    struct store base;
    struct store *inner;
    atomic_size_t calls;
    /* The script: calls numbered first to last. */
    enum fault_kind kind;
    size_t first, last;
    void (*on_delay)(void *context);
    void *context;
};

struct fault_upload {
    struct store_upload base;
    struct store_upload *inner;
};

static struct fault_store *
fault_of(struct store *s)
{
    return (struct fault_store *)s;
}

/* Counts a call and says what happens to it. */
static enum fault_kind
call_begin(struct fault_store *s)
{
    size_t number = atomic_fetch_add(&s->calls, 1) + 1;
    enum fault_kind kind = number >= s->first && number <= s->last ? s->kind : FAULT_NONE;
    if (kind == FAULT_DELAY)
        s->on_delay(s->context);
    return kind;
}

static int
failure(struct pgs_err *err)
{
    return err_set(err, PGS_E_STORE, "the fault store was told to fail");
}

/* The answer of a call that the inner store has answered with rc. */
static int
call_end(enum fault_kind kind, int rc, struct pgs_err *err)
{
    return kind == FAULT_LOSE_ANSWER ? failure(err) : rc;
}

static struct slice
halved(enum fault_kind kind, struct slice bytes)
{
    return kind == FAULT_TRUNCATE ? slice_of(bytes.data, bytes.size / 2) : bytes;
}

static int
fault_put(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    if (kind == FAULT_FAIL)
        return failure(err);
    return call_end(kind, store_put(s->inner, name, halved(kind, bytes), err), err);
}

static int
fault_put_if_absent(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    if (kind == FAULT_FAIL)
        return failure(err);
    return call_end(kind, store_put_if_absent(s->inner, name, halved(kind, bytes), err), err);
}

static int
fault_get(struct store *base, const char *name, const struct store_range *range, struct buf *out,
          struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    size_t before = out->size;
    if (kind == FAULT_FAIL)
        return failure(err);
    int rc = store_get(s->inner, name, range, out, err);
    if (kind == FAULT_TRUNCATE)
        out->size -= (out->size - before) / 2;
    if (kind == FAULT_LOSE_ANSWER)
        out->size = before; /* out parameters change on success only */
    return call_end(kind, rc, err);
}

static int
fault_head(struct store *base, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    if (kind == FAULT_FAIL || kind == FAULT_LOSE_ANSWER)
        return failure(err);
    return store_head(s->inner, name, stat, err);
}

static int
fault_list(struct store *base, const char *prefix, const char *after, store_list_fn *fn,
           void *context, struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    if (kind == FAULT_FAIL)
        return failure(err);
    return call_end(kind, store_list(s->inner, prefix, after, fn, context, err), err);
}

static int
fault_remove(struct store *base, const char *name, struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    if (kind == FAULT_FAIL)
        return failure(err);
    return call_end(kind, store_remove(s->inner, name, err), err);
}

static int
fault_upload_begin(struct store *base, const char *name, struct store_upload **upload,
                   struct pgs_err *err)
{
    struct fault_store *s = fault_of(base);
    enum fault_kind kind = call_begin(s);
    struct store_upload *inner = NULL;
    /* A begun upload is visible to nobody, so a lost answer is no different from a failure. */
    if (kind == FAULT_FAIL || kind == FAULT_LOSE_ANSWER)
        return failure(err);
    int rc = store_upload_begin(s->inner, name, &inner, err);
    if (rc < 0)
        return rc;
    struct fault_upload *u = calloc(1, sizeof(*u));
    if (u == NULL)
        abort();
    u->base.store = base;
    u->inner = inner;
    *upload = &u->base;
    return 0;
}

static int
fault_upload_write(struct store_upload *base, struct slice bytes, struct pgs_err *err)
{
    struct fault_upload *u = (struct fault_upload *)base;
    enum fault_kind kind = call_begin(fault_of(base->store));
    if (kind == FAULT_FAIL)
        return failure(err);
    return call_end(kind, store_upload_write(u->inner, halved(kind, bytes), err), err);
}

static void
fault_upload_abort(struct store_upload *base)
{
    struct fault_upload *u = (struct fault_upload *)base;
    store_upload_abort(u->inner);
    free(u);
}

static int
fault_upload_finish(struct store_upload *base, struct pgs_err *err)
{
    struct fault_upload *u = (struct fault_upload *)base;
    enum fault_kind kind = call_begin(fault_of(base->store));
    if (kind == FAULT_FAIL) {
        fault_upload_abort(base);
        return failure(err);
    }
    int rc = store_upload_finish(u->inner, err);
    free(u);
    return call_end(kind, rc, err);
}

static void
fault_close(struct store *base)
{
    free(fault_of(base));
}

static const struct store_ops fault_ops = {
    .scheme = "fault",
    .put = fault_put,
    .put_if_absent = fault_put_if_absent,
    .get = fault_get,
    .head = fault_head,
    .list = fault_list,
    .remove = fault_remove,
    .upload_begin = fault_upload_begin,
    .upload_write = fault_upload_write,
    .upload_finish = fault_upload_finish,
    .upload_abort = fault_upload_abort,
    .close = fault_close,
};

struct store *
fault_store_new(struct store *inner)
{
    struct fault_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->base.ops = &fault_ops;
    s->inner = inner;
    return &s->base;
}

static void
script_set(struct store *s, enum fault_kind kind, size_t nth, bool all)
{
    struct fault_store *f = fault_of(s);
    f->kind = kind;
    f->first = atomic_load(&f->calls) + nth;
    f->last = all ? SIZE_MAX : f->first;
}

void
fault_store_next(struct store *s, enum fault_kind kind, size_t nth)
{
    script_set(s, kind, nth, false);
}

void
fault_store_from(struct store *s, enum fault_kind kind, size_t nth)
{
    script_set(s, kind, nth, true);
}

void
fault_store_on_delay(struct store *s, void (*fn)(void *context), void *context)
{
    fault_of(s)->on_delay = fn;
    fault_of(s)->context = context;
}

size_t
fault_store_calls(struct store *s)
{
    return atomic_load(&fault_of(s)->calls);
}
