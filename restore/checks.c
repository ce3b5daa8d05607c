#include "restore/checks.h"

#include "core/err.h"
#include "restore/diff.h"
#include "restore/stage.h"

#include <inttypes.h>
#include <stdlib.h>

/* Runs a SELECT whose first row has two counts, and says whether they are equal. */
static int
compare_counts(struct plan *plan, struct buf *sql, bool for_tenant, bool *equal,
               struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = for_tenant ? pg_query(plan->session->conn, buf_cstr(sql), PG_PARAMS(plan->tenant_text),
                                   &rows, err)
                        : pg_query(plan->session->conn, buf_cstr(sql), PG_NO_PARAMS, &rows, err);
    if (rc == 0)
        *equal = slice_equal(pg_cell_slice(rows, 0, 0), pg_cell_slice(rows, 0, 1));
    pg_rows_free(rows);
    buf_reset(sql);
    return rc;
}

/* --- foreign keys --- */

/* Columns in a foreign key that are not published (generated ones), or that came after the cut, are
 * not in the stage: the key is then checked from the live row. */
static bool
references_staged(const struct foreign_key_check *fk, const struct plan_table *t)
{
    for (size_t i = 0; i < fk->column_count; i++) {
        int column = relation_column(t->live, fk->columns[i].child_attnum);
        if (column < 0 || t->mapping.then[column] < 0)
            return false;
    }
    return true;
}

static bool
referenced_published(const struct foreign_key_check *fk, const struct relation *r)
{
    for (size_t i = 0; i < fk->column_count; i++) {
        if (relation_column(r, fk->columns[i].parent_attnum) < 0)
            return false;
    }
    return true;
}

/* The tenant column refers to the tenant, in every row alike. */
static bool
refers_to_tenant(const struct foreign_key_check *fk, const struct plan_table *t)
{
    return fk->column_count == 1 && t->live->tenant_column >= 0 &&
           fk->columns[0].child_attnum == t->live->columns[t->live->tenant_column].attnum;
}

/* SELECT DISTINCT the references of the rows put back, as f0, f1, ...; NULL refers to nothing. */
static void
put_references(struct buf *sql, const struct foreign_key_check *fk, const struct plan_table *t)
{
    bool staged = references_staged(fk, t);
    buf_put_str(sql, refers_to_tenant(fk, t) ? "SELECT " : "SELECT DISTINCT ");
    for (size_t i = 0; i < fk->column_count; i++) {
        buf_put_str(sql, i == 0 ? "" : ", ");
        if (staged)
            buf_printf(sql, "s.c%d", relation_column(t->live, fk->columns[i].child_attnum));
        else
            buf_printf(sql, "l.%s", fk->columns[i].child);
        buf_printf(sql, " AS f%zu", i);
    }
    buf_printf(sql, " FROM pg_temp.pgs_diff_%zu d JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage",
               t->number, t->number);
    if (!staged) {
        buf_printf(sql, " JOIN ONLY %s l ON ", t->sql_name);
        stage_put_key_join(sql, t, "l", "s");
    }
    buf_put_str(sql, " WHERE d.op IN ('I', 'U', 'R')");
    for (size_t i = 0; i < fk->column_count; i++) {
        if (staged)
            buf_printf(sql, " AND s.c%d IS NOT NULL",
                       relation_column(t->live, fk->columns[i].child_attnum));
        else
            buf_printf(sql, " AND l.%s IS NOT NULL", fk->columns[i].child);
    }
    if (refers_to_tenant(fk, t))
        buf_put_str(sql, " LIMIT 1");
}

/* "alias.parent OPERATOR f.f0 AND ...": parent on the operator's left */
static void
put_parent_join(struct buf *sql, const struct foreign_key_check *fk, const char *parent)
{
    for (size_t i = 0; i < fk->column_count; i++)
        buf_printf(sql, "%s%s.%s %s f.f%zu", i == 0 ? "" : " AND ", parent, fk->columns[i].parent,
                   fk->columns[i].equals, i);
}

/* As many different references as locked parents: a reference has one parent at most, since the
 * parent's columns are unique. */
