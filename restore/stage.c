#include "restore/stage.h"

#include "core/err.h"
#include "pg/copytext.h"

#include <stdio.h>

/* COPY data goes out in pieces of about this size: large enough that the calls do not count. */
#define COPY_CHUNK_BYTES ((size_t)64 << 10)

/* --- COPY lines --- */

static void
put_field(struct buf *lines, bool first, struct slice field)
{
    if (!first)
        buf_put_u8(lines, '\t');
    copytext_put(lines, field);
}

void
row_copy_fields(struct row_copy *copy, const struct row_field *fields, size_t count,
                const int *places)
{
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        pgs_assert(fields[i].kind != ROW_UNCHANGED);
        if (places != NULL && places[i] < 0)
            continue;
        put_field(&copy->lines, first, fields[i].kind == ROW_TEXT ? fields[i].text : SLICE_NULL);
        first = false;
    }
}

static int
copy_send(struct row_copy *copy, struct pgs_err *err)
{
    if (buf_failed(&copy->lines))
        return err_set(err, PGS_E_FAILED, "a row is too large");
    int rc = pg_copy_in_write(copy->conn, buf_slice(&copy->lines), err);
    buf_reset(&copy->lines);
    return rc;
}

int
row_copy_end_line(struct row_copy *copy, struct pgs_err *err)
{
    buf_put_u8(&copy->lines, '\n');
    return copy->lines.size < COPY_CHUNK_BYTES ? 0 : copy_send(copy, err);
}

int
row_copy_key(struct row_copy *copy, const struct plan_table *t, struct slice key,
             struct pgs_err *err)
{
    struct slice fields[PLAN_KEY_COLUMNS_MAX];
    int rc = key_split(key, t->key_count, fields, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < t->key_count; i++)
        put_field(&copy->lines, i == 0, fields[i]);
    return row_copy_end_line(copy, err);
}

int
row_copy_finish(struct row_copy *copy, int rc, uint64_t *rows, struct pgs_err *err)
{
    struct pgs_err ignored;
    uint64_t done = 0;
    if (rc == 0)
        rc = copy_send(copy, err);
    if (rc < 0) {
        /* The server's answer is our own reason coming back: the first error is what counts. */
        int unused = pg_copy_in_end(copy->conn, "pgstrata gave up", &done, &ignored);
        (void)unused;
    } else {
        rc = pg_copy_in_end(copy->conn, NULL, &done, err);
    }
    buf_release(&copy->lines);
    if (rc == 0 && rows != NULL)
        *rows = done;
    return rc;
}

/* --- pieces of SQL --- */

void
stage_put_columns(struct buf *sql, const struct plan_table *t, const char *prefix)
{
    const char *separator = "";
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->mapping.then[i] < 0)
            continue;
        buf_printf(sql, "%s%s%zu", separator, prefix, i);
        separator = ", ";
    }
}

void
stage_put_row(struct buf *sql, const struct plan_table *t, const char *alias)
{
    char prefix[16];
    snprintf(prefix, sizeof(prefix), "%s.c", alias);
    buf_put_str(sql, "ROW(");
    stage_put_columns(sql, t, prefix);
    buf_put_u8(sql, ')');
}

void
live_put_row(struct buf *sql, const struct plan_table *t, const char *alias)
{
    const char *separator = "ROW(";
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->mapping.then[i] < 0)
            continue;
        buf_printf(sql, "%s%s.%s", separator, alias, t->sql_columns[i]);
        separator = ", ";
    }
    buf_put_u8(sql, ')');
}

void
live_put_tenant(struct buf *sql, const struct plan_table *t, const char *alias)
{
    /* Untyped where there is a column: the parameter takes its type without the length, so that
     * nothing is cut off, and the column's index serves. */
    if (t->live->tenant_column >= 0)
        buf_printf(sql, "%s.%s = $1", alias, t->sql_columns[t->live->tenant_column]);
    else
        buf_put_str(sql, "$1::text IS NOT NULL");
}

void
stage_put_key_join(struct buf *sql, const struct plan_table *t, const char *live, const char *stage)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, "%s%s.%s %s %s.c%zu", i == 0 ? "" : " AND ", live,
                   t->sql_columns[t->key_columns[i]], t->equals[i], stage, t->key_columns[i]);
}

