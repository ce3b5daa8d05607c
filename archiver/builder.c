/* builder.c: from pgoutput messages to versions in batches.
 *
 *   1. Begin opens a transaction; each change finds its table's shape, its tenant and its key, and
 *      becomes one or two versions; our own messages act at their place.
 *   2. Commit closes it: it goes into the transaction table, its versions count as complete.
 *   3. A batch is sealed when it is full, when the flush interval is over, or at a barrier; what an
 *      open transaction has in it is spilled.
 *
 * A version's place is (commit LSN, sequence). Nothing is decided on a message's own LSN (DESIGN
 * 4.2). */
#include "archiver/internal.h"

#include "core/cursor.h"
#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/messages.h"
#include "pg/pgoutput.h"

#include <stdlib.h>
#include <time.h>
#include <uthash.h>

#define BATCH_SHARE 6 /* of the budget: one filling, two flushing, one waiting, the queue */

/* What the builder knows of a table. */
struct table {
    uint32_t oid;
    struct relation *relation;
    uint64_t shape_id;
    struct run_id shared_run, tombstone_run;
    int last_needed; /* index of the last column that key or tenant need */
    bool archived;   /* false: its changes are not kept (excluded, uncovered, or unknown shape) */
    bool verified;   /* a Relation message of this session matched */
    pgs_lsn broken_since; /* an open break; 0: none */
    UT_hash_handle hh;
};

struct builder {
    struct archiver *a;
    struct pg_conn *sql;   /* for the catalog, when the stream shows a table we do not know */
    struct arena *arena;   /* tables; lives as long as the session */
    struct arena *scratch; /* one message */
    struct table *tables;
    struct table *last_table;
    struct batch *batch;
    size_t batch_bytes_max;
    int64_t batch_since_us; /* when its first content came; 0: empty */
    uint64_t xid_reference; /* a recent 64-bit xid */
    struct buf key, old_key, image;

    bool in_txn;
    struct txn txn;
    uint64_t sequence;
    size_t txn_first; /* index of its first version in the batch */
    bool txn_spilled; /* a part of it is in an earlier batch */
    bool flush_now;   /* a barrier is among its messages */
    struct arena *txn_arena;
    struct log_entry txn_notes; /* become the batch's at commit */
    uint64_t next_ticket;       /* of the next sealed batch */
    pgs_lsn position;           /* everything that ends at or before has been seen */
    bool position_urgent;
    int64_t range_us; /* when the position was last made durable */
};

/* --- growing the notes of a transaction or batch --- */

