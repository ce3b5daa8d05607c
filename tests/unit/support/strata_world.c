#include "support/strata_world.h"

#include "core/err.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/unit.h"

#include <stdlib.h>

void
world_must(int rc, const struct pgs_err *err)
{
    if (rc != 0)
        fail_msg("answer %d: %s", rc, rc < 0 ? err->message : "PGS_NONE");
}

static struct relation *
relation_make(struct world *w, uint32_t oid, const char *name)
{
    static const char *const names[WORLD_COLUMNS] = { "id", "tenant_id", "note", "document" };
    struct relation *r = arena_alloc_zero(w->arena, sizeof(*r));
    *r = (struct relation){ .oid = oid,
                            .schema = slice_str("public"),
                            .name = slice_str(name),
                            .identity = 'd',
                            .route = ROUTE_COLUMN,
                            .tenant_column = 1,
                            .covered = true,
                            .column_count = WORLD_COLUMNS };
    r->columns = arena_alloc_array(w->arena, WORLD_COLUMNS, sizeof(*r->columns));
    for (size_t i = 0; i < WORLD_COLUMNS; i++)
        r->columns[i] = (struct column){ .name = slice_str(names[i]),
                                         .attnum = (int16_t)(i + 1),
                                         .type_oid = 25,
                                         .typmod = -1,
                                         .type_name = slice_str("text"),
                                         .key = i == 0 };
    return r;
}

static void
shapes_append(struct world *w)
{
    struct log_shape shapes[2];
    struct log_entry e = { .kind = LOG_NOTE, .shapes = shapes, .shape_count = 2 };
    for (size_t i = 0; i < 2; i++)
        shapes[i] = (struct log_shape){ .from = 1, .id = w->shape_id, .relation = w->relations[i] };
    world_append(w, &e);
}

void
world_open(struct world *w)
{
    struct pgs_err err;
    *w = (struct world){ .segment = { .block_bytes = 64 }, .segments_per_flush = 1 };
    w->arena = arena_new(NULL);
    w->memory = memory_store_new();
    w->root = fault_store_new(w->memory);
    world_must(alog_store(w->root, WORLD_ARCHIVE_ID, &w->store, &err), &err);
    world_must(alog_open(w->store, WORLD_ARCHIVE_ID, &w->log, &err), &err);
    world_must(alog_take_epoch(w->log, WORLD_SYSTEM_ID, 1, &err), &err);
    w->relations[0] = relation_make(w, WORLD_ORDERS, "orders");
    w->relations[1] = relation_make(w, WORLD_ITEMS, "items");
    w->shape_id = relation_shape_id(w->relations[0]);
    shapes_append(w);
}

void
world_close(struct world *w)
{
    archive_close(w->archive);
    alog_close(w->log);
    store_close(w->store);
    store_close(w->root);
    store_close(w->memory);
    arena_free(w->arena);
    free(w->changes);
    free(w->txns);
}

struct tenant
world_tenant(const char *name)
{
    if (name == NULL)
        return (struct tenant){ SCOPE_SHARED, slice_of("", 0) };
    if (strcmp(name, "*") == 0)
        return (struct tenant){ SCOPE_TOMBSTONES, slice_of("", 0) };
    return (struct tenant){ SCOPE_TENANT, slice_str(name) };
}

struct slice
world_key(struct world *w, const char *id)
{
    struct buf b = { 0 };
    key_put_field(&b, slice_str(id));
    struct slice key = arena_dup(w->arena, buf_slice(&b));
    buf_release(&b);
    return key;
}

struct slice
world_row(struct world *w, const char *text)
{
    struct buf b = { 0 };
    for (const char *p = text; p != NULL; p = *p == '|' ? p + 1 : NULL) {
        size_t size = strcspn(p, "|");
        if (size == 1 && *p == '~')
            row_put_field(&b, SLICE_NULL);
        else if (size == 1 && *p == '=')
            buf_put_u8(&b, ROW_UNCHANGED);
        else
            row_put_field(&b, slice_of(p, size));
        p += size;
    }
    struct slice row = arena_dup(w->arena, buf_slice(&b));
    buf_release(&b);
    return row;
}

static void *
grown(void *items, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity == 0 ? 64 : 2 * *capacity;
    items = realloc(items, *capacity * size);
    if (items == NULL)
        abort();
    return items;
}

static struct run_id
run_of(const struct world *w, const char *tenant, uint32_t table)
{
    return (struct run_id){ world_tenant(tenant), table, w->shape_id };
}