static int
check_parents(struct plan *plan, const struct foreign_key_check *fk, const struct plan_table *t,
              struct pgs_err *finding, struct pgs_err *err)
{
    struct buf sql = { 0 };
    bool whole = false;
    buf_put_str(&sql, "WITH f AS MATERIALIZED (");
    put_references(&sql, fk, t);
    buf_printf(&sql,
               ") SELECT (SELECT count(*) FROM f),"
               " (SELECT count(*) FROM (SELECT FROM f JOIN %s p ON ",
               fk->parent);
    put_parent_join(&sql, fk, "p");
    buf_put_str(&sql, " FOR KEY SHARE OF p) x)");
    int rc = compare_counts(plan, &sql, false, &whole, err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "check foreign key %s of table %s", fk->name, t->label);
    if (whole)
        return 0;
    err_set(finding, PGS_E_REFUSED,
            "rows of table %s would refer to rows that do not exist (foreign key %s)", t->label,
            fk->name);
    err_code(finding, "foreign_key");
    err_hint(finding,
             "the table they refer to is not part of this restore, or its row belongs to "
             "nobody any more; --exclude-tables %s leaves the table out",
             t->label);
    return PGS_NONE;
}

static void
put_gone(struct buf *sql, const struct foreign_key_check *fk, const struct plan_table *t)
{
    buf_put_str(sql, "SELECT DISTINCT ");
    for (size_t i = 0; i < fk->column_count; i++) {
        size_t column = (size_t)relation_column(t->live, fk->columns[i].parent_attnum);
        buf_printf(sql, "%sd.%s AS f%zu", i == 0 ? "" : ", ", diff_column_of(t, column).name, i);
    }
    buf_printf(sql, " FROM pg_temp.pgs_diff_%zu d WHERE d.op IN ('D', 'R')", t->number);
}

/* "p.col = f.f0": the parent's own equality */
static void
put_same_parent(struct buf *sql, const struct plan *plan, const struct foreign_key_check *fk,
                const struct plan_table *t)
{
    for (size_t i = 0; i < fk->column_count; i++)
        buf_printf(
            sql, "%sp.%s %s f.f%zu", i == 0 ? "" : " AND ", fk->columns[i].parent,
            constraints_equals(&plan->constraints, t->live->oid, fk->columns[i].parent_attnum), i);
}

static int
check_children(struct plan *plan, const struct foreign_key_check *fk, const struct plan_table *t,
               struct pgs_err *finding, struct pgs_err *err)
{
    struct buf sql = { 0 };
    bool none = false;
    if (!referenced_published(fk, t->live)) {
        err_set(err, PGS_E_REFUSED, "foreign key %s refers to a generated column of table %s",
                fk->name, t->label);
        return err_hint(err, "leave the table out with --exclude-tables %s", t->label);
    }
    buf_put_str(&sql, "SELECT count(*), 0 FROM (");
    put_gone(&sql, fk, t);
    buf_printf(&sql, ") f WHERE EXISTS (SELECT FROM %s c WHERE ", fk->child);
    for (size_t i = 0; i < fk->column_count; i++)
        buf_printf(&sql, "%sf.f%zu %s c.%s", i == 0 ? "" : " AND ", i, fk->columns[i].equals,
                   fk->columns[i].child);
    buf_printf(&sql, ") AND NOT EXISTS (SELECT FROM ONLY %s p WHERE ", t->sql_name);
    put_same_parent(&sql, plan, fk, t);
    buf_put_u8(&sql, ')');
    int rc = compare_counts(plan, &sql, false, &none, err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "check foreign key %s to table %s", fk->name, t->label);
    if (none)
        return 0;
    err_set(finding, PGS_E_REFUSED,
            "rows of %s refer to rows of table %s that did not exist then (foreign key %s)",
            fk->child + (strncmp(fk->child, "ONLY ", 5) == 0 ? 5 : 0), t->label, fk->name);
    err_code(finding, "foreign_key");
    err_hint(finding,
             "restore that table too, delete those rows first, or leave %s out with "
             "--exclude-tables",
             t->label);
    return PGS_NONE;
}

static int
check_foreign_key(struct plan *plan, const struct foreign_key_check *fk, struct pgs_err *finding,
                  struct pgs_err *err)
{
    const struct plan_table *child = plan_table_of(plan, fk->child_oid);
    const struct plan_table *parent = plan_table_of(plan, fk->parent_oid);
    int rc = 0;
    if (fk->child_side && child != NULL && child->inserted + child->updated > 0)
        rc = check_parents(plan, fk, child, finding, err);
    if (rc == 0 && fk->parent_side && parent != NULL && parent->deleted + parent->replaced > 0)
        rc = check_children(plan, fk, parent, finding, err);
    return rc;
}

int
checks_foreign_keys(struct plan *plan, struct pgs_err *finding, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->constraints.foreign_key_count; i++)
        rc = check_foreign_key(plan, &plan->constraints.foreign_keys[i], finding, err);
    return rc;
}

/* --- deferrable unique and exclusion constraints --- */

