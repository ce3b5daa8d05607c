#include "restore/diff.h"

#include "core/err.h"
#include "restore/conversion.h"
#include "restore/json_row.h"
#include "restore/stage.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t
diff_count(const struct plan_table *t)
{
    return t->inserted + t->updated + t->deleted;
}

struct diff_column
diff_column_of(const struct plan_table *t, size_t column)
{
    struct diff_column name;
    for (size_t i = 0; i < t->key_count; i++) {
        if (t->key_columns[i] == column) {
            snprintf(name.name, sizeof(name.name), "k%zu", i);
            return name;
        }
    }
    pgs_assert(t->kept[column]);
    snprintf(name.name, sizeof(name.name), "o%zu", column);
    return name;
}

static void
put_column_definition(struct buf *sql, const struct plan_table *t, size_t column)
{
    const struct column *c = &t->live->columns[column];
    buf_printf(sql, ", %s %.*s", diff_column_of(t, column).name, SLICE_PRINT(c->type_name));
    if (c->collation.data != NULL)
        buf_printf(sql, " COLLATE %.*s", SLICE_PRINT(c->collation));
}

static int
diff_create(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    struct buf sql = { 0 };
    buf_printf(&sql, "DROP TABLE IF EXISTS pg_temp.pgs_diff_%zu;", t->number);
    buf_printf(&sql,
               "CREATE TEMPORARY TABLE pgs_diff_%zu"
               " (op \"char\", stage tid, live tid, digest bytea",
               t->number);
    for (size_t i = 0; i < t->key_count; i++)
        put_column_definition(&sql, t, t->key_columns[i]);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->kept[i])
            put_column_definition(&sql, t, i);
    }
    buf_put_str(&sql, ") ON COMMIT DROP");
    int rc = pg_exec(plan->session->conn, buf_cstr(&sql), err);
    buf_release(&sql);
    return rc;
}

/* ", x.k0, x.o3": the same for every source, in the order of diff_create. */
static void
put_kept_names(struct buf *sql, const struct plan_table *t, const char *alias)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, ", %s.k%zu", alias, i);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->kept[i])
            buf_printf(sql, ", %s.o%zu", alias, i);
    }
}

/* The tenant's live rows, under names of ours that no column can take: place, v0, v1... */
static void
put_live(struct buf *sql, const struct plan_table *t)
{
    buf_put_str(sql, "(SELECT t.ctid AS place");
    for (size_t i = 0; i < t->live->column_count; i++)
        buf_printf(sql, ", t.%s AS v%zu", t->sql_columns[i], i);
    buf_printf(sql, " FROM ONLY %s t WHERE ", t->sql_name);
    live_put_tenant(sql, t, "t");
    buf_put_u8(sql, ')');
}

static void
put_key_join(struct buf *sql, const struct plan_table *t)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, "%sl.v%zu %s s.c%zu", i == 0 ? "" : " AND ", t->key_columns[i],
                   t->equals[i], t->key_columns[i]);
}

/* ", s.c0 AS k0, l.v3 AS o3" */
static void
put_kept(struct buf *sql, const struct plan_table *t, const char *keys_from)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, ", %s%zu AS k%zu", keys_from, t->key_columns[i], i);
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->kept[i])
            buf_printf(sql, ", l.v%zu AS o%zu", i, i);
    }
}

static void
put_replaced(struct buf *sql, const struct plan_table *t, const char *prefix)
{
    const char *separator = "ROW(";
    for (size_t i = 0; i < t->live->column_count; i++) {
        if (t->replace[i]) {
            buf_printf(sql, "%s%s%zu", separator, prefix, i);
            separator = ", ";
        }
    }
    buf_put_str(sql, ")::record");
}

/* Whether an update must be a delete and an insert: a value changes that two rows may swap, or that
 * UPDATE cannot set. */
