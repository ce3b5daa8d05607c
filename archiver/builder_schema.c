/* builder_schema.c: tables that come, go and change shape (DESIGN 5).
 *
 * Four sources tell: DDL messages, exact and at their place; Relation messages, which show columns
 * and no more; polls of the catalog, which come later than what they tell; bases, which show the
 * shape under their snapshot. What was not told at its place is bounded by the last position at
 * which both sides agreed: coverage breaks from there on, since stored rows may have changed
 * without a row event. */
#include "archiver/builder_internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"

#include <stdio.h>

/* Where notes go: the open transaction's at its commit, others with the batch. */
struct place {
    struct notes *notes;
    struct arena *arena;
};

static struct place
place_txn(struct builder *b)
{
    return (struct place){ &b->txn_notes, b->txn_arena };
}

static struct place
place_batch(struct builder *b)
{
    builder_touch(b);
    return (struct place){ &b->batch->notes, b->batch->meta };
}

static void
note_break(struct place p, uint32_t oid, struct pgs_lsn_range range, const char *code,
           const char *reason)
{
    struct log_break item = { oid, range.begin, range.end, slice_str(code), slice_str(reason) };
    notes_break(p.notes, p.arena, &item);
}

static void
warn(const struct table *t, pgs_lsn lsn, const char *event, const char *reason)
{
    char name[160];
    snprintf(name, sizeof(name), "%.*s.%.*s", SLICE_PRINT(t->relation->schema),
             SLICE_PRINT(t->relation->name));
    diag_warn(event, DIAG(diag_str(DIAG_KEY_TABLE, name), diag_lsn(DIAG_KEY_LSN, lsn)),
              "%s; a base covers it again", reason);
}

void
schema_lose(struct builder *b, struct notes *notes, struct arena *arena, struct table *t,
            pgs_lsn begin, const char *code, const char *reason)
{
    (void)b;
    t->archived = false;
    if (t->broken_since != 0)
        return;
    t->broken_since = begin;
    note_break((struct place){ notes, arena }, t->oid, (struct pgs_lsn_range){ begin, 0 }, code,
               reason);
    warn(t, begin, "coverage_lost", reason);
}

static void
lose(struct builder *b, struct place p, struct table *t, pgs_lsn begin, const char *code,
     const char *reason)
{
    schema_lose(b, p.notes, p.arena, t, begin, code, reason);
}

/* The table has this shape from now on, and its changes are archived. `hole_end`: where they begin
 * to be, when they were not before. */
static struct table *
adopt(struct builder *b, struct place p, const struct relation *r, pgs_lsn from, pgs_lsn hole_end)
{
    struct table *t = tables_find(&b->tables, r->oid);
    bool was_archived = t != NULL && t->archived;
    t = tables_set(&b->tables, r, from);
    if (!was_archived)
        t->kept_from = hole_end;
    t->archived = true;
    notes_shape(p.notes, p.arena, from, r);
    return t;
}

/* Whether its changes are to be archived, and can be. */
static bool
is_kept(const struct relation *r)
{
    return r->covered && r->published &&
           (r->route == ROUTE_COLUMN || r->route == ROUTE_SHARED || r->route == ROUTE_SCHEMA);
}

static bool
is_renamed(const struct table *t, const struct relation *r)
{
    return !slice_equal(t->relation->name, r->name) || !slice_equal(t->relation->schema, r->schema);
}

/* --- DDL messages --- */

/* A table without a tenant column may still have rows of tenants, through a foreign key: only the
 * whole catalog tells. */
static int
decide(struct builder *b, struct relation *r, struct pgs_err *err)
{
    struct catalog catalog;
    catalog_decide(b->env.rules(b->env.context), b->scratch, r);
    if (r->route != ROUTE_SHARED)
        return 0;
    int rc = b->env.catalog(b->env.context, b->scratch, &catalog, err);
    if (rc < 0)
        return rc;
    const struct relation *now = catalog_by_oid(&catalog, r->oid);
    if (now != NULL && now->route != ROUTE_SHARED && now->route != ROUTE_COLUMN) {
        r->route = now->route;
        r->covered = false;
        r->why_not = now->why_not;
    }
    return 0;
}

static void
ddl_new(struct builder *b, const struct relation *r, bool created)
{
    struct place p = place_txn(b);
    struct table *t = adopt(b, p, r, builder_here(b), 0);
    t->fresh = created;
    if (!created)
        return;
    notes_base(p.notes, p.arena, t->oid, t->shape_id, builder_here(b));
    /* Before, it had no rows either: nobody needs to leave it out of what was earlier. */
    if (b->tables.unbroken_from != 0 && b->tables.unbroken_from < builder_here(b))
        notes_base(p.notes, p.arena, t->oid, t->shape_id, b->tables.unbroken_from);
}