static int
check_unique(struct plan *plan, const struct unique_check *u, const struct plan_table *t,
             struct pgs_err *finding, struct pgs_err *err)
{
    struct buf sql = { 0 };
    bool none = false;
    const char *where = u->predicate != NULL ? u->predicate : "true";
    /* Expressions name the columns bare, so nothing else may be in sight where they stand. */
    buf_printf(&sql,
               "SELECT count(*), 0 FROM (SELECT ctid AS place, %s FROM ONLY %s WHERE (%s)"
               " AND ctid IN (SELECT l.ctid FROM pg_temp.pgs_diff_%zu d JOIN ONLY %s l ON ",
               u->elements, t->sql_name, where, t->number, t->sql_name);
    for (size_t i = 0; i < t->key_count; i++)
        buf_printf(&sql, "%sl.%s %s d.k%zu", i == 0 ? "" : " AND ",
                   t->sql_columns[t->key_columns[i]], t->equals[i], i);
    buf_printf(&sql,
               " WHERE d.op IN ('I', 'U', 'R'))) a"
               " JOIN (SELECT ctid AS place, %s FROM ONLY %s WHERE %s) b"
               " ON %s AND a.place <> b.place",
               u->elements, t->sql_name, where, u->conflict);
    int rc = compare_counts(plan, &sql, false, &none, err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "check constraint %s of table %s", u->name, t->label);
    if (none)
        return 0;
    err_set(finding, PGS_E_REFUSED, "rows of table %s would violate constraint %s", t->label,
            u->name);
    err_code(finding, "unique");
    err_hint(finding, "rows that came later, or another tenant's, hold these values");
    return PGS_NONE;
}

int
checks_unique(struct plan *plan, struct pgs_err *finding, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->constraints.unique_count; i++) {
        const struct unique_check *u = &plan->constraints.uniques[i];
        const struct plan_table *t = plan_table_of(plan, u->table_oid);
        if (t != NULL && t->inserted + t->updated > 0)
            rc = check_unique(plan, u, t, finding, err);
    }
    return rc;
}

/* --- rows --- */

/* First count: touched keys that are as staged; second: how many there should be. */
static void
sql_rows(struct buf *sql, const struct plan_table *t)
{
    buf_printf(sql,
               "SELECT (SELECT count(*) FROM pg_temp.pgs_diff_%zu d"
               " JOIN pg_temp.pgs_stage_%zu s ON s.ctid = d.stage JOIN ONLY %s l ON ",
               t->number, t->number, t->sql_name);
    stage_put_key_join(sql, t, "l", "s");
    buf_put_str(sql, " WHERE d.op IN ('I', 'U', 'R') AND ");
    live_put_tenant(sql, t, "l");
    buf_put_str(sql, " AND ");
    live_put_row(sql, t, "l");
    buf_put_str(sql, "::record *= ");
    stage_put_row(sql, t, "s");
    buf_put_str(sql, "::record)");
    if (t->deleted > 0) {
        buf_printf(sql,
                   " + (SELECT count(*) FROM pg_temp.pgs_diff_%zu d WHERE d.op = 'D'"
                   " AND NOT EXISTS (SELECT FROM ONLY %s l WHERE ",
                   t->number, t->sql_name);
        for (size_t i = 0; i < t->key_count; i++)
            buf_printf(sql, "l.%s %s d.k%zu AND ", t->sql_columns[t->key_columns[i]], t->equals[i],
                       i);
        live_put_tenant(sql, t, "l");
        buf_put_str(sql, "))");
    }
    buf_printf(sql, ", %" PRIu64, diff_count(t));
}

static void
name_triggers(const struct plan *plan, const struct plan_table *t, bool replica,
              struct pgs_err *finding)
{
    struct buf names = { 0 };
    for (size_t i = 0; i < plan->constraints.trigger_count; i++) {
        const struct firing_trigger *g = &plan->constraints.triggers[i];
        if (replica ? g->in_replica : g->in_origin)
            buf_printf(&names, "%s%s on %s", names.size == 0 ? "" : ", ", g->name, g->table);
    }
    if (names.size == 0) {
        err_set(finding, PGS_E_CONFLICT, "rows of table %s changed while they were restored",
                t->label);
    } else {
        err_set(finding, PGS_E_REFUSED,
                "rows of table %s are not what was restored: triggers could not be switched off "
                "(%s)",
                t->label, buf_cstr(&names));
        err_code(finding, "trigger");
        err_hint(finding, "disable the trigger for the time of the restore%s",
                 replica ? ""
                         : ", or grant SET ON PARAMETER session_replication_role to this role");
    }
    buf_release(&names);
}

