#include "store/http.h"

#include "core/err.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

#define IDLE_MAX 16
#define CONNECT_TIMEOUT_MS 5000L
/* A byte a second is the least: below it for so long, the other side counts as gone. */
#define STALL_S 10L
/* What is not an object is a short text; a page of a list has up to 1000 names of 1 KiB each, and
 * what stands around them. */
#define TEXT_MAX_BYTES ((size_t)8 << 20)

struct http_pool {
    pthread_mutex_t mutex; /* guards idle and idle_count */
    CURL *idle[IDLE_MAX];
    size_t idle_count;
};

struct exchange {
    const struct http_request *request;
    struct http_answer *answer;
    CURL *curl;
    bool too_long;
};

static void
library_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

struct http_pool *
http_pool_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_init);
    struct http_pool *p = calloc(1, sizeof(*p));
    if (p == NULL)
        abort();
    pthread_mutex_init(&p->mutex, NULL);
    return p;
}

void
http_pool_free(struct http_pool *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->idle_count; i++)
        curl_easy_cleanup(p->idle[i]);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static CURL *
handle_take(struct http_pool *p)
{
    CURL *curl = NULL;
    pthread_mutex_lock(&p->mutex);
    if (p->idle_count > 0)
        curl = p->idle[--p->idle_count];
    pthread_mutex_unlock(&p->mutex);
    if (curl == NULL)
        curl = curl_easy_init();
    if (curl == NULL)
        abort();
    return curl;
}

static void
handle_return(struct http_pool *p, CURL *curl)
{
    curl_easy_reset(curl); /* keeps its connection */
    pthread_mutex_lock(&p->mutex);
    if (p->idle_count < IDLE_MAX) {
        p->idle[p->idle_count++] = curl;
        curl = NULL;
    }
    pthread_mutex_unlock(&p->mutex);
    if (curl != NULL)
        curl_easy_cleanup(curl);
}

static struct buf *
body_target(struct exchange *x)
{
    long status = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    bool wanted = x->request->into != NULL && (status == 200 || status == 206);
    return wanted ? x->request->into : &x->answer->text;
}

static size_t
on_body(char *data, size_t one, size_t size, void *context)
{
    struct exchange *x = context;
    struct buf *to = body_target(x);
    (void)one; /* always 1 */
    buf_put(to, data, size);
    x->too_long = buf_failed(to);
    return x->too_long ? CURL_WRITEFUNC_ERROR : size;
}

/* The value of "name: value\r\n" into `to`; one that is too long for it counts as absent. */
static bool
header_take(struct slice line, const char *name, char *to, size_t to_size)
{
    size_t skip = strlen(name);
    const char *text = (const char *)line.data;
    if (line.size <= skip || strncasecmp(text, name, skip) != 0 || text[skip] != ':')
        return false;
    const char *begin = text + skip + 1, *end = text + line.size;
    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    size_t size = (size_t)(end - begin);
    if (size >= to_size)
        return false;
    memcpy(to, begin, size);
    to[size] = '\0';
    return true;
}

static size_t
on_header(char *data, size_t one, size_t size, void *context)
{
    struct http_answer *a = ((struct exchange *)context)->answer;
    struct slice line = slice_of(data, size);
    char value[64];
    (void)one; /* always 1 */
    (void)header_take(line, "etag", a->etag, sizeof(a->etag));
    (void)header_take(line, "x-amz-bucket-region", a->region, sizeof(a->region));
    if (header_take(line, "date", value, sizeof(value)))
        a->date_s = (int64_t)curl_getdate(value, NULL);
    if (header_take(line, "last-modified", value, sizeof(value)))
        a->modified_s = (int64_t)curl_getdate(value, NULL);
    return size;
}

/* Called at least once a second; anything but 0 ends the exchange. */
static int
on_progress(void *context, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
    const struct exchange *x = context;
    (void)down_all;
    (void)down;
    (void)up_all;
    (void)up;
    return x->request->interrupted != NULL && atomic_load(x->request->interrupted) ? 1 : 0;
}

static struct curl_slist *
headers_build(const struct http_request *request)
{
    struct buf line = { 0 };
    bool typed = false;
    /* Without it curl waits for "100 Continue". */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; list != NULL && i < request->header_count; i++) {
        const struct http_pair *h = &request->headers[i];
        buf_reset(&line);
        buf_printf(&line, "%s: %s", h->name, h->value);
        list = curl_slist_append(list, buf_cstr(&line));
        typed = typed || strcmp(h->name, "content-type") == 0;
    }
    if (list != NULL && !typed)
        list = curl_slist_append(list, "Content-Type:"); /* curl calls every body a form */
    buf_release(&line);
    if (list == NULL)
        abort();
    return list;
}

