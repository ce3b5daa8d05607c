/* s3_sign.c: canonical request -> its hash in a string to sign -> HMAC under a key that is derived
 * from secret, day, region and service. */
#include "store/s3_sign.h"

#include "core/calendar.h"
#include "core/err.h"
#include "store/percent.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#define DIGEST_BYTES 32
#define DAY_S 86400
#define PAIRS_MAX 16
#define ALGORITHM "AWS4-HMAC-SHA256"

static int
pair_order(const void *a, const void *b)
{
    return strcmp(((const struct http_pair *)a)->name, ((const struct http_pair *)b)->name);
}

static void
pairs_sort(const struct http_pair *pairs, size_t count, struct http_pair sorted[PAIRS_MAX])
{
    pgs_assert(count <= PAIRS_MAX);
    for (size_t i = 0; i < count; i++)
        sorted[i] = pairs[i];
    if (count > 1)
        qsort(sorted, count, sizeof(*sorted), pair_order);
}

void
sign_query(struct buf *out, const struct http_pair *pairs, size_t count)
{
    struct http_pair sorted[PAIRS_MAX];
    pairs_sort(pairs, count, sorted);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_put_u8(out, '&');
        percent_encode(out, sorted[i].name, false);
        buf_put_u8(out, '=');
        percent_encode(out, sorted[i].value, false);
    }
}

static const char *
hex(const uint8_t digest[DIGEST_BYTES], char text[SIGN_SHA256_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[2 * (size_t)DIGEST_BYTES] = '\0';
    return text;
}

const char *
sign_sha256(struct slice bytes, char text[SIGN_SHA256_TEXT])
{
    uint8_t digest[DIGEST_BYTES];
    const void *data = bytes.size > 0 ? (const void *)bytes.data : "";
    pgs_assert(EVP_Digest(data, bytes.size, digest, NULL, EVP_sha256(), NULL) == 1);
    return hex(digest, text);
}

const char *
sign_date(int64_t unix_s, char text[SIGN_DATE_TEXT])
{
    struct calendar_date d = calendar_date(unix_s / DAY_S);
    int s = (int)(unix_s % DAY_S);
    pgs_assert(unix_s >= 0 && d.year <= 9999);
    snprintf(text, SIGN_DATE_TEXT, "%04u%02u%02uT%02u%02u%02uZ", (unsigned)d.year % 10000,
             (unsigned)d.month % 100, (unsigned)d.day % 100, (unsigned)(s / 3600) % 100,
             (unsigned)(s / 60 % 60) % 100, (unsigned)(s % 60) % 100);
    return text;
}

/* key and mac may be the same memory. */
static void
hmac(const void *key, size_t key_size, struct slice text, uint8_t mac[DIGEST_BYTES])
{
    uint8_t result[DIGEST_BYTES];
    pgs_assert(HMAC(EVP_sha256(), key, (int)key_size, text.data, text.size, result, NULL) != NULL);
    memcpy(mac, result, DIGEST_BYTES);
    OPENSSL_cleanse(result, sizeof(result));
}

/* "a;b;c", the names that are signed. */
static void
signed_names(struct buf *out, const struct http_pair *sorted, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s", i > 0 ? ";" : "", sorted[i].name);
}

static void
canonical_request(struct buf *out, const struct sign_request *r, const struct http_pair *sorted)
{
    buf_printf(out, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (size_t i = 0; i < r->header_count; i++)
        buf_printf(out, "%s:%s\n", sorted[i].name, sorted[i].value);
    buf_put_u8(out, '\n');
    signed_names(out, sorted, r->header_count);
    buf_printf(out, "\n%s", r->payload_sha256);
}

static void
signature(struct slice to_sign, const struct sign_scope *scope, const char *secret_key,
          const char *day, char text[SIGN_SHA256_TEXT])
{
    uint8_t key[DIGEST_BYTES];
    struct buf first = { 0 };
    buf_printf(&first, "AWS4%s", secret_key);
    hmac(first.data, first.size, slice_of(day, 8), key);
    hmac(key, sizeof(key), slice_str(scope->region), key);
    hmac(key, sizeof(key), slice_str(scope->service), key);
    hmac(key, sizeof(key), slice_str("aws4_request"), key);
    hmac(key, sizeof(key), to_sign, key);
    (void)hex(key, text);
    OPENSSL_cleanse(first.data, first.size);
    buf_release(&first);
}

void
sign_authorization(struct buf *out, const struct sign_request *request,
                   const struct sign_scope *scope, const struct sign_keys *keys)
{
    struct http_pair sorted[PAIRS_MAX];
    char date[SIGN_DATE_TEXT], hash[SIGN_SHA256_TEXT];
    struct buf text = { 0 };
    pairs_sort(request->headers, request->header_count, sorted);
    canonical_request(&text, request, sorted);
    (void)sign_sha256(buf_slice(&text), hash);
    buf_reset(&text);
    (void)sign_date(scope->unix_s, date);
    buf_printf(&text, "%s\n%s\n%.8s/%s/%s/aws4_request\n%s", ALGORITHM, date, date, scope->region,
               scope->service, hash);
    signature(buf_slice(&text), scope, keys->secret_key, date, hash);
    buf_printf(out, "%s Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=", ALGORITHM,
               keys->access_key, date, scope->region, scope->service);
    signed_names(out, sorted, request->header_count);
    buf_printf(out, ",Signature=%s", hash);
    buf_release(&text);
}
