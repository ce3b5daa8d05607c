/* restore.h: from the archive to the database. The journey of one restore:
 *
 *   1. barrier   everything committed so far is archived (flush)
 *   2. target    time, LSN, xid or name becomes a cut (strata/archive.h)
 *   3. plan      tables of the tenant, their coverage and shapes against the live ones; what cannot
 *                be answered exactly is refused                      (restore/plan.c)
 *   4. stage     the tenant's rows at the cut, merged from base and changes, COPYed into temporary
 *                tables: all rows, or with `rewind` only keys changed since   (restore/stage.c)
 *   5. diff      in SQL, by record image                              (restore/diff.c)
 *   6. apply     only rows that differ, one transaction, locks and checks of DESIGN 7
 *                                                                    (restore/apply.c)
 *
 * Dry runs stop after 5 and roll back. */
#ifndef RESTORE_RESTORE_H
#define RESTORE_RESTORE_H

#include "pg/setup.h"
#include "restore/mapping.h"
#include "strata/archive.h"
#include "strata/scan.h"

struct restore_env {
    struct pg_target target;
    struct catalog_rules rules;
    const char *root_url;
    int64_t timeout_ms;      /* for the flush barrier; 30000 */
    int64_t lock_timeout_ms; /* 10000 */
    size_t memory_bytes;
    void (*progress)(void *context, const char *step, uint64_t done, uint64_t total);
    void *progress_context;
};

/* An open archive with its connection: what every command below works on. */
struct restore_session {
    const struct restore_env *env;
    struct pg_conn *conn;
    struct store *root, *store;
    struct archive *archive;
    pgs_time server_now; /* the server's clock at the barrier */
};
/* Finds the archive (settings archive_id). PGS_E_NOT_FOUND: not set up. */
PGS_CHECKED int restore_session_open(const struct restore_env *env, struct restore_session *s,
                                     struct pgs_err *err);
/* The flush barrier; sets server_now. */
PGS_CHECKED int restore_session_flush(struct restore_session *s, struct pgs_err *err);
void restore_session_close(struct restore_session *s);

/* --- pitr --- */
struct pitr_opts {
    const char *tenant;
    struct target target;
    bool dry_run;
    const char *plan;          /* apply only if the plan still is this one; NULL: any */
    const char *const *tables; /* "t" or "schema.t"; NULL: all */
    size_t table_count;
    const char *const *exclude_tables;
    size_t exclude_table_count;
    const char *to_schema;         /* NULL: in place */
    const char *target_name_label; /* how the user named the target, for reports */
    unsigned sample_rows;          /* per table and kind; 3 */
};
struct pitr_sample {
    char op;                  /* 'I' put back, 'U' changed back, 'D' removed */
    struct slice key_json;    /* JSON objects: column -> text or null */
    struct slice before_json; /* as it is live; SLICE_NULL for 'I' */
    struct slice after_json;  /* as it will be; SLICE_NULL for 'D' */
};
struct pitr_table {
    struct slice schema, name;
    uint64_t inserted, updated, deleted;
    struct pitr_sample *samples;
    size_t sample_count;
    /* In place: how its columns changed since the target, and what that means for the rows. */
    const struct schema_change *changes;
    size_t change_count;
};
struct pitr_result {
    const char *status; /* "previewed", "completed", "unchanged" */
    const char *method; /* "full", "rewind" */
    /* Its id; empty when it was applied without a preview: then nobody has asked for it. */
    char plan[65];
    struct cut cut;
    pgs_lsn target_lsn; /* cut.lsn as the answer echoes it */
    /* What was understood; when the target was no time: of last_kept, or PGS_TIME_NONE. */
    pgs_time target_time;
    struct pitr_table *tables;
    size_t table_count;
    uint64_t inserted, updated, deleted;
    uint64_t bytes_read;
    int64_t duration_ms;
    struct slice restore_point; /* name; SLICE_NULL for dry runs and --to-schema */
    uint64_t restore_xid;
    /* Proof of innocence: versions of other tenants that carry the restore's transaction (must be
     * 0), checked from the archived stream; false: not checked (timeout waiting for the
     * archiver). */
    bool innocence_checked;
    uint64_t foreign_versions;
};
/* Result in `arena`. PGS_E_CONFLICT: the plan changed. PGS_E_REFUSED: outside coverage, shapes
 * differ, uncovered tables, a trigger that could not be switched off changed a row. On any failure
 * nothing changed. */
