#include "archiver/batch.h"

#include "core/err.h"
#include "core/hash.h"

#include <stdlib.h>

#define VERSIONS_FIRST ((size_t)1024)
#define RUN_SLOTS_FIRST ((size_t)256)

struct batch *
batch_new(struct budget *budget)
{
    struct batch *b = calloc(1, sizeof(*b));
    if (b == NULL)
        abort();
    b->budget = budget;
    b->arena = arena_new(budget);
    b->notes.time_min = b->notes.time_max = PGS_TIME_NONE;
    return b;
}

void
batch_free(struct batch *b)
{
    if (b == NULL)
        return;
    budget_give(b->budget, b->capacity * sizeof(*b->versions));
    arena_free(b->arena);
    free(b->versions);
    free(b->runs);
    free(b->run_slots);
    free(b->txns);
    free(b);
}

size_t
batch_bytes(const struct batch *b)
{
    return arena_bytes(b->arena) + b->capacity * sizeof(*b->versions);
}

static void *
grow(void *items, size_t *capacity, size_t first, size_t size)
{
    *capacity = *capacity == 0 ? first : *capacity * 2;
    void *grown = realloc(items, *capacity * size);
    if (grown == NULL)
        abort();
    return grown;
}

static uint64_t
run_hash(const struct run_id *run)
{
    uint64_t seed = (uint64_t)run->table_oid << 2 | (uint64_t)run->tenant.scope;
    return hash_bytes(run->tenant.key, seed ^ run->shape_id);
}

static bool
run_same(const struct run_id *a, const struct run_id *b)
{
    return a->table_oid == b->table_oid && a->shape_id == b->shape_id &&
           a->tenant.scope == b->tenant.scope && a->tenant.key.size == b->tenant.key.size &&
           memcmp(a->tenant.key.data, b->tenant.key.data, a->tenant.key.size) == 0;
}

