/* innocence.h: the proof that a restore touched nobody else (DESIGN 7): what the archived stream
 * says of its transaction. */
#ifndef RESTORE_INNOCENCE_H
#define RESTORE_INNOCENCE_H

#include "restore/plan.h"

/* Waits until the restore's transaction is archived, then counts its versions that belong to other
 * tenants or to shared tables. Negative: could not be checked. */
PGS_CHECKED int innocence_check(struct restore_session *s, const struct plan *plan, uint64_t xid,
                                uint64_t *foreign_versions);

#endif
