#include "strata/log_entry.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "strata/log_json.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define MAC_LINE_PREFIX "mac 0 0 "
#define MAC_LINE_PREFIX_BYTES (sizeof(MAC_LINE_PREFIX) - 1)
#define MAC_LINE_BYTES (MAC_LINE_PREFIX_BYTES + 64 + 1)
#define LIST_MAX 1000000

/* Reads fields of an object; the first that is wrong is remembered, later ones are not looked
 * at. */
struct reader {
    struct arena *arena;
    const char *wrong; /* NULL: all well */
};

static json_t *
get(struct reader *r, json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL && r->wrong == NULL)
        r->wrong = key;
    return v;
}

static uint64_t
get_number(struct reader *r, json_t *object, const char *key)
{
    json_t *v = get(r, object, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        r->wrong = r->wrong != NULL ? r->wrong : key;
        return 0;
    }
    return (uint64_t)json_integer_value(v);
}

static uint32_t
get_u32(struct reader *r, json_t *object, const char *key)
{
    uint64_t v = get_number(r, object, key);
    if (v > UINT32_MAX && r->wrong == NULL)
        r->wrong = key;
    return (uint32_t)v;
}

static struct slice
get_text(struct reader *r, json_t *object, const char *key)
{
    json_t *v = get(r, object, key);
    if (json_is_null(v))
        return SLICE_NULL;
    if (!json_is_string(v)) {
        r->wrong = r->wrong != NULL ? r->wrong : key;
        return SLICE_NULL;
    }
    return arena_dup(r->arena, slice_of(json_string_value(v), json_string_length(v)));
}

static pgs_lsn
get_lsn(struct reader *r, json_t *object, const char *key)
{
    json_t *v = get(r, object, key);
    struct pgs_err ignored;
    pgs_lsn lsn = 0;
    if (!json_is_string(v) || lsn_parse(json_string_value(v), &lsn, &ignored) < 0)
        r->wrong = r->wrong != NULL ? r->wrong : key;
    return lsn;
}

static pgs_time
get_time(struct reader *r, json_t *object, const char *key)
{
    json_t *v = get(r, object, key);
    if (json_is_null(v))
        return PGS_TIME_NONE;
    if (!json_is_integer(v)) {
        r->wrong = r->wrong != NULL ? r->wrong : key;
        return PGS_TIME_NONE;
    }
    return json_integer_value(v);
}

/* Of one of 0123456789abcdef. */
static unsigned
hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void
get_hex(struct reader *r, json_t *object, const char *key, uint8_t *bytes, size_t size)
{
    json_t *v = get(r, object, key);
    bool ok = json_is_string(v) && json_string_length(v) == 2 * size;
    for (size_t i = 0; ok && i < size; i++) {
        const char *p = json_string_value(v) + 2 * i;
        ok = strspn(p, "0123456789abcdef") >= 2;
        bytes[i] = ok ? (uint8_t)(hex_digit(p[0]) << 4 | hex_digit(p[1])) : 0;
    }
    if (!ok)
        r->wrong = r->wrong != NULL ? r->wrong : key;
}

static uint64_t
get_id(struct reader *r, json_t *object, const char *key)
{
    uint8_t bytes[8] = { 0 };
    uint64_t id = 0;
    get_hex(r, object, key, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        id = id << 8 | bytes[i];
    return id;
}

/* The array under key; *count its size. NULL and 0 when it is none. */
static json_t *
get_list(struct reader *r, json_t *object, const char *key, size_t *count)
{
    json_t *v = get(r, object, key);
    *count = 0;
    if (!json_is_array(v) || json_array_size(v) > LIST_MAX) {
        r->wrong = r->wrong != NULL ? r->wrong : key;
        return NULL;
    }
    *count = json_array_size(v);
    return v;
}

static struct pgs_lsn_range
get_range(struct reader *r, json_t *object, const char *key)
{
    json_t *v = get(r, object, key);
    struct pgs_lsn_range range = { get_lsn(r, v, "begin"), get_lsn(r, v, "end") };
    if (range.end < range.begin)
        r->wrong = r->wrong != NULL ? r->wrong : key;
    return range;
}

static void
read_segments(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "segments", &e->segment_count);
    e->segments = arena_alloc_array(r->arena, e->segment_count + 1, sizeof(*e->segments));
    for (size_t i = 0; i < e->segment_count; i++) {
        json_t *v = json_array_get(list, i);
        struct segment_info *s = &e->segments[i];
        struct slice name = get_text(r, v, "name");
        if (name.data == NULL || name.size == 0 || name.size >= sizeof(s->name)) {
            r->wrong = "segments.name";
            return;
        }
        memcpy(s->name, name.data, name.size);
        s->size = get_number(r, v, "size");
        get_hex(r, v, "sha256", s->sha256, sizeof(s->sha256));
        s->lsn = get_range(r, v, "lsn");
        s->time_min = get_time(r, v, "time_min");
        s->time_max = get_time(r, v, "time_max");
        s->version_count = get_number(r, v, "versions");
        s->txn_count = get_number(r, v, "txns");
        s->raw_bytes = get_number(r, v, "raw_bytes");
    }
}

