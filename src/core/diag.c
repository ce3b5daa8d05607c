#include "core/diag.h"

#include "core/buf.h"
#include "core/timefmt.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define MESSAGE_MAX 2048
#define LINE_LIMIT ((size_t)64 << 10)

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

/* Control characters never reach a terminal or break a line. */
static void
put_escaped(struct buf *line, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            buf_printf(line, "\\%c", *p);
        else if (*p == '\n')
            buf_put_str(line, "\\n");
        else if (*p < 0x20 || *p == 0x7f)
            buf_printf(line, "\\u%04x", *p);
        else
            buf_put_u8(line, *p);
    }
}

static void
put_field(struct buf *line, const struct diag_field *f, bool json)
{
    buf_printf(line, json ? ",\"%s\":" : " %s=", f->key);
    switch (f->type) {
    case DIAG_TYPE_INT: buf_printf(line, "%" PRId64, f->value.integer); break;
    case DIAG_TYPE_LSN:
        buf_printf(line, json ? "\"" PGS_LSN_FMT "\"" : PGS_LSN_FMT, PGS_LSN_ARGS(f->value.lsn));
        break;
    case DIAG_TYPE_STR:
        buf_put_str(line, "\"");
        put_escaped(line, f->value.str != NULL ? f->value.str : "");
        buf_put_str(line, "\"");
        break;
    }
}

static void
put_line(struct buf *line, enum diag_level level, const char *event,
         const struct diag_field *fields, const char *message)
{
    char time[TIME_TEXT_MAX];
    bool json = atomic_load(&current_format) == DIAG_JSON;
    time_format(time_now(), time);
    if (json)
        buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"message\":\"", time,
                   level_text(level), event);
    else
        buf_printf(line, "%s %-5s %s: ", time, level_text(level), event);
    put_escaped(line, message);
    if (json)
        buf_put_str(line, "\"");
    for (size_t i = 0; i < DIAG_FIELDS_MAX && fields[i].key != NULL; i++)
        put_field(line, &fields[i], json);
    buf_put_str(line, json ? "}\n" : "\n");
}

void
diag_emit(enum diag_level level, const char *event, const struct diag_field *fields,
          const char *fmt, ...)
{
    char message[MESSAGE_MAX];
    struct buf line;
    va_list args;
    if ((int)level > atomic_load(&current_level))
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    buf_init(&line, LINE_LIMIT);
    put_line(&line, level, event, fields, message);
    /* Where stderr is gone there is nobody left to tell. */
    if (write(STDERR_FILENO, line.data, line.size) < 0) {
    }
    buf_release(&line);
}
