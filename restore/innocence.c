#include "restore/innocence.h"

#include "core/err.h"

static int
count_run(struct segment *segment, const struct run_ref *run, pgs_lsn commit_lsn, uint64_t *count,
          struct pgs_err *err)
{
    struct run_cursor *c = NULL;
    struct version v;
    int rc = run_cursor_open(segment, run, &c, err);
    while (rc == 0 && (rc = run_cursor_next(c, &v, err)) == 0)
        *count += v.commit_lsn == commit_lsn;
    run_cursor_close(c);
    return rc < 0 ? rc : 0;
}

/* Tombstones name no tenant; their keys were checked against the tenant before they were
 * deleted. */
static bool
is_foreign(const struct plan *plan, const struct run_ref *run)
{
    if (run->id.tenant.scope == SCOPE_TOMBSTONES)
        return false;
    return run->id.tenant.scope != plan->tenant.scope ||
           slice_compare(run->id.tenant.key, plan->tenant.key) != 0;
}

static int
count_segment(const struct plan *plan, struct segment *segment, pgs_lsn commit_lsn, uint64_t *count,
              struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t position = 0, run_count;
    int rc = 0;
    while (rc == 0 &&
           (rc = segment_page(segment, &position, scratch, &runs, &run_count, err)) == 0) {
        for (size_t i = 0; rc == 0 && i < run_count; i++) {
            if (is_foreign(plan, &runs[i]) && runs[i].lsn.begin <= commit_lsn &&
                runs[i].lsn.end > commit_lsn)
                rc = count_run(segment, &runs[i], commit_lsn, count, err);
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
    struct cut cut;
    struct segment **segments;
    size_t count;
    uint64_t foreign = 0;
    struct arena *scratch = arena_new(NULL);
    struct target target = { .kind = TARGET_BEFORE_XID, .xid = xid };
    int rc = restore_session_flush(s, &err);
    if (rc == 0)
        rc = archive_resolve(s->archive, &target, PGS_TIME_NONE, &cut, &err);
    if (rc == 0)
        rc = archive_segments(
            s->archive, (struct pgs_lsn_range){ cut.first_undone.lsn, cut.first_undone.lsn + 1 },
            scratch, &segments, &count, &err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = count_segment(plan, segments[i], cut.first_undone.lsn, &foreign, &err);
    arena_free(scratch);
    if (rc == 0)
        *foreign_versions = foreign;
    return rc;
}