#define NOTE_ADD(arena, e, list, item)                                                 \
    do {                                                                               \
        void *grown = arena_alloc_array((arena), (e)->list##_count + 1, sizeof(item)); \
        if ((e)->list##_count > 0)                                                     \
            memcpy(grown, (e)->list##s, (e)->list##_count * sizeof(item));             \
        (e)->list##s = grown;                                                          \
        (e)->list##s[(e)->list##_count++] = (item);                                    \
    } while (0)

static void
note_break(struct builder *b, uint32_t oid, pgs_lsn begin, pgs_lsn end, const char *code,
           const char *reason)
{
    struct log_break item = { oid, begin, end, slice_str(code),
                              slice_str(arena_strdup(b->txn_arena, reason)) };
    NOTE_ADD(b->txn_arena, &b->txn_notes, break, item);
    atomic_store(&b->a->look_at_coverage, true);
}

static void
note_shape(struct builder *b, const struct table *t)
{
    struct log_shape item = { b->txn.commit_lsn, t->shape_id,
                              relation_dup(b->txn_arena, t->relation) };
    NOTE_ADD(b->txn_arena, &b->txn_notes, shape, item);
}

static void
note_empty_base(struct builder *b, const struct table *t)
{
    struct log_base item = { .table_oid = t->oid,
                             .shape_id = t->shape_id,
                             .lsn = b->txn.commit_lsn };
    NOTE_ADD(b->txn_arena, &b->txn_notes, base, item);
}

/* At commit the transaction's notes become the batch's: copied, since their arena is reset. */
static void
notes_commit(struct builder *b)
{
    struct log_entry *from = &b->txn_notes, *to = &b->batch->notes;
    struct arena *arena = b->batch->arena;
    for (size_t i = 0; i < from->break_count; i++) {
        struct log_break item = from->breaks[i];
        item.code = arena_dup(arena, item.code);
        item.reason = arena_dup(arena, item.reason);
        NOTE_ADD(arena, to, break, item);
    }
    for (size_t i = 0; i < from->shape_count; i++) {
        struct log_shape item = from->shapes[i];
        item.relation = relation_dup(arena, item.relation);
        NOTE_ADD(arena, to, shape, item);
    }
    for (size_t i = 0; i < from->base_count; i++)
        NOTE_ADD(arena, to, base, from->bases[i]);
    for (size_t i = 0; i < from->restore_point_count; i++) {
        struct log_restore_point item = from->restore_points[i];
        item.name = arena_dup(arena, item.name);
        item.commit_end_lsn = b->txn.commit_end_lsn;
        NOTE_ADD(arena, to, restore_point, item);
    }
    for (size_t i = 0; i < from->barrier_count; i++) {
        struct slice item = arena_dup(arena, from->barriers[i]);
        NOTE_ADD(arena, to, barrier, item);
    }
    if (from->heartbeat.counter > 0) {
        to->heartbeat.counter = from->heartbeat.counter;
        to->heartbeat.nonce = arena_dup(arena, from->heartbeat.nonce);
    }
}

/* --- tables --- */

static struct table *
table_find(struct builder *b, uint32_t oid)
{
    struct table *t = b->last_table;
    if (t != NULL && t->oid == oid)
        return t;
    HASH_FIND(hh, b->tables, &oid, sizeof(oid), t);
    if (t != NULL)
        b->last_table = t;
    return t;
}

/* Adopts a shape for the table, made when new. */
static struct table *
table_set(struct builder *b, const struct relation *r)
{
    struct table *t = table_find(b, r->oid);
    if (t == NULL) {
        t = arena_alloc_zero(b->arena, sizeof(*t));
        t->oid = r->oid;
        HASH_ADD(hh, b->tables, oid, sizeof(t->oid), t);
    }
    t->relation = relation_dup(b->arena, r);
    t->shape_id = relation_shape_id(r);
    t->archived = r->covered && r->route != ROUTE_EXCLUDED;
    t->verified = false;
    t->last_needed = r->tenant_column;
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key && (int)i > t->last_needed)
            t->last_needed = (int)i;
    }
    const struct slice nothing = slice_of("", 0);
    t->shared_run = (struct run_id){ { SCOPE_SHARED, nothing }, t->oid, t->shape_id };
    t->tombstone_run = (struct run_id){ { SCOPE_TOMBSTONES, nothing }, t->oid, t->shape_id };
    return t;
}

static int
catalog_look(struct builder *b, struct catalog *catalog, struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(b->a);
    if (b->sql == NULL) {
        int rc = pg_open(&opts->target, &(struct pg_open_opts){ 0 }, &b->sql, err);
        if (rc < 0)
            return rc;
    }
    int rc = catalog_read(b->sql, &opts->setup.rules, b->scratch, catalog, err);
    if (rc < 0) { /* the next look opens a new one */
        pg_close(b->sql);
        b->sql = NULL;
    }
    return rc;
}

/* The log's newest shapes are what the stream is in at its end; the catalog shows tables the log
 * does not know. */
static void
tables_from_log(struct builder *b)
{
    struct alog *log = b->a->publisher.log;
    const struct catalog_rules *rules = &archiver_opts(b->a)->setup.rules;
    for (size_t i = 0; i < alog_count(log); i++) {
        const struct log_entry *e = alog_entry(log, i);
        for (size_t j = 0; j < e->shape_count; j++) {
            struct relation *r = relation_dup(b->arena, e->shapes[j].relation);
            catalog_decide(rules, b->arena, r);
            (void)table_set(b, r);
        }
    }
}

int
builder_new(struct archiver *a, struct builder **builder, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    struct builder *b = calloc(1, sizeof(*b));
    if (b == NULL)
        abort();
    b->a = a;
    b->arena = arena_new(NULL);
    b->scratch = arena_new(NULL);
    b->txn_arena = arena_new(NULL);
    b->batch = batch_new(&a->budget);
    b->batch->drops_spilled = true; /* what a session before this one left half done */
    b->batch_bytes_max = a->budget.limit / BATCH_SHARE;
    b->next_ticket = a->publisher.next_ticket; /* no flusher runs yet */
    b->position = atomic_load(&a->durable);
    b->range_us = clock_us();
    int rc = pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ 0 }, &b->sql, err);
    if (rc == 0)
        rc = pg_query(b->sql, "SELECT pg_snapshot_xmax(pg_current_snapshot())", PG_NO_PARAMS, &rows,
                      err);
    if (rc == 0)
        b->xid_reference = strtoull(pg_cell(rows, 0, 0), NULL, 10);
    pg_rows_free(rows);
    if (rc < 0) {
        builder_free(b);
        return rc;
    }
    tables_from_log(b);
    *builder = b;
    return 0;
}

