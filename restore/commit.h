/* commit.h: the COMMIT of a restore, and the truth about it when the connection ends there.
 *
 * A lost answer says nothing: the server may have committed or not. It is asked again, on a new
 * connection, what became of the transaction (pg_xact_status). */
#ifndef RESTORE_COMMIT_H
#define RESTORE_COMMIT_H

#include "restore/restore.h"

/* 0: committed, for certain; after a lost answer s->conn is a new connection. A negative answer:
 * not committed, or, with code "outcome_unknown", nobody could tell within `wait_ms`. */
PGS_CHECKED int commit_restore(struct restore_session *s, uint64_t xid, int64_t wait_ms,
                               struct pgs_err *err);

#endif
