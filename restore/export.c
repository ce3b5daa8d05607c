/* export.c: a tenant's rows at a cut as files, from the archive alone. Files appear whole or not at
 * all. */
#include "restore/csv.h"
#include "restore/fk_order.h"
#include "restore/json_row.h"
#include "restore/plan.h"
#include "restore/stage.h"

#include "core/err.h"
#include "pg/copytext.h"
#include "pg/quote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_BYTES ((size_t)256 << 10)

struct out_file {
    const char *path, *temp;
    int fd;
    struct buf bytes;
    uint64_t size;
};

static int
file_flush(struct out_file *f, struct pgs_err *err)
{
    size_t done = 0;
    while (done < f->bytes.size) {
        ssize_t n = write(f->fd, f->bytes.data + done, f->bytes.size - done);
        if (n < 0 && errno != EINTR)
            return err_set_errno(err, PGS_E_FAILED, "cannot write %s", f->path);
        done += n > 0 ? (size_t)n : 0;
    }
    f->size += f->bytes.size;
    buf_reset(&f->bytes);
    return 0;
}

static int
file_open(struct out_file *f, const char *directory, const char *name, struct arena *arena,
          struct pgs_err *err)
{
    *f = (struct out_file){ .fd = -1 };
    f->path = arena_printf(arena, "%s/%s", directory, name);
    f->temp = arena_printf(arena, "%s.%d.tmp", f->path, (int)getpid());
    f->fd = open(f->temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return f->fd < 0 ? err_set_errno(err, PGS_E_FAILED, "cannot create %s", f->temp) : 0;
}

/* Ends the file: given its name when rc is 0, removed otherwise. */
static int
file_close(struct out_file *f, int rc, struct pgs_err *err)
{
    if (f->fd < 0)
        return rc;
    if (rc == 0)
        rc = file_flush(f, err);
    if (close(f->fd) < 0 && rc == 0)
        rc = err_set_errno(err, PGS_E_FAILED, "cannot write %s", f->path);
    if (rc == 0 && rename(f->temp, f->path) < 0)
        rc = err_set_errno(err, PGS_E_FAILED, "cannot create %s", f->path);
    if (rc < 0)
        (void)unlink(f->temp);
    buf_release(&f->bytes);
    return rc;
}

static struct slice
field_text(const struct row_field *f)
{
    return f->kind == ROW_TEXT ? f->text : SLICE_NULL;
}

static void
put_row(struct buf *out, enum export_format format, const struct relation *r,
        const struct row_field *fields)
{
    if (format == EXPORT_JSONL) {
        json_put_row(out, r, fields);
        buf_put_u8(out, '\n');
        return;
    }
    for (size_t i = 0; i < r->column_count; i++) {
        if (i > 0)
            buf_put_u8(out, format == EXPORT_CSV ? ',' : '\t');
        if (format == EXPORT_CSV)
            csv_put_field(out, field_text(&fields[i]));
        else
            copytext_put(out, field_text(&fields[i]));
    }
    buf_put_u8(out, '\n');
}

static int
put_rows(struct plan *plan, struct plan_table *t, enum export_format format, struct out_file *f,
         uint64_t *rows, struct pgs_err *err)
{
    struct scan_opts opts = { .tenant = plan->tenant,
                              .coverage = &t->coverage,
                              .table_oid = t->relation->oid,
                              .to = plan->cut.lsn };
    struct state *state = NULL;
    struct state_row row;
    *rows = 0;
    int rc = state_open(plan->session->archive, &opts, &state, err);
    while (rc == 0 && (rc = state_next(state, &row, err)) == 0) {
        put_row(&f->bytes, format, t->relation, row.fields);
        (*rows)++;
        if (f->bytes.size >= WRITE_BYTES)
            rc = file_flush(f, err);
    }
    state_close(state);
    return rc < 0 ? err_doing(err, "export table %s", t->label) : 0;
}

static void
put_header(struct buf *out, const struct relation *r)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (i > 0)
            buf_put_u8(out, ',');
        csv_put_field(out, r->columns[i].name);
    }
    buf_put_u8(out, '\n');
}

static int
export_files(struct plan *plan, const struct export_opts *opts, struct arena *arena,
             struct export_result *result, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        struct plan_table *t = &plan->tables[i];
        struct out_file f;
        const char *name =
            arena_printf(arena, "%s.%s", t->label, opts->format == EXPORT_CSV ? "csv" : "jsonl");
        rc = strchr(name, '/') != NULL
                 ? err_set(err, PGS_E_REFUSED, "table %s has a name that is no file name", t->label)
                 : file_open(&f, opts->directory, name, arena, err);
        if (rc < 0)
            break;
        if (opts->format == EXPORT_CSV)
            put_header(&f.bytes, t->relation);
        rc = file_close(&f, put_rows(plan, t, opts->format, &f, &result->tables[i].rows, err), err);
        result->tables[i].path = slice_str(f.path);
        result->tables[i].bytes = f.size;
    }
    return rc;
}

