#include "strata/archive_internal.h"

#include "core/err.h"
#include "core/hash.h"
#include "core/timefmt.h"

#include <stdlib.h>
#include <time.h>

/* Between looks at the log: a flush takes a few milliseconds. */
/* Between two looks for a barrier: an eighth of the wait so far, which is then the most that can be
 * lost by looking too late. */
#define WAIT_SHARE 8
#define WAIT_MIN_US 500
#define WAIT_MAX_US 200000

int
archive_open(struct store *store, const char *archive_id, struct archive **archive,
             struct pgs_err *err)
{
    struct archive *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    a->store = store;
    a->arena = arena_new(NULL);
    int rc = alog_open(store, archive_id, &a->log, err);
    if (rc < 0) {
        archive_close(a);
        return rc;
    }
    archive_view_current(a);
    *archive = a;
    return 0;
}

void
archive_close(struct archive *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; i < SEGMENT_BUCKETS; i++) {
        for (struct cached_segment *c = a->buckets[i]; c != NULL; c = c->next)
            segment_close(c->segment);
    }
    alog_close(a->log);
    arena_free(a->arena);
    free(a);
}

int
archive_refresh(struct archive *a, struct pgs_err *err)
{
    int rc = alog_refresh(a->log, err);
    if (rc >= 0)
        archive_view_current(a);
    return rc;
}

static bool
has_barrier(const struct log_entry *e, struct slice barrier)
{
    for (size_t i = 0; i < e->barrier_count; i++) {
        if (slice_equal(e->barriers[i], barrier))
            return true;
    }
    return false;
}

static void
wait_pause(int64_t waited_us)
{
    int64_t us = waited_us / WAIT_SHARE;
    us = us < WAIT_MIN_US ? WAIT_MIN_US : us > WAIT_MAX_US ? WAIT_MAX_US : us;
    struct timespec pause = { .tv_nsec = (long)us * 1000 };
    (void)nanosleep(&pause, NULL);
}

int
archive_wait_barrier(struct archive *a, struct slice barrier, int64_t deadline_us,
                     struct pgs_err *err)
{
    int64_t began_us = clock_us();
    size_t seen = 0;
    for (;;) {
        int rc = archive_refresh(a, err);
        if (rc < 0)
            return rc;
        for (; seen < alog_count(a->log); seen++) {
            if (has_barrier(alog_entry(a->log, seen), barrier))
                return 0;
        }
        if (clock_us() >= deadline_us) {
            (void)err_set(err, PGS_E_NOT_RUNNING,
                          "the archiver did not archive the present in time");
            return err_hint(
                err,
                "is `pgstrata serve` running? `pgstrata status` tells; --timeout waits longer");
        }
        wait_pause(clock_us() - began_us);
    }
}

const struct alog *
archive_log(const struct archive *a)
{
    return a->log;
}

pgs_lsn
archive_end(const struct archive *a)
{
    pgs_lsn end = 0;
    ARCHIVE_FOR_ENTRIES(a, e) end = e->range.end > end ? e->range.end : end;
    return end < a->view_limit ? end : a->view_limit;
}

pgs_time
archive_end_time(const struct archive *a)
{
    pgs_time latest = PGS_TIME_NONE;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        if (e->time_max != PGS_TIME_NONE && (latest == PGS_TIME_NONE || e->time_max > latest))
            latest = e->time_max;
    }
    return latest;
}

uint64_t
archive_bytes_read(const struct archive *a)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < SEGMENT_BUCKETS; i++) {
        for (const struct cached_segment *c = a->buckets[i]; c != NULL; c = c->next)
            bytes += segment_bytes_read(c->segment);
    }
    return bytes;
}

int
archive_segment(struct archive *a, const struct segment_info *info, struct cached_segment **cached,
                struct pgs_err *err)
{
    struct slice name = slice_str(info->name);
    struct cached_segment **bucket = &a->buckets[hash_bytes(name, 0) % SEGMENT_BUCKETS];
    for (struct cached_segment *c = *bucket; c != NULL; c = c->next) {
        if (strcmp(c->name, info->name) == 0) {
            *cached = c;
            return 0;
        }
    }
    struct segment *segment;
    int rc = segment_open(a->store, info->name, info, &segment, err);
    if (rc < 0)
        return rc;
    struct cached_segment *c = arena_alloc_zero(a->arena, sizeof(*c));
    memcpy(c->name, info->name, sizeof(c->name));
    c->segment = segment;
    c->next = *bucket;
    *bucket = c;
    *cached = c;
    return 0;
}

