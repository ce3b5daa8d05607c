/* s3_xml_fuzz.c: everything that reads XML of a store. What a list accepts has a key without NUL
 * and ends before the limit; no reader changes its answer when it reads again. */
#include "core/err.h"
#include "store/s3_xml.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
count_object(void *context, const char *key, uint64_t size, const char *modified,
             struct pgs_err *err)
{
    (void)size;
    (void)err;
    pgs_assert(key[0] != '\0' && strlen(key) <= 3072 && strlen(modified) < 64);
    ++*(size_t *)context;
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char token[XML_TOKEN_MAX] = "", again[XML_TOKEN_MAX] = "", text[32];
    struct xml_s3_error error;
    struct pgs_err err;
    struct slice document = slice_of(data, size);
    size_t first = 0, second = 0;
    int rc = xml_object_list(document, count_object, &first, token, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
    pgs_assert(xml_object_list(document, count_object, &second, again, &err) == rc);
    pgs_assert(first == second && strcmp(token, again) == 0);
    rc = xml_text(document, "ListBucketResult/IsTruncated", text, sizeof(text), &err);
    pgs_assert(rc != 0 || strlen(text) < sizeof(text));
    xml_s3_error(document, &error);
    return 0;
}
