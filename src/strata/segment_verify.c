/* segment_verify.c: reads a segment whole and holds everything it says twice against each other:
 * bytes against the log's SHA-256, parts against their checksums, versions against their order,
 * directory against blocks, footer against directory, log against footer. */
#include "strata/segment_internal.h"

#include "core/err.h"

#include <openssl/evp.h>

#define CHUNK_BYTES ((uint64_t)1 << 20)

static int
digest_object(struct store *store, const struct segment_info *expected, EVP_MD_CTX *sha,
              uint8_t digest[32], struct pgs_err *err)
{
    struct buf chunk = { 0 };
    int rc = 0;
    if (EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
        return err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    for (uint64_t at = 0; rc == 0 && at < expected->size; at += CHUNK_BYTES) {
        uint64_t left = expected->size - at;
        struct store_range range = { at, left < CHUNK_BYTES ? left : CHUNK_BYTES };
        buf_reset(&chunk);
        rc = store_get(store, expected->name, &range, &chunk, err);
        if (rc == PGS_NONE)
            rc = err_set(err, PGS_E_CORRUPT, "segment %s is missing", expected->name);
        if (rc == 0 && EVP_DigestUpdate(sha, chunk.data, chunk.size) != 1)
            rc = err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    }
    if (rc == 0 && EVP_DigestFinal_ex(sha, digest, NULL) != 1)
        rc = err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
    buf_release(&chunk);
    return rc;
}

static int
verify_digest(struct store *store, const struct segment_info *expected, struct pgs_err *err)
{
    uint8_t digest[32];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    pgs_assert(sha != NULL);
    int rc = digest_object(store, expected, sha, digest, err);
    EVP_MD_CTX_free(sha);
    if (rc == 0 && memcmp(digest, expected->sha256, sizeof(digest)) != 0)
        rc =
            err_set(err, PGS_E_CORRUPT, "segment %s: its SHA-256 is not the log's", expected->name);
    return rc;
}

static int
verify_header(struct segment *s, struct pgs_err *err)
{
    struct buf header = { 0 };
    int rc = store_get(s->store, s->name, &(struct store_range){ 0, SEGMENT_HEADER_BYTES }, &header,
                       err);
    if (rc == PGS_NONE)
        rc = segment_corrupt(s, err, "the object is missing");
    if (rc == 0) {
        struct cursor c = cursor_of(buf_slice(&header));
        struct slice magic = cursor_bytes(&c, SEGMENT_MAGIC_BYTES);
        if (!slice_equal(magic, slice_of(SEGMENT_MAGIC, SEGMENT_MAGIC_BYTES)) ||
            cursor_be32(&c) != SEGMENT_VERSION)
            rc = segment_corrupt(s, err, "its start is not a segment's");
    }
    buf_release(&header);
    return rc;
}

/* What was seen of the run, and of the block the last version lies in. */
struct walk {
    const struct run_ref *run;
    size_t block;            /* index of the block */
    uint64_t in_block, seen; /* versions */
    struct pgs_lsn_range block_lsn, run_lsn;
    struct version last; /* its key lives in last_key */
    struct buf last_key;
};

static void
widen(struct pgs_lsn_range *range, pgs_lsn lsn)
{
    if (range->end == 0 || lsn < range->begin)
        range->begin = lsn;
    if (lsn >= range->end)
        range->end = lsn + 1;
}

static bool
range_is(const struct pgs_lsn_range *a, const struct pgs_lsn_range *b)
{
    return a->begin == b->begin && a->end == b->end;
}

/* NULL: all well so far. */
static const char *
walk_version(struct walk *w, const struct version *v)
{
    const struct block_ref *b = &w->run->blocks[w->block];
    w->last.key = buf_slice(&w->last_key);
    if (w->seen > 0 && version_compare(&w->last, v) >= 0)
        return "versions are out of order";
    if (w->in_block == 0 && slice_compare(b->first_key, v->key) != 0)
        return "a block has another first key than the directory says";
    widen(&w->block_lsn, v->commit_lsn);
    widen(&w->run_lsn, v->commit_lsn);
    w->seen++;
    if (++w->in_block == b->version_count) {
        if (slice_compare(b->last_key, v->key) != 0)
            return "a block has another last key than the directory says";
        if (!range_is(&w->block_lsn, &b->lsn))
            return "a block has other LSNs than the directory says";
        w->block++;
        w->in_block = 0;
        w->block_lsn = (struct pgs_lsn_range){ 0, 0 };
    }
    w->last = *v;
    buf_reset(&w->last_key);
    buf_put_slice(&w->last_key, v->key);
    return NULL;
}

static int
verify_run(struct segment *s, const struct run_ref *run, struct pgs_err *err)
{
    struct run_cursor *c = NULL;
    struct version v;
    struct walk w = { .run = run };
    const char *wrong = NULL;
    int rc = run_cursor_open(s, run, &c, err);
    while (rc == 0 && wrong == NULL && (rc = run_cursor_next(c, &v, err)) == 0)
        wrong = walk_version(&w, &v);
    if (rc == PGS_NONE) {
        rc = 0;
        if (w.seen != run->version_count)
            wrong = "a run has another number of versions than the directory says";
        else if (!range_is(&w.run_lsn, &run->lsn))
            wrong = "a run has other LSNs than the directory says";
    }
    buf_release(&w.last_key);
    run_cursor_close(c);
    return rc == 0 && wrong != NULL ? segment_corrupt(s, err, "%s", wrong) : rc;
}

/* `last`: of the run before, over pages too. */
static int
verify_page(struct segment *s, const struct run_ref *runs, size_t count, struct run_id *last,
            bool *any, struct pgs_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (*any && run_id_compare(last, &runs[i].id) >= 0)
            return segment_corrupt(s, err, "runs are out of order");
        int rc = verify_run(s, &runs[i], err);
        if (rc < 0)
            return rc;
        *last = runs[i].id;
        *any = true;
    }
    return 0;
}

