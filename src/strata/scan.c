/* scan.c: a k-way merge over run cursors, key by key.
 *
 *   1. Each source (a run of the base, of the tenant's changes, of tombstones) has a bound: no
 *      later version of it has a smaller key. Two heaps, `active` and `tombstones`, have the
 *      sources by bound.
 *   2. The next key is the smallest among the active sources, or the next one that was asked for.
 *      Sources whose bound is not behind it seek it, and those that have it join the heap
 *      `current`, by version. Tombstone sources only ever seek keys that an active source has, so
 *      blocks that hold none of the tenant's keys are never read.
 *   3. `current` gives the key's versions, with the truncates put in between; a source that is
 *      past the key goes back to where it came from.
 *
 * Truncates are few: they are read once, and repeated for every key. */
#include "strata/scan.h"

#include "core/err.h"

#include <stdlib.h>

enum source_kind { SOURCE_BASE, SOURCE_CHANGES, SOURCE_TOMBSTONES };

struct source {
    struct run_cursor *cursor;
    enum source_kind kind;
    bool has_head; /* head is the next version, and bound its key */
    struct version head;
    struct slice bound;
};

typedef bool source_less_fn(const struct source *a, const struct source *b);
struct heap {
    struct source **items;
    size_t count;
    source_less_fn *less;
};

struct scan {
    struct scan_opts opts;
    struct arena *arena;
    struct source *sources;
    size_t source_count, source_capacity;
    struct heap active, tombstones, current;
    struct version *truncates; /* in order */
    size_t truncate_count, next_truncate;
    struct buf key; /* the current key */
    bool in_key;
    size_t next_key;      /* into opts.keys */
    struct source *given; /* whose head the last answer was: to be advanced */
};

/* --- heaps --- */

static bool
bound_less(const struct source *a, const struct source *b)
{
    return slice_compare(a->bound, b->bound) < 0;
}

/* Of one key. A row of the base is older than every change. */
static bool
version_less(const struct source *a, const struct source *b)
{
    if ((a->kind == SOURCE_BASE) != (b->kind == SOURCE_BASE))
        return a->kind == SOURCE_BASE;
    if (a->head.commit_lsn != b->head.commit_lsn)
        return a->head.commit_lsn < b->head.commit_lsn;
    return a->head.sequence < b->head.sequence;
}

static void
heap_swap(struct heap *h, size_t i, size_t j)
{
    struct source *kept = h->items[i];
    h->items[i] = h->items[j];
    h->items[j] = kept;
}

static void
heap_push(struct heap *h, struct source *source)
{
    size_t i = h->count++;
    h->items[i] = source;
    for (; i > 0 && h->less(h->items[i], h->items[(i - 1) / 2]); i = (i - 1) / 2)
        heap_swap(h, i, (i - 1) / 2);
}

static struct source *
heap_top(const struct heap *h)
{
    return h->count > 0 ? h->items[0] : NULL;
}

static struct source *
heap_pop(struct heap *h)
{
    struct source *top = h->items[0];
    h->items[0] = h->items[--h->count];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < h->count && h->less(h->items[left], h->items[least]))
            least = left;
        if (right < h->count && h->less(h->items[right], h->items[least]))
            least = right;
        if (least == i)
            return top;
        heap_swap(h, i, least);
        i = least;
    }
}

/* --- sources --- */

static bool
in_range(const struct scan *s, const struct source *source)
{
    const struct version *v = &source->head;
    return source->kind == SOURCE_BASE ||
           (v->commit_lsn >= s->opts.coverage->base_lsn && v->commit_lsn < s->opts.to);
}

/* Reads the next version that counts; has_head false at the end. */
static int
source_advance(struct scan *s, struct source *source, struct pgs_err *err)
{
    int rc;
    source->has_head = false;
    while ((rc = run_cursor_next(source->cursor, &source->head, err)) == 0) {
        if (in_range(s, source)) {
            source->has_head = true;
            source->bound = source->head.key;
            return 0;
        }
    }
    return rc < 0 ? rc : 0;
}

/* Brings a source to the key: afterwards its head is the first version that counts with key >=
 * ours, or its bound is behind ours, or it has ended: then *ended. */
static int
source_seek(struct scan *s, struct source *source, struct slice key, bool *ended,
            struct pgs_err *err)
{
    *ended = false;
    while (!source->has_head || slice_compare(source->bound, key) < 0) {
        source->has_head = false;
        int rc = run_cursor_seek(source->cursor, key, err);
        if (rc < 0)
            return rc;
        *ended = !run_cursor_bound(source->cursor, &source->bound);
        if (*ended || slice_compare(source->bound, key) > 0)
            return 0;
        rc = source_advance(s, source, err);
        if (rc < 0)
            return rc;
        *ended = !source->has_head;
        if (*ended)
            return 0;
    }
    return 0;
}

