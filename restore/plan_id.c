#include "restore/plan_id.h"

#include "core/buf.h"
#include "pg/digest.h"

#include <inttypes.h>

void
plan_id(const struct plan_id_input *input, char id[PLAN_ID_SIZE])
{
    struct buf text = { 0 };
    pgs_lsn place = input->last_kept.lsn != 0 ? input->last_kept.lsn : input->cut_lsn;
    buf_put_str(&text, "pgstrata plan 1\n");
    buf_put_varslice(&text, input->tenant);
    buf_printf(&text, "\n" PGS_LSN_FMT "\n", PGS_LSN_ARGS(place));
    buf_put_varslice(&text, slice_str(input->to_schema != NULL ? input->to_schema : ""));
    for (size_t i = 0; i < input->table_count; i++) {
        const struct plan_id_table *t = &input->tables[i];
        buf_printf(
            &text, "\n%u %016" PRIx64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s",
            t->oid, t->shape_id, t->live_shape_id, t->inserted, t->updated, t->deleted, t->digest);
    }
    digest_sha256_hex(buf_slice(&text), id);
    buf_release(&text);
}
