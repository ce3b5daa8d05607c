/* archive_resolve.c: targets become cuts (DESIGN 6, docs/decisions/0008).
 *
 * Transaction tables come in commit-LSN order. One pass over those that matter decides for each
 * transaction whether it is kept; the first that is not is `first_undone`, everything before it is
 * in. */
#include "strata/archive_internal.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>

/* Clocks of a healthy server may step back by this much without a target becoming ambiguous. */
#define BACKWARDS_MAX_US (INT64_C(10) * 1000 * 1000)

struct pass {
    struct archive *a;
    const struct target *target;
    struct txn last_kept, first_undone;
    bool has_kept, has_undone;
    uint64_t found_lsn; /* commit LSN of the transaction an xid, LSN or name stands for */
};

typedef int pass_fn(struct pass *p, const struct txn *t, struct pgs_err *err);

static int
each_txn(struct pass *p, pgs_lsn from, pass_fn *fn, struct pgs_err *err)
{
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->kind != LOG_CHANGES || e->range.end <= from)
            continue;
        for (size_t i = 0; i < e->segment_count; i++) {
            struct txn *txns;
            size_t count;
            int rc = archive_segment_txns(p->a, &e->segments[i], &txns, &count, err);
            for (size_t j = 0; rc == 0 && j < count; j++)
                rc = fn(p, &txns[j], err);
            if (rc != 0)
                return rc < 0 ? rc : 0;
        }
    }
    return 0;
}

/* Keeps everything with commit LSN below the bound; the first at or above it is undone. */
static int
split_at(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    (void)err;
    if (t->commit_lsn < p->found_lsn) {
        p->last_kept = *t;
        p->has_kept = true;
        return 0;
    }
    p->first_undone = *t;
    p->has_undone = true;
    return PGS_NONE;
}

/* Reads only tables near the bound: the entry before it has the last kept transaction. */
static int
split(struct pass *p, pgs_lsn bound, struct pgs_err *err)
{
    pgs_lsn from = 0;
    p->found_lsn = bound;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->kind == LOG_CHANGES && e->time_min != PGS_TIME_NONE && e->range.end <= bound &&
            e->range.begin > from)
            from = e->range.begin;
    }
    return each_txn(p, from > 0 ? from + 1 : 0, split_at, err);
}

static int
backwards(const struct pass *p, const struct txn *t, struct pgs_err *err)
{
    char at[LSN_TEXT_MAX], later[LSN_TEXT_MAX];
    (void)err_set(err, PGS_E_REFUSED,
                  "commit times run backwards around the target: the cut would be at %s, but %s "
                  "committed before the target's time",
                  lsn_format(p->first_undone.commit_lsn, at), lsn_format(t->commit_lsn, later));
    (void)err_code(err, "time_ambiguous");
    return err_hint(err, "choose by --target-lsn, --target-xid or --before-xid");
}

static bool
time_is_kept(const struct target *target, pgs_time time)
{
    return target->exclusive ? time < target->time : time <= target->time;
}

static int
time_step(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    bool kept = time_is_kept(p->target, t->commit_time);
    if (!p->has_undone && kept) {
        p->last_kept = *t;
        p->has_kept = true;
    } else if (!p->has_undone) {
        p->first_undone = *t;
        p->has_undone = true;
    } else if (t->commit_time < p->target->time - BACKWARDS_MAX_US) {
        return backwards(p, t, err);
    }
    return 0;
}

/* Entries wholly before the target's time need no look, nor do those wholly behind it once the cut
 * is found; the entry's own times tell. */