static struct heap *
home_of(struct scan *s, const struct source *source)
{
    return source->kind == SOURCE_TOMBSTONES ? &s->tombstones : &s->active;
}

static struct source *
source_add(struct scan *s)
{
    if (s->source_count == s->source_capacity) {
        s->source_capacity = s->source_capacity == 0 ? 16 : 2 * s->source_capacity;
        struct source *grown = realloc(s->sources, s->source_capacity * sizeof(*grown));
        if (grown == NULL)
            abort();
        s->sources = grown;
    }
    struct source *source = &s->sources[s->source_count];
    memset(source, 0, sizeof(*source));
    return source;
}

static bool
run_matters(const struct scan *s, const struct run_ref *run, enum source_kind kind)
{
    return kind == SOURCE_BASE ||
           (run->lsn.end > s->opts.coverage->base_lsn && run->lsn.begin < s->opts.to);
}

static int
runs_open(struct scan *s, struct segment *segment, const struct tenant *tenant,
          enum source_kind kind, struct pgs_err *err)
{
    struct run_ref *runs;
    size_t count;
    int rc = segment_find(segment, tenant, s->opts.table_oid, s->arena, &runs, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (!run_matters(s, &runs[i], kind))
            continue;
        /* Coverage promises one shape. */
        if (runs[i].id.shape_id != s->opts.coverage->shape_id)
            return err_set(err, PGS_E_CORRUPT,
                           "segment %s: table %u has another shape than its base",
                           segment_name(segment), s->opts.table_oid);
        struct source *source = source_add(s);
        source->kind = kind;
        rc = run_cursor_open(segment, &runs[i], &source->cursor, err);
        s->source_count += rc == 0 ? 1 : 0;
    }
    return rc;
}

static int
sources_open(struct scan *s, struct archive *a, struct pgs_err *err)
{
    const struct tenant tombstones = { .scope = SCOPE_TOMBSTONES, .key = slice_of("", 0) };
    const struct pgs_lsn_range range = { s->opts.coverage->base_lsn, s->opts.to };
    struct segment **segments;
    size_t count;
    int rc = archive_base_segments(a, s->opts.coverage, s->arena, &segments, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = runs_open(s, segments[i], &s->opts.tenant, SOURCE_BASE, err);
    if (rc == 0)
        rc = archive_segments(a, range, s->arena, &segments, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = runs_open(s, segments[i], &s->opts.tenant, SOURCE_CHANGES, err);
        if (rc == 0)
            rc = runs_open(s, segments[i], &tombstones, SOURCE_TOMBSTONES, err);
    }
    return rc;
}

/* --- truncates --- */

static int
truncate_order(const void *a, const void *b)
{
    return version_compare(a, b);
}

static void
truncate_add(struct scan *s, const struct version *v)
{
    /* Full at each power of two. */
    if ((s->truncate_count & (s->truncate_count - 1)) == 0) {
        struct version *grown =
            arena_alloc_array(s->arena, s->truncate_count * 2 + 1, sizeof(*grown));
        if (s->truncate_count > 0)
            memcpy(grown, s->truncates, s->truncate_count * sizeof(*grown));
        s->truncates = grown;
    }
    s->truncates[s->truncate_count++] = *v;
}

/* They have the empty key, so they come first in their run: a run that starts behind it is not
 * read. */
static int
truncates_take(struct scan *s, struct source *source, struct pgs_err *err)
{
    int rc = source->bound.size == 0 ? source_advance(s, source, err) : 0;
    while (rc == 0 && source->has_head && source->head.key.size == 0) {
        if (source->head.op != VERSION_TRUNCATE)
            return err_set(err, PGS_E_CORRUPT, "a change of table %u has no key",
                           s->opts.table_oid);
        truncate_add(s, &source->head);
        rc = source_advance(s, source, err);
    }
    return rc;
}

/* --- open and close --- */

static int
source_start(struct scan *s, struct source *source, struct pgs_err *err)
{
    int rc = 0;
    if (!run_cursor_bound(source->cursor, &source->bound))
        return 0;
    if (source->kind == SOURCE_TOMBSTONES)
        rc = truncates_take(s, source, err);
    else if (s->opts.keys == NULL)
        rc = source_advance(s, source, err);
    if (rc < 0)
        return rc;
    bool ended = !source->has_head && !run_cursor_bound(source->cursor, &source->bound);
    if (!ended)
        heap_push(home_of(s, source), source);
    return 0;
}

static void
heap_init(struct scan *s, struct heap *h, source_less_fn *less)
{
    h->items = arena_alloc_array(s->arena, s->source_count + 1, sizeof(struct source *));
    h->less = less;
}

int
scan_open(struct archive *a, const struct scan_opts *opts, struct scan **scan, struct pgs_err *err)
{
    struct scan *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->opts = *opts;
    s->arena = arena_new(NULL);
    int rc = sources_open(s, a, err);
    heap_init(s, &s->active, bound_less);
    heap_init(s, &s->tombstones, bound_less);
    heap_init(s, &s->current, version_less);
    for (size_t i = 0; rc == 0 && i < s->source_count; i++)
        rc = source_start(s, &s->sources[i], err);
    if (rc < 0) {
        scan_close(s);
        return rc;
    }
    if (s->truncate_count > 1)
        qsort(s->truncates, s->truncate_count, sizeof(*s->truncates), truncate_order);
    *scan = s;
    return 0;
}

void
scan_close(struct scan *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->source_count; i++)
        run_cursor_close(s->sources[i].cursor);
    free(s->sources);
    arena_free(s->arena);
    buf_release(&s->key);
    free(s);
}