void
world_change(struct world *w, const char *tenant, uint32_t table, uint64_t sequence,
             enum version_op op, const char *id, const char *row, const char *prev_id)
{
    w->changes =
        grown(w->changes, &w->change_capacity, w->change_count, sizeof(struct world_change));
    struct slice image = op == VERSION_MOVED_IN ? slice_str(row) : world_row(w, row);
    w->changes[w->change_count++] = (struct world_change){
        .run = run_of(w, tenant, table),
        .version = { .key = op == VERSION_TRUNCATE ? slice_of("", 0) : world_key(w, id),
                     .sequence = sequence,
                     .op = op,
                     .row = image,
                     .prev_key = prev_id != NULL ? world_key(w, prev_id) : SLICE_NULL }
    };
}

void
world_commit(struct world *w, pgs_lsn commit_lsn, pgs_time time, uint64_t xid)
{
    for (; w->committed_count < w->change_count; w->committed_count++)
        w->changes[w->committed_count].version.commit_lsn = commit_lsn;
    w->txns = grown(w->txns, &w->txn_capacity, w->txn_count, sizeof(struct txn));
    w->txns[w->txn_count++] = (struct txn){ .commit_lsn = commit_lsn,
                                            .commit_end_lsn = commit_lsn + WORLD_COMMIT_BYTES,
                                            .commit_time = time,
                                            .xid = xid };
    w->last_end = commit_lsn + WORLD_COMMIT_BYTES;
}

static int
change_order(const void *a, const void *b)
{
    const struct world_change *x = a, *y = b;
    int order = run_id_compare(&x->run, &y->run);
    return order != 0 ? order : version_compare(&x->version, &y->version);
}

/* The share-th of `shares` hands of the sorted changes, with transactions in the last one. */
static void
segment_write(struct world *w, const struct world_change *changes, size_t count, size_t share,
              size_t shares, struct segment_info *info)
{
    struct segment_writer *writer;
    struct pgs_err err;
    const struct run_id *run = NULL;
    char name[SEGMENT_NAME_MAX];
    alog_segment_name(w->log, name);
    world_must(segment_writer_new(w->store, name, &w->segment, &writer, &err), &err);
    for (size_t i = share; i < count; i += shares) {
        if (run == NULL || run_id_compare(run, &changes[i].run) != 0)
            segment_writer_run_begin(writer, &changes[i].run);
        run = &changes[i].run;
        world_must(segment_writer_add(writer, &changes[i].version, &err), &err);
    }
    for (size_t i = 0; share + 1 == shares && i < w->txn_count; i++)
        world_must(segment_writer_txn(writer, &w->txns[i], &err), &err);
    world_must(segment_writer_finish(writer, info, &err), &err);
}

static void
times_of(const struct world *w, struct log_entry *e)
{
    e->time_min = e->time_max = PGS_TIME_NONE;
    for (size_t i = 0; i < w->txn_count; i++) {
        pgs_time time = w->txns[i].commit_time;
        e->time_min = i == 0 || time < e->time_min ? time : e->time_min;
        e->time_max = i == 0 || time > e->time_max ? time : e->time_max;
    }
}

void
world_flush(struct world *w)
{
    struct segment_info segments[8];
    struct pgs_err err;
    struct log_entry e = { .kind = LOG_CHANGES,
                           .range = { w->flushed, w->last_end },
                           .segments = segments,
                           .segment_count = w->segments_per_flush };
    assert_true(w->segments_per_flush <= sizeof(segments) / sizeof(segments[0]));
    assert_int_equal(w->committed_count, w->change_count);
    if (w->txn_count == 0)
        return;
    if (w->change_count > 1)
        qsort(w->changes, w->change_count, sizeof(*w->changes), change_order);
    for (size_t i = 0; i < w->segments_per_flush; i++)
        segment_write(w, w->changes, w->change_count, i, w->segments_per_flush, &segments[i]);
    times_of(w, &e);
    world_must(alog_append(w->log, &e, &err), &err);
    w->flushed = w->last_end;
    w->change_count = w->committed_count = w->txn_count = 0;
}

void
world_append(struct world *w, struct log_entry *e)
{
    struct pgs_err err;
    if (e->time_min == 0)
        e->time_min = PGS_TIME_NONE;
    if (e->time_max == 0)
        e->time_max = PGS_TIME_NONE;
    world_must(alog_append(w->log, e, &err), &err);
}