void
builder_free(struct builder *b)
{
    if (b == NULL)
        return;
    HASH_CLEAR(hh, b->tables);
    pg_close(b->sql);
    batch_free(b->batch);
    arena_free(b->arena);
    arena_free(b->scratch);
    arena_free(b->txn_arena);
    buf_release(&b->key);
    buf_release(&b->old_key);
    buf_release(&b->image);
    free(b);
}

/* --- rows --- */

struct row_parts {
    struct slice key;    /* in the buf given */
    struct slice tenant; /* SLICE_NULL: NULL, or not sent */
};

/* Walks the image once, no further than needed: the hot path. The image's bounds were checked by
 * the decoder. */
static int
row_parts(const struct table *t, const struct pgoutput_tuple *tuple, struct buf *key,
          struct row_parts *parts, struct pgs_err *err)
{
    const uint8_t *p = tuple->image.data;
    const struct column *columns = t->relation->columns;
    buf_reset(key);
    parts->tenant = SLICE_NULL;
    if (tuple->column_count != t->relation->column_count)
        return err_set(err, PGS_E_CORRUPT, "a row of table %u has %u columns, not %zu", t->oid,
                       tuple->column_count, t->relation->column_count);
    for (int i = 0; i <= t->last_needed; i++) {
        struct slice text = SLICE_NULL;
        uint8_t kind = *p++;
        if (kind == ROW_TEXT) {
            uint32_t size;
            memcpy(&size, p, sizeof(size));
            text = slice_of(p + 4, __builtin_bswap32(size));
            p = text.data + text.size;
        }
        if (columns[i].key)
            key_put_field(key, text);
        if (i == t->relation->tenant_column)
            parts->tenant = text;
    }
    parts->key = buf_slice(key);
    return 0;
}

static uint32_t
run_of(struct builder *b, const struct table *t, struct slice tenant)
{
    if (t->relation->route != ROUTE_COLUMN || tenant.data == NULL)
        return batch_run(b->batch, &t->shared_run);
    struct run_id run = { { SCOPE_TENANT, tenant }, t->oid, t->shape_id };
    return batch_run(b->batch, &run);
}

static void
version_add(struct builder *b, uint32_t run, enum version_op op, struct slice key, struct slice row,
            struct slice prev_key)
{
    struct version v = { .key = key,
                         .commit_lsn = b->txn.commit_lsn,
                         .sequence = ++b->sequence,
                         .op = op,
                         .row = row,
                         .prev_key = prev_key };
    batch_add(b->batch, run, &v);
}

#define NO_ROW slice_of("", 0)

static bool
image_has_unchanged(const struct pgoutput_tuple *tuple)
{
    const uint8_t *p = tuple->image.data;
    for (unsigned i = 0; i < tuple->column_count; i++) {
        uint32_t size = 0;
        if (*p == ROW_UNCHANGED)
            return true;
        if (*p++ == ROW_TEXT) {
            memcpy(&size, p, sizeof(size));
            p += 4 + __builtin_bswap32(size);
        }
    }
    return false;
}

static int
add_insert(struct builder *b, struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts parts;
    int rc = row_parts(t, &m->u.insert.row, &b->key, &parts, err);
    if (rc == 0)
        version_add(b, run_of(b, t, parts.tenant), VERSION_INSERT, parts.key, m->u.insert.row.image,
                    SLICE_NULL);
    return rc;
}