/* --- key by key --- */

/* Sources of the heap that have the current key move to `current`. */
static int
gather(struct scan *s, struct heap *h, struct pgs_err *err)
{
    struct slice key = buf_slice(&s->key);
    while (h->count > 0 && slice_compare(heap_top(h)->bound, key) <= 0) {
        struct source *source = heap_pop(h);
        bool ended;
        int rc = source_seek(s, source, key, &ended, err);
        if (rc < 0)
            return rc;
        if (ended)
            continue;
        bool has_key = source->has_head && slice_compare(source->bound, key) == 0;
        heap_push(has_key ? &s->current : h, source);
    }
    return 0;
}

static void
key_set(struct scan *s, struct slice key)
{
    buf_reset(&s->key);
    buf_put_slice(&s->key, key);
}

/* The next key that an active source has. */
static int
key_find(struct scan *s, struct pgs_err *err)
{
    if (s->opts.keys == NULL) {
        if (s->active.count == 0)
            return PGS_NONE;
        key_set(s, heap_top(&s->active)->bound); /* heads are read: the bound is a key */
        return gather(s, &s->active, err);
    }
    while (s->next_key < s->opts.key_count) {
        key_set(s, s->opts.keys[s->next_key++]);
        int rc = gather(s, &s->active, err);
        if (rc < 0 || s->current.count > 0)
            return rc;
    }
    return PGS_NONE;
}

static int
key_begin(struct scan *s, struct pgs_err *err)
{
    int rc = key_find(s, err);
    if (rc == 0)
        rc = gather(s, &s->tombstones, err);
    if (rc != 0)
        return rc;
    s->next_truncate = 0;
    s->in_key = true;
    return 0;
}

/* Takes the last answer's version away, and finds its source a new place. */
static int
given_advance(struct scan *s, struct pgs_err *err)
{
    struct source *source = s->given;
    s->given = NULL;
    if (source == NULL)
        return 0;
    int rc = source_advance(s, source, err);
    if (rc < 0 || !source->has_head)
        return rc;
    bool has_key = slice_compare(source->bound, buf_slice(&s->key)) == 0;
    heap_push(has_key ? &s->current : home_of(s, source), source);
    return 0;
}

/* The next truncate when it comes before `source` (NULL: nothing comes). */
static const struct version *
truncate_before(struct scan *s, const struct source *source)
{
    if (s->next_truncate == s->truncate_count || (source != NULL && source->kind == SOURCE_BASE))
        return NULL;
    const struct version *t = &s->truncates[s->next_truncate];
    if (source != NULL &&
        (t->commit_lsn > source->head.commit_lsn ||
         (t->commit_lsn == source->head.commit_lsn && t->sequence > source->head.sequence)))
        return NULL;
    s->next_truncate++;
    return t;
}

int
scan_next(struct scan *s, struct version *v, bool *from_base, struct pgs_err *err)
{
    int rc = given_advance(s, err);
    while (rc == 0) {
        if (!s->in_key && (rc = key_begin(s, err)) != 0)
            break;
        const struct source *source = heap_top(&s->current);
        const struct version *truncate = truncate_before(s, source);
        if (truncate != NULL) {
            *v = *truncate;
            v->key = buf_slice(&s->key);
            *from_base = false;
            return 0;
        }
        if (source != NULL) {
            s->given = heap_pop(&s->current);
            *v = source->head;
            *from_base = source->kind == SOURCE_BASE;
            return 0;
        }
        s->in_key = false;
    }
    return rc;
}
