#include "strata/segment_format.h"

#include "core/err.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#define OUT_BYTES ((size_t)256 << 10)
#define COMPRESSION_DEFAULT 1

struct page {
    struct part_ref part;
    uint64_t run_count;
    struct slice first; /* encoded run id, in the writer's arena */
    struct page *next;
};

struct segment_writer {
    struct store_upload *upload;
    struct segment_info info;
    size_t block_bytes;
    int level;
    ZSTD_CCtx *cctx;
    EVP_MD_CTX *sha;
    struct arena *arena; /* page index */
    struct buf out;      /* bytes not yet handed to the upload */
    struct buf packed;   /* one compressed part */
    uint64_t offset;     /* of the end of `out` in the object */

    /* the current run */
    bool in_run;
    struct buf run_head; /* encoded run id */
    struct buf run_blocks;
    uint64_t run_versions, run_block_count;
    pgs_lsn run_min, run_max;

    /* the current block */
    struct buf block;
    uint64_t block_versions;
    pgs_lsn block_min, block_max, last_lsn;
    struct buf first_key, last_key;

    /* directory */
    struct buf page;
    struct buf page_first;
    uint64_t page_runs, page_count;
    struct page *pages, **pages_end;

    struct buf txns;
    pgs_lsn txn_last;
    bool failed;
};

int
run_id_compare(const struct run_id *a, const struct run_id *b)
{
    if (a->tenant.scope != b->tenant.scope)
        return a->tenant.scope < b->tenant.scope ? -1 : 1;
    int order = slice_compare(a->tenant.key, b->tenant.key);
    if (order != 0)
        return order;
    if (a->table_oid != b->table_oid)
        return a->table_oid < b->table_oid ? -1 : 1;
    return (a->shape_id > b->shape_id) - (a->shape_id < b->shape_id);
}

static void
put_run_id(struct buf *out, const struct run_id *run)
{
    buf_put_u8(out, (uint8_t)run->tenant.scope);
    buf_put_varslice(out, run->tenant.key);
    buf_put_be32(out, run->table_oid);
    buf_put_be64(out, run->shape_id);
}

static int
out_flush(struct segment_writer *w, struct pgs_err *err)
{
    int rc = 0;
    if (w->out.size > 0) {
        if (EVP_DigestUpdate(w->sha, w->out.data, w->out.size) != 1)
            rc = err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
        if (rc == 0)
            rc = store_upload_write(w->upload, buf_slice(&w->out), err);
        buf_reset(&w->out);
    }
    if (rc < 0)
        w->failed = true;
    return rc;
}

static int
out_put(struct segment_writer *w, struct slice bytes, struct pgs_err *err)
{
    buf_put_slice(&w->out, bytes);
    w->offset += bytes.size;
    return w->out.size >= OUT_BYTES ? out_flush(w, err) : 0;
}

/* Compresses `raw` into a part of the object. */
static int
part_write(struct segment_writer *w, const struct buf *raw, struct part_ref *part,
           struct pgs_err *err)
{
    size_t bound = ZSTD_compressBound(raw->size);
    buf_reset(&w->packed);
    if (!buf_reserve(&w->packed, PART_HEADER_BYTES + bound))
        return err_set(err, PGS_E_FAILED, "a part of %zu bytes is too large", raw->size);
    buf_put_u8(&w->packed, 0);
    buf_put_be32(&w->packed, 0);
    size_t size =
        ZSTD_compress2(w->cctx, w->packed.data + w->packed.size, bound, raw->data, raw->size);
    if (ZSTD_isError(size))
        return err_set(err, PGS_E_FAILED, "cannot compress: %s", ZSTD_getErrorName(size));
    w->packed.size += size;
    *part = (struct part_ref){ w->offset, w->packed.size, raw->size };
    return out_put(w, buf_slice(&w->packed), err);
}

static void
put_part(struct buf *out, const struct part_ref *part)
{
    buf_put_varint(out, part->offset);
    buf_put_varint(out, part->stored_size);
    buf_put_varint(out, part->raw_size);
}

