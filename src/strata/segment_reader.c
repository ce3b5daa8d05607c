#include "strata/segment_internal.h"

#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The first read takes this much from the end: trailer and footer, and of a small segment its
 * directory, in one request. Kept while the segment is open. */
#define TAIL_BYTES ((uint64_t)4 << 10)

int
segment_corrupt(const struct segment *s, struct pgs_err *err, const char *fmt, ...)
{
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    (void)err_set(err, PGS_E_CORRUPT, "segment %s: %s", s->name, what);
    return err_hint(
        err, "run `pgstrata verify`, then `pgstrata base`: history before the base is damaged");
}

int
segment_part(struct segment *s, const struct part_ref *part, const char *what, struct buf *raw,
             struct pgs_err *err)
{
    uint64_t tail_at = s->size - s->tail.size;
    int rc;
    if (part->offset > s->size || part->stored_size > s->size - part->offset)
        return segment_corrupt(s, err, "%s lies outside of it", what);
    if (part->offset >= tail_at) {
        struct slice stored =
            slice_of(s->tail.data + (part->offset - tail_at), (size_t)part->stored_size);
        struct part_codec *codec = part_codec_take();
        rc = part_unpack(codec, stored, part->raw_size, what, raw, err);
        part_codec_give(codec);
    } else {
        rc = part_read(s->store, s->name, part, what, raw, err);
        s->bytes_read += part->stored_size;
    }
    if (rc < 0 && err->kind == PGS_E_CORRUPT) {
        char message[PGS_ERR_MESSAGE_MAX];
        snprintf(message, sizeof(message), "%s", err->message);
        return segment_corrupt(s, err, "%s", message);
    }
    return rc < 0 ? err_doing(err, "read segment %s", s->name) : 0;
}

struct part_ref
part_ref_read(struct cursor *c)
{
    struct part_ref part;
    part.offset = cursor_varint(c);
    part.stored_size = cursor_varint(c);
    part.raw_size = cursor_varint(c);
    return part;
}

void
run_id_read(struct cursor *c, struct run_id *id)
{
    uint8_t scope = cursor_u8(c);
    if (scope > SCOPE_TOMBSTONES)
        c->failed = true;
    id->tenant.scope = c->failed ? SCOPE_TENANT : (enum scope)scope;
    id->tenant.key = cursor_varslice(c);
    id->table_oid = cursor_be32(c);
    id->shape_id = cursor_be64(c);
}

static int
footer_decode(struct segment *s, struct pgs_err *err)
{
    struct cursor c = cursor_of(buf_slice(&s->footer));
    uint64_t count = cursor_varint(&c);
    if (count > cursor_left(&c) / PAGE_REF_BYTES_MIN)
        return segment_corrupt(s, err, "the footer is malformed");
    s->pages = calloc((size_t)count + 1, sizeof(*s->pages));
    if (s->pages == NULL)
        abort();
    s->page_count = (size_t)count;
    for (uint64_t i = 0; i < count; i++) {
        run_id_read(&c, &s->pages[i].first);
        s->pages[i].part = part_ref_read(&c);
        s->pages[i].run_count = cursor_varint(&c);
    }
    s->txns = part_ref_read(&c);
    s->txn_count = cursor_varint(&c);
    s->version_count = cursor_varint(&c);
    return cursor_at_end(&c) ? 0 : segment_corrupt(s, err, "the footer is malformed");
}

static int
trailer_decode(const struct segment *s, struct part_ref *footer, struct pgs_err *err)
{
    struct cursor c = cursor_of(
        slice_of(s->tail.data + s->tail.size - SEGMENT_TRAILER_BYTES, SEGMENT_TRAILER_BYTES));
    footer->offset = cursor_be64(&c);
    footer->stored_size = cursor_be32(&c);
    footer->raw_size = cursor_be32(&c);
    uint64_t object_size = cursor_be64(&c);
    uint32_t version = cursor_be32(&c);
    struct slice magic = cursor_bytes(&c, SEGMENT_MAGIC_BYTES);
    pgs_assert(cursor_at_end(&c));
    if (memcmp(magic.data, SEGMENT_END_MAGIC, SEGMENT_MAGIC_BYTES) != 0)
        return segment_corrupt(s, err, "its end is not a segment's");
    if (version != SEGMENT_VERSION) {
        (void)err_set(err, PGS_E_REFUSED, "segment %s has format version %u", s->name, version);
        return err_hint(err, "use a newer pgstrata");
    }
    return object_size == s->size ? 0 : segment_corrupt(s, err, "its size is wrong");
}