/* A table made and changed in one transaction, before it has rows, begins with its last shape. */
static void
ddl_fresh(struct builder *b, const struct relation *r)
{
    struct table *t = adopt(b, place_txn(b), r, builder_here(b), 0);
    for (size_t i = 0; i < b->txn_notes.base_count; i++) {
        if (b->txn_notes.bases[i].table_oid == t->oid)
            b->txn_notes.bases[i].shape_id = t->shape_id;
    }
}

static void
ddl_known(struct builder *b, struct table *t, const struct relation *r)
{
    pgs_lsn here = builder_here(b);
    bool same = t->shape_id == relation_shape_id(r);
    if (same && !is_renamed(t, r)) {
        t->agreed = here;
        return;
    }
    if (!same) {
        note_break(place_txn(b), t->oid, (struct pgs_lsn_range){ here, here + 1 }, "shape_changed",
                   "its columns changed");
        warn(t, here, "shape_changed", "columns changed");
    }
    (void)adopt(b, place_txn(b), r, here, here);
}

static void
ddl_relation(struct builder *b, const struct relation *r, struct slice tag)
{
    struct table *t = tables_find(&b->tables, r->oid);
    if (r->covered && !r->published)
        b->env.want_sync(b->env.context);
    if (!is_kept(r)) {
        if (t != NULL && t->archived)
            lose(b, place_txn(b), t, builder_here(b), "identity_lost",
                 "its changes can no longer be archived: see `pgstrata doctor`");
    } else if (t == NULL) {
        ddl_new(b, r, slice_equal(tag, slice_str("CREATE TABLE")));
    } else if (!t->archived) {
        (void)adopt(b, place_txn(b), r, builder_here(b), builder_here(b) + 1);
    } else if (t->fresh) {
        ddl_fresh(b, r);
    } else {
        ddl_known(b, t, r);
    }
}

/* Stored rows may read differently from here on, and no row event says so: an enum's label, ALTER
 * COLUMN ... USING, a move that could not be told, changes while the table was not published. */
static void
ddl_changed(struct builder *b, uint32_t oid)
{
    struct table *t = tables_find(&b->tables, oid);
    pgs_lsn here = builder_here(b);
    if (t == NULL || !t->archived)
        return; /* no base before this, or an open break already */
    note_break(place_txn(b), oid, (struct pgs_lsn_range){ here, here + 1 }, "rows_changed",
               "its rows changed without row events");
    warn(t, here, "rows_changed", "rows changed without row events");
    /* A base under way may have read them as they are now, though its snapshot is older. */
    t->kept_from = here + 1;
}

int
schema_ddl(struct builder *b, const struct message *m, struct pgs_err *err)
{
    for (size_t i = 0; i < m->u.ddl.relation_count; i++) {
        int rc = decide(b, m->u.ddl.relations[i], err);
        if (rc < 0)
            return rc;
        ddl_relation(b, m->u.ddl.relations[i], m->u.ddl.tag);
    }
    for (size_t i = 0; i < m->u.ddl.changed_count; i++)
        ddl_changed(b, m->u.ddl.changed[i]);
    for (size_t i = 0; i < m->u.ddl.dropped_count; i++) {
        struct table *t = tables_find(&b->tables, m->u.ddl.dropped[i]);
        if (t == NULL)
            continue;
        note_break(place_txn(b), t->oid, (struct pgs_lsn_range){ builder_here(b), 0 }, "dropped",
                   "the table was dropped");
        tables_remove(&b->tables, t);
    }
    return 0;
}

/* --- Relation messages --- */

/* The shape changed and nobody said so: somewhere after the last agreement. */
static void
relation_changed(struct builder *b, const struct table *t, const struct relation *now)
{
    struct pgs_lsn_range range = { t->agreed + 1, builder_here(b) + 1 };
    if (range.begin >= range.end)
        range.begin = builder_here(b);
    note_break(place_txn(b), t->oid, range, "shape_changed", "its columns changed, unannounced");
    warn(t, builder_here(b), "shape_changed", "columns changed, unannounced");
    (void)adopt(b, place_txn(b), now, builder_here(b), builder_here(b));
}

