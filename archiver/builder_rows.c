/* builder_rows.c: from a change to versions: its key, its tenant, its runs (DESIGN 5). */
#include "archiver/builder_internal.h"

#include "core/cursor.h"
#include "core/err.h"

#include <endian.h>

#define NO_ROW slice_of("", 0)

struct row_parts {
    struct slice key;    /* in the buf given */
    struct slice tenant; /* SLICE_NULL: NULL, or not sent */
    bool unresolved;     /* key or tenant is an unchanged TOAST value, which was not
                      sent */
};

/* Walks the image once, no further than needed: the hot path. The decoder checked its bounds. */
static int
row_parts(const struct table *t, const struct pgoutput_tuple *tuple, struct buf *key,
          struct row_parts *parts, struct pgs_err *err)
{
    const struct column *columns = t->relation->columns;
    const uint8_t *p = tuple->image.data;
    buf_reset(key);
    parts->tenant = SLICE_NULL;
    parts->unresolved = false;
    if (tuple->column_count != t->relation->column_count)
        return err_set(err, PGS_E_CORRUPT, "a row of table %u has %u columns, not %zu", t->oid,
                       tuple->column_count, t->relation->column_count);
    for (int i = 0; i <= t->last_needed; i++) {
        struct slice text = SLICE_NULL;
        uint8_t kind = *p++;
        bool is_tenant = i == t->relation->tenant_column;
        if (kind == ROW_TEXT) {
            uint32_t size;
            memcpy(&size, p, sizeof(size));
            text = slice_of(p + sizeof(size), be32toh(size));
            p = text.data + text.size;
        } else if (kind == ROW_UNCHANGED && (columns[i].key || is_tenant)) {
            parts->unresolved = true;
        }
        if (columns[i].key)
            key_put_field(key, text);
        if (is_tenant)
            parts->tenant = text;
    }
    parts->key = buf_slice(key);
    return 0;
}

static uint32_t
run_of(struct builder *b, const struct table *t, struct slice tenant)
{
    if (t->relation->route != ROUTE_COLUMN || tenant.data == NULL)
        return batch_run(b->batch, &t->fixed_run);
    struct run_id run = { { SCOPE_TENANT, tenant }, t->oid, t->shape_id };
    return batch_run(b->batch, &run);
}

static void
version_add(struct builder *b, uint32_t run, enum version_op op, struct slice key, struct slice row,
            struct slice prev_key)
{
    struct version v = { .key = key,
                         .commit_lsn = b->txn.commit_lsn,
                         .sequence = b->sequence++,
                         .op = op,
                         .row = row,
                         .prev_key = prev_key };
    batch_add(b->batch, run, &v);
}

static int
add_insert(struct builder *b, const struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts parts;
    int rc = row_parts(t, &m->u.insert.row, &b->key, &parts, err);
    if (rc == 0)
        version_add(b, run_of(b, t, parts.tenant), VERSION_INSERT, parts.key, m->u.insert.row.image,
                    SLICE_NULL);
    return rc;
}

/* Whether an old tuple tells the tenant: 'O' is the whole row, 'K' the identity alone, with NULL
 * for every other column. */
static bool
old_tells_tenant(const struct table *t, char old_kind)
{
    return t->relation->route != ROUTE_COLUMN || old_kind == 'O' || t->relation->tenant_in_key;
}

static uint32_t
old_run(struct builder *b, const struct table *t, char old_kind, struct slice tenant)
{
    if (!old_tells_tenant(t, old_kind))
        return batch_run(b->batch, &t->tombstone_run);
    return run_of(b, t, tenant);
}

static bool
has_unchanged(const struct pgoutput_tuple *tuple)
{
    const uint8_t *p = tuple->image.data;
    for (unsigned i = 0; i < tuple->column_count; i++) {
        uint32_t size = 0;
        if (*p == ROW_UNCHANGED)
            return true;
        if (*p++ == ROW_TEXT) {
            memcpy(&size, p, sizeof(size));
            p += sizeof(size) + be32toh(size);
        }
    }
    return false;
}

/* Takes unchanged fields from the old tuple where it has them: 'O' the whole row, 'K' key
 * columns. */
static int
row_complete(struct builder *b, const struct table *t, const struct pgoutput_message *m,
             struct pgoutput_tuple *row, struct pgs_err *err)
{
    size_t count = t->relation->column_count;
    struct row_field *now = arena_alloc_array(b->scratch, count + 1, sizeof(*now));
    struct row_field *old = arena_alloc_array(b->scratch, count + 1, sizeof(*old));
    int rc = row_split(m->u.update.row.image, count, now, err);
    if (rc == 0)
        rc = row_split(m->u.update.old.image, count, old, err);
    buf_reset(&b->image);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        bool known = m->u.update.old_kind == 'O' || t->relation->columns[i].key;
        const struct row_field *f = now[i].kind == ROW_UNCHANGED && known ? &old[i] : &now[i];
        if (f->kind == ROW_UNCHANGED)
            buf_put_u8(&b->image, ROW_UNCHANGED);
        else
            row_put_field(&b->image, f->text);
    }
    if (rc == 0)
        row->image = buf_slice(&b->image);
    arena_reset(b->scratch);
    return rc;
}