static int
verify_runs(struct segment *s, struct pgs_err *err)
{
    struct arena *page = arena_new(NULL), *names = arena_new(NULL);
    struct run_ref *runs;
    struct run_id last = { 0 };
    size_t position = 0, count;
    uint64_t versions = 0;
    bool any = false;
    int rc;
    while ((rc = segment_page(s, &position, page, &runs, &count, err)) == 0) {
        if (run_id_compare(&runs[0].id, &s->pages[position - 1].first) != 0)
            rc = segment_corrupt(s, err, "a page has another first run than the footer says");
        if (rc == 0)
            rc = verify_page(s, runs, count, &last, &any, err);
        if (rc < 0)
            break;
        for (size_t i = 0; i < count; i++)
            versions += runs[i].version_count;
        /* The name must outlive its page. */
        arena_reset(names);
        last.tenant.key = arena_dup(names, last.tenant.key);
        arena_reset(page);
    }
    if (rc == PGS_NONE)
        rc =
            versions == s->version_count
                ? 0
                : segment_corrupt(s, err, "it has another number of versions than its footer says");
    arena_free(page);
    arena_free(names);
    return rc;
}

int
segment_verify(struct store *store, const struct segment_info *expected, struct pgs_err *err)
{
    struct segment *s = NULL;
    struct arena *arena = arena_new(NULL);
    struct txn *txns;
    size_t txn_count = 0;
    int rc = segment_open(store, expected->name, expected, &s, err);
    if (rc == 0)
        rc = verify_digest(store, expected, err);
    if (rc == 0)
        rc = verify_header(s, err);
    if (rc == 0)
        rc = verify_runs(s, err);
    if (rc == 0)
        rc = segment_txns(s, arena, &txns, &txn_count, err);
    if (rc == 0 &&
        (s->version_count != expected->version_count || txn_count != expected->txn_count))
        rc = segment_corrupt(s, err, "its counts are not the log's");
    segment_close(s);
    arena_free(arena);
    return rc;
}
