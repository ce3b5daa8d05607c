/* segment_writer.c: versions become blocks, blocks runs, runs directory pages, as they come; only
 * the page index, the transaction table and the block being filled stay in memory. */
#include "strata/segment_format.h"

#include "core/err.h"
#include "core/random.h"
#include "strata/version_codec.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/* Handed to the upload at a time. */
#define OUT_BYTES ((size_t)256 << 10)
#define COMPRESSION_DEFAULT 1

struct page {
    struct part_ref part;
    uint64_t run_count;
    struct slice first; /* encoded run id */
    struct page *next;
};

struct segment_writer {
    struct store_upload *upload;
    struct segment_info info;
    size_t block_bytes;
    int level;
    struct budget *budget;
    size_t charged; /* to the budget, beside the arena */
    struct part_codec *codec;
    EVP_MD_CTX *sha;
    struct arena *arena; /* page index */
    struct buf out;      /* bytes not yet handed to the upload */
    uint64_t offset;     /* of the end of `out` in the object */
    struct pgs_err failure;
    bool failed; /* then failure says why */

    /* the current run; its id stays for the order of the next */
    bool has_run, in_run;
    struct run_id run;
    struct buf run_tenant; /* what run.tenant.key points to */
    struct buf run_blocks; /* encoded */
    uint64_t run_versions, run_block_count;
    struct pgs_lsn_range run_lsn;

    /* the current block */
    struct buf block, first_key;
    struct version_codec versions;
    uint64_t block_versions;
    struct pgs_lsn_range block_lsn;
    pgs_lsn last_lsn; /* of the version before, over blocks too */
    uint64_t last_sequence;

    /* the current page, and those written */
    struct buf page, page_first;
    uint64_t page_runs, page_count;
    struct page *pages, **pages_end;

    struct buf txns;
    pgs_lsn txn_last;
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

static void
put_part_ref(struct buf *out, const struct part_ref *part)
{
    buf_put_varint(out, part->offset);
    buf_put_varint(out, part->stored_size);
    buf_put_varint(out, part->raw_size);
}

static void
put_lsn_range(struct buf *out, const struct pgs_lsn_range *range)
{
    buf_put_be64(out, range->begin);
    buf_put_be64(out, range->end);
}

/* An empty range (0, 0) takes the other's place. */
static void
range_widen(struct pgs_lsn_range *range, pgs_lsn begin, pgs_lsn end)
{
    if (range->end == 0 || begin < range->begin)
        range->begin = begin;
    if (end > range->end)
        range->end = end;
}

/* --- bytes of the object --- */

static int
out_flush(struct segment_writer *w, struct pgs_err *err)
{
    int rc = 0;
    if (w->out.size == 0)
        return 0;
    if (EVP_DigestUpdate(w->sha, w->out.data, w->out.size) != 1)
        rc = err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    if (rc == 0)
        rc = store_upload_write(w->upload, buf_slice(&w->out), err);
    buf_reset(&w->out);
    return rc;
}

static int
out_put(struct segment_writer *w, struct slice bytes, struct pgs_err *err)
{
    buf_put_slice(&w->out, bytes);
    w->offset += bytes.size;
    return w->out.size >= OUT_BYTES ? out_flush(w, err) : 0;
}

static int
part_write(struct segment_writer *w, const struct buf *raw, struct part_ref *part,
           struct pgs_err *err)
{
    size_t before = w->out.size;
    if (buf_failed(raw))
        return err_set(err, PGS_E_FAILED, "a part of the directory is too large");
    int rc = part_pack(w->codec, w->level, buf_slice(raw), &w->out, err);
    if (rc < 0)
        return rc;
    *part = (struct part_ref){ w->offset, w->out.size - before, raw->size };
    w->offset += part->stored_size;
    return w->out.size >= OUT_BYTES ? out_flush(w, err) : 0;
}

/* --- new --- */

static int
header_write(struct segment_writer *w, struct pgs_err *err)
{
    uint8_t id[SEGMENT_ID_BYTES];
    struct buf header = { 0 };
    random_bytes(id, sizeof(id));
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
    struct buf *const bufs[] = { &w->out,       &w->run_tenant, &w->run_blocks, &w->block,
                                 &w->first_key, &w->page,       &w->page_first, &w->txns };
    part_codec_give(w->codec);
    EVP_MD_CTX_free(w->sha);
    arena_free(w->arena);
    version_codec_release(&w->versions);
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_release(bufs[i]);
    budget_give(w->budget, w->charged);
    free(w);
}

/* A block, its packed form, and what waits for the upload. */
static void
writer_charge(struct segment_writer *w)
{
    w->charged = 2 * w->block_bytes + OUT_BYTES;
    budget_take(w->budget, w->charged);
}

int
segment_writer_new(struct store *store, const char *name, const struct segment_opts *opts,
                   struct segment_writer **writer, struct pgs_err *err)
{
    static const struct segment_opts defaults;
    struct segment_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        abort();
    if (opts == NULL)
        opts = &defaults;
    pgs_assert(strlen(name) < sizeof(w->info.name));
    snprintf(w->info.name, sizeof(w->info.name), "%s", name);
    w->info.time_min = w->info.time_max = PGS_TIME_NONE;
    w->block_bytes = opts->block_bytes > 0 ? opts->block_bytes : SEGMENT_BLOCK_BYTES;
    w->level = opts->compression != 0 ? opts->compression : COMPRESSION_DEFAULT;
    w->budget = opts->budget;
    writer_charge(w);
    w->arena = arena_new(w->budget);
    w->pages_end = &w->pages;
    w->codec = part_codec_take();
    w->sha = EVP_MD_CTX_new();
    if (w->sha == NULL)
        abort();
    int rc = EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL) == 1
                 ? 0
                 : err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    if (rc == 0)
        rc = store_upload_begin(store, name, &w->upload, err);
    if (rc == 0)
        rc = header_write(w, err);
    if (rc < 0) {
        segment_writer_abort(w);
        return err_doing(err, "write segment %s", name);
    }
    *writer = w;
    return 0;
}