/* --- the stage --- */

/* A value of another type is converted as an assignment converts it, which is what ALTER TYPE does
 * where it is told nothing else. PostgreSQL looks for conversions that depend on settings only
 * before it adds its own: x<i> has it look at this one too. */
static void
put_stage_column(struct buf *sql, const struct plan_table *t, size_t i)
{
    const struct column *c = &t->live->columns[i];
    const char *from = t->mapping.from_types[i];
    if (from != NULL)
        buf_printf(sql, ", a%zu %s", i, from);
    buf_printf(sql, ", c%zu %.*s", i, SLICE_PRINT(c->type_name));
    if (c->collation.data != NULL)
        buf_printf(sql, " COLLATE %.*s", SLICE_PRINT(c->collation));
    if (from != NULL)
        buf_printf(sql,
                   " GENERATED ALWAYS AS (a%zu) STORED,"
                   " x%zu boolean GENERATED ALWAYS AS (a%zu::%.*s IS NULL) STORED",
                   i, i, i, SLICE_PRINT(c->type_name));
}

/* PostgreSQL has no conversion by assignment, or only one that depends on settings. */
static int
refuse_conversion(const struct plan_table *t, struct pgs_err *err)
{
    if (strcmp(err->sqlstate, "42804") != 0 && strcmp(err->sqlstate, "42P17") != 0)
        return err_doing(err, "create a temporary table for %s", t->label);
    return mapping_refuse(err, t->label, "values of a column cannot be converted: %s",
                          err->message);
}

static int
stage_create(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_printf(&sql, "CREATE TEMPORARY TABLE pgs_stage_%zu (present boolean", t->number);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->mapping.then[i] >= 0)
            put_stage_column(&sql, t, i);
    }
    buf_put_str(&sql, ") ON COMMIT DROP");
    int rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    if (rc == 0)
        t->staged = true;
    return rc < 0 ? refuse_conversion(t, err) : 0;
}

/* In the order of the columns at the cut, as the archive's rows come. */
static void
put_copy(struct buf *sql, const struct plan_table *t)
{
    buf_printf(sql, "COPY pg_temp.pgs_stage_%zu (present", t->number);
    for (size_t i = 0; i < t->relation->column_count; i++) {
        int place = t->mapping.now[i];
        if (place >= 0)
            buf_printf(sql, ", %c%d", t->mapping.from_types[place] != NULL ? 'a' : 'c', place);
    }
    buf_put_str(sql, ") FROM STDIN");
}

/* Class 22, data exceptions, and violated domains: texts that types of now do not take. */
static int
refuse_values(const struct plan_table *t, struct pgs_err *err)
{
    if (strncmp(err->sqlstate, "22", 2) != 0 && strcmp(err->sqlstate, "23514") != 0)
        return err_doing(err, "stage the rows of %s", t->label);
    struct pgs_err cause = *err;
    (void)err_set(err, PGS_E_REFUSED, "values of then do not fit the columns of table %s now: %s",
                  t->label, cause.message);
    (void)err_code(err, "values_do_not_fit");
    return err_hint(
        err,
        "its types have changed since; load its rows with `pgstrata export`, or leave it "
        "out with --exclude-tables %s",
        t->label);
}

/* " AND a.c0 OPERATOR(=) b.c0 ...": two rows of the stage with equal keys */
static void
put_same_keys(struct buf *sql, const struct plan_table *t)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, " AND a.c%zu %s b.c%zu", t->key_columns[i], t->equals[i],
                   t->key_columns[i]);
}

/* Another key, or another type of it, may not tell apart what the key of then did. */
static int
check_keys_differ(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    if (!t->mapping.key_changed && !t->mapping.converts)
        return 0;
    buf_printf(&sql,
               "SELECT FROM pg_temp.pgs_stage_%zu a JOIN pg_temp.pgs_stage_%zu b"
               " ON a.ctid < b.ctid",
               t->number, t->number);
    put_same_keys(&sql, t);
    buf_put_str(&sql, " LIMIT 1");
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0 && pg_rows_count(rows) > 0)
        rc = mapping_refuse(err, t->label, "several rows of then have the same key of now");
    pg_rows_free(rows);
    buf_release(&sql);
    return rc;
}