static int
check_rows(struct plan *plan, const struct plan_table *t, bool replica, struct pgs_err *finding,
           struct pgs_err *err)
{
    struct buf sql = { 0 };
    bool equal = false;
    sql_rows(&sql, t);
    int rc = compare_counts(plan, &sql, true, &equal, err);
    buf_release(&sql);
    if (rc < 0)
        return err_doing(err, "check the rows of table %s", t->label);
    if (equal)
        return 0;
    name_triggers(plan, t, replica, finding);
    return PGS_NONE;
}

/* Where neither a trigger, a rule nor a foreign key's action can step in, PostgreSQL stores what it
 * is given, rows stay locked until the commit, and write_diff has counted them. */
static bool
needs_rows_checked(const struct plan_table *t, bool replica)
{
    return diff_count(t) > 0 && (t->trigger_fires || !replica);
}

int
checks_rows(struct plan *plan, bool replica, struct pgs_err *finding, struct pgs_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->table_count; i++) {
        if (needs_rows_checked(&plan->tables[i], replica))
            rc = check_rows(plan, &plan->tables[i], replica, finding, err);
    }
    return rc;
}

/* --- side effects --- */

struct table_effect {
    uint32_t oid;
    const char *label;
    uint64_t inserted, updated, deleted;
};

static uint64_t
cell_u64(const struct pg_rows *rows, size_t row, size_t column)
{
    return strtoull(pg_cell(rows, row, column), NULL, 10);
}

static bool
may_fire(const struct plan *plan, bool replica)
{
    for (size_t i = 0; i < plan->table_count; i++) {
        if (plan->tables[i].trigger_fires && diff_count(&plan->tables[i]) > 0)
            return true;
    }
    return !replica; /* foreign keys have triggers too */
}

int
effects_read(struct plan *plan, bool replica, struct effects *effects, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct effects e = { .watched = may_fire(plan, replica) };
    if (!e.watched) {
        *effects = e;
        return 0;
    }
    int rc = pg_query(plan->session->conn,
                      "SELECT relid, schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del"
                      " FROM pg_stat_xact_user_tables"
                      " WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname <> 'pgstrata'"
                      "  AND schemaname !~ '^pg_'",
                      PG_NO_PARAMS, &rows, err);
    if (rc < 0)
        return rc;
    e.count = pg_rows_count(rows);
    e.items = arena_alloc_array(plan->arena, e.count + 1, sizeof(*e.items));
    for (size_t i = 0; i < e.count; i++) {
        e.items[i] = (struct table_effect){ .oid = (uint32_t)cell_u64(rows, i, 0),
                                            .label = arena_strdup(plan->arena, pg_cell(rows, i, 1)),
                                            .inserted = cell_u64(rows, i, 2),
                                            .updated = cell_u64(rows, i, 3),
                                            .deleted = cell_u64(rows, i, 4) };
    }
    pg_rows_free(rows);
    *effects = e;
    return 0;
}

static struct table_effect
effect_of(const struct effects *effects, uint32_t oid)
{
    for (size_t i = 0; i < effects->count; i++) {
        if (effects->items[i].oid == oid)
            return effects->items[i];
    }
    return (struct table_effect){ .oid = oid };
}

static bool
effect_asked_for(const struct plan *plan, const struct table_effect *before,
                 const struct table_effect *now)
{
    const struct plan_table *t = plan_table_of(plan, now->oid);
    uint64_t inserted = now->inserted - before->inserted;
    uint64_t updated = now->updated - before->updated;
    uint64_t deleted = now->deleted - before->deleted;
    if (t == NULL)
        return updated == 0 && deleted == 0;
    return inserted == t->inserted + t->replaced && updated == t->updated - t->replaced &&
           deleted == t->deleted + t->replaced;
}

int
checks_effects(struct plan *plan, bool replica, const struct effects *before,
               struct pgs_err *finding, struct pgs_err *err)
{
    struct effects now;
    if (!before->watched)
        return 0;
    int rc = effects_read(plan, replica, &now, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < now.count; i++) {
        struct table_effect then = effect_of(before, now.items[i].oid);
        if (effect_asked_for(plan, &then, &now.items[i]))
            continue;
        (void)err_set(
            finding, PGS_E_REFUSED,
            "triggers or cascading foreign keys, which could not be switched off, changed "
            "rows of table %s",
            now.items[i].label);
        (void)err_code(finding, "trigger");
        (void)err_hint(finding, "%s",
                       replica ? "disable the triggers that fire always for the time of the restore"
                               : "GRANT SET ON PARAMETER session_replication_role to this role");
        return PGS_NONE;
    }
    return 0;
}
