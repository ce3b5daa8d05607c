#include "restore/conversion.h"

#include "core/err.h"
#include "restore/diff.h"

#include <inttypes.h>
#include <stdlib.h>

/* Whether the stream of the table since the cut is whole: a change of columns breaks coverage, but
 * no change is missing. */
static int
stream_is_whole(struct plan *plan, const struct plan_table *t, struct arena *scratch, bool *whole,
                struct pgs_err *err)
{
    struct archive_gap *gaps;
    size_t count;
    struct archive *a = plan->session->archive;
    int rc = archive_gaps(a, scratch, &gaps, &count, err);
    *whole = plan->cut.era == archive_era(a);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct archive_gap *g = &gaps[i];
        bool known = g->end != 0 && (slice_equal(g->code, slice_str("shape_changed")) ||
                                     slice_equal(g->code, slice_str("rows_changed")));
        bool concerns = g->table_oid == 0 || g->table_oid == t->live->oid;
        if (concerns && !known && g->begin < plan->end && (g->end == 0 || g->end > plan->cut.lsn))
            *whole = false;
    }
    return rc;
}

static int
count_unexplained(struct plan *plan, const struct plan_table *t, uint64_t *count,
                  struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    buf_printf(&sql,
               "SELECT count(*) FROM pg_temp.pgs_diff_%zu d WHERE d.op IN ('U', 'R')"
               " AND NOT EXISTS (SELECT FROM pg_temp.pgs_window_%zu w WHERE ",
               t->number, t->number);
    diff_put_window_join(&sql, t);
    buf_put_u8(&sql, ')');
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        *count = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    buf_release(&sql);
    return rc;
}

int
conversion_check(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct changed_keys changed;
    struct pgs_lsn_range since = { plan->cut.lsn, plan->end };
    uint64_t unexplained = 0;
    bool whole = false;
    int rc = stream_is_whole(plan, t, scratch, &whole, err);
    if (rc == 0 && !whole)
        rc = mapping_refuse(err, t->label,
                            "a column has another type, and changes since are not all known");
    if (rc == 0)
        rc = scan_changed_keys(plan->session->archive, &plan->tenant, t->live->oid, since, scratch,
                               &changed, err);
    if (rc == 0)
        rc = diff_window(plan, t, changed.keys, changed.count, err);
    if (rc == 0)
        rc = count_unexplained(plan, t, &unexplained, err);
    if (rc == 0 && unexplained > 0)
        rc = mapping_refuse(err, t->label,
                            "a column has another type, and its values were not converted as "
                            "PostgreSQL does by itself (%" PRIu64
                            " rows read differently that nobody has changed)",
                            unexplained);
    arena_free(scratch);
    return rc;
}