PGS_CHECKED int pitr_run(struct restore_session *s, const struct pitr_opts *opts,
                         struct arena *arena, struct pitr_result *result, struct pgs_err *err);

/* --- export --- */
enum export_format { EXPORT_SQL, EXPORT_CSV, EXPORT_JSONL };
struct export_opts {
    const char *tenant;   /* "_shared" for shared tables */
    struct target target; /* TARGET_END: now, after the barrier */
    enum export_format format;
    const char *directory;
    const char *const *tables;
    size_t table_count;
};
struct export_result {
    struct cut cut;
    struct {
        struct slice schema, name, path;
        uint64_t rows, bytes;
    } * tables;
    size_t table_count;
};
PGS_CHECKED int export_run(struct restore_session *s, const struct export_opts *opts,
                           struct arena *arena, struct export_result *result, struct pgs_err *err);

/* --- history and diff --- */
struct history_opts {
    const char *tenant;
    const char *table;      /* NULL: all */
    const char *const *key; /* key column texts in order; NULL: all */
    size_t key_count;
    bool has_from, has_to;
    struct target from, to;
    size_t limit;       /* items per answer; default 100 */
    const char *cursor; /* from next_cursor; NULL: the newest first */
    bool ascending;     /* oldest first; default newest first */
};
struct history_item {
    pgs_lsn commit_lsn, commit_end_lsn;
    pgs_time commit_time;
    uint64_t xid, sequence;
    struct slice actor; /* SLICE_NULL: none */
    struct slice schema, table;
    const char *op; /* "insert", "update", "delete", "truncate" */
    struct slice key_json, before_json, after_json;
};
struct history_result {
    struct history_item *items;
    size_t count;
    struct slice next_cursor; /* SLICE_NULL: no more */
};
PGS_CHECKED int history_run(struct restore_session *s, const struct history_opts *opts,
                            struct arena *arena, struct history_result *result,
                            struct pgs_err *err);

struct diff_opts {
    const char *tenant;
    struct target from, to;
    const char *const *tables;
    size_t table_count;
    size_t limit; /* rows per table in the answer; counts are always whole */
};
struct diff_result {
    struct cut from, to;
    struct pitr_table *tables; /* inserted: in `to` and not in `from`, and so on */
    size_t table_count;
    uint64_t inserted, updated, deleted;
};
PGS_CHECKED int diff_run(struct restore_session *s, const struct diff_opts *opts,
                         struct arena *arena, struct diff_result *result, struct pgs_err *err);

/* --- verify --- */
struct verify_opts {
    const char *tenant; /* NULL: everything */
    bool live;          /* compare the archive's state with a live snapshot at the same LSN */
};
struct verify_problem {
    struct slice object; /* object name, or schema.table */
    struct slice text;
};
struct verify_result {
    uint64_t entries, segments, versions, bytes;
    uint64_t rows_compared; /* live */
    struct verify_problem *problems;
    size_t problem_count;
};
/* 0 also when problems were found: the caller judges. */
PGS_CHECKED int verify_run(struct restore_session *s, const struct verify_opts *opts,
                           struct arena *arena, struct verify_result *result, struct pgs_err *err);

/* --- restore points --- */
/* Emits the message and writes pgstrata.restore_points in one transaction; PGS_E_CONFLICT:
 * taken. */
PGS_CHECKED int restore_point_create(struct pg_conn *c, struct slice name, struct slice tenant,
                                     const char *kind, pgs_lsn *lsn, struct pgs_err *err);

#endif