/* The key alone, for a key that had no row at the cut. */
static int
copy_absent(struct row_copy *copy, const struct plan_table *t, struct slice key,
            struct pgs_err *err)
{
    struct slice fields[PLAN_KEY_COLUMNS_MAX];
    size_t next_key = 0;
    int rc = key_split(key, t->key_count, fields, err);
    if (rc < 0)
        return rc;
    buf_put_u8(&copy->lines, 'f');
    for (size_t i = 0; i < t->relation->column_count; i++) {
        bool is_key = next_key < t->key_count && t->key_columns[next_key] == i;
        buf_put_u8(&copy->lines, '\t');
        copytext_put(&copy->lines, is_key ? fields[next_key++] : SLICE_NULL);
    }
    return row_copy_end_line(copy, err);
}

static int
copy_present(struct row_copy *copy, const struct plan_table *t, const struct row_field *fields,
             struct pgs_err *err)
{
    buf_put_str(&copy->lines, "t\t");
    row_copy_fields(copy, fields, t->relation->column_count, t->mapping.now);
    return row_copy_end_line(copy, err);
}

/* Rows at the cut, and keys that had one and lost it before. *others: keys that the tenant did not
 * have by then. Everything comes in key order. */
static int
copy_answers(struct row_copy *copy, const struct plan_table *t, struct state *state,
             const struct slice *keys, size_t count, struct slice *others, size_t *other_count,
             struct pgs_err *err)
{
    struct state_row row = { .key = SLICE_NULL };
    int rc = 0, more = 0; /* more: 0 row is valid, PGS_NONE no rows any more */
    if (count > 0)
        more = state_next(state, &row, err);
    *other_count = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        while (more == 0 && slice_compare(row.key, keys[i]) < 0)
            more = state_next(state, &row, err);
        if (more < 0)
            return more;
        if (more != 0 || !slice_equal(row.key, keys[i]))
            others[(*other_count)++] = keys[i];
        else if (row.fields != NULL)
            rc = copy_present(copy, t, row.fields, err);
        else
            rc = copy_absent(copy, t, keys[i], err);
    }
    return rc;
}

/* Keys that the tenant got after the cut are absent ones. The rest concern nobody here: where a
 * delete does not tell the tenant, those of all tenants are among the changed keys. */
