#include "pg/relation.h"

#include "core/err.h"

#include <jansson.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    enum route route;
    const char *name;
} route_names[] = {
    { ROUTE_COLUMN, "column" }, { ROUTE_SHARED, "shared" }, { ROUTE_EXCLUDED, "excluded" },
    { ROUTE_PARENT, "parent" }, { ROUTE_SCHEMA, "schema" },
};
#define ROUTE_COUNT (sizeof(route_names) / sizeof(route_names[0]))

#define COLUMNS_MAX 1700 /* above PostgreSQL's 1,600 per table */

const char *
route_name(enum route route)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (route_names[i].route == route)
            return route_names[i].name;
    }
    return "excluded";
}

int
route_parse(const char *text, enum route *route, struct pgs_err *err)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (strcmp(route_names[i].name, text) == 0) {
            *route = route_names[i].route;
            return 0;
        }
    }
    return err_set(err, PGS_E_USAGE, "\"%.40s\" is no route", text);
}

/* Canonical encoding: route name, tenant column's attnum (0: none), column count, then per column
 * attnum, name, type oid, typmod, key flag; with a schema route the tenant behind them. Numbers are
 * big-endian, text has a 32-bit size in front. */
uint64_t
relation_shape_id(const struct relation *r)
{
    struct buf b = { 0 };
    uint8_t digest[SHA256_DIGEST_LENGTH];
    buf_put_be32(&b, (uint32_t)strlen(route_name(r->route)));
    buf_put_str(&b, route_name(r->route));
    buf_put_be16(&b, r->tenant_column < 0 ? 0 : (uint16_t)r->columns[r->tenant_column].attnum);
    buf_put_be32(&b, (uint32_t)r->column_count);
    for (size_t i = 0; i < r->column_count; i++) {
        const struct column *c = &r->columns[i];
        buf_put_be16(&b, (uint16_t)c->attnum);
        buf_put_be32(&b, (uint32_t)c->name.size);
        buf_put_slice(&b, c->name);
        buf_put_be32(&b, c->type_oid);
        buf_put_be32(&b, (uint32_t)c->typmod);
        buf_put_u8(&b, c->key ? 1 : 0);
    }
    if (r->route == ROUTE_SCHEMA) {
        buf_put_be32(&b, (uint32_t)r->tenant.size);
        buf_put_slice(&b, r->tenant);
    }
    SHA256(b.data, b.size, digest);
    buf_release(&b);
    uint64_t id = 0;
    for (size_t i = 0; i < sizeof(id); i++)
        id = id << 8 | digest[i];
    return id;
}

bool
relation_matches(const struct relation *known, const struct relation *message)
{
    if (known->column_count != message->column_count || known->oid != message->oid)
        return false;
    if (known->route == ROUTE_SCHEMA && !slice_equal(known->schema, message->schema))
        return false;
    for (size_t i = 0; i < known->column_count; i++) {
        const struct column *a = &known->columns[i], *b = &message->columns[i];
        /* FULL flags every column in the message; the key is ours to choose then. */
        bool keys_differ = message->identity != 'f' && a->key != b->key;
        if (!slice_equal(a->name, b->name) || a->type_oid != b->type_oid ||
            a->typmod != b->typmod || keys_differ)
            return false;
    }
    return true;
}

int
relation_column(const struct relation *r, int16_t attnum)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].attnum == attnum)
            return (int)i;
    }
    return -1;
}

