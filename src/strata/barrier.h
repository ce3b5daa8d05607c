/* barrier.h: waiting until everything committed so far is archived (DESIGN 4.11).
 *
 * A transactional logical message goes through the slot like any change; when an entry of the log
 * names it, everything committed before it is durably visible. */
#ifndef STRATA_BARRIER_H
#define STRATA_BARRIER_H

#include "pg/conn.h"
#include "strata/archive.h"

/* Emits the barrier on `c` (in no transaction) and waits. *end: the archive's end then; *server_now
 * (may be NULL): the server's clock at the message. PGS_E_NOT_RUNNING code "archiver_not_running"
 * when it was not archived in time; nothing changed. */
PGS_CHECKED int barrier_flush(struct pg_conn *c, struct archive *archive, int64_t timeout_ms,
                              pgs_lsn *end, pgs_time *server_now, struct pgs_err *err);

#endif