void
world_base(struct world *w, uint32_t table, pgs_lsn lsn, const char *const *rows, size_t count,
           size_t segments)
{
    struct segment_info infos[8];
    uint32_t indexes[8] = { 0 };
    struct log_base base = { .table_oid = table,
                             .shape_id = w->shape_id,
                             .lsn = lsn,
                             .rows = count,
                             .segments = indexes,
                             .segment_count = segments };
    struct log_entry e = { .kind = LOG_BASE,
                           .segments = infos,
                           .segment_count = segments,
                           .bases = &base,
                           .base_count = 1 };
    struct world_change *changes = calloc(count + 1, sizeof(*changes));
    size_t kept = w->txn_count;
    assert_true(segments <= sizeof(infos) / sizeof(infos[0]));
    for (size_t i = 0; i < count; i++) {
        char *id = strndup(rows[2 * i + 1], strcspn(rows[2 * i + 1], "|"));
        changes[i].run = run_of(w, rows[2 * i], table);
        changes[i].version = (struct version){ .key = world_key(w, id),
                                               .commit_lsn = lsn,
                                               .sequence = 1,
                                               .op = VERSION_INSERT,
                                               .row = world_row(w, rows[2 * i + 1]) };
        free(id);
    }
    if (count > 1)
        qsort(changes, count, sizeof(*changes), change_order);
    w->txn_count = 0; /* a base has no transactions */
    for (size_t i = 0; i < segments; i++) {
        segment_write(w, changes, count, i, segments, &infos[i]);
        indexes[i] = (uint32_t)i;
    }
    w->txn_count = kept;
    world_append(w, &e);
    free(changes);
}

void
world_break(struct world *w, uint32_t table, pgs_lsn begin, pgs_lsn end, const char *code)
{
    struct log_break b = { .table_oid = table,
                           .begin = begin,
                           .end = end,
                           .code = slice_str(code),
                           .reason = slice_str("the test says so") };
    struct log_entry e = { .kind = LOG_NOTE, .breaks = &b, .break_count = 1 };
    world_append(w, &e);
}

struct archive *
world_archive(struct world *w)
{
    struct pgs_err err;
    int rc = w->archive == NULL ? archive_open(w->store, WORLD_ARCHIVE_ID, &w->archive, &err)
                                : archive_refresh(w->archive, &err);
    world_must(rc == PGS_NONE ? 0 : rc, &err);
    return w->archive;
}

static void
row_text(struct buf *out, const struct row_field *fields)
{
    for (size_t i = 0; i < WORLD_COLUMNS; i++) {
        buf_put_str(out, i == 0 ? "" : "|");
        if (fields[i].kind == ROW_NULL)
            buf_put_str(out, "~");
        else
            buf_put_slice(out, fields[i].text);
    }
    buf_put_str(out, "\n");
}

static void
answer_text(struct buf *out, const struct state_row *row, struct pgs_err *err)
{
    struct slice id;
    if (row->fields != NULL) {
        row_text(out, row->fields);
        return;
    }
    world_must(key_split(row->key, 1, &id, err), err);
    buf_printf(out, "%.*s gone\n", SLICE_PRINT(id));
}

static const char *
rows_read(struct world *w, struct scan_opts *opts)
{
    struct archive *a = world_archive(w);
    struct coverage coverage;
    struct state *state = NULL;
    struct state_row row;
    struct pgs_err err;
    struct buf out = { 0 };
    opts->coverage = &coverage;
    int rc = archive_coverage(a, opts->table_oid, opts->to, opts->to, &coverage, &err);
    if (rc == 0)
        rc = state_open(a, opts, &state, &err);
    while (rc == 0 && (rc = state_next(state, &row, &err)) == 0)
        answer_text(&out, &row, &err);
    state_close(state);
    const char *text = arena_strdup(w->arena, buf_cstr(&out));
    buf_release(&out);
    if (rc < 0 && err.kind == PGS_E_REFUSED)
        return arena_printf(w->arena, "refused: %s", err.code);
    world_must(rc < 0 ? rc : 0, &err);
    return text;
}

const char *
world_rows(struct world *w, const char *tenant, uint32_t table, pgs_lsn cut)
{
    struct scan_opts opts = { .tenant = world_tenant(tenant), .table_oid = table, .to = cut };
    return rows_read(w, &opts);
}

static int
slice_order(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

const char *
world_rows_of_keys(struct world *w, const char *tenant, uint32_t table, pgs_lsn cut,
                   const char *const *ids, size_t count)
{
    struct slice *keys = arena_alloc_array(w->arena, count + 1, sizeof(*keys));
    for (size_t i = 0; i < count; i++)
        keys[i] = world_key(w, ids[i]);
    qsort(keys, count, sizeof(*keys), slice_order);
    struct scan_opts opts = { .tenant = world_tenant(tenant),
                              .table_oid = table,
                              .to = cut,
                              .keys = keys,
                              .key_count = count };
    return rows_read(w, &opts);
}
