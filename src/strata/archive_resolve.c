/* archive_resolve.c: targets become cuts (DESIGN 6, docs/decisions/0008).
 *
 *   1. Find the transaction that is meant, where the target names one (xid, name, --before-lsn).
 *   2. Walk the log in commit-LSN order: entries that are wholly kept or wholly undone by their
 *      own ranges are not read, but for the one transaction next to the cut.
 *   3. Choose a position. Between the last kept and the first undone transaction every position
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
    for (size_t i = alog_count(p->a->log); rc == 0 && p->bound == 0 && i-- > p->a->era_start;) {
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
            if (!slice_equal(r->name, p->target->name))
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

int
archive_resolve(struct archive *a, const struct target *target, pgs_time now, struct cut *cut,
                struct pgs_err *err)
{
    struct pass p = { .a = a, .target = target };
    int rc = resolve(&p, now, err);
    if (rc < 0)
        return rc;
    struct cut c = { .era = archive_era(a),
                     .lsn = position_of(&p),
                     .last_kept = PGS_MOMENT_NONE,
                     .first_undone = PGS_MOMENT_NONE };
    if (c.lsn == 0) {
        (void)err_set(err, PGS_E_REFUSED, "the archive is empty");
        (void)err_code(err, "outside_coverage");
        return err_hint(err, "`pgstrata serve` fills it");
    }
    if (p.has_kept)
        c.last_kept = (struct pgs_moment){ p.last_kept.commit_end_lsn, p.last_kept.commit_time,
                                           p.last_kept.xid };
    if (p.has_undone)
        c.first_undone = (struct pgs_moment){ p.first_undone.commit_lsn, p.first_undone.commit_time,
                                              p.first_undone.xid };
    *cut = c;
    return 0;
}
