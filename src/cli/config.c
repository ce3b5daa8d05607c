#include "cli/config.h"

#include "cli/root_url.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

extern char **environ;

enum key_type {
    KEY_TEXT,
    KEY_DURATION,
    KEY_SIZE,
    KEY_COUNT,
    KEY_BOOL,
    KEY_LOG_FORMAT,
    KEY_LOG_LEVEL,
    KEY_PATTERN, /* of schema names, with one star for the tenant */
    KEY_LATER,   /* documented, not in this version: refused rather than silently ignored */
};

struct key {
    const char *name;
    enum key_type type;
    const char *fallback;
};

/* Every key of the environment and of the config file. */
static const struct key keys[] = {
    { "DB_HOST", KEY_TEXT, NULL },
    { "DB_PORT", KEY_TEXT, NULL },
    { "DB_NAME", KEY_TEXT, NULL },
    { "DB_USER", KEY_TEXT, NULL },
    { "DB_PASSWORD", KEY_TEXT, NULL },
    { "PGSTRATA_DSN", KEY_TEXT, NULL },
    { "BACKUP_DIR", KEY_TEXT, "./backups" },
    { "BACKUP_RETENTION_DAYS", KEY_COUNT, NULL },
    { "BACKUP_COMPRESSION", KEY_BOOL, NULL },
    { "BACKUP_ENCRYPTION", KEY_BOOL, NULL },
    { "BACKUP_S3_URL", KEY_TEXT, NULL },
    { "BACKUP_S3_ENDPOINT", KEY_TEXT, NULL },
    { "BACKUP_S3_REGION", KEY_TEXT, NULL },
    { "BACKUP_S3_STYLE", KEY_TEXT, NULL },
    { "BACKUP_S3_CA_FILE", KEY_TEXT, NULL },
    { "BACKUP_S3_STORAGE_CLASS", KEY_TEXT, NULL },
    { "BACKUP_S3_SSE", KEY_TEXT, NULL },
    { "BACKUP_S3_SSE_KMS_KEY", KEY_TEXT, NULL },
    { "BACKUP_ENCRYPTION_KEY_FILE", KEY_LATER, NULL },
    { "BACKUP_ENCRYPTION_KEY", KEY_LATER, NULL },
    { "PGSTRATA_KEY_COMMAND", KEY_LATER, NULL },
    { "PGSTRATA_ENCRYPTION", KEY_LATER, NULL },
    { "PGSTRATA_HISTORY_DAYS", KEY_COUNT, NULL },
    { "PGSTRATA_LISTEN", KEY_TEXT, NULL },
    { "PGSTRATA_FLUSH_INTERVAL", KEY_DURATION, "5s" },
    { "PGSTRATA_MEMORY", KEY_SIZE, "256MiB" },
    { "PGSTRATA_FLUSH_THREADS", KEY_COUNT, "2" },
    { "PGSTRATA_BASE_THREADS", KEY_COUNT, "2" },
    { "PGSTRATA_BASE_INTERVAL", KEY_DURATION, "0" },
    { "PGSTRATA_TENANT_TABLE", KEY_TEXT, "tenants" },
    { "PGSTRATA_TENANT_COLUMN", KEY_TEXT, "tenant_id" },
    { "PGSTRATA_TENANT_SCHEMAS", KEY_PATTERN, NULL },
    { "PGSTRATA_SLOT", KEY_TEXT, NULL },
    { "PGSTRATA_CONFIG", KEY_TEXT, NULL },
    { "PGSTRATA_LOG_FORMAT", KEY_LOG_FORMAT, "text" },
    { "PGSTRATA_LOG_LEVEL", KEY_LOG_LEVEL, "info" },
};
#define KEY_COUNT_ALL (sizeof(keys) / sizeof(keys[0]))

#define COUNT_MAX 100000
#define MEMORY_MIN ((uint64_t)32 << 20) /* below, one batch has no room beside the queue */
#define THREADS_MAX 64

