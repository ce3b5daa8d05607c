/* archive_resolve.c: targets become cuts (DESIGN 6, docs/decisions/0008).
 *
 *   1. Choose the era.
 *   2. Find the transaction that is meant, where the target names one (xid, name, --before-lsn).
 *   3. Walk the log in commit-LSN order: entries that are wholly kept or wholly undone by their
 *      own ranges are not read, but for the one transaction next to the cut.
 *   4. Choose a position. Between the last kept and the first undone transaction every position
 *      means the same set of transactions, yet not the same moment: a table that joins in between
 *      has its base there. A transaction, name or LSN is a moment by itself. A time in between is
 *      known no better than by what the archive had seen by then, so bases that may be younger
 *      are left out of the cut. */
#include "strata/archive_internal.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>

/* Clocks of a healthy server may step back by this much without a target becoming ambiguous. */
#define BACKWARDS_MAX_US (INT64_C(10) * 1000 * 1000)

struct pass {
    struct archive *a;
    const struct target *target;
    pgs_lsn bound;     /* all but TARGET_TIME: what is kept, see txn_is_kept */
    pgs_lsn exact_lsn; /* the position that is meant; 0: anywhere between kept and undone */
    struct txn last_kept, first_undone;
    bool has_kept, has_undone;
};

static bool
is_by_end(const struct target *target)
{
    return target->kind == TARGET_LSN || target->kind == TARGET_END;
}

static bool
time_is_kept(const struct target *target, pgs_time time)
{
    return target->exclusive ? time < target->time : time <= target->time;
}

static bool
txn_is_kept(const struct pass *p, const struct txn *t)
{
    if (p->target->kind == TARGET_TIME)
        return time_is_kept(p->target, t->commit_time);
    return is_by_end(p->target) ? t->commit_end_lsn <= p->bound : t->commit_lsn < p->bound;
}

/* No transaction of the entry can be undone. */
static bool
entry_is_kept(const struct pass *p, const struct log_entry *e)
{
    if (e->range.end > p->a->view_limit) /* some of it is abandoned: which, only reading tells */
        return false;
    if (p->target->kind == TARGET_TIME)
        return time_is_kept(p->target, e->time_max);
    return e->range.end <= p->bound;
}

static int
backwards(const struct pass *p, const struct txn *t, struct pgs_err *err)
{
    char at[LSN_TEXT_MAX], later[LSN_TEXT_MAX];
    (void)err_set(err, PGS_E_REFUSED,
                  "commit times run backwards around the target: the cut would be at %s, but %s "
                  "has a commit time before it",
                  lsn_format(p->first_undone.commit_lsn, at), lsn_format(t->commit_lsn, later));
    (void)err_code(err, "time_ambiguous");
    return err_hint(err, "choose by --target-lsn, --target-xid or --before-xid");
}

static int
take_txn(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    if (p->has_undone) {
        bool behind =
            p->target->kind == TARGET_TIME && t->commit_time < p->target->time - BACKWARDS_MAX_US;
        return behind ? backwards(p, t, err) : 0;
    }
    if (txn_is_kept(p, t)) {
        p->last_kept = *t;
        p->has_kept = true;
    } else {
        p->first_undone = *t;
        p->has_undone = true;
    }
    return 0;
}

typedef int txn_fn(struct pass *p, const struct txn *t, struct pgs_err *err);

