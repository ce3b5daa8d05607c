/* analyzer.h: what clang's analyzer cannot see, since it reads one file at a time. Included before
 * every file when scripts/lint.sh runs clang-tidy, and never in a build.
 *
 * `return err_set(...)` is a failure: its answer is negative. Without that knowledge the analyzer
 * follows each failure into the code behind `if (rc < 0)`, and finds NULLs there that cannot be. */
#ifndef SCRIPTS_ANALYZER_H
#define SCRIPTS_ANALYZER_H

#include "core/err.h"

static inline int
analyzer_negative(int rc)
{
    if (rc >= 0)
        __builtin_unreachable();
    return rc;
}

#define err_set(...) analyzer_negative(err_set(__VA_ARGS__))
#define err_set_errno(...) analyzer_negative(err_set_errno(__VA_ARGS__))
#define err_code(...) analyzer_negative(err_code(__VA_ARGS__))
#define err_hint(...) analyzer_negative(err_hint(__VA_ARGS__))
#define err_doing(...) analyzer_negative(err_doing(__VA_ARGS__))

#endif
