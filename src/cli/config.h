/* config.h: where every setting comes from (DESIGN 10, Environment).
 *
 * Precedence: flag, then PGSTRATA_DSN, DB_*, libpq's PG*, then the config file; for other settings
 * flag, environment, config file, default. Unknown keys and bad values are errors that name the
 * key. Everything lives in the arena given. */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include "archiver/archiver.h"
#include "core/diag.h"
#include "restore/restore.h"

struct config {
    struct pg_target target;
    struct catalog_rules rules;
    const char *slot;
    const char *root_url; /* a folder, or s3:// with its options (store/s3_config.h) */
    int64_t flush_interval_ms;
    size_t memory_bytes;
    unsigned flush_threads, base_threads;
    int64_t base_interval_ms;
    enum diag_format log_format;
    enum diag_level log_level;
};

/* Values given as flags; NULL: not given. */
struct config_flags {
    const char *dsn, *file, *backup_dir, *log_format, *log_level;
    bool unsafe_no_fencing;
};

PGS_CHECKED int config_read(const struct config_flags *flags, struct arena *arena,
                            struct config *config, struct pgs_err *err);
/* Views of it for the layers below. */
struct setup_opts config_setup_opts(const struct config *config);
struct archiver_opts config_archiver_opts(const struct config *config);
struct restore_env config_restore_env(const struct config *config);

#endif