static int
copy_keys(struct plan *plan, struct row_copy *copy, const struct plan_table *t, struct state *state,
          const struct scan_opts *opts, struct pgs_err *err)
{
    struct arena *scratch = arena_new(NULL);
    struct slice *others = arena_alloc_array(scratch, opts->key_count + 1, sizeof(*others));
    struct scan_opts later = *opts;
    size_t count;
    int rc = copy_answers(copy, t, state, opts->keys, opts->key_count, others, &count, err);
    later.keys = others;
    later.key_count = count;
    later.to = plan->end;
    if (rc == 0 && count > 0)
        rc = scan_held_keys(plan->session->archive, &later, scratch, &others, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = copy_absent(copy, t, others[i], err);
    arena_free(scratch);
    return rc;
}

static int
copy_all(struct row_copy *copy, const struct plan_table *t, struct state *state,
         struct pgs_err *err)
{
    struct state_row row;
    int rc;
    while ((rc = state_next(state, &row, err)) == 0) {
        if (row.fields == NULL)
            continue;
        rc = copy_present(copy, t, row.fields, err);
        if (rc < 0)
            return rc;
    }
    return rc == PGS_NONE ? 0 : rc;
}

/* keys NULL: all rows. */
static int
stage_fill(struct plan *plan, struct plan_table *t, const struct slice *keys, size_t count,
           struct pgs_err *err)
{
    struct scan_opts opts = { .tenant = plan->tenant,
                              .coverage = &t->coverage,
                              .table_oid = t->relation->oid,
                              .to = plan->cut.lsn,
                              .keys = keys,
                              .key_count = count };
    struct row_copy copy = { .conn = plan->session->conn };
    struct state *state = NULL;
    struct buf sql = { 0 };
    put_copy(&sql, t);
    int rc = archive_view(plan->session->archive, plan->cut.era, err);
    if (rc == 0)
        rc = state_open(plan->session->archive, &opts, &state, err);
    if (rc == 0)
        rc = pg_copy_in_begin(copy.conn, buf_cstr(&sql), err);
    if (rc == 0) {
        rc = keys != NULL ? copy_keys(plan, &copy, t, state, &opts, err)
                          : copy_all(&copy, t, state, err);
        rc = row_copy_finish(&copy, rc, NULL, err);
    }
    state_close(state);
    buf_release(&sql);
    archive_view_current(plan->session->archive);
    return rc < 0 ? refuse_values(t, err) : 0;
}

/* Types whose values can be equal though their texts differ (1.0 and 1.00, citext, -0): two
 * archived keys then mean one live row. */
static bool
text_decides(const struct column *c)
{
    switch (c->type_oid) {
    case 16:   /* bool */
    case 17:   /* bytea */
    case 18:   /* "char" */
    case 19:   /* name */
    case 20:   /* int8 */
    case 21:   /* int2 */
    case 23:   /* int4 */
    case 26:   /* oid */
    case 1082: /* date */
    case 1114: /* timestamp */
    case 1184: /* timestamptz */
    case 2950: /* uuid */ return true;
    case 25:                              /* text */
    case 1043:                            /* varchar */
        return c->collation.data == NULL; /* a collation of its own may be nondeterministic */
    default: return false;
    }
}

bool
stage_keys_exact(const struct plan_table *t)
{
    for (size_t i = 0; i < t->key_count; i++) {
        if (!text_decides(&t->live->columns[t->key_columns[i]]))
            return false;
    }
    return true;
}

/* Of equal keys the one that had a row counts. */
static int
stage_unite_equal_keys(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    if (stage_keys_exact(t))
        return 0;
    struct buf sql = { 0 };
    buf_printf(&sql,
               "DELETE FROM pg_temp.pgs_stage_%zu a USING pg_temp.pgs_stage_%zu b"
               " WHERE NOT a.present AND (b.present OR b.ctid < a.ctid)",
               t->number, t->number);
    put_same_keys(&sql, t);
    int rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

int
stage_table(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    if (t->rewind && t->keys_count == 0)
        return 0;
    int rc = stage_create(plan, t, err);
    if (rc == 0)
        rc = stage_fill(plan, t, t->rewind ? t->keys : NULL, t->keys_count, err);
    if (rc == 0 && t->rewind)
        rc = stage_unite_equal_keys(plan, t, err);
    if (rc == 0)
        rc = check_keys_differ(plan, t, err);
    return rc;
}

/* Merges `added` into the table's keys; *fresh are those that were not there. */
static void
keys_merge(struct plan *plan, struct plan_table *t, const struct slice *added, size_t added_count,
           struct slice **fresh, size_t *fresh_count)
{
    struct slice *all =
        arena_alloc_array(plan->arena, t->keys_count + added_count + 1, sizeof(*all));
    struct slice *new_ones = arena_alloc_array(plan->arena, added_count + 1, sizeof(*new_ones));
    size_t i = 0, j = 0, count = 0, new_count = 0;
    while (i < t->keys_count || j < added_count) {
        int order = i == t->keys_count ? 1
                    : j == added_count ? -1
                                       : slice_compare(t->keys[i], added[j]);
        if (order > 0) {
            all[count] = arena_dup(plan->arena, added[j++]);
            new_ones[new_count++] = all[count++];
        } else {
            all[count++] = t->keys[i++];
            j += order == 0;
        }
    }
    t->keys = all;
    t->keys_count = count;
    *fresh = new_ones;
    *fresh_count = new_count;
}

int
stage_extend(struct plan *plan, struct plan_table *t, const struct slice *keys, size_t count,
             struct pgs_err *err)
{
    struct slice *fresh;
    size_t fresh_count;
    int rc = 0;
    pgs_assert(t->rewind);
    keys_merge(plan, t, keys, count, &fresh, &fresh_count);
    if (fresh_count == 0)
        return 0;
    if (!t->staged)
        rc = stage_create(plan, t, err);
    if (rc == 0)
        rc = stage_fill(plan, t, fresh, fresh_count, err);
    if (rc == 0)
        rc = stage_unite_equal_keys(plan, t, err);
    return rc;
}