static int
resolve_time(struct pass *p, struct pgs_err *err)
{
    pgs_time edge = p->target->time;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->kind != LOG_CHANGES || e->time_min == PGS_TIME_NONE)
            continue;
        bool later = p->has_undone && e->time_min >= edge - BACKWARDS_MAX_US;
        if (later)
            continue;
        for (size_t i = 0; i < e->segment_count; i++) {
            struct txn *txns;
            size_t count;
            int rc = archive_segment_txns(p->a, &e->segments[i], &txns, &count, err);
            for (size_t j = 0; rc == 0 && j < count; j++)
                rc = time_step(p, &txns[j], err);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int
find_xid(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    uint64_t wanted = p->target->xid;
    (void)err;
    /* Later ones win: a 32-bit value means the newest transaction with these bits. */
    if (t->xid == wanted || (wanted <= UINT32_MAX && (uint32_t)t->xid == wanted))
        p->found_lsn = t->commit_lsn;
    return 0;
}

/* The end of one commit can be the start of the next one's commit record: the start is what is meant. */
static int
find_lsn(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    (void)err;
    if (t->commit_lsn == p->target->lsn) {
        p->found_lsn = t->commit_lsn;
        return PGS_NONE;
    }
    if (t->commit_end_lsn == p->target->lsn)
        p->found_lsn = t->commit_lsn;
    return 0;
}

static int
resolve_xid(struct pass *p, bool exclusive, struct pgs_err *err)
{
    int rc = each_txn(p, 0, find_xid, err);
    if (rc == 0 && p->found_lsn == 0) {
        (void)err_set(err, PGS_E_NOT_FOUND, "the archive has no transaction %" PRIu64,
                      p->target->xid);
        rc = err_hint(err, "only transactions that changed archived tables are there; "
                           "`pgstrata history` shows them");
    }
    return rc < 0 ? rc : split(p, p->found_lsn + (exclusive ? 0 : 1), err);
}

static int
resolve_before_lsn(struct pass *p, struct pgs_err *err)
{
    char lsn[LSN_TEXT_MAX];
    int rc = each_txn(p, 0, find_lsn, err);
    if (rc == 0 && p->found_lsn == 0) {
        (void)err_set(err, PGS_E_NOT_FOUND, "no transaction commits at %s",
                      lsn_format(p->target->lsn, lsn));
        rc = err_hint(err, "take commit_lsn or commit_end_lsn from `pgstrata history`");
    }
    return rc < 0 ? rc : split(p, p->found_lsn, err);
}

static int
resolve_name(struct pass *p, struct pgs_err *err)
{
    const struct log_restore_point *found = NULL;
    char one[LSN_TEXT_MAX], two[LSN_TEXT_MAX];
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        for (size_t i = 0; i < e->restore_point_count; i++) {
            const struct log_restore_point *r = &e->restore_points[i];
            if (!slice_equal(r->name, p->target->name))
                continue;
            if (found != NULL) {
                (void)err_set(err, PGS_E_CONFLICT,
                              "restore point \"%.*s\" is there twice: at %s and %s",
                              SLICE_PRINT(r->name), lsn_format(found->commit_end_lsn, one),
                              lsn_format(r->commit_end_lsn, two));
                return err_hint(err, "use --target-lsn");
            }
            found = r;
        }
    }
    if (found == NULL) {
        (void)err_set(err, PGS_E_NOT_FOUND, "the archive has no restore point \"%.*s\"",
                      SLICE_PRINT(p->target->name));
        return err_hint(err, "`pgstrata restore-point list` lists them");
    }
    return split(p, found->commit_lsn + (p->target->exclusive ? 0 : 1), err);
}

static int
future(const char *what, struct pgs_err *err)
{
    (void)err_set(err, PGS_E_REFUSED, "the target %s lies in the future", what);
    return err_code(err, "future");
}

static int
split_ending(struct pass *p, const struct txn *t, struct pgs_err *err)
{
    (void)err;
    if (t->commit_end_lsn <= p->found_lsn) {
        p->last_kept = *t;
        p->has_kept = true;
        return 0;
    }
    p->first_undone = *t;
    p->has_undone = true;
    return PGS_NONE;
}

static int
resolve_lsn(struct pass *p, pgs_lsn lsn, struct pgs_err *err)
{
    pgs_lsn from = 0;
    p->found_lsn = lsn;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->kind == LOG_CHANGES && e->time_min != PGS_TIME_NONE && e->range.end <= lsn &&
            e->range.begin > from)
            from = e->range.begin;
    }
    return each_txn(p, from > 0 ? from + 1 : 0, split_ending, err);
}

