#include "restore/restore.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "pg/messages.h"

#include <stdio.h>

#define SQLSTATE_UNIQUE "23505"

static int
emit(struct pg_conn *c, struct slice name, struct pgs_err *err)
{
    struct buf body = { 0 };
    message_restore_point_body(&body, name);
    int rc = pg_query(c, "SELECT pg_logical_emit_message(true, $1, $2::text)",
                      PG_PARAMS(MESSAGE_RESTORE_POINT, buf_cstr(&body)), NULL, err);
    buf_release(&body);
    return rc;
}

static int
record(struct pg_conn *c, const char *name, const char *tenant, const char *kind,
       struct pgs_err *err)
{
    int rc =
        pg_query(c, "INSERT INTO pgstrata.restore_points (name, tenant, kind) VALUES ($1, $2, $3)",
                 PG_PARAMS(name, tenant, kind), NULL, err);
    if (rc < 0 && strcmp(err->sqlstate, SQLSTATE_UNIQUE) == 0) {
        rc = err_set(err, PGS_E_CONFLICT, "a restore point \"%s\" exists already", name);
        err_hint(err, "choose another name");
    }
    return rc;
}

/* After the commit: everything the restore point keeps ends at or before this. */
static int
position_now(struct pg_conn *c, pgs_lsn *lsn, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c, "SELECT pg_current_wal_insert_lsn()", PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        rc = lsn_parse(pg_cell(rows, 0, 0), lsn, err);
    pg_rows_free(rows);
    return rc;
}

int
restore_point_create(struct pg_conn *c, struct slice name, struct slice tenant, const char *kind,
                     pgs_lsn *lsn, struct pgs_err *err)
{
    struct pgs_err ignored;
    struct arena *scratch = arena_new(NULL);
    const char *name_text = arena_slice_str(scratch, name);
    const char *tenant_text = tenant.data == NULL ? NULL : arena_slice_str(scratch, tenant);
    int rc = 0;
    if (name.size == 0)
        rc = err_set(err, PGS_E_USAGE, "a restore point needs a name");
    if (rc == 0)
        rc = pg_exec(c, "BEGIN", err);
    if (rc == 0) {
        rc = record(c, name_text, tenant_text, kind, err);
        if (rc == 0)
            rc = emit(c, name, err);
        if (rc == 0)
            rc = pg_exec(c, "COMMIT", err);
        if (rc < 0 && pg_exec(c, "ROLLBACK", &ignored) < 0)
            ignored.kind = 0; /* the connection is gone, and with it the transaction */
    }
    if (rc == 0)
        rc = position_now(c, lsn, err);
    arena_free(scratch);
    return rc < 0 ? err_doing(err, "create restore point \"%.*s\"", SLICE_PRINT(name)) : 0;
}
