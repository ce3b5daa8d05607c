/* setup_checks.c: is this server fit to be archived. */
#include "pg/setup_internal.h"

#include "core/err.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

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

/* "*" or our name, as a whole word, anywhere: FIRST and ANY lists name standbys the same way. */
static bool
names_us(const char *names)
{
    for (const char *p = names; *p != '\0';) {
        size_t size = strcspn(p, " ,()\"");
        if ((size == 1 && *p == '*') || (size == 8 && strncasecmp(p, "pgstrata", 8) == 0))
            return true;
        p += size;
        p += strspn(p, " ,()\"");
    }
    return false;
}

static bool
is_true(const struct pg_rows *rows, size_t column)
{
    const char *text = pg_cell(rows, 0, column);
    return text != NULL && text[0] == 't';
}

static void
check_settings(const struct pg_rows *rows, struct arena *arena, struct findings *f)
{
    if (strcmp(pg_cell(rows, 0, 0), "logical") != 0)
        findings_add(f, arena, FINDING_ERROR, "wal_level",
                     arena_printf(arena, "wal_level is %s, not logical", pg_cell(rows, 0, 0)),
                     "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
    if (names_us(pg_cell(rows, 0, 1)))
        findings_add(
            f, arena, FINDING_ERROR, "synchronous_standby_names",
            arena_printf(
                arena, "synchronous_standby_names is '%s': every commit would wait for the archive",
                pg_cell(rows, 0, 1)),
            "name the standbys that are meant; the name pgstrata must not match");
    if (strtol(pg_cell(rows, 0, 2), NULL, 10) < 1)
        findings_add(f, arena, FINDING_WARN, "max_replication_slots",
                     "no replication slot is free: a base needs one for a moment",
                     "raise max_replication_slots and restart PostgreSQL");
    if (strcmp(pg_cell(rows, 0, 3), "-1") == 0)
        findings_add(
            f, arena, FINDING_WARN, "max_slot_wal_keep_size",
            "max_slot_wal_keep_size is unlimited: while pgstrata is down WAL can fill the disk",
            "set max_slot_wal_keep_size to what the disk can spare, and watch `pgstrata status`");
}

static void
check_role(const struct pg_rows *rows, int version, struct arena *arena, struct findings *f)
{
    const char *role = pg_cell(rows, 0, 6);
    if (!is_true(rows, 4))
        findings_add(f, arena, FINDING_ERROR, "replication",
                     arena_printf(arena, "role %s may not replicate", role),
                     arena_printf(arena, "ALTER ROLE %s REPLICATION;", role));
    if (!is_true(rows, 5))
        findings_add(
            f, arena, FINDING_WARN, "create",
            arena_printf(arena, "role %s may not create schemas in this database", role),
            arena_printf(arena, "GRANT CREATE ON DATABASE %s TO %s;", pg_cell(rows, 0, 8), role));
    if (!is_true(rows, 7))
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
    const char *privilege = version >= 150000
                                ? "has_parameter_privilege('session_replication_role', 'SET')"
                                : "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
    const char *sql = arena_printf(
        arena,
        "SELECT current_setting('wal_level'), current_setting('synchronous_standby_names'),"
        " current_setting('max_replication_slots')::int - (SELECT count(*) FROM "
        "pg_replication_slots),"
        " current_setting('max_slot_wal_keep_size'),"
        " (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),"
        " has_database_privilege(current_database(), 'CREATE')"
        "   OR to_regnamespace('pgstrata') IS NOT NULL,"
        " quote_ident(current_user), %s, quote_ident(current_database())",
        privilege);
    check_version(version, arena, findings);
    int rc = pg_query(c, sql, PG_NO_PARAMS, &rows, err);
    if (rc == 0) {
        check_settings(rows, arena, findings);
        check_role(rows, version, arena, findings);
    }
    pg_rows_free(rows);
    return rc < 0 ? err_doing(err, "check the server") : 0;
}
