/* retention_test.c: a naive retention beside the real one, on random sets of backups: chains,
 * broken chains, circles, every status, holds, damage, expiries.
 *
 * The naive one starts from what keeps a backup by itself and adds parents until nothing changes.
 * Then the promises are checked once more, without any model: what is kept has its parents, the
 * last good one is there, nothing under hold goes, no order of deletions leaves an orphan midway.
 * A failure names the seed of the set, and
 *
 *     PGS_PROPERTY_SEED=<seed> test_property_retention
 *
 * plays that set alone. */
#include "control/retention.h"
#include "core/err.h"
#include "support/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS 30000
#define BACKUPS_MAX 10
#define DAY (INT64_C(86400) * 1000000)

struct set {
    uint64_t seed;
    struct retention_backup backups[BACKUPS_MAX];
    size_t count;
    struct retention_policy policy;
};

static uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t
below(uint64_t *state, size_t bound)
{
    return (size_t)(random_next(state) % bound);
}

static const char *const ids[BACKUPS_MAX + 1] = { "a", "b", "c", "d", "e",     "f",
                                                  "g", "h", "i", "j", "absent" };

/* Mostly an older one, sometimes any (a circle, itself), sometimes one that is not there. */
static const char *
draw_parent(uint64_t *state, size_t i)
{
    if (i == 0 || below(state, 3) == 0)
        return NULL;
    return below(state, 12) == 0 ? ids[below(state, BACKUPS_MAX + 1)] : ids[below(state, i)];
}

static void
draw(uint64_t seed, struct set *set)
{
    uint64_t state = seed;
    *set = (struct set){ .seed = seed, .count = below(&state, BACKUPS_MAX + 1) };
    for (size_t i = 0; i < set->count; i++) {
        struct retention_backup *b = &set->backups[i];
        b->id = ids[i];
        b->parent = draw_parent(&state, i);
        b->status = below(&state, 3) == 0 ? (enum backup_status)below(&state, 6) : BACKUP_COMPLETED;
        b->time = (int64_t)below(&state, 12) * DAY;
        b->expires = below(&state, 3) == 0 ? (int64_t)below(&state, 14) * DAY : PGS_TIME_NONE;
        b->size = below(&state, 1000);
        b->whole = below(&state, 4) != 0;
        b->held = below(&state, 10) == 0;
        b->damaged = below(&state, 8) == 0;
    }
    set->policy.now = 10 * DAY;
    set->policy.days = (int64_t)below(&state, 12) - 1;
    set->policy.by_expiry = below(&state, 2) == 0;
    set->policy.keep_last = below(&state, 4);
}

static const struct retention_backup *
parent_of(const struct set *set, const struct retention_backup *b)
{
    for (size_t i = 0; i < set->count && b->parent != NULL; i++) {
        if (strcmp(set->backups[i].id, b->parent) == 0)
            return &set->backups[i];
    }
    return NULL;
}

static bool
is_good(const struct set *set, const struct retention_backup *b)
{
    /* A chain longer than there are backups goes in a circle. */
    for (size_t links = 0; links <= set->count; links++) {
        if (b->status != BACKUP_COMPLETED || b->damaged)
            return false;
        if (b->parent == NULL)
            return true;
        b = parent_of(set, b);
        if (b == NULL)
            return false;
    }
    return false;
}

/* --- the naive one --- */

static bool
counts_as_last(const struct set *set, const struct retention_backup *b)
{
    bool whole_one = false;
    for (size_t i = 0; i < set->count; i++)
        whole_one |= set->backups[i].whole && is_good(set, &set->backups[i]);
    return is_good(set, b) && (b->whole || !whole_one);
}

static bool
is_among_last(const struct set *set, const struct retention_backup *b)
{
    size_t newer = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct retention_backup *other = &set->backups[i];
        bool is_newer =
            other->time > b->time || (other->time == b->time && strcmp(other->id, b->id) > 0);
        newer += is_newer && counts_as_last(set, other) ? 1 : 0;
    }
    return counts_as_last(set, b) &&
           newer < (set->policy.keep_last > 1 ? set->policy.keep_last : 1);
}