static void
put_replace_condition(struct buf *sql, const struct plan_table *t)
{
    bool any = false;
    for (size_t i = 0; i < t->live->column_count; i++)
        any = any || t->replace[i];
    if (!any) {
        buf_put_str(sql, "false");
        return;
    }
    put_replaced(sql, t, "l.v");
    buf_put_str(sql, " *<> ");
    put_replaced(sql, t, "s.c");
}

static void
put_insert_head(struct buf *sql, const struct plan_table *t, bool digests)
{
    buf_printf(sql, "INSERT INTO pg_temp.pgs_diff_%zu SELECT x.op, x.stage, x.live, %s", t->number,
               digests ? "sha256(convert_to(x.before || E'\\n' || x.after, 'UTF8'))" : "NULL");
    put_kept_names(sql, t, "x");
    buf_put_str(sql, " FROM (SELECT ");
}

/* The rows as text, before and after, for the digest. */
static void
put_texts(struct buf *sql, const struct plan_table *t)
{
    buf_put_str(sql, ", CASE WHEN l.place IS NULL THEN '' ELSE ROW(");
    stage_put_columns(sql, t, "l.v");
    buf_put_str(sql, ")::text END AS before, CASE WHEN s.present THEN ROW(");
    stage_put_columns(sql, t, "s.c");
    buf_put_str(sql, ")::text ELSE '' END AS after");
}

/* Every staged key beside the tenant's live row with that key, if there is one. OFFSET 0 keeps the
 * texts from being worked out twice. */
static void
sql_staged(struct buf *sql, const struct plan_table *t, bool digests)
{
    put_insert_head(sql, t, digests);
    buf_put_str(sql, "(CASE WHEN l.place IS NULL THEN 'I' WHEN NOT s.present THEN 'D' WHEN ");
    put_replace_condition(sql, t);
    buf_put_str(sql, " THEN 'R' ELSE 'U' END)::\"char\" AS op, s.ctid AS stage, l.place AS live");
    if (digests)
        put_texts(sql, t);
    put_kept(sql, t, "s.c");
    buf_printf(sql, " FROM pg_temp.pgs_stage_%zu s LEFT JOIN ", t->number);
    put_live(sql, t);
    buf_put_str(sql, " l ON ");
    put_key_join(sql, t);
    buf_put_str(sql, " WHERE CASE WHEN l.place IS NULL THEN s.present ELSE NOT s.present OR ROW(");
    stage_put_columns(sql, t, "l.v");
    buf_put_str(sql, ")::record *<> ROW(");
    stage_put_columns(sql, t, "s.c");
    buf_put_str(sql, ")::record END OFFSET 0) x");
    if (digests)
        buf_put_str(sql, " WHERE x.before <> x.after");
}

/* full: live rows of the tenant that the stage does not have. */
static void
sql_surplus(struct buf *sql, const struct plan_table *t, bool digests)
{
    put_insert_head(sql, t, digests);
    buf_put_str(sql, "'D'::\"char\" AS op, NULL::tid AS stage, l.place AS live");
    if (digests) {
        buf_put_str(sql, ", ROW(");
        stage_put_columns(sql, t, "l.v");
        buf_put_str(sql, ")::text AS before, '' AS after");
    }
    put_kept(sql, t, "l.v");
    buf_put_str(sql, " FROM ");
    put_live(sql, t);
    buf_printf(sql, " l WHERE NOT EXISTS (SELECT FROM pg_temp.pgs_stage_%zu s WHERE ", t->number);
    put_key_join(sql, t);
    buf_put_str(sql, ")) x");
}

static int
run_for_tenant(struct plan *plan, struct buf *sql, struct pgs_err *err)
{
    int rc = pg_query(plan->session->conn, buf_cstr(sql), PG_PARAMS(plan->tenant_text), NULL, err);
    buf_reset(sql);
    return rc;
}

static uint64_t
cell_u64(const struct pg_rows *rows, size_t column)
{
    return strtoull(pg_cell(rows, 0, column), NULL, 10);
}

/* The digest is over the sorted digests of the rows, in two levels, so that no single value of
 * PostgreSQL's grows beyond what it allows (1 GB). */
