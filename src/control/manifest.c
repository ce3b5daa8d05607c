#include "control/manifest.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "pg/digest.h"

#include <jansson.h>

#define CHECKSUM_KEY "manifest_checksum"
#define CHECKSUM_DIGITS (MANIFEST_CHECKSUM_SIZE - 1)

static const char *const type_names[] = { "full", "incremental", "differential" };

const char *
backup_type_name(enum backup_type type)
{
    return type_names[type];
}

bool
backup_type_parse(const char *name, enum backup_type *type)
{
    for (size_t i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++) {
        if (strcmp(type_names[i], name) == 0) {
            *type = (enum backup_type)i;
            return true;
        }
    }
    return false;
}

/* What every manifest keeps, written or read. NULL, or what is wrong. */
static const char *
contradiction(const struct manifest *m)
{
    bool has_parent = m->parent != NULL;
    if (m->id[0] == '\0' || (has_parent && m->parent[0] == '\0'))
        return "an id is empty";
    if (strlen(m->checksum) != CHECKSUM_DIGITS || strlen(m->body_checksum) != CHECKSUM_DIGITS)
        return "a checksum is missing";
    if (has_parent == (m->type == BACKUP_FULL))
        return "type and parent do not fit together";
    if (has_parent != (m->parent_checksum[0] != '\0') || has_parent != (m->since_lsn != 0))
        return "parent, parent_checksum and since_lsn do not fit together";
    if (m->since_lsn > m->lsn || m->lsn == 0)
        return "lsn is before since_lsn";
    if (m->encrypted != (m->key_id != NULL))
        return "encrypted and key_id do not fit together";
    if (!m->includes_schema && !m->includes_data)
        return "neither schema nor data";
    return NULL;
}

/* --- writing --- */

