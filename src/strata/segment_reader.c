#include "strata/segment_format.h"

#include "core/err.h"
#include "strata/segment_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* The first read takes this much from the end: trailer, footer and often a page in one request. */
#define TAIL_BYTES ((uint64_t)64 << 10)

static int
corrupt(const char *name, const char *what, struct pgs_err *err)
{
    (void)err_set(err, PGS_E_CORRUPT, "segment %s: %s", name, what);
    return err_hint(
        err, "run `pgstrata verify`, then `pgstrata base`: history before the base is damaged");
}

int
part_read(struct store *store, const char *name, const struct part_ref *part, const char *what,
          ZSTD_DCtx *dctx, struct buf *stored, struct buf *raw, struct pgs_err *err)
{
    struct store_range range = { part->offset, part->stored_size };
    buf_reset(stored);
    buf_reset(raw);
    if (part->stored_size <= PART_HEADER_BYTES || part->raw_size > BLOCK_RAW_MAX ||
        part->stored_size > BLOCK_RAW_MAX)
        return corrupt(name, what, err);
    int rc = store_get(store, name, &range, stored, err);
    if (rc == PGS_NONE)
        return corrupt(name, "the object is missing", err);
    if (rc < 0)
        return rc;
    /* cipher_id and key_id: this version knows neither. */
    for (size_t i = 0; i < PART_HEADER_BYTES; i++) {
        if (stored->data[i] != 0)
            return corrupt(name, "it is encrypted: this version cannot read it", err);
    }
    const uint8_t *frame = stored->data + PART_HEADER_BYTES;
    size_t frame_size = stored->size - PART_HEADER_BYTES;
    if (ZSTD_getFrameContentSize(frame, frame_size) != part->raw_size ||
        !buf_reserve(raw, part->raw_size))
        return corrupt(name, what, err);
    size_t size = ZSTD_decompressDCtx(dctx, raw->data, part->raw_size, frame, frame_size);
    if (ZSTD_isError(size) || size != part->raw_size)
        return corrupt(name, what, err);
    raw->size = size;
    return 0;
}

static struct part_ref
read_part(struct cursor *c)
{
    struct part_ref part;
    part.offset = cursor_varint(c);
    part.stored_size = cursor_varint(c);
    part.raw_size = cursor_varint(c);
    return part;
}

static void
read_run_id(struct cursor *c, struct run_id *id)
{
    uint8_t scope = cursor_u8(c);
    if (scope > SCOPE_TOMBSTONES)
        c->failed = true;
    id->tenant.scope = (enum scope)scope;
    id->tenant.key = cursor_varslice(c);
    id->table_oid = cursor_be32(c);
    id->shape_id = cursor_be64(c);
}

static int
footer_decode(struct segment *s, struct pgs_err *err)
{
    struct cursor c = cursor_of(buf_slice(&s->footer));
    uint64_t count = cursor_varint(&c);
    if (count > cursor_left(&c))
        return corrupt(s->name, "the footer is malformed", err);
    s->pages = calloc(count + 1, sizeof(*s->pages));
    if (s->pages == NULL)
        abort();
    s->page_count = count;
    for (uint64_t i = 0; i < count; i++) {
        read_run_id(&c, &s->pages[i].first);
        s->pages[i].part = read_part(&c);
        s->pages[i].run_count = cursor_varint(&c);
    }
    s->txns = read_part(&c);
    s->txn_count = cursor_varint(&c);
    s->version_count = cursor_varint(&c);
    return cursor_at_end(&c) ? 0 : corrupt(s->name, "the footer is malformed", err);
}

static int
trailer_decode(struct segment *s, struct slice tail, uint64_t size, struct part_ref *footer,
               struct pgs_err *err)
{
    if (tail.size < SEGMENT_TRAILER_BYTES)
        return corrupt(s->name, "it is too short", err);
    struct cursor c =
        cursor_of(slice_of(tail.data + tail.size - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES));
    footer->offset = cursor_be64(&c);
    footer->stored_size = cursor_be32(&c);
    footer->raw_size = cursor_be32(&c);
    uint64_t object_size = cursor_be64(&c);
    uint32_t version = cursor_be32(&c);
    struct slice magic = cursor_bytes(&c, SEGMENT_MAGIC_BYTES);
    if (memcmp(magic.data, SEGMENT_END_MAGIC, SEGMENT_MAGIC_BYTES) != 0)
        return corrupt(s->name, "its end is not a segment's", err);
    if (version != SEGMENT_VERSION) {
        (void)err_set(err, PGS_E_REFUSED, "segment %s has format version %u", s->name, version);
        return err_hint(err, "use a newer pgstrata");
    }
    if (object_size != size || footer->offset > size || footer->stored_size > size - footer->offset)
        return corrupt(s->name, "its size is wrong", err);
    return 0;
}