static void
sql_sum(struct buf *sql, const struct plan_table *t, bool digests)
{
    buf_put_str(sql, "SELECT coalesce(sum(i), 0), coalesce(sum(u), 0), coalesce(sum(r), 0),"
                     " coalesce(sum(d), 0)");
    if (digests)
        buf_put_str(sql, ", encode(sha256(coalesce(string_agg(g, '' ORDER BY g), '')), 'hex')");
    buf_put_str(sql, " FROM (SELECT count(*) FILTER (WHERE op = 'I') AS i,"
                     " count(*) FILTER (WHERE op IN ('U', 'R')) AS u,"
                     " count(*) FILTER (WHERE op = 'R') AS r,"
                     " count(*) FILTER (WHERE op = 'D') AS d");
    if (digests)
        buf_put_str(sql, ", sha256(string_agg(digest, '' ORDER BY digest)) AS g");
    buf_printf(sql, " FROM pg_temp.pgs_diff_%zu%s) x", t->number,
               digests ? " GROUP BY get_byte(digest, 0)" : "");
}

static int
diff_sum(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    sql_sum(&sql, t, plan->digests);
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0) {
        t->inserted = cell_u64(rows, 0);
        t->updated = cell_u64(rows, 1);
        t->replaced = cell_u64(rows, 2);
        t->deleted = cell_u64(rows, 3);
        if (plan->digests)
            snprintf(t->digest, sizeof(t->digest), "%s", pg_cell(rows, 0, 4));
    }
    pg_rows_free(rows);
    buf_release(&sql);
    return rc;
}

int
diff_table(struct plan *plan, struct plan_table *t, struct pgs_err *err)
{
    struct buf sql = { 0 };
    if (!t->staged)
        return 0;
    int rc = diff_create(plan, t, err);
    if (rc == 0) {
        sql_staged(&sql, t, plan->digests);
        rc = run_for_tenant(plan, &sql, err);
    }
    if (rc == 0 && !t->rewind) {
        sql_surplus(&sql, t, plan->digests);
        rc = run_for_tenant(plan, &sql, err);
    }
    if (rc == 0)
        rc = diff_sum(plan, t, err);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "compare table %s", t->label) : 0;
}

int
diff_lock(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    uint64_t wanted = t->updated + t->deleted;
    if (wanted == 0)
        return 0;
    /* A row that changed while we waited for its lock comes with its new place. */
    buf_printf(&sql,
               "SELECT count(*) FROM (SELECT l.ctid AS place FROM ONLY %s l"
               " WHERE l.ctid = ANY (ARRAY(SELECT live FROM pg_temp.pgs_diff_%zu"
               " WHERE live IS NOT NULL)) FOR UPDATE OF l OFFSET 0) x"
               " JOIN pg_temp.pgs_diff_%zu d ON d.live = x.place",
               t->sql_name, t->number, t->number);
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    bool same = rc == 0 && cell_u64(rows, 0) == wanted;
    pg_rows_free(rows);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "lock rows of table %s", t->label);
    return same ? 0 : PGS_NONE;
}

int
diff_check_owners(struct plan *plan, const struct plan_table *t, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    if (!t->staged || t->inserted == 0 || t->live->tenant_in_key || t->live->tenant_column < 0)
        return 0;
    buf_printf(&sql,
               "SELECT l.%s::text FROM pg_temp.pgs_diff_%zu d"
               " JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage JOIN ONLY %s l ON ",
               t->sql_columns[t->live->tenant_column], t->number, t->number, t->sql_name);
    stage_put_key_join(&sql, t, "l", "s");
    buf_put_str(&sql, " WHERE d.op = 'I' LIMIT 1");
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0 && pg_rows_count(rows) > 0) {
        const char *owner = pg_cell(rows, 0, 0);
        err_set(err, PGS_E_REFUSED,
                "a row of table %s belongs to %s%s now: restoring it would take it away", t->label,
                owner != NULL ? "tenant " : "no tenant", owner != NULL ? owner : "");
        err_code(err, "owned_by_other");
        rc = err_hint(err,
                      "`pgstrata history` shows when it moved; --exclude-tables %s leaves "
                      "the table out",
                      t->label);
    }
    pg_rows_free(rows);
    buf_release(&sql);
    return rc;
}

