/* scan.c: a k-way merge over run cursors.
 *
 * Active cursors (the tenant's own runs of base and changes) sit in a binary heap by (key, commit
 * LSN, sequence). The smallest key becomes the current one. Passive cursors (tombstones) are only
 * asked for keys that active ones have, in ascending order: they seek, and skip blocks that cannot
 * hold the key. Truncates are few, read once, and interleaved with the versions of every key. */
#include "strata/scan.h"

#include "core/err.h"

#include <stdlib.h>

struct source {
    struct run_cursor *cursor;
    struct version head;
    bool has_head;
    bool base;
};

struct scan {
    struct scan_opts opts;
    struct arena *arena;
    struct source *active;
    size_t active_count;
    struct source **heap;
    size_t heap_count;
    struct source *passive;
    size_t passive_count;
    struct version *truncates; /* in order */
    size_t truncate_count, next_truncate;
    struct buf key; /* the current key */
    bool in_key;
    size_t next_key;      /* into opts.keys */
    struct source *given; /* the source whose head the last answer was: to be advanced */
};

static bool
source_less(const struct source *a, const struct source *b)
{
    int order = slice_compare(a->head.key, b->head.key);
    if (order != 0)
        return order < 0;
    if (a->base != b->base)
        return a->base;
    return version_compare(&a->head, &b->head) < 0;
}

static void
heap_down(struct scan *s, size_t i)
{
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < s->heap_count && source_less(s->heap[left], s->heap[least]))
            least = left;
        if (right < s->heap_count && source_less(s->heap[right], s->heap[least]))
            least = right;
        if (least == i)
            return;
        struct source *swap = s->heap[i];
        s->heap[i] = s->heap[least];
        s->heap[least] = swap;
        i = least;
    }
}

static bool
in_range(const struct scan *s, const struct source *source, const struct version *v)
{
    return source->base ||
           (v->commit_lsn >= s->opts.coverage->base_lsn && v->commit_lsn < s->opts.to);
}

/* The next version of the source that counts; none: has_head false. */
static int
source_advance(struct scan *s, struct source *source, struct pgs_err *err)
{
    int rc;
    source->has_head = false;
    while ((rc = run_cursor_next(source->cursor, &source->head, err)) == 0) {
        if (in_range(s, source, &source->head)) {
            source->has_head = true;
            return 0;
        }
    }
    return rc < 0 ? rc : 0;
}

static int
runs_open(struct scan *s, struct segment *segment, const struct tenant *tenant, bool base,
          struct source **list, size_t *count, struct pgs_err *err)
{
    struct run_ref *runs;
    size_t run_count;
    int rc = segment_find(segment, tenant, s->opts.table_oid, s->arena, &runs, &run_count, err);
    for (size_t i = 0; rc == 0 && i < run_count; i++) {
        if (!base &&
            (runs[i].lsn.end <= s->opts.coverage->base_lsn || runs[i].lsn.begin >= s->opts.to))
            continue;
        /* Coverage promises one shape; truncates and tombstones have keys only. */
        if (runs[i].id.shape_id != s->opts.coverage->shape_id)
            return err_set(err, PGS_E_CORRUPT,
                           "segment %s: table %u has another shape than its base",
                           segment_name(segment), s->opts.table_oid);
        struct source *grown = arena_alloc_array(s->arena, *count + 1, sizeof(*grown));
        if (*count > 0)
            memcpy(grown, *list, *count * sizeof(*grown));
        *list = grown;
        rc = run_cursor_open(segment, &runs[i], &grown[*count].cursor, err);
        grown[*count].base = base;
        *count += rc == 0 ? 1 : 0;
    }
    return rc;
}

