/* write.h: puts the diff into the live tables: delete, update, insert, in the order in which
 * foreign keys allow it. Rows are found by their place, which their locks keep stable.
 *
 * A count that is not what the diff says is PGS_NONE with *finding filled: somebody or something
 * else had a hand in it. */
#ifndef RESTORE_WRITE_H
#define RESTORE_WRITE_H

#include "restore/plan.h"

PGS_CHECKED int write_diff(struct plan *plan, struct pgs_err *finding, struct pgs_err *err);

#endif