static json_t *
text_json(const char *text)
{
    return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *
lsn_json(pgs_lsn lsn)
{
    char text[LSN_TEXT_MAX];
    return lsn == 0 ? json_null() : json_string(lsn_format(lsn, text));
}

static json_t *
time_json(pgs_time time)
{
    char text[TIME_TEXT_MAX];
    return time == PGS_TIME_NONE ? json_null() : json_string(time_format(time, text));
}

static json_t *
tables_json(const struct manifest *m)
{
    json_t *array = json_array();
    for (size_t i = 0; i < m->tables_count && array != NULL; i++) {
        const struct manifest_table *t = &m->tables[i];
        json_t *table = json_pack("{s:s, s:s, s:I}", "schema", t->schema, "name", t->name, "rows",
                                  (json_int_t)t->rows);
        if (json_array_append_new(array, table) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *
manifest_json(const struct manifest *m)
{
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, "
                     "s:b, s:b, s:o, s:I, s:s, s:I, s:s, s:o}",
                     "format", MANIFEST_FORMAT, "version", MANIFEST_VERSION, "id", m->id, "tenant",
                     m->tenant, "type", backup_type_name(m->type), "parent", text_json(m->parent),
                     "parent_checksum", text_json(m->parent_checksum), "since_lsn",
                     lsn_json(m->since_lsn), "lsn", lsn_json(m->lsn), "time", time_json(m->time),
                     "created", time_json(m->created), "expires", time_json(m->expires),
                     "includes_schema", m->includes_schema, "includes_data", m->includes_data,
                     "all_tables", m->all_tables, "compressed", m->compressed, "encrypted",
                     m->encrypted, "key_id", text_json(m->key_id), "size", (json_int_t)m->size,
                     "checksum", m->checksum, "body_size", (json_int_t)m->body_size,
                     "body_checksum", m->body_checksum, "tables", tables_json(m));
}

/* Of the content in canonical form: sorted keys, no white space. false: out of memory. */
static bool
content_checksum(json_t *root, char hex[DIGEST_HEX_SIZE])
{
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL)
        return false;
    digest_sha256_hex(slice_str(text), hex);
    free(text);
    return true;
}

int
manifest_encode(const struct manifest *manifest, struct buf *out, struct pgs_err *err)
{
    char hex[DIGEST_HEX_SIZE], *text = NULL;
    int rc = 0;
    pgs_assert(contradiction(manifest) == NULL);
    json_t *root = manifest_json(manifest);
    if (root != NULL && content_checksum(root, hex) &&
        json_object_set_new(root, CHECKSUM_KEY, json_string(hex)) == 0)
        text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (text == NULL)
        return err_set(err, PGS_E_FAILED, "manifest of %s: a text is not UTF-8", manifest->id);
    if (strlen(text) >= MANIFEST_BYTES_MAX)
        rc = err_set(err, PGS_E_FAILED, "manifest of %s: too many tables", manifest->id);
    else
        buf_printf(out, "%s\n", text);
    free(text);
    return rc;
}

/* --- reading --- */

/* An object being read. The first field that is wrong is remembered, and nothing after it. */
struct reader {
    const json_t *object;
    struct arena *arena;
    const char *wrong;
};

static const json_t *
field(struct reader *r, const char *key)
{
    const json_t *v = json_object_get(r->object, key);
    if (v == NULL && r->wrong == NULL)
        r->wrong = key;
    return v;
}

static void
reject(struct reader *r, const char *key)
{
    if (r->wrong == NULL)
        r->wrong = key;
}

static const char *
read_text_or_null(struct reader *r, const char *key)
{
    const json_t *v = field(r, key);
    if (json_is_string(v) && json_string_length(v) > 0)
        return arena_strdup(r->arena, json_string_value(v));
    if (!json_is_null(v))
        reject(r, key);
    return NULL;
}

/* May be empty: a tenant's key can be. Never NULL. */
static const char *
read_text(struct reader *r, const char *key)
{
    const json_t *v = field(r, key);
    if (json_is_string(v))
        return arena_strdup(r->arena, json_string_value(v));
    reject(r, key);
    return "";
}

static uint64_t
read_count(struct reader *r, const char *key)
{
    const json_t *v = field(r, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        reject(r, key);
    return (uint64_t)json_integer_value(v);
}

static bool
read_bool(struct reader *r, const char *key)
{
    const json_t *v = field(r, key);
    if (!json_is_boolean(v))
        reject(r, key);
    return json_is_true(v);
}

static pgs_lsn
read_lsn(struct reader *r, const char *key)
{
    struct pgs_err err;
    pgs_lsn lsn = 0;
    const char *text = read_text_or_null(r, key);
    if (text != NULL && lsn_parse(text, &lsn, &err) < 0)
        reject(r, key);
    return lsn;
}

static pgs_time
read_time_or_null(struct reader *r, const char *key)
{
    struct pgs_err err;
    char written[TIME_TEXT_MAX];
    pgs_time time = PGS_TIME_NONE;
    const char *text = read_text_or_null(r, key);
    /* Only as we write it: an offset could lead out of the years that can be written. */
    if (text != NULL &&
        (time_parse(text, &time, &err) < 0 || strcmp(time_format(time, written), text) != 0))
        reject(r, key);
    return time;
}

static pgs_time
read_time(struct reader *r, const char *key)
{
    pgs_time time = read_time_or_null(r, key);
    if (time == PGS_TIME_NONE)
        reject(r, key);
    return time;
}

static void
read_checksum_or_null(struct reader *r, const char *key, char checksum[MANIFEST_CHECKSUM_SIZE])
{
    const char *text = read_text_or_null(r, key);
    checksum[0] = '\0';
    if (text == NULL)
        return;
    if (strlen(text) != CHECKSUM_DIGITS || strspn(text, "0123456789abcdef") != CHECKSUM_DIGITS)
        reject(r, key);
    else
        memcpy(checksum, text, MANIFEST_CHECKSUM_SIZE);
}

static void
read_checksum(struct reader *r, const char *key, char checksum[MANIFEST_CHECKSUM_SIZE])
{
    read_checksum_or_null(r, key, checksum);
    if (checksum[0] == '\0')
        reject(r, key);
}

static enum backup_type
read_type(struct reader *r, const char *key)
{
    enum backup_type type = BACKUP_FULL;
    if (!backup_type_parse(read_text(r, key), &type))
        reject(r, key);
    return type;
}

static void
read_tables(struct reader *r, const char *key, struct manifest *m)
{
    const json_t *array = field(r, key);
    if (!json_is_array(array)) {
        reject(r, key);
        return;
    }
    size_t count = json_array_size(array);
    struct manifest_table *tables = arena_alloc_array(r->arena, count, sizeof(*tables));
    for (size_t i = 0; i < count; i++) {
        struct reader row = { .object = json_array_get(array, i), .arena = r->arena };
        tables[i].schema = read_text(&row, "schema");
        tables[i].name = read_text(&row, "name");
        tables[i].rows = read_count(&row, "rows");
        if (row.wrong != NULL)
            reject(r, key);
    }
    m->tables = tables;
    m->tables_count = count;
}

static struct manifest
read_fields(struct reader *r)
{
    struct manifest m = {
        .id = read_text_or_null(r, "id"),
        .tenant = read_text(r, "tenant"),
        .type = read_type(r, "type"),
        .parent = read_text_or_null(r, "parent"),
        .since_lsn = read_lsn(r, "since_lsn"),
        .lsn = read_lsn(r, "lsn"),
        .time = read_time(r, "time"),
        .created = read_time(r, "created"),
        .expires = read_time_or_null(r, "expires"),
        .includes_schema = read_bool(r, "includes_schema"),
        .includes_data = read_bool(r, "includes_data"),
        .all_tables = read_bool(r, "all_tables"),
        .compressed = read_bool(r, "compressed"),
        .encrypted = read_bool(r, "encrypted"),
        .key_id = read_text_or_null(r, "key_id"),
        .size = read_count(r, "size"),
        .body_size = read_count(r, "body_size"),
    };
    if (m.id == NULL)
        reject(r, "id");
    read_checksum_or_null(r, "parent_checksum", m.parent_checksum);
    read_checksum(r, "checksum", m.checksum);
    read_checksum(r, "body_checksum", m.body_checksum);
    read_tables(r, "tables", &m);
    return m;
}

/* Before anything else: what is damaged must not be taken for a later version. */
static int
check_content(json_t *root, struct arena *arena, struct pgs_err *err)
{
    char given[MANIFEST_CHECKSUM_SIZE], hex[DIGEST_HEX_SIZE];
    struct reader r = { .object = root, .arena = arena };
    read_checksum(&r, CHECKSUM_KEY, given);
    err_ignore(json_object_del(root, CHECKSUM_KEY));
    if (r.wrong != NULL || !content_checksum(root, hex) || strcmp(given, hex) != 0)
        return err_set(err, PGS_E_CORRUPT, "manifest: its checksum does not match");
    if (strcmp(read_text(&r, "format"), MANIFEST_FORMAT) != 0)
        return err_set(err, PGS_E_CORRUPT, "manifest: not one of a backup");
    uint64_t version = read_count(&r, "version");
    if (r.wrong != NULL || version == 0)
        return err_set(err, PGS_E_CORRUPT, "manifest: bad %s", "version");
    if (version > MANIFEST_VERSION) {
        (void)err_set(err, PGS_E_REFUSED, "manifest: format version %llu, this program knows %d",
                      (unsigned long long)version, MANIFEST_VERSION);
        return err_hint(err, "use the pgstrata that wrote it, or a later one");
    }
    return 0;
}

int
manifest_decode(struct slice bytes, struct arena *arena, struct manifest *manifest,
                struct pgs_err *err)
{
    if (bytes.size > MANIFEST_BYTES_MAX)
        return err_set(err, PGS_E_CORRUPT, "manifest: longer than any");
    json_t *root = json_loadb((const char *)bytes.data, bytes.size, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, PGS_E_CORRUPT, "manifest: no JSON object");
    }
    struct reader r = { .object = root, .arena = arena };
    int rc = check_content(root, arena, err);
    if (rc == 0) {
        struct manifest m = read_fields(&r);
        const char *wrong = r.wrong == NULL ? contradiction(&m) : NULL;
        if (r.wrong != NULL)
            rc = err_set(err, PGS_E_CORRUPT, "manifest: bad %s", r.wrong);
        else if (wrong != NULL)
            rc = err_set(err, PGS_E_CORRUPT, "manifest: %s", wrong);
        else
            *manifest = m;
    }
    json_decref(root);
    return rc;
}
