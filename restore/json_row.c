#include "restore/json_row.h"

#include "core/err.h"

/* An index over more columns PostgreSQL does not make (INDEX_MAX_KEYS). */
#define KEY_COLUMNS_MAX 32

static void
put_escaped(struct buf *out, uint8_t byte)
{
    switch (byte) {
    case '"': buf_put_str(out, "\\\""); break;
    case '\\': buf_put_str(out, "\\\\"); break;
    case '\b': buf_put_str(out, "\\b"); break;
    case '\f': buf_put_str(out, "\\f"); break;
    case '\n': buf_put_str(out, "\\n"); break;
    case '\r': buf_put_str(out, "\\r"); break;
    case '\t': buf_put_str(out, "\\t"); break;
    default: buf_printf(out, "\\u%04x", byte); break;
    }
}

void
json_put_text(struct buf *out, struct slice text)
{
    if (text.data == NULL) {
        buf_put_str(out, "null");
        return;
    }
    size_t plain = 0; /* start of the stretch that needs no escape */
    buf_put_u8(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f)
            continue;
        buf_put(out, text.data + plain, i - plain);
        put_escaped(out, byte);
        plain = i + 1;
    }
    buf_put(out, text.data + plain, text.size - plain);
    buf_put_u8(out, '"');
}

static void
put_member(struct buf *out, bool first, struct slice name, struct slice value)
{
    if (!first)
        buf_put_str(out, ", ");
    json_put_text(out, name);
    buf_put_str(out, ": ");
    json_put_text(out, value);
}

void
json_put_row(struct buf *out, const struct relation *r, const struct row_field *fields)
{
    bool first = true;
    buf_put_u8(out, '{');
    for (size_t i = 0; i < r->column_count; i++) {
        pgs_assert(fields[i].kind != ROW_UNCHANGED);
        if (fields[i].kind == ROW_ABSENT)
            continue;
        struct slice value = fields[i].kind == ROW_TEXT ? fields[i].text : SLICE_NULL;
        put_member(out, first, r->columns[i].name, value);
        first = false;
    }
    buf_put_u8(out, '}');
}

void
json_put_key(struct buf *out, const struct relation *r, const struct slice *key_fields)
{
    size_t done = 0;
    buf_put_u8(out, '{');
    for (size_t i = 0; i < r->column_count; i++) {
        if (!r->columns[i].key)
            continue;
        put_member(out, done == 0, r->columns[i].name, key_fields[done]);
        done++;
    }
    buf_put_u8(out, '}');
}

int
json_put_encoded_key(struct buf *out, const struct relation *r, struct slice key,
                     struct pgs_err *err)
{
    struct slice fields[KEY_COLUMNS_MAX];
    size_t count = relation_key_count(r);
    if (count > KEY_COLUMNS_MAX)
        return err_set(err, PGS_E_CORRUPT, "table %.*s has %zu key columns", SLICE_PRINT(r->name),
                       count);
    int rc = key_split(key, count, fields, err);
    if (rc == 0)
        json_put_key(out, r, fields);
    return rc;
}

size_t
relation_key_count(const struct relation *r)
{
    size_t count = 0;
    for (size_t i = 0; i < r->column_count; i++)
        count += r->columns[i].key;
    return count;
}
