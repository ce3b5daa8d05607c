#include "pg/messages.h"

#include "core/err.h"
#include "core/utf8.h"

#include <jansson.h>
#include <stdlib.h>

#define LIST_MAX 100000

static bool
text_of(json_t *object, const char *key, struct arena *arena, struct slice *out)
{
    json_t *v = json_object_get(object, key);
    if (!json_is_string(v))
        return false;
    *out = arena_dup(arena, slice_of(json_string_value(v), json_string_length(v)));
    return true;
}

/* Text, or null for SQL NULL. */
static bool
nullable_of(json_t *object, const char *key, struct arena *arena, struct slice *out)
{
    *out = SLICE_NULL;
    return json_is_null(json_object_get(object, key)) || text_of(object, key, arena, out);
}

static bool
oid_of(json_t *v, uint32_t *oid)
{
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > UINT32_MAX)
        return false;
    *oid = (uint32_t)json_integer_value(v);
    return true;
}

static bool
parse_flush(json_t *root, struct arena *arena, struct message *m)
{
    return text_of(root, "id", arena, &m->u.flush.id);
}

static bool
parse_restore_point(json_t *root, struct arena *arena, struct message *m)
{
    return text_of(root, "name", arena, &m->u.restore_point.name);
}

static bool
parse_heartbeat(json_t *root, struct arena *arena, struct message *m)
{
    json_t *counter = json_object_get(root, "counter");
    if (!json_is_integer(counter) || json_integer_value(counter) < 0)
        return false;
    m->u.heartbeat.counter = (uint64_t)json_integer_value(counter);
    return text_of(root, "nonce", arena, &m->u.heartbeat.nonce);
}

static bool
parse_actor(json_t *root, struct arena *arena, struct message *m)
{
    return nullable_of(root, "actor", arena, &m->u.actor.actor);
}

static bool
parse_move(json_t *root, struct arena *arena, struct message *m)
{
    json_t *key = json_object_get(root, "key");
    struct buf encoded = { 0 };
    bool ok = json_is_array(key) && json_array_size(key) > 0 &&
              oid_of(json_object_get(root, "oid"), &m->u.move.oid) &&
              nullable_of(root, "old", arena, &m->u.move.old_tenant) &&
              nullable_of(root, "new", arena, &m->u.move.new_tenant);
    for (size_t i = 0; ok && i < json_array_size(key); i++) {
        json_t *v = json_array_get(key, i);
        ok = json_is_null(v) || json_is_string(v);
        if (ok)
            key_put_field(&encoded, json_is_null(v)
                                        ? SLICE_NULL
                                        : slice_of(json_string_value(v), json_string_length(v)));
    }
    m->u.move.key = arena_dup(arena, buf_slice(&encoded));
    buf_release(&encoded);
    return ok;
}

static bool
parse_ddl_relation(json_t *item, struct arena *arena, struct relation **r)
{
    struct pgs_err ignored;
    char *text = json_dumps(item, JSON_COMPACT);
    bool ok = text != NULL && relation_from_json(slice_str(text), arena, r, &ignored) == 0;
    free(text);
    return ok;
}

static bool
oids_of(json_t *root, const char *key, struct arena *arena, uint32_t **oids, size_t *count)
{
    json_t *array = json_object_get(root, key);
    size_t size = json_array_size(array);
    if (!json_is_array(array) || size > LIST_MAX)
        return false;
    *oids = arena_alloc_array(arena, size + 1, sizeof(**oids));
    *count = size;
    for (size_t i = 0; i < size; i++) {
        if (!oid_of(json_array_get(array, i), &(*oids)[i]))
            return false;
    }
    return true;
}

