/* state.c: folds the versions of each key to the row at the cut.
 *
 * A field of kind 'u' in the first image after a key change or a tenant move carries over from the
 * row's former place: that place is read by a scan of its own, up to just before the change. Rare,
 * so simple. */
#include "strata/scan.h"

#include "core/err.h"
#include "strata/fold_internal.h"

#include <stdlib.h>

#define CARRY_DEPTH_MAX 64

struct state {
    struct archive *archive;
    struct scan_opts opts;
    struct scan *scan;
    struct fold *fold;
    struct version pending; /* read, of the next key */
    bool has_pending, pending_base, ended;
    struct buf key;
    /* For nested reads: stop just before this change of the key. */
    pgs_lsn stop_lsn;
    uint64_t stop_sequence;
    unsigned depth;
};

static int state_open_at(struct archive *a, const struct scan_opts *opts, pgs_lsn stop_lsn,
                         uint64_t stop_sequence, unsigned depth, struct state **state,
                         struct pgs_err *err);

static bool
has_unchanged(const struct version *v)
{
    /* Cheap and safe: the byte may be part of a text too, then nothing is lost but time. */
    return v->row.size > 0 && memchr(v->row.data, ROW_UNCHANGED, v->row.size) != NULL;
}

/* The row as it was at (tenant, key) just before the change becomes what `fold` carries on from. */
static int
carry_from(struct state *s, const struct tenant *tenant, struct slice key, const struct version *v,
           struct pgs_err *err)
{
    struct state *nested = NULL;
    struct state_row row;
    struct scan_opts opts = s->opts;
    if (s->depth >= CARRY_DEPTH_MAX)
        return err_set(err, PGS_E_REFUSED, "a row changed its key too often in one transaction");
    opts.tenant = *tenant;
    opts.keys = &key;
    opts.key_count = 1;
    opts.to = v->commit_lsn + 1;
    int rc =
        state_open_at(s->archive, &opts, v->commit_lsn, v->sequence, s->depth + 1, &nested, err);
    if (rc == 0)
        rc = state_next(nested, &row, err);
    if (rc == 0 && row.fields != NULL)
        fold_carry(s->fold, row.fields);
    state_close(nested);
    return rc < 0 ? rc : 0;
}

static bool
is_before_stop(const struct state *s, const struct version *v, bool base)
{
    if (base || s->stop_lsn == 0)
        return true;
    /* The change itself took the row away from its former place, one step before it came here. */
    bool taken_away = v->op == VERSION_DELETE || v->op == VERSION_MOVED_OUT;
    if (taken_away && v->commit_lsn == s->stop_lsn && v->sequence + 1 == s->stop_sequence)
        return false;
    return v->commit_lsn < s->stop_lsn ||
           (v->commit_lsn == s->stop_lsn && v->sequence < s->stop_sequence);
}

static int
find_moved_in(struct state *s, const struct version *v, struct tenant *from, struct buf *text,
              struct pgs_err *err)
{
    struct scan *scan = NULL;
    struct version other;
    bool base;
    struct slice key = v->key;
    struct scan_opts opts = s->opts;
    opts.keys = &key;
    opts.key_count = 1;
    opts.to = v->commit_lsn + 1;
    int rc = scan_open(s->archive, &opts, &scan, err);
    bool found = false;
    while (rc == 0 && !found && (rc = scan_next(scan, &other, &base, err)) == 0) {
        if (base || other.op != VERSION_MOVED_IN || other.commit_lsn != v->commit_lsn ||
            other.sequence < v->sequence)
            continue;
        buf_put_slice(text, other.row);
        from->scope = other.row.size > 0 ? SCOPE_TENANT : SCOPE_SHARED;
        from->key = buf_slice(text);
        found = true;
    }
    scan_close(scan);
    return rc < 0 ? rc : found ? 0 : PGS_NONE;
}

/* Where an image with carried fields meets no live row, its past lies elsewhere. */
static int
carry(struct state *s, const struct version *v, struct pgs_err *err)
{
    struct buf text = { 0 };
    struct tenant from;
    if (v->prev_key.data != NULL)
        return carry_from(s, &s->opts.tenant, v->prev_key, v, err);
    int rc = find_moved_in(s, v, &from, &text, err);
    if (rc == 0)
        rc = carry_from(s, &from, v->key, v, err);
    buf_release(&text);
    return rc < 0 ? rc : 0;
}

static int
apply(struct state *s, const struct version *v, bool base, struct state_row *row,
      struct pgs_err *err)
{
    if (!is_before_stop(s, v, base))
        return 0;
    if (v->op == VERSION_UPDATE && fold_row(s->fold) == NULL && has_unchanged(v)) {
        int rc = carry(s, v, err);
        if (rc < 0)
            return rc;
    }
    row->commit_lsn = base ? 0 : v->commit_lsn;
    return fold_apply(s->fold, v, err);
}

static int
state_open_at(struct archive *a, const struct scan_opts *opts, pgs_lsn stop_lsn,
              uint64_t stop_sequence, unsigned depth, struct state **state, struct pgs_err *err)
{
    struct state *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->archive = a;
    s->opts = *opts;
    s->stop_lsn = stop_lsn;
    s->stop_sequence = stop_sequence;
    s->depth = depth;
    s->fold = fold_new(opts->coverage->relation->column_count, NULL);
    int rc = scan_open(a, opts, &s->scan, err);
    if (rc < 0) {
        state_close(s);
        return rc;
    }
    *state = s;
    return 0;
}

int
state_open(struct archive *a, const struct scan_opts *opts, struct state **s, struct pgs_err *err)
{
    return state_open_at(a, opts, 0, 0, 0, s, err);
}

static int
pending_read(struct state *s, struct pgs_err *err)
{
    if (s->has_pending)
        return 0;
    if (s->ended)
        return PGS_NONE;
    int rc = scan_next(s->scan, &s->pending, &s->pending_base, err);
    s->has_pending = rc == 0;
    s->ended = rc == PGS_NONE;
    return rc;
}

int
state_next(struct state *s, struct state_row *row, struct pgs_err *err)
{
    for (;;) {
        int rc = pending_read(s, err);
        if (rc != 0)
            return rc;
        struct state_row answer = { 0 };
        buf_reset(&s->key);
        buf_put_slice(&s->key, s->pending.key);
        fold_reset(s->fold);
        while ((rc = pending_read(s, err)) == 0 &&
               slice_equal(s->pending.key, buf_slice(&s->key))) {
            s->has_pending = false;
            rc = apply(s, &s->pending, s->pending_base, &answer, err);
            if (rc < 0)
                return rc;
        }
        if (rc < 0)
            return rc;
        answer.key = buf_slice(&s->key);
        answer.fields = fold_row(s->fold);
        if (answer.fields != NULL || s->opts.keys != NULL) {
            *row = answer;
            return 0;
        }
    }
}

void
state_close(struct state *s)
{
    if (s == NULL)
        return;
    scan_close(s->scan);
    fold_free(s->fold);
    buf_release(&s->key);
    free(s);
}
