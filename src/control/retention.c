#include "control/retention.h"

#include "core/err.h"

/* Steps:
 *  1. Parents are looked up by id; a catalog that was damaged may name absent ones, or circles.
 *  2. Which are good: a chain is followed down until a link is known already.
 *  3. What keeps a backup by itself: busy, held, among the last good ones, not due.
 *  4. Whatever a kept one stands on is kept.
 *  5. The rest goes, longest chains first. */

#define US_PER_DAY (INT64_C(86400) * 1000000)
#define NO_PARENT SIZE_MAX

enum goodness { UNKNOWN, ON_THE_WAY, GOOD, BAD };

struct work {
    const struct retention_backup *backups;
    size_t count;
    size_t *parents; /* indexes; NO_PARENT: none, or absent */
    enum goodness *goodness;
    size_t *depths; /* links down to the end of the chain */
    struct retention_verdict *verdicts;
};

/* --- parents --- */

static int
compare_ids(const void *a, const void *b, void *context)
{
    const struct retention_backup *backups = context;
    return strcmp(backups[*(const size_t *)a].id, backups[*(const size_t *)b].id);
}

static size_t
find_id(const struct work *w, const size_t *by_id, const char *id)
{
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(w->backups[by_id[middle]].id, id);
        if (order == 0)
            return by_id[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NO_PARENT;
}

/* qsort_r hands its context over without const, and changes nothing there. */
union backups_context {
    const struct retention_backup *given;
    void *handed;
};

static int
find_parents(struct work *w, struct arena *arena, struct pgs_err *err)
{
    union backups_context context = { .given = w->backups };
    size_t *by_id = arena_alloc_array(arena, w->count, sizeof(*by_id));
    for (size_t i = 0; i < w->count; i++)
        by_id[i] = i;
    if (w->count > 1)
        qsort_r(by_id, w->count, sizeof(*by_id), compare_ids, context.handed);
    for (size_t i = 1; i < w->count; i++) {
        if (compare_ids(&by_id[i - 1], &by_id[i], context.handed) == 0)
            return err_set(err, PGS_E_CORRUPT, "two backups have the id %s",
                           w->backups[by_id[i]].id);
    }
    for (size_t i = 0; i < w->count; i++) {
        const char *parent = w->backups[i].parent;
        w->parents[i] = parent == NULL ? NO_PARENT : find_id(w, by_id, parent);
    }
    return 0;
}

/* --- good ones --- */

static bool
is_sound(const struct retention_backup *b)
{
    return b->status == BACKUP_COMPLETED && !b->damaged;
}

/* What backup i is, if its chain is known below it. A link that is on the way closes a circle. */
static enum goodness
judge(const struct work *w, size_t i)
{
    bool absent = w->backups[i].parent != NULL && w->parents[i] == NO_PARENT;
    if (!is_sound(&w->backups[i]) || absent)
        return BAD;
    return w->parents[i] == NO_PARENT || w->goodness[w->parents[i]] == GOOD ? GOOD : BAD;
}

/* Goes down from i to the first link that is known, or to the end; then back up, judging. */
static void
judge_chain(struct work *w, size_t *path, size_t i)
{
    size_t length = 0;
    while (i != NO_PARENT && w->goodness[i] == UNKNOWN) {
        w->goodness[i] = ON_THE_WAY;
        path[length++] = i;
        i = w->parents[i];
    }
    size_t depth = i == NO_PARENT ? 0 : w->depths[i] + 1;
    for (; length > 0; depth++) {
        i = path[--length];
        w->depths[i] = depth;
        w->goodness[i] = judge(w, i);
    }
}

static void
judge_all(struct work *w, struct arena *arena)
{
    size_t *path = arena_alloc_array(arena, w->count, sizeof(*path));
    for (size_t i = 0; i < w->count; i++)
        judge_chain(w, path, i);
}

/* --- what is kept --- */

static bool
is_due(const struct retention_backup *b, const struct retention_policy *policy)
{
    pgs_time age, limit;
    bool expired = policy->by_expiry && b->expires != PGS_TIME_NONE && b->expires <= policy->now;
    if (policy->days < 0 || __builtin_mul_overflow(policy->days, US_PER_DAY, &limit))
        return expired; /* more days than time has */
    if (__builtin_sub_overflow(policy->now, b->time, &age))
        return expired || b->time < policy->now;
    return expired || age > limit;
}

static enum retention_reason
own_reason(const struct retention_backup *b, const struct retention_policy *policy)
{
    if (b->status == BACKUP_EXPIRED)
        return RETENTION_GONE;
    if (b->status == BACKUP_PENDING || b->status == BACKUP_RUNNING)
        return RETENTION_KEEP_BUSY;
    if (b->held)
        return RETENTION_KEEP_HELD;
    return is_due(b, policy) ? RETENTION_DELETE : RETENTION_KEEP_NOT_DUE;
}

/* Newest first; of one moment the one with the greater id, so that the answer never depends on the
 * order given. */
static int
compare_newest(const void *a, const void *b, void *context)
{
    const struct retention_backup *backups = context;
    const struct retention_backup *x = &backups[*(const size_t *)a];
    const struct retention_backup *y = &backups[*(const size_t *)b];
    if (x->time != y->time)
        return x->time > y->time ? -1 : 1;
    return strcmp(y->id, x->id);
}

static bool
a_whole_one_is_good(const struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->goodness[i] == GOOD && w->backups[i].whole)
            return true;
    }
    return false;
}

