#include "strata/log_entry.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "strata/log_json.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[] = { "epoch", "changes", "range", "base", "era", "note" };

const char *
log_kind_name(enum log_kind kind)
{
    return kind_names[kind];
}

bool
log_kind_parse(const char *name, enum log_kind *kind)
{
    for (size_t i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *kind = (enum log_kind)i;
            return true;
        }
    }
    return false;
}

pgs_lsn
log_entry_fork(const struct log_entry *e)
{
    for (size_t i = 0; e->kind == LOG_ERA && i < e->break_count; i++) {
        if (e->breaks[i].table_oid == 0)
            return e->breaks[i].begin;
    }
    return 0;
}

void
log_hex(const uint8_t *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static json_t *
text_json(struct slice s)
{
    return s.data == NULL ? json_null() : json_stringn((const char *)s.data, s.size);
}

static json_t *
lsn_json(pgs_lsn lsn)
{
    char text[LSN_TEXT_MAX];
    return json_string(lsn_format(lsn, text));
}

static json_t *
time_json(pgs_time time)
{
    return time == PGS_TIME_NONE ? json_null() : json_integer(time);
}

static json_t *
hex_json(const uint8_t *bytes, size_t size)
{
    char text[2 * 32 + 1];
    pgs_assert(size <= 32);
    log_hex(bytes, size, text);
    return json_string(text);
}

static json_t *
id_json(uint64_t id)
{
    char text[20];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
    return json_string(text);
}

static json_t *
range_json(const struct pgs_lsn_range *r)
{
    return json_pack("{s:o, s:o}", "begin", lsn_json(r->begin), "end", lsn_json(r->end));
}

static json_t *
segments_json(const struct log_entry *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->segment_count; i++) {
        const struct segment_info *s = &e->segments[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "name", s->name, "size",
                      (json_int_t)s->size, "sha256", hex_json(s->sha256, 32), "lsn",
                      range_json(&s->lsn), "time_min", time_json(s->time_min), "time_max",
                      time_json(s->time_max), "versions", (json_int_t)s->version_count, "txns",
                      (json_int_t)s->txn_count, "raw_bytes", (json_int_t)s->raw_bytes));
    }
    return list;
}

static json_t *
shapes_json(const struct log_entry *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->shape_count; i++) {
        struct buf text = { 0 };
        relation_to_json(e->shapes[i].relation, &text);
        json_t *relation = json_loadb((const char *)text.data, text.size, 0, NULL);
        buf_release(&text);
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o}", "from", lsn_json(e->shapes[i].from),
                                        "id", id_json(e->shapes[i].id), "relation", relation));
    }
    return list;
}

static json_t *
bases_json(const struct log_entry *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->base_count; i++) {
        const struct log_base *b = &e->bases[i];
        json_t *segments = json_array();
        for (size_t j = 0; j < b->segment_count; j++)
            json_array_append_new(segments, json_integer((json_int_t)b->segments[j]));
        json_array_append_new(list, json_pack("{s:I, s:o, s:o, s:I, s:o}", "table",
                                              (json_int_t)b->table_oid, "shape",
                                              id_json(b->shape_id), "lsn", lsn_json(b->lsn), "rows",
                                              (json_int_t)b->rows, "segments", segments));
    }
    return list;
}

static json_t *
breaks_json(const struct log_entry *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->break_count; i++) {
        const struct log_break *b = &e->breaks[i];
        json_array_append_new(list, json_pack("{s:I, s:o, s:o, s:o, s:o}", "table",
                                              (json_int_t)b->table_oid, "begin", lsn_json(b->begin),
                                              "end", lsn_json(b->end), "code", text_json(b->code),
                                              "reason", text_json(b->reason)));
    }
    return list;
}

static json_t *
restore_points_json(const struct log_entry *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->restore_point_count; i++) {
        const struct log_restore_point *p = &e->restore_points[i];
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:I}", "name", text_json(p->name), "commit_lsn",
                            lsn_json(p->commit_lsn), "commit_end_lsn", lsn_json(p->commit_end_lsn),
                            "time", time_json(p->time), "xid", (json_int_t)p->xid));
    }
    return list;
}

static json_t *
entry_json(const struct log_entry *e)
{
    char created[TIME_TEXT_MAX], system_id[24];
    json_t *barriers = json_array();
    for (size_t i = 0; i < e->barrier_count; i++)
        json_array_append_new(barriers, text_json(e->barriers[i]));
    snprintf(system_id, sizeof(system_id), "%llu", (unsigned long long)e->system_id);
    json_t *root = json_pack(
        "{s:i, s:I, s:s, s:o, s:i, s:I, s:s, s:I, s:{s:I, s:o}, s:o, s:o, s:{s:o, s:o}, s:s, s:o}",
        "format", LOG_FORMAT_VERSION, "number", (json_int_t)e->number, "kind",
        log_kind_name(e->kind), "archive_id", text_json(e->archive_id), "cipher_id", 0, "era",
        (json_int_t)e->era, "system_id", system_id, "timeline", (json_int_t)e->timeline, "writer",
        "epoch", (json_int_t)e->writer.epoch, "nonce", text_json(e->writer.nonce), "previous_mac",
        hex_json(e->previous_mac, 32), "range", range_json(&e->range), "times", "min",
        time_json(e->time_min), "max", time_json(e->time_max), "created",
        time_format(e->created, created), "reason", text_json(e->reason));
    json_object_set_new(root, "segments", segments_json(e));
    json_object_set_new(root, "shapes", shapes_json(e));
    json_object_set_new(root, "bases", bases_json(e));
    json_object_set_new(root, "breaks", breaks_json(e));
    json_object_set_new(root, "restore_points", restore_points_json(e));
    json_object_set_new(root, "barriers", barriers);
    json_object_set_new(root, "heartbeat",
                        json_pack("{s:I, s:o}", "counter", (json_int_t)e->heartbeat.counter,
                                  "nonce", text_json(e->heartbeat.nonce)));
    return root;
}

int
log_entry_encode(struct log_entry *e, struct buf *out, struct pgs_err *err)
{
    char mac[2 * 32 + 1];
    json_t *root = entry_json(e);
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(root);
    if (text == NULL)
        return err_set(err, PGS_E_FAILED, "a name in log entry %llu is no UTF-8",
                       (unsigned long long)e->number);
    buf_reset(out);
    buf_printf(out, "%s\n", text);
    free(text);
    SHA256(out->data, out->size, e->mac);
    log_hex(e->mac, sizeof(e->mac), mac);
    buf_printf(out, "mac 0 0 %s\n", mac);
    if (buf_failed(out) || out->size > LOG_ENTRY_BYTES_MAX)
        return err_set(err, PGS_E_FAILED, "log entry %llu is too large",
                       (unsigned long long)e->number);
    return 0;
}
