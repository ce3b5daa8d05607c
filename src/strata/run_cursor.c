#include "strata/segment_internal.h"

#include "core/err.h"
#include "strata/version_codec.h"

#include <stdlib.h>

struct run_cursor {
    struct segment *segment;
    const struct run_ref *run;
    size_t next_block; /* the first block not loaded yet */
    uint64_t left;     /* versions left in the loaded block */
    struct buf raw;
    struct cursor at;
    struct version_codec codec;
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
    version_codec_release(&c->codec);
    free(c);
}

static int
block_load(struct run_cursor *c, struct pgs_err *err)
{
    const struct block_ref *b = &c->run->blocks[c->next_block];
    struct part_ref part = { b->offset, b->stored_size, b->raw_size };
    int rc = segment_part(c->segment, &part, "a block", &c->raw, err);
    if (rc < 0)
        return rc;
    c->at = cursor_of(buf_slice(&c->raw));
    c->left = b->version_count;
    version_codec_begin(&c->codec);
    c->next_block++;
    return 0;
}

static int
version_read(struct run_cursor *c, struct version *v, struct pgs_err *err)
{
    bool ok = version_decode(&c->codec, &c->at, v);
    c->left--;
    if (!ok || (c->left == 0 && !cursor_at_end(&c->at)))
        return segment_corrupt(c->segment, err, "a block is malformed");
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
    return version_read(c, v, err);
}

int
run_cursor_seek(struct run_cursor *c, struct slice key, struct pgs_err *err)
{
    const struct block_ref *blocks = c->run->blocks;
    if (c->has_pending && slice_compare(c->pending.key, key) >= 0)
        return 0;
    c->has_pending = false;
    /* A block whose last key is smaller is left behind, the loaded one as well as unread ones. */
    if (c->left > 0 && slice_compare(blocks[c->next_block - 1].last_key, key) < 0)
        c->left = 0;
    while (c->left == 0 && c->next_block < c->run->block_count &&
           slice_compare(blocks[c->next_block].last_key, key) < 0)
        c->next_block++;
    /* A block that starts behind the key has nothing to skip: it is not read for this. */
    if (c->left == 0 && (c->next_block == c->run->block_count ||
                         slice_compare(blocks[c->next_block].first_key, key) >= 0))
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
run_cursor_bound(const struct run_cursor *c, struct slice *key)
{
    if (c->has_pending)
        *key = c->pending.key;
    else if (c->left > 0)
        *key = buf_slice(&c->codec.key);
    else if (c->next_block < c->run->block_count)
        *key = c->run->blocks[c->next_block].first_key;
    else
        return false;
    return true;
}
