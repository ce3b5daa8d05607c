#include "pg/copytext.h"

#include "core/err.h"

static int
octal_value(uint8_t c)
{
    return c >= '0' && c <= '7' ? c - '0' : -1;
}

static int
hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads the escape behind a backslash at p[0]; *used: bytes after the backslash. */
static uint8_t
unescape(const uint8_t *p, const uint8_t *end, size_t *used)
{
    static const char letters[] = "bfnrtv";
    static const uint8_t values[] = { '\b', '\f', '\n', '\r', '\t', '\v' };
    const char *letter = strchr(letters, p[0]);
    *used = 1;
    if (p[0] != '\0' && letter != NULL)
        return values[letter - letters];
    if (octal_value(p[0]) >= 0) {
        unsigned v = 0;
        size_t n = 0;
        for (; n < 3 && p + n < end && octal_value(p[n]) >= 0; n++)
            v = v * 8 + (unsigned)octal_value(p[n]);
        *used = n;
        return (uint8_t)v;
    }
    if (p[0] == 'x' && p + 1 < end && hex_value(p[1]) >= 0) {
        unsigned v = (unsigned)hex_value(p[1]);
        *used = 2;
        if (p + 2 < end && hex_value(p[2]) >= 0) {
            v = v * 16 + (unsigned)hex_value(p[2]);
            *used = 3;
        }
        return (uint8_t)v;
    }
    return p[0];
}

static int
field_read(struct slice raw, struct slice *field, struct arena *scratch, struct pgs_err *err)
{
    const uint8_t *p = raw.data, *end = raw.data + raw.size;
    if (raw.size == 2 && p[0] == '\\' && p[1] == 'N') {
        *field = SLICE_NULL;
        return 0;
    }
    if (raw.size == 0 || memchr(p, '\\', raw.size) == NULL) {
        *field = raw;
        return 0;
    }
    uint8_t *out = arena_alloc_bytes(scratch, raw.size);
    size_t size = 0;
    while (p < end) {
        size_t used = 0;
        if (*p != '\\') {
            out[size++] = *p++;
            continue;
        }
        if (p + 1 == end)
            return err_set(err, PGS_E_CORRUPT, "COPY data: a backslash ends the field");
        out[size++] = unescape(p + 1, end, &used);
        p += 1 + used;
    }
    *field = slice_of(out, size);
    return 0;
}

int
copytext_split(struct slice line, size_t columns, struct slice *fields, struct arena *scratch,
               struct pgs_err *err)
{
    if (line.data == NULL)
        line = slice_of("", 0); /* an empty field is no NULL */
    const uint8_t *p = line.data, *end = line.data + line.size;
    if (line.size > 0 && end[-1] == '\n')
        end--;
    if (columns == 0 && p == end)
        return 0;
    for (size_t i = 0; i < columns; i++) {
        const uint8_t *tab = p < end ? memchr(p, '\t', (size_t)(end - p)) : NULL;
        bool last = i + 1 == columns;
        if ((tab == NULL) != last)
            return err_set(err, PGS_E_CORRUPT, "COPY data: not %zu columns", columns);
        const uint8_t *stop = last ? end : tab;
        int rc = field_read(slice_of(p, (size_t)(stop - p)), &fields[i], scratch, err);
        if (rc < 0)
            return rc;
        p = stop + 1;
    }
    return columns > 0 ? 0 : err_set(err, PGS_E_CORRUPT, "COPY data: not 0 columns");
}

static char
escape_letter(uint8_t c)
{
    switch (c) {
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    case '\v': return 'v';
    case '\\': return '\\';
    default: return 0;
    }
}

void
copytext_put(struct buf *out, struct slice field)
{
    if (field.data == NULL) {
        buf_put_str(out, "\\N");
        return;
    }
    size_t start = 0;
    for (size_t i = 0; i < field.size; i++) {
        char letter =
            field.data[i] < ' ' || field.data[i] == '\\' ? escape_letter(field.data[i]) : 0;
        if (letter == 0)
            continue;
        buf_put(out, field.data + start, i - start);
        buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)letter);
        start = i + 1;
    }
    buf_put(out, field.data + start, field.size - start);
}
