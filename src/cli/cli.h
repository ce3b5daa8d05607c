/* cli.h: the command line: commands, their options, how they answer.
 *
 * A command is a row of a table: name, options, help, function. The function reads its options,
 * calls the layers below, prints a result on stdout (text, or one JSON object with --json) and
 * returns 0 or a negative kind; the top prints the error once and turns the kind into the exit code
 * of DESIGN 10. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "cli/config.h"

#include <jansson.h>
#include <stdio.h>

struct cli_option {
    const char *name;  /* without dashes */
    char letter;       /* 0: none */
    const char *value; /* what its value is called in help; NULL: a flag */
    const char *help;
};

struct cli {
    struct arena *arena; /* for the whole command */
    const struct cli_command *command;
    struct config config;
    struct config_flags flags;
    bool json, yes;
    const char *const *values; /* by index into the command's options; "" for flags given */
    char *const *words;        /* what remains after the options */
    int word_count;
    int exit_code; /* for answers that are no failure and yet not 0: findings, problems */
};

struct cli_command {
    const char *name;                 /* one word or two, as "tenant list" */
    const char *arguments;            /* for the usage line, as "NAME"; "" for none */
    const char *summary;              /* one line */
    const char *details;              /* paragraphs; may be NULL */
    const char *examples;             /* lines, each a command */
    const struct cli_option *options; /* ended by a NULL name */
    int words_min, words_max;
    int (*run)(struct cli *cli, struct pgs_err *err);
};

extern const struct cli_command *const cli_commands[]; /* ended by NULL */

/* The option's value; NULL when it was not given. The name must be in the command's table. */
const char *cli_value(const struct cli *cli, const char *name);
bool cli_given(const struct cli *cli, const char *name);
/* As cli_value; PGS_E_USAGE when absent. */
PGS_CHECKED int cli_required(const struct cli *cli, const char *name, const char **value,
                             struct pgs_err *err);
PGS_CHECKED int cli_number(const struct cli *cli, const char *name, uint64_t fallback, uint64_t max,
                           uint64_t *value, struct pgs_err *err);
PGS_CHECKED int cli_milliseconds(const struct cli *cli, const char *name, int64_t fallback,
                                 int64_t *value, struct pgs_err *err);
/* "a,b" into the arena; *count 0 when absent. Empty names are PGS_E_USAGE. */
PGS_CHECKED int cli_list(const struct cli *cli, const char *name, const char *const **items,
                         size_t *count, struct pgs_err *err);

/* Whose positions and transactions are meant, where several eras have them. */
#define CLI_ERA_OPTION                                                                \
    {                                                                                 \
        "era", 0, "N", "the target is one of this era (`pgstrata status` lists them)" \
    }
PGS_CHECKED int cli_era(const struct cli *cli, uint32_t *era, struct pgs_err *err);

/* The one of --target-time, --target-lsn, --target-xid, --target-name, --before-lsn, --before-xid
 * that is given, with --exclusive. PGS_E_USAGE when none (unless optional: then TARGET_END) or
 * several. */
#define CLI_TARGET_OPTIONS                                                              \
    { "target-time", 0, "TIME", "the state at this time, e.g. 2026-01-15T10:30:00Z" },  \
        { "target-lsn", 0, "LSN", "the state at this WAL position" },                   \
        { "target-xid", 0, "XID", "the state after this transaction" },                 \
        { "target-name", 0, "NAME", "the state at this restore point" },                \
        { "before-lsn", 0, "LSN", "just before the transaction with this commit LSN" }, \
        { "before-xid", 0, "XID", "just before this transaction" }, CLI_ERA_OPTION,     \
    {                                                                                   \
        "exclusive", 0, NULL, "leave the transaction at the target itself out"          \
    }
PGS_CHECKED int cli_target(const struct cli *cli, bool optional, struct target *target,
                           const char **label, struct pgs_err *err);
/* A TIME or LSN as --from, --to and --at take it. */
PGS_CHECKED int cli_position(const char *text, struct target *target, struct pgs_err *err);

/* A question on the terminal, when stdin and stderr are terminals and --yes is absent; else the
 * answer is yes. PGS_E_CANCELLED when declined. */
PGS_CHECKED int cli_confirm(const struct cli *cli, struct pgs_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* For what must never happen by accident: without a terminal --yes is required (PGS_E_REFUSED). */
PGS_CHECKED int cli_confirm_strictly(const struct cli *cli, struct pgs_err *err, const char *fmt,
                                     ...) __attribute__((format(printf, 3, 4)));

/* --- answers (cli/answer.c) --- */
/* Prints the object as one line and drops it. */
void cli_print_json(json_t *object);
json_t *json_of_slice(struct slice s);              /* null for SLICE_NULL */
json_t *json_of_lsn(pgs_lsn lsn);                   /* null for 0 */
json_t *json_of_time(pgs_time time);                /* null for PGS_TIME_NONE */
json_t *json_of_moment(const struct pgs_moment *m); /* {lsn, time, xid}; null for none */
json_t *json_of_raw(struct slice json);             /* a JSON text as it is; null for SLICE_NULL */
void cli_print_error(const struct pgs_err *err, bool json);
const char *cli_time(const struct cli *cli, pgs_time time); /* "-" for none */
const char *cli_lsn(const struct cli *cli, pgs_lsn lsn);
const char *cli_size(const struct cli *cli, uint64_t bytes);
const char *cli_count(const struct cli *cli, uint64_t n); /* 12,345 */
const char *cli_text(const struct cli *cli, struct slice s);

/* A text table with aligned columns. Cells are copied. */
struct cli_table;
struct cli_table *cli_table_new(struct arena *arena, size_t columns, const char *const *titles);
void cli_table_row(struct cli_table *t, const char *const *cells);
void cli_table_print(const struct cli_table *t, FILE *out);

/* Opens the archive of the configured database for a command; the arena closes it. */
PGS_CHECKED int cli_session(struct cli *cli, struct restore_env *env, struct restore_session **s,
                            struct pgs_err *err);
/* Opens a connection; the arena closes it. */
PGS_CHECKED int cli_connect(struct cli *cli, struct pg_conn **conn, struct pgs_err *err);

#endif