/* Names of ours in the environment that are no settings: the tests' own. */
static const char *const foreign_names[] = { "PGSTRATA_BIN", "PGSTRATA_TEST_",
                                             "PGSTRATA_CRASH_AT" };

struct values {
    const char *text[KEY_COUNT_ALL];
};

static int
key_find(const char *name, size_t size)
{
    for (size_t i = 0; i < KEY_COUNT_ALL; i++) {
        if (strlen(keys[i].name) == size && memcmp(keys[i].name, name, size) == 0)
            return (int)i;
    }
    return -1;
}

static const char *
value_of(const struct values *values, const char *name)
{
    int index = key_find(name, strlen(name));
    pgs_assert(index >= 0);
    return values->text[index];
}

static int
count_parse(const char *text, uint64_t *count, struct pgs_err *err)
{
    char *end = NULL;
    unsigned long long v = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || v > COUNT_MAX)
        return err_set(err, PGS_E_USAGE, "\"%s\" is no number from 0 to %d", text, COUNT_MAX);
    *count = v;
    return 0;
}

static int
bool_parse(const char *text, bool *value, struct pgs_err *err)
{
    static const char *const yes[] = { "true", "on", "yes", "1" };
    static const char *const no[] = { "false", "off", "no", "0" };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *value = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return err_set(err, PGS_E_USAGE, "\"%s\" is neither true nor false", text);
}

static int
log_format_parse(const char *text, enum diag_format *format, struct pgs_err *err)
{
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return err_set(err, PGS_E_USAGE, "\"%s\" is neither text nor json", text);
    *format = strcmp(text, "json") == 0 ? DIAG_JSON : DIAG_TEXT;
    return 0;
}

static int
log_level_parse(const char *text, enum diag_level *level, struct pgs_err *err)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *level = (enum diag_level)i;
            return 0;
        }
    }
    return err_set(err, PGS_E_USAGE, "\"%s\" is none of error, warn, info, debug", text);
}

static int
pattern_parse(const char *text, struct pgs_err *err)
{
    const char *star = strchr(text, '*');
    if (star != NULL && strchr(star + 1, '*') == NULL)
        return 0;
    (void)err_set(err, PGS_E_USAGE, "\"%s\" is no pattern with one star", text);
    return err_hint(err, "the star stands for the tenant, as in app_*");
}

/* A documented key of a later version: only the value that asks for nothing is accepted. */
static int
later_check(const char *name, const char *text, struct pgs_err *err)
{
    bool on = true;
    struct pgs_err ignored;
    if (strcmp(name, "PGSTRATA_ENCRYPTION") == 0 && bool_parse(text, &on, &ignored) == 0 && !on)
        return 0;
    (void)err_set(err, PGS_E_REFUSED, "%s is set, but this version has no such feature yet", name);
    return err_hint(err, "unset %s; going on without it would not do what you asked for", name);
}

static int
value_check(const struct key *key, const char *text, struct pgs_err *err)
{
    int64_t ms;
    uint64_t number;
    bool flag;
    enum diag_format format;
    enum diag_level level;
    int rc = 0;
    switch (key->type) {
    case KEY_TEXT: break;
    case KEY_DURATION: rc = duration_parse(text, &ms, err); break;
    case KEY_SIZE: rc = size_parse(text, &number, err); break;
    case KEY_COUNT: rc = count_parse(text, &number, err); break;
    case KEY_BOOL: rc = bool_parse(text, &flag, err); break;
    case KEY_LOG_FORMAT: rc = log_format_parse(text, &format, err); break;
    case KEY_LOG_LEVEL: rc = log_level_parse(text, &level, err); break;
    case KEY_PATTERN: rc = pattern_parse(text, err); break;
    case KEY_LATER: return later_check(key->name, text, err);
    }
    return rc < 0 ? err_doing(err, "use %s", key->name) : 0;
}

