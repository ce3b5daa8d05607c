/* verify.c: reads the archive whole; with `live`, compares it with the database at one LSN.
 *
 * The live side is read under the snapshot of a temporary slot, at its consistent point; the
 * archive's side is folded to the same cut. Both are summed per table and tenant as sets: a sum of
 * hashes over (key, row) needs neither order nor memory. */
#include "restore/json_row.h"
#include "restore/plan.h"

#include "core/err.h"
#include "core/hash.h"
#include "core/timefmt.h"
#include "pg/copytext.h"
#include "pg/quote.h"
#include "pg/replication.h"
#include "strata/barrier.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEED_A UINT64_C(0x5bd1e9955bd1e995)
#define SEED_B UINT64_C(0xc2b2ae3d27d4eb4f)

struct sums {
    uint64_t rows, a, b;
};

struct verifier {
    struct restore_session *session;
    const struct verify_opts *opts;
    struct arena *arena;
    struct verify_result *result;
};

static void
problem_add(struct verifier *v, struct slice object, const char *text)
{
    struct verify_result *r = v->result;
    struct verify_problem *grown =
        arena_alloc_array(v->arena, r->problem_count + 1, sizeof(*grown));
    if (r->problem_count > 0)
        memcpy(grown, r->problems, r->problem_count * sizeof(*grown));
    grown[r->problem_count++] = (struct verify_problem){ arena_dup(v->arena, object),
                                                         slice_str(arena_strdup(v->arena, text)) };
    r->problems = grown;
}

static int
holds_tenant(struct verifier *v, const struct segment_info *info, bool *holds, struct pgs_err *err)
{
    struct segment *segment = NULL;
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t position = 0, count;
    struct slice wanted = slice_str(v->opts->tenant);
    *holds = v->opts->tenant == NULL;
    int rc = *holds ? 0 : segment_open(v->session->store, info->name, info, &segment, err);
    while (rc == 0 && !*holds &&
           (rc = segment_page(segment, &position, scratch, &runs, &count, err)) == 0) {
        for (size_t i = 0; i < count; i++)
            *holds = *holds || runs[i].id.tenant.scope == SCOPE_TOMBSTONES ||
                     slice_compare(runs[i].id.tenant.key, wanted) == 0;
    }
    segment_close(segment);
    arena_free(scratch);
    return rc < 0 ? rc : 0;
}

/* Damage is a finding; a store that does not answer is a failure. */
static int
verify_segment(struct verifier *v, const struct segment_info *info, struct pgs_err *err)
{
    bool holds = true;
    int rc = holds_tenant(v, info, &holds, err);
    if (rc == 0 && holds)
        rc = segment_verify(v->session->store, info, err);
    if (rc < 0 && err->kind != PGS_E_CORRUPT && err->kind != PGS_E_REFUSED)
        return rc;
    if (rc < 0)
        problem_add(v, slice_str(info->name), err->message);
    if (holds) {
        v->result->segments++;
        v->result->versions += info->version_count;
        v->result->bytes += info->size;
    }
    return 0;
}

/* The log ends where a number is missing; an entry behind that place shows that one was lost. */
static int
find_lost_entry(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    struct verifier *v = context;
    (void)stat;
    (void)err;
    problem_add(v,
                slice_str(arena_printf(v->arena, "log/%020llu",
                                       (unsigned long long)v->result->entries + 1)),
                arena_printf(v->arena, "log entry is missing, though %s is there", name));
    return PGS_NONE;
}

static int
verify_log_is_whole(struct verifier *v, struct pgs_err *err)
{
    const char *last =
        arena_printf(v->arena, "log/%020llu", (unsigned long long)v->result->entries);
    struct pgs_err newer;
    /* The archiver may have appended since: those are no lost ones. */
    if (archive_refresh(v->session->archive, &newer) == 0)
        return 0; /* it goes on: nothing is missing here */
    return store_list(v->session->store, "log/", last, find_lost_entry, v, err);
}