static int
tail_read(struct segment *s, struct pgs_err *err)
{
    uint64_t size = s->size < TAIL_BYTES ? s->size : TAIL_BYTES;
    int rc =
        store_get(s->store, s->name, &(struct store_range){ s->size - size, size }, &s->tail, err);
    if (rc == PGS_NONE)
        return segment_corrupt(s, err, "the object is missing");
    s->bytes_read += size;
    return rc < 0 ? err_doing(err, "read segment %s", s->name) : 0;
}

static int
size_check(struct segment *s, const struct segment_info *expected, struct pgs_err *err)
{
    struct store_stat stat;
    int rc = store_head(s->store, s->name, &stat, err);
    if (rc == PGS_NONE)
        return segment_corrupt(s, err, "the object is missing");
    if (rc < 0)
        return err_doing(err, "read segment %s", s->name);
    if (stat.size < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES ||
        (expected != NULL && stat.size != expected->size))
        return segment_corrupt(s, err, "its size is wrong");
    s->size = stat.size;
    return 0;
}

int
segment_open(struct store *store, const char *name, const struct segment_info *expected,
             struct segment **segment, struct pgs_err *err)
{
    struct part_ref footer;
    struct segment *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->store = store;
    snprintf(s->name, sizeof(s->name), "%s", name);
    int rc = size_check(s, expected, err);
    if (rc == 0)
        rc = tail_read(s, err);
    if (rc == 0)
        rc = trailer_decode(s, &footer, err);
    if (rc == 0)
        rc = segment_part(s, &footer, "the footer", &s->footer, err);
    if (rc == 0)
        rc = footer_decode(s, err);
    if (rc < 0) {
        segment_close(s);
        return rc;
    }
    *segment = s;
    return 0;
}

void
segment_close(struct segment *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < sizeof(s->kept) / sizeof(s->kept[0]); i++) {
        buf_release(&s->kept[i].tenant);
        buf_release(&s->kept[i].bytes);
    }
    buf_release(&s->tail);
    buf_release(&s->footer);
    free(s->pages);
    free(s);
}

const char *
segment_name(const struct segment *s)
{
    return s->name;
}

uint64_t
segment_bytes_read(const struct segment *s)
{
    return s->bytes_read;
}

static void
txn_read(struct cursor *c, struct arena *arena, struct txn *t)
{
    t->commit_lsn = cursor_be64(c);
    t->commit_end_lsn = cursor_be64(c);
    t->commit_time = cursor_be64_signed(c);
    t->xid = cursor_be64(c);
    uint8_t flags = cursor_u8(c);
    t->actor = flags & TXN_HAS_ACTOR ? arena_dup(arena, cursor_varslice(c)) : SLICE_NULL;
    t->restore_id = flags & TXN_HAS_RESTORE ? arena_dup(arena, cursor_varslice(c)) : SLICE_NULL;
    if ((flags & ~(TXN_HAS_ACTOR | TXN_HAS_RESTORE)) != 0)
        c->failed = true;
}

static int
txns_decode(const struct segment *s, struct slice raw, struct arena *arena, struct txn **txns,
            struct pgs_err *err)
{
    struct cursor c = cursor_of(raw);
    pgs_lsn last = 0;
    if (s->txn_count > raw.size / TXN_BYTES_MIN)
        return segment_corrupt(s, err, "the transaction table is malformed");
    struct txn *list = arena_alloc_array(arena, (size_t)s->txn_count + 1, sizeof(*list));
    for (uint64_t i = 0; i < s->txn_count && cursor_ok(&c); i++) {
        txn_read(&c, arena, &list[i]);
        if (list[i].commit_lsn <= last || list[i].commit_end_lsn <= list[i].commit_lsn)
            c.failed = true;
        last = list[i].commit_lsn;
    }
    if (!cursor_at_end(&c))
        return segment_corrupt(s, err, "the transaction table is malformed");
    *txns = list;
    return 0;
}

int
segment_txns(struct segment *s, struct arena *arena, struct txn **txns, size_t *count,
             struct pgs_err *err)
{
    struct buf raw = { 0 };
    struct txn *list = NULL;
    int rc = 0;
    if (s->txn_count > 0)
        rc = segment_part(s, &s->txns, "the transaction table", &raw, err);
    if (rc == 0 && s->txn_count > 0)
        rc = txns_decode(s, buf_slice(&raw), arena, &list, err);
    buf_release(&raw);
    if (rc < 0)
        return rc;
    *txns = list;
    *count = (size_t)s->txn_count;
    return 0;
}
