/* main.c: finds the command, reads its options, runs it, reports once. */
#include "cli/cli.h"
#include "core/err.h"

#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define OPTIONS_MAX 48
#define LONG_BASE 256 /* getopt's answers for long options: above every letter */

/* Options every command has. */
enum {
    OPT_JSON,
    OPT_HELP,
    OPT_YES,
    OPT_DSN,
    OPT_CONFIG,
    OPT_DIR,
    OPT_NO_FENCING,
    OPT_LOG_FORMAT,
    OPT_LOG_LEVEL
};
static const struct cli_option common_options[] = {
    [OPT_JSON] = { "json", 0, NULL, "answer with one JSON object" },
    [OPT_HELP] = { "help", 'h', NULL, "show this help" },
    [OPT_YES] = { "yes", 'y', NULL, "do not ask" },
    [OPT_DSN] = { "dsn", 0, "DSN",
                  "the database: connection string or URI, the password elsewhere (DB_PASSWORD)" },
    [OPT_CONFIG] = { "config", 0, "FILE", "configuration file (PGSTRATA_CONFIG)" },
    [OPT_DIR] = { "backup-dir", 0, "DIR", "where the archive lies (BACKUP_DIR)" },
    [OPT_NO_FENCING] = { "unsafe-no-fencing", 0, NULL,
                         "go on with a store that cannot keep two writers apart" },
    [OPT_LOG_FORMAT] = { "log-format", 0, "FORMAT", "text or json (PGSTRATA_LOG_FORMAT)" },
    [OPT_LOG_LEVEL] = { "log-level", 0, "LEVEL",
                        "error, warn, info or debug (PGSTRATA_LOG_LEVEL)" },
};
#define COMMON_COUNT (sizeof(common_options) / sizeof(common_options[0]))

static size_t
options_count(const struct cli_command *command)
{
    size_t count = 0;
    while (command->options != NULL && command->options[count].name != NULL)
        count++;
    return count;
}

