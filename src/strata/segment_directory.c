/* segment_directory.c: who has runs in a segment, and where their blocks are.
 *
 * Pages are found by binary search over their first runs, which the footer has; inside a page
 * runs are read in order. The entries of the tenant asked for last are kept as encoded. */
#include "strata/segment_internal.h"

#include "core/err.h"

/* With arena NULL the blocks are only stepped over. */
static void
blocks_read(struct cursor *c, uint64_t count, struct arena *arena, struct run_ref *run)
{
    if (count > cursor_left(c) / BLOCK_REF_BYTES_MIN) {
        c->failed = true;
        return;
    }
    if (arena != NULL)
        run->blocks = arena_alloc_array(arena, (size_t)count + 1, sizeof(*run->blocks));
    run->block_count = (size_t)count;
    for (uint64_t i = 0; i < count && !c->failed; i++) {
        struct part_ref part = part_ref_read(c);
        uint64_t versions = cursor_varint(c);
        struct block_ref b = { .offset = part.offset,
                               .stored_size = (uint32_t)part.stored_size,
                               .raw_size = (uint32_t)part.raw_size,
                               .version_count = (uint32_t)versions };
        b.lsn.begin = cursor_be64(c);
        b.lsn.end = cursor_be64(c);
        b.first_key = cursor_varslice(c);
        b.last_key = cursor_varslice(c);
        if (part.stored_size > UINT32_MAX || part.raw_size > PART_RAW_MAX ||
            versions > UINT32_MAX || versions == 0)
            c->failed = true;
        if (arena != NULL && !c->failed) {
            b.first_key = arena_dup(arena, b.first_key);
            b.last_key = arena_dup(arena, b.last_key);
            run->blocks[i] = b;
        }
    }
}

/* Everything but the blocks; *block_count of them follow. The tenant points into the source. */
static void
run_head_read(struct cursor *c, struct run_ref *run, uint64_t *block_count)
{
    *run = (struct run_ref){ 0 };
    run_id_read(c, &run->id);
    run->version_count = cursor_varint(c);
    run->lsn.begin = cursor_be64(c);
    run->lsn.end = cursor_be64(c);
    *block_count = cursor_varint(c);
}

/* One run into `arena`; NULL: stepped over, its id points into the source. */
static void
run_read(struct cursor *c, struct arena *arena, struct run_ref *run)
{
    uint64_t block_count;
    run_head_read(c, run, &block_count);
    blocks_read(c, block_count, arena, run);
    if (arena != NULL)
        run->id.tenant.key = arena_dup(arena, run->id.tenant.key);
}

static int
page_malformed(const struct segment *s, struct pgs_err *err)
{
    return segment_corrupt(s, err, "a directory page is malformed");
}

/* The last page whose first run is not behind the wanted one: the list can go on from there. */
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

static int
tenant_order(const struct tenant *a, const struct tenant *b)
{
    if (a->scope != b->scope)
        return a->scope < b->scope ? -1 : 1;
    return slice_compare(a->key, b->key);
}

/* Entries of the page that are the tenant's, appended to `kept` as they are. */
static int
page_keep(struct segment *s, size_t index, const struct tenant *tenant, struct tenant_runs *kept,
          struct pgs_err *err)
{
    struct buf page = { 0 };
    int rc = segment_part(s, &s->pages[index].part, "a directory page", &page, err);
    struct cursor c = cursor_of(rc == 0 ? buf_slice(&page) : SLICE_NULL);
    for (uint64_t i = 0; rc == 0 && i < s->pages[index].run_count; i++) {
        struct run_ref run;
        const uint8_t *from = c.next;
        run_read(&c, NULL, &run);
        if (!cursor_ok(&c)) {
            rc = page_malformed(s, err);
            break;
        }
        int order = tenant_order(&run.id.tenant, tenant);
        if (order > 0)
            break;
        if (order == 0) {
            buf_put(&kept->bytes, from, (size_t)(c.next - from));
            kept->count++;
        }
    }
    buf_release(&page);
    return rc;
}

