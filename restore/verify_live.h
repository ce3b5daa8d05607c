/* verify_live.h: the archive's state against a live snapshot at the same LSN (DESIGN 11).
 *
 * The live side is read under the snapshot that a temporary slot exports at its consistent point;
 * the archive's side is folded to that cut. Both are summed per table and tenant as sets: a sum of
 * hashes over rows needs neither order nor memory, and a row that is filed under the wrong tenant
 * shows. A difference names table and tenant. */
#ifndef RESTORE_VERIFY_LIVE_H
#define RESTORE_VERIFY_LIVE_H

#include "restore/restore.h"

/* tenant NULL: all of them, and shared tables. Adds to rows_compared and problems. */
PGS_CHECKED int verify_live_run(struct restore_session *s, const char *tenant, struct arena *arena,
                                struct verify_result *result, struct pgs_err *err);

/* Copies both. */
void verify_problem_add(struct arena *arena, struct verify_result *result, struct slice object,
                        const char *text);

#endif
