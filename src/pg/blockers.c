#include "pg/blockers.h"

#include "core/err.h"

#include <inttypes.h>
#include <stdlib.h>

static const char SQL_BLOCKERS[] =
    "SELECT b.pid, coalesce(a.application_name, ''), coalesce(a.usename, ''),"
    " coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, -1)"
    " FROM (SELECT DISTINCT unnest(pg_blocking_pids(s.active_pid)) AS pid"
    "  FROM pg_replication_slots s WHERE s.temporary AND s.active_pid IS NOT NULL"
    "  AND s.database = current_database() AND starts_with(s.slot_name, '" BASE_SLOT_PREFIX "')) b"
    " LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY a.xact_start";

int
blockers_read(struct pg_conn *c, struct arena *arena, struct blocker **blockers, size_t *count,
              struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, SQL_BLOCKERS, PG_NO_PARAMS, &rows, err);
    if (rc < 0)
        return rc;
    size_t n = pg_rows_count(rows);
    struct blocker *list = arena_alloc_array(arena, n + 1, sizeof(*list));
    for (size_t i = 0; i < n; i++)
        list[i] = (struct blocker){ .pid = (int)strtol(pg_cell(rows, i, 0), NULL, 10),
                                    .application = arena_dup(arena, pg_cell_slice(rows, i, 1)),
                                    .user = arena_dup(arena, pg_cell_slice(rows, i, 2)),
                                    .open_s = strtoll(pg_cell(rows, i, 3), NULL, 10) };
    pg_rows_free(rows);
    *blockers = list;
    *count = n;
    return 0;
}

void
blocker_print(struct buf *out, const struct blocker *b)
{
    if (b->pid == 0) {
        buf_put_str(out, "a prepared transaction");
        return;
    }
    buf_printf(out, "process %d (%.*s, user %.*s", b->pid,
               SLICE_PRINT(b->application.size > 0 ? b->application : slice_str("unnamed")),
               SLICE_PRINT(b->user.size > 0 ? b->user : slice_str("not shown")));
    if (b->open_s >= 0)
        buf_printf(out, ", open for %" PRId64 " s", b->open_s);
    buf_put_u8(out, ')');
}
