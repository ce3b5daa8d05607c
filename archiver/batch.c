/* batch.c: collecting versions. Sorting and writing them is in batch_write.c. */
#include "archiver/batch.h"

#include "archiver/batch_internal.h"
#include "core/err.h"
#include "core/hash.h"

#include <endian.h>
#include <stdlib.h>

/* Grows an arena's array to take one more; what it outgrew stays in the arena until that ends: less
 * than as much again. */
static void *
grown(struct arena *arena, void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    size_t more = *capacity == 0 ? 8 : *capacity * 2;
    void *larger = arena_alloc(arena, more * size);
    if (count > 0)
        memcpy(larger, items, count * size);
    *capacity = more;
    return larger;
}
#define GROW(arena, items, count, capacity) \
    ((items) = grown((arena), (items), (count), &(capacity), sizeof(*(items))))

void
notes_shape(struct notes *n, struct arena *arena, pgs_lsn from, const struct relation *r)
{
    GROW(arena, n->shapes, n->shape_count, n->shape_capacity);
    n->shapes[n->shape_count++] = (struct log_shape){ .from = from,
                                                      .id = relation_shape_id(r),
                                                      .relation = relation_dup(arena, r) };
}

void
notes_base(struct notes *n, struct arena *arena, uint32_t oid, uint64_t shape_id, pgs_lsn lsn)
{
    GROW(arena, n->bases, n->base_count, n->base_capacity);
    n->bases[n->base_count++] =
        (struct log_base){ .table_oid = oid, .shape_id = shape_id, .lsn = lsn };
}

void
notes_break(struct notes *n, struct arena *arena, const struct log_break *b)
{
    GROW(arena, n->breaks, n->break_count, n->break_capacity);
    n->breaks[n->break_count] = *b;
    n->breaks[n->break_count].code = arena_dup(arena, b->code);
    n->breaks[n->break_count].reason = arena_dup(arena, b->reason);
    n->break_count++;
}

void
notes_restore_point(struct notes *n, struct arena *arena, const struct log_restore_point *p)
{
    GROW(arena, n->restore_points, n->restore_point_count, n->restore_point_capacity);
    n->restore_points[n->restore_point_count] = *p;
    n->restore_points[n->restore_point_count].name = arena_dup(arena, p->name);
    n->restore_point_count++;
}

void
notes_barrier(struct notes *n, struct arena *arena, struct slice id)
{
    GROW(arena, n->barriers, n->barrier_count, n->barrier_capacity);
    n->barriers[n->barrier_count++] = arena_dup(arena, id);
}

void
notes_heartbeat(struct notes *n, struct arena *arena, uint64_t counter, struct slice nonce)
{
    n->heartbeat_counter = counter;
    n->heartbeat_nonce = arena_dup(arena, nonce);
}

void
notes_add(struct notes *n, struct arena *arena, const struct notes *from)
{
    for (size_t i = 0; i < from->shape_count; i++)
        notes_shape(n, arena, from->shapes[i].from, from->shapes[i].relation);
    for (size_t i = 0; i < from->base_count; i++)
        notes_base(n, arena, from->bases[i].table_oid, from->bases[i].shape_id, from->bases[i].lsn);
    for (size_t i = 0; i < from->break_count; i++)
        notes_break(n, arena, &from->breaks[i]);
    for (size_t i = 0; i < from->restore_point_count; i++)
        notes_restore_point(n, arena, &from->restore_points[i]);
    for (size_t i = 0; i < from->barrier_count; i++)
        notes_barrier(n, arena, from->barriers[i]);
    if (from->heartbeat_counter != 0)
        notes_heartbeat(n, arena, from->heartbeat_counter, from->heartbeat_nonce);
}

bool
notes_empty(const struct notes *n)
{
    return n->shape_count == 0 && n->base_count == 0 && n->break_count == 0 &&
           n->restore_point_count == 0 && n->barrier_count == 0 && n->heartbeat_counter == 0;
}

struct batch *
batch_new(struct budget *budget)
{
    struct batch *b = calloc(1, sizeof(*b));
    if (b == NULL)
        abort();
    b->rows = arena_new(budget);
    b->meta = arena_new(budget);
    b->time_min = b->time_max = PGS_TIME_NONE;
    return b;
}

void
batch_free(struct batch *b)
{
    if (b == NULL)
        return;
    arena_free(b->rows);
    arena_free(b->meta);
    free(b->run_table);
    free(b);
}

void
batch_drop_rows(struct batch *b)
{
    arena_free(b->rows);
    free(b->run_table);
    b->rows = NULL;
    b->run_table = NULL;
    b->blocks = NULL;
    b->runs = NULL;
    b->count = b->run_count = 0;
}

size_t
batch_bytes(const struct batch *b)
{
    return arena_bytes(b->rows) + arena_bytes(b->meta);
}

static bool
run_is(const struct batch_run *run, const struct run_id *id, uint64_t hash)
{
    return run->hash == hash && run->id.table_oid == id->table_oid &&
           run->id.shape_id == id->shape_id && run->id.tenant.scope == id->tenant.scope &&
           slice_equal(run->id.tenant.key, id->tenant.key);
}