int
schema_relation(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    struct relation *r;
    struct catalog catalog;
    int rc = pgoutput_relation(m, b->scratch, &r, err);
    if (rc < 0)
        return rc;
    struct table *t = tables_find(&b->tables, r->oid);
    if (t != NULL && t->archived && relation_matches(t->relation, r)) {
        t->agreed = builder_here(b);
        return 0;
    }
    rc = b->env.catalog(b->env.context, b->scratch, &catalog, err);
    if (rc < 0)
        return err_doing(err, "read the shape of table %u", r->oid);
    const struct relation *now = catalog_by_oid(&catalog, r->oid);
    if (now != NULL && is_kept(now) && relation_matches(now, r)) {
        if (t != NULL && t->archived)
            relation_changed(b, t, now);
        else
            (void)adopt(b, place_txn(b), now, builder_here(b), t == NULL ? 0 : builder_here(b) + 1);
        return 0;
    }
    if (t == NULL)
        t = tables_set(&b->tables, r, builder_here(b)); /* so that its changes are recognised */
    else if (t->archived)
        lose(b, place_txn(b), t, builder_here(b), "shape_changed",
             "its shape at this place of the stream is not known");
    return 0;
}

/* --- polls --- */

static void
poll_changed(struct builder *b, const struct schema_poll *poll, struct table *t,
             const struct relation *r)
{
    struct pgs_lsn_range range = { t->agreed + 1, poll->after };
    note_break(place_batch(b), t->oid, range, "shape_changed", "its columns changed, unannounced");
    warn(t, poll->after, "shape_changed", "columns changed, unannounced");
    (void)adopt(b, place_batch(b), r, poll->after, b->position);
}

static void
poll_relation(struct builder *b, const struct schema_poll *poll, const struct relation *r)
{
    struct table *t = tables_find(&b->tables, r->oid);
    /* What the stream told after the poll is newer. */
    bool newer = t != NULL && t->from >= poll->before;
    if (newer || (t == NULL && !is_kept(r)))
        return;
    if (t == NULL)
        (void)adopt(b, place_batch(b), r, poll->after, 0);
    else if (!is_kept(r) && t->archived)
        lose(b, place_batch(b), t, t->agreed + 1, "identity_lost",
             "its changes can no longer be archived: see `pgstrata doctor`");
    else if (!t->archived && is_kept(r))
        (void)adopt(b, place_batch(b), r, poll->after, b->position);
    else if (t->archived && t->shape_id != relation_shape_id(r))
        poll_changed(b, poll, t, r);
    else if (t->archived && is_renamed(t, r))
        (void)adopt(b, place_batch(b), r, poll->after, b->position);
    else if (t->archived && poll->before > t->agreed)
        t->agreed = poll->before;
}

void
schema_poll_apply(struct builder *b, const struct schema_poll *poll)
{
    struct table *t, *next;
    for (size_t i = 0; i < poll->catalog.count; i++)
        poll_relation(b, poll, poll->catalog.relations[i]);
    HASH_ITER (hh, b->tables.hash, t, next) {
        if (t->from >= poll->before || catalog_by_oid(&poll->catalog, t->oid) != NULL)
            continue;
        note_break(place_batch(b), t->oid, (struct pgs_lsn_range){ t->agreed + 1, 0 }, "dropped",
                   "the table was dropped");
        tables_remove(&b->tables, t);
    }
}

/* --- bases --- */

static void
base_closes_break(struct builder *b, struct table *t, pgs_lsn lsn)
{
    struct pgs_lsn_range range = { t->broken_since, lsn };
    if (t->broken_since == 0)
        return;
    note_break(place_batch(b), t->oid, range, "skipped", "changes before this base are not known");
    t->broken_since = 0;
}

static void
base_table_apply(struct builder *b, struct base_table *base, pgs_lsn lsn)
{
    struct table *t = tables_find(&b->tables, base->relation->oid);
    bool same = t != NULL && t->shape_id == base->shape_id;
    if (base->left_out)
        return;
    base->left_out = t != NULL && (!t->archived || t->kept_from > lsn || (!same && t->from > lsn) ||
                                   t->broken_since >= lsn);
    if (base->left_out) {
        if (!t->archived && t->from < lsn)
            (void)adopt(b, place_batch(b), base->relation, lsn, b->position);
        return;
    }
    if (t != NULL && !same && t->agreed + 1 < lsn)
        note_break(place_batch(b), t->oid, (struct pgs_lsn_range){ t->agreed + 1, lsn },
                   "shape_changed", "its columns changed, unannounced");
    if (!same)
        t = adopt(b, place_batch(b), base->relation, lsn, 0);
    if (t->agreed < lsn)
        t->agreed = lsn;
    base_closes_break(b, t, lsn);
}

void
schema_bases_apply(struct builder *b, struct base_done *bases, size_t *usable)
{
    *usable = 0;
    for (size_t i = 0; i < bases->table_count; i++) {
        base_table_apply(b, &bases->tables[i], bases->lsn);
        *usable += bases->tables[i].left_out ? 0 : 1;
    }
}
