#include "strata/segment_internal.h"

#include "core/err.h"

#include <openssl/evp.h>

#define CHUNK_BYTES ((uint64_t)1 << 20)

static int
verify_digest(struct store *store, const struct segment_info *expected, struct pgs_err *err)
{
    uint8_t digest[32];
    struct buf chunk = { 0 };
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    int rc = sha != NULL && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1
                 ? 0
                 : err_set(err, PGS_E_FAILED, "cannot compute SHA-256");
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
    if (rc == 0 && memcmp(digest, expected->sha256, sizeof(digest)) != 0)
        rc =
            err_set(err, PGS_E_CORRUPT, "segment %s: its SHA-256 is not the log's", expected->name);
    buf_release(&chunk);
    EVP_MD_CTX_free(sha);
    return rc;
}

static int
wrong(const struct segment *s, const char *what, struct pgs_err *err)
{
    return err_set(err, PGS_E_CORRUPT, "segment %s: %s", s->name, what);
}

/* Order of versions, and the directory against what the blocks hold. */
static int
verify_run(struct segment *s, const struct run_ref *run, struct pgs_err *err)
{
    struct run_cursor *c = NULL;
    struct version v, last = { 0 };
    struct buf last_key = { 0 };
    uint64_t count = 0;
    int rc = run_cursor_open(s, run, &c, err);
    while (rc == 0 && (rc = run_cursor_next(c, &v, err)) == 0) {
        last.key = buf_slice(&last_key);
        if (count > 0 && version_compare(&last, &v) >= 0)
            rc = wrong(s, "versions are out of order", err);
        else if (v.commit_lsn < run->lsn.begin || v.commit_lsn >= run->lsn.end)
            rc = wrong(s, "a version lies outside its run's LSN range", err);
        last = v;
        buf_reset(&last_key);
        buf_put_slice(&last_key, v.key);
        count++;
    }
    if (rc == PGS_NONE)
        rc =
            count == run->version_count ? 0 : wrong(s, "a run has another number of versions", err);
    buf_release(&last_key);
    run_cursor_close(c);
    return rc;
}

static int
verify_runs(struct segment *s, struct pgs_err *err)
{
    struct arena *arena = arena_new(NULL);
    struct run_ref *runs;
    struct run_id last = { 0 };
    size_t position = 0, count;
    uint64_t versions = 0;
    bool first = true;
    struct arena *names = arena_new(NULL);
    int rc;
    while ((rc = segment_page(s, &position, arena, &runs, &count, err)) == 0) {
        for (size_t i = 0; rc == 0 && i < count; i++) {
            if (!first && run_id_compare(&last, &runs[i].id) >= 0)
                rc = wrong(s, "runs are out of order", err);
            if (rc == 0)
                rc = verify_run(s, &runs[i], err);
            versions += runs[i].version_count;
            last = runs[i].id;
            first = false;
        }
        if (rc < 0)
            break;
        arena_reset(names);
        last.tenant.key = arena_dup(names, last.tenant.key);
        arena_reset(arena);
    }
    if (rc == PGS_NONE)
        rc = versions == s->version_count ? 0 : wrong(s, "it has another number of versions", err);
    arena_free(names);
    arena_free(arena);
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
        rc = verify_runs(s, err);
    if (rc == 0)
        rc = segment_txns(s, arena, &txns, &txn_count, err);
    if (rc == 0 &&
        (s->version_count != expected->version_count || txn_count != expected->txn_count))
        rc = wrong(s, "its counts are not the log's", err);
    segment_close(s);
    arena_free(arena);
    return rc;
}