/* Whether an old tuple tells the tenant: 'O' is the whole row, 'K' the identity alone. */
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

/* REPLICA IDENTITY FULL sends the old row whole: unchanged fields are taken from it. */
static int
image_complete(struct builder *b, const struct table *t, const struct pgoutput_message *m,
               struct slice *image, struct pgs_err *err)
{
    size_t count = t->relation->column_count;
    struct row_field *now = arena_alloc_array(b->scratch, count + 1, sizeof(*now));
    struct row_field *old = arena_alloc_array(b->scratch, count + 1, sizeof(*old));
    int rc = row_split(m->u.update.row.image, count, now, err);
    if (rc == 0)
        rc = row_split(m->u.update.old.image, count, old, err);
    buf_reset(&b->image);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct row_field *f = now[i].kind == ROW_UNCHANGED ? &old[i] : &now[i];
        if (f->kind == ROW_UNCHANGED)
            buf_put_u8(&b->image, ROW_UNCHANGED);
        else
            row_put_field(&b->image, f->text);
    }
    if (rc == 0)
        *image = buf_slice(&b->image);
    return rc;
}

static int
add_update_with_old(struct builder *b, struct table *t, const struct pgoutput_message *m,
                    const struct row_parts *now, struct pgs_err *err)
{
    struct row_parts old;
    struct slice image = m->u.update.row.image;
    char kind = m->u.update.old_kind;
    bool unchanged = image_has_unchanged(&m->u.update.row);
    int rc = row_parts(t, &m->u.update.old, &b->old_key, &old, err);
    if (rc == 0 && kind == 'O' && unchanged)
        rc = image_complete(b, t, m, &image, err);
    if (rc < 0)
        return rc;
    bool key_changed = !slice_equal(old.key, now->key);
    bool moved = old_tells_tenant(t, kind) && t->relation->route == ROUTE_COLUMN &&
                 !slice_equal(old.tenant, now->tenant);
    uint64_t before = b->sequence;
    if (key_changed)
        version_add(b, old_run(b, t, kind, old.tenant), VERSION_DELETE, old.key, NO_ROW,
                    SLICE_NULL);
    else if (moved)
        version_add(b, run_of(b, t, old.tenant), VERSION_MOVED_OUT, old.key, NO_ROW, SLICE_NULL);
    b->sequence = before; /* one change: what the new image carries over is read just before it */
    version_add(b, run_of(b, t, now->tenant), VERSION_UPDATE, now->key, image,
                key_changed ? old.key : SLICE_NULL);
    if (moved && unchanged)
        version_add(b, run_of(b, t, now->tenant), VERSION_MOVED_IN, now->key,
                    old.tenant.data != NULL ? old.tenant : NO_ROW, SLICE_NULL);
    return 0;
}

static int
add_update(struct builder *b, struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts now;
    int rc = row_parts(t, &m->u.update.row, &b->key, &now, err);
    if (rc < 0)
        return rc;
    if (m->u.update.old_kind != 0)
        return add_update_with_old(b, t, m, &now, err);
    version_add(b, run_of(b, t, now.tenant), VERSION_UPDATE, now.key, m->u.update.row.image,
                SLICE_NULL);
    return 0;
}

static int
add_delete(struct builder *b, struct table *t, const struct pgoutput_message *m,
           struct pgs_err *err)
{
    struct row_parts old;
    int rc = row_parts(t, &m->u.delete.old, &b->old_key, &old, err);
    if (rc == 0)
        version_add(b, old_run(b, t, m->u.delete.old_kind, old.tenant), VERSION_DELETE, old.key,
                    NO_ROW, SLICE_NULL);
    return rc;
}

static void
add_truncate(struct builder *b, const struct pgoutput_message *m)
{
    struct cursor c = cursor_of(m->u.truncate.oids);
    for (uint32_t i = 0; i < m->u.truncate.count; i++) {
        const struct table *t = table_find(b, cursor_be32(&c));
        if (t != NULL && t->archived)
            version_add(b, batch_run(b->batch, &t->tombstone_run), VERSION_TRUNCATE, NO_ROW, NO_ROW,
                        SLICE_NULL);
    }
}

/* --- shapes --- */

