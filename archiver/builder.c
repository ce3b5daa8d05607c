#include "archiver/builder_internal.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>

/* A batch is not cut within a transaction just because its time has come, unless the transaction
 * takes long to arrive. */
#define OPEN_PATIENCE 4

struct builder *
builder_new(const struct builder_env *env)
{
    struct builder *b = calloc(1, sizeof(*b));
    if (b == NULL)
        abort();
    b->env = *env;
    b->start = b->position = b->sealed = env->position;
    b->sealed_us = clock_us();
    b->scratch = arena_new(NULL);
    b->txn_arena = arena_new(NULL);
    b->batch = batch_new(env->budget);
    tables_init(&b->tables);
    return b;
}

void
builder_free(struct builder *b)
{
    if (b == NULL)
        return;
    base_done_answer(b->bases, BASE_RETURNED);
    schema_poll_free(b->poll);
    tables_release(&b->tables);
    batch_free(b->batch);
    arena_free(b->scratch);
    arena_free(b->txn_arena);
    buf_release(&b->key);
    buf_release(&b->old_key);
    buf_release(&b->image);
    free(b);
}

void
builder_load(struct builder *b, const struct alog *log)
{
    tables_load(&b->tables, log);
}

/* --- batches --- */

void
builder_touch(struct builder *b)
{
    if (b->batch_since_us == 0)
        b->batch_since_us = clock_us();
}

/* Hands the batch to the flushers. What the open transaction has in it is spilled with it. */
int
builder_seal(struct builder *b, struct pgs_err *err)
{
    struct batch *batch = b->batch;
    if (!b->in_txn && b->position > b->sealed) {
        batch->has_end = true;
        batch->end = b->position;
    }
    batch->complete_count = b->in_txn ? b->txn_first : batch->count;
    b->txn_spilled = b->txn_spilled || batch->count > batch->complete_count;
    batch->ticket = b->next_ticket++;
    if (batch->has_end)
        b->sealed = batch->end;
    b->batch = batch_new(b->env.budget);
    b->batch_since_us = 0;
    b->sealed_us = clock_us();
    b->txn_first = 0;
    if (!b->in_txn)
        b->position_urgent = false;
    return b->env.submit(b->env.context, batch, err);
}

static int
seal_if_due(struct builder *b, struct pgs_err *err)
{
    int64_t now = clock_us();
    int64_t flush_us = b->env.flush_interval_ms(b->env.context) * 1000;
    int64_t range_us = b->env.range_interval_ms(b->env.context) * 1000;
    bool due = false;
    if (b->batch_since_us != 0 && (!b->in_txn || b->batch->has_end))
        due = now - b->batch_since_us >= (b->in_txn ? OPEN_PATIENCE * flush_us : flush_us);
    if (!b->in_txn && b->position > b->sealed)
        due = due || b->position_urgent || now - b->sealed_us >= range_us ||
              b->position - b->sealed >= b->env.range_bytes(b->env.context);
    return due ? builder_seal(b, err) : 0;
}

/* --- what waits for its position --- */

static int
bases_submit(struct builder *b, struct pgs_err *err)
{
    struct base_done *bases = b->bases;
    size_t usable;
    b->bases = NULL;
    schema_bases_apply(b, bases, &usable);
    /* The entry of the bases comes behind everything before them, shapes and breaks included. */
    int rc = b->batch_since_us != 0 || b->position > b->sealed ? builder_seal(b, err) : 0;
    if (rc < 0 || usable == 0) {
        base_done_answer(bases, rc < 0 ? BASE_RETURNED : BASE_PUBLISHED);
        return rc;
    }
    b->batch->bases = bases;
    return builder_seal(b, err);
}

static int
waiting_apply(struct builder *b, struct pgs_err *err)
{
    if (b->in_txn)
        return 0;
    if (b->poll != NULL && b->position >= b->poll->after) {
        schema_poll_apply(b, b->poll);
        schema_poll_free(b->poll);
        b->poll = NULL;
    }
    return b->bases != NULL && b->position >= b->bases->lsn ? bases_submit(b, err) : 0;
}

int
builder_poll(struct builder *b, struct schema_poll *poll, struct pgs_err *err)
{
    schema_poll_free(b->poll);
    b->poll = poll;
    return waiting_apply(b, err);
}

static bool
history_equal(const struct history_id *a, const struct history_id *b)
{
    return a->system_id == b->system_id && a->timeline == b->timeline && a->era == b->era;
}