static void
run_table_grow(struct batch *b)
{
    size_t size = b->run_table_size == 0 ? 256 : b->run_table_size * 2;
    free(b->run_table);
    b->run_table = calloc(size, sizeof(*b->run_table));
    if (b->run_table == NULL)
        abort();
    b->run_table_size = size;
    for (size_t i = 0; i < b->run_count; i++) {
        size_t place = b->runs[i].hash & (size - 1);
        while (b->run_table[place] != 0)
            place = (place + 1) & (size - 1);
        b->run_table[place] = (uint32_t)i + 1;
    }
}

static uint32_t
run_add(struct batch *b, const struct run_id *id, uint64_t hash)
{
    if (b->run_count * 2 >= b->run_table_size)
        run_table_grow(b);
    GROW(b->rows, b->runs, b->run_count, b->run_capacity);
    struct batch_run *run = &b->runs[b->run_count];
    *run = (struct batch_run){ .id = *id, .hash = hash };
    run->id.tenant.key = arena_dup(b->rows, id->tenant.key);
    size_t place = hash & (b->run_table_size - 1);
    while (b->run_table[place] != 0)
        place = (place + 1) & (b->run_table_size - 1);
    b->run_table[place] = (uint32_t)b->run_count + 1;
    return (uint32_t)b->run_count++;
}

uint32_t
batch_run(struct batch *b, const struct run_id *id)
{
    uint64_t seed = id->shape_id ^ ((uint64_t)id->table_oid << 8) ^ (uint64_t)id->tenant.scope;
    uint64_t hash = hash_bytes(id->tenant.key, seed);
    if (b->last_run < b->run_count && run_is(&b->runs[b->last_run], id, hash))
        return b->last_run;
    size_t mask = b->run_table_size - 1;
    for (size_t place = hash & mask; b->run_table_size > 0 && b->run_table[place] != 0;
         place = (place + 1) & mask) {
        b->last_run = b->run_table[place] - 1;
        if (run_is(&b->runs[b->last_run], id, hash))
            return b->last_run;
    }
    b->last_run = run_add(b, id, hash);
    return b->last_run;
}

static uint32_t
lsn_index(struct batch *b, pgs_lsn commit_lsn)
{
    if (b->lsn_count == 0 || b->lsns[b->lsn_count - 1] != commit_lsn) {
        GROW(b->meta, b->lsns, b->lsn_count, b->lsn_capacity);
        b->lsns[b->lsn_count++] = commit_lsn;
    }
    return (uint32_t)b->lsn_count - 1;
}

static uint64_t
key_prefix(struct slice key)
{
    uint64_t v = 0;
    if (key.size >= sizeof(v)) {
        memcpy(&v, key.data, sizeof(v));
        return be64toh(v);
    }
    for (size_t i = 0; i < key.size; i++)
        v |= (uint64_t)key.data[i] << (8 * (sizeof(v) - 1 - i));
    return v;
}

static struct batch_item *
item_new(struct batch *b)
{
    size_t block = b->count / ITEMS_PER_BLOCK;
    if (b->count % ITEMS_PER_BLOCK == 0) {
        GROW(b->rows, b->blocks, block, b->block_capacity);
        b->blocks[block] = arena_alloc(b->rows, ITEMS_PER_BLOCK * sizeof(struct batch_item));
    }
    return &b->blocks[block][b->count++ % ITEMS_PER_BLOCK];
}

void
batch_add(struct batch *b, uint32_t run, const struct version *v)
{
    size_t size = v->key.size + v->row.size + v->prev_key.size;
    pgs_assert(v->row.size <= UINT32_MAX && v->key.size <= UINT32_MAX);
    uint8_t *bytes = arena_alloc_bytes(b->rows, size);
    struct batch_item *item = item_new(b);
    if (v->key.size > 0)
        memcpy(bytes, v->key.data, v->key.size);
    if (v->row.size > 0)
        memcpy(bytes + v->key.size, v->row.data, v->row.size);
    if (v->prev_key.size > 0)
        memcpy(bytes + v->key.size + v->row.size, v->prev_key.data, v->prev_key.size);
    *item = (struct batch_item){ .prefix = key_prefix(v->key),
                                 .bytes = bytes,
                                 .sequence = v->sequence,
                                 .key_size = (uint32_t)v->key.size,
                                 .row_size = (uint32_t)v->row.size,
                                 .prev_size = (uint32_t)v->prev_key.size,
                                 .run = run,
                                 .txn = lsn_index(b, v->commit_lsn),
                                 .op = (uint8_t)v->op };
}

void
batch_txn(struct batch *b, const struct txn *t)
{
    GROW(b->meta, b->txns, b->txn_count, b->txn_capacity);
    struct txn *copy = &b->txns[b->txn_count++];
    *copy = *t;
    copy->actor = arena_dup(b->meta, t->actor);
    copy->restore_id = arena_dup(b->meta, t->restore_id);
}

void
batch_time(struct batch *b, pgs_time commit_time)
{
    if (b->time_min == PGS_TIME_NONE || commit_time < b->time_min)
        b->time_min = commit_time;
    if (b->time_max == PGS_TIME_NONE || commit_time > b->time_max)
        b->time_max = commit_time;
}

void
batch_cut(struct batch *b, size_t count)
{
    pgs_assert(count <= b->count);
    b->count = count;
}