/* Changes of the table are lost from here on, until a base. */
static void
table_lose(struct builder *b, struct table *t, const char *code, const char *reason)
{
    if (t->broken_since == 0) {
        t->broken_since = b->txn.commit_lsn;
        note_break(b, t->oid, t->broken_since, 0, code, reason);
        diag_warn("coverage_lost",
                  DIAG(diag_int(DIAG_KEY_TABLE, t->oid), diag_lsn(DIAG_KEY_LSN, t->broken_since)),
                  "table %.*s: %s", SLICE_PRINT(t->relation->name), reason);
    }
    t->archived = false;
}

/* The table has this shape from this transaction on; `fresh`: it was made by it, so it is empty
 * before. */
static void
table_adopt(struct builder *b, const struct relation *r, bool fresh)
{
    struct table *t = table_find(b, r->oid);
    bool known = t != NULL;
    uint64_t old_shape = known ? t->shape_id : 0;
    bool renamed = known && (!slice_equal(t->relation->name, r->name) ||
                             !slice_equal(t->relation->schema, r->schema));
    pgs_lsn broken_since = known ? t->broken_since : 0;
    t = table_set(b, r);
    if (!t->archived) {
        if (known && r->route != ROUTE_EXCLUDED)
            table_lose(b, t, "identity_lost", "its rows can no longer be told apart");
        return;
    }
    if (broken_since != 0) {
        note_break(b, t->oid, broken_since, b->txn.commit_lsn + 1, "skipped",
                   "changes were not archived while its shape was not known");
        t->broken_since = 0;
    } else if (known && old_shape != t->shape_id) {
        note_break(b, t->oid, b->txn.commit_lsn, b->txn.commit_lsn + 1, "shape_changed",
                   "its columns changed");
    }
    if (!known || renamed || old_shape != t->shape_id)
        note_shape(b, t);
    if (!known && fresh)
        note_empty_base(b, t);
    atomic_store(&b->a->look_at_coverage, true);
}

static int
take_relation(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    struct relation *r;
    struct catalog catalog;
    int rc = pgoutput_relation(m, b->scratch, &r, err);
    if (rc < 0)
        return rc;
    struct table *t = table_find(b, r->oid);
    if (t != NULL && t->broken_since == 0 && relation_matches(t->relation, r)) {
        t->verified = true;
        return 0;
    }
    rc = catalog_look(b, &catalog, err);
    if (rc < 0)
        return rc;
    const struct relation *now = catalog_by_oid(&catalog, r->oid);
    if (now != NULL && relation_matches(now, r)) {
        table_adopt(b, now, false);
        return 0;
    }
    if (t == NULL)
        t = table_set(b, r); /* covered is false: only so that its changes are recognised */
    table_lose(b, t, "skipped", "its shape at this place of the stream is not known");
    return 0;
}

static void
take_ddl(struct builder *b, const struct message *m)
{
    bool create = slice_equal(m->u.ddl.tag, slice_str("CREATE TABLE"));
    const struct catalog_rules *rules = &archiver_opts(b->a)->setup.rules;
    for (size_t i = 0; i < m->u.ddl.relation_count; i++) {
        struct relation *r = m->u.ddl.relations[i];
        catalog_decide(rules, b->scratch, r);
        if (table_find(b, r->oid) != NULL || (r->covered && r->published))
            table_adopt(b, r, create && r->published);
    }
    for (size_t i = 0; i < m->u.ddl.dropped_count; i++) {
        struct table *t = table_find(b, m->u.ddl.dropped[i]);
        if (t == NULL)
            continue;
        note_break(b, t->oid, b->txn.commit_lsn, 0, "dropped", "the table was dropped");
        HASH_DEL(b->tables, t);
        b->last_table = NULL;
    }
}

/* --- our messages --- */

static void
take_move(struct builder *b, const struct message *m)
{
    struct table *t = table_find(b, m->u.move.oid);
    if (t == NULL || !t->archived)
        return;
    version_add(b, run_of(b, t, m->u.move.old_tenant), VERSION_MOVED_OUT, m->u.move.key, NO_ROW,
                SLICE_NULL);
    version_add(b, run_of(b, t, m->u.move.new_tenant), VERSION_MOVED_IN, m->u.move.key,
                m->u.move.old_tenant.data != NULL ? m->u.move.old_tenant : NO_ROW, SLICE_NULL);
}

