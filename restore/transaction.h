/* transaction.h: the one transaction in which a restore happens, its settings and locks.
 *
 *     transaction_begin | transaction_begin_preview -> ... -> pg COMMIT | transaction_rollback
 */
#ifndef RESTORE_TRANSACTION_H
#define RESTORE_TRANSACTION_H

#include "restore/plan.h"

/* READ COMMITTED, on purpose: checks must see what others commit meanwhile (DESIGN 7). *replica:
 * ordinary triggers and foreign-key actions are off; false where the role may not do that. */
PGS_CHECKED int transaction_begin(struct restore_session *s, bool *replica, struct pgs_err *err);
/* REPEATABLE READ: one moment for all tables, and no lock that anybody could feel. */
PGS_CHECKED int transaction_begin_preview(struct restore_session *s, struct pgs_err *err);
/* Cannot fail in a way that matters: without a connection there is no transaction. */
void transaction_rollback(struct restore_session *s);

/* How long a restore waits for others, and the sqlstate of its failure when that was too short. */
#define TRANSACTION_LOCK_TIMEOUT "55P03"
int64_t transaction_lock_timeout_ms(const struct restore_session *s);

/* Keeps the shapes of the plan's tables as they are. */
PGS_CHECKED int transaction_lock_tables(struct plan *plan, struct pgs_err *err);
/* Locks the tenant's row in the tenants table: inserts that refer to it wait. Nothing to do when
 * there is none. */
PGS_CHECKED int transaction_lock_tenant(struct plan *plan, struct pgs_err *err);

/* After a failure by lock_timeout: says in the hint who holds locks on the plan's tables, as seen
 * from `aux`. Returns rc. */
int transaction_name_blocker(struct plan *plan, struct pg_conn *aux, int rc, struct pgs_err *err);

/* One writing job per tenant, for as long as the connection lives or until unlocked.
 * PGS_E_CONFLICT: another is at work. */
PGS_CHECKED int tenant_lock(struct pg_conn *c, const char *tenant, struct pgs_err *err);
void tenant_unlock(struct pg_conn *c, const char *tenant);

#endif
