/* diag.h: messages of the program to its operator, on stderr, as text or JSON lines.
 *
 *     diag_warn("slot_lag", DIAG(diag_int(DIAG_KEY_LAG_BYTES, lag)),
 *               "slot keeps %s of WAL", text);
 *
 *     2026-11-23T16:20:00.123Z warn  slot_lag: slot keeps 1.4 GiB of WAL (lag_bytes=1503238553)
 *     {"time":"...","level":"warn","event":"slot_lag","message":"...","lag_bytes":1503238553}
 *
 * A stable event name, fields, then words. error needs a person, warn soon will, info is a change
 * of state, debug the rest. Never row data, never a secret. Thread-safe: one line is one write(2).
 * Long values are cut off, control characters and what is not UTF-8 are spelt out. Leaves errno as
 * it is. Field names come from core/diag_keys.h. */
#ifndef CORE_DIAG_H
#define CORE_DIAG_H

#include <pgstrata/types.h>

enum diag_level { DIAG_LEVEL_ERROR, DIAG_LEVEL_WARN, DIAG_LEVEL_INFO, DIAG_LEVEL_DEBUG };
enum diag_format { DIAG_TEXT, DIAG_JSON };

struct diag_field {
    const char *key;
    enum { DIAG_TYPE_STR, DIAG_TYPE_INT, DIAG_TYPE_LSN } type;
    union {
        const char *str;
        int64_t integer;
        pgs_lsn lsn;
    } value;
};

#define DIAG_FIELDS_MAX 12
#define DIAG(...)               \
    (const struct diag_field[]) \
    {                           \
        __VA_ARGS__,            \
        {                       \
            0                   \
        }                       \
    }
#define DIAG_NO_FIELDS ((const struct diag_field[]){ { 0 } })

/* A value of NULL is null in JSON. */
struct diag_field diag_str(const char *key, const char *value);
struct diag_field diag_int(const char *key, int64_t value);
struct diag_field diag_lsn(const char *key, pgs_lsn value);

/* Before threads start. Default: text, info. */
void diag_configure(enum diag_format format, enum diag_level level);
void diag_emit(enum diag_level level, const char *event, const struct diag_field *fields,
               const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define diag_error(event, fields, ...) diag_emit(DIAG_LEVEL_ERROR, event, fields, __VA_ARGS__)
#define diag_warn(event, fields, ...) diag_emit(DIAG_LEVEL_WARN, event, fields, __VA_ARGS__)
#define diag_info(event, fields, ...) diag_emit(DIAG_LEVEL_INFO, event, fields, __VA_ARGS__)
#define diag_debug(event, fields, ...) diag_emit(DIAG_LEVEL_DEBUG, event, fields, __VA_ARGS__)

#endif
