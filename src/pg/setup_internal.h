/* setup_internal.h: the steps of setup, for the files that make it up:
 *
 *     setup.c          the order of the steps, names, sync
 *     setup_checks.c   is the server fit
 *     migrate.c        schema pgstrata
 *     setup_tables.c   publication and move triggers, table by table
 *     setup_objects.c  event triggers, slot
 *     doctor.c         what is, against what should be
 *     teardown.c       the way back
 *
 * Each step makes only what is missing. With a script it writes the SQL there instead of running
 * it. */
#ifndef PG_SETUP_INTERNAL_H
#define PG_SETUP_INTERNAL_H

#include "pg/setup.h"

#define PUBLICATION_NAME "pgstrata"
#define MOVE_TRIGGER_NAME "!pgstrata_move"

void findings_add(struct findings *f, struct arena *arena, enum finding_level level,
                  const char *code, const char *text, const char *fix);
/* Runs the statements, or with `script` only writes them there. */
PGS_CHECKED int setup_do(struct pg_conn *c, struct buf *script, const char *sql,
                         struct pgs_err *err);
/* Whether the query with parameter $1 has an answer. */
PGS_CHECKED int setup_exists(struct pg_conn *c, const char *sql, const char *name, bool *exists,
                             struct pgs_err *err);

/* Migrations not yet applied. */
PGS_CHECKED int setup_pending_sql(struct pg_conn *c, struct buf *script, struct pgs_err *err);
PGS_CHECKED int setup_migrations_pending(struct pg_conn *c, bool *pending, struct pgs_err *err);
/* settings that differ from the rules, and archive_id if there is none. */
PGS_CHECKED int setup_settings(struct pg_conn *c, const struct catalog_rules *rules,
                               struct buf *script, struct pgs_err *err);

/* How often a statement that needs a table's lock is tried. Writers queue behind a statement that
 * waits for a lock, so it waits shortly, and tries again. */
enum lock_patience {
    LOCK_ONCE,     /* by the clock: what fails is left for the next time */
    LOCK_PATIENTLY /* by hand: then a failure, which names who holds the lock */
};

/* The publication itself; and for every table whether it is in, and its move trigger. */
PGS_CHECKED int setup_publication(struct pg_conn *c, struct buf *script, struct pgs_err *err);
PGS_CHECKED int setup_tables(struct pg_conn *c, struct buf *script, enum lock_patience patience,
                             const struct catalog *catalog, struct pgs_err *err);
/* Runs sql, which takes locks on table `oid`, in a transaction of its own. PGS_NONE: LOCK_ONCE was
 * not enough. */
PGS_CHECKED int setup_locked(struct pg_conn *c, enum lock_patience patience, uint32_t oid,
                             const char *sql, struct pgs_err *err);
/* Whether the table belongs into the publication. */
bool setup_is_wanted(const struct relation *r);
/* Whether rows can move between tenants without the identity telling. */
bool setup_needs_move_trigger(const struct relation *r);

struct event_trigger {
    const char *name, *event, *tags, *function;
};
extern const struct event_trigger setup_event_triggers_list[];
extern const size_t setup_event_triggers_count;
/* A role that may not: a finding, no failure. */
PGS_CHECKED int setup_event_triggers(struct pg_conn *c, struct buf *script, struct arena *arena,
                                     struct findings *findings, struct pgs_err *err);
/* How many are not there, or do not fire always. */
PGS_CHECKED int setup_event_triggers_missing(struct pg_conn *c, size_t *missing,
                                             struct pgs_err *err);
PGS_CHECKED int setup_slot(struct pg_conn *c, const struct pg_target *target, const char *slot,
                           struct buf *script, struct pgs_err *err);

/* Tables that are neither ours to change nor published already; a missing tenants table. */
PGS_CHECKED int setup_report_tables(struct pg_conn *c, const struct catalog *catalog,
                                    struct arena *arena, struct findings *findings,
                                    struct pgs_err *err);

#endif
