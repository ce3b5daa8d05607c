/* scan_changed_keys.c: which keys changed, from runs of changes alone, and which of them are a
 * tenant's. */
#include "strata/scan.h"

#include "core/err.h"

#include <stdlib.h>

struct changed_key {
    struct slice key;
    bool own; /* from the tenant's own runs */
};

struct key_list {
    struct arena *arena;
    struct changed_key *items;
    size_t count, capacity;
};

static void
key_add(struct key_list *l, struct slice key, bool own)
{
    if (l->count > 0 && slice_equal(l->items[l->count - 1].key, key)) {
        l->items[l->count - 1].own |= own;
        return;
    }
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 1024 : l->capacity * 2;
        struct changed_key *items = realloc(l->items, l->capacity * sizeof(*items));
        if (items == NULL)
            abort();
        l->items = items;
    }
    l->items[l->count++] = (struct changed_key){ arena_dup(l->arena, key), own };
}

static int
key_order(const void *a, const void *b)
{
    const struct changed_key *x = a, *y = b;
    return slice_compare(x->key, y->key);
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
            key_add(keys, v.key, run->id.tenant.scope != SCOPE_TOMBSTONES);
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

/* Sorts, and gives each key once; it is the tenant's own when one of its occurrences is. */
static void
keys_unite(struct key_list *l, struct changed_keys *out)
{
    if (l->count > 1)
        qsort(l->items, l->count, sizeof(*l->items), key_order);
    out->keys = arena_alloc_array(l->arena, l->count + 1, sizeof(*out->keys));
    out->own = arena_alloc_array(l->arena, l->count + 1, sizeof(*out->own));
    out->count = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct changed_key *k = &l->items[i];
        if (out->count > 0 && slice_equal(out->keys[out->count - 1], k->key)) {
            out->own[out->count - 1] |= k->own;
            continue;
        }
        out->keys[out->count] = k->key;
        out->own[out->count++] = k->own;
    }
}

int
scan_changed_keys(struct archive *a, const struct tenant *tenant, uint32_t table_oid,
                  struct pgs_lsn_range range, struct arena *arena, struct changed_keys *changed,
                  struct pgs_err *err)
{
    const struct tenant tombstones = { .scope = SCOPE_TOMBSTONES, .key = slice_of("", 0) };
    struct key_list list = { .arena = arena };
    struct segment **segments;
    size_t count;
    bool truncated = false;
    int rc = archive_segments(a, range, arena, &segments, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = segment_keys(segments[i], tenant, table_oid, range, &list, &truncated, err);
        if (rc == 0)
            rc = segment_keys(segments[i], &tombstones, table_oid, range, &list, &truncated, err);
    }
    if (rc == 0) {
        changed->truncated = truncated;
        keys_unite(&list, changed);
    }
    free(list.items);
    return rc;
}

int
scan_held_keys(struct archive *a, const struct scan_opts *opts, struct arena *arena,
               struct slice **keys, size_t *count, struct pgs_err *err)
{
    struct slice *held = arena_alloc_array(arena, opts->key_count + 1, sizeof(*held));
    struct scan *scan = NULL;
    struct version v;
    size_t next = 0, n = 0;
    bool base;
    int rc = scan_open(a, opts, &scan, err);
    while (rc == 0 && (rc = scan_next(scan, &v, &base, err)) == 0) {
        if (n > 0 && slice_equal(held[n - 1], v.key))
            continue;
        while (!slice_equal(opts->keys[next], v.key))
            next++;
        held[n++] = opts->keys[next];
    }
    scan_close(scan);
    if (rc < 0)
        return rc;
    *keys = held;
    *count = n;
    return 0;
}