/* --- keys that changed meanwhile --- */

/* rewind: the diff's keys are among the staged ones, so most answers need no SQL. Both come
 * sorted. */
static bool
keys_meet(const struct slice *a, size_t a_count, const struct slice *b, size_t b_count)
{
    size_t i = 0, j = 0;
    while (i < a_count && j < b_count) {
        int order = slice_compare(a[i], b[j]);
        if (order == 0)
            return true;
        if (order < 0)
            i++;
        else
            j++;
    }
    return false;
}

void
diff_put_window_join(struct buf *sql, const struct plan_table *t)
{
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(sql, "%sw.k%zu %s d.k%zu", i == 0 ? "" : " AND ", i, t->equals[i], i);
}

int
diff_window(struct plan *plan, const struct plan_table *t, const struct slice *keys, size_t count,
            struct pgs_err *err)
{
    struct buf sql = { 0 };
    struct row_copy copy = { .conn = plan->session->conn };
    buf_printf(&sql,
               "DROP TABLE IF EXISTS pg_temp.pgs_window_%zu;"
               "CREATE TEMPORARY TABLE pgs_window_%zu ON COMMIT DROP AS SELECT ",
               t->number, t->number);
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(&sql, "%sk%zu", i == 0 ? "" : ", ", i);
    buf_printf(&sql, " FROM pg_temp.pgs_diff_%zu WITH NO DATA", t->number);
    int rc = pg_exec(copy.conn, buf_cstr(&sql), err);
    buf_reset(&sql);
    buf_printf(&sql, "COPY pg_temp.pgs_window_%zu FROM STDIN", t->number);
    if (rc == 0)
        rc = pg_copy_in_begin(copy.conn, buf_cstr(&sql), err);
    buf_release(&sql);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = row_copy_key(&copy, t, keys[i], err);
    return row_copy_finish(&copy, rc, NULL, err);
}

int
diff_touches(struct plan *plan, const struct plan_table *t, const struct slice *keys, size_t count,
             bool *touches, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    *touches = false;
    if (count == 0 || diff_count(t) == 0)
        return 0;
    if (t->rewind && stage_keys_exact(t) && !keys_meet(t->keys, t->keys_count, keys, count))
        return 0;
    int rc = diff_window(plan, t, keys, count, err);
    buf_printf(&sql,
               "SELECT EXISTS (SELECT FROM pg_temp.pgs_window_%zu w"
               " JOIN pg_temp.pgs_diff_%zu d ON ",
               t->number, t->number);
    diff_put_window_join(&sql, t);
    buf_put_u8(&sql, ')');
    if (rc == 0)
        rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        *touches = pg_cell(rows, 0, 0)[0] == 't';
    pg_rows_free(rows);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "compare table %s with what changed meanwhile", t->label) : 0;
}

/* --- samples --- */

/* op, then the live row's columns, then the stage's. */
static void
sql_samples(struct buf *sql, const struct plan_table *t, unsigned most)
{
    static const char *const kinds[] = { "IN ('I')", "IN ('U', 'R')", "IN ('D')" };
    buf_put_str(sql, "SELECT d.op");
    for (size_t i = 0; i < t->live->column_count; i++)
        buf_printf(sql, ", l.%s", t->sql_columns[i]);
    buf_put_str(sql, ", ");
    stage_put_columns(sql, t, "s.c");
    buf_put_str(sql, " FROM (");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        buf_printf(sql, "%s(SELECT %zu AS kind, op, stage, live FROM pg_temp.pgs_diff_%zu",
                   i == 0 ? "" : " UNION ALL ", i, t->number);
        buf_printf(sql, " WHERE op %s LIMIT %u)", kinds[i], most);
    }
    buf_printf(sql,
               ") d LEFT JOIN ONLY %s l ON l.ctid = d.live"
               " LEFT JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage"
               " ORDER BY d.kind, d.stage, d.live",
               t->sql_name, t->number);
}

