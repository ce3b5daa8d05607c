/* answer.c: results and errors as text and JSON. */
#include "cli/cli.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <inttypes.h>
#include <stdlib.h>

void
cli_print_json(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    pgs_assert(text != NULL);
    printf("%s\n", text);
    free(text);
    json_decref(object);
}

json_t *
json_of_slice(struct slice s)
{
    return s.data == NULL ? json_null() : json_stringn((const char *)s.data, s.size);
}

json_t *
json_of_lsn(pgs_lsn lsn)
{
    char text[LSN_TEXT_MAX];
    return lsn == 0 ? json_null() : json_string(lsn_format(lsn, text));
}

json_t *
json_of_time(pgs_time time)
{
    char text[TIME_TEXT_MAX];
    return time == PGS_TIME_NONE ? json_null() : json_string(time_format(time, text));
}

json_t *
json_of_moment(const struct pgs_moment *m)
{
    if (m->lsn == 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "lsn", json_of_lsn(m->lsn), "time", json_of_time(m->time),
                     "xid", m->xid == 0 ? json_null() : json_integer((json_int_t)m->xid));
}

json_t *
json_of_raw(struct slice json)
{
    if (json.data == NULL)
        return json_null();
    json_t *value = json_loadb((const char *)json.data, json.size, JSON_DECODE_ANY, NULL);
    return value != NULL ? value : json_null();
}

static json_t *
error_json(const struct pgs_err *err)
{
    json_t *body =
        json_pack("{s:s, s:s, s:s}", "code", err->code, "message", err->message, "hint", err->hint);
    if (err->nearest_before.lsn != 0 || err->nearest_after.lsn != 0) {
        json_object_set_new(body, "nearest_before", json_of_moment(&err->nearest_before));
        json_object_set_new(body, "nearest_after", json_of_moment(&err->nearest_after));
    }
    return json_pack("{s:o}", "error", body);
}

static void
print_nearest(const char *label, const struct pgs_moment *m)
{
    char lsn[LSN_TEXT_MAX], time[TIME_TEXT_MAX];
    if (m->lsn != 0)
        fprintf(stderr, "  nearest %s: %s%s%s\n", label, lsn_format(m->lsn, lsn),
                m->time != PGS_TIME_NONE ? " at " : "",
                m->time != PGS_TIME_NONE ? time_format(m->time, time) : "");
}

void
cli_print_error(const struct pgs_err *err, bool json)
{
    if (json) {
        cli_print_json(error_json(err));
        return;
    }
    fprintf(stderr, "pgstrata: %s: %s\n", err->kind == PGS_E_REFUSED ? "refused" : "error",
            err->message);
    print_nearest("before", &err->nearest_before);
    print_nearest("after", &err->nearest_after);
    if (err->hint[0] != '\0')
        fprintf(stderr, "  hint: %s\n", err->hint);
}

const char *
cli_time(const struct cli *cli, pgs_time time)
{
    char text[TIME_TEXT_MAX];
    return time == PGS_TIME_NONE ? "-" : arena_strdup(cli->arena, time_format(time, text));
}

const char *
cli_lsn(const struct cli *cli, pgs_lsn lsn)
{
    char text[LSN_TEXT_MAX];
    return lsn == 0 ? "-" : arena_strdup(cli->arena, lsn_format(lsn, text));
}

const char *
cli_size(const struct cli *cli, uint64_t bytes)
{
    char text[24];
    return arena_strdup(cli->arena, size_format(bytes, text));
}

const char *
cli_count(const struct cli *cli, uint64_t n)
{
    char digits[24], grouped[32];
    size_t count = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n), out = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            grouped[out++] = ',';
        grouped[out++] = digits[i];
    }
    grouped[out] = '\0';
    return arena_strdup(cli->arena, grouped);
}

const char *
cli_text(const struct cli *cli, struct slice s)
{
    return s.data == NULL ? "-" : arena_slice_str(cli->arena, s);
}

struct table_row {
    struct table_row *next;
    const char **cells;
};

struct cli_table {
    struct arena *arena;
    size_t columns;
    size_t *widths;
    struct table_row *first, *last;
};

/* Characters, not bytes: names may be UTF-8. */
static size_t
text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

struct cli_table *
cli_table_new(struct arena *arena, size_t columns, const char *const *titles)
{
    struct cli_table *t = arena_alloc_zero(arena, sizeof(*t));
    t->arena = arena;
    t->columns = columns;
    t->widths = arena_alloc_array(arena, columns, sizeof(*t->widths));
    cli_table_row(t, titles);
    return t;
}

void
cli_table_row(struct cli_table *t, const char *const *cells)
{
    struct table_row *row = arena_alloc_zero(t->arena, sizeof(*row));
    row->cells = arena_alloc_array(t->arena, t->columns, sizeof(*row->cells));
    for (size_t i = 0; i < t->columns; i++) {
        row->cells[i] = arena_strdup(t->arena, cells[i]);
        size_t width = text_width(cells[i]);
        if (width > t->widths[i])
            t->widths[i] = width;
    }
    if (t->last != NULL)
        t->last->next = row;
    else
        t->first = row;
    t->last = row;
}

void
cli_table_print(const struct cli_table *t, FILE *out)
{
    for (const struct table_row *row = t->first; row != NULL; row = row->next) {
        for (size_t i = 0; i < t->columns; i++) {
            int padding = i + 1 < t->columns ? (int)(t->widths[i] - text_width(row->cells[i])) : 0;
            fprintf(out, "%s%s%*s", i > 0 ? "  " : "", row->cells[i], padding, "");
        }
        fprintf(out, "\n");
    }
}

static void
session_close(void *handle)
{
    restore_session_close(handle);
}

int
cli_session(struct cli *cli, struct restore_env *env, struct restore_session **s,
            struct pgs_err *err)
{
    struct restore_session *session = arena_alloc_zero(cli->arena, sizeof(*session));
    int rc = restore_session_open(env, session, err);
    if (rc < 0)
        return rc;
    arena_defer(cli->arena, session_close, session);
    *s = session;
    return 0;
}

static void
connection_close(void *handle)
{
    pg_close(handle);
}

int
cli_connect(struct cli *cli, struct pg_conn **conn, struct pgs_err *err)
{
    int rc = pg_open(&cli->config.target, &(struct pg_open_opts){ 0 }, conn, err);
    if (rc == 0)
        arena_defer(cli->arena, connection_close, *conn);
    return rc;
}