static bool
stays_by_itself(const struct set *set, const struct retention_backup *b)
{
    const struct retention_policy *policy = &set->policy;
    bool old = policy->days >= 0 && b->time < policy->now - policy->days * DAY;
    bool expired = policy->by_expiry && b->expires != PGS_TIME_NONE && b->expires <= policy->now;
    return b->status == BACKUP_PENDING || b->status == BACKUP_RUNNING ||
           b->status == BACKUP_EXPIRED || b->held || is_among_last(set, b) || (!old && !expired);
}

static bool
is_alive(const struct retention_backup *b)
{
    return b->status == BACKUP_COMPLETED || b->status == BACKUP_PENDING ||
           b->status == BACKUP_RUNNING;
}

/* Below a kept backup that is alive everything stays, through dead links too. */
static void
naive_decide(const struct set *set, bool stays[BACKUPS_MAX])
{
    bool below_kept[BACKUPS_MAX] = { false };
    for (size_t i = 0; i < set->count; i++)
        stays[i] = stays_by_itself(set, &set->backups[i]);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < set->count; i++) {
            const struct retention_backup *parent = parent_of(set, &set->backups[i]);
            bool holds = below_kept[i] || (stays[i] && is_alive(&set->backups[i]));
            size_t j = parent == NULL ? 0 : (size_t)(parent - set->backups);
            if (!holds || parent == NULL || below_kept[j])
                continue;
            below_kept[j] = stays[j] = changed = true;
        }
    }
}

/* --- promises --- */

static bool
has_orphan(const struct set *set, const bool deleted[BACKUPS_MAX])
{
    for (size_t i = 0; i < set->count; i++) {
        const struct retention_backup *parent = parent_of(set, &set->backups[i]);
        if (!deleted[i] && is_good(set, &set->backups[i]) && parent != NULL &&
            deleted[parent - set->backups])
            return true;
    }
    return false;
}

static void
check_promises(const struct set *set, const struct retention_plan *plan)
{
    bool deleted[BACKUPS_MAX] = { false };
    bool good_before = false, good_after = false;
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->deletions_count; i++) {
        size_t gone = plan->deletions[i];
        deleted[gone] = true;
        bytes += set->backups[gone].size;
        if (set->backups[gone].held || has_orphan(set, deleted))
            fail_msg("seed %llu: deletion %zu, of %s", (unsigned long long)set->seed, i,
                     set->backups[gone].id);
    }
    for (size_t i = 0; i < set->count; i++) {
        good_before |= is_good(set, &set->backups[i]);
        good_after |= is_good(set, &set->backups[i]) && !deleted[i];
    }
    if (good_before != good_after || bytes != plan->deletions_bytes)
        fail_msg("seed %llu: no good one is left", (unsigned long long)set->seed);
}

static void
play(uint64_t seed)
{
    struct set set;
    struct pgs_err err;
    struct retention_plan plan;
    bool stays[BACKUPS_MAX];
    struct arena *arena = arena_new(NULL);
    size_t deletions = 0;
    draw(seed, &set);
    assert_int_equal(retention_decide(set.backups, set.count, &set.policy, arena, &plan, &err), 0);
    naive_decide(&set, stays);
    for (size_t i = 0; i < set.count; i++) {
        if (stays[i] == (plan.verdicts[i].reason == RETENTION_DELETE))
            fail_msg("seed %llu: backup %s: %s", (unsigned long long)seed, set.backups[i].id,
                     retention_reason_name(plan.verdicts[i].reason));
        deletions += stays[i] ? 0 : 1;
    }
    assert_int_equal(deletions, plan.deletions_count);
    check_promises(&set, &plan);
    arena_free(arena);
}

static void
verdicts_are_those_of_the_naive_retention(void **unused)
{
    const char *given = getenv("PGS_PROPERTY_SEED");
    (void)unused;
    if (given != NULL) {
        play(strtoull(given, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= SETS; seed++)
        play(seed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(
        verdicts_are_those_of_the_naive_retention) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