static int
header_write(struct segment_writer *w, struct pgs_err *err)
{
    uint8_t id[SEGMENT_ID_BYTES];
    struct buf header = { 0 };
    if (RAND_bytes(id, sizeof(id)) != 1)
        return err_set(err, PGS_E_FAILED, "cannot make a random id");
    buf_put(&header, SEGMENT_MAGIC, SEGMENT_MAGIC_BYTES);
    buf_put_be32(&header, SEGMENT_VERSION);
    buf_put(&header, id, sizeof(id));
    int rc = out_put(w, buf_slice(&header), err);
    buf_release(&header);
    return rc;
}

static void
writer_free(struct segment_writer *w)
{
    ZSTD_freeCCtx(w->cctx);
    EVP_MD_CTX_free(w->sha);
    arena_free(w->arena);
    struct buf *const bufs[] = { &w->out,        &w->packed,    &w->run_head, &w->run_blocks,
                                 &w->block,      &w->first_key, &w->last_key, &w->page,
                                 &w->page_first, &w->txns };
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_release(bufs[i]);
    free(w);
}

int
segment_writer_new(struct store *store, const char *name, const struct segment_opts *opts,
                   struct segment_writer **writer, struct pgs_err *err)
{
    struct segment_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        abort();
    pgs_assert(strlen(name) < sizeof(w->info.name));
    snprintf(w->info.name, sizeof(w->info.name), "%s", name);
    w->info.time_min = w->info.time_max = PGS_TIME_NONE;
    w->block_bytes =
        opts != NULL && opts->block_bytes > 0 ? opts->block_bytes : SEGMENT_BLOCK_BYTES;
    w->level = opts != NULL && opts->compression != 0 ? opts->compression : COMPRESSION_DEFAULT;
    w->arena = arena_new(NULL);
    w->pages_end = &w->pages;
    w->cctx = ZSTD_createCCtx();
    w->sha = EVP_MD_CTX_new();
    if (w->cctx == NULL || w->sha == NULL)
        abort();
    (void)ZSTD_CCtx_setParameter(w->cctx, ZSTD_c_compressionLevel, w->level);
    (void)ZSTD_CCtx_setParameter(w->cctx, ZSTD_c_checksumFlag, 1);
    int rc = EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL) == 1
                 ? 0
                 : err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    if (rc == 0)
        rc = store_upload_begin(store, name, &w->upload, err);
    if (rc == 0)
        rc = header_write(w, err);
    if (rc < 0) {
        segment_writer_abort(w);
        return rc;
    }
    *writer = w;
    return 0;
}

static void
lsn_widen(pgs_lsn *min, pgs_lsn *max, bool first, pgs_lsn lsn)
{
    if (first || lsn < *min)
        *min = lsn;
    if (first || lsn > *max)
        *max = lsn;
}

static int
block_end(struct segment_writer *w, struct pgs_err *err)
{
    struct part_ref part;
    if (w->block_versions == 0)
        return 0;
    int rc = part_write(w, &w->block, &part, err);
    if (rc < 0)
        return rc;
    w->info.raw_bytes += w->block.size;
    put_part(&w->run_blocks, &part);
    buf_put_varint(&w->run_blocks, w->block_versions);
    buf_put_be64(&w->run_blocks, w->block_min);
    buf_put_be64(&w->run_blocks, w->block_max + 1);
    buf_put_varslice(&w->run_blocks, buf_slice(&w->first_key));
    buf_put_varslice(&w->run_blocks, buf_slice(&w->last_key));
    lsn_widen(&w->run_min, &w->run_max, w->run_block_count == 0, w->block_min);
    lsn_widen(&w->run_min, &w->run_max, false, w->block_max);
    w->run_versions += w->block_versions;
    w->run_block_count++;
    w->block_versions = 0;
    buf_reset(&w->block);
    buf_reset(&w->last_key);
    w->last_lsn = 0;
    return 0;
}

static int
page_end(struct segment_writer *w, struct pgs_err *err)
{
    struct page *page;
    if (w->page_runs == 0)
        return 0;
    page = arena_alloc_zero(w->arena, sizeof(*page));
    int rc = part_write(w, &w->page, &page->part, err);
    if (rc < 0)
        return rc;
    page->run_count = w->page_runs;
    page->first = arena_dup(w->arena, buf_slice(&w->page_first));
    *w->pages_end = page;
    w->pages_end = &page->next;
    w->page_count++;
    w->page_runs = 0;
    buf_reset(&w->page);
    return 0;
}

