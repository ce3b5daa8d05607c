#include "core/diag.h"

#include "core/buf.h"
#include "core/timefmt.h"
#include "core/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define MESSAGE_MAX 2048
/* Bytes of one text field that are shown. */
#define VALUE_MAX 1024
/* No byte grows by more than \u00XX. */
#define ESCAPE_MAX 6
#define LINE_LIMIT ((MESSAGE_MAX + (DIAG_FIELDS_MAX + 1) * VALUE_MAX) * ESCAPE_MAX)

static atomic_int current_format = DIAG_TEXT;
static atomic_int current_level = DIAG_LEVEL_INFO;

struct diag_field
diag_str(const char *key, const char *value)
{
    return (struct diag_field){ .key = key, .type = DIAG_TYPE_STR, .value.str = value };
}

struct diag_field
diag_int(const char *key, int64_t value)
{
    return (struct diag_field){ .key = key, .type = DIAG_TYPE_INT, .value.integer = value };
}

struct diag_field
diag_lsn(const char *key, pgs_lsn value)
{
    return (struct diag_field){ .key = key, .type = DIAG_TYPE_LSN, .value.lsn = value };
}

void
diag_configure(enum diag_format format, enum diag_level level)
{
    atomic_store(&current_format, (int)format);
    atomic_store(&current_level, (int)level);
}

static const char *
level_text(enum diag_level level)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    return names[level];
}

/* One character. What could break the line or command a terminal (C0, DEL, C1) is spelt out. */
static void
put_char(struct buf *line, const char *p, size_t size, bool quoted)
{
    unsigned char c = (unsigned char)p[0];
    bool c1 = size == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
    if (size == 0)
        buf_put_str(line, "\xef\xbf\xbd"); /* U+FFFD: no UTF-8 */
    else if (c == '\n')
        buf_put_str(line, "\\n");
    else if (c < 0x20 || c == 0x7f || c1)
        buf_printf(line, "\\u%04x", c1 ? (unsigned char)p[1] : c);
    else if (quoted && (c == '"' || c == '\\'))
        buf_printf(line, "\\%c", c);
    else
        buf_put(line, p, size);
}

static void
put_escaped(struct buf *line, const char *text, size_t bytes_max, bool quoted)
{
    const char *p = text;
    while (*p != '\0') {
        size_t size = utf8_char_size(p);
        size_t step = size != 0 ? size : 1;
        if ((size_t)(p - text) + step > bytes_max) {
            buf_put_str(line, "...");
            return;
        }
        put_char(line, p, size, quoted);
        p += step;
    }
}

static void
put_quoted(struct buf *line, const char *text)
{
    buf_put_u8(line, '"');
    put_escaped(line, text, VALUE_MAX, true);
    buf_put_u8(line, '"');
}

/* Whether a value can stand in text without quotes and still be told from what follows. */
static bool
is_plain_word(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p <= 0x20 || *p >= 0x7f || strchr("\"\\()=", *p) != NULL)
            return false;
    }
    return text[0] != '\0' && strlen(text) <= VALUE_MAX;
}

static void
put_value(struct buf *line, const struct diag_field *f, bool json)
{
    const char *text = f->type == DIAG_TYPE_STR && f->value.str != NULL ? f->value.str : "";
    switch (f->type) {
    case DIAG_TYPE_INT: buf_printf(line, "%" PRId64, f->value.integer); break;
    case DIAG_TYPE_LSN:
        buf_printf(line, json ? "\"" PGS_LSN_FMT "\"" : PGS_LSN_FMT, PGS_LSN_ARGS(f->value.lsn));
        break;
    case DIAG_TYPE_STR:
        if (!json && is_plain_word(text))
            buf_put_str(line, text);
        else if (json && f->value.str == NULL)
            buf_put_str(line, "null");
        else
            put_quoted(line, text);
        break;
    }
}

static size_t
fields_count(const struct diag_field *fields)
{
    size_t count = 0;
    while (fields != NULL && count < DIAG_FIELDS_MAX && fields[count].key != NULL)
        count++;
    return count;
}

/* {"time":"...","level":"info","event":"slot_started","message":"...","lsn":"0/1234"} */
static void
put_line_json(struct buf *line, const char *time, enum diag_level level, const char *event,
              const struct diag_field *fields, const char *message)
{
    buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"message\":\"", time,
               level_text(level), event);
    put_escaped(line, message, MESSAGE_MAX, true);
    buf_put_u8(line, '"');
    for (size_t i = 0, count = fields_count(fields); i < count; i++) {
        buf_printf(line, ",\"%s\":", fields[i].key);
        put_value(line, &fields[i], true);
    }
    buf_put_str(line, "}\n");
}

/* 2026-11-23T16:20:00.123Z info  slot_started: words (lsn=0/1234 slot=pgstrata) */
static void
put_line_text(struct buf *line, const char *time, enum diag_level level, const char *event,
              const struct diag_field *fields, const char *message)
{
    size_t count = fields_count(fields);
    buf_printf(line, "%s %-5s %s: ", time, level_text(level), event);
    put_escaped(line, message, MESSAGE_MAX, false);
    for (size_t i = 0; i < count; i++) {
        buf_printf(line, "%s%s=", i == 0 ? " (" : " ", fields[i].key);
        put_value(line, &fields[i], false);
    }
    buf_put_str(line, count > 0 ? ")\n" : "\n");
}

void
diag_emit(enum diag_level level, const char *event, const struct diag_field *fields,
          const char *fmt, ...)
{
    char message[MESSAGE_MAX], time[TIME_TEXT_MAX];
    struct buf line;
    va_list args;
    int cause = errno; /* a message changes nothing for its caller */
    if ((int)level > atomic_load(&current_level))
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    time_format_ms(time_now(), time);
    buf_init(&line, LINE_LIMIT);
    if (atomic_load(&current_format) == DIAG_JSON)
        put_line_json(&line, time, level, event, fields, message);
    else
        put_line_text(&line, time, level, event, fields, message);
    /* Where stderr is gone there is nobody left to tell. */
    while (write(STDERR_FILENO, line.data, line.size) < 0 && errno == EINTR)
        continue;
    buf_release(&line);
    errno = cause;
}