static int
sources_open(struct scan *s, struct archive *a, struct pgs_err *err)
{
    const struct tenant tombstones = { .scope = SCOPE_TOMBSTONES, .key = slice_of("", 0) };
    struct segment **segments;
    size_t count;
    int rc = archive_base_segments(a, s->opts.coverage, s->arena, &segments, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = runs_open(s, segments[i], &s->opts.tenant, true, &s->active, &s->active_count, err);
    if (rc == 0)
        rc = archive_segments(a, (struct pgs_lsn_range){ s->opts.coverage->base_lsn, s->opts.to },
                              s->arena, &segments, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = runs_open(s, segments[i], &s->opts.tenant, false, &s->active, &s->active_count, err);
        if (rc == 0)
            rc = runs_open(s, segments[i], &tombstones, false, &s->passive, &s->passive_count, err);
    }
    return rc;
}

static int
truncate_order(const void *a, const void *b)
{
    return version_compare(a, b);
}

/* Truncates have the empty key: they come first in their run. Then each passive source stands at
 * its first tombstone. */
static int
truncates_read(struct scan *s, struct pgs_err *err)
{
    for (size_t i = 0; i < s->passive_count; i++) {
        struct source *source = &s->passive[i];
        /* A run without the empty key needs no read for this. */
        if (!run_cursor_may_hold(source->cursor, slice_of("", 0)))
            continue;
        int rc = source_advance(s, source, err);
        while (rc == 0 && source->has_head && source->head.key.size == 0) {
            struct version *grown =
                arena_alloc_array(s->arena, s->truncate_count + 1, sizeof(*grown));
            if (s->truncate_count > 0)
                memcpy(grown, s->truncates, s->truncate_count * sizeof(*grown));
            grown[s->truncate_count++] = source->head;
            s->truncates = grown;
            rc = source_advance(s, source, err);
        }
        if (rc < 0)
            return rc;
    }
    if (s->truncate_count > 1)
        qsort(s->truncates, s->truncate_count, sizeof(*s->truncates), truncate_order);
    return 0;
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
    if (rc == 0)
        rc = truncates_read(s, err);
    s->heap = arena_alloc_array(s->arena, s->active_count + 1, sizeof(struct source *));
    for (size_t i = 0; rc == 0 && opts->keys == NULL && i < s->active_count; i++) {
        rc = source_advance(s, &s->active[i], err);
        if (rc == 0 && s->active[i].has_head)
            s->heap[s->heap_count++] = &s->active[i];
    }
    for (size_t i = s->heap_count; i-- > 0;)
        heap_down(s, i);
    if (rc < 0) {
        scan_close(s);
        return rc;
    }
    *scan = s;
    return 0;
}

void
scan_close(struct scan *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->active_count; i++)
        run_cursor_close(s->active[i].cursor);
    for (size_t i = 0; i < s->passive_count; i++)
        run_cursor_close(s->passive[i].cursor);
    arena_free(s->arena);
    buf_release(&s->key);
    free(s);
}

/* Brings a source to the key: its head is the first version with key >= ours, when it may hold
 * it. */
static int
source_seek(struct scan *s, struct source *source, struct slice key, struct pgs_err *err)
{
    while (source->has_head && slice_compare(source->head.key, key) < 0) {
        source->has_head = false;
        int rc = run_cursor_seek(source->cursor, key, err);
        if (rc < 0)
            return rc;
        if (!run_cursor_may_hold(source->cursor, key))
            return 0;
        rc = source_advance(s, source, err);
        if (rc < 0)
            return rc;
    }
    if (source->has_head)
        return 0;
    int rc = run_cursor_seek(source->cursor, key, err);
    if (rc < 0 || !run_cursor_may_hold(source->cursor, key))
        return rc;
    return source_advance(s, source, err);
}

static void
key_begin(struct scan *s, struct slice key)
{
    buf_reset(&s->key);
    buf_put_slice(&s->key, key);
    s->next_truncate = 0;
    s->in_key = true;
}

static int
passive_seek(struct scan *s, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->passive_count; i++)
        rc = source_seek(s, &s->passive[i], buf_slice(&s->key), err);
    return rc;
}

/* With opts.keys every source seeks; the heap holds the active ones that have the key. */
static int
next_wanted_key(struct scan *s, struct pgs_err *err)
{
    while (s->next_key < s->opts.key_count) {
        struct slice key = s->opts.keys[s->next_key++];
        s->heap_count = 0;
        for (size_t i = 0; i < s->active_count; i++) {
            int rc = source_seek(s, &s->active[i], key, err);
            if (rc < 0)
                return rc;
            if (s->active[i].has_head && slice_equal(s->active[i].head.key, key))
                s->heap[s->heap_count++] = &s->active[i];
        }
        for (size_t i = s->heap_count; i-- > 0;)
            heap_down(s, i);
        if (s->heap_count > 0) {
            key_begin(s, key);
            return passive_seek(s, err);
        }
    }
    return PGS_NONE;
}

static int
next_key(struct scan *s, struct pgs_err *err)
{
    if (s->opts.keys != NULL)
        return next_wanted_key(s, err);
    if (s->heap_count == 0)
        return PGS_NONE;
    key_begin(s, s->heap[0]->head.key);
    return passive_seek(s, err);
}

static bool
at_key(const struct scan *s, const struct source *source)
{
    return source->has_head && slice_equal(source->head.key, buf_slice(&s->key));
}

/* Takes the last answer's version away; in the heap the source sinks or leaves. */
static int
given_advance(struct scan *s, struct pgs_err *err)
{
    struct source *source = s->given;
    s->given = NULL;
    if (source == NULL)
        return 0;
    int rc = source_advance(s, source, err);
    if (rc < 0 || s->heap_count == 0 || s->heap[0] != source)
        return rc;
    bool leaves = !source->has_head || (s->opts.keys != NULL && !at_key(s, source));
    if (leaves)
        s->heap[0] = s->heap[--s->heap_count];
    heap_down(s, 0);
    return 0;
}