/* Pages are written between blocks, when one is full: nothing but the index stays in memory. */
static int
run_end(struct segment_writer *w, struct pgs_err *err)
{
    if (!w->in_run)
        return 0;
    int rc = block_end(w, err);
    if (rc < 0)
        return rc;
    w->in_run = false;
    if (w->run_block_count == 0)
        return 0;
    if (w->page_runs == 0) {
        buf_reset(&w->page_first);
        buf_put_slice(&w->page_first, buf_slice(&w->run_head));
    }
    buf_put_slice(&w->page, buf_slice(&w->run_head));
    buf_put_varint(&w->page, w->run_versions);
    buf_put_be64(&w->page, w->run_min);
    buf_put_be64(&w->page, w->run_max + 1);
    buf_put_varint(&w->page, w->run_block_count);
    buf_put_slice(&w->page, buf_slice(&w->run_blocks));
    lsn_widen(&w->info.lsn.begin, &w->info.lsn.end, w->info.version_count == 0, w->run_min);
    lsn_widen(&w->info.lsn.begin, &w->info.lsn.end, false, w->run_max);
    w->info.version_count += w->run_versions;
    w->page_runs++;
    return w->page.size >= PAGE_BYTES ? page_end(w, err) : 0;
}

/* Only remembers: what the previous run still holds is written by the first add. */
void
segment_writer_run_begin(struct segment_writer *w, const struct run_id *run)
{
    struct pgs_err err;
    if (run_end(w, &err) < 0)
        w->failed = true;
    buf_reset(&w->run_head);
    put_run_id(&w->run_head, run);
    buf_reset(&w->run_blocks);
    w->run_versions = w->run_block_count = 0;
    w->in_run = true;
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
zigzag(uint64_t from, uint64_t to)
{
    int64_t difference = (int64_t)(to - from);
    return ((uint64_t)difference << 1) ^ (uint64_t)(difference >> 63);
}

static void
version_put(struct segment_writer *w, const struct version *v)
{
    struct buf *b = &w->block;
    size_t shared = common_prefix(buf_slice(&w->last_key), v->key);
    uint8_t flags = (v->row.size > 0 ? VERSION_HAS_ROW : 0) |
                    (v->prev_key.data != NULL ? VERSION_HAS_PREV_KEY : 0);
    buf_put_u8(b, (uint8_t)v->op);
    buf_put_u8(b, flags);
    buf_put_varint(b, shared);
    buf_put_varslice(b, slice_of(v->key.data + shared, v->key.size - shared));
    buf_put_varint(b, zigzag(w->last_lsn, v->commit_lsn));
    buf_put_varint(b, v->sequence);
    if (flags & VERSION_HAS_ROW)
        buf_put_varslice(b, v->row);
    if (flags & VERSION_HAS_PREV_KEY)
        buf_put_varslice(b, v->prev_key);
}

int
segment_writer_add(struct segment_writer *w, const struct version *v, struct pgs_err *err)
{
    pgs_assert(w->in_run);
    if (w->failed)
        return err_set(err, PGS_E_STORE, "segment %s: an earlier write failed", w->info.name);
    if (w->block.size >= w->block_bytes) {
        int rc = block_end(w, err);
        if (rc < 0)
            return rc;
    }
    /* The merge relies on the order; a wrong byte in the archive would be for ever. */
    pgs_assert(w->block_versions == 0 || slice_compare(buf_slice(&w->last_key), v->key) <= 0);
    if (w->block_versions == 0) {
        buf_reset(&w->first_key);
        buf_put_slice(&w->first_key, v->key);
    }
    version_put(w, v);
    buf_reset(&w->last_key);
    buf_put_slice(&w->last_key, v->key);
    lsn_widen(&w->block_min, &w->block_max, w->block_versions == 0, v->commit_lsn);
    w->last_lsn = v->commit_lsn;
    w->block_versions++;
    if (buf_failed(&w->block))
        return err_set(err, PGS_E_FAILED, "a version of %zu bytes is too large", v->row.size);
    return 0;
}

int
segment_writer_txn(struct segment_writer *w, const struct txn *t, struct pgs_err *err)
{
    (void)err;
    pgs_assert(t->commit_lsn > w->txn_last);
    w->txn_last = t->commit_lsn;
    buf_put_be64(&w->txns, t->commit_lsn);
    buf_put_be64(&w->txns, t->commit_end_lsn);
    buf_put_be64(&w->txns, (uint64_t)t->commit_time);
    buf_put_be64(&w->txns, t->xid);
    buf_put_u8(&w->txns, (t->actor.data != NULL ? 1 : 0) | (t->restore_id.data != NULL ? 2 : 0));
    if (t->actor.data != NULL)
        buf_put_varslice(&w->txns, t->actor);
    if (t->restore_id.data != NULL)
        buf_put_varslice(&w->txns, t->restore_id);
    struct segment_info *i = &w->info;
    if (i->time_min == PGS_TIME_NONE || t->commit_time < i->time_min)
        i->time_min = t->commit_time;
    if (i->time_max == PGS_TIME_NONE || t->commit_time > i->time_max)
        i->time_max = t->commit_time;
    i->txn_count++;
    return 0;
}

static int
footer_write(struct segment_writer *w, const struct part_ref *txns, struct pgs_err *err)
{
    struct buf footer = { 0 }, trailer = { 0 };
    struct part_ref part;
    buf_put_varint(&footer, w->page_count);
    for (const struct page *p = w->pages; p != NULL; p = p->next) {
        buf_put_slice(&footer, p->first);
        put_part(&footer, &p->part);
        buf_put_varint(&footer, p->run_count);
    }
    put_part(&footer, txns);
    buf_put_varint(&footer, w->info.txn_count);
    buf_put_varint(&footer, w->info.version_count);
    int rc = part_write(w, &footer, &part, err);
    if (rc == 0) {
        buf_put_be64(&trailer, part.offset);
        buf_put_be32(&trailer, (uint32_t)part.stored_size);
        buf_put_be32(&trailer, (uint32_t)part.raw_size);
        buf_put_be64(&trailer, w->offset + SEGMENT_TRAILER_BYTES);
        buf_put_be32(&trailer, SEGMENT_VERSION);
        buf_put(&trailer, SEGMENT_END_MAGIC, SEGMENT_MAGIC_BYTES);
        rc = out_put(w, buf_slice(&trailer), err);
    }
    buf_release(&footer);
    buf_release(&trailer);
    return rc;
}

static int
finish_parts(struct segment_writer *w, struct pgs_err *err)
{
    struct part_ref txns = { 0 };
    int rc = run_end(w, err);
    if (rc == 0)
        rc = page_end(w, err);
    if (rc == 0 && w->info.txn_count > 0)
        rc = part_write(w, &w->txns, &txns, err);
    if (rc == 0)
        rc = footer_write(w, &txns, err);
    if (rc == 0)
        rc = out_flush(w, err);
    if (rc == 0 && EVP_DigestFinal_ex(w->sha, w->info.sha256, NULL) != 1)
        rc = err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    return rc;
}

int
segment_writer_finish(struct segment_writer *w, struct segment_info *info, struct pgs_err *err)
{
    int rc = w->failed ? err_set(err, PGS_E_STORE, "an earlier write failed") : 0;
    if (rc == 0)
        rc = finish_parts(w, err);
    if (rc < 0) {
        (void)err_doing(err, "write segment %s", w->info.name);
        segment_writer_abort(w);
        return err->kind;
    }
    w->info.size = w->offset;
    if (w->info.version_count > 0)
        w->info.lsn.end++; /* half-open */
    rc = store_upload_finish(w->upload, err);
    if (rc == 0)
        *info = w->info;
    writer_free(w);
    return rc;
}

void
segment_writer_abort(struct segment_writer *w)
{
    if (w == NULL)
        return;
    store_upload_abort(w->upload);
    writer_free(w);
}