/* PGS_NONE from fn ends the walk, and is the answer. */
static int
each_txn(struct pass *p, const struct log_entry *e, txn_fn *fn, struct pgs_err *err)
{
    for (size_t i = 0; i < e->segment_count; i++) {
        struct txn *txns;
        size_t count;
        int rc = archive_segment_txns(p->a, &e->segments[i], &txns, &count, err);
        for (size_t j = 0; rc == 0 && j < count; j++)
            rc = fn(p, &txns[j], err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static bool
has_txns(const struct log_entry *e)
{
    return e->kind == LOG_CHANGES && e->time_min != PGS_TIME_NONE;
}

/* Fills last_kept and first_undone. */
static int
split(struct pass *p, struct pgs_err *err)
{
    const struct log_entry *passed = NULL; /* kept as a whole, unread, and nothing kept after it */
    int rc = 0;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (!has_txns(e))
            continue;
        if (p->has_undone) {
            /* Only a time can be contradicted by what comes after the cut. */
            if (p->target->kind != TARGET_TIME || e->time_min >= p->target->time - BACKWARDS_MAX_US)
                continue;
        } else if (entry_is_kept(p, e)) {
            passed = e;
            p->has_kept = false;
            continue;
        }
        rc = each_txn(p, e, take_txn, err);
        if (rc < 0)
            return rc;
    }
    if (passed != NULL && !p->has_kept) {
        bool undone = p->has_undone;
        p->has_undone = false;
        rc = each_txn(p, passed, take_txn, err);
        p->has_undone = undone;
    }
    return rc;
}

/* --- targets that name a transaction --- */

static int
find_xid(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    uint64_t wanted = p->target->xid;
    (void)err;
    /* The last one of the entry: of the transactions with these low bits the newest is meant. */
    if (t->xid == wanted || (wanted <= UINT32_MAX && (uint32_t)t->xid == wanted)) {
        p->bound = t->commit_lsn;
        p->exact_lsn = t->commit_end_lsn;
    }
    return 0;
}

static int
resolve_xid(struct pass *p, bool exclusive, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = p->a->view_end; rc == 0 && p->bound == 0 && i-- > p->a->view_begin;) {
        const struct log_entry *e = alog_entry(p->a->log, i);
        if (has_txns(e))
            rc = each_txn(p, e, find_xid, err);
    }
    if (rc < 0)
        return rc;
    if (p->bound == 0) {
        (void)err_set(err, PGS_E_NOT_FOUND, "the archive has no transaction %" PRIu64,
                      p->target->xid);
        return err_hint(err, "only transactions that changed archived tables are there; "
                             "`pgstrata history` shows them");
    }
    if (exclusive)
        p->exact_lsn = p->bound;
    else
        p->bound++;
    return split(p, err);
}

/* Under load one commit record lies right behind another, and an LSN is one's end and the next
 * one's start: the start is what is meant. */
static int
find_lsn(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    (void)err;
    if (t->commit_lsn == p->target->lsn || (t->commit_end_lsn == p->target->lsn && p->bound == 0))
        p->bound = p->exact_lsn = t->commit_lsn;
    return 0;
}

static int
resolve_before_lsn(struct pass *p, struct pgs_err *err)
{
    char lsn[LSN_TEXT_MAX];
    int rc = 0;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (rc == 0 && has_txns(e) && p->target->lsn >= e->range.begin &&
            p->target->lsn <= e->range.end)
            rc = each_txn(p, e, find_lsn, err);
    }
    if (rc < 0)
        return rc;
    if (p->bound == 0) {
        (void)err_set(err, PGS_E_NOT_FOUND, "no transaction commits at %s",
                      lsn_format(p->target->lsn, lsn));
        return err_hint(err, "take commit_lsn or commit_end_lsn from `pgstrata history`");
    }
    return split(p, err);
}

static int
name_twice(const struct log_restore_point *one, const struct log_restore_point *two,
           struct pgs_err *err)
{
    char first[LSN_TEXT_MAX], second[LSN_TEXT_MAX];
    (void)err_set(err, PGS_E_REFUSED, "restore point \"%.*s\" is there twice: at %s and %s",
                  SLICE_PRINT(one->name), lsn_format(one->commit_end_lsn, first),
                  lsn_format(two->commit_end_lsn, second));
    (void)err_code(err, "ambiguous_name");
    return err_hint(err, "choose by --target-lsn");
}