static int
verify_objects(struct verifier *v, struct pgs_err *err)
{
    const struct alog *log = archive_log(v->session->archive);
    int rc = 0;
    v->result->entries = alog_count(log);
    for (size_t i = 0; rc == 0 && i < alog_count(log); i++) {
        const struct log_entry *e = alog_entry(log, i);
        for (size_t j = 0; rc == 0 && j < e->segment_count; j++)
            rc = verify_segment(v, &e->segments[j], err);
    }
    if (rc == 0)
        rc = verify_log_is_whole(v, err);
    return rc;
}

static void
sums_add(struct sums *s, const struct buf *image)
{
    s->rows++;
    s->a += hash_bytes(buf_slice(image), SEED_A);
    s->b += hash_bytes(buf_slice(image), SEED_B);
}

static int
live_sums(struct verifier *v, const struct relation *r, struct sums *sums, struct pgs_err *err)
{
    struct pg_conn *c = v->session->conn;
    struct arena *scratch = arena_new(NULL);
    struct buf sql = { 0 }, image = { 0 };
    struct slice line;
    int rc = 0;
    buf_put_str(&sql, "COPY (SELECT ");
    for (size_t i = 0; rc == 0 && i < r->column_count; i++) {
        buf_put_str(&sql, i > 0 ? ", " : "");
        rc = quote_ident(c, &sql, r->columns[i].name, err);
    }
    buf_put_str(&sql, " FROM ONLY ");
    if (rc == 0)
        rc = quote_qualified(c, &sql, r->schema, r->name, err);
    buf_put_str(&sql, ") TO STDOUT");
    if (rc == 0)
        rc = pg_copy_out_begin(c, buf_cstr(&sql), err);
    while (rc == 0 && (rc = pg_copy_out_read(c, &line, err)) == 0) {
        struct slice *fields = arena_alloc_array(scratch, r->column_count + 1, sizeof(*fields));
        rc = copytext_split(line, r->column_count, fields, scratch, err);
        if (rc < 0)
            break;
        bool skip = v->opts->tenant != NULL && r->tenant_column >= 0 &&
                    !slice_equal(fields[r->tenant_column], slice_str(v->opts->tenant));
        buf_reset(&image);
        for (size_t i = 0; i < r->column_count; i++)
            row_put_field(&image, fields[i]);
        if (!skip)
            sums_add(sums, &image);
        arena_reset(scratch);
    }
    buf_release(&sql);
    buf_release(&image);
    arena_free(scratch);
    return rc < 0 ? rc : 0;
}

