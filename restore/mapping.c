#include "restore/mapping.h"

#include "core/err.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct pair {
    struct pg_conn *conn;
    const char *label;
    const struct relation *then, *now;
    struct arena *arena;
    struct mapping *m;
};

int
mapping_refuse(struct pgs_err *err, const char *label, const char *fmt, ...)
{
    char what[PGS_ERR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    (void)err_set(err, PGS_E_REFUSED, "table %s has changed since then: %s", label, what);
    (void)err_code(err, "shape_changed");
    return err_hint(err,
                    "load its rows beside the live ones with --to-schema, or leave it out with "
                    "--exclude-tables %s",
                    label);
}

static void
note(const struct pair *p, const char *kind, struct slice column, const char *text)
{
    p->m->changes[p->m->change_count++] = (struct schema_change){ kind, column, text };
}

/* --- columns --- */

static void
pair_columns(const struct pair *p)
{
    struct mapping *m = p->m;
    for (size_t i = 0; i < p->now->column_count; i++)
        m->then[i] = relation_column(p->then, p->now->columns[i].attnum);
    for (size_t i = 0; i < p->then->column_count; i++)
        m->now[i] = relation_column(p->now, p->then->columns[i].attnum);
}

static bool
was_generated(const struct relation *r, struct slice name)
{
    for (size_t i = 0; i < r->generated_count; i++) {
        if (slice_equal(r->generated[i], name))
            return true;
    }
    return false;
}

static int
column_added(const struct pair *p, const struct column *now, struct pgs_err *err)
{
    if (was_generated(p->then, now->name)) {
        return mapping_refuse(err, p->label,
                              "column %.*s was generated, so that the archive does not have its "
                              "values",
                              SLICE_PRINT(now->name));
    }
    note(p, "added", now->name,
         arena_printf(p->arena,
                      "column %.*s was added since: rows that are there keep its value, rows put "
                      "back get its default",
                      SLICE_PRINT(now->name)));
    return 0;
}

/* The type as it was, under the name that it has now. */
static int
type_of_then(const struct pair *p, const struct column *then, const char **name,
             struct pgs_err *err)
{
    char oid[16], typmod[16];
    struct pg_rows *rows = NULL;
    snprintf(oid, sizeof(oid), "%" PRIu32, then->type_oid);
    snprintf(typmod, sizeof(typmod), "%" PRId32, then->typmod);
    int rc =
        pg_query(p->conn, "SELECT format_type(oid, $2::int) FROM pg_type WHERE oid = $1::text::oid",
                 PG_PARAMS(oid, typmod), &rows, err);
    if (rc == 0 && pg_rows_count(rows) == 0) {
        rc = mapping_refuse(err, p->label,
                            "column %.*s was of type %.*s, which does not exist any more",
                            SLICE_PRINT(then->name), SLICE_PRINT(then->type_name));
    }
    if (rc == 0)
        *name = arena_strdup(p->arena, pg_cell(rows, 0, 0));
    pg_rows_free(rows);
    return rc;
}

static int
column_kept(const struct pair *p, size_t i, const struct column *then, const struct column *now,
            struct pgs_err *err)
{
    int rc = 0;
    if (!slice_equal(then->name, now->name))
        note(p, "renamed", now->name,
             arena_printf(p->arena, "column %.*s is called %.*s now", SLICE_PRINT(then->name),
                          SLICE_PRINT(now->name)));
    if (then->type_oid == now->type_oid && then->typmod == now->typmod)
        return 0;
    p->m->converts = true;
    if (then->type_oid != now->type_oid)
        rc = type_of_then(p, then, &p->m->from_types[i], err);
    note(p, "converted", now->name,
         arena_printf(p->arena, "column %.*s was %.*s and is %.*s: values of then are converted",
                      SLICE_PRINT(now->name), SLICE_PRINT(then->type_name),
                      SLICE_PRINT(now->type_name)));
    return rc;
}

static void
columns_dropped(const struct pair *p)
{
    for (size_t i = 0; i < p->then->column_count; i++) {
        const struct column *c = &p->then->columns[i];
        if (p->m->now[i] < 0)
            note(p, "dropped", c->name,
                 arena_printf(p->arena,
                              "column %.*s does not exist any more: its values are left out",
                              SLICE_PRINT(c->name)));
    }
}

/* --- the whole table --- */

static int
check_route(const struct pair *p, struct pgs_err *err)
{
    const struct relation *a = p->then, *b = p->now;
    bool same = a->route == b->route && slice_compare(a->tenant, b->tenant) == 0 &&
                (a->tenant_column < 0) == (b->tenant_column < 0) &&
                (a->tenant_column < 0 ||
                 a->columns[a->tenant_column].attnum == b->columns[b->tenant_column].attnum);
    if (same)
        return 0;
    if (a->route == ROUTE_SCHEMA && b->route == ROUTE_SCHEMA)
        return mapping_refuse(err, p->label,
                              "it was in tenant %.*s's schema and is in tenant %.*s's",
                              SLICE_PRINT(a->tenant), SLICE_PRINT(b->tenant));
    return mapping_refuse(err, p->label,
                          "its rows find their tenant in another way (%.*s, now %.*s)",
                          SLICE_PRINT(a->route_reason), SLICE_PRINT(b->route_reason));
}

/* Rows are told apart by the key of now, so rows of then must have it. */
static int
check_key(const struct pair *p, struct pgs_err *err)
{
    for (size_t i = 0; i < p->now->column_count; i++) {
        const struct column *now = &p->now->columns[i];
        int then = p->m->then[i];
        if (then >= 0 && p->then->columns[then].key != now->key)
            p->m->key_changed = true;
        if (then >= 0 || !now->key)
            continue;
        return mapping_refuse(err, p->label, "column %.*s of its key did not exist",
                              SLICE_PRINT(now->name));
    }
    for (size_t i = 0; i < p->then->column_count; i++) {
        if (p->m->now[i] < 0 && p->then->columns[i].key)
            p->m->key_changed = true;
    }
    if (p->m->key_changed && p->m->converts)
        return mapping_refuse(err, p->label, "both its key and the type of a column");
    if (p->m->key_changed)
        note(p, "key", SLICE_NULL, "other columns are the key now: rows are told apart by those");
    return 0;
}

static int
check_known(const struct pair *p, const struct relation *r, struct pgs_err *err)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].attnum <= 0)
            return mapping_refuse(err, p->label, "which of its columns are which is not known");
    }
    return 0;
}