static void
take_restore_point(struct builder *b, const struct message *m)
{
    struct log_restore_point item = { .name = arena_dup(b->txn_arena, m->u.restore_point.name),
                                      .commit_lsn = b->txn.commit_lsn,
                                      .time = b->txn.commit_time,
                                      .xid = b->txn.xid };
    NOTE_ADD(b->txn_arena, &b->txn_notes, restore_point, item);
}

static void
take_flush(struct builder *b, const struct message *m)
{
    struct slice item = arena_dup(b->txn_arena, m->u.flush.id);
    NOTE_ADD(b->txn_arena, &b->txn_notes, barrier, item);
    b->flush_now = true;
}

static int
take_message(struct builder *b, const struct pgoutput_message *in, struct pgs_err *err)
{
    struct message m;
    if (!in->u.message.transactional || !b->in_txn)
        return 0;
    int rc = message_parse(in->u.message.prefix, in->u.message.content, b->scratch, &m, err);
    if (rc < 0) {
        /* Anybody may write messages under our prefix: a bad one must not stop the archive. */
        diag_warn("message_bad", DIAG(diag_str(DIAG_KEY_ERROR, err->message)),
                  "a message was skipped");
        return 0;
    }
    b->sequence++;
    switch (m.kind) {
    case MESSAGE_KIND_OTHER: break;
    case MESSAGE_KIND_FLUSH: take_flush(b, &m); break;
    case MESSAGE_KIND_RESTORE_POINT: take_restore_point(b, &m); break;
    case MESSAGE_KIND_HEARTBEAT:
        b->txn_notes.heartbeat.counter = m.u.heartbeat.counter;
        b->txn_notes.heartbeat.nonce = arena_dup(b->txn_arena, m.u.heartbeat.nonce);
        break;
    case MESSAGE_KIND_ACTOR: b->txn.actor = arena_dup(b->txn_arena, m.u.actor.actor); break;
    case MESSAGE_KIND_MOVE: take_move(b, &m); break;
    case MESSAGE_KIND_DDL: take_ddl(b, &m); break;
    case MESSAGE_KIND_RESTORE: b->txn.restore_id = arena_dup(b->txn_arena, m.u.restore.id); break;
    }
    return 0;
}

/* --- batches --- */

/* Waits until the budget has room for a whole batch, or the session ends. */
static void
room_wait(struct builder *b)
{
    struct archiver *a = b->a;
    pthread_mutex_lock(&a->room_mutex);
    while (!budget_fits(&a->budget, b->batch_bytes_max) && !atomic_load(&a->aborted) &&
           !archiver_stop_overdue(a)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        (void)pthread_cond_timedwait(&a->room, &a->room_mutex, &until);
        archiver_alive(a);
    }
    pthread_mutex_unlock(&a->room_mutex);
}

/* Hands the batch to the flushers. What the open transaction has in it is spilled with it. */
static int
batch_seal(struct builder *b, struct pgs_err *err)
{
    struct batch *batch = b->batch;
    size_t bytes = batch_bytes(batch);
    batch->complete_count = b->in_txn ? b->txn_first : batch->count;
    batch->ticket = b->next_ticket++;
    if (b->in_txn && batch->count > batch->complete_count)
        b->txn_spilled = true;
    b->batch = batch_new(&b->a->budget);
    b->batch_since_us = 0;
    b->txn_first = 0;
    if (queue_push(b->a->batches, batch, bytes) != 0) {
        batch_free(batch);
        return err_set(err, PGS_E_CANCELLED, "the session has ended");
    }
    room_wait(b);
    return 0;
}

static bool
batch_is_empty(const struct batch *b)
{
    const struct log_entry *e = &b->notes;
    return b->count == 0 && b->txn_count == 0 && !b->has_end && !b->drops_spilled &&
           e->shape_count + e->base_count + e->break_count + e->restore_point_count +
                   e->barrier_count ==
               0;
}

static void
batch_touch(struct builder *b)
{
    if (b->batch_since_us == 0)
        b->batch_since_us = clock_us();
}

static int
seal_if_full(struct builder *b, struct pgs_err *err)
{
    return batch_bytes(b->batch) >= b->batch_bytes_max ? batch_seal(b, err) : 0;
}