int
archive_segment_txns(struct archive *a, const struct segment_info *info, struct txn **txns,
                     size_t *count, struct pgs_err *err)
{
    struct cached_segment *c;
    *txns = NULL;
    *count = 0;
    if (info->txn_count == 0)
        return 0;
    int rc = archive_segment(a, info, &c, err);
    if (rc == 0 && !c->txns_loaded) {
        rc = segment_txns(c->segment, a->arena, &c->txns, &c->txn_count, err);
        c->txns_loaded = rc == 0;
    }
    if (rc < 0)
        return rc;
    size_t n = c->txn_count;
    while (n > 0 && c->txns[n - 1].commit_lsn >= a->view_limit)
        n--;
    *txns = c->txns;
    *count = n;
    return 0;
}

int
archive_txn(struct archive *a, pgs_lsn commit_lsn, struct arena *arena, struct txn *txn,
            struct pgs_err *err)
{
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        if (e->kind != LOG_CHANGES || commit_lsn < e->range.begin || commit_lsn >= e->range.end)
            continue;
        for (size_t i = 0; i < e->segment_count; i++) {
            struct txn *txns;
            size_t count;
            int rc = archive_segment_txns(a, &e->segments[i], &txns, &count, err);
            if (rc < 0)
                return rc;
            size_t low = 0, high = count;
            while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (txns[middle].commit_lsn < commit_lsn)
                    low = middle + 1;
                else
                    high = middle;
            }
            if (low < count && txns[low].commit_lsn == commit_lsn) {
                *txn = txns[low];
                txn->actor = arena_dup(arena, txns[low].actor);
                txn->restore_id = arena_dup(arena, txns[low].restore_id);
                return 0;
            }
        }
    }
    return PGS_NONE;
}

int
archive_txn_before(struct archive *a, pgs_lsn lsn, struct txn *txn)
{
    struct pgs_err ignored;
    for (size_t i = a->view_end; i-- > a->view_begin;) {
        const struct log_entry *e = alog_entry(a->log, i);
        if (e->kind != LOG_CHANGES || e->range.begin >= lsn)
            continue;
        for (size_t j = e->segment_count; j-- > 0;) {
            struct txn *txns;
            size_t count;
            if (archive_segment_txns(a, &e->segments[j], &txns, &count, &ignored) < 0)
                return PGS_NONE;
            for (size_t k = count; k-- > 0;) {
                if (txns[k].commit_end_lsn <= lsn) {
                    *txn = txns[k];
                    return 0;
                }
            }
        }
    }
    return PGS_NONE;
}

int
archive_txn_after(struct archive *a, pgs_lsn lsn, struct txn *txn)
{
    struct pgs_err ignored;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        if (e->kind != LOG_CHANGES || e->range.end <= lsn)
            continue;
        for (size_t i = 0; i < e->segment_count; i++) {
            struct txn *txns;
            size_t count;
            if (archive_segment_txns(a, &e->segments[i], &txns, &count, &ignored) < 0)
                return PGS_NONE;
            for (size_t j = 0; j < count; j++) {
                if (txns[j].commit_lsn >= lsn) {
                    *txn = txns[j];
                    return 0;
                }
            }
        }
    }
    return PGS_NONE;
}

/* Bases' rows are no part of the stream: their segments are found through the base alone. */
static bool
is_change_entry(const struct log_entry *e)
{
    return e->kind == LOG_CHANGES;
}

int
archive_segments(struct archive *a, struct pgs_lsn_range range, struct arena *arena,
                 struct segment ***segments, size_t *count, struct pgs_err *err)
{
    size_t total = 0, n = 0;
    ARCHIVE_FOR_ENTRIES(a, e) total += is_change_entry(e) ? e->segment_count : 0;
    struct segment **list = arena_alloc_array(arena, total + 1, sizeof(struct segment *));
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; is_change_entry(e) && i < e->segment_count; i++) {
            const struct segment_info *info = &e->segments[i];
            struct cached_segment *c;
            if (info->lsn.begin >= range.end || info->lsn.end <= range.begin)
                continue;
            int rc = archive_segment(a, info, &c, err);
            if (rc < 0)
                return rc;
            list[n++] = c->segment;
        }
    }
    *segments = list;
    *count = n;
    return 0;
}