int
mapping_build(struct pg_conn *c, const char *label, const struct relation *then,
              const struct relation *now, struct arena *arena, struct mapping *out,
              struct pgs_err *err)
{
    struct mapping m = {
        .then = arena_alloc_array(arena, now->column_count + 1, sizeof(int)),
        .now = arena_alloc_array(arena, then->column_count + 1, sizeof(int)),
        .from_types = arena_alloc_array(arena, now->column_count + 1, sizeof(char *)),
        /* a column can be both renamed and converted; one more for the key */
        .changes = arena_alloc_array(arena, 2 * now->column_count + then->column_count + 1,
                                     sizeof(struct schema_change)),
        .changed = relation_shape_id(then) != relation_shape_id(now),
    };
    struct pair p = { c, label, then, now, arena, &m };
    pair_columns(&p);
    int rc = m.changed ? check_known(&p, then, err) : 0;
    if (rc == 0 && m.changed)
        rc = check_route(&p, err);
    for (size_t i = 0; rc == 0 && m.changed && i < now->column_count; i++) {
        const struct column *column = &now->columns[i];
        rc = m.then[i] < 0 ? column_added(&p, column, err)
                           : column_kept(&p, i, &then->columns[m.then[i]], column, err);
    }
    if (rc == 0 && m.changed) {
        columns_dropped(&p);
        rc = check_key(&p, err);
    }
    if (rc == 0)
        *out = m;
    return rc;
}
