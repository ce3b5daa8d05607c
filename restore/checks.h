/* checks.h: after the restore has written, and before it commits: is every promise kept?
 *
 * Triggers are off while it writes, and with them what PostgreSQL would check: foreign keys and the
 * rechecks of deferrable unique and exclusion constraints. Each is checked here by statements of
 * its own, under READ COMMITTED, so that they see what others committed meanwhile, and after all
 * rows in question are locked, so that nothing can change behind them (DESIGN 7). Only touched rows
 * are looked at: the work follows the number of changes.
 *
 * 0: kept. PGS_NONE: not kept, and *finding says what: roll back; trying again may help, since
 * another transaction may be the reason. Negative: failure in *err. */
#ifndef RESTORE_CHECKS_H
#define RESTORE_CHECKS_H

#include "restore/plan.h"

/* Rows put back or changed have their parents, which are locked FOR KEY SHARE; nobody refers to
 * rows that are gone, in whatever table and whosesoever. */
PGS_CHECKED int checks_foreign_keys(struct plan *plan, struct pgs_err *finding,
                                    struct pgs_err *err);
/* After writers_wait (restore/writers.h), since it sees only what is committed. */
PGS_CHECKED int checks_unique(struct plan *plan, struct pgs_err *finding, struct pgs_err *err);
/* Every touched key is now as staged; where not, the triggers that fired are named. */
PGS_CHECKED int checks_rows(struct plan *plan, bool replica, struct pgs_err *finding,
                            struct pgs_err *err);

/* Rows inserted, updated and deleted by this transaction so far, table by table. Read only where
 * triggers may fire: they could write what nobody asked for, to whatever table. */
struct effects {
    bool watched;
    struct table_effect *items;
    size_t count;
};
PGS_CHECKED int effects_read(struct plan *plan, bool replica, struct effects *effects,
                             struct pgs_err *err);
/* The plan's tables had just the writes that were asked for; elsewhere nothing was changed or
 * deleted (triggers may add rows, as an audit trail does). */
PGS_CHECKED int checks_effects(struct plan *plan, bool replica, const struct effects *before,
                               struct pgs_err *finding, struct pgs_err *err);

#endif
