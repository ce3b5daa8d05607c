/* setup_internal.h: the steps of setup, for setup*.c and migrate.c. */
#ifndef PG_SETUP_INTERNAL_H
#define PG_SETUP_INTERNAL_H

#include "pg/setup.h"

#define PUBLICATION_NAME "pgstrata"
#define MOVE_TRIGGER_NAME "!pgstrata_move"

/* Migrations not yet applied, as SQL. */
PGS_CHECKED int setup_pending_sql(struct pg_conn *c, struct buf *script, struct pgs_err *err);
void findings_add(struct findings *f, struct arena *arena, enum finding_level level,
                  const char *code, const char *text, const char *fix);
/* Runs the statement, or with `script` only writes it there. */
PGS_CHECKED int setup_do(struct pg_conn *c, struct buf *script, const char *sql,
                         struct pgs_err *err);
/* Does the publication, the slot exist? */
PGS_CHECKED int setup_exists(struct pg_conn *c, const char *sql, const char *name, bool *exists,
                             struct pgs_err *err);
PGS_CHECKED int setup_publication(struct pg_conn *c, struct buf *script,
                                  const struct catalog *catalog, struct pgs_err *err);
PGS_CHECKED int setup_move_triggers(struct pg_conn *c, struct buf *script,
                                    const struct catalog *catalog, struct pgs_err *err);
PGS_CHECKED int setup_event_triggers(struct pg_conn *c, struct buf *script, struct arena *arena,
                                     struct findings *findings, struct pgs_err *err);
PGS_CHECKED int setup_slot(struct pg_conn *c, const struct pg_target *target, const char *slot,
                           struct buf *script, struct pgs_err *err);
/* Whether rows can move between tenants without the identity telling. */
bool setup_needs_move_trigger(const struct relation *r);

#endif