static bool
name_is_foreign(const char *name)
{
    for (size_t i = 0; i < sizeof(foreign_names) / sizeof(foreign_names[0]); i++) {
        if (strncmp(name, foreign_names[i], strlen(foreign_names[i])) == 0)
            return true;
    }
    return false;
}

/* A misspelt key of ours would otherwise be a setting that silently does nothing. */
static int
environment_check_names(struct pgs_err *err)
{
    for (char **entry = environ; *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL || strncmp(*entry, "PGSTRATA_", 9) != 0 || name_is_foreign(*entry))
            continue;
        if (key_find(*entry, (size_t)(equals - *entry)) < 0) {
            (void)err_set(err, PGS_E_USAGE, "unknown key %.*s in the environment",
                          (int)(equals - *entry), *entry);
            return err_hint(err, "docs/guide.md lists every key");
        }
    }
    return 0;
}

static int
environment_read(struct values *values, struct pgs_err *err)
{
    int rc = environment_check_names(err);
    for (size_t i = 0; rc == 0 && i < KEY_COUNT_ALL; i++) {
        const char *text = getenv(keys[i].name);
        if (text != NULL && text[0] != '\0') {
            values->text[i] = text;
            rc = value_check(&keys[i], text, err);
        }
    }
    return rc;
}

