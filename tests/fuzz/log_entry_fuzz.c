/* log_entry_fuzz.c: the parser of log entries. An even first byte: the rest is an entry as stored.
 * An odd one: it is the JSON of an entry, and gets a MAC that is right. What is accepted must be
 * written again, and read again as the same. */
#include "core/err.h"
#include "strata/log_entry.h"

#include <openssl/sha.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
seal(struct buf *bytes)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    buf_put_str(bytes, "\n");
    SHA256(bytes->data, bytes->size, digest);
    buf_put_str(bytes, "mac 0 0 ");
    for (size_t i = 0; i < sizeof(digest); i++)
        buf_printf(bytes, "%02x", digest[i]);
    buf_put_str(bytes, "\n");
}

static void
check_same(const struct log_entry *a, const struct log_entry *b)
{
    pgs_assert(a->number == b->number && a->kind == b->kind && a->era == b->era);
    pgs_assert(a->range.begin == b->range.begin && a->range.end == b->range.end);
    pgs_assert(a->system_id == b->system_id && a->created == b->created);
    pgs_assert(slice_equal(a->archive_id, b->archive_id) && slice_equal(a->reason, b->reason));
    pgs_assert(a->segment_count == b->segment_count && a->shape_count == b->shape_count);
    pgs_assert(a->base_count == b->base_count && a->break_count == b->break_count);
    pgs_assert(a->restore_point_count == b->restore_point_count);
    pgs_assert(a->barrier_count == b->barrier_count);
    pgs_assert(memcmp(a->mac, b->mac, sizeof(a->mac)) == 0);
    for (size_t i = 0; i < a->segment_count; i++)
        pgs_assert(memcmp(&a->segments[i], &b->segments[i], sizeof(a->segments[i])) == 0);
}

static void
check_again(struct log_entry *e, struct arena *arena)
{
    struct buf bytes = { 0 };
    struct log_entry *again;
    struct pgs_err err;
    int rc = log_entry_encode(e, &bytes, &err);
    pgs_assert(rc == 0);
    rc = log_entry_decode(buf_slice(&bytes), arena, &again, &err);
    pgs_assert(rc == 0);
    check_same(e, again);
    buf_release(&bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(NULL);
    struct buf bytes = { 0 };
    struct log_entry *e;
    struct pgs_err err;
    if (size > 0)
        buf_put(&bytes, data + 1, size - 1);
    if (size > 0 && (data[0] & 1) != 0)
        seal(&bytes);
    int rc = log_entry_decode(buf_slice(&bytes), arena, &e, &err);
    pgs_assert(rc == 0 || ((rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED) && err.message[0] != '\0'));
    if (rc == 0)
        check_again(e, arena);
    buf_release(&bytes);
    arena_free(arena);
    return 0;
}
