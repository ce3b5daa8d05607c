/* setup_objects.c: event triggers and the slot. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/replication.h"

#define INSUFFICIENT_PRIVILEGE "42501"

/* Tags that say something about tables; others do not even call us. */
const struct event_trigger setup_event_triggers_list[] = {
    { "pgstrata_start", "ddl_command_start", " WHEN TAG IN ('ALTER TYPE')", "on_ddl_start" },
    { "pgstrata_ddl", "ddl_command_end",
      " WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',"
      " 'CREATE SCHEMA', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'CREATE EXTENSION',"
      " 'ALTER EXTENSION')",
      "on_ddl" },
    { "pgstrata_rewrite", "table_rewrite", "", "on_rewrite" },
    { "pgstrata_drop", "sql_drop", "", "on_drop" },
};
const size_t setup_event_triggers_count =
    sizeof(setup_event_triggers_list) / sizeof(setup_event_triggers_list[0]);

static const char fires_always[] =
    "SELECT FROM pg_event_trigger WHERE evtname = $1 AND evtenabled = 'A'";

static int
event_trigger_create(struct pg_conn *c, struct buf *script, const struct event_trigger *t,
                     struct pgs_err *err)
{
    struct buf sql = { 0 };
    bool always = false, exists = false;
    int rc = setup_exists(c, fires_always, t->name, &always, err);
    if (rc == 0)
        rc = setup_exists(c, "SELECT FROM pg_event_trigger WHERE evtname = $1", t->name, &exists,
                          err);
    if (!exists)
        buf_printf(&sql, "CREATE EVENT TRIGGER %s ON %s%s EXECUTE FUNCTION pgstrata.%s(); ",
                   t->name, t->event, t->tags, t->function);
    buf_printf(&sql, "ALTER EVENT TRIGGER %s ENABLE ALWAYS", t->name);
    if (rc == 0 && !always)
        rc = setup_do(c, script, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

int
setup_event_triggers(struct pg_conn *c, struct buf *script, struct arena *arena,
                     struct findings *findings, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < setup_event_triggers_count; i++)
        rc = event_trigger_create(c, script, &setup_event_triggers_list[i], err);
    if (rc < 0 && strcmp(err->sqlstate, INSUFFICIENT_PRIVILEGE) == 0) {
        findings_add(
            findings, arena, FINDING_WARN, "event_trigger",
            "this role may not create event triggers: new and changed tables are found by polling, "
            "and for a second or two after a table lost its primary key PostgreSQL refuses its "
            "updates and deletes",
            "run pgstrata setup once as a superuser: then new tables are covered from their first "
            "row");
        return 0;
    }
    return rc < 0 ? err_doing(err, "create the event triggers") : 0;
}

int
setup_event_triggers_missing(struct pg_conn *c, size_t *missing, struct pgs_err *err)
{
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < setup_event_triggers_count; i++) {
        bool there = false;
        rc = setup_exists(c, fires_always, setup_event_triggers_list[i].name, &there, err);
        count += !there;
    }
    if (rc == 0)
        *missing = count;
    return rc;
}

int
setup_slot(struct pg_conn *c, const struct pg_target *target, const char *slot, struct buf *script,
           struct pgs_err *err)
{
    bool exists = false;
    struct pg_conn *replication = NULL;
    struct slot_created created;
    int rc = setup_exists(c, "SELECT FROM pg_replication_slots WHERE slot_name = $1", slot, &exists,
                          err);
    if (rc < 0 || exists)
        return rc;
    if (script != NULL) {
        buf_printf(script, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput'%s);\n", slot,
                   pg_server_version(c) >= 170000 ? ", failover => true" : "");
        return 0;
    }
    rc = pg_open(target, &(struct pg_open_opts){ .replication = true }, &replication, err);
    if (rc == 0)
        rc = replication_create_slot(replication, slot, false, false, &created, err);
    pg_close(replication);
    return rc;
}