static int
seal_if_due(struct builder *b, struct pgs_err *err)
{
    int64_t interval_us = archiver_opts(b->a)->flush_interval_ms * 1000;
    bool complete = b->batch->txn_count > 0 || b->batch->has_end;
    if (b->batch_since_us == 0 || !complete || clock_us() - b->batch_since_us < interval_us)
        return 0;
    return batch_seal(b, err);
}

/* A position without changes becomes durable when it is asked for, or when the throttle allows
 * it. */
static int
range_if_due(struct builder *b, struct pgs_err *err)
{
    const struct archiver_opts *opts = archiver_opts(b->a);
    pgs_lsn durable = atomic_load(&b->a->durable);
    if (b->in_txn || b->position <= durable || b->batch->txn_count > 0)
        return 0;
    bool due = b->position_urgent || b->position - durable >= opts->range_bytes ||
               clock_us() - b->range_us >= opts->range_interval_ms * 1000;
    if (!due)
        return 0;
    b->position_urgent = false;
    b->range_us = clock_us();
    b->batch->has_end = true;
    b->batch->end = b->position;
    return batch_seal(b, err);
}

/* --- transactions --- */

/* The 64-bit xid nearest to one seen lately. */
static uint64_t
xid_widen(struct builder *b, uint32_t xid)
{
    uint64_t full = (b->xid_reference & ~(uint64_t)UINT32_MAX) | xid;
    const uint64_t half = UINT64_C(1) << 31, whole = UINT64_C(1) << 32;
    if (full > b->xid_reference + half && full >= whole)
        full -= whole;
    else if (full + half < b->xid_reference)
        full += whole;
    if (full > b->xid_reference)
        b->xid_reference = full;
    return full;
}

static int
take_begin(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    if (b->in_txn)
        return err_set(err, PGS_E_CORRUPT, "Begin within a transaction");
    b->in_txn = true;
    b->txn = (struct txn){ .commit_lsn = m->u.begin.commit_lsn,
                           .commit_time = m->u.begin.commit_time,
                           .xid = xid_widen(b, m->u.begin.xid) };
    b->sequence = 0;
    b->txn_first = b->batch->count;
    b->txn_spilled = false;
    b->flush_now = false;
    arena_reset(b->txn_arena);
    b->txn_notes = (struct log_entry){ 0 };
    return 0;
}

static int
take_commit(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    if (!b->in_txn || m->u.commit.commit_lsn != b->txn.commit_lsn)
        return err_set(err, PGS_E_CORRUPT, "Commit of another transaction");
    b->in_txn = false;
    b->txn.commit_end_lsn = m->u.commit.commit_end_lsn;
    /* The archive has it already: resume is by whole transactions (DESIGN 4.2). */
    if (b->txn.commit_end_lsn <= b->position) {
        batch_cut(b->batch, b->txn_first);
        b->batch->drops_spilled = b->batch->drops_spilled || b->txn_spilled;
        return 0;
    }
    batch_touch(b);
    /* A transaction of barriers and heartbeats alone is no moment that anybody could go back to.
     * One that changed a table's shape is: a target by time must know which side of it is meant. */
    const struct log_entry *notes = &b->txn_notes;
    if (b->batch->count > b->txn_first || b->txn_spilled || notes->restore_point_count > 0 ||
        notes->shape_count > 0 || notes->base_count > 0 || notes->break_count > 0)
        batch_txn(b->batch, &b->txn);
    notes_commit(b);
    b->batch->closes_spilled = b->batch->closes_spilled || b->txn_spilled;
    b->batch->has_end = true;
    b->batch->end = b->txn.commit_end_lsn;
    b->position = b->txn.commit_end_lsn;
    b->range_us = clock_us();
    if (b->flush_now || b->txn_spilled)
        return batch_seal(b, err);
    return seal_if_due(b, err);
}

