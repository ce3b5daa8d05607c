/* conversion.h: whether values of a column that has another type now were converted as the stage
 * converts them (restore/mapping.h).
 *
 * ALTER TYPE ... USING may have made anything of them. If it did, rows differ now that, by the
 * stream, nobody has changed: then nobody knows what values of then mean today. */
#ifndef RESTORE_CONVERSION_H
#define RESTORE_CONVERSION_H

#include "restore/plan.h"

/* After the table's diff is final, and before anything is written. PGS_E_REFUSED `shape_changed`.
 * */
PGS_CHECKED int conversion_check(struct plan *plan, const struct plan_table *t,
                                 struct pgs_err *err);

#endif