/* The footer lies within the tail unless the index of pages is large. */
static int
footer_read(struct segment *s, uint64_t size, struct pgs_err *err)
{
    struct buf tail = { 0 }, stored = { 0 };
    struct part_ref footer;
    uint64_t from = size > TAIL_BYTES ? size - TAIL_BYTES : 0;
    int rc = store_get(s->store, s->name, &(struct store_range){ from, size - from }, &tail, err);
    if (rc == PGS_NONE)
        rc = corrupt(s->name, "the object is missing", err);
    s->bytes_read += tail.size;
    if (rc == 0)
        rc = trailer_decode(s, buf_slice(&tail), size, &footer, err);
    if (rc == 0) {
        rc = part_read(s->store, s->name, &footer, "the footer is damaged", s->dctx, &stored,
                       &s->footer, err);
        s->bytes_read += stored.size;
    }
    if (rc == 0)
        rc = footer_decode(s, err);
    buf_release(&tail);
    buf_release(&stored);
    return rc;
}

int
segment_open(struct store *store, const char *name, const struct segment_info *expected,
             struct segment **segment, struct pgs_err *err)
{
    struct store_stat stat;
    struct segment *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->store = store;
    snprintf(s->name, sizeof(s->name), "%s", name);
    s->cached_page = SIZE_MAX;
    s->dctx = ZSTD_createDCtx();
    if (s->dctx == NULL)
        abort();
    int rc = store_head(store, name, &stat, err);
    if (rc == PGS_NONE)
        rc = corrupt(name, "the object is missing", err);
    if (rc == 0 && (stat.size < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES ||
                    (expected != NULL && stat.size != expected->size)))
        rc = corrupt(name, "its size is wrong", err);
    if (rc == 0)
        rc = footer_read(s, stat.size, err);
    if (rc < 0) {
        segment_close(s);
        return rc;
    }
    *segment = s;
    return 0;
}

void
segment_close(struct segment *s)
{
    if (s == NULL)
        return;
    ZSTD_freeDCtx(s->dctx);
    buf_release(&s->footer);
    buf_release(&s->page);
    buf_release(&s->stored);
    free(s->pages);
    free(s);
}

const char *
segment_name(const struct segment *s)
{
    return s->name;
}

uint64_t
segment_bytes_read(const struct segment *s)
{
    return s->bytes_read;
}

static int
page_load(struct segment *s, size_t index, struct pgs_err *err)
{
    if (s->cached_page == index)
        return 0;
    s->cached_page = SIZE_MAX;
    int rc = part_read(s->store, s->name, &s->pages[index].part, "a directory page is damaged",
                       s->dctx, &s->stored, &s->page, err);
    s->bytes_read += s->stored.size;
    if (rc == 0)
        s->cached_page = index;
    return rc;
}

/* With arena NULL the run is only stepped over. */
static void
read_blocks(struct cursor *c, struct run_ref *run, uint64_t count, struct arena *arena)
{
    if (count > cursor_left(c)) {
        c->failed = true;
        return;
    }
    if (arena != NULL)
        run->blocks = arena_alloc_array(arena, (size_t)count, sizeof(*run->blocks));
    run->block_count = (size_t)count;
    for (uint64_t i = 0; i < count && !c->failed; i++) {
        struct block_ref b;
        struct part_ref part = read_part(c);
        uint64_t versions = cursor_varint(c);
        b.offset = part.offset;
        b.stored_size = (uint32_t)part.stored_size;
        b.raw_size = (uint32_t)part.raw_size;
        b.version_count = (uint32_t)versions;
        b.lsn.begin = cursor_be64(c);
        b.lsn.end = cursor_be64(c);
        b.first_key = cursor_varslice(c);
        b.last_key = cursor_varslice(c);
        if (part.stored_size > UINT32_MAX || part.raw_size > UINT32_MAX || versions > UINT32_MAX)
            c->failed = true;
        if (arena != NULL && !c->failed) {
            b.first_key = arena_dup(arena, b.first_key);
            b.last_key = arena_dup(arena, b.last_key);
            run->blocks[i] = b;
        }
    }
}

/* Reads one run; its blocks and tenant are copied when `wanted` is NULL or the same tenant and
 * table. */
