/* options.c: the values of a command's options. */
#include "cli/cli.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

const char *
cli_value(const struct cli *cli, const char *name)
{
    for (size_t i = 0; cli->command->options[i].name != NULL; i++) {
        if (strcmp(cli->command->options[i].name, name) == 0)
            return cli->values[i];
    }
    pgs_assert(!"an option that the command's table lacks");
    return NULL;
}

bool
cli_given(const struct cli *cli, const char *name)
{
    return cli_value(cli, name) != NULL;
}

int
cli_required(const struct cli *cli, const char *name, const char **value, struct pgs_err *err)
{
    const char *text = cli_value(cli, name);
    if (text == NULL || text[0] == '\0')
        return err_set(err, PGS_E_USAGE, "%s needs --%s", cli->command->name, name);
    *value = text;
    return 0;
}

static int
number_parse(const char *name, const char *text, uint64_t max, uint64_t *value, struct pgs_err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0 || v > max)
        return err_set(err, PGS_E_USAGE, "--%s: \"%s\" is no number from 0 to %llu", name, text,
                       (unsigned long long)max);
    *value = v;
    return 0;
}

int
cli_number(const struct cli *cli, const char *name, uint64_t fallback, uint64_t max,
           uint64_t *value, struct pgs_err *err)
{
    const char *text = cli_value(cli, name);
    if (text != NULL)
        return number_parse(name, text, max, value, err);
    *value = fallback;
    return 0;
}

int
cli_milliseconds(const struct cli *cli, const char *name, int64_t fallback, int64_t *value,
                 struct pgs_err *err)
{
    const char *text = cli_value(cli, name);
    if (text == NULL) {
        *value = fallback;
        return 0;
    }
    int rc = duration_parse(text, value, err);
    return rc < 0 ? err_doing(err, "use --%s", name) : 0;
}

int
cli_list(const struct cli *cli, const char *name, const char *const **items, size_t *count,
         struct pgs_err *err)
{
    const char *text = cli_value(cli, name);
    *items = NULL;
    *count = 0;
    if (text == NULL)
        return 0;
    const char **list = arena_alloc_array(cli->arena, strlen(text) + 1, sizeof(*list));
    size_t n = 0;
    for (const char *start = text;;) {
        const char *end = strchrnul(start, ',');
        if (end == start)
            return err_set(err, PGS_E_USAGE, "--%s: an empty name in \"%s\"", name, text);
        list[n++] = arena_slice_str(cli->arena, slice_of(start, (size_t)(end - start)));
        if (*end == '\0')
            break;
        start = end + 1;
    }
    *items = list;
    *count = n;
    return 0;
}

static int
target_fill(const char *name, const char *text, struct target *t, struct pgs_err *err)
{
    if (strcmp(name, "target-time") == 0) {
        t->kind = TARGET_TIME;
        return time_parse(text, &t->time, err);
    }
    if (strcmp(name, "target-lsn") == 0 || strcmp(name, "before-lsn") == 0) {
        t->kind = name[0] == 't' ? TARGET_LSN : TARGET_BEFORE_LSN;
        return lsn_parse(text, &t->lsn, err);
    }
    if (strcmp(name, "target-xid") == 0 || strcmp(name, "before-xid") == 0) {
        t->kind = name[0] == 't' ? TARGET_XID : TARGET_BEFORE_XID;
        return number_parse(name, text, UINT64_MAX, &t->xid, err);
    }
    t->kind = TARGET_NAME;
    t->name = slice_str(text);
    return 0;
}

int
cli_era(const struct cli *cli, uint32_t *era, struct pgs_err *err)
{
    uint64_t number = 0;
    int rc = cli_number(cli, "era", 0, UINT32_MAX, &number, err);
    if (rc == 0)
        *era = (uint32_t)number;
    return rc;
}

int
cli_target(const struct cli *cli, bool optional, struct target *target, const char **label,
           struct pgs_err *err)
{
    static const char *const names[] = { "target-time", "target-lsn", "target-xid",
                                         "target-name", "before-lsn", "before-xid" };
    struct target t = { .kind = TARGET_END, .exclusive = cli_given(cli, "exclusive") };
    const char *chosen = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!cli_given(cli, names[i]))
            continue;
        if (chosen != NULL)
            return err_set(err, PGS_E_USAGE, "--%s and --%s exclude each other", chosen, names[i]);
        chosen = names[i];
        int rc = target_fill(names[i], cli_value(cli, names[i]), &t, err);
        if (rc < 0)
            return rc;
    }
    if (chosen == NULL && !optional) {
        (void)err_set(err, PGS_E_USAGE, "%s needs a target", cli->command->name);
        return err_hint(err,
                        "give one of --target-time, --target-lsn, --target-xid, --target-name, "
                        "--before-lsn, --before-xid");
    }
    /* Where the target is optional, --at may bring it. */
    bool by_at = optional && chosen == NULL;
    if (t.exclusive && !by_at && t.kind != TARGET_TIME && t.kind != TARGET_XID &&
        t.kind != TARGET_NAME)
        return err_set(err, PGS_E_USAGE,
                       "--exclusive goes with --target-time, --target-xid or --target-name");
    int rc = cli_era(cli, &t.era, err);
    if (rc < 0)
        return rc;
    *target = t;
    if (label != NULL)
        *label = chosen == NULL ? "now"
                                : arena_printf(cli->arena, "%s %s", chosen, cli_value(cli, chosen));
    return 0;
}

int
cli_position(const char *text, struct target *target, struct pgs_err *err)
{
    struct target t = { .kind = TARGET_LSN };
    struct pgs_err ignored;
    if (lsn_parse(text, &t.lsn, &ignored) == 0) {
        *target = t;
        return 0;
    }
    t.kind = TARGET_TIME;
    int rc = time_parse(text, &t.time, err);
    if (rc == 0)
        *target = t;
    return rc;
}

static int
ask(const char *question, struct pgs_err *err)
{
    char line[16];
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    if (fgets(line, sizeof(line), stdin) != NULL && (line[0] == 'y' || line[0] == 'Y'))
        return 0;
    return err_set(err, PGS_E_CANCELLED, "not confirmed: nothing was changed");
}

static bool
has_terminal(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

int
cli_confirm(const struct cli *cli, struct pgs_err *err, const char *fmt, ...)
{
    char question[512];
    va_list args;
    if (cli->yes || !has_terminal())
        return 0;
    va_start(args, fmt);
    vsnprintf(question, sizeof(question), fmt, args);
    va_end(args);
    return ask(question, err);
}

int
cli_confirm_strictly(const struct cli *cli, struct pgs_err *err, const char *fmt, ...)
{
    char question[512];
    va_list args;
    if (cli->yes)
        return 0;
    if (!has_terminal()) {
        (void)err_set(err, PGS_E_REFUSED, "%s needs --yes where nobody can be asked",
                      cli->command->name);
        return err_hint(err, "add --yes");
    }
    va_start(args, fmt);
    vsnprintf(question, sizeof(question), fmt, args);
    va_end(args);
    return ask(question, err);
}