static bool
parse_ddl(json_t *root, struct arena *arena, struct message *m)
{
    json_t *relations = json_object_get(root, "relations");
    size_t count = json_array_size(relations);
    if (!text_of(root, "tag", arena, &m->u.ddl.tag) || !json_is_array(relations) ||
        count > LIST_MAX ||
        !oids_of(root, "dropped", arena, &m->u.ddl.dropped, &m->u.ddl.dropped_count) ||
        !oids_of(root, "changed", arena, &m->u.ddl.changed, &m->u.ddl.changed_count))
        return false;
    m->u.ddl.relations = arena_alloc_array(arena, count + 1, sizeof(struct relation *));
    m->u.ddl.relation_count = count;
    for (size_t i = 0; i < count; i++) {
        if (!parse_ddl_relation(json_array_get(relations, i), arena, &m->u.ddl.relations[i]))
            return false;
    }
    return true;
}

static bool
parse_restore(json_t *root, struct arena *arena, struct message *m)
{
    return text_of(root, "id", arena, &m->u.restore.id) &&
           text_of(root, "phase", arena, &m->u.restore.phase) &&
           text_of(root, "tenant", arena, &m->u.restore.tenant) &&
           nullable_of(root, "restore_point", arena, &m->u.restore.restore_point);
}

static const struct {
    const char *prefix;
    enum message_kind kind;
    bool (*parse)(json_t *root, struct arena *arena, struct message *m);
} kinds[] = {
    { MESSAGE_FLUSH, MESSAGE_KIND_FLUSH, parse_flush },
    { MESSAGE_RESTORE_POINT, MESSAGE_KIND_RESTORE_POINT, parse_restore_point },
    { MESSAGE_HEARTBEAT, MESSAGE_KIND_HEARTBEAT, parse_heartbeat },
    { MESSAGE_ACTOR, MESSAGE_KIND_ACTOR, parse_actor },
    { MESSAGE_MOVE, MESSAGE_KIND_MOVE, parse_move },
    { MESSAGE_DDL, MESSAGE_KIND_DDL, parse_ddl },
    { MESSAGE_RESTORE, MESSAGE_KIND_RESTORE, parse_restore },
};

int
message_parse(struct slice prefix, struct slice content, struct arena *arena, struct message *m,
              struct pgs_err *err)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!slice_equal(prefix, slice_str(kinds[i].prefix)))
            continue;
        json_t *root =
            json_loadb((const char *)content.data, content.size, JSON_REJECT_DUPLICATES, NULL);
        struct message parsed = { .kind = kinds[i].kind };
        bool ok = json_is_object(root) && kinds[i].parse(root, arena, &parsed);
        json_decref(root);
        if (!ok)
            return err_set(err, PGS_E_CORRUPT, "message %s of %zu bytes cannot be read",
                           kinds[i].prefix, content.size);
        *m = parsed;
        return 0;
    }
    *m = (struct message){ .kind = MESSAGE_KIND_OTHER };
    return 0;
}

static void
put_body(struct buf *out, json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    pgs_assert(text != NULL);
    buf_put_str(out, text);
    free(text);
    json_decref(root);
}

/* Up to the first NUL, which no text of PostgreSQL holds. */
static json_t *
json_text(struct slice s)
{
    if (s.data == NULL)
        return json_null();
    struct buf text = { 0 };
    buf_put_slice(&text, s);
    buf_put_u8(&text, '\0');
    utf8_mend((char *)text.data);
    json_t *json = json_string((const char *)text.data);
    buf_release(&text);
    return json;
}

void
message_flush_body(struct buf *out, const char *id)
{
    put_body(out, json_pack("{s:o}", "id", json_text(slice_str(id))));
}

void
message_restore_point_body(struct buf *out, struct slice name)
{
    put_body(out, json_pack("{s:o}", "name", json_text(name)));
}

void
message_restore_body(struct buf *out, struct slice id, const char *phase, struct slice tenant,
                     struct slice restore_point)
{
    put_body(out, json_pack("{s:o, s:s, s:o, s:o}", "id", json_text(id), "phase", phase, "tenant",
                            json_text(tenant), "restore_point", json_text(restore_point)));
}