/* A row that changed its key, its tenant, or both: the old place ends first. The old tenant is
 * known here if it changed; where it is not, a move comes as a message of the move trigger. */
static void
add_changed(struct builder *b, const struct table *t, char old_kind, const struct row_parts *old,
            const struct row_parts *now, struct slice image, bool unchanged)
{
    bool key_changed = !slice_equal(old->key, now->key);
    bool moved = t->relation->route == ROUTE_COLUMN && old_tells_tenant(t, old_kind) &&
                 !slice_equal(old->tenant, now->tenant);
    uint32_t run = run_of(b, t, now->tenant);
    if (moved || key_changed) {
        version_add(b, old_run(b, t, old_kind, old->tenant),
                    moved ? VERSION_MOVED_OUT : VERSION_DELETE, old->key, NO_ROW, SLICE_NULL);
        b->sequence--; /* one change: what the new image carries over is read just before it */
    }
    version_add(b, run, VERSION_UPDATE, now->key, image, key_changed ? old->key : SLICE_NULL);
    if (moved && unchanged)
        version_add(b, run, VERSION_MOVED_IN, now->key,
                    old->tenant.data != NULL ? old->tenant : NO_ROW, SLICE_NULL);
}

static int
add_update(struct builder *b, struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts now, old;
    struct pgoutput_tuple row = m->u.update.row;
    char old_kind = m->u.update.old_kind;
    int rc = row_parts(t, &row, &b->key, &now, err);
    if (rc == 0 && old_kind != 0) {
        rc = row_parts(t, &m->u.update.old, &b->old_key, &old, err);
        if (rc == 0 && has_unchanged(&row))
            rc = row_complete(b, t, m, &row, err);
        if (rc == 0 && now.unresolved)
            rc = row_parts(t, &row, &b->key, &now, err);
    }
    if (rc < 0)
        return rc;
    if (now.unresolved)
        schema_lose(b, &b->txn_notes, b->txn_arena, t, builder_here(b), "skipped",
                    "an update did not tell its key: it is stored out of line");
    else if (old_kind != 0)
        add_changed(b, t, old_kind, &old, &now, row.image, has_unchanged(&row));
    else
        version_add(b, run_of(b, t, now.tenant), VERSION_UPDATE, now.key, row.image, SLICE_NULL);
    return 0;
}

static int
add_delete(struct builder *b, const struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts old;
    int rc = row_parts(t, &m->u.delete.old, &b->old_key, &old, err);
    if (rc == 0)
        version_add(b, old_run(b, t, m->u.delete.old_kind, old.tenant), VERSION_DELETE, old.key,
                    NO_ROW, SLICE_NULL);
    return rc;
}

int
rows_change(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    uint32_t oid = m->kind == PGOUTPUT_INSERT   ? m->u.insert.oid
                   : m->kind == PGOUTPUT_UPDATE ? m->u.update.oid
                                                : m->u.delete.oid;
    struct table *t = tables_find(&b->tables, oid);
    if (t == NULL)
        return err_set(err, PGS_E_CORRUPT, "a change of table %u, which was not described", oid);
    if (!t->archived)
        return 0;
    t->fresh = false;
    builder_touch(b);
    return m->kind == PGOUTPUT_INSERT   ? add_insert(b, t, m, err)
           : m->kind == PGOUTPUT_UPDATE ? add_update(b, t, m, err)
                                        : add_delete(b, t, m, err);
}

void
rows_truncate(struct builder *b, const struct pgoutput_message *m)
{
    struct cursor c = cursor_of(m->u.truncate.oids);
    for (uint32_t i = 0; i < m->u.truncate.count; i++) {
        struct table *t = tables_find(&b->tables, cursor_be32(&c));
        if (t == NULL || !t->archived)
            continue;
        builder_touch(b);
        version_add(b, batch_run(b->batch, &t->tombstone_run), VERSION_TRUNCATE, NO_ROW, NO_ROW,
                    SLICE_NULL);
    }
}

/* The trigger speaks after the update: both versions follow those they explain. */
void
rows_move(struct builder *b, const struct message *m)
{
    struct table *t = tables_find(&b->tables, m->u.move.oid);
    struct slice from = m->u.move.old_tenant;
    if (t == NULL || !t->archived)
        return;
    builder_touch(b);
    version_add(b, run_of(b, t, from), VERSION_MOVED_OUT, m->u.move.key, NO_ROW, SLICE_NULL);
    version_add(b, run_of(b, t, m->u.move.new_tenant), VERSION_MOVED_IN, m->u.move.key,
                from.data != NULL ? from : NO_ROW, SLICE_NULL);
}