int
archive_base_segments(struct archive *a, const struct coverage *coverage, struct arena *arena,
                      struct segment ***segments, size_t *count, struct pgs_err *err)
{
    const struct log_base *base = coverage->base;
    struct segment **list =
        arena_alloc_array(arena, base->segment_count + 1, sizeof(struct segment *));
    for (size_t i = 0; i < base->segment_count; i++) {
        struct cached_segment *c;
        int rc = archive_segment(a, &coverage->base_entry->segments[base->segments[i]], &c, err);
        if (rc < 0)
            return rc;
        list[i] = c->segment;
    }
    *segments = list;
    *count = base->segment_count;
    return 0;
}

static int
slice_order(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Tenants seen: the first `sorted` are in order and all different, the few behind them are new. */
struct tenant_set {
    struct arena *arena;
    struct slice *items;
    size_t count, capacity, sorted;
};

static bool
tenant_is_known(const struct tenant_set *set, struct slice tenant)
{
    return (set->sorted > 0 &&
            bsearch(&tenant, set->items, set->sorted, sizeof(tenant), slice_order) != NULL) ||
           (set->count > set->sorted && slice_equal(set->items[set->count - 1], tenant));
}

static void
tenant_add(struct tenant_set *set, struct slice tenant)
{
    if (tenant_is_known(set, tenant))
        return;
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 256 : set->capacity * 2;
        struct slice *items = realloc(set->items, set->capacity * sizeof(*items));
        if (items == NULL)
            abort();
        set->items = items;
    }
    set->items[set->count++] = arena_dup(set->arena, tenant);
}

/* A segment's directory is in order, so what it added is all different: only the whole needs
 * sorting. */
static void
tenants_sort(struct tenant_set *set)
{
    if (set->count > set->sorted)
        qsort(set->items, set->count, sizeof(*set->items), slice_order);
    set->sorted = set->count;
}

static int
segment_tenants(struct archive *a, const struct segment_info *info, struct tenant_set *set,
                struct pgs_err *err)
{
    struct cached_segment *c;
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t position = 0, count;
    int rc = archive_segment(a, info, &c, err);
    while (rc == 0 &&
           (rc = segment_page(c->segment, &position, scratch, &runs, &count, err)) == 0) {
        for (size_t i = 0; i < count; i++) {
            if (runs[i].id.tenant.scope == SCOPE_TENANT)
                tenant_add(set, runs[i].id.tenant.key);
        }
        arena_reset(scratch);
    }
    arena_free(scratch);
    tenants_sort(set);
    return rc < 0 ? rc : 0;
}

int
archive_tenants(struct archive *a, struct arena *arena, struct slice **tenants, size_t *count,
                struct pgs_err *err)
{
    struct tenant_set set = { .arena = arena };
    int rc = 0;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; rc == 0 && i < e->segment_count; i++)
            rc = segment_tenants(a, &e->segments[i], &set, err);
    }
    if (rc == 0) {
        *tenants = arena_alloc_array(arena, set.count + 1, sizeof(**tenants));
        if (set.count > 0)
            memcpy(*tenants, set.items, set.count * sizeof(**tenants));
        *count = set.count;
    }
    free(set.items);
    return rc;
}

/* One look into the directory of each segment, newest first: most tenants are found at once. */
int
archive_has_tenant(struct archive *a, struct slice tenant, bool *has, struct pgs_err *err)
{
    const struct tenant wanted = { .scope = SCOPE_TENANT, .key = tenant };
    bool found = false;
    for (size_t i = a->view_end; !found && i-- > a->view_begin;) {
        const struct log_entry *e = alog_entry(a->log, i);
        for (size_t j = 0; !found && j < e->segment_count; j++) {
            struct cached_segment *c;
            int rc = archive_segment(a, &e->segments[j], &c, err);
            if (rc == 0)
                rc = segment_has_tenant(c->segment, &wanted, &found, err);
            if (rc < 0)
                return rc;
        }
    }
    *has = found;
    return 0;
}
