/* err.h: building errors. See <pgstrata/error.h> for what they mean.
 *
 * Where the cause is known:   return err_set(err, PGS_E_CORRUPT, "log entry %s: %s", ...);
 * with a cure:                return err_hint(err, "check the permissions of %s", dir);
 * each layer above adds:      return rc < 0 ? err_doing(err, "publish segment %s", name) : rc;
 *
 * All return the (negative) kind, so that they can be returned at once. What is too long is cut
 * off; what is not UTF-8 becomes '?', so that every message can be put into JSON. Arguments may
 * point into *err. */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include "core/banned.h"
#include <pgstrata/error.h>

/* Fills *err anew: kind, default code of the kind, message; hint, sqlstate and moments become
 * empty. */
int err_set(struct pgs_err *err, enum pgs_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, with errno's text appended (": No space left on device"). Keeps no errno
 * afterwards. */
int err_set_errno(struct pgs_err *err, enum pgs_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Replaces the default code of the kind by a more telling one, as "archiver_not_running". */
int err_code(struct pgs_err *err, const char *code);

/* Sets the hint. */
int err_hint(struct pgs_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prefixes the message with what was being done: "cannot <doing>: <message>". */
int err_doing(struct pgs_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whether trying again later can help (storage or database down). */
bool err_is_transient(const struct pgs_err *err);

/* Process exit code of DESIGN 10 for a kind; 0 for 0. */
int err_exit_code(enum pgs_kind kind);

/* HTTP status of DESIGN 10 for a kind. */
int err_http_status(enum pgs_kind kind);

/* For an answer that cannot change what happens next: cleaning up, a last courtesy. */
static inline void
err_ignore(int rc)
{
    (void)rc;
}

/* For our own mistakes only, never for bytes from outside; stays in release builds, aborts. */
#define pgs_assert(condition) \
    ((condition) ? (void)0 : pgs_assert_failed(#condition, __FILE__, __LINE__))
_Noreturn void pgs_assert_failed(const char *condition, const char *file, int line);

#endif
