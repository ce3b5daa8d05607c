#include "restore/verify_live.h"

#include "core/err.h"
#include "core/hash.h"
#include "core/random.h"
#include "pg/copytext.h"
#include "pg/quote.h"
#include "pg/replication.h"
#include "strata/barrier.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEED_A UINT64_C(0x5bd1e9955bd1e995)
#define SEED_B UINT64_C(0xc2b2ae3d27d4eb4f)
#define NAME_RANDOM_BYTES 8

struct sums {
    uint64_t rows, a, b;
};

struct comparison {
    struct restore_session *session;
    const char *tenant; /* NULL: all */
    struct arena *arena;
    struct verify_result *result;
    pgs_lsn cut;
    struct slice *tenants; /* sorted */
    size_t tenant_count;
};

/* One table: sums by tenant; the last one is of rows that are nobody's. */
struct table_sums {
    struct sums *live, *archived;
    uint64_t unknown_rows; /* live rows of tenants that the archive has never heard of */
    struct slice unknown;  /* one of those tenants */
};

void
verify_problem_add(struct arena *arena, struct verify_result *result, struct slice object,
                   const char *text)
{
    size_t count = result->problem_count;
    if ((count & (count - 1)) == 0) { /* full at 0 and at each power of two */
        struct verify_problem *grown = arena_alloc_array(arena, 2 * count + 1, sizeof(*grown));
        if (count > 0)
            memcpy(grown, result->problems, count * sizeof(*grown));
        result->problems = grown;
    }
    result->problems[result->problem_count++] =
        (struct verify_problem){ .object = arena_dup(arena, object),
                                 .text = slice_str(arena_strdup(arena, text)) };
}

static void
sums_add(struct sums *s, const struct buf *image)
{
    s->rows++;
    s->a += hash_bytes(buf_slice(image), SEED_A);
    s->b += hash_bytes(buf_slice(image), SEED_B);
}

static bool
sums_equal(const struct sums *x, const struct sums *y)
{
    return x->rows == y->rows && x->a == y->a && x->b == y->b;
}

/* --- live --- */

static int
slice_order(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Whose row it is; SLICE_NULL: nobody's. */
static struct slice
tenant_of_row(const struct relation *r, const struct slice *fields)
{
    return r->tenant_column < 0 ? r->tenant : fields[r->tenant_column];
}

/* The tenant's sums; NULL: the archive does not know the tenant. */
static struct sums *
live_slot(const struct comparison *c, const struct relation *r, const struct slice *fields,
          struct table_sums *sums)
{
    struct slice tenant = tenant_of_row(r, fields);
    if (tenant.data == NULL)
        return &sums->live[c->tenant_count];
    const struct slice *found =
        bsearch(&tenant, c->tenants, c->tenant_count, sizeof(*c->tenants), slice_order);
    return found == NULL ? NULL : &sums->live[found - c->tenants];
}

static int
live_row(const struct comparison *c, const struct relation *r, struct slice line,
         struct slice *fields, struct arena *scratch, struct buf *image, struct table_sums *sums,
         struct pgs_err *err)
{
    int rc = copytext_split(line, r->column_count, fields, scratch, err);
    if (rc < 0)
        return rc;
    struct sums *slot = live_slot(c, r, fields, sums);
    if (slot == NULL) {
        if (sums->unknown_rows++ == 0)
            sums->unknown = arena_dup(c->arena, tenant_of_row(r, fields));
        return 0;
    }
    buf_reset(image);
    for (size_t i = 0; i < r->column_count; i++)
        row_put_field(image, fields[i]);
    sums_add(slot, image);
    return 0;
}

static int
live_sql(const struct comparison *c, const struct relation *r, struct buf *sql, struct pgs_err *err)
{
    struct pg_conn *conn = c->session->conn;
    int rc = 0;
    buf_put_str(sql, "COPY (SELECT ");
    for (size_t i = 0; rc == 0 && i < r->column_count; i++) {
        buf_put_str(sql, i > 0 ? ", " : "");
        rc = quote_ident(conn, sql, r->columns[i].name, err);
    }
    buf_put_str(sql, " FROM ONLY ");
    if (rc == 0)
        rc = quote_qualified(conn, sql, r->schema, r->name, err);
    if (rc == 0 && c->tenant != NULL && r->tenant_column >= 0) {
        buf_put_str(sql, " WHERE ");
        rc = quote_ident(conn, sql, r->columns[r->tenant_column].name, err);
        buf_put_str(sql, " = ");
        if (rc == 0)
            rc = quote_literal(conn, sql, slice_str(c->tenant), err);
    }
    buf_put_str(sql, ") TO STDOUT");
    return rc;
}

static int
live_read(const struct comparison *c, const struct relation *r, struct table_sums *sums,
          struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL), *table = arena_new(NULL);
    struct slice *fields = arena_alloc_array(table, r->column_count + 1, sizeof(*fields));
    struct buf sql = { 0 }, image = { 0 };
    struct slice line;
    int rc = live_sql(c, r, &sql, err);
    if (rc == 0)
        rc = pg_copy_out_begin(c->session->conn, buf_cstr(&sql), err);
    while (rc == 0 && (rc = pg_copy_out_read(c->session->conn, &line, err)) == 0) {
        rc = live_row(c, r, line, fields, scratch, &image, sums, err);
        arena_reset(scratch);
    }
    buf_release(&sql);
    buf_release(&image);
    arena_free(scratch);
    arena_free(table);
    return rc < 0 ? rc : 0;
}

