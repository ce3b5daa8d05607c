/* manifest_fuzz.c: manifests of portable backups. As they come, and under a checksum made right, so
 * that the fields behind it are reached. What is accepted is written back to the same meaning. */
#include "control/manifest.h"
#include "core/err.h"
#include "pg/digest.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(struct slice bytes)
{
    struct pgs_err err;
    struct manifest manifest, again;
    struct buf first = { 0 }, second = { 0 };
    struct arena *arena = arena_new(NULL);
    int rc = manifest_decode(bytes, arena, &manifest, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT || rc == PGS_E_REFUSED);
    if (rc == 0) {
        pgs_assert(manifest_encode(&manifest, &first, &err) == 0);
        pgs_assert(manifest_decode(buf_slice(&first), arena, &again, &err) == 0);
        pgs_assert(manifest_encode(&again, &second, &err) == 0);
        pgs_assert(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    buf_release(&first);
    buf_release(&second);
    arena_free(arena);
}

static void
check_signed(struct slice bytes)
{
    char hex[DIGEST_HEX_SIZE];
    json_t *root = json_loadb((const char *)bytes.data, bytes.size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(root)) {
        err_ignore(json_object_del(root, "manifest_checksum"));
        char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
        pgs_assert(text != NULL);
        digest_sha256_hex(slice_str(text), hex);
        free(text);
        pgs_assert(json_object_set_new(root, "manifest_checksum", json_string(hex)) == 0);
        text = json_dumps(root, 0);
        pgs_assert(text != NULL);
        check(slice_str(text));
        free(text);
    }
    json_decref(root);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(slice_of(data, size));
    if (size > 0)
        check_signed(slice_of(data, size));
    return 0;
}