static void
read_shapes(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "shapes", &e->shape_count);
    e->shapes = arena_alloc_array(r->arena, e->shape_count + 1, sizeof(*e->shapes));
    for (size_t i = 0; i < e->shape_count; i++) {
        json_t *v = json_array_get(list, i);
        struct pgs_err ignored;
        e->shapes[i].from = get_lsn(r, v, "from");
        e->shapes[i].id = get_id(r, v, "id");
        char *text = json_dumps(get(r, v, "relation"), JSON_COMPACT);
        if (text == NULL ||
            relation_from_json(slice_str(text), r->arena, &e->shapes[i].relation, &ignored) < 0)
            r->wrong = r->wrong != NULL ? r->wrong : "shapes.relation";
        free(text);
        if (r->wrong != NULL)
            return;
    }
}

static void
read_base_segments(struct reader *r, json_t *v, const struct log_entry *e, struct log_base *b)
{
    json_t *list = get_list(r, v, "segments", &b->segment_count);
    b->segments = arena_alloc_array(r->arena, b->segment_count + 1, sizeof(*b->segments));
    for (size_t i = 0; i < b->segment_count; i++) {
        json_t *index = json_array_get(list, i);
        if (!json_is_integer(index) || json_integer_value(index) < 0 ||
            (uint64_t)json_integer_value(index) >= e->segment_count) {
            r->wrong = "bases.segments";
            return;
        }
        b->segments[i] = (uint32_t)json_integer_value(index);
    }
}

static void
read_bases(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "bases", &e->base_count);
    e->bases = arena_alloc_array(r->arena, e->base_count + 1, sizeof(*e->bases));
    for (size_t i = 0; i < e->base_count && r->wrong == NULL; i++) {
        json_t *v = json_array_get(list, i);
        e->bases[i].table_oid = get_u32(r, v, "table");
        e->bases[i].shape_id = get_id(r, v, "shape");
        e->bases[i].lsn = get_lsn(r, v, "lsn");
        e->bases[i].rows = get_number(r, v, "rows");
        read_base_segments(r, v, e, &e->bases[i]);
    }
}

static void
read_breaks(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "breaks", &e->break_count);
    e->breaks = arena_alloc_array(r->arena, e->break_count + 1, sizeof(*e->breaks));
    for (size_t i = 0; i < e->break_count && r->wrong == NULL; i++) {
        json_t *v = json_array_get(list, i);
        e->breaks[i].table_oid = get_u32(r, v, "table");
        e->breaks[i].begin = get_lsn(r, v, "begin");
        e->breaks[i].end = get_lsn(r, v, "end");
        e->breaks[i].code = get_text(r, v, "code");
        e->breaks[i].reason = get_text(r, v, "reason");
    }
}

static void
read_restore_points(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "restore_points", &e->restore_point_count);
    e->restore_points =
        arena_alloc_array(r->arena, e->restore_point_count + 1, sizeof(*e->restore_points));
    for (size_t i = 0; i < e->restore_point_count && r->wrong == NULL; i++) {
        json_t *v = json_array_get(list, i);
        struct log_restore_point *p = &e->restore_points[i];
        p->name = get_text(r, v, "name");
        p->commit_lsn = get_lsn(r, v, "commit_lsn");
        p->commit_end_lsn = get_lsn(r, v, "commit_end_lsn");
        p->time = get_time(r, v, "time");
        p->xid = get_number(r, v, "xid");
    }
}

static void
read_barriers(struct reader *r, json_t *root, struct log_entry *e)
{
    json_t *list = get_list(r, root, "barriers", &e->barrier_count);
    e->barriers = arena_alloc_array(r->arena, e->barrier_count + 1, sizeof(*e->barriers));
    for (size_t i = 0; i < e->barrier_count; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_string(v)) {
            r->wrong = "barriers";
            return;
        }
        e->barriers[i] = arena_dup(r->arena, slice_of(json_string_value(v), json_string_length(v)));
    }
}

/* Decimal digits in a string: JSON's numbers end at 2^63 here. */
static uint64_t
get_system_id(struct reader *r, json_t *object, const char *key)
{
    const char *text = json_string_value(get(r, object, key));
    char *end = NULL;
    errno = 0;
    uint64_t id = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != '\0' || errno != 0)
        r->wrong = r->wrong != NULL ? r->wrong : key;
    return id;
}