static int
tenant_load(struct segment *s, const struct tenant *tenant, struct tenant_runs **runs,
            struct pgs_err *err)
{
    struct tenant_runs *kept = &s->kept[tenant->scope];
    struct run_id first = { .tenant = *tenant };
    struct run_id last = { .tenant = *tenant, .table_oid = UINT32_MAX, .shape_id = UINT64_MAX };
    *runs = kept;
    if (kept->loaded && slice_compare(buf_slice(&kept->tenant), tenant->key) == 0)
        return 0;
    kept->loaded = false;
    kept->count = 0;
    buf_reset(&kept->bytes);
    buf_reset(&kept->tenant);
    buf_put_slice(&kept->tenant, tenant->key);
    for (size_t i = page_find(s, &first); i < s->page_count; i++) {
        if (run_id_compare(&s->pages[i].first, &last) > 0)
            break;
        int rc = page_keep(s, i, tenant, kept, err);
        if (rc < 0)
            return rc;
    }
    kept->loaded = true;
    return 0;
}

int
segment_has_tenant(struct segment *s, const struct tenant *tenant, bool *has, struct pgs_err *err)
{
    struct tenant_runs *kept;
    int rc = tenant_load(s, tenant, &kept, err);
    if (rc == 0)
        *has = kept->count > 0;
    return rc;
}

/* A growing list in an arena. */
static struct run_ref *
list_add(struct arena *arena, struct run_ref **list, size_t *count)
{
    /* Full at each power of two. */
    if ((*count & (*count - 1)) == 0) {
        struct run_ref *grown = arena_alloc_array(arena, *count * 2 + 1, sizeof(*grown));
        if (*count > 0)
            memcpy(grown, *list, *count * sizeof(*grown));
        *list = grown;
    }
    return &(*list)[(*count)++];
}

int
segment_find(struct segment *s, const struct tenant *tenant, uint32_t table_oid,
             struct arena *arena, struct run_ref **runs, size_t *count, struct pgs_err *err)
{
    struct tenant_runs *kept;
    struct run_ref *list = NULL;
    size_t found = 0;
    int rc = tenant_load(s, tenant, &kept, err);
    if (rc < 0)
        return rc;
    struct cursor c = cursor_of(buf_slice(&kept->bytes));
    for (uint64_t i = 0; i < kept->count; i++) {
        struct cursor start = c;
        struct run_ref run;
        uint64_t block_count;
        run_head_read(&c, &run, &block_count);
        c = start;
        if (run.id.table_oid == table_oid)
            run_read(&c, arena, list_add(arena, &list, &found));
        else
            run_read(&c, NULL, &run);
    }
    if (!cursor_at_end(&c))
        return page_malformed(s, err);
    *runs = list;
    *count = found;
    return 0;
}

int
segment_page(struct segment *s, size_t *position, struct arena *arena, struct run_ref **runs,
             size_t *count, struct pgs_err *err)
{
    struct buf page = { 0 };
    struct run_ref *list = NULL;
    if (*position >= s->page_count)
        return PGS_NONE;
    const struct page_ref *ref = &s->pages[*position];
    int rc = segment_part(s, &ref->part, "a directory page", &page, err);
    struct cursor c = cursor_of(rc == 0 ? buf_slice(&page) : SLICE_NULL);
    if (rc == 0 && (ref->run_count == 0 || ref->run_count > cursor_left(&c) / RUN_REF_BYTES_MIN))
        rc = page_malformed(s, err);
    if (rc == 0)
        list = arena_alloc_array(arena, (size_t)ref->run_count, sizeof(*list));
    for (uint64_t i = 0; rc == 0 && i < ref->run_count && cursor_ok(&c); i++)
        run_read(&c, arena, &list[i]);
    if (rc == 0 && !cursor_at_end(&c))
        rc = page_malformed(s, err);
    buf_release(&page);
    if (rc < 0)
        return rc;
    *runs = list;
    *count = (size_t)ref->run_count;
    (*position)++;
    return 0;
}