/* The smallest of: the heap's first, passive heads and the next truncate, all of the current
 * key. */
static struct source *
pick(struct scan *s, const struct version **truncate)
{
    struct source *best = s->heap_count > 0 && at_key(s, s->heap[0]) ? s->heap[0] : NULL;
    *truncate = NULL;
    if (best != NULL && best->base)
        return best;
    for (size_t i = 0; i < s->passive_count; i++) {
        struct source *p = &s->passive[i];
        if (at_key(s, p) && (best == NULL || version_compare(&p->head, &best->head) < 0))
            best = p;
    }
    if (s->next_truncate < s->truncate_count) {
        const struct version *t = &s->truncates[s->next_truncate];
        bool first = best == NULL || t->commit_lsn < best->head.commit_lsn ||
                     (t->commit_lsn == best->head.commit_lsn && t->sequence < best->head.sequence);
        if (first)
            *truncate = t;
    }
    return *truncate != NULL ? NULL : best;
}

int
scan_next(struct scan *s, struct version *v, bool *from_base, struct pgs_err *err)
{
    int rc = given_advance(s, err);
    if (rc < 0)
        return rc;
    for (;;) {
        const struct version *truncate;
        if (!s->in_key) {
            rc = next_key(s, err);
            if (rc != 0)
                return rc;
        }
        struct source *source = pick(s, &truncate);
        if (truncate != NULL) {
            s->next_truncate++;
            *v = *truncate;
            v->key = buf_slice(&s->key);
            *from_base = false;
            return 0;
        }
        if (source != NULL) {
            s->given = source;
            *v = source->head;
            *from_base = source->base;
            return 0;
        }
        s->in_key = false;
    }
}

/* --- changed keys --- */

struct key_list {
    struct arena *arena;
    struct slice *items;
    size_t count, capacity;
};

static void
key_add(struct key_list *l, struct slice key)
{
    if (l->count > 0 && slice_equal(l->items[l->count - 1], key))
        return;
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 1024 : l->capacity * 2;
        struct slice *items = realloc(l->items, l->capacity * sizeof(*items));
        if (items == NULL)
            abort();
        l->items = items;
    }
    l->items[l->count++] = arena_dup(l->arena, key);
}

static int
key_order(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static int
run_keys(struct segment *segment, const struct run_ref *run, struct pgs_lsn_range range,
         struct key_list *keys, bool *truncated, struct pgs_err *err)
{
    struct run_cursor *c = NULL;
    struct version v;
    int rc = run_cursor_open(segment, run, &c, err);
    while (rc == 0 && (rc = run_cursor_next(c, &v, err)) == 0) {
        if (v.commit_lsn < range.begin || v.commit_lsn >= range.end)
            continue;
        if (v.op == VERSION_TRUNCATE)
            *truncated = true;
        else
            key_add(keys, v.key);
    }
    run_cursor_close(c);
    return rc < 0 ? rc : 0;
}

static int
segment_keys(struct segment *segment, const struct tenant *tenant, uint32_t table_oid,
             struct pgs_lsn_range range, struct key_list *keys, bool *truncated,
             struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t count;
    int rc = segment_find(segment, tenant, table_oid, scratch, &runs, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (runs[i].lsn.begin < range.end && runs[i].lsn.end > range.begin)
            rc = run_keys(segment, &runs[i], range, keys, truncated, err);
    }
    arena_free(scratch);
    return rc;
}

int
scan_changed_keys(struct archive *a, const struct tenant *tenant, uint32_t table_oid,
                  struct pgs_lsn_range range, struct arena *arena, struct slice **keys,
                  size_t *count, bool *truncated, struct pgs_err *err)
{
    const struct tenant tombstones = { .scope = SCOPE_TOMBSTONES, .key = slice_of("", 0) };
    struct key_list list = { .arena = arena };
    struct segment **segments;
    size_t segment_count, n = 0;
    bool any_truncate = false;
    int rc = archive_segments(a, range, arena, &segments, &segment_count, err);
    for (size_t i = 0; rc == 0 && i < segment_count; i++) {
        rc = segment_keys(segments[i], tenant, table_oid, range, &list, &any_truncate, err);
        if (rc == 0)
            rc =
                segment_keys(segments[i], &tombstones, table_oid, range, &list, &any_truncate, err);
    }
    if (list.count > 1)
        qsort(list.items, list.count, sizeof(*list.items), key_order);
    struct slice *unique = arena_alloc_array(arena, list.count + 1, sizeof(*unique));
    for (size_t i = 0; i < list.count; i++) {
        if (n == 0 || !slice_equal(unique[n - 1], list.items[i]))
            unique[n++] = list.items[i];
    }
    free(list.items);
    if (rc < 0)
        return rc;
    *keys = unique;
    *count = n;
    *truncated = any_truncate;
    return 0;
}