static int
resolve_name(struct pass *p, struct pgs_err *err)
{
    const struct log_restore_point *found = NULL;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        for (size_t i = 0; i < e->restore_point_count; i++) {
            const struct log_restore_point *r = &e->restore_points[i];
            if (!slice_equal(r->name, p->target->name) || r->commit_lsn >= p->a->view_limit)
                continue;
            if (found != NULL && found->commit_lsn != r->commit_lsn)
                return name_twice(found, r, err);
            found = r;
        }
    }
    if (found == NULL) {
        (void)err_set(err, PGS_E_NOT_FOUND, "the archive has no restore point \"%.*s\"",
                      SLICE_PRINT(p->target->name));
        return err_hint(err, "`pgstrata restore-point list` lists them");
    }
    p->bound = p->target->exclusive ? found->commit_lsn : found->commit_lsn + 1;
    p->exact_lsn = p->target->exclusive ? found->commit_lsn : found->commit_end_lsn;
    return split(p, err);
}

/* --- times --- */

/* What the archive had seen by then is before the target, by the archiver's clock. */
static pgs_lsn
seen_by(const struct pass *p, pgs_time time)
{
    pgs_lsn seen = p->has_kept ? p->last_kept.commit_end_lsn : 0;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->created > time)
            continue;
        if (e->range.end > seen)
            seen = e->range.end;
        for (size_t i = 0; i < e->base_count; i++)
            seen = e->bases[i].lsn > seen ? e->bases[i].lsn : seen;
    }
    return seen;
}

/* Before every base that may be younger than the target. */
static pgs_lsn
position_of_time(const struct pass *p, pgs_lsn latest)
{
    const struct target *t = p->target;
    if (!t->exclusive && p->has_kept && p->last_kept.commit_time == t->time)
        return p->last_kept.commit_end_lsn;
    if (p->has_undone && p->first_undone.commit_time == t->time)
        return latest;
    pgs_lsn seen = seen_by(p, t->time), position = latest;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        for (size_t i = 0; i < e->base_count; i++) {
            pgs_lsn base = e->bases[i].lsn;
            if (base > seen && base <= position)
                position = base - 1;
        }
    }
    return position;
}

/* --- all targets --- */

static int
future(const char *what, struct pgs_err *err)
{
    (void)err_set(err, PGS_E_REFUSED, "the target %s lies in the future", what);
    return err_code(err, "future");
}

static int
resolve(struct pass *p, pgs_time now, struct pgs_err *err)
{
    char text[TIME_TEXT_MAX];
    const struct target *t = p->target;
    pgs_lsn end = archive_end(p->a);
    switch (t->kind) {
    case TARGET_TIME:
        if (now != PGS_TIME_NONE && t->time > now)
            return future(time_format(t->time, text), err);
        return split(p, err);
    case TARGET_LSN:
        if (t->lsn > end)
            return future(lsn_format(t->lsn, text), err);
        p->bound = t->lsn;
        return split(p, err);
    case TARGET_END: p->bound = end; return split(p, err);
    case TARGET_XID: return resolve_xid(p, t->exclusive, err);
    case TARGET_BEFORE_XID: return resolve_xid(p, true, err);
    case TARGET_BEFORE_LSN: return resolve_before_lsn(p, err);
    case TARGET_NAME: return resolve_name(p, err);
    }
    return err_set(err, PGS_E_USAGE, "no such target");
}

static pgs_lsn
position_of(const struct pass *p)
{
    pgs_lsn latest = p->has_undone ? p->first_undone.commit_lsn : archive_end(p->a);
    if (p->target->kind == TARGET_TIME)
        return position_of_time(p, latest);
    if (is_by_end(p->target))
        return p->bound < latest ? p->bound : latest;
    return p->exact_lsn;
}

/* --- eras --- */

/* The first moment of the era in view that its first bases can answer for. */
static void
first_answer(struct archive *a, struct pgs_moment *moment)
{
    struct txn txn;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->base_count; i++)
            moment->lsn = e->bases[i].lsn > moment->lsn ? e->bases[i].lsn : moment->lsn;
        if (e->base_count == 0)
            continue;
        bool has_txn = archive_txn_after(a, moment->lsn, &txn) == 0;
        moment->time = has_txn ? txn.commit_time : e->created;
        moment->xid = has_txn ? txn.xid : 0;
        return;
    }
}