static int
tenant_sums(struct verifier *v, const struct coverage *coverage, uint32_t oid,
            const struct tenant *tenant, pgs_lsn to, struct sums *sums, struct pgs_err *err)
{
    struct scan_opts opts = { .tenant = *tenant, .coverage = coverage, .table_oid = oid, .to = to };
    struct state *state = NULL;
    struct state_row row;
    struct buf image = { 0 };
    int rc = state_open(v->session->archive, &opts, &state, err);
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

static int
archive_sums(struct verifier *v, const struct relation *r, pgs_lsn to, const struct slice *tenants,
             size_t count, struct sums *sums, struct pgs_err *err)
{
    struct coverage coverage;
    struct tenant shared = { .scope = SCOPE_SHARED, .key = slice_of("", 0) };
    int rc = archive_coverage(v->session->archive, r->oid, to, to, &coverage, err);
    if (rc < 0)
        return rc;
    if (v->opts->tenant == NULL)
        rc = tenant_sums(v, &coverage, r->oid, &shared, to, sums, err);
    for (size_t i = 0; rc == 0 && r->route == ROUTE_COLUMN && i < count; i++) {
        struct tenant tenant = { .scope = SCOPE_TENANT, .key = tenants[i] };
        rc = tenant_sums(v, &coverage, r->oid, &tenant, to, sums, err);
    }
    return rc;
}

static int
compare_table(struct verifier *v, const struct relation *r, pgs_lsn to, const struct slice *tenants,
              size_t count, struct pgs_err *err)
{
    struct sums live = { 0 }, archived = { 0 };
    const char *name =
        arena_printf(v->arena, "%.*s.%.*s", SLICE_PRINT(r->schema), SLICE_PRINT(r->name));
    int rc = live_sums(v, r, &live, err);
    if (rc == 0)
        rc = archive_sums(v, r, to, tenants, count, &archived, err);
    if (rc < 0 && (err->kind == PGS_E_REFUSED || err->kind == PGS_E_CORRUPT)) {
        problem_add(v, slice_str(name), err->message);
        return 0;
    }
    if (rc < 0)
        return err_doing(err, "compare table %s", name);
    v->result->rows_compared += live.rows;
    if (live.rows != archived.rows || live.a != archived.a || live.b != archived.b)
        problem_add(v, slice_str(name),
                    arena_printf(v->arena, "live and archive differ: %llu rows live, %llu archived",
                                 (unsigned long long)live.rows, (unsigned long long)archived.rows));
    return 0;
}

static int
snapshot_begin(struct verifier *v, const struct slot_created *slot, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_put_str(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ");
    int rc = quote_literal(v->session->conn, &sql, slice_str(slot->snapshot), err);
    if (rc == 0)
        rc = pg_exec(v->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

/* Tables are compared one by one under the snapshot; the archive has passed it by the barrier. */
static int
compare_all(struct verifier *v, pgs_lsn to, struct pgs_err *err)
{
    struct catalog catalog;
    struct slice *tenants = NULL, one = slice_str(v->opts->tenant);
    size_t count = 0;
    int rc = catalog_read(v->session->conn, &v->session->env->rules, v->arena, &catalog, err);
    if (rc == 0 && v->opts->tenant == NULL)
        rc = archive_tenants(v->session->archive, v->arena, &tenants, &count, err);
    if (v->opts->tenant != NULL) {
        tenants = &one;
        count = 1;
    }
    for (size_t i = 0; rc == 0 && i < catalog.count; i++) {
        const struct relation *r = catalog.relations[i];
        bool concerns = v->opts->tenant == NULL || r->route == ROUTE_COLUMN;
        if (r->covered && r->published && concerns)
            rc = compare_table(v, r, to, tenants, count, err);
    }
    return rc;
}

static int
verify_live(struct verifier *v, struct pgs_err *err)
{
    struct pg_conn *replication = NULL;
    struct slot_created slot;
    char name[64];
    pgs_lsn end;
    struct pgs_err ignored;
    snprintf(name, sizeof(name), "pgstrata_verify_%d_%lld", (int)getpid(), (long long)clock_us());
    int rc = pg_open(&v->session->env->target, &(struct pg_open_opts){ .replication = true },
                     &replication, err);
    if (rc == 0)
        rc = replication_create_slot(replication, name, true, true, &slot, err);
    if (rc == 0)
        rc = barrier_flush(v->session->conn, v->session->archive, v->session->env->timeout_ms, &end,
                           NULL, err);
    if (rc == 0)
        rc = snapshot_begin(v, &slot, err);
    if (rc == 0) {
        rc = compare_all(v, slot.consistent_point, err);
        err_ignore(pg_exec(v->session->conn, "ROLLBACK", &ignored));
    }
    pg_close(replication);
    return rc < 0 ? err_doing(err, "compare with the live database") : 0;
}

int
verify_run(struct restore_session *s, const struct verify_opts *opts, struct arena *arena,
           struct verify_result *result, struct pgs_err *err)
{
    struct verify_result r = { 0 };
    struct verifier v = { .session = s, .opts = opts, .arena = arena, .result = &r };
    int rc = 0;
    if (opts->tenant != NULL) {
        struct tenant tenant = tenant_of(opts->tenant);
        rc = tenant_check(s->archive, &tenant, err);
    }
    if (rc == 0)
        rc = verify_objects(&v, err);
    if (rc == 0 && opts->live)
        rc = verify_live(&v, err);
    if (rc == 0)
        *result = r;
    return rc;
}
