/* s3_client.h: one signed request to S3, tried until it is answered or its time is over.
 *
 * Retried (s3_retry.h): lost connections, stalls, 5xx, 429, SlowDown, a 409 of two writers at once.
 * Once each, at once: a clock that is wrong (the server's Date corrects it), keys that have
 * expired (they are read anew). Any number of threads. */
#ifndef STORE_S3_CLIENT_H
#define STORE_S3_CLIENT_H

#include "store/http.h"
#include "store/s3_config.h"
#include "store/s3_retry.h"
#include "store/s3_xml.h"

#define S3_PAIRS_MAX 6

struct s3_client;

struct s3_call {
    const char *method;
    const char *name; /* of the object, below the store's prefix; NULL: the bucket is asked */
    struct http_pair query[S3_PAIRS_MAX];
    size_t query_count;
    struct http_pair headers[S3_PAIRS_MAX]; /* names in lower case */
    size_t header_count;
    struct slice body;
    struct buf *into; /* gets the bytes of a 200 or 206 */
};

/* Zeroed before its first use. */
struct s3_answer {
    struct http_answer http;
    struct xml_s3_error error; /* of a 404, 412 or 416 */
    /* An earlier try was not answered, or by a 5xx: it may have been carried out. */
    bool repeated;
};

/* Nothing is sent yet. `clock` must outlive the client. */
PGS_CHECKED int s3_client_new(const char *url, const struct retry_clock *clock,
                              struct s3_client **client, struct pgs_err *err);
void s3_client_free(struct s3_client *c); /* accepts NULL */
/* Calls under way, and later ones, fail soon. Any thread. */
void s3_client_interrupt(struct s3_client *c);
const struct s3_config *s3_client_config(const struct s3_client *c);

/* 0: the status is 2xx, or 404 for an object or upload that is not there, 412 or 416. All others
 * are PGS_E_STORE; *call->into is then as it was. */
PGS_CHECKED int s3_call(struct s3_client *c, const struct s3_call *call, struct s3_answer *answer,
                        struct pgs_err *err);
/* An answer of 2xx whose body says that it failed after all. PGS_E_STORE. */
int s3_answer_failed(const struct s3_answer *answer, struct pgs_err *err);
void s3_answer_release(struct s3_answer *answer);

#endif
