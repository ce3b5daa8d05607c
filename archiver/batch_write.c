/* batch_write.c: from stream order to runs.
 *
 *   1. count the items of each run, order the runs that have any
 *   2. one pass over the items puts a reference to each into its run's part of an array
 *   3. each part is sorted by key alone, stably: the items came by (commit LSN, sequence)
 *   4. the parts are written in order
 *
 * A reference carries the key's first bytes, so that most comparisons touch nothing else. */
#include "archiver/batch_internal.h"

#include "core/err.h"

#include <stdlib.h>

#define INSERTION_MAX 12 /* parts up to this size are sorted by insertion */

struct ref {
    uint64_t prefix;
    const struct batch_item *item;
};

struct sorter {
    const struct batch *batch;
    const struct batch_run **order; /* runs that have items, as they will lie in the segment */
    size_t run_count;
    size_t *counts, *begins; /* by run */
    struct ref *refs, *spare;
};

static int
key_compare(const struct ref *a, const struct ref *b)
{
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    return slice_compare(slice_of(a->item->bytes, a->item->key_size),
                         slice_of(b->item->bytes, b->item->key_size));
}

static void
sort_insertion(struct ref *refs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct ref moved = refs[i];
        size_t j = i;
        for (; j > 0 && key_compare(&refs[j - 1], &moved) > 0; j--)
            refs[j] = refs[j - 1];
        refs[j] = moved;
    }
}

static void
merge(const struct ref *a, const struct ref *a_end, const struct ref *b, const struct ref *b_end,
      struct ref *out)
{
    while (a < a_end && b < b_end)
        *out++ = key_compare(a, b) <= 0 ? *a++ : *b++;
    if (a < a_end)
        memcpy(out, a, (size_t)(a_end - a) * sizeof(*a));
    else if (b < b_end)
        memcpy(out, b, (size_t)(b_end - b) * sizeof(*b));
}

/* Stable. `spare` is as large as `refs`. Rows often come in key order: then one look is enough. */
static void
sort_refs(struct ref *refs, size_t count, struct ref *spare)
{
    if (count <= INSERTION_MAX) {
        sort_insertion(refs, count);
        return;
    }
    size_t half = count / 2;
    sort_refs(refs, half, spare);
    sort_refs(refs + half, count - half, spare);
    if (key_compare(&refs[half - 1], &refs[half]) <= 0)
        return;
    memcpy(spare, refs, half * sizeof(*refs));
    merge(spare, spare + half, refs + half, refs + count, refs);
}

static int
runs_compare(const void *a, const void *b)
{
    const struct batch_run *const *x = a, *const *y = b;
    return run_id_compare(&(*x)->id, &(*y)->id);
}

static void
runs_order(struct sorter *s, struct arena *scratch, size_t begin, size_t end)
{
    const struct batch *b = s->batch;
    s->counts = arena_alloc_array(scratch, b->run_count + 1, sizeof(*s->counts));
    s->begins = arena_alloc_array(scratch, b->run_count + 1, sizeof(*s->begins));
    s->order = arena_alloc_array(scratch, b->run_count + 1, sizeof(struct batch_run *));
    for (size_t i = begin; i < end; i++)
        s->counts[batch_item_at(b, i)->run]++;
    for (size_t i = 0; i < b->run_count; i++) {
        if (s->counts[i] > 0)
            s->order[s->run_count++] = &b->runs[i];
    }
    if (s->run_count > 1)
        qsort(s->order, s->run_count, sizeof(struct batch_run *), runs_compare);
    size_t next = 0;
    for (size_t i = 0; i < s->run_count; i++) {
        size_t run = (size_t)(s->order[i] - b->runs);
        s->begins[run] = next;
        next += s->counts[run];
    }
}

static void
refs_fill(struct sorter *s, struct arena *scratch, size_t begin, size_t end)
{
    size_t largest = 0;
    s->refs = arena_alloc(scratch, (end - begin + 1) * sizeof(*s->refs));
    for (size_t i = begin; i < end; i++) {
        const struct batch_item *item = batch_item_at(s->batch, i);
        s->refs[s->begins[item->run]++] = (struct ref){ item->prefix, item };
    }
    for (size_t i = 0; i < s->run_count; i++) {
        size_t count = s->counts[s->order[i] - s->batch->runs];
        largest = count > largest ? count : largest;
    }
    s->spare = arena_alloc(scratch, (largest / 2 + 1) * sizeof(*s->spare));
}

static int
run_write(const struct sorter *s, const struct ref *refs, size_t count, struct segment_writer *w,
          struct pgs_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct batch_item *item = refs[i].item;
        const uint8_t *row = item->bytes + item->key_size;
        struct version v = {
            .key = slice_of(item->bytes, item->key_size),
            .commit_lsn = s->batch->lsns[item->txn],
            .sequence = item->sequence,
            .op = (enum version_op)item->op,
            .row = slice_of(row, item->row_size),
            .prev_key =
                item->prev_size > 0 ? slice_of(row + item->row_size, item->prev_size) : SLICE_NULL,
        };
        int rc = segment_writer_add(w, &v, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int
runs_write(struct sorter *s, struct segment_writer *w, struct pgs_err *err)
{
    size_t begin = 0;
    for (size_t i = 0; i < s->run_count; i++) {
        size_t count = s->counts[s->order[i] - s->batch->runs];
        sort_refs(s->refs + begin, count, s->spare);
        segment_writer_run_begin(w, &s->order[i]->id);
        int rc = run_write(s, s->refs + begin, count, w, err);
        if (rc < 0)
            return rc;
        begin += count;
    }
    return 0;
}

static int
txns_write(const struct batch *b, struct segment_writer *w, struct pgs_err *err)
{
    for (size_t i = 0; i < b->txn_count; i++) {
        int rc = segment_writer_txn(w, &b->txns[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int
batch_write(const struct batch *b, size_t begin, size_t end, bool with_txns, struct store *store,
            const char *name, struct budget *budget, struct segment_info *info, struct pgs_err *err)
{
    struct arena *scratch = arena_new(budget);
    struct sorter s = { .batch = b };
    struct segment_writer *w;
    runs_order(&s, scratch, begin, end);
    refs_fill(&s, scratch, begin, end);
    const struct segment_opts opts = { .budget = budget };
    int rc = segment_writer_new(store, name, &opts, &w, err);
    if (rc == 0) {
        rc = runs_write(&s, w, err);
        if (rc == 0 && with_txns)
            rc = txns_write(b, w, err);
        if (rc == 0)
            rc = segment_writer_finish(w, info, err);
        else
            segment_writer_abort(w);
    }
    arena_free(scratch);
    return rc;
}