int
builder_bases(struct builder *b, struct base_done *bases, struct pgs_err *err)
{
    pgs_assert(b->bases == NULL); /* their owner waits for the answer */
    /* Taken from the server of an earlier session, they would wait for an LSN that means something
     * else here, or nothing. */
    if (!history_equal(&bases->history, &b->env.history)) {
        for (size_t i = 0; i < bases->table_count; i++)
            bases->tables[i].left_out = true;
        base_done_answer(bases, BASE_PUBLISHED);
        return 0;
    }
    b->bases = bases;
    return waiting_apply(b, err);
}

int
builder_position(struct builder *b, pgs_lsn lsn, bool urgent, struct pgs_err *err)
{
    if (b->in_txn || lsn < b->position)
        return 0;
    b->position = lsn;
    b->position_urgent = b->position_urgent || (urgent && lsn > b->sealed);
    int rc = waiting_apply(b, err);
    return rc < 0 ? rc : seal_if_due(b, err);
}

int
builder_tick(struct builder *b, struct pgs_err *err)
{
    return seal_if_due(b, err);
}

int
builder_finish(struct builder *b, struct pgs_err *err)
{
    if (b->in_txn) {
        batch_cut(b->batch, b->txn_first);
        b->in_txn = false;
    }
    bool anything = b->batch->count > 0 || b->batch->has_end || !notes_empty(&b->batch->notes);
    return anything || b->position > b->sealed ? builder_seal(b, err) : 0;
}

/* --- our messages --- */

static void
take_restore_point(struct builder *b, const struct message *m)
{
    struct log_restore_point item = { .name = m->u.restore_point.name,
                                      .commit_lsn = b->txn.commit_lsn,
                                      .time = b->txn.commit_time,
                                      .xid = b->txn.xid };
    notes_restore_point(&b->txn_notes, b->txn_arena, &item);
    b->txn_speaks = true;
}

static int
take_our_message(struct builder *b, const struct message *m, struct pgs_err *err)
{
    switch (m->kind) {
    case MESSAGE_KIND_OTHER: break;
    case MESSAGE_KIND_FLUSH:
        notes_barrier(&b->txn_notes, b->txn_arena, m->u.flush.id);
        b->flush_now = true;
        break;
    case MESSAGE_KIND_RESTORE_POINT: take_restore_point(b, m); break;
    case MESSAGE_KIND_HEARTBEAT:
        notes_heartbeat(&b->txn_notes, b->txn_arena, m->u.heartbeat.counter, m->u.heartbeat.nonce);
        break;
    case MESSAGE_KIND_ACTOR:
        b->txn.actor = arena_dup(b->txn_arena, m->u.actor.actor);
        b->txn_speaks = true;
        break;
    case MESSAGE_KIND_MOVE: rows_move(b, m); break;
    case MESSAGE_KIND_DDL: return schema_ddl(b, m, err);
    case MESSAGE_KIND_RESTORE:
        b->txn.restore_id = arena_dup(b->txn_arena, m->u.restore.id);
        b->txn_speaks = true;
        break;
    }
    return 0;
}

static int
take_message(struct builder *b, const struct pgoutput_message *in, struct pgs_err *err)
{
    struct message m;
    if (!in->u.message.transactional || !b->in_txn)
        return 0;
    b->sequence++;
    int rc = message_parse(in->u.message.prefix, in->u.message.content, b->scratch, &m, err);
    if (rc == 0)
        return take_our_message(b, &m, err);
    /* Anybody may write messages under our prefix: a bad one must not stop the archive. */
    diag_warn(
        "message_bad",
        DIAG(diag_str(DIAG_KEY_ERROR, err->message), diag_lsn(DIAG_KEY_LSN, b->txn.commit_lsn)),
        "a message was skipped");
    return 0;
}

/* --- transactions --- */

/* The 64-bit xid nearest to one seen lately: no transaction is 2^31 away from a living one. */
static uint64_t
xid_widen(struct builder *b, uint32_t xid)
{
    const uint64_t half = UINT64_C(1) << 31, whole = UINT64_C(1) << 32;
    uint64_t full = (b->env.xid & ~(uint64_t)UINT32_MAX) | xid;
    if (full > b->env.xid + half && full >= whole)
        full -= whole;
    else if (full + half < b->env.xid)
        full += whole;
    if (full > b->env.xid)
        b->env.xid = full;
    return full;
}

