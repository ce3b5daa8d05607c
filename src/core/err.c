#include "core/err.h"

#include "core/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What each kind decides, in one place. */
static const struct kind_row {
    enum pgs_kind kind;
    const char *code;
    int exit_code;
    int http_status;
    bool transient;
} kind_rows[] = {
    { PGS_E_FAILED, "failed", 1, 500, false },
    { PGS_E_USAGE, "usage", 2, 400, false },
    { PGS_E_NOT_FOUND, "not_found", 3, 404, false },
    { PGS_E_REFUSED, "refused", 4, 422, false },
    { PGS_E_CONFLICT, "conflict", 5, 409, false },
    { PGS_E_STORE, "store", 1, 503, true },
    { PGS_E_DATABASE, "database", 1, 503, true },
    { PGS_E_CORRUPT, "corrupt", 1, 500, false },
    { PGS_E_FENCED, "fenced", 1, 500, false },
    { PGS_E_NOT_RUNNING, "archiver_not_running", 1, 503, false },
    { PGS_E_CANCELLED, "cancelled", 1, 500, false },
};

static const struct kind_row *
kind_row(enum pgs_kind kind)
{
    for (size_t i = 0; i < sizeof(kind_rows) / sizeof(kind_rows[0]); i++) {
        if (kind_rows[i].kind == kind)
            return &kind_rows[i];
    }
    return &kind_rows[0];
}

static void
err_clear(struct pgs_err *err, enum pgs_kind kind)
{
    err->kind = kind;
    snprintf(err->code, sizeof(err->code), "%s", kind_row(kind)->code);
    err->message[0] = '\0';
    err->hint[0] = '\0';
    err->sqlstate[0] = '\0';
    err->nearest_before = PGS_MOMENT_NONE;
    err->nearest_after = PGS_MOMENT_NONE;
}

int
err_set(struct pgs_err *err, enum pgs_kind kind, const char *fmt, ...)
{
    /* Built aside: an argument may point into *err itself. */
    char message[PGS_ERR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    err_clear(err, kind);
    utf8_mend(message);
    memcpy(err->message, message, sizeof(message));
    return kind;
}

int
err_set_errno(struct pgs_err *err, enum pgs_kind kind, const char *fmt, ...)
{
    int cause = errno;
    char message[PGS_ERR_MESSAGE_MAX];
    char reason[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    err_clear(err, kind);
    /* GNU's strerror_r: the answer is the return value. */
    const char *text = strerror_r(cause, reason, sizeof(reason));
    int room = (int)(sizeof(err->message) - strlen(text) - sizeof(": "));
    snprintf(err->message, sizeof(err->message), "%.*s: %s", room, message, text);
    utf8_mend(err->message);
    return kind;
}

int
err_code(struct pgs_err *err, const char *code)
{
    snprintf(err->code, sizeof(err->code), "%s", code);
    return err->kind;
}

int
err_hint(struct pgs_err *err, const char *fmt, ...)
{
    char hint[PGS_ERR_HINT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(hint, sizeof(hint), fmt, args);
    va_end(args);
    utf8_mend(hint);
    memcpy(err->hint, hint, sizeof(hint));
    return err->kind;
}

int
err_doing(struct pgs_err *err, const char *fmt, ...)
{
    char doing[256];
    char message[PGS_ERR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(doing, sizeof(doing), fmt, args);
    va_end(args);
    memcpy(message, err->message, sizeof(message));
    int room = (int)(sizeof(err->message) - strlen(doing) - sizeof("cannot : "));
    snprintf(err->message, sizeof(err->message), "cannot %s: %.*s", doing, room, message);
    utf8_mend(err->message);
    return err->kind;
}

bool
err_is_transient(const struct pgs_err *err)
{
    return kind_row(err->kind)->transient;
}

int
err_exit_code(enum pgs_kind kind)
{
    return (int)kind == 0 ? 0 : kind_row(kind)->exit_code;
}

int
err_http_status(enum pgs_kind kind)
{
    return kind_row(kind)->http_status;
}

_Noreturn void
pgs_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "pgstrata: assertion failed: %s (%s:%d)\n", condition, file, line);
    abort();
}