/* --- archived --- */

static int
archive_read(const struct comparison *c, const struct coverage *coverage, uint32_t oid,
             const struct tenant *tenant, struct sums *sums, struct pgs_err *err)
{
    struct scan_opts opts = {
        .tenant = *tenant, .coverage = coverage, .table_oid = oid, .to = c->cut
    };
    struct state *state = NULL;
    struct state_row row;
    struct buf image = { 0 };
    int rc = state_open(c->session->archive, &opts, &state, err);
    while (rc == 0 && (rc = state_next(state, &row, err)) == 0) {
        buf_reset(&image);
        for (size_t i = 0; i < coverage->relation->column_count; i++)
            row_put_field(&image, row.fields[i].kind == ROW_TEXT ? row.fields[i].text : SLICE_NULL);
        sums_add(sums, &image);
    }
    state_close(state);
    buf_release(&image);
    return rc < 0 ? rc : 0;
}

/* Whether the table can have rows of this tenant. */
static bool
may_hold(const struct relation *r, struct slice tenant)
{
    return r->route == ROUTE_COLUMN || (r->route == ROUTE_SCHEMA && slice_equal(r->tenant, tenant));
}

static int
archive_read_all(const struct comparison *c, const struct relation *r, struct table_sums *sums,
                 struct pgs_err *err)
{
    struct coverage coverage;
    struct tenant shared = { .scope = SCOPE_SHARED, .key = slice_of("", 0) };
    int rc = archive_coverage(c->session->archive, r->oid, c->cut, c->cut, &coverage, err);
    if (rc == 0 && c->tenant == NULL)
        rc = archive_read(c, &coverage, r->oid, &shared, &sums->archived[c->tenant_count], err);
    for (size_t i = 0; rc == 0 && i < c->tenant_count; i++) {
        if (!may_hold(r, c->tenants[i]))
            continue;
        struct tenant tenant = { .scope = SCOPE_TENANT, .key = c->tenants[i] };
        rc = archive_read(c, &coverage, r->oid, &tenant, &sums->archived[i], err);
    }
    return rc;
}

/* --- comparing --- */

static void
note_difference(const struct comparison *c, const char *table, size_t i,
                const struct table_sums *sums)
{
    const struct sums *live = &sums->live[i], *archived = &sums->archived[i];
    const char *whose = i == c->tenant_count
                            ? "shared rows"
                            : arena_printf(c->arena, "tenant %.*s", SLICE_PRINT(c->tenants[i]));
    const char *what =
        live->rows != archived->rows
            ? arena_printf(c->arena, "%" PRIu64 " rows live, %" PRIu64 " archived", live->rows,
                           archived->rows)
            : arena_printf(c->arena, "%" PRIu64 " rows each, with other contents", live->rows);
    verify_problem_add(c->arena, c->result, slice_str(table),
                       arena_printf(c->arena, "live and archive differ: %s: %s", whose, what));
}

