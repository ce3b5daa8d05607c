/* s3_sign.h: AWS Signature Version 4, as S3 wants it. Pure, thread-safe.
 *
 * Path and query are signed as they are sent, so both are percent-encoded in the one
 * way that the signature knows (store/percent.h), the query sorted. */
#ifndef STORE_S3_SIGN_H
#define STORE_S3_SIGN_H

#include "store/http.h"

#define SIGN_SHA256_TEXT 65 /* 64 hex digits and a NUL */
#define SIGN_DATE_TEXT 17   /* 20130524T000000Z */

struct sign_keys {
    const char *access_key;
    const char *secret_key;
};

struct sign_scope {
    const char *region;
    const char *service; /* "s3", "sts" */
    int64_t unix_s;      /* now, as the server sees it */
};

struct sign_request {
    const char *method;
    const char *path;  /* encoded, from the first slash on */
    const char *query; /* of sign_query; "": none */
    /* All are signed: host, x-amz-date and x-amz-content-sha256 among them. Names in lower case,
     * each once, in any order. */
    const struct http_pair *headers;
    size_t header_count;
    const char *payload_sha256;
};

/* Appends "a=1&b=" sorted by name; names are plain. */
void sign_query(struct buf *out, const struct http_pair *pairs, size_t count);
const char *sign_sha256(struct slice bytes, char text[SIGN_SHA256_TEXT]);
const char *sign_date(int64_t unix_s, char text[SIGN_DATE_TEXT]);
/* Appends the value of the header Authorization. */
void sign_authorization(struct buf *out, const struct sign_request *request,
                        const struct sign_scope *scope, const struct sign_keys *keys);

#endif
