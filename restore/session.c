#include "restore/restore.h"

#include "core/err.h"
#include "strata/barrier.h"

#define TIMEOUT_MS_DEFAULT 30000

static int
archive_id_read(struct pg_conn *c, struct arena *arena, const char **id, struct pgs_err *err)
{
    struct slice value;
    int rc = settings_get(c, "archive_id", arena, &value, err);
    if (rc < 0)
        return rc;
    if (rc == PGS_NONE) {
        err_set(err, PGS_E_NOT_FOUND, "this database is not set up for pgstrata");
        return err_hint(err, "run `pgstrata setup`, then `pgstrata serve`");
    }
    *id = arena_slice_str(arena, value);
    return 0;
}

int
restore_session_open(const struct restore_env *env, struct restore_session *s, struct pgs_err *err)
{
    struct restore_session opened = { .env = env, .server_now = PGS_TIME_NONE };
    struct pg_open_opts conn_opts = { .application_name = "pgstrata restore" };
    struct arena *scratch = arena_new(NULL);
    const char *id = NULL;
    int rc = pg_open(&env->target, &conn_opts, &opened.conn, err);
    if (rc == 0)
        rc = archive_id_read(opened.conn, scratch, &id, err);
    if (rc == 0)
        rc = store_open(env->root_url, &opened.root, err);
    if (rc == 0)
        rc = alog_store(opened.root, id, &opened.store, err);
    if (rc == 0)
        rc = archive_open(opened.store, id, &opened.archive, err);
    arena_free(scratch);
    if (rc < 0) {
        restore_session_close(&opened);
        return rc;
    }
    *s = opened;
    return 0;
}

int
restore_session_flush(struct restore_session *s, struct pgs_err *err)
{
    int64_t timeout_ms = s->env->timeout_ms > 0 ? s->env->timeout_ms : TIMEOUT_MS_DEFAULT;
    pgs_lsn end;
    return barrier_flush(s->conn, s->archive, timeout_ms, &end, &s->server_now, err);
}

void
restore_session_close(struct restore_session *s)
{
    archive_close(s->archive);
    store_close(s->store);
    store_close(s->root);
    pg_close(s->conn);
    *s = (struct restore_session){ 0 };
}