static void
run_slots_grow(struct batch *b)
{
    size_t count = b->run_slot_count == 0 ? RUN_SLOTS_FIRST : b->run_slot_count * 2;
    uint32_t *slots = calloc(count, sizeof(*slots));
    if (slots == NULL)
        abort();
    for (size_t i = 0; i < b->run_count; i++) {
        size_t at = run_hash(&b->runs[i]) & (count - 1);
        while (slots[at] != 0)
            at = (at + 1) & (count - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(b->run_slots);
    b->run_slots = slots;
    b->run_slot_count = count;
}

uint32_t
batch_run(struct batch *b, const struct run_id *run)
{
    if (2 * (b->run_count + 1) > b->run_slot_count)
        run_slots_grow(b);
    size_t mask = b->run_slot_count - 1, at = run_hash(run) & mask;
    for (; b->run_slots[at] != 0; at = (at + 1) & mask) {
        if (run_same(&b->runs[b->run_slots[at] - 1], run))
            return b->run_slots[at] - 1;
    }
    if (b->run_count == b->run_capacity)
        b->runs = grow(b->runs, &b->run_capacity, 64, sizeof(*b->runs));
    b->runs[b->run_count] = *run;
    b->runs[b->run_count].tenant.key = arena_dup(b->arena, run->tenant.key);
    b->run_slots[at] = (uint32_t)++b->run_count;
    return (uint32_t)b->run_count - 1;
}

static uint64_t
key_prefix(struct slice key)
{
    uint8_t bytes[8] = { 0 };
    uint64_t v;
    memcpy(bytes, key.data, key.size < sizeof(bytes) ? key.size : sizeof(bytes));
    memcpy(&v, bytes, sizeof(v));
    return __builtin_bswap64(v);
}

void
batch_add(struct batch *b, uint32_t run, const struct version *v)
{
    size_t prev_size = v->prev_key.data != NULL ? v->prev_key.size : 0;
    if (b->count == b->capacity) {
        size_t before = b->capacity;
        b->versions = grow(b->versions, &b->capacity, VERSIONS_FIRST, sizeof(*b->versions));
        budget_take(b->budget, (b->capacity - before) * sizeof(*b->versions));
    }
    uint8_t *bytes = arena_alloc_bytes(b->arena, v->key.size + v->row.size + prev_size);
    struct batch_version *out = &b->versions[b->count++];
    out->prefix = key_prefix(v->key);
    out->key = bytes;
    out->row = bytes + v->key.size;
    out->prev_key = v->prev_key.data != NULL ? out->row + v->row.size : NULL;
    out->commit_lsn = v->commit_lsn;
    out->sequence = v->sequence;
    out->key_size = (uint32_t)v->key.size;
    out->row_size = (uint32_t)v->row.size;
    out->prev_key_size = (uint32_t)prev_size;
    out->run = run;
    out->op = (uint8_t)v->op;
    memcpy(bytes, v->key.data, v->key.size);
    if (v->row.size > 0)
        memcpy(bytes + v->key.size, v->row.data, v->row.size);
    if (prev_size > 0)
        memcpy(bytes + v->key.size + v->row.size, v->prev_key.data, prev_size);
}

void
batch_cut(struct batch *b, size_t count)
{
    pgs_assert(count <= b->count);
    b->count = count;
}

void
batch_txn(struct batch *b, const struct txn *t)
{
    if (b->txn_count == b->txn_capacity)
        b->txns = grow(b->txns, &b->txn_capacity, 64, sizeof(*b->txns));
    b->txns[b->txn_count] = *t;
    b->txns[b->txn_count].actor = arena_dup(b->arena, t->actor);
    b->txns[b->txn_count].restore_id = arena_dup(b->arena, t->restore_id);
    b->txn_count++;
}

static int
version_order(const void *a, const void *b)
{
    const struct batch_version *x = *(const struct batch_version *const *)a;
    const struct batch_version *y = *(const struct batch_version *const *)b;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    int order = slice_compare(slice_of(x->key, x->key_size), slice_of(y->key, y->key_size));
    if (order != 0)
        return order;
    if (x->commit_lsn != y->commit_lsn)
        return x->commit_lsn < y->commit_lsn ? -1 : 1;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int
run_order(const void *a, const void *b, void *runs)
{
    const struct run_id *list = runs;
    return run_id_compare(&list[*(const uint32_t *)a], &list[*(const uint32_t *)b]);
}

/* Groups pointers to the versions by run (counting sort), in the order of the runs. */
struct grouping {
    uint32_t *order; /* run indexes, sorted */
    size_t *starts;  /* by run index: where its versions begin in `sorted` */
    const struct batch_version **sorted;
};

static void
group(const struct batch *b, size_t from, size_t to, struct grouping *g)
{
    size_t *counts = calloc(b->run_count + 1, sizeof(*counts));
    g->order = calloc(b->run_count + 1, sizeof(*g->order));
    g->starts = calloc(b->run_count + 1, sizeof(*g->starts));
    g->sorted = calloc(to - from + 1, sizeof(*g->sorted));
    if (counts == NULL || g->order == NULL || g->starts == NULL || g->sorted == NULL)
        abort();
    for (size_t i = from; i < to; i++)
        counts[b->versions[i].run]++;
    for (uint32_t i = 0; i < b->run_count; i++)
        g->order[i] = i;
    if (b->run_count > 1)
        qsort_r(g->order, b->run_count, sizeof(*g->order), run_order, b->runs);
    size_t at = 0;
    for (size_t i = 0; i < b->run_count; i++) {
        g->starts[g->order[i]] = at;
        at += counts[g->order[i]];
    }
    memset(counts, 0, (b->run_count + 1) * sizeof(*counts));
    for (size_t i = from; i < to; i++) {
        uint32_t run = b->versions[i].run;
        g->sorted[g->starts[run] + counts[run]++] = &b->versions[i];
    }
    for (size_t i = 0; i < b->run_count; i++) {
        if (counts[i] > 1)
            qsort(g->sorted + g->starts[i], counts[i], sizeof(*g->sorted), version_order);
    }
    free(counts);
}

static void
grouping_release(struct grouping *g)
{
    free(g->order);
    free(g->starts);
    free(g->sorted);
}

static int
write_versions(const struct batch *b, const struct grouping *g, size_t count,
               struct segment_writer *w, struct pgs_err *err)
{
    uint32_t run = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct batch_version *v = g->sorted[i];
        pgs_assert(v != NULL);
        struct version out = {
            .key = slice_of(v->key, v->key_size),
            .commit_lsn = v->commit_lsn,
            .sequence = v->sequence,
            .op = (enum version_op)v->op,
            .row = slice_of(v->row, v->row_size),
            .prev_key = v->prev_key != NULL ? slice_of(v->prev_key, v->prev_key_size) : SLICE_NULL,
        };
        if (v->run != run) {
            run = v->run;
            segment_writer_run_begin(w, &b->runs[run]);
        }
        int rc = segment_writer_add(w, &out, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int
batch_write(const struct batch *b, size_t from, size_t to, bool with_txns, struct store *store,
            const char *name, struct segment_info *info, struct pgs_err *err)
{
    struct grouping g = { 0 };
    struct segment_writer *w = NULL;
    int rc = segment_writer_new(store, name, NULL, &w, err);
    if (rc < 0)
        return rc;
    group(b, from, to, &g);
    rc = write_versions(b, &g, to - from, w, err);
    for (size_t i = 0; rc == 0 && with_txns && i < b->txn_count; i++)
        rc = segment_writer_txn(w, &b->txns[i], err);
    grouping_release(&g);
    if (rc < 0) {
        segment_writer_abort(w);
        return rc;
    }
    return segment_writer_finish(w, info, err);
}