/* Parents first, so that a load with foreign keys on passes. */
static int
load_order(struct plan *plan, size_t *order, struct pgs_err *err)
{
    struct foreign_key *keys;
    size_t count, edges = 0;
    int rc = catalog_foreign_keys(plan->session->conn, plan->arena, &keys, &count, err);
    if (rc < 0)
        return rc;
    struct fk_edge *list = arena_alloc_array(plan->arena, count + 1, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        const struct plan_table *child = plan_table_of(plan, keys[i].child_oid);
        const struct plan_table *parent = plan_table_of(plan, keys[i].parent_oid);
        if (child != NULL && parent != NULL)
            list[edges++] =
                (struct fk_edge){ (size_t)(child - plan->tables), (size_t)(parent - plan->tables) };
    }
    fk_order(plan->table_count, list, edges, order);
    return 0;
}

/* A plain name stays; anything else is percent-encoded, so that no tenant can choose a path. */
static const char *
tenant_file_name(const char *tenant, struct arena *arena)
{
    struct buf b = { 0 };
    for (const char *p = tenant; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';
        buf_printf(&b, plain ? "%c" : "%%%02X", (unsigned char)*p);
    }
    buf_put_str(&b, ".sql");
    const char *name = arena_strdup(arena, buf_cstr(&b));
    buf_release(&b);
    return name;
}

static void
put_copy(struct buf *out, const struct plan_table *t)
{
    buf_put_str(out, "COPY ");
    quote_ident_offline(out, t->relation->schema);
    buf_put_u8(out, '.');
    quote_ident_offline(out, t->relation->name);
    buf_put_str(out, " (");
    for (size_t i = 0; i < t->relation->column_count; i++) {
        buf_put_str(out, i > 0 ? ", " : "");
        quote_ident_offline(out, t->relation->columns[i].name);
    }
    buf_put_str(out, ") FROM stdin;\n");
}

static int
export_script(struct plan *plan, const struct export_opts *opts, struct arena *arena,
              struct export_result *result, struct pgs_err *err)
{
    size_t *order = arena_alloc_array(arena, plan->table_count + 1, sizeof(*order));
    struct out_file f;
    int rc = load_order(plan, order, err);
    if (rc == 0)
        rc = file_open(&f, opts->directory, tenant_file_name(opts->tenant, arena), arena, err);
    if (rc < 0)
        return rc;
    buf_put_str(&f.bytes, "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n"
                          "SET datestyle = 'ISO, YMD';\nSET timezone = 'UTC';\nBEGIN;\n");
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        size_t at = order[i];
        uint64_t before = f.size + f.bytes.size;
        put_copy(&f.bytes, &plan->tables[at]);
        rc = put_rows(plan, &plan->tables[at], EXPORT_SQL, &f, &result->tables[at].rows, err);
        buf_put_str(&f.bytes, "\\.\n");
        result->tables[at].bytes = f.size + f.bytes.size - before;
        result->tables[at].path = slice_str(f.path);
    }
    buf_put_str(&f.bytes, "COMMIT;\n");
    return file_close(&f, rc, err);
}

int
export_run(struct restore_session *s, const struct export_opts *opts, struct arena *arena,
           struct export_result *result, struct pgs_err *err)
{
    struct plan plan = { 0 };
    struct export_result r = { 0 };
    struct tenant tenant = tenant_of(opts->tenant);
    struct plan_opts plan_opts = {
        .selection = { .tables = opts->tables, .table_count = opts->table_count },
        .to_schema = true,
    };
    int rc = restore_session_flush(s, err);
    if (rc == 0)
        rc = archive_resolve(s->archive, &opts->target, s->server_now, &r.cut, err);
    if (rc == 0)
        rc = plan_build(s, &plan_opts, &tenant, &r.cut, arena, &plan, err);
    if (rc == 0)
        rc = archive_view(s->archive, r.cut.era, err);
    if (rc == 0 && mkdir(opts->directory, 0700) < 0 && errno != EEXIST)
        rc = err_set_errno(err, PGS_E_FAILED, "cannot create folder %s", opts->directory);
    if (rc != 0)
        return rc;
    r.tables = arena_alloc_array(arena, plan.table_count + 1, sizeof(*r.tables));
    r.table_count = plan.table_count;
    for (size_t i = 0; i < plan.table_count; i++) {
        r.tables[i].schema = plan.tables[i].relation->schema;
        r.tables[i].name = plan.tables[i].relation->name;
    }
    rc = opts->format == EXPORT_SQL ? export_script(&plan, opts, arena, &r, err)
                                    : export_files(&plan, opts, arena, &r, err);
    if (rc == 0)
        *result = r;
    return rc;
}
