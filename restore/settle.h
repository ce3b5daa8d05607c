/* settle.h: what the restore is going to write, locked, while writers go on.
 *
 *   1. diff, locking every live row that will change
 *   2. barrier on a second connection: what was committed before is archived
 *   3. what committed since the last look? If none of it touches a row of the diff, then each of
 *      those transactions comes, whole, after the restore: done. Otherwise one may have been undone
 *      in part: its keys are staged too, and it starts again. The rows of the first diff are locked
 *      by now, so that this ends soon.
 *
 * A barrier needs a connection of its own, since a message in our open transaction would not be
 * decoded before it commits. */
#ifndef RESTORE_SETTLE_H
#define RESTORE_SETTLE_H

#include "restore/plan.h"

/* 0: plan and diffs are what is to be written. PGS_NONE: *finding says why not; roll back and make
 * a new plan. */
PGS_CHECKED int settle(struct plan *plan, struct pg_conn *aux, struct pgs_err *finding,
                       struct pgs_err *err);

#endif