struct relation *
relation_dup(struct arena *arena, const struct relation *r)
{
    struct relation *copy = arena_alloc_zero(arena, sizeof(*copy));
    *copy = *r;
    copy->schema = arena_dup(arena, r->schema);
    copy->name = arena_dup(arena, r->name);
    copy->route_reason = arena_dup(arena, r->route_reason);
    copy->tenant = arena_dup(arena, r->tenant);
    copy->why_not = arena_dup(arena, r->why_not);
    copy->fix = arena_dup(arena, r->fix);
    copy->tenant_fk = arena_dup(arena, r->tenant_fk);
    copy->tenant_parent = arena_dup(arena, r->tenant_parent);
    copy->owner = arena_dup(arena, r->owner);
    copy->candidate_index = arena_dup(arena, r->candidate_index);
    copy->generated = arena_alloc_array(arena, r->generated_count + 1, sizeof(*copy->generated));
    for (size_t i = 0; i < r->generated_count; i++)
        copy->generated[i] = arena_dup(arena, r->generated[i]);
    copy->columns = arena_alloc_array(arena, r->column_count + 1, sizeof(*copy->columns));
    for (size_t i = 0; i < r->column_count; i++) {
        copy->columns[i] = r->columns[i];
        copy->columns[i].name = arena_dup(arena, r->columns[i].name);
        copy->columns[i].type_name = arena_dup(arena, r->columns[i].type_name);
        copy->columns[i].collation = arena_dup(arena, r->columns[i].collation);
    }
    return copy;
}

static json_t *
json_text(struct slice s)
{
    return s.data == NULL ? json_null() : json_stringn((const char *)s.data, s.size);
}

static json_t *
column_json(const struct column *c)
{
    char identity[2] = { c->identity, '\0' };
    return json_pack("{s:o, s:i, s:I, s:i, s:o, s:b, s:b, s:s, s:o}", "name", json_text(c->name),
                     "attnum", (int)c->attnum, "type", (json_int_t)c->type_oid, "typmod",
                     (int)c->typmod, "type_name", json_text(c->type_name), "key", (int)c->key,
                     "not_null", (int)c->not_null, "identity", identity, "collation",
                     json_text(c->collation));
}

void
relation_to_json(const struct relation *r, struct buf *out)
{
    char identity[2] = { r->identity, '\0' };
    struct slice tenant = SLICE_NULL;
    json_t *columns = json_array(), *generated = json_array();
    if (r->tenant_column >= 0)
        tenant = r->columns[r->tenant_column].name;
    for (size_t i = 0; i < r->column_count; i++)
        json_array_append_new(columns, column_json(&r->columns[i]));
    for (size_t i = 0; i < r->generated_count; i++)
        json_array_append_new(generated, json_text(r->generated[i]));
    json_t *root =
        json_pack("{s:I, s:o, s:o, s:s, s:s, s:o, s:b, s:o, s:b, s:o, s:b, s:b, s:b, s:o, s:o}",
                  "oid", (json_int_t)r->oid, "schema", json_text(r->schema), "name",
                  json_text(r->name), "identity", identity, "route", route_name(r->route),
                  "tenant_column", json_text(tenant), "tenants_table", (int)r->is_tenants_table,
                  "tenant_fk", json_text(r->tenant_fk), "tenant_fk_ambiguous",
                  (int)r->tenant_fk_ambiguous, "tenant_parent", json_text(r->tenant_parent),
                  "unlogged", (int)r->unlogged, "key_unusable", (int)r->key_unusable, "published",
                  (int)r->published, "generated", generated, "columns", columns);
    if (r->tenant.data != NULL)
        json_object_set_new(root, "tenant", json_text(r->tenant));
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    pgs_assert(text != NULL);
    buf_put_str(out, text);
    free(text);
    json_decref(root);
}

static bool
text_of(json_t *object, const char *key, struct arena *arena, struct slice *out)
{
    json_t *v = json_object_get(object, key);
    if (!json_is_string(v))
        return false;
    *out = arena_dup(arena, slice_of(json_string_value(v), json_string_length(v)));
    return true;
}

static bool
number_of(json_t *object, const char *key, int64_t min, int64_t max, int64_t *out)
{
    json_t *v = json_object_get(object, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return false;
    *out = json_integer_value(v);
    return true;
}

/* Text, or null or nothing at all, which leaves *out as it is. */
static bool
optional_of(json_t *object, const char *key, struct arena *arena, struct slice *out)
{
    json_t *v = json_object_get(object, key);
    return v == NULL || json_is_null(v) || text_of(object, key, arena, out);
}

/* true, false, or nothing, which is false. */
static bool
flag_of(json_t *object, const char *key, bool *out)
{
    json_t *v = json_object_get(object, key);
    *out = json_is_true(v);
    return v == NULL || json_is_boolean(v);
}

/* One of the letters; "" is 0 where the letters begin with a space. */
static bool
letter_of(json_t *object, const char *key, const char *letters, char *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text == NULL || strlen(text) > 1)
        return false;
    *out = text[0];
    return text[0] == '\0' ? letters[0] == ' ' : strchr(letters, text[0]) != NULL;
}

