/* state.c: folds the versions of each key to the row at the cut.
 *
 * A field of kind 'u' carries over from the row's version before. After a key change or a move
 * between tenants that is another key's, or another tenant's: it is read by a scan of its own, up
 * to just before the change, which may again have to look elsewhere. Rare, since it takes a large
 * value that stayed as it was; so simple. */
#include "strata/scan.h"

#include "core/err.h"
#include "strata/fold_internal.h"

#include <stdlib.h>

/* Key changes in a row's life, each with the same large value. Bounds memory: each holds a scan
 * open. */
#define CARRY_DEPTH_MAX 500

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

/* The row as it was at (tenant, key) just before the change. PGS_NONE: there was none. Otherwise
 * `fold` goes on from it. */
static int
carry_from(struct state *s, const struct tenant *tenant, struct slice key, const struct version *v,
           struct pgs_err *err)
{
    struct state *nested = NULL;
    struct state_row row;
    struct scan_opts opts = s->opts;
    if (s->depth >= CARRY_DEPTH_MAX) {
        (void)err_set(err, PGS_E_REFUSED,
                      "a row with a large value changed its key more than %d times",
                      CARRY_DEPTH_MAX);
        return err_code(err, "unresolved_toast");
    }
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
    else if (rc == 0)
        rc = PGS_NONE;
    state_close(nested);
    return rc;
}

static bool
is_before_stop(const struct state *s, const struct version *v, bool base)
{
    if (base || s->stop_lsn == 0)
        return true;
    return v->commit_lsn < s->stop_lsn ||
           (v->commit_lsn == s->stop_lsn && v->sequence < s->stop_sequence);
}

static bool
explains(const struct version *moved_in, const struct version *v)
{
    return moved_in->op == VERSION_MOVED_IN && moved_in->commit_lsn == v->commit_lsn &&
           moved_in->sequence >= v->sequence;
}

/* Whose the row was before `v` brought it here; the tenant's text goes into *text. PGS_NONE: it
 * was here. */
static int
moved_from(struct state *s, const struct version *v, struct tenant *from, struct buf *text,
           struct pgs_err *err)
{
    struct scan *scan = NULL;
    struct version other;
    bool base, found = false;
    struct scan_opts opts = s->opts;
    struct buf key = { 0 };
    buf_put_slice(&key, v->key);
    const struct slice wanted = buf_slice(&key);
    opts.keys = &wanted;
    opts.key_count = 1;
    opts.to = v->commit_lsn + 1;
    int rc = scan_open(s->archive, &opts, &scan, err);
    while (rc == 0 && !found && (rc = scan_next(scan, &other, &base, err)) == 0) {
        if (base || !explains(&other, v))
            continue;
        found = true;
        buf_put_slice(text, other.row);
        from->scope = other.row.size > 0 ? SCOPE_TENANT : SCOPE_SHARED;
        from->key = buf_slice(text);
    }
    scan_close(scan);
    buf_release(&key);
    return rc < 0 ? rc : found ? 0 : PGS_NONE;
}

/* An image with carried fields, and no row here to carry them from: under the old key, in the
 * tenant it came from, or both. Where nothing is found, fold_apply says so. */
static int
carry(struct state *s, const struct version *v, struct pgs_err *err)
{
    struct buf text = { 0 };
    struct tenant from;
    bool renamed = v->prev_key.data != NULL;
    int rc = renamed ? carry_from(s, &s->opts.tenant, v->prev_key, v, err) : PGS_NONE;
    if (rc == PGS_NONE) {
        rc = moved_from(s, v, &from, &text, err);
        if (rc == 0)
            rc = carry_from(s, &from, renamed ? v->prev_key : v->key, v, err);
    }
    buf_release(&text);
    return rc < 0 ? rc : 0;
}

static int
apply(struct state *s, const struct version *v, bool base, struct state_row *row,
      struct pgs_err *err)
{
    if (!is_before_stop(s, v, base))
        return 0;
    if (v->op == VERSION_UPDATE && fold_needs_carry(s->fold, v)) {
        fold_reset(s->fold);
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
