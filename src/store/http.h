/* http.h: one HTTP exchange after the other on connections that stay open; libcurl lives behind it.
 *
 *     pool = http_pool_new(); http_send(pool, &request, &answer, err); http_answer_release(&answer)
 *
 * Any number of threads: each exchange has a connection of its own, kept for the next. Redirects
 * are not followed, certificates are always checked. Nothing is tried twice here. */
#ifndef STORE_HTTP_H
#define STORE_HTTP_H

#include "core/buf.h"
#include <pgstrata/error.h>

#include <stdatomic.h>

struct http_pool;

struct http_pair {
    const char *name;
    const char *value;
};

struct http_request {
    const char *method; /* GET, HEAD, PUT, POST, DELETE */
    const char *url;
    const struct http_pair *headers; /* names in lower case */
    size_t header_count;
    struct slice body;   /* of PUT and POST */
    struct buf *into;    /* gets the body of a 200 or 206, appended; NULL: answer->text gets it */
    const char *ca_file; /* NULL: the system's */
    int64_t timeout_ms;  /* for the whole exchange; 0: only a stall ends it */
    const atomic_bool *interrupted; /* once true, the exchange ends; NULL: nothing ends it */
    bool direct;                    /* never through a proxy of the environment */
};

/* Zeroed before its first use; what is in it belongs to it until the next exchange. */
struct http_answer {
    int status;
    struct buf text;
    char etag[128];        /* with its quotes; "": none */
    char region[64];       /* x-amz-bucket-region */
    uint64_t length;       /* Content-Length of what HEAD asked for */
    int64_t date_s;        /* Date, seconds of Unix; -1: none */
    int64_t modified_s;    /* Last-Modified, as date_s */
    int64_t retry_after_s; /* 0: not said */
};

struct http_pool *http_pool_new(void);
void http_pool_free(struct http_pool *p); /* accepts NULL; no exchange is under way */

/* 0: an answer came, whatever its status. PGS_E_STORE: none came whole, and nobody knows whether
 * the request was carried out; *into is as it was. */
PGS_CHECKED int http_send(struct http_pool *p, const struct http_request *request,
                          struct http_answer *answer, struct pgs_err *err);
void http_answer_release(struct http_answer *answer);

#endif
