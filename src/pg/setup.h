/* setup.h: what pgstrata puts into the user's database, and takes away again.
 *
 * `setup`: checks -> migrations (schema pgstrata) -> publication -> move triggers, event triggers
 * -> slot. Each step is repeatable; what fails for lack of a right is reported with the GRANT that
 * mends it. Publication first, slot second, never dropped alone (DESIGN 4.8). */
#ifndef PG_SETUP_H
#define PG_SETUP_H

#include "pg/catalog.h"

/* A finding of setup and doctor. */
enum finding_level { FINDING_OK, FINDING_WARN, FINDING_ERROR };
struct finding {
    enum finding_level level;
    struct slice code; /* stable, as "wal_level" */
    struct slice text; /* what is */
    struct slice fix;  /* what to do; may be empty */
};
struct findings {
    struct finding *items;
    size_t count, capacity;
};

struct setup_names {
    char slot[64];        /* pgstrata_<database oid>, or configured */
    char publication[64]; /* pgstrata */
};

struct setup_opts {
    struct catalog_rules rules;
    const char *slot; /* NULL: pgstrata_<database oid> */
    bool dry_run;     /* print the SQL into `script`, change nothing */
    bool fix;         /* doctor --fix: mend what can be mended without asking */
};

/* The names in use for this database. */
PGS_CHECKED int setup_names_read(struct pg_conn *c, const char *slot, struct setup_names *names,
                                 struct pgs_err *err);
/* Server checks only (version, wal_level, synchronous_standby_names, encoding, slots free,
 * known-bad minors, role rights). Findings are appended. */
PGS_CHECKED int setup_check_server(struct pg_conn *c, struct arena *arena,
                                   struct findings *findings, struct pgs_err *err);
/* PGS_E_REFUSED when a check has an error finding: its text is the message, its fix the hint. On
 * failure undoes what this call made outside transactions (the slot) and names what remains. */
PGS_CHECKED int setup_run(struct pg_conn *c, const struct pg_target *target,
                          const struct setup_opts *opts, struct arena *arena, struct buf *script,
                          struct catalog *catalog, struct findings *findings, struct pgs_err *err);
/* As setup shows it, any time, plus drift: tables not published, triggers missing or disabled, slot
 * lost. With opts->fix mends. PGS_NONE-free: the caller judges findings. */
PGS_CHECKED int setup_doctor(struct pg_conn *c, const struct pg_target *target,
                             const struct setup_opts *opts, struct arena *arena,
                             struct catalog *catalog, struct findings *findings,
                             struct pgs_err *err);
/* Drops slot, publication, triggers, schema pgstrata: every trace. The slot must be free (serve
 * stopped): else PGS_E_CONFLICT naming its pid. */
PGS_CHECKED int setup_teardown(struct pg_conn *c, const struct setup_opts *opts,
                               struct arena *arena, struct buf *script, struct pgs_err *err);
/* Publishes tables that are covered and not yet in the publication, makes their move triggers;
 * takes tables without usable identity out (DESIGN 4.8). For serve's poll where no event trigger
 * may be. */
PGS_CHECKED int setup_sync_tables(struct pg_conn *c, const struct setup_opts *opts,
                                  struct arena *arena, struct catalog *catalog,
                                  struct pgs_err *err);

/* Applies the migrations that schema pgstrata lacks, each in its transaction. *applied: how
 * many. */
PGS_CHECKED int setup_migrate(struct pg_conn *c, int *applied, struct pgs_err *err);

/* --- schema pgstrata's small values --- */
/* pgstrata.settings: "archive_id" and kin. PGS_NONE: no such row or schema. */
PGS_CHECKED int settings_get(struct pg_conn *c, const char *name, struct arena *arena,
                             struct slice *value, struct pgs_err *err);
PGS_CHECKED int settings_put(struct pg_conn *c, const char *name, const char *value,
                             struct pgs_err *err);

struct heartbeat {
    uint64_t counter;
    char nonce[40];
};
/* The pair in pgstrata.heartbeat; counter 0 when none. */
PGS_CHECKED int heartbeat_read(struct pg_conn *c, struct heartbeat *hb, struct pgs_err *err);
/* Next counter with this process's nonce; also emitted as logical message `pgstrata.heartbeat`. */
PGS_CHECKED int heartbeat_beat(struct pg_conn *c, const char *nonce, struct heartbeat *hb,
                               struct pgs_err *err);

#endif