/* --- blocks, runs, pages --- */

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
    put_part_ref(&w->run_blocks, &part);
    buf_put_varint(&w->run_blocks, w->block_versions);
    put_lsn_range(&w->run_blocks, &w->block_lsn);
    buf_put_varslice(&w->run_blocks, buf_slice(&w->first_key));
    buf_put_varslice(&w->run_blocks, buf_slice(&w->versions.key));
    range_widen(&w->run_lsn, w->block_lsn.begin, w->block_lsn.end);
    w->run_versions += w->block_versions;
    w->run_block_count++;
    w->block_versions = 0;
    w->block_lsn = (struct pgs_lsn_range){ 0, 0 };
    buf_reset(&w->block);
    version_codec_begin(&w->versions);
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

static void
page_add_run(struct segment_writer *w)
{
    if (w->page_runs == 0) {
        buf_reset(&w->page_first);
        put_run_id(&w->page_first, &w->run);
    }
    put_run_id(&w->page, &w->run);
    buf_put_varint(&w->page, w->run_versions);
    put_lsn_range(&w->page, &w->run_lsn);
    buf_put_varint(&w->page, w->run_block_count);
    buf_put_slice(&w->page, buf_slice(&w->run_blocks));
    w->page_runs++;
}

/* Pages are written between blocks, when one is full: nothing but their index stays in memory. */
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
    page_add_run(w);
    range_widen(&w->info.lsn, w->run_lsn.begin, w->run_lsn.end);
    w->info.version_count += w->run_versions;
    return w->page.size >= SEGMENT_PAGE_BYTES ? page_end(w, err) : 0;
}

static int
fails(struct segment_writer *w, int rc, const struct pgs_err *err)
{
    if (rc < 0 && !w->failed) {
        w->failed = true;
        w->failure = *err;
    }
    return rc;
}

static int
failed_before(const struct segment_writer *w, struct pgs_err *err)
{
    *err = w->failure;
    return err->kind;
}

/* A failure to write what the run before still held is told by the next call that can. */
void
segment_writer_run_begin(struct segment_writer *w, const struct run_id *run)
{
    struct pgs_err err;
    pgs_assert(!w->has_run || run_id_compare(&w->run, run) < 0);
    if (!w->failed)
        (void)fails(w, run_end(w, &err), &err);
    w->run = *run;
    buf_reset(&w->run_tenant);
    buf_put_slice(&w->run_tenant, run->tenant.key);
    w->run.tenant.key = buf_slice(&w->run_tenant);
    buf_reset(&w->run_blocks);
    w->run_versions = w->run_block_count = 0;
    w->run_lsn = (struct pgs_lsn_range){ 0, 0 };
    w->has_run = w->in_run = true;
}

/* The merge relies on the order; a wrong one in the archive would be there for ever. */
static bool
follows(const struct segment_writer *w, const struct version *v)
{
    const struct version last = { .key = buf_slice(&w->versions.key),
                                  .commit_lsn = w->last_lsn,
                                  .sequence = w->last_sequence };
    bool first_of_run = w->block_versions == 0 && w->run_block_count == 0;
    return first_of_run || version_compare(&last, v) < 0;
}