/* A row of the answer as the live table's columns: those of the stage from `stage` on, the others,
 * which came after the cut, as they are live, or absent where nothing is. */
static void
sample_fields(const struct plan_table *t, const struct pg_rows *rows, size_t row, bool live,
              bool staged, struct row_field *fields)
{
    size_t stage = 1 + t->live->column_count;
    for (size_t i = 0; i < t->live->column_count; i++) {
        bool from_stage = staged && t->mapping.then[i] >= 0;
        fields[i] = (struct row_field){ .kind = ROW_ABSENT };
        if (!from_stage && !live)
            continue;
        fields[i].text = pg_cell_slice(rows, row, from_stage ? stage : 1 + i);
        fields[i].kind = fields[i].text.data == NULL ? ROW_NULL : ROW_TEXT;
        stage += from_stage;
    }
}

static struct slice
sample_image(struct plan *plan, const struct plan_table *t, const struct row_field *fields)
{
    struct buf json = { 0 };
    json_put_row(&json, t->live, fields);
    struct slice image = arena_dup(plan->arena, buf_slice(&json));
    buf_release(&json);
    return image;
}

static struct slice
sample_key(struct plan *plan, const struct plan_table *t, const struct row_field *fields)
{
    struct buf json = { 0 };
    struct slice key_fields[PLAN_KEY_COLUMNS_MAX];
    for (size_t i = 0; i < t->key_count; i++)
        key_fields[i] = fields[t->key_columns[i]].text;
    json_put_key(&json, t->live, key_fields);
    struct slice key = arena_dup(plan->arena, buf_slice(&json));
    buf_release(&json);
    return key;
}

static void
sample_take(struct plan *plan, struct plan_table *t, const struct pg_rows *rows, size_t row)
{
    size_t count = t->live->column_count;
    struct row_field *before = arena_alloc_array(plan->arena, count + 1, sizeof(*before));
    struct row_field *after = arena_alloc_array(plan->arena, count + 1, sizeof(*after));
    char op = pg_cell(rows, row, 0)[0];
    struct pitr_sample *s = &t->samples[t->sample_count++];
    *s = (struct pitr_sample){ .op = op == 'R' ? 'U' : op,
                               .before_json = SLICE_NULL,
                               .after_json = SLICE_NULL };
    sample_fields(t, rows, row, true, false, before);
    sample_fields(t, rows, row, op != 'I', true, after);
    s->key_json = sample_key(plan, t, op == 'I' ? after : before);
    if (op != 'I')
        s->before_json = sample_image(plan, t, before);
    if (op != 'D')
        s->after_json = sample_image(plan, t, after);
}

int
diff_samples(struct plan *plan, struct plan_table *t, unsigned most, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct buf sql = { 0 };
    t->sample_count = 0;
    if (!t->staged || diff_count(t) == 0 || most == 0)
        return 0;
    sql_samples(&sql, t, most);
    int rc = pg_query(plan->session->conn, buf_cstr(&sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0) {
        t->samples = arena_alloc_array(plan->arena, pg_rows_count(rows) + 1, sizeof(*t->samples));
        for (size_t i = 0; i < pg_rows_count(rows); i++)
            sample_take(plan, t, rows, i);
    }
    pg_rows_free(rows);
    buf_release(&sql);
    return rc < 0 ? err_doing(err, "read samples of table %s", t->label) : 0;
}

int
diff_finish(struct plan *plan, bool owners, unsigned samples, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        if (owners)
            rc = diff_check_owners(plan, &plan->tables[i], err);
        if (rc == 0 && plan->tables[i].mapping.converts)
            rc = conversion_check(plan, &plan->tables[i], err);
        if (rc == 0)
            rc = diff_samples(plan, &plan->tables[i], samples, err);
    }
    return rc;
}
