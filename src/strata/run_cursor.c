#include "strata/segment_internal.h"

#include "core/err.h"

#include <stdlib.h>

struct run_cursor {
    struct segment *segment;
    const struct run_ref *run;
    size_t next_block; /* the first block not loaded yet */
    uint64_t left;     /* versions left in the loaded block */
    struct buf raw;
    struct cursor at;
    struct buf key;
    pgs_lsn lsn;
    bool has_pending; /* a version that seek has read and next shall give */
    struct version pending;
};

int
run_cursor_open(struct segment *s, const struct run_ref *run, struct run_cursor **cursor,
                struct pgs_err *err)
{
    (void)err;
    struct run_cursor *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->segment = s;
    c->run = run;
    *cursor = c;
    return 0;
}

void
run_cursor_close(struct run_cursor *c)
{
    if (c == NULL)
        return;
    buf_release(&c->raw);
    buf_release(&c->key);
    free(c);
}

static int
malformed(const struct run_cursor *c, struct pgs_err *err)
{
    return err_set(err, PGS_E_CORRUPT, "segment %s: a block is malformed", c->segment->name);
}

static int
block_load(struct run_cursor *c, struct pgs_err *err)
{
    const struct block_ref *b = &c->run->blocks[c->next_block];
    struct part_ref part = { b->offset, b->stored_size, b->raw_size };
    struct segment *s = c->segment;
    int rc = part_read(s->store, s->name, &part, "a block is damaged", s->dctx, &s->stored, &c->raw,
                       err);
    s->bytes_read += s->stored.size;
    if (rc < 0)
        return rc;
    c->at = cursor_of(buf_slice(&c->raw));
    c->left = b->version_count;
    c->lsn = 0;
    buf_reset(&c->key);
    c->next_block++;
    return 0;
}

/* Keys share a prefix with the one before: rebuilt in place, from foreign sizes. */
static bool
read_key(struct run_cursor *c)
{
    uint64_t shared = cursor_varint(&c->at);
    struct slice rest = cursor_varslice(&c->at);
    if (!cursor_ok(&c->at) || shared > c->key.size)
        return false;
    c->key.size = (size_t)shared;
    buf_put_slice(&c->key, rest);
    return !buf_failed(&c->key);
}

static bool
op_is_known(uint8_t op)
{
    return op == VERSION_INSERT || op == VERSION_UPDATE || op == VERSION_DELETE ||
           op == VERSION_TRUNCATE || op == VERSION_MOVED_OUT || op == VERSION_MOVED_IN;
}

static int
read_version(struct run_cursor *c, struct version *v, struct pgs_err *err)
{
    static const uint8_t nothing[1];
    uint8_t op = cursor_u8(&c->at);
    uint8_t flags = cursor_u8(&c->at);
    if (!op_is_known(op) || !read_key(c))
        return malformed(c, err);
    uint64_t coded = cursor_varint(&c->at);
    c->lsn += (coded >> 1) ^ (~(coded & 1) + 1);
    v->op = (enum version_op)op;
    v->commit_lsn = c->lsn;
    v->sequence = cursor_varint(&c->at);
    v->row = flags & VERSION_HAS_ROW ? cursor_varslice(&c->at) : slice_of(nothing, 0);
    v->prev_key = flags & VERSION_HAS_PREV_KEY ? cursor_varslice(&c->at) : SLICE_NULL;
    v->key = buf_slice(&c->key);
    c->left--;
    if (!cursor_ok(&c->at) || (c->left == 0 && !cursor_at_end(&c->at)))
        return malformed(c, err);
    return 0;
}

int
run_cursor_next(struct run_cursor *c, struct version *v, struct pgs_err *err)
{
    if (c->has_pending) {
        c->has_pending = false;
        *v = c->pending;
        return 0;
    }
    while (c->left == 0) {
        if (c->next_block == c->run->block_count)
            return PGS_NONE;
        int rc = block_load(c, err);
        if (rc < 0)
            return rc;
    }
    return read_version(c, v, err);
}

int
run_cursor_seek(struct run_cursor *c, struct slice key, struct pgs_err *err)
{
    if (c->has_pending && slice_compare(c->pending.key, key) >= 0)
        return 0;
    c->has_pending = false;
    /* The loaded block is left behind when its last key is smaller; so are unread ones. */
    if (c->left > 0 && slice_compare(c->run->blocks[c->next_block - 1].last_key, key) < 0)
        c->left = 0;
    while (c->left == 0 && c->next_block < c->run->block_count &&
           slice_compare(c->run->blocks[c->next_block].last_key, key) < 0)
        c->next_block++;
    /* A block that starts behind the key has nothing to skip: it is not read for this. */
    if (c->left == 0 && (c->next_block == c->run->block_count ||
                         slice_compare(c->run->blocks[c->next_block].first_key, key) >= 0))
        return 0;
    for (;;) {
        int rc = run_cursor_next(c, &c->pending, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (slice_compare(c->pending.key, key) >= 0) {
            c->has_pending = true;
            return 0;
        }
    }
}

bool
run_cursor_may_hold(const struct run_cursor *c, struct slice key)
{
    if (c->has_pending)
        return slice_compare(c->pending.key, key) <= 0;
    if (c->left > 0)
        return true;
    return c->next_block < c->run->block_count &&
           slice_compare(c->run->blocks[c->next_block].first_key, key) <= 0;
}