static int
override_read(const char *table, json_t *object, struct arena *arena, struct route_override *out,
              struct pgs_err *err)
{
    const char *key;
    json_t *value;
    *out = (struct route_override){ .table = arena_strdup(arena, table), .route = ROUTE_COLUMN };
    if (strchr(table, '.') == NULL)
        return err_set(err, PGS_E_USAGE, "routes: \"%s\" is no schema.table", table);
    if (!json_is_object(object))
        return err_set(err, PGS_E_USAGE, "routes.%s is no object", table);
    json_object_foreach (object, key, value) {
        int rc = 0;
        if (!json_is_string(value))
            return err_set(err, PGS_E_USAGE, "routes.%s.%s is no string", table, key);
        if (strcmp(key, "route") == 0)
            rc = route_parse(json_string_value(value), &out->route, err);
        else if (strcmp(key, "column") == 0)
            out->column = arena_strdup(arena, json_string_value(value));
        else
            rc = err_set(err, PGS_E_USAGE, "unknown key routes.%s.%s", table, key);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int
routes_read(json_t *routes, struct arena *arena, struct catalog_rules *rules, struct pgs_err *err)
{
    const char *table;
    json_t *value;
    if (!json_is_object(routes))
        return err_set(err, PGS_E_USAGE, "\"routes\" is no object");
    struct route_override *list =
        arena_alloc_array(arena, json_object_size(routes) + 1, sizeof(*list));
    size_t count = 0;
    json_object_foreach (routes, table, value) {
        int rc = override_read(table, value, arena, &list[count], err);
        if (rc < 0)
            return rc;
        count++;
    }
    rules->overrides = list;
    rules->override_count = count;
    return 0;
}

static const char *
json_to_text(json_t *value, struct arena *arena)
{
    if (json_is_string(value))
        return arena_strdup(arena, json_string_value(value));
    if (json_is_integer(value))
        return arena_printf(arena, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    return NULL;
}

static int
file_key_read(const char *name, json_t *value, struct arena *arena, struct values *values,
              struct pgs_err *err)
{
    int index = key_find(name, strlen(name));
    if (index < 0)
        return err_set(err, PGS_E_USAGE, "unknown key \"%s\"", name);
    const char *text = json_to_text(value, arena);
    if (text == NULL)
        return err_set(err, PGS_E_USAGE, "\"%s\" is no text, number, true or false", name);
    values->text[index] = text;
    return value_check(&keys[index], text, err);
}

/* The file holds a JSON object: any key of the environment, and "routes": {"schema.table":
 * {"route": "column" | "schema" | "shared" | "excluded", "column": "..."}}. */
static int
file_read(const char *path, struct arena *arena, struct values *values, struct catalog_rules *rules,
          struct pgs_err *err)
{
    json_error_t where;
    const char *name;
    json_t *value;
    int rc = 0;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL)
        return err_set(err, PGS_E_USAGE, "config file %s, line %d: %s", path, where.line,
                       where.text);
    if (!json_is_object(root))
        rc = err_set(err, PGS_E_USAGE, "it holds no JSON object");
    json_object_foreach (root, name, value) {
        if (rc < 0)
            break;
        rc = strcmp(name, "routes") == 0 ? routes_read(value, arena, rules, err)
                                         : file_key_read(name, value, arena, values, err);
    }
    json_decref(root);
    return rc < 0 ? err_doing(err, "read config file %s", path) : 0;
}

/* The connection has a precedence of its own: a source that names one hides the weaker sources. */
static void
target_choose(const struct config_flags *flags, const struct values *environment,
              const struct values *file, struct pg_target *target)
{
    const struct values *source = environment;
    if (flags->dsn != NULL) {
        target->dsn = flags->dsn;
        return;
    }
    if (value_of(environment, "PGSTRATA_DSN") != NULL) {
        target->dsn = value_of(environment, "PGSTRATA_DSN");
        return;
    }
    bool any = value_of(environment, "DB_HOST") != NULL ||
               value_of(environment, "DB_NAME") != NULL ||
               value_of(environment, "DB_USER") != NULL || value_of(environment, "DB_PORT") != NULL;
    bool libpq = getenv("PGHOST") != NULL || getenv("PGDATABASE") != NULL ||
                 getenv("PGSERVICE") != NULL || getenv("PGUSER") != NULL;
    if (!any && !libpq) {
        source = file;
        target->dsn = value_of(file, "PGSTRATA_DSN");
    }
    target->host = value_of(source, "DB_HOST");
    target->port = value_of(source, "DB_PORT");
    target->dbname = value_of(source, "DB_NAME");
    target->user = value_of(source, "DB_USER");
    target->password = value_of(source, "DB_PASSWORD");
}

static unsigned
threads_of(const struct values *values, const char *name)
{
    uint64_t count = 1;
    struct pgs_err ignored;
    (void)count_parse(value_of(values, name), &count, &ignored); /* checked before */
    return (unsigned)(count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : count);
}

static int
config_fill(const struct values *v, struct config *c, struct pgs_err *err)
{
    uint64_t memory = 0;
    int rc = size_parse(value_of(v, "PGSTRATA_MEMORY"), &memory, err);
    if (rc == 0)
        rc = duration_parse(value_of(v, "PGSTRATA_FLUSH_INTERVAL"), &c->flush_interval_ms, err);
    if (rc == 0)
        rc = duration_parse(value_of(v, "PGSTRATA_BASE_INTERVAL"), &c->base_interval_ms, err);
    if (rc == 0)
        rc = log_format_parse(value_of(v, "PGSTRATA_LOG_FORMAT"), &c->log_format, err);
    if (rc == 0)
        rc = log_level_parse(value_of(v, "PGSTRATA_LOG_LEVEL"), &c->log_level, err);
    if (rc < 0)
        return rc;
    if (memory < MEMORY_MIN) {
        (void)err_set(err, PGS_E_USAGE, "PGSTRATA_MEMORY is %s: too little",
                      value_of(v, "PGSTRATA_MEMORY"));
        return err_hint(err, "give it at least 32MiB");
    }
    if (c->flush_interval_ms < 1)
        return err_set(err, PGS_E_USAGE, "PGSTRATA_FLUSH_INTERVAL must be above zero");
    c->memory_bytes = (size_t)memory;
    c->flush_threads = threads_of(v, "PGSTRATA_FLUSH_THREADS");
    c->base_threads = threads_of(v, "PGSTRATA_BASE_THREADS");
    c->slot = value_of(v, "PGSTRATA_SLOT");
    c->rules.tenant_table = value_of(v, "PGSTRATA_TENANT_TABLE");
    c->rules.tenant_column = value_of(v, "PGSTRATA_TENANT_COLUMN");
    c->rules.tenant_schemas = value_of(v, "PGSTRATA_TENANT_SCHEMAS");
    c->rules.publication = "pgstrata";
    return 0;
}

static int
root_read(const struct values *v, bool unfenced, struct arena *arena, struct config *c,
          struct pgs_err *err)
{
    const struct root_settings settings = {
        .dir = value_of(v, "BACKUP_DIR"),
        .s3_url = value_of(v, "BACKUP_S3_URL"),
        .endpoint = value_of(v, "BACKUP_S3_ENDPOINT"),
        .region = value_of(v, "BACKUP_S3_REGION"),
        .style = value_of(v, "BACKUP_S3_STYLE"),
        .ca_file = value_of(v, "BACKUP_S3_CA_FILE"),
        .storage_class = value_of(v, "BACKUP_S3_STORAGE_CLASS"),
        .sse = value_of(v, "BACKUP_S3_SSE"),
        .sse_kms_key = value_of(v, "BACKUP_S3_SSE_KMS_KEY"),
        .unfenced = unfenced,
    };
    return root_url_build(&settings, arena, &c->root_url, err);
}

static void
flags_apply(const struct config_flags *flags, struct values *values)
{
    const struct {
        const char *name, *text;
    } given[] = { { "BACKUP_DIR", flags->backup_dir },
                  { "PGSTRATA_LOG_FORMAT", flags->log_format },
                  { "PGSTRATA_LOG_LEVEL", flags->log_level } };
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        if (given[i].text != NULL)
            values->text[key_find(given[i].name, strlen(given[i].name))] = given[i].text;
    }
    if (flags->backup_dir != NULL) /* stronger than a bucket that the environment names */
        values->text[key_find("BACKUP_S3_URL", strlen("BACKUP_S3_URL"))] = NULL;
}

int
config_read(const struct config_flags *flags, struct arena *arena, struct config *config,
            struct pgs_err *err)
{
    struct values environment = { 0 }, file = { 0 }, merged;
    struct config c = { 0 };
    int rc = environment_read(&environment, err);
    if (rc < 0)
        return rc;
    const char *path =
        flags->file != NULL ? flags->file : value_of(&environment, "PGSTRATA_CONFIG");
    if (path != NULL)
        rc = file_read(path, arena, &file, &c.rules, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < KEY_COUNT_ALL; i++) {
        merged.text[i] = environment.text[i] != NULL ? environment.text[i]
                         : file.text[i] != NULL      ? file.text[i]
                                                     : keys[i].fallback;
    }
    flags_apply(flags, &merged);
    target_choose(flags, &environment, &file, &c.target);
    rc = config_fill(&merged, &c, err);
    if (rc == 0)
        rc = root_read(&merged, flags->unsafe_no_fencing, arena, &c, err);
    if (rc == 0)
        *config = c;
    return rc;
}

struct setup_opts
config_setup_opts(const struct config *config)
{
    return (struct setup_opts){ .rules = config->rules, .slot = config->slot };
}

struct archiver_opts
config_archiver_opts(const struct config *config)
{
    return (struct archiver_opts){
        .target = config->target,
        .setup = config_setup_opts(config),
        .root_url = config->root_url,
        .flush_interval_ms = config->flush_interval_ms,
        .memory_bytes = config->memory_bytes,
        .flush_threads = config->flush_threads,
        .base_threads = config->base_threads,
        .base_interval_ms = config->base_interval_ms,
        .range_interval_ms = 60000,
        .range_bytes = (uint64_t)64 << 20,
    };
}

struct restore_env
config_restore_env(const struct config *config)
{
    return (struct restore_env){
        .target = config->target,
        .rules = config->rules,
        .root_url = config->root_url,
        .timeout_ms = 30000,
        .lock_timeout_ms = 10000,
        .memory_bytes = config->memory_bytes,
    };
}