int
segment_writer_add(struct segment_writer *w, const struct version *v, struct pgs_err *err)
{
    pgs_assert(w->in_run);
    if (w->failed)
        return failed_before(w, err);
    pgs_assert(follows(w, v));
    if (w->block.size >= w->block_bytes) {
        int rc = fails(w, block_end(w, err), err);
        if (rc < 0)
            return rc;
    }
    if (w->block_versions == 0) {
        buf_reset(&w->first_key);
        buf_put_slice(&w->first_key, v->key);
    }
    version_encode(&w->versions, &w->block, v);
    if (buf_failed(&w->block))
        return fails(
            w, err_set(err, PGS_E_FAILED, "a version of %zu bytes is too large", v->row.size), err);
    range_widen(&w->block_lsn, v->commit_lsn, v->commit_lsn + 1);
    w->last_lsn = v->commit_lsn;
    w->last_sequence = v->sequence;
    w->block_versions++;
    return 0;
}

/* --- transactions, footer --- */

int
segment_writer_txn(struct segment_writer *w, const struct txn *t, struct pgs_err *err)
{
    struct segment_info *i = &w->info;
    pgs_assert(t->commit_lsn > w->txn_last);
    if (w->failed)
        return failed_before(w, err);
    w->txn_last = t->commit_lsn;
    buf_put_be64(&w->txns, t->commit_lsn);
    buf_put_be64(&w->txns, t->commit_end_lsn);
    buf_put_be64(&w->txns, (uint64_t)t->commit_time);
    buf_put_be64(&w->txns, t->xid);
    buf_put_u8(&w->txns, (uint8_t)((t->actor.data != NULL ? TXN_HAS_ACTOR : 0) |
                                   (t->restore_id.data != NULL ? TXN_HAS_RESTORE : 0)));
    if (t->actor.data != NULL)
        buf_put_varslice(&w->txns, t->actor);
    if (t->restore_id.data != NULL)
        buf_put_varslice(&w->txns, t->restore_id);
    if (i->time_min == PGS_TIME_NONE || t->commit_time < i->time_min)
        i->time_min = t->commit_time;
    if (i->time_max == PGS_TIME_NONE || t->commit_time > i->time_max)
        i->time_max = t->commit_time;
    i->txn_count++;
    return 0;
}

static int
trailer_write(struct segment_writer *w, const struct part_ref *footer, struct pgs_err *err)
{
    struct buf trailer = { 0 };
    if (footer->stored_size > UINT32_MAX || footer->raw_size > UINT32_MAX)
        return err_set(err, PGS_E_FAILED, "the footer is too large");
    buf_put_be64(&trailer, footer->offset);
    buf_put_be32(&trailer, (uint32_t)footer->stored_size);
    buf_put_be32(&trailer, (uint32_t)footer->raw_size);
    buf_put_be64(&trailer, w->offset + SEGMENT_TRAILER_BYTES);
    buf_put_be32(&trailer, SEGMENT_VERSION);
    buf_put(&trailer, SEGMENT_END_MAGIC, SEGMENT_MAGIC_BYTES);
    int rc = out_put(w, buf_slice(&trailer), err);
    buf_release(&trailer);
    return rc;
}

static int
footer_write(struct segment_writer *w, const struct part_ref *txns, struct pgs_err *err)
{
    struct buf footer = { 0 };
    struct part_ref part;
    buf_put_varint(&footer, w->page_count);
    for (const struct page *p = w->pages; p != NULL; p = p->next) {
        buf_put_slice(&footer, p->first);
        put_part_ref(&footer, &p->part);
        buf_put_varint(&footer, p->run_count);
    }
    put_part_ref(&footer, txns);
    buf_put_varint(&footer, w->info.txn_count);
    buf_put_varint(&footer, w->info.version_count);
    int rc = part_write(w, &footer, &part, err);
    if (rc == 0)
        rc = trailer_write(w, &part, err);
    buf_release(&footer);
    return rc;
}

static int
finish_parts(struct segment_writer *w, struct pgs_err *err)
{
    struct part_ref txns = { 0 };
    int rc = w->failed ? failed_before(w, err) : run_end(w, err);
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
    int rc = finish_parts(w, err);
    if (rc == 0) {
        w->info.size = w->offset;
        rc = store_upload_finish(w->upload, err);
        w->upload = NULL; /* whatever it answered */
    }
    if (rc == 0)
        *info = w->info;
    else
        (void)err_doing(err, "write segment %s", w->info.name);
    segment_writer_abort(w);
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