static void
help_option(const struct cli_option *o)
{
    char left[64];
    snprintf(left, sizeof(left), "%s%c%s--%s%s%s", o->letter != 0 ? "-" : "  ",
             o->letter != 0 ? o->letter : ' ', o->letter != 0 ? ", " : " ", o->name,
             o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
    printf("  %-30s %s\n", left, o->help);
}

static void
help_command(const struct cli_command *c)
{
    printf("usage: pgstrata %s%s%s [options]\n\n%s\n", c->name, c->arguments[0] != '\0' ? " " : "",
           c->arguments, c->summary);
    if (c->details != NULL)
        printf("\n%s\n", c->details);
    printf("\noptions:\n");
    for (size_t i = 0; i < options_count(c); i++)
        help_option(&c->options[i]);
    for (size_t i = 0; i < COMMON_COUNT; i++)
        help_option(&common_options[i]);
    printf("\nexamples:\n%s\n", c->examples);
    printf("\nexit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 conflict\n");
}

static void
help_all(FILE *out)
{
    fprintf(
        out,
        "usage: pgstrata COMMAND [options]\n\n"
        "Archives every change of a PostgreSQL database per tenant, and puts one tenant back to\n"
        "any moment while the others keep working.\n\ncommands:\n");
    for (const struct cli_command *const *c = cli_commands; *c != NULL; c++)
        fprintf(out, "  %-24s %s\n", (*c)->name, (*c)->summary);
    fprintf(out,
            "\n`pgstrata COMMAND --help` tells the options of one. `pgstrata --version` tells the "
            "version.\n");
}

/* Edit distance of two short words, for "did you mean". */
static size_t
word_distance(const char *a, const char *b)
{
    size_t row[64];
    size_t width = strlen(b);
    if (width >= 63 || strlen(a) >= 63)
        return 64;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t least = row[j - 1] < row[j] ? row[j - 1] + 1 : row[j] + 1;
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[width];
}

/* A command that has an alias keeps one row in the table. */
static const char *
command_canonical(const char *word)
{
    return strcmp(word, "point-in-time-recovery") == 0 ? "pitr" : word;
}

/* *used: how many words the name took. */
static const struct cli_command *
command_find(int argc, char *const *argv, int *used)
{
    char two[128];
    const char *first = command_canonical(argv[0]);
    snprintf(two, sizeof(two), "%s %s", first, argc > 1 ? argv[1] : "");
    for (const struct cli_command *const *c = cli_commands; *c != NULL; c++) {
        if (strcmp((*c)->name, two) == 0 || strcmp((*c)->name, first) == 0) {
            *used = strchr((*c)->name, ' ') != NULL ? 2 : 1;
            return *c;
        }
    }
    return NULL;
}

static int
command_unknown(const char *word, struct pgs_err *err)
{
    const char *best = NULL;
    size_t best_distance = 4;
    for (const struct cli_command *const *c = cli_commands; *c != NULL; c++) {
        size_t size = strlen(word);
        if (strncmp((*c)->name, word, size) == 0 && (*c)->name[size] == ' ') {
            (void)err_set(err, PGS_E_USAGE, "\"%s\" needs a second word", word);
            return err_hint(err, "for example: pgstrata %s", (*c)->name);
        }
        size_t distance = word_distance(word, (*c)->name);
        if (distance < best_distance) {
            best_distance = distance;
            best = (*c)->name;
        }
    }
    (void)err_set(err, PGS_E_USAGE, "unknown command \"%s\"", word);
    if (best != NULL)
        return err_hint(err, "did you mean \"%s\"?", best);
    return err_hint(err, "`pgstrata --help` lists the commands");
}

struct getopt_tables {
    struct option longs[OPTIONS_MAX + 1];
    char shorts[3 * OPTIONS_MAX + 2];
    size_t count;
};

static void
tables_add(struct getopt_tables *t, const struct cli_option *o)
{
    pgs_assert(t->count < OPTIONS_MAX);
    t->longs[t->count] =
        (struct option){ .name = o->name,
                         .has_arg = o->value != NULL ? required_argument : no_argument,
                         .val = LONG_BASE + (int)t->count };
    if (o->letter != 0) {
        size_t end = strlen(t->shorts);
        t->shorts[end] = o->letter;
        t->shorts[end + 1] = o->value != NULL ? ':' : '\0';
        t->shorts[end + 2] = '\0';
    }
    t->count++;
}

static const struct cli_option *
option_at(const struct cli_command *command, size_t index)
{
    size_t own = options_count(command);
    return index < own ? &command->options[index] : &common_options[index - own];
}

static int
option_index(const struct cli_command *command, size_t count, int answer)
{
    if (answer >= LONG_BASE)
        return answer - LONG_BASE;
    for (size_t i = 0; i < count; i++) {
        if (option_at(command, i)->letter == answer)
            return (int)i;
    }
    return -1;
}

static int
option_bad(int answer, char *const *argv, struct pgs_err *err)
{
    const char *what = argv[optind - 1];
    (void)err_set(err, PGS_E_USAGE, answer == ':' ? "option %s needs a value" : "unknown option %s",
                  what);
    return err_hint(err, "--help lists the options of the command");
}

/* Fills cli->values (own options, then the common ones) and cli->words. */
static int
options_read(struct cli *cli, int argc, char **argv, struct pgs_err *err)
{
    const struct cli_command *command = cli->command;
    struct getopt_tables t = { .shorts = ":" };
    size_t own = options_count(command);
    for (size_t i = 0; i < own + COMMON_COUNT; i++)
        tables_add(&t, option_at(command, i));
    const char **values = arena_alloc_array(cli->arena, t.count, sizeof(*values));
    int answer;
    opterr = 0;
    optind = 1;
    while ((answer = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
        int index = answer == '?' || answer == ':' ? -1 : option_index(command, t.count, answer);
        if (index < 0)
            return option_bad(answer, argv, err);
        /* A long option where a value should be is a value forgotten. */
        if (optarg != NULL && optarg == argv[optind - 1] && strncmp(optarg, "--", 2) == 0) {
            optind--;
            return option_bad(':', argv, err);
        }
        if (values[index] != NULL && option_at(command, (size_t)index)->value != NULL)
            return err_set(err, PGS_E_USAGE, "option --%s is given twice",
                           option_at(command, (size_t)index)->name);
        values[index] = optarg != NULL ? optarg : "";
    }
    cli->values = values;
    cli->words = argv + optind;
    cli->word_count = argc - optind;
    cli->json = values[own + OPT_JSON] != NULL;
    cli->yes = values[own + OPT_YES] != NULL;
    cli->flags = (struct config_flags){
        .dsn = values[own + OPT_DSN],
        .file = values[own + OPT_CONFIG],
        .backup_dir = values[own + OPT_DIR],
        .log_format = values[own + OPT_LOG_FORMAT],
        .log_level = values[own + OPT_LOG_LEVEL],
        .unsafe_no_fencing = values[own + OPT_NO_FENCING] != NULL,
    };
    return values[own + OPT_HELP] != NULL ? PGS_NONE : 0;
}

static int
words_check(const struct cli *cli, struct pgs_err *err)
{
    const struct cli_command *c = cli->command;
    if (cli->word_count < c->words_min)
        return err_set(err, PGS_E_USAGE, "%s needs %s", c->name, c->arguments);
    if (cli->word_count > c->words_max)
        return err_set(err, PGS_E_USAGE, "%s: unexpected \"%s\"", c->name,
                       cli->words[c->words_max]);
    return 0;
}

static int
command_run(struct cli *cli, int argc, char **argv, struct pgs_err *err)
{
    int rc = options_read(cli, argc, argv, err);
    if (rc < 0)
        return rc;
    if (rc == PGS_NONE) {
        help_command(cli->command);
        return 0;
    }
    rc = words_check(cli, err);
    if (rc == 0)
        rc = config_read(&cli->flags, cli->arena, &cli->config, err);
    if (rc < 0)
        return rc;
    diag_configure(cli->config.log_format, cli->config.log_level);
    return cli->command->run(cli, err);
}

/* Before options are understood, --json anywhere decides how an error is told. */
static bool
wants_json(int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            return true;
    }
    return false;
}

static int
run(int argc, char **argv, struct arena *arena, struct pgs_err *err)
{
    int used = 0;
    struct cli cli = { .arena = arena, .words = argv + argc };
    if (argc < 2) {
        help_all(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        help_all(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("pgstrata %s\n", PGS_VERSION);
        return 0;
    }
    cli.command = command_find(argc - 1, argv + 1, &used);
    if (cli.command == NULL)
        return command_unknown(argv[1], err);
    int rc = command_run(&cli, argc - used, argv + used, err);
    return rc < 0 ? rc : cli.exit_code;
}

int
main(int argc, char **argv)
{
    struct pgs_err err = { 0 };
    /* A reader of our output that goes away, and a file that may not grow, are errors of write(2),
     * not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct arena *arena = arena_new(NULL);
    int rc = run(argc, argv, arena, &err);
    if (rc < 0)
        cli_print_error(&err, wants_json(argc, argv));
    arena_free(arena);
    if (fflush(stdout) != 0 && rc >= 0) {
        (void)err_set_errno(&err, PGS_E_FAILED, "cannot write the answer");
        cli_print_error(&err, false);
        rc = err.kind;
    }
    return rc < 0 ? err_exit_code(err.kind) : rc;
}