static void
compare_sums(const struct comparison *c, const char *table, const struct table_sums *sums)
{
    for (size_t i = 0; i <= c->tenant_count; i++) {
        c->result->rows_compared += sums->live[i].rows;
        if (!sums_equal(&sums->live[i], &sums->archived[i]))
            note_difference(c, table, i, sums);
    }
    c->result->rows_compared += sums->unknown_rows;
    if (sums->unknown_rows > 0)
        verify_problem_add(c->arena, c->result, slice_str(table),
                           arena_printf(c->arena,
                                        "live and archive differ: %" PRIu64
                                        " rows of tenants not archived, as %.*s",
                                        sums->unknown_rows, SLICE_PRINT(sums->unknown)));
}

static int
compare_table(const struct comparison *c, const struct relation *r, struct pgs_err *err)
{
    struct arena *table = arena_new(NULL);
    struct table_sums sums = {
        .live = arena_alloc_array(table, c->tenant_count + 1, sizeof(struct sums)),
        .archived = arena_alloc_array(table, c->tenant_count + 1, sizeof(struct sums)),
    };
    const char *name =
        arena_printf(table, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
    int rc = live_read(c, r, &sums, err);
    if (rc == 0) {
        rc = archive_read_all(c, r, &sums, err);
        /* What the archive cannot answer for, or has damaged, is a finding. */
        if (rc < 0 && (err->kind == PGS_E_REFUSED || err->kind == PGS_E_CORRUPT)) {
            verify_problem_add(c->arena, c->result, slice_str(name), err->message);
            rc = 0;
        } else if (rc == 0) {
            compare_sums(c, name, &sums);
        }
    }
    if (rc < 0)
        rc = err_doing(err, "compare table %s", name);
    arena_free(table);
    return rc;
}

static int
compare_all(struct comparison *c, struct pgs_err *err)
{
    struct catalog catalog;
    struct restore_session *s = c->session;
    int rc = catalog_read(s->conn, &s->env->rules, c->arena, &catalog, err);
    if (rc == 0 && c->tenant == NULL) {
        rc = archive_tenants(s->archive, c->arena, &c->tenants, &c->tenant_count, err);
    } else {
        c->tenants = arena_alloc_array(c->arena, 1, sizeof(*c->tenants));
        c->tenants[0] = slice_str(c->tenant);
        c->tenant_count = 1;
    }
    for (size_t i = 0; rc == 0 && i < catalog.count; i++) {
        const struct relation *r = catalog.relations[i];
        bool concerns = c->tenant != NULL ? may_hold(r, slice_str(c->tenant))
                                          : r->route != ROUTE_EXCLUDED && r->route != ROUTE_PARENT;
        if (r->covered && r->published && concerns)
            rc = compare_table(c, r, err);
    }
    return rc;
}

/* --- the snapshot --- */

static int
snapshot_begin(struct pg_conn *conn, const struct slot_created *slot, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ");
    int rc = quote_literal(conn, &sql, slice_str(slot->snapshot), err);
    if (rc == 0)
        rc = pg_exec(conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

static int
compare_under_snapshot(struct comparison *c, const struct slot_created *slot, struct pgs_err *err)
{
    struct restore_session *s = c->session;
    struct pgs_err ignored;
    c->cut = slot->consistent_point;
    int rc = snapshot_begin(s->conn, slot, err);
    if (rc < 0)
        return rc;
    rc = compare_all(c, err);
    err_ignore(pg_exec(s->conn, "ROLLBACK", &ignored)); /* it only read */
    return rc;
}

int
verify_live_run(struct restore_session *s, const char *tenant, struct arena *arena,
                struct verify_result *result, struct pgs_err *err)
{
    struct comparison c = { .session = s, .tenant = tenant, .arena = arena, .result = result };
    struct pg_conn *replication = NULL;
    struct slot_created slot;
    char name[64], random[2 * NAME_RANDOM_BYTES + 1];
    snprintf(name, sizeof(name), "pgstrata_verify_%s", random_hex(random, NAME_RANDOM_BYTES));
    int rc =
        pg_open(&s->env->target, &(struct pg_open_opts){ .replication = true }, &replication, err);
    if (rc == 0)
        rc = replication_create_slot(replication, name, true, true, &slot, err);
    /* Afterwards the archive is past the slot's point. */
    if (rc == 0)
        rc = restore_session_flush(s, err);
    if (rc == 0)
        rc = compare_under_snapshot(&c, &slot, err);
    pg_close(replication); /* and with it the slot */
    return rc < 0 ? err_doing(err, "compare with the live database") : 0;
}
