/* http_server.h: a server of a test's own on loopback, whose answers are a function.
 *
 *     s = http_server_new(answer, context); ... http_server_url(s) ...; http_server_free(s)
 *
 * One thread answers one request after the other, each on a connection of its own. */
#ifndef SUPPORT_HTTP_SERVER_H
#define SUPPORT_HTTP_SERVER_H

#include "core/buf.h"

struct server_request {
    const char *method;
    const char *target;  /* path and query, as sent */
    const char *headers; /* all lines */
    struct slice body;
    unsigned number; /* from 1 */
};

struct server_answer {
    int status;
    const char *headers; /* whole lines, each with CRLF; NULL: none */
    struct buf body;
    bool drop; /* the connection ends without a word */
};

typedef void server_answer_fn(void *context, const struct server_request *request,
                              struct server_answer *answer);

struct http_server;
struct http_server *http_server_new(server_answer_fn *fn, void *context);
const char *http_server_url(const struct http_server *s); /* http://127.0.0.1:port */
void http_server_free(struct http_server *s);             /* after it no answer is given any more */

/* The value of a header of the request into `value`; false: there is none. */
bool server_header(const struct server_request *request, const char *name, char *value,
                   size_t size);

#endif