static bool
column_parse(json_t *object, struct arena *arena, struct column *c)
{
    int64_t attnum, type, typmod;
    if (!text_of(object, "name", arena, &c->name) || c->name.size == 0 ||
        !number_of(object, "attnum", 1, INT16_MAX, &attnum) ||
        !number_of(object, "type", 1, UINT32_MAX, &type) ||
        !number_of(object, "typmod", INT32_MIN, INT32_MAX, &typmod) ||
        !text_of(object, "type_name", arena, &c->type_name) || !flag_of(object, "key", &c->key) ||
        !flag_of(object, "not_null", &c->not_null) ||
        !optional_of(object, "collation", arena, &c->collation) ||
        !letter_of(object, "identity", " ad", &c->identity))
        return false;
    c->attnum = (int16_t)attnum;
    c->type_oid = (uint32_t)type;
    c->typmod = (int32_t)typmod;
    return true;
}

static bool
columns_parse(json_t *array, struct arena *arena, struct relation *r)
{
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > COLUMNS_MAX)
        return false;
    r->columns = arena_alloc_array(arena, count + 1, sizeof(*r->columns));
    r->column_count = count;
    for (size_t i = 0; i < count; i++) {
        if (!column_parse(json_array_get(array, i), arena, &r->columns[i]) ||
            (i > 0 && r->columns[i].attnum <= r->columns[i - 1].attnum))
            return false;
    }
    return true;
}

static bool
generated_parse(json_t *array, struct arena *arena, struct relation *r)
{
    size_t count = json_array_size(array); /* 0 where there is none */
    if ((array != NULL && !json_is_array(array)) || count > COLUMNS_MAX)
        return false;
    r->generated = arena_alloc_array(arena, count + 1, sizeof(*r->generated));
    r->generated_count = count;
    for (size_t i = 0; i < count; i++) {
        json_t *name = json_array_get(array, i);
        if (!json_is_string(name))
            return false;
        r->generated[i] =
            arena_dup(arena, slice_of(json_string_value(name), json_string_length(name)));
    }
    return true;
}

/* Route, tenant column and tenant are absent in messages made inside the database: catalog_decide
 * fills them. */
static bool
route_part_parse(json_t *root, struct arena *arena, struct relation *r)
{
    struct slice route = slice_str(route_name(ROUTE_EXCLUDED)), tenant = SLICE_NULL;
    struct pgs_err ignored;
    r->tenant_column = -1;
    if (!optional_of(root, "route", arena, &route) ||
        route_parse(arena_slice_str(arena, route), &r->route, &ignored) < 0 ||
        !optional_of(root, "tenant_column", arena, &tenant) ||
        !optional_of(root, "tenant", arena, &r->tenant) ||
        (r->route == ROUTE_SCHEMA) != (r->tenant.size > 0))
        return false;
    for (size_t i = 0; tenant.data != NULL && i < r->column_count; i++) {
        if (slice_equal(r->columns[i].name, tenant)) {
            r->tenant_column = (int)i;
            r->tenant_in_key = r->columns[i].key;
        }
    }
    return tenant.data == NULL || r->tenant_column >= 0;
}

static bool
facts_parse(json_t *root, struct arena *arena, struct relation *r)
{
    if (!flag_of(root, "tenants_table", &r->is_tenants_table) ||
        !optional_of(root, "tenant_fk", arena, &r->tenant_fk) ||
        !flag_of(root, "tenant_fk_ambiguous", &r->tenant_fk_ambiguous) ||
        !optional_of(root, "tenant_parent", arena, &r->tenant_parent) ||
        !flag_of(root, "unlogged", &r->unlogged) ||
        !flag_of(root, "key_unusable", &r->key_unusable) ||
        !flag_of(root, "published", &r->published) ||
        !generated_parse(json_object_get(root, "generated"), arena, r))
        return false;
    r->is_tenants_fact = r->is_tenants_table;
    return true;
}