/* The target lies behind the end of the era, and before the one after it can answer. */
static int
between_eras(struct archive *a, const struct era *left, const struct era *next, const char *what,
             struct pgs_err *err)
{
    char end[LSN_TEXT_MAX];
    struct txn txn;
    (void)err_set(
        err, PGS_E_REFUSED,
        "the target %s is no part of the database's history: era %u was left at %s (%.*s); "
        "what it had behind that is abandoned, and what came until era %u began was never "
        "seen",
        what, left->number, lsn_format(left->end, end), SLICE_PRINT(next->reason), next->number);
    (void)err_code(err, "outside_coverage");
    (void)err_hint(err, "choose one of the nearest moments");
    int rc = archive_view(a, left->number, &(struct pgs_err){ 0 });
    err->nearest_before.lsn = left->end;
    if (rc == 0 && archive_txn_before(a, left->end, &txn) == 0) {
        err->nearest_before.time = txn.commit_time;
        err->nearest_before.xid = txn.xid;
    }
    rc = archive_view(a, next->number, &(struct pgs_err){ 0 });
    if (rc == 0)
        first_answer(a, &err->nearest_after);
    return err->kind;
}

struct eras {
    const struct era *items;
    size_t count;
    size_t chosen; /* index */
};

/* A position of before the current era is one of the era that it left, if that has it. */
static int
era_of_lsn(struct archive *a, struct eras *eras, pgs_lsn lsn, struct pgs_err *err)
{
    char text[LSN_TEXT_MAX];
    size_t i = eras->count - 1;
    for (; lsn < eras->items[i].begin; i--) {
        const struct era *e = &eras->items[i];
        if (e->fork == 0) {
            (void)err_set(err, PGS_E_REFUSED,
                          "the target %s lies before era %u began, on another server (%.*s)",
                          lsn_format(lsn, text), e->number, SLICE_PRINT(e->reason));
            (void)err_code(err, "outside_coverage");
            return err_hint(err, "if it is a position of an era before, say which one: --era %u",
                            e->number - 1);
        }
        if (lsn > e->fork)
            return between_eras(a, e - 1, e, lsn_format(lsn, text), err);
    }
    eras->chosen = i;
    return 0;
}

/* An era begins, for times, when the archiver says so: what came before that has no base there. In
 * an era that has ended a time is known up to its last transaction. */
static int
era_of_time(struct archive *a, struct eras *eras, const struct target *t, struct pgs_err *err)
{
    char text[TIME_TEXT_MAX];
    struct txn last;
    size_t i = eras->count - 1;
    while (i > 0 && t->time < eras->items[i].created)
        i--;
    eras->chosen = i;
    if (i == eras->count - 1)
        return 0;
    int rc = archive_view(a, eras->items[i].number, err);
    if (rc < 0)
        return rc;
    rc = archive_txn_before(a, eras->items[i].end, &last);
    if (rc == 0 && t->time <= last.commit_time)
        return 0;
    return between_eras(a, &eras->items[i], &eras->items[i + 1], time_format(t->time, text), err);
}

static int
era_named(struct archive *a, struct eras *eras, const struct target *t, struct pgs_err *err)
{
    char text[LSN_TEXT_MAX];
    bool by_lsn = t->kind == TARGET_LSN || t->kind == TARGET_BEFORE_LSN;
    int rc = archive_view(a, t->era, err);
    if (rc < 0)
        return rc;
    eras->chosen = t->era - 1;
    const struct era *e = &eras->items[eras->chosen];
    if (by_lsn && t->era < eras->count && t->lsn > e->end)
        return between_eras(a, e, e + 1, lsn_format(t->lsn, text), err);
    return 0;
}

