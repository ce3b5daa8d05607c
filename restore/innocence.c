#include "restore/innocence.h"

#include "core/err.h"

struct proof {
    const struct plan *plan;
    struct archive *archive;
    pgs_lsn commit_lsn; /* of the restore */
    uint64_t foreign;
};

/* --- the restore's transaction --- */

static int
find_in_segment(struct segment *segment, uint64_t xid, pgs_lsn *commit_lsn, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct txn *txns;
    size_t count;
    bool found = false;
    int rc = segment_txns(segment, scratch, &txns, &count, err);
    for (size_t i = 0; rc == 0 && !found && i < count; i++) {
        found = txns[i].xid == xid;
        if (found)
            *commit_lsn = txns[i].commit_lsn;
    }
    arena_free(scratch);
    return rc < 0 ? rc : found ? 0 : PGS_NONE;
}

/* It committed after the last look of settle.c, so that only the newest segments are read. */
static int
find_restore(struct archive *a, uint64_t xid, struct pgs_lsn_range range, pgs_lsn *commit_lsn,
             struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct segment **segments;
    size_t count = 0;
    int found = PGS_NONE;
    int rc = archive_segments(a, range, scratch, &segments, &count, err);
    for (size_t i = 0; rc == 0 && found == PGS_NONE && i < count; i++) {
        found = find_in_segment(segments[i], xid, commit_lsn, err);
        rc = found < 0 ? found : 0;
    }
    arena_free(scratch);
    if (rc == 0 && found == PGS_NONE)
        return err_set(err, PGS_E_FAILED, "the restore's transaction is not in the archive");
    return rc;
}

/* --- its versions --- */

/* Keys of the run's versions that the restore wrote; they come sorted. */
static int
keys_of_run(const struct proof *p, struct segment *segment, const struct run_ref *run,
            struct arena *arena, struct slice **keys, size_t *count, struct pgs_err *err)
{
    struct run_cursor *cursor = NULL;
    struct version v;
    size_t n = 0;
    struct slice *list = arena_alloc_array(arena, run->version_count + 1, sizeof(*list));
    int rc = run_cursor_open(segment, run, &cursor, err);
    while (rc == 0 && (rc = run_cursor_next(cursor, &v, err)) == 0) {
        if (v.commit_lsn == p->commit_lsn && (n == 0 || !slice_equal(list[n - 1], v.key)))
            list[n++] = arena_dup(arena, v.key);
    }
    run_cursor_close(cursor);
    *keys = list;
    *count = n;
    return rc < 0 ? rc : 0;
}

/* Tombstones name no tenant: their keys must have been the tenant's until then. */
static int
count_strangers(struct proof *p, uint32_t table_oid, const struct slice *keys, size_t count,
                struct pgs_err *err)
{
    struct state *state = NULL;
    struct state_row row;
    struct coverage coverage;
    uint64_t ours = 0;
    struct scan_opts opts = { .tenant = p->plan->tenant,
                              .coverage = &coverage,
                              .table_oid = table_oid,
                              .to = p->commit_lsn,
                              .keys = keys,
                              .key_count = count };
    int rc = archive_coverage(p->archive, table_oid, p->commit_lsn, p->commit_lsn, &coverage, err);
    if (rc == 0)
        rc = state_open(p->archive, &opts, &state, err);
    while (rc == 0 && (rc = state_next(state, &row, err)) == 0)
        ours += row.fields != NULL;
    state_close(state);
    p->foreign += count - ours;
    return rc < 0 ? rc : 0;
}

static bool
is_ours(const struct proof *p, const struct run_ref *run)
{
    return run->id.tenant.scope == p->plan->tenant.scope &&
           slice_compare(run->id.tenant.key, p->plan->tenant.key) == 0;
}

static int
check_run(struct proof *p, struct segment *segment, const struct run_ref *run, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct slice *keys;
    size_t count;
    int rc = keys_of_run(p, segment, run, scratch, &keys, &count, err);
    if (rc == 0 && count > 0 && run->id.tenant.scope == SCOPE_TOMBSTONES)
        rc = count_strangers(p, run->id.table_oid, keys, count, err);
    else if (rc == 0)
        p->foreign += count;
    arena_free(scratch);
    return rc;
}

static int
check_segment(struct proof *p, struct segment *segment, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t position = 0, count;
    int rc = 0;
    while (rc == 0 && (rc = segment_page(segment, &position, scratch, &runs, &count, err)) == 0) {
        for (size_t i = 0; rc == 0 && i < count; i++) {
            if (!is_ours(p, &runs[i]) && runs[i].lsn.begin <= p->commit_lsn &&
                runs[i].lsn.end > p->commit_lsn)
                rc = check_run(p, segment, &runs[i], err);
        }
    }
    arena_free(scratch);
    return rc < 0 ? rc : 0;
}

int
innocence_check(struct restore_session *s, const struct plan *plan, uint64_t xid,
                uint64_t *foreign_versions)
{
    struct pgs_err err;
    struct segment **segments;
    size_t count = 0;
    struct proof p = { .plan = plan, .archive = s->archive };
    struct arena *scratch = arena_new(NULL);
    int rc = restore_session_flush(s, &err);
    if (rc == 0)
        rc = find_restore(s->archive, xid,
                          (struct pgs_lsn_range){ plan->end, archive_end(s->archive) },
                          &p.commit_lsn, &err);
    if (rc == 0)
        rc = archive_segments(s->archive, (struct pgs_lsn_range){ p.commit_lsn, p.commit_lsn + 1 },
                              scratch, &segments, &count, &err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = check_segment(&p, segments[i], &err);
    arena_free(scratch);
    if (rc == 0)
        *foreign_versions = p.foreign;
    return rc;
}
