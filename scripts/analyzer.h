/* analyzer.h: what clang's analyzer cannot see, since it reads one file at a time. Included before
 * every file when scripts/lint.sh runs clang-tidy, and never in a build.
 *
 * `return err_set(...)` is a failure: its answer is negative. Without that knowledge the analyzer
 * follows each failure into the code behind `if (rc < 0)`, and finds NULLs there that cannot be. */
#ifndef SCRIPTS_ANALYZER_H
#define SCRIPTS_ANALYZER_H

#include "core/err.h"

/* A constant, whatever the kind: of an inline function the analyzer gives up too early. */
#define err_set(...) (err_set(__VA_ARGS__), PGS_E_FAILED)
#define err_set_errno(...) (err_set_errno(__VA_ARGS__), PGS_E_FAILED)
#define err_code(...) (err_code(__VA_ARGS__), PGS_E_FAILED)
#define err_hint(...) (err_hint(__VA_ARGS__), PGS_E_FAILED)
#define err_doing(...) (err_doing(__VA_ARGS__), PGS_E_FAILED)

#endif
