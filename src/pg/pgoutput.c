#include "pg/pgoutput.h"

#include "core/cursor.h"
#include "core/err.h"
#include "core/utf8.h"

#define COLUMNS_MAX 1700 /* above PostgreSQL's 1,600 per table */

/* Walks a TupleData once: its extent is known only by its columns. */
static struct pgoutput_tuple
tuple(struct cursor *c)
{
    struct pgoutput_tuple t = { .column_count = cursor_be16(c) };
    const uint8_t *begin = c->next;
    for (unsigned i = 0; i < t.column_count && !c->failed; i++) {
        uint8_t kind = cursor_u8(c);
        if (kind == ROW_TEXT)
            (void)cursor_bytes(c, cursor_be32(c));
        else if (kind != ROW_NULL && kind != ROW_UNCHANGED)
            c->failed = true; /* 'b', binary, was not asked for */
    }
    t.image = slice_of(begin, (size_t)(c->next - begin));
    return t;
}

static void
decode_update(struct cursor *c, struct pgoutput_message *m)
{
    m->u.update.oid = cursor_be32(c);
    m->u.update.old_kind = 0;
    char kind = (char)cursor_u8(c);
    if (kind == 'K' || kind == 'O') {
        m->u.update.old_kind = kind;
        m->u.update.old = tuple(c);
        kind = (char)cursor_u8(c);
    }
    if (kind != 'N')
        c->failed = true;
    m->u.update.row = tuple(c);
}

static void
decode_delete(struct cursor *c, struct pgoutput_message *m)
{
    m->u.delete.oid = cursor_be32(c);
    m->u.delete.old_kind = (char)cursor_u8(c);
    if (m->u.delete.old_kind != 'K' && m->u.delete.old_kind != 'O')
        c->failed = true;
    m->u.delete.old = tuple(c);
}

static void
decode_insert(struct cursor *c, struct pgoutput_message *m)
{
    m->u.insert.oid = cursor_be32(c);
    if (cursor_u8(c) != 'N')
        c->failed = true;
    m->u.insert.row = tuple(c);
}

static void
decode_truncate(struct cursor *c, struct pgoutput_message *m)
{
    m->u.truncate.count = cursor_be32(c);
    m->u.truncate.options = cursor_u8(c);
    if (m->u.truncate.count > cursor_left(c) / 4)
        c->failed = true;
    m->u.truncate.oids = cursor_bytes(c, c->failed ? 0 : (size_t)m->u.truncate.count * 4);
}

static void
decode_message(struct cursor *c, struct pgoutput_message *m)
{
    m->u.message.transactional = (cursor_u8(c) & 1) != 0;
    m->u.message.lsn = cursor_be64(c);
    m->u.message.prefix = cursor_cstr(c);
    uint32_t size = cursor_be32(c);
    m->u.message.content = cursor_bytes(c, size);
}

static void
decode_commit(struct cursor *c, struct pgoutput_message *m)
{
    (void)cursor_u8(c); /* flags, unused */
    m->u.commit.commit_lsn = cursor_be64(c);
    m->u.commit.commit_end_lsn = cursor_be64(c);
    m->u.commit.commit_time = cursor_be64_signed(c);
}

static void
decode_begin(struct cursor *c, struct pgoutput_message *m)
{
    m->u.begin.commit_lsn = cursor_be64(c);
    m->u.begin.commit_time = cursor_be64_signed(c);
    m->u.begin.xid = cursor_be32(c);
}

int
pgoutput_decode(struct slice bytes, struct pgoutput_message *m, struct pgs_err *err)
{
    struct cursor c = cursor_of(bytes);
    uint8_t kind = cursor_u8(&c);
    struct pgoutput_message out = { .kind = (enum pgoutput_kind)kind };
    switch (kind) {
    case PGOUTPUT_BEGIN: decode_begin(&c, &out); break;
    case PGOUTPUT_COMMIT: decode_commit(&c, &out); break;
    case PGOUTPUT_INSERT: decode_insert(&c, &out); break;
    case PGOUTPUT_UPDATE: decode_update(&c, &out); break;
    case PGOUTPUT_DELETE: decode_delete(&c, &out); break;
    case PGOUTPUT_TRUNCATE: decode_truncate(&c, &out); break;
    case PGOUTPUT_MESSAGE: decode_message(&c, &out); break;
    case PGOUTPUT_RELATION:
        out.u.relation.oid = cursor_be32(&c);
        out.u.relation.body = cursor_bytes(&c, cursor_left(&c));
        break;
    case PGOUTPUT_TYPE:
    case PGOUTPUT_ORIGIN: (void)cursor_bytes(&c, cursor_left(&c)); break;
    default: return err_set(err, PGS_E_CORRUPT, "pgoutput message of kind %u", kind);
    }
    if (!cursor_at_end(&c))
        return err_set(err, PGS_E_CORRUPT, "pgoutput message '%c' of %zu bytes is malformed", kind,
                       bytes.size);
    *m = out;
    return 0;
}

/* Names go into JSON later, which carries nothing but UTF-8. */
static bool
is_name(struct arena *arena, struct slice name)
{
    const char *text = arena_slice_str(arena, name);
    size_t size = 1;
    while (text != NULL && *text != '\0' && size > 0) {
        size = utf8_char_size(text);
        text += size;
    }
    return size > 0 && name.size > 0;
}

int
pgoutput_relation(const struct pgoutput_message *m, struct arena *arena, struct relation **r,
                  struct pgs_err *err)
{
    struct cursor c = cursor_of(m->u.relation.body);
    struct relation *out = arena_alloc_zero(arena, sizeof(*out));
    out->oid = m->u.relation.oid;
    out->schema = arena_dup(arena, cursor_cstr(&c));
    /* pg_catalog is sent as the empty string. */
    if (out->schema.size == 0)
        out->schema = slice_str("pg_catalog");
    out->name = arena_dup(arena, cursor_cstr(&c));
    out->identity = (char)cursor_u8(&c);
    out->tenant_column = -1;
    out->column_count = cursor_be16(&c);
    if (out->column_count > COLUMNS_MAX)
        return err_set(err, PGS_E_CORRUPT, "Relation message with %zu columns", out->column_count);
    out->columns = arena_alloc_array(arena, out->column_count + 1, sizeof(*out->columns));
    for (size_t i = 0; i < out->column_count; i++) {
        struct column *column = &out->columns[i];
        column->key = (cursor_u8(&c) & 1) != 0;
        column->name = arena_dup(arena, cursor_cstr(&c));
        column->type_oid = cursor_be32(&c);
        column->typmod = (int32_t)cursor_be32(&c);
    }
    bool sound = cursor_at_end(&c) && is_name(arena, out->schema) && is_name(arena, out->name) &&
                 strchr("dnfi", out->identity) != NULL && out->identity != '\0';
    for (size_t i = 0; sound && i < out->column_count; i++)
        sound = is_name(arena, out->columns[i].name);
    if (!sound)
        return err_set(err, PGS_E_CORRUPT, "Relation message of table %u is malformed", out->oid);
    *r = out;
    return 0;
}
