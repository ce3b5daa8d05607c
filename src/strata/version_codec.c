#include "strata/version_codec.h"

#define HAS_ROW 0x01
#define HAS_PREV_KEY 0x02
#define FLAGS_KNOWN (HAS_ROW | HAS_PREV_KEY)

#define VARINT_BYTES_MAX 10
/* op, flags, and at most six varints. */
#define OVERHEAD_BYTES_MAX (2 + 6 * VARINT_BYTES_MAX)

void
version_codec_release(struct version_codec *c)
{
    buf_release(&c->key);
}

void
version_codec_begin(struct version_codec *c)
{
    c->in_block = false;
    c->lsn = 0;
}

static size_t
common_prefix(struct slice a, struct slice b)
{
    size_t most = a.size < b.size ? a.size : b.size, n = 0;
    while (n < most && a.data[n] == b.data[n])
        n++;
    return n;
}

static uint64_t
zigzag(uint64_t difference)
{
    return difference << 1 ^ (difference >> 63 != 0 ? UINT64_MAX : 0);
}

static uint64_t
unzigzag(uint64_t coded)
{
    return coded >> 1 ^ (~(coded & 1) + 1);
}

static uint8_t *
put_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *
put_varslice(uint8_t *p, struct slice s)
{
    p = put_varint(p, s.size);
    if (s.size > 0)
        memcpy(p, s.data, s.size);
    return p + s.size;
}

/* On the path of every row: room is made once, then bytes are written without a look. */
void
version_encode(struct version_codec *c, struct buf *out, const struct version *v)
{
    size_t shared = c->in_block ? common_prefix(buf_slice(&c->key), v->key) : 0;
    uint8_t flags =
        (uint8_t)((v->row.size > 0 ? HAS_ROW : 0) | (v->prev_key.data != NULL ? HAS_PREV_KEY : 0));
    if (!buf_reserve(out, OVERHEAD_BYTES_MAX + v->key.size + v->row.size + v->prev_key.size))
        return;
    uint8_t *p = out->data + out->size;
    *p++ = (uint8_t)v->op;
    *p++ = flags;
    p = put_varint(p, shared);
    p = put_varslice(p, slice_of(v->key.data + shared, v->key.size - shared));
    p = put_varint(p, zigzag(v->commit_lsn - c->lsn));
    p = put_varint(p, v->sequence);
    if (flags & HAS_ROW)
        p = put_varslice(p, v->row);
    if (flags & HAS_PREV_KEY)
        p = put_varslice(p, v->prev_key);
    out->size = (size_t)(p - out->data);
    c->key.size = shared;
    buf_put(&c->key, v->key.data + shared, v->key.size - shared);
    c->lsn = v->commit_lsn;
    c->in_block = true;
}

static bool
op_is_known(uint8_t op)
{
    return op == VERSION_INSERT || op == VERSION_UPDATE || op == VERSION_DELETE ||
           op == VERSION_TRUNCATE || op == VERSION_MOVED_OUT || op == VERSION_MOVED_IN;
}

bool
version_decode(struct version_codec *c, struct cursor *from, struct version *v)
{
    static const uint8_t nothing[1];
    uint8_t op = cursor_u8(from), flags = cursor_u8(from);
    uint64_t shared = cursor_varint(from);
    struct slice rest = cursor_varslice(from);
    uint64_t difference = unzigzag(cursor_varint(from));
    uint64_t sequence = cursor_varint(from);
    struct slice row = flags & HAS_ROW ? cursor_varslice(from) : slice_of(nothing, 0);
    struct slice prev_key = flags & HAS_PREV_KEY ? cursor_varslice(from) : SLICE_NULL;
    if (!cursor_ok(from) || !op_is_known(op) || (flags & ~FLAGS_KNOWN) != 0 ||
        shared > (c->in_block ? c->key.size : 0))
        return false;
    c->key.size = (size_t)shared;
    buf_put_slice(&c->key, rest);
    c->lsn += difference;
    c->in_block = true;
    *v = (struct version){ .key = buf_slice(&c->key),
                           .commit_lsn = c->lsn,
                           .sequence = sequence,
                           .op = (enum version_op)op,
                           .row = row,
                           .prev_key = prev_key };
    return !buf_failed(&c->key);
}