static bool
relation_parse(json_t *root, struct arena *arena, struct relation *r)
{
    int64_t oid;
    if (!number_of(root, "oid", 1, UINT32_MAX, &oid) ||
        !text_of(root, "schema", arena, &r->schema) || !text_of(root, "name", arena, &r->name) ||
        !letter_of(root, "identity", "dnfi", &r->identity) ||
        !columns_parse(json_object_get(root, "columns"), arena, r))
        return false;
    r->oid = (uint32_t)oid;
    return route_part_parse(root, arena, r) && facts_parse(root, arena, r);
}

int
relation_from_json(struct slice json, struct arena *arena, struct relation **r, struct pgs_err *err)
{
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, NULL);
    struct relation *parsed = arena_alloc_zero(arena, sizeof(*parsed));
    bool ok = json_is_object(root) && relation_parse(root, arena, parsed);
    json_decref(root);
    if (!ok)
        return err_set(err, PGS_E_CORRUPT, "the description of a table cannot be read");
    *r = parsed;
    return 0;
}

void
row_put_field(struct buf *out, struct slice field)
{
    if (field.data == NULL) {
        buf_put_u8(out, ROW_NULL);
        return;
    }
    buf_put_u8(out, ROW_TEXT);
    buf_put_be32(out, (uint32_t)field.size);
    buf_put_slice(out, field);
}

#define KEY_NULL 0x01
#define KEY_TEXT 0x02
#define KEY_END 0x00

void
key_put_field(struct buf *out, struct slice field)
{
    if (field.data == NULL) {
        buf_put_u8(out, KEY_NULL);
        return;
    }
    buf_put_u8(out, KEY_TEXT);
    buf_put_slice(out, field);
    buf_put_u8(out, KEY_END);
}

int
row_split(struct slice image, size_t count, struct row_field *fields, struct pgs_err *err)
{
    const uint8_t *p = image.data, *end = image.data + image.size;
    for (size_t i = 0; i < count; i++) {
        uint32_t size = 0;
        if (p == end)
            return err_set(err, PGS_E_CORRUPT, "row image: %zu of %zu columns", i, count);
        uint8_t kind = *p++;
        if (kind == ROW_TEXT) {
            if (end - p < 4)
                return err_set(err, PGS_E_CORRUPT, "row image: cut off in column %zu", i);
            memcpy(&size, p, 4);
            size = __builtin_bswap32(size);
            p += 4;
            if (size > (size_t)(end - p))
                return err_set(err, PGS_E_CORRUPT, "row image: column %zu is too long", i);
        } else if (kind != ROW_NULL && kind != ROW_UNCHANGED) {
            return err_set(err, PGS_E_CORRUPT, "row image: column %zu of kind %u", i, kind);
        }
        fields[i] = (struct row_field){ kind, kind == ROW_TEXT ? slice_of(p, size) : SLICE_NULL };
        p += size;
    }
    if (p != end)
        return err_set(err, PGS_E_CORRUPT, "row image: bytes behind column %zu", count);
    return 0;
}

int
key_split(struct slice key, size_t count, struct slice *fields, struct pgs_err *err)
{
    const uint8_t *p = key.data, *end = key.data + key.size;
    for (size_t i = 0; i < count; i++) {
        if (p < end && *p == KEY_NULL) {
            fields[i] = SLICE_NULL;
            p++;
            continue;
        }
        const uint8_t *stop =
            p < end && *p == KEY_TEXT ? memchr(p + 1, KEY_END, (size_t)(end - p - 1)) : NULL;
        if (stop == NULL)
            return err_set(err, PGS_E_CORRUPT, "key: column %zu cannot be read", i);
        fields[i] = slice_of(p + 1, (size_t)(stop - p - 1));
        p = stop + 1;
    }
    if (p != end)
        return err_set(err, PGS_E_CORRUPT, "key: bytes behind column %zu", count);
    return 0;
}