static void
read_head(struct reader *r, json_t *root, struct log_entry *e)
{
    struct pgs_err ignored;
    struct slice kind = get_text(r, root, "kind");
    struct slice created = get_text(r, root, "created");
    json_t *writer = get(r, root, "writer"), *times = get(r, root, "times");
    json_t *heartbeat = get(r, root, "heartbeat");
    if (kind.data == NULL || !log_kind_parse(arena_slice_str(r->arena, kind), &e->kind))
        r->wrong = r->wrong != NULL ? r->wrong : "kind";
    if (created.data == NULL ||
        time_parse(arena_slice_str(r->arena, created), &e->created, &ignored) < 0)
        r->wrong = r->wrong != NULL ? r->wrong : "created";
    e->number = get_number(r, root, "number");
    e->archive_id = get_text(r, root, "archive_id");
    e->era = get_u32(r, root, "era");
    e->system_id = get_system_id(r, root, "system_id");
    e->timeline = get_u32(r, root, "timeline");
    e->writer.epoch = get_number(r, writer, "epoch");
    e->writer.nonce = get_text(r, writer, "nonce");
    get_hex(r, root, "previous_mac", e->previous_mac, sizeof(e->previous_mac));
    e->range = get_range(r, root, "range");
    e->time_min = get_time(r, times, "min");
    e->time_max = get_time(r, times, "max");
    e->reason = get_text(r, root, "reason");
    e->heartbeat.counter = get_number(r, heartbeat, "counter");
    e->heartbeat.nonce = get_text(r, heartbeat, "nonce");
}

/* Where the last line begins; 0: there is no line before it. */
static size_t
last_line(struct slice bytes)
{
    const uint8_t *before = bytes.size > 1 ? memrchr(bytes.data, '\n', bytes.size - 1) : NULL;
    return before != NULL ? (size_t)(before - bytes.data) + 1 : 0;
}

/* `body`: size of what the last line is about. */
static int
mac_check(struct slice bytes, size_t body, struct log_entry *e, struct pgs_err *err)
{
    char expected[2 * 32 + 1];
    struct slice line = slice_of(bytes.data + body, bytes.size - body);
    bool is_mac = line.size > 4 && memcmp(line.data, "mac ", 4) == 0;
    bool known = line.size == MAC_LINE_BYTES &&
                 memcmp(line.data, MAC_LINE_PREFIX, MAC_LINE_PREFIX_BYTES) == 0;
    if (is_mac && !known)
        return err_set(err, PGS_E_REFUSED,
                       "log entry: its MAC is of a kind that this version does not know");
    if (!known)
        return err_set(err, PGS_E_CORRUPT, "log entry: it has no MAC line");
    SHA256(bytes.data, body, e->mac);
    log_hex(e->mac, sizeof(e->mac), expected);
    if (CRYPTO_memcmp(line.data + MAC_LINE_PREFIX_BYTES, expected, 64) != 0)
        return err_set(err, PGS_E_CORRUPT, "log entry: its checksum does not match");
    return 0;
}

int
log_entry_decode(struct slice bytes, struct arena *arena, struct log_entry **entry,
                 struct pgs_err *err)
{
    struct reader r = { .arena = arena };
    if (bytes.size == 0 || bytes.size > LOG_ENTRY_BYTES_MAX || bytes.data[bytes.size - 1] != '\n')
        return err_set(err, PGS_E_CORRUPT, "log entry: %zu bytes are none", bytes.size);
    size_t body = last_line(bytes);
    struct log_entry *e = arena_alloc_zero(arena, sizeof(*e));
    int rc = mac_check(bytes, body, e, err);
    if (rc < 0)
        return rc;
    json_t *root = json_loadb((const char *)bytes.data, body, JSON_REJECT_DUPLICATES, NULL);
    uint64_t format = json_is_object(root) ? get_number(&r, root, "format") : 0;
    if (format != LOG_FORMAT_VERSION) {
        json_decref(root);
        return format > LOG_FORMAT_VERSION
                   ? err_set(err, PGS_E_REFUSED,
                             "log entry: format version %llu is newer than this program",
                             (unsigned long long)format)
                   : err_set(err, PGS_E_CORRUPT, "log entry: no JSON object of a known format");
    }
    read_head(&r, root, e);
    read_segments(&r, root, e);
    if (r.wrong == NULL)
        read_shapes(&r, root, e);
    if (r.wrong == NULL)
        read_bases(&r, root, e);
    if (r.wrong == NULL)
        read_breaks(&r, root, e);
    if (r.wrong == NULL)
        read_restore_points(&r, root, e);
    if (r.wrong == NULL)
        read_barriers(&r, root, e);
    json_decref(root);
    if (r.wrong != NULL)
        return err_set(err, PGS_E_CORRUPT, "log entry: field %s cannot be read", r.wrong);
    *entry = e;
    return 0;
}
