/* writers.h: waits until those have ended who were writing to a table before the restore was done.
 *
 * A deferrable unique or exclusion constraint is kept by whoever comes second: it finds the other's
 * entry in the index and looks again when the other has ended. While the restore writes, its own
 * second look is off, and an open transaction that put the same value in first has none to make. So
 * before the restore looks, it waits for each transaction that held a writer's lock on such a table
 * when the restore had written: what came first is then visible, and whoever takes the lock later
 * finds the restore's entries (CREATE INDEX CONCURRENTLY waits for the same reason). Nobody else is
 * held up: no lock is asked for. */
#ifndef RESTORE_WRITERS_H
#define RESTORE_WRITERS_H

#include "restore/plan.h"

/* Call it after the writes and before checks_unique. Does nothing where no deferrable constraint is
 * concerned. PGS_NONE: one of them waits for us, so we give way: *finding. Negative: also when they
 * do not end within the lock timeout, which then is the error's sqlstate. */
PGS_CHECKED int writers_wait(struct plan *plan, struct pgs_err *finding, struct pgs_err *err);

#endif
