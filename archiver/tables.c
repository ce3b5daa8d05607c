#include "archiver/tables.h"

#include "core/err.h"

void
tables_init(struct tables *t)
{
    *t = (struct tables){ .arena = arena_new(NULL) };
}

void
tables_release(struct tables *t)
{
    HASH_CLEAR(hh, t->hash);
    arena_free(t->arena);
    *t = (struct tables){ 0 };
}

struct table *
tables_find(struct tables *t, uint32_t oid)
{
    struct table *found = t->last;
    if (found != NULL && found->oid == oid)
        return found;
    HASH_FIND(hh, t->hash, &oid, sizeof(oid), found);
    if (found != NULL)
        t->last = found;
    return found;
}

struct table *
tables_set(struct tables *t, const struct relation *r, pgs_lsn from)
{
    const struct slice nothing = slice_of("", 0);
    struct table *table = tables_find(t, r->oid);
    if (table == NULL) {
        table = arena_alloc_zero(t->arena, sizeof(*table));
        table->oid = r->oid;
        HASH_ADD(hh, t->hash, oid, sizeof(table->oid), table);
    }
    table->relation = relation_dup(t->arena, r);
    table->shape_id = relation_shape_id(r);
    table->from = table->agreed = from;
    table->last_needed = r->tenant_column;
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key && (int)i > table->last_needed)
            table->last_needed = (int)i;
    }
    struct tenant owner = { SCOPE_SHARED, nothing };
    if (r->route == ROUTE_SCHEMA)
        owner = (struct tenant){ SCOPE_TENANT, table->relation->tenant };
    table->fixed_run = (struct run_id){ owner, table->oid, table->shape_id };
    table->tombstone_run =
        (struct run_id){ { SCOPE_TOMBSTONES, nothing }, table->oid, table->shape_id };
    return table;
}

void
tables_remove(struct tables *t, struct table *table)
{
    HASH_DEL(t->hash, table);
    if (t->last == table)
        t->last = NULL;
}

static void
load_shape(struct tables *t, const struct log_shape *s)
{
    struct table *table = tables_find(t, s->relation->oid);
    if (table != NULL && table->from > s->from)
        return;
    table = tables_set(t, s->relation, s->from);
    table->archived = table->broken_since == 0;
}

/* An open break is closed by a later record with the same table and begin. */
static void
load_break(struct tables *t, const struct log_break *b)
{
    struct table *table = tables_find(t, b->table_oid);
    if (table == NULL)
        return;
    if (slice_equal(b->code, slice_str("dropped"))) {
        tables_remove(t, table);
    } else if (b->end == 0) {
        table->broken_since = b->begin;
        table->archived = false;
    } else if (table->broken_since == b->begin) {
        table->broken_since = 0;
        table->archived = true;
        table->kept_from = b->end;
    } else if (table->archived && b->end > table->kept_from && b->end > b->begin + 1) {
        table->kept_from = b->end; /* a gap; a point break loses no change */
    }
}

static void
load_entry(struct tables *t, const struct log_entry *e)
{
    for (size_t i = 0; i < e->shape_count; i++)
        load_shape(t, &e->shapes[i]);
    for (size_t i = 0; i < e->break_count; i++)
        load_break(t, &e->breaks[i]);
    for (size_t i = 0; i < e->base_count; i++) {
        struct table *table = tables_find(t, e->bases[i].table_oid);
        if (table != NULL && e->bases[i].lsn > table->agreed)
            table->agreed = e->bases[i].lsn;
    }
}

/* The stream has been whole since the era began, or since the last gap. */
static void
load_unbroken(struct tables *t, const struct log_entry *e)
{
    if (t->unbroken_from == 0)
        t->unbroken_from = e->range.end;
    for (size_t i = 0; i < e->break_count; i++) {
        const struct log_break *b = &e->breaks[i];
        pgs_lsn end = b->end != 0 ? b->end : UINT64_MAX;
        if (b->table_oid == 0 && end > t->unbroken_from)
            t->unbroken_from = end;
    }
}

void
tables_load(struct tables *t, const struct alog *log)
{
    const struct log_entry *last = alog_last(log);
    for (size_t i = 0; i < alog_count(log); i++) {
        const struct log_entry *e = alog_entry(log, i);
        /* Oids mean something else in another era. */
        if (e->era != last->era)
            continue;
        load_entry(t, e);
        load_unbroken(t, e);
    }
}