static int
resolve(struct pass *p, pgs_time now, struct pgs_err *err)
{
    char text[TIME_TEXT_MAX];
    const struct target *t = p->target;
    switch (t->kind) {
    case TARGET_TIME:
        if (now != PGS_TIME_NONE && t->time > now)
            return future(time_format(t->time, text), err);
        return resolve_time(p, err);
    case TARGET_LSN:
        if (t->lsn > archive_end(p->a))
            return future(lsn_format(t->lsn, text), err);
        return resolve_lsn(p, t->lsn, err);
    case TARGET_XID: return resolve_xid(p, t->exclusive, err);
    case TARGET_BEFORE_XID: return resolve_xid(p, true, err);
    case TARGET_BEFORE_LSN: return resolve_before_lsn(p, err);
    case TARGET_NAME: return resolve_name(p, err);
    case TARGET_END: return resolve_lsn(p, archive_end(p->a), err);
    }
    return err_set(err, PGS_E_USAGE, "no such target");
}

/* The first moment that can be asked for: a transaction, or the first base. */
static void
nearest_begin(const struct pass *p, struct pgs_moment *moment)
{
    if (p->has_undone) {
        *moment = (struct pgs_moment){ p->first_undone.commit_end_lsn, p->first_undone.commit_time,
                                       p->first_undone.xid };
        return;
    }
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        if (e->base_count > 0 && moment->lsn == 0)
            *moment = (struct pgs_moment){ e->bases[0].lsn, e->created, 0 };
    }
}

/* A time with no known transaction before it says nothing about the state, unless the archive was
 * there already: what was committed before the archive began is not known. */
static int
time_check_begin(const struct pass *p, struct pgs_err *err)
{
    char text[TIME_TEXT_MAX];
    if (p->has_kept || alog_count(p->a->log) == 0 ||
        p->target->time >= alog_entry(p->a->log, p->a->era_start)->created)
        return 0;
    (void)err_set(err, PGS_E_REFUSED, "the target %s lies before the archive",
                  time_format(p->target->time, text));
    (void)err_code(err, "outside_coverage");
    nearest_begin(p, &err->nearest_after);
    return err_hint(err, "choose a later time");
}

/* Where a gap lies between the last kept transaction and the first undone one, the time may lie in
 * it: the cut goes into the gap, where coverage refuses. */
static pgs_lsn
time_gap_cut(const struct pass *p, pgs_lsn lsn)
{
    pgs_lsn kept = p->has_kept ? p->last_kept.commit_end_lsn : 0;
    ARCHIVE_FOR_ENTRIES(p->a, e)
    {
        for (size_t i = 0; i < e->break_count; i++) {
            const struct log_break *b = &e->breaks[i];
            if (b->table_oid == 0 && b->begin >= kept && b->begin < lsn)
                lsn = b->begin + 1;
        }
    }
    return lsn;
}

int
archive_resolve(struct archive *a, const struct target *target, pgs_time now, struct cut *cut,
                struct pgs_err *err)
{
    struct pass p = { .a = a, .target = target };
    int rc = resolve(&p, now, err);
    if (rc == 0 && target->kind == TARGET_TIME)
        rc = time_check_begin(&p, err);
    if (rc < 0)
        return rc;
    struct cut c = { .era = archive_era(a),
                     .last_kept = PGS_MOMENT_NONE,
                     .first_undone = PGS_MOMENT_NONE };
    if (p.has_kept)
        c.last_kept = (struct pgs_moment){ p.last_kept.commit_end_lsn, p.last_kept.commit_time,
                                           p.last_kept.xid };
    if (p.has_undone)
        c.first_undone = (struct pgs_moment){ p.first_undone.commit_lsn, p.first_undone.commit_time,
                                              p.first_undone.xid };
    /* The largest position that means the same set of transactions. */
    c.lsn = p.has_undone ? p.first_undone.commit_lsn : archive_end(a);
    if (target->kind == TARGET_LSN && target->lsn < c.lsn)
        c.lsn = target->lsn;
    if (target->kind == TARGET_TIME)
        c.lsn = time_gap_cut(&p, c.lsn);
    *cut = c;
    return 0;
}