static int
read_run(struct segment *s, struct cursor *c, const struct run_id *wanted, struct arena *arena,
         struct run_ref *run, bool *match, struct pgs_err *err)
{
    memset(run, 0, sizeof(*run));
    read_run_id(c, &run->id);
    *match = wanted == NULL || (run->id.tenant.scope == wanted->tenant.scope &&
                                run->id.table_oid == wanted->table_oid &&
                                slice_compare(run->id.tenant.key, wanted->tenant.key) == 0);
    run->version_count = cursor_varint(c);
    run->lsn.begin = cursor_be64(c);
    run->lsn.end = cursor_be64(c);
    read_blocks(c, run, cursor_varint(c), *match ? arena : NULL);
    if (!cursor_ok(c))
        return corrupt(s->name, "a directory page is malformed", err);
    if (*match)
        run->id.tenant.key = arena_dup(arena, run->id.tenant.key);
    return 0;
}

/* Runs of the page that match, appended to *list. */
static int
page_runs(struct segment *s, size_t index, const struct run_id *wanted, struct arena *arena,
          struct run_ref **list, size_t *count, struct pgs_err *err)
{
    int rc = page_load(s, index, err);
    if (rc < 0)
        return rc;
    uint64_t total = s->pages[index].run_count;
    struct cursor c = cursor_of(buf_slice(&s->page));
    if (total > cursor_left(&c))
        return corrupt(s->name, "a directory page is malformed", err);
    struct run_ref *runs = arena_alloc_array(arena, *count + (size_t)total + 1, sizeof(*runs));
    if (*count > 0)
        memcpy(runs, *list, *count * sizeof(*runs));
    for (uint64_t i = 0; i < total; i++) {
        bool match;
        rc = read_run(s, &c, wanted, arena, &runs[*count], &match, err);
        if (rc < 0)
            return rc;
        *count += match ? 1 : 0;
    }
    if (!cursor_at_end(&c))
        return corrupt(s->name, "a directory page is malformed", err);
    *list = runs;
    return 0;
}

/* The last page whose first run is not behind (tenant, table, shape 0); the list can go on from
 * there. */
static size_t
page_find(const struct segment *s, const struct run_id *wanted)
{
    size_t low = 0, high = s->page_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (run_id_compare(&s->pages[middle].first, wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

int
segment_find(struct segment *s, const struct tenant *tenant, uint32_t table_oid,
             struct arena *arena, struct run_ref **runs, size_t *count, struct pgs_err *err)
{
    struct run_id wanted = { .tenant = *tenant, .table_oid = table_oid, .shape_id = 0 };
    struct run_id last = { .tenant = *tenant, .table_oid = table_oid, .shape_id = UINT64_MAX };
    *runs = NULL;
    *count = 0;
    for (size_t i = page_find(s, &wanted); i < s->page_count; i++) {
        if (run_id_compare(&s->pages[i].first, &last) > 0)
            break;
        int rc = page_runs(s, i, &wanted, arena, runs, count, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int
segment_page(struct segment *s, size_t *position, struct arena *arena, struct run_ref **runs,
             size_t *count, struct pgs_err *err)
{
    *runs = NULL;
    *count = 0;
    if (*position >= s->page_count)
        return PGS_NONE;
    int rc = page_runs(s, *position, NULL, arena, runs, count, err);
    if (rc == 0)
        (*position)++;
    return rc;
}

int
segment_txns(struct segment *s, struct arena *arena, struct txn **txns, size_t *count,
             struct pgs_err *err)
{
    struct buf raw = { 0 };
    *txns = NULL;
    *count = 0;
    if (s->txn_count == 0)
        return 0;
    int rc = part_read(s->store, s->name, &s->txns, "the transaction table is damaged", s->dctx,
                       &s->stored, &raw, err);
    s->bytes_read += s->stored.size;
    struct cursor c = cursor_of(rc == 0 ? buf_slice(&raw) : SLICE_NULL);
    if (rc == 0 && s->txn_count > cursor_left(&c))
        rc = corrupt(s->name, "the transaction table is malformed", err);
    struct txn *list =
        rc == 0 ? arena_alloc_array(arena, (size_t)s->txn_count, sizeof(*list)) : NULL;
    for (uint64_t i = 0; rc == 0 && i < s->txn_count; i++) {
        struct txn *t = &list[i];
        t->commit_lsn = cursor_be64(&c);
        t->commit_end_lsn = cursor_be64(&c);
        t->commit_time = cursor_be64_signed(&c);
        t->xid = cursor_be64(&c);
        uint8_t flags = cursor_u8(&c);
        t->actor = flags & 1 ? arena_dup(arena, cursor_varslice(&c)) : SLICE_NULL;
        t->restore_id = flags & 2 ? arena_dup(arena, cursor_varslice(&c)) : SLICE_NULL;
    }
    if (rc == 0 && !cursor_at_end(&c))
        rc = corrupt(s->name, "the transaction table is malformed", err);
    buf_release(&raw);
    if (rc < 0)
        return rc;
    *txns = list;
    *count = (size_t)s->txn_count;
    return 0;
}
