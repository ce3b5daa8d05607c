/* setup_checks.c: is this server fit to be archived, and may this role do it. */
#include "pg/setup_internal.h"

#include "core/err.h"
#include "pg/standby_names.h"

#include <stdlib.h>

#define VERSION_MIN 140000

void
findings_add(struct findings *f, struct arena *arena, enum finding_level level, const char *code,
             const char *text, const char *fix)
{
    if (f->count == f->capacity) {
        size_t capacity = f->capacity == 0 ? 16 : f->capacity * 2;
        struct finding *items = arena_alloc_array(arena, capacity, sizeof(*items));
        if (f->count > 0)
            memcpy(items, f->items, f->count * sizeof(*items));
        f->items = items;
        f->capacity = capacity;
    }
    f->items[f->count++] = (struct finding){
        .level = level,
        .code = slice_str(arena_strdup(arena, code)),
        .text = slice_str(arena_strdup(arena, text)),
        .fix = slice_str(arena_strdup(arena, fix)),
    };
}

static void
check_version(int version, struct arena *arena, struct findings *f)
{
    /* Minors before these lose or repeat changes in logical decoding now and then. */
    static const int sound[] = { 140019, 150014, 160010, 170006 };
    if (version < VERSION_MIN) {
        findings_add(f, arena, FINDING_ERROR, "version",
                     arena_printf(arena, "PostgreSQL %d is too old", version / 10000),
                     "use PostgreSQL 14 or newer");
        return;
    }
    for (size_t i = 0; i < sizeof(sound) / sizeof(sound[0]); i++) {
        if (version / 10000 == sound[i] / 10000 && version < sound[i])
            findings_add(f, arena, FINDING_WARN, "version_minor",
                         arena_printf(arena,
                                      "PostgreSQL %d.%d has known faults in logical decoding",
                                      version / 10000, version % 10000),
                         arena_printf(arena, "update to %d.%d or newer", sound[i] / 10000,
                                      sound[i] % 10000));
    }
}

/* Columns of the query below. */
enum {
    WAL_LEVEL,
    STANDBY_NAMES,
    SLOTS_FREE,
    SENDERS_FREE,
    KEEP_SIZE,
    IN_RECOVERY,
    LARGE_OBJECTS,
    MAY_REPLICATE,
    MAY_CREATE,
    MAY_SET_ROLE,
    ROLE,
    DATABASE
};

static const char server_sql[] =
    "SELECT current_setting('wal_level'), current_setting('synchronous_standby_names'),"
    " current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),"
    " current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication),"
    " current_setting('max_slot_wal_keep_size'), pg_is_in_recovery(),"
    " EXISTS (SELECT FROM pg_largeobject_metadata),"
    /* Amazon RDS gives the right by membership. */
    " (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user)"
    "   OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication'"
    "     AND pg_has_role(current_user, oid, 'USAGE')),"
    " has_database_privilege(current_database(), 'CREATE')"
    "   OR to_regnamespace('pgstrata') IS NOT NULL,"
    " %s, quote_ident(current_user), quote_ident(current_database())";

static const char *
cell(const struct pg_rows *rows, size_t column)
{
    return pg_cell(rows, 0, column);
}

static bool
is_true(const struct pg_rows *rows, size_t column)
{
    return cell(rows, column) != NULL && cell(rows, column)[0] == 't';
}

static void
check_settings(const struct pg_rows *rows, struct arena *arena, struct findings *f)
{
    if (is_true(rows, IN_RECOVERY))
        findings_add(f, arena, FINDING_ERROR, "standby", "this server is a standby",
                     "connect to the primary, as with target_session_attrs=read-write");
    if (strcmp(cell(rows, WAL_LEVEL), "logical") != 0)
        findings_add(f, arena, FINDING_ERROR, "wal_level",
                     arena_printf(arena, "wal_level is %s, not logical", cell(rows, WAL_LEVEL)),
                     "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
    if (standby_names_include(cell(rows, STANDBY_NAMES), "pgstrata"))
        findings_add(
            f, arena, FINDING_ERROR, "synchronous_standby_names",
            arena_printf(
                arena, "synchronous_standby_names is '%s': every commit would wait for the archive",
                cell(rows, STANDBY_NAMES)),
            "name the standbys that are meant, without * and without pgstrata: ALTER SYSTEM SET "
            "synchronous_standby_names = '...'; SELECT pg_reload_conf();");
}

static void
check_room(const struct pg_rows *rows, struct arena *arena, struct findings *f)
{
    if (strtol(cell(rows, SLOTS_FREE), NULL, 10) < 1)
        findings_add(f, arena, FINDING_WARN, "max_replication_slots",
                     "no replication slot is free: a base needs one for a moment",
                     "raise max_replication_slots and restart PostgreSQL");
    if (strtol(cell(rows, SENDERS_FREE), NULL, 10) < 1)
        findings_add(f, arena, FINDING_WARN, "max_wal_senders",
                     "no WAL sender is free: a base needs one for a moment",
                     "raise max_wal_senders and restart PostgreSQL");
    if (strcmp(cell(rows, KEEP_SIZE), "-1") == 0)
        findings_add(
            f, arena, FINDING_WARN, "max_slot_wal_keep_size",
            "max_slot_wal_keep_size is unlimited: while pgstrata is down WAL can fill the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '<what the disk can spare>'; SELECT "
            "pg_reload_conf();");
    if (is_true(rows, LARGE_OBJECTS))
        findings_add(f, arena, FINDING_WARN, "large_objects",
                     "large objects are not part of logical replication: they are not archived",
                     "keep them in bytea columns, or in files");
}

static void
check_role(const struct pg_rows *rows, int version, struct arena *arena, struct findings *f)
{
    const char *role = cell(rows, ROLE);
    if (!is_true(rows, MAY_REPLICATE))
        findings_add(f, arena, FINDING_ERROR, "replication",
                     arena_printf(arena, "role %s may not replicate", role),
                     arena_printf(arena, "ALTER ROLE %s REPLICATION;", role));
    if (!is_true(rows, MAY_CREATE))
        findings_add(
            f, arena, FINDING_ERROR, "create",
            arena_printf(arena, "role %s may not create schema and publication", role),
            arena_printf(arena, "GRANT CREATE ON DATABASE %s TO %s;", cell(rows, DATABASE), role));
    if (!is_true(rows, MAY_SET_ROLE))
        findings_add(
            f, arena, FINDING_WARN, "session_replication_role",
            arena_printf(arena, "role %s cannot switch triggers off during a restore", role),
            version >= 150000
                ? arena_printf(arena, "GRANT SET ON PARAMETER session_replication_role TO %s;",
                               role)
                : "restore with a superuser");
}

int
setup_check_server(struct pg_conn *c, struct arena *arena, struct findings *findings,
                   struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int version = pg_server_version(c);
    const char *may_set_role = version >= 150000
                                   ? "has_parameter_privilege('session_replication_role', 'SET')"
                                   : "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
    struct buf sql = { 0 };
    buf_printf(&sql, server_sql, may_set_role);
    check_version(version, arena, findings);
    int rc = pg_query(c, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0) {
        check_settings(rows, arena, findings);
        check_room(rows, arena, findings);
        check_role(rows, version, arena, findings);
    }
    pg_rows_free(rows);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "check the server") : 0;
}
