/* plan_id.h: what a previewed plan is called (DESIGN 7): the same for a dry run and for applying
 * it, unless something that matters changed in between. Pure.
 *
 * SHA-256 over tenant, place of the cut, where the rows go, and for each table by (schema, name):
 * its oid, shapes, and the digest over (key, before, after) of all rows that differ. The cut counts
 * as the set of transactions it keeps, by the last one, since its LSN grows with the archive as
 * long as nothing came after it. Method and live LSN are left out: they change nothing. */
#ifndef RESTORE_PLAN_ID_H
#define RESTORE_PLAN_ID_H

#include <pgstrata/types.h>

#include "core/slice.h"

#define PLAN_ID_SIZE 65 /* 64 hex digits and NUL */

struct plan_id_table {
    uint32_t oid;
    uint64_t shape_id, live_shape_id; /* the latter 0 when the live table plays no part */
    uint64_t inserted, updated, deleted;
    const char *digest; /* hex; empty when nothing differs */
};
struct plan_id_input {
    struct slice tenant;
    struct pgs_moment last_kept;
    pgs_lsn cut_lsn;       /* counts only when nothing is kept */
    const char *to_schema; /* NULL: in place */
    const struct plan_id_table *tables;
    size_t table_count;
};
void plan_id(const struct plan_id_input *input, char id[PLAN_ID_SIZE]);

#endif