static int
era_choose(struct archive *a, struct eras *eras, const struct target *t, struct pgs_err *err)
{
    eras->chosen = eras->count - 1;
    if (t->era != 0)
        return era_named(a, eras, t, err);
    switch (t->kind) {
    case TARGET_TIME: return era_of_time(a, eras, t, err);
    case TARGET_LSN:
    case TARGET_BEFORE_LSN: return era_of_lsn(a, eras, t->lsn, err);
    case TARGET_XID:
    case TARGET_BEFORE_XID:
    case TARGET_NAME:
    case TARGET_END: break;
    }
    return 0;
}

/* Not found: perhaps because it is in what an era had behind its end. */
static int
not_found(struct pass *p, const struct eras *eras, pgs_time now, struct pgs_err *err)
{
    struct pgs_err unknown = *err;
    for (size_t i = eras->count - 1; i-- > 0;) {
        if (p->target->era != 0 && p->target->era != eras->items[i].number)
            continue;
        struct pass whole = { .a = p->a, .target = p->target };
        int rc = archive_view(p->a, eras->items[i].number, err);
        if (rc < 0)
            return rc;
        archive_view_whole(p->a);
        rc = resolve(&whole, now, err);
        if (rc == 0)
            return between_eras(p->a, &eras->items[i], &eras->items[i + 1], "transaction", err);
        if (err->kind != PGS_E_NOT_FOUND)
            return rc;
    }
    *err = unknown;
    return unknown.kind;
}

/* From the chosen era back, where the target names a transaction and no era. */
static int
resolve_in_eras(struct pass *p, struct eras *eras, pgs_time now, struct pgs_err *err)
{
    bool anywhere = p->target->era == 0 && p->target->kind != TARGET_BEFORE_LSN;
    int rc;
    for (size_t i = eras->chosen;; i--) {
        *p = (struct pass){ .a = p->a, .target = p->target };
        rc = archive_view(p->a, eras->items[i].number, err);
        if (rc == 0)
            rc = resolve(p, now, err);
        if (rc == 0 || err->kind != PGS_E_NOT_FOUND)
            return rc;
        if (i == 0 || !anywhere)
            break;
    }
    return not_found(p, eras, now, err);
}

static int
resolve_target(struct pass *p, struct arena *arena, pgs_time now, struct pgs_err *err)
{
    struct era *list;
    struct eras eras = { 0 };
    int rc = archive_eras(p->a, arena, &list, &eras.count, err);
    if (rc == 0 && eras.count == 0) /* an empty log: nothing to choose */
        return resolve(p, now, err);
    eras.items = list;
    if (rc == 0)
        rc = era_choose(p->a, &eras, p->target, err);
    return rc == 0 ? resolve_in_eras(p, &eras, now, err) : rc;
}

static int
cut_make(const struct pass *p, struct cut *cut, struct pgs_err *err)
{
    struct cut c = { .era = archive_era(p->a),
                     .lsn = position_of(p),
                     .last_kept = PGS_MOMENT_NONE,
                     .first_undone = PGS_MOMENT_NONE };
    if (c.lsn == 0) {
        (void)err_set(err, PGS_E_REFUSED, "the archive is empty");
        (void)err_code(err, "outside_coverage");
        return err_hint(err, "`pgstrata serve` fills it");
    }
    if (p->has_kept)
        c.last_kept = (struct pgs_moment){ p->last_kept.commit_end_lsn, p->last_kept.commit_time,
                                           p->last_kept.xid };
    if (p->has_undone)
        c.first_undone = (struct pgs_moment){ p->first_undone.commit_lsn,
                                              p->first_undone.commit_time, p->first_undone.xid };
    *cut = c;
    return 0;
}

int
archive_resolve(struct archive *a, const struct target *target, pgs_time now, struct cut *cut,
                struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct pass p = { .a = a, .target = target };
    int rc = resolve_target(&p, scratch, now, err);
    if (rc == 0)
        rc = cut_make(&p, cut, err);
    arena_free(scratch);
    archive_view_current(a);
    return rc;
}