/* Options never fail here but for want of memory. */
#define SET(curl, option, value) pgs_assert(curl_easy_setopt((curl), (option), (value)) == CURLE_OK)

static void
method_set(CURL *curl, const struct http_request *request)
{
    if (strcmp(request->method, "HEAD") == 0) {
        SET(curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0) {
        /* Straight from the caller's memory; an empty body needs a pointer too. */
        const void *data = request->body.size > 0 ? (const void *)request->body.data : "";
        SET(curl, CURLOPT_POST, 1L);
        SET(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        SET(curl, CURLOPT_POSTFIELDS, data);
    }
    SET(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static void
exchange_prepare(struct exchange *x, struct curl_slist *headers, char reason[CURL_ERROR_SIZE])
{
    const struct http_request *request = x->request;
    CURL *curl = x->curl;
    SET(curl, CURLOPT_NOSIGNAL, 1L);
    SET(curl, CURLOPT_ERRORBUFFER, reason);
    SET(curl, CURLOPT_URL, request->url);
    SET(curl, CURLOPT_PATH_AS_IS, 1L); /* what is signed is what is sent */
    SET(curl, CURLOPT_HTTPHEADER, headers);
    SET(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    SET(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    SET(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    SET(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(curl, CURLOPT_WRITEFUNCTION, on_body);
    SET(curl, CURLOPT_WRITEDATA, x);
    SET(curl, CURLOPT_HEADERFUNCTION, on_header);
    SET(curl, CURLOPT_HEADERDATA, x);
    SET(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(curl, CURLOPT_XFERINFODATA, x);
    SET(curl, CURLOPT_NOPROGRESS, 0L);
    if (request->ca_file != NULL)
        SET(curl, CURLOPT_CAINFO, request->ca_file);
    if (request->direct)
        SET(curl, CURLOPT_NOPROXY, "*");
    method_set(curl, request);
}

static void
answer_reset(struct http_answer *a)
{
    struct buf text = a->text;
    *a = (struct http_answer){ .text = text, .date_s = -1, .modified_s = -1 };
    buf_release(&a->text);
    buf_init(&a->text, TEXT_MAX_BYTES);
}

static void
answer_complete(struct exchange *x)
{
    struct http_answer *a = x->answer;
    long status = 0;
    curl_off_t length = 0, retry_after = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(x->curl, CURLINFO_RETRY_AFTER, &retry_after);
    a->status = (int)status;
    a->length = length > 0 ? (uint64_t)length : 0;
    a->retry_after_s = retry_after;
}

static int
exchange_failed(struct exchange *x, CURLcode code, const char *reason, struct pgs_err *err)
{
    if (x->too_long)
        return err_set(err, PGS_E_CORRUPT, "the answer is longer than what there is room for");
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, PGS_E_STORE, "the store had no time left to answer");
    (void)err_set(err, PGS_E_STORE, "%s", reason[0] != '\0' ? reason : curl_easy_strerror(code));
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return err_hint(err, "name the authority that signed the server's certificate: "
                             "BACKUP_S3_CA_FILE");
    return err_hint(err, "check the endpoint, and the way to it");
}

int
http_send(struct http_pool *p, const struct http_request *request, struct http_answer *answer,
          struct pgs_err *err)
{
    char reason[CURL_ERROR_SIZE] = "";
    struct exchange x = { .request = request, .answer = answer, .curl = handle_take(p) };
    struct curl_slist *headers = headers_build(request);
    size_t before = request->into != NULL ? request->into->size : 0;
    int rc = 0;
    answer_reset(answer);
    exchange_prepare(&x, headers, reason);
    CURLcode code = curl_easy_perform(x.curl);
    if (code == CURLE_OK)
        answer_complete(&x);
    else
        rc = exchange_failed(&x, code, reason, err);
    if (rc < 0 && request->into != NULL)
        request->into->size = before;
    curl_slist_free_all(headers);
    handle_return(p, x.curl);
    return rc;
}

void
http_answer_release(struct http_answer *answer)
{
    buf_release(&answer->text);
}
