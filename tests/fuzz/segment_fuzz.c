/* segment_fuzz.c: whatever reads segments. The first byte chooses what the rest is: a whole
 * object, or one part of it, which is then wrapped as a real one would be, so that its checksum
 * is right and the parser behind it is reached. Nothing may be read outside of its bytes, and
 * what cannot be read must be PGS_E_CORRUPT or PGS_E_REFUSED. */
#include "core/err.h"
#include "strata/segment_format.h"
#include "support/memory_store.h"

#include <stdint.h>
#include <stdlib.h>

#define NAME "seg/fuzz"

enum { FUZZ_OBJECT, FUZZ_FOOTER, FUZZ_PAGE, FUZZ_BLOCK, FUZZ_TXNS, FUZZ_KINDS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int rc, const struct pgs_err *err)
{
    pgs_assert(rc == 0 || rc == PGS_NONE || rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED);
    pgs_assert(rc >= 0 || err->message[0] != '\0');
}

/* --- objects around a part --- */

static void
put_part(struct buf *object, const struct buf *raw, struct part_ref *part)
{
    struct part_codec *codec = part_codec_take();
    struct pgs_err err;
    size_t before = object->size;
    int rc = part_pack(codec, 1, buf_slice(raw), object, &err);
    pgs_assert(rc == 0);
    part_codec_give(codec);
    *part = (struct part_ref){ before, object->size - before, raw->size };
}

static void
put_ref(struct buf *out, const struct part_ref *part)
{
    buf_put_varint(out, part->offset);
    buf_put_varint(out, part->stored_size);
    buf_put_varint(out, part->raw_size);
}

static void
put_run_id(struct buf *out)
{
    buf_put_u8(out, SCOPE_TENANT);
    buf_put_varslice(out, slice_str("acme"));
    buf_put_be32(out, 10);
    buf_put_be64(out, 1);
}

/* One run of one block with `versions` versions. */
static void
make_page(struct buf *page, const struct part_ref *block, uint64_t versions)
{
    put_run_id(page);
    buf_put_varint(page, versions);
    buf_put_be64(page, 0);
    buf_put_be64(page, UINT64_MAX);
    buf_put_varint(page, 1);
    put_ref(page, block);
    buf_put_varint(page, versions);
    buf_put_be64(page, 0);
    buf_put_be64(page, UINT64_MAX);
    buf_put_varslice(page, slice_str("a"));
    buf_put_varslice(page, slice_str("z"));
}

static void
make_footer(struct buf *footer, const struct part_ref *page, const struct part_ref *txns,
            uint64_t count)
{
    buf_put_varint(footer, page->stored_size > 0 ? 1 : 0);
    if (page->stored_size > 0) {
        put_run_id(footer);
        put_ref(footer, page);
        buf_put_varint(footer, count);
    }
    put_ref(footer, txns);
    buf_put_varint(footer, txns->stored_size > 0 ? count : 0);
    buf_put_varint(footer, count);
}

static void
put_trailer(struct buf *object, const struct part_ref *footer)
{
    buf_put_be64(object, footer->offset);
    buf_put_be32(object, (uint32_t)footer->stored_size);
    buf_put_be32(object, (uint32_t)footer->raw_size);
    buf_put_be64(object, object->size + SEGMENT_TRAILER_BYTES - 16);
    buf_put_be32(object, SEGMENT_VERSION);
    buf_put(object, SEGMENT_END_MAGIC, SEGMENT_MAGIC_BYTES);
}

static void
make_object(struct buf *object, unsigned kind, uint64_t count, const struct buf *input)
{
    struct part_ref block = { 0 }, page = { 0 }, txns = { 0 }, end;
    struct buf made = { 0 }, footer = { 0 };
    buf_put(object, SEGMENT_MAGIC, SEGMENT_MAGIC_BYTES);
    buf_put_be32(object, SEGMENT_VERSION);
    buf_put(object, "0123456789abcdef", SEGMENT_ID_BYTES);
    if (kind == FUZZ_BLOCK) {
        put_part(object, input, &block);
        make_page(&made, &block, count);
        put_part(object, &made, &page);
        count = 1;
    }
    if (kind == FUZZ_PAGE)
        put_part(object, input, &page);
    if (kind == FUZZ_TXNS)
        put_part(object, input, &txns);
    make_footer(&footer, &page, &txns, count);
    put_part(object, kind == FUZZ_FOOTER ? input : &footer, &end);
    put_trailer(object, &end);
    buf_release(&made);
    buf_release(&footer);
}

/* --- reading everything --- */

static void
read_run(struct segment *s, const struct run_ref *run)
{
    struct run_cursor *c;
    struct version v;
    struct pgs_err err;
    struct slice bound;
    uint64_t count = 0;
    int rc = run_cursor_open(s, run, &c, &err);
    while (rc == 0 && (rc = run_cursor_next(c, &v, &err)) == 0) {
        /* Touches every byte that is handed over. */
        for (size_t i = 0; i < v.key.size; i++)
            count += v.key.data[i];
        for (size_t i = 0; i < v.row.size; i++)
            count += v.row.data[i];
        if (v.sequence % 3 == 0)
            rc = run_cursor_seek(c, v.prev_key.data != NULL ? v.prev_key : slice_str("m"), &err);
    }
    check(rc, &err);
    (void)run_cursor_bound(c, &bound);
    run_cursor_close(c);
    pgs_assert(count < UINT64_MAX);
}

static void
read_runs(struct segment *s, struct arena *arena)
{
    static const struct tenant acme = { SCOPE_TENANT, { (const uint8_t *)"acme", 4 } };
    struct run_ref *runs;
    size_t position = 0, count;
    struct pgs_err err;
    int rc;
    bool has;
    while ((rc = segment_page(s, &position, arena, &runs, &count, &err)) == 0) {
        for (size_t i = 0; i < count; i++)
            read_run(s, &runs[i]);
    }
    check(rc, &err);
    check(segment_has_tenant(s, &acme, &has, &err), &err);
    rc = segment_find(s, &acme, 10, arena, &runs, &count, &err);
    check(rc, &err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        read_run(s, &runs[i]);
}

static void
read_object(struct store *store, uint64_t size)
{
    struct segment_info info = { .name = NAME, .size = size };
    struct arena *arena = arena_new(NULL);
    struct segment *s = NULL;
    struct txn *txns;
    size_t count;
    struct pgs_err err;
    int rc = segment_open(store, NAME, NULL, &s, &err);
    check(rc, &err);
    if (rc == 0) {
        read_runs(s, arena);
        check(segment_txns(s, arena, &txns, &count, &err), &err);
    }
    segment_close(s);
    check(segment_verify(store, &info, &err), &err);
    arena_free(arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf object = { 0 }, input = { 0 };
    struct pgs_err err;
    if (size < 2)
        return 0;
    buf_put(&input, data + 2, size - 2);
    if (data[0] % FUZZ_KINDS == FUZZ_OBJECT)
        buf_put_slice(&object, buf_slice(&input));
    else if (input.size > 0)
        make_object(&object, data[0] % FUZZ_KINDS, data[1], &input);
    struct store *store = memory_store_new();
    int rc = store_put(store, NAME, buf_slice(&object), &err);
    pgs_assert(rc == 0);
    read_object(store, object.size);
    store_close(store);
    buf_release(&object);
    buf_release(&input);
    return 0;
}