static int
take_change(struct builder *b, const struct pgoutput_message *m, uint32_t oid, struct pgs_err *err)
{
    struct table *t = table_find(b, oid);
    if (!b->in_txn)
        return err_set(err, PGS_E_CORRUPT, "a change outside a transaction");
    if (t == NULL)
        return err_set(err, PGS_E_CORRUPT, "a change of table %u, which was not described", oid);
    if (!t->archived)
        return 0;
    batch_touch(b);
    int rc = m->kind == PGOUTPUT_INSERT   ? add_insert(b, t, m, err)
             : m->kind == PGOUTPUT_UPDATE ? add_update(b, t, m, err)
                                          : add_delete(b, t, m, err);
    return rc < 0 ? rc : seal_if_full(b, err);
}

int
builder_message(struct builder *b, struct slice bytes, struct pgs_err *err)
{
    struct pgoutput_message m;
    int rc = pgoutput_decode(bytes, &m, err);
    if (rc < 0)
        return rc;
    switch (m.kind) {
    case PGOUTPUT_BEGIN: return take_begin(b, &m, err);
    case PGOUTPUT_COMMIT: return take_commit(b, &m, err);
    case PGOUTPUT_INSERT: return take_change(b, &m, m.u.insert.oid, err);
    case PGOUTPUT_UPDATE: return take_change(b, &m, m.u.update.oid, err);
    case PGOUTPUT_DELETE: return take_change(b, &m, m.u.delete.oid, err);
    case PGOUTPUT_TRUNCATE: add_truncate(b, &m); return 0;
    case PGOUTPUT_RELATION:
        rc = take_relation(b, &m, err);
        arena_reset(b->scratch);
        return rc;
    case PGOUTPUT_MESSAGE:
        rc = take_message(b, &m, err);
        arena_reset(b->scratch);
        return rc < 0 ? rc : seal_if_full(b, err);
    case PGOUTPUT_TYPE:
    case PGOUTPUT_ORIGIN: break;
    }
    return 0;
}

/* Reads one chunk's records. */
static int
chunk_take(struct builder *b, const struct chunk *chunk, struct pgs_err *err)
{
    const uint8_t *p = chunk->bytes.data, *end = p + chunk->bytes.size;
    while (p < end) {
        struct record_head head;
        memcpy(&head, p, sizeof(head));
        p += sizeof(head);
        int rc = 0;
        if (head.kind == RECORD_DATA) {
            rc = builder_message(b, slice_of(p, head.size), err);
        } else if (!b->in_txn && head.wal_end > b->position) {
            b->position = head.wal_end;
            b->position_urgent = b->position_urgent || head.kind == RECORD_POSITION_URGENT;
        }
        if (rc < 0)
            return rc;
        p += head.size;
    }
    return 0;
}

static int
builder_step(struct builder *b, int timeout_ms, bool *done, struct pgs_err *err)
{
    void *item = NULL;
    int rc = queue_pop(b->a->chunks, timeout_ms, &item);
    if (rc == PGS_CLOSED) {
        *done = true;
        return 0;
    }
    if (rc == 0) {
        rc = chunk_take(b, item, err);
        chunk_free(item);
        if (rc < 0)
            return rc;
    }
    rc = seal_if_due(b, err);
    return rc < 0 ? rc : range_if_due(b, err);
}

/* What is complete goes out; an open transaction will come again from its begin. */
static int
builder_finish(struct builder *b, struct pgs_err *err)
{
    if (b->in_txn) {
        batch_cut(b->batch, b->txn_first);
        b->batch->drops_spilled = b->batch->drops_spilled || b->txn_spilled;
        b->in_txn = false;
    }
    if (b->batch->txn_count == 0 && b->position > atomic_load(&b->a->durable)) {
        b->batch->has_end = true;
        b->batch->end = b->position;
    }
    return batch_is_empty(b->batch) ? 0 : batch_seal(b, err);
}

void *
builder_thread(void *builder)
{
    struct builder *b = builder;
    struct pgs_err err;
    bool done = false;
    int rc = 0;
    while (rc == 0 && !done) {
        int64_t interval = archiver_opts(b->a)->flush_interval_ms;
        rc = builder_step(b, interval < 100 ? (int)interval : 100, &done, &err);
        archiver_alive(b->a);
    }
    if (rc == 0)
        rc = builder_finish(b, &err);
    if (rc < 0 && err.kind != PGS_E_CANCELLED)
        archiver_fail(b->a, &err);
    queue_close(b->a->batches);
    return NULL;
}