/* Resume is by whole transactions (DESIGN 4.2): one whose commit record starts before the archive's
 * end also ended before it, and is there. */
static int
take_begin(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    pgs_lsn commit_lsn = m->u.begin.commit_lsn;
    if (b->in_txn)
        return err_set(err, PGS_E_CORRUPT, "the stream has a Begin within a transaction");
    if (commit_lsn >= b->start && commit_lsn < b->position)
        return err_set(err, PGS_E_CORRUPT,
                       "transaction at " PGS_LSN_FMT " comes after " PGS_LSN_FMT,
                       PGS_LSN_ARGS(commit_lsn), PGS_LSN_ARGS(b->position));
    b->in_txn = true;
    b->skipping = commit_lsn < b->start;
    b->txn = (struct txn){ .commit_lsn = commit_lsn,
                           .commit_time = m->u.begin.commit_time,
                           .xid = xid_widen(b, m->u.begin.xid) };
    b->sequence = 1;
    b->txn_first = b->batch->count;
    b->txn_spilled = b->txn_speaks = b->flush_now = false;
    arena_reset(b->txn_arena);
    b->txn_notes = (struct notes){ 0 };
    return 0;
}

static void
commit_notes(struct builder *b)
{
    for (size_t i = 0; i < b->txn_notes.restore_point_count; i++)
        b->txn_notes.restore_points[i].commit_end_lsn = b->txn.commit_end_lsn;
    notes_add(&b->batch->notes, b->batch->meta, &b->txn_notes);
}

static int
take_commit(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    struct table *t, *next;
    if (!b->in_txn || m->u.commit.commit_lsn != b->txn.commit_lsn)
        return err_set(err, PGS_E_CORRUPT, "the stream has a Commit of another transaction");
    b->in_txn = false;
    if (b->skipping)
        return 0;
    b->txn.commit_end_lsn = m->u.commit.commit_end_lsn;
    b->position = b->txn.commit_end_lsn;
    builder_touch(b);
    batch_time(b->batch, b->txn.commit_time);
    /* One of barriers and heartbeats alone is no moment that anybody would go back to. One that
     * changed a table's shape is: a target by time must know which side of it is meant. */
    const struct notes *notes = &b->txn_notes;
    if (b->batch->count > b->txn_first || b->txn_spilled || b->txn_speaks ||
        notes->shape_count > 0 || notes->base_count > 0 || notes->break_count > 0)
        batch_txn(b->batch, &b->txn);
    if (!notes_empty(&b->txn_notes)) {
        commit_notes(b);
        HASH_ITER (hh, b->tables.hash, t, next)
            t->fresh = false;
    }
    b->batch->closes_spilled = b->batch->closes_spilled || b->txn_spilled;
    b->batch->has_end = true;
    b->batch->end = b->position;
    int rc = b->flush_now ? builder_seal(b, err) : seal_if_due(b, err);
    return rc < 0 ? rc : waiting_apply(b, err);
}

static int
seal_if_full(struct builder *b, struct pgs_err *err)
{
    return batch_bytes(b->batch) >= b->env.batch_bytes ? builder_seal(b, err) : 0;
}

static int
take_change(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    if (!b->in_txn)
        return err_set(err, PGS_E_CORRUPT, "the stream has a change outside a transaction");
    if (b->skipping)
        return 0;
    if (m->kind == PGOUTPUT_TRUNCATE) {
        rows_truncate(b, m);
        return 0;
    }
    int rc = rows_change(b, m, err);
    return rc < 0 ? rc : seal_if_full(b, err);
}

static int
take_other(struct builder *b, const struct pgoutput_message *m, struct pgs_err *err)
{
    int rc = 0;
    if (b->skipping && b->in_txn)
        return 0;
    if (m->kind == PGOUTPUT_RELATION)
        rc = schema_relation(b, m, err);
    else if (m->kind == PGOUTPUT_MESSAGE)
        rc = take_message(b, m, err);
    arena_reset(b->scratch);
    /* Messages come in masses too: one statement may move millions of rows to another tenant. */
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
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
    case PGOUTPUT_TRUNCATE: return take_change(b, &m, err);
    case PGOUTPUT_RELATION:
    case PGOUTPUT_MESSAGE:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_ORIGIN: return take_other(b, &m, err);
    }
    return 0;
}