static void
keep_last(struct work *w, size_t wanted, struct arena *arena)
{
    union backups_context context = { .given = w->backups };
    bool whole_only = a_whole_one_is_good(w);
    size_t *newest = arena_alloc_array(arena, w->count, sizeof(*newest));
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (w->goodness[i] == GOOD && (w->backups[i].whole || !whole_only))
            newest[count++] = i;
    }
    if (count > 1)
        qsort_r(newest, count, sizeof(*newest), compare_newest, context.handed);
    for (size_t i = 0; i < count && i < wanted; i++) {
        struct retention_verdict *verdict = &w->verdicts[newest[i]];
        if (verdict->reason != RETENTION_KEEP_HELD)
            verdict->reason = RETENTION_KEEP_LAST;
    }
}

/* A backup that failed stands on nothing: it cannot be restored anyhow. */
static bool
holds_parents(const struct work *w, size_t i)
{
    enum backup_status status = w->backups[i].status;
    bool lives = status == BACKUP_COMPLETED || status == BACKUP_PENDING || status == BACKUP_RUNNING;
    return lives && w->verdicts[i].reason != RETENTION_DELETE &&
           w->verdicts[i].reason != RETENTION_KEEP_NEEDED;
}

/* What a chain holds below a backup that another chain keeps already is kept by that chain's walk:
 * each link is walked once. */
static void
keep_needed(struct work *w, struct arena *arena)
{
    bool *walked = arena_alloc_array(arena, w->count, sizeof(*walked));
    for (size_t i = 0; i < w->count; i++) {
        if (!holds_parents(w, i))
            continue;
        for (size_t j = w->parents[i]; j != NO_PARENT && !walked[j]; j = w->parents[j]) {
            walked[j] = true;
            if (w->verdicts[j].reason == RETENTION_DELETE)
                w->verdicts[j] = (struct retention_verdict){ RETENTION_KEEP_NEEDED, i };
        }
    }
}

/* --- what goes --- */

static int
compare_deepest(const void *a, const void *b, void *context)
{
    const struct work *w = context;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (w->depths[x] != w->depths[y])
        return w->depths[x] > w->depths[y] ? -1 : 1;
    if (w->backups[x].time != w->backups[y].time)
        return w->backups[x].time < w->backups[y].time ? -1 : 1;
    return strcmp(w->backups[x].id, w->backups[y].id);
}

static void
list_deletions(struct work *w, struct arena *arena, struct retention_plan *plan)
{
    plan->deletions = arena_alloc_array(arena, w->count, sizeof(*plan->deletions));
    for (size_t i = 0; i < w->count; i++) {
        if (w->verdicts[i].reason != RETENTION_DELETE)
            continue;
        plan->deletions[plan->deletions_count++] = i;
        plan->deletions_bytes += w->backups[i].size;
    }
    if (plan->deletions_count > 1)
        qsort_r(plan->deletions, plan->deletions_count, sizeof(*plan->deletions), compare_deepest,
                w);
}

int
retention_decide(const struct retention_backup *backups, size_t count,
                 const struct retention_policy *policy, struct arena *arena,
                 struct retention_plan *plan, struct pgs_err *err)
{
    struct work w = {
        .backups = backups,
        .count = count,
        .parents = arena_alloc_array(arena, count, sizeof(size_t)),
        .goodness = arena_alloc_array(arena, count, sizeof(enum goodness)),
        .depths = arena_alloc_array(arena, count, sizeof(size_t)),
        .verdicts = arena_alloc_array(arena, count, sizeof(struct retention_verdict)),
    };
    int rc = find_parents(&w, arena, err);
    if (rc < 0)
        return rc;
    judge_all(&w, arena);
    for (size_t i = 0; i < count; i++)
        w.verdicts[i].reason = own_reason(&backups[i], policy);
    keep_last(&w, policy->keep_last == 0 ? 1 : policy->keep_last, arena);
    keep_needed(&w, arena);
    *plan = (struct retention_plan){ .verdicts = w.verdicts };
    list_deletions(&w, arena, plan);
    return 0;
}

const char *
retention_reason_name(enum retention_reason reason)
{
    switch (reason) {
    case RETENTION_DELETE: return "delete";
    case RETENTION_KEEP_BUSY: return "busy";
    case RETENTION_KEEP_HELD: return "held";
    case RETENTION_KEEP_LAST: return "last good";
    case RETENTION_KEEP_NOT_DUE: return "not due";
    case RETENTION_KEEP_NEEDED: return "needed";
    case RETENTION_GONE: return "gone";
    }
    pgs_assert(!"a reason of retention");
    return "";
}
