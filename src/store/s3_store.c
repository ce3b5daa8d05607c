#include "store/s3_store.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "store/name.h"
#include "store/s3_store_internal.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define REMOVE_MAX 1000 /* S3's own limit of one batch */

void
s3_call_header(struct s3_call *call, const char *name, const char *value)
{
    pgs_assert(call->header_count < S3_PAIRS_MAX);
    call->headers[call->header_count++] = (struct http_pair){ name, value };
}

void
s3_call_query(struct s3_call *call, const char *name, const char *value)
{
    pgs_assert(call->query_count < S3_PAIRS_MAX);
    call->query[call->query_count++] = (struct http_pair){ name, value };
}

void
s3_call_storage(struct s3_call *call, const struct s3_config *config)
{
    if (config->storage_class[0] != '\0')
        s3_call_header(call, "x-amz-storage-class", config->storage_class);
    if (config->sse[0] != '\0')
        s3_call_header(call, "x-amz-server-side-encryption", config->sse);
    if (config->sse_kms_key[0] != '\0')
        s3_call_header(call, "x-amz-server-side-encryption-aws-kms-key-id", config->sse_kms_key);
}

/* A status that s3_call passes on, but that answers nothing here. */
static int
unexpected(const struct s3_answer *a, struct pgs_err *err)
{
    return err_set(err, PGS_E_STORE, "the store answered %d %s", a->http.status, a->error.code);
}

static bool
is_done(const struct s3_answer *a)
{
    return a->http.status >= 200 && a->http.status < 300;
}

/* --- reading --- */

int
s3_head(struct store *s, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    struct s3_call call = { .method = "HEAD", .name = name };
    struct s3_answer answer = { 0 };
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && answer.http.status == 404)
        rc = PGS_NONE;
    else if (rc == 0 && !is_done(&answer))
        rc = unexpected(&answer, err);
    if (rc == 0) {
        int64_t modified_s = answer.http.modified_s;
        *stat = (struct store_stat){
            .size = answer.http.length,
            .modified = modified_s < 0 ? PGS_TIME_NONE : (modified_s - PGS_EPOCH_UNIX_S) * 1000000,
        };
    }
    s3_answer_release(&answer);
    return rc < 0 ? err_doing(err, "look for object %s", name) : rc;
}

static int
beyond_the_end(const char *name, struct pgs_err *err)
{
    return err_set(err, PGS_E_CORRUPT, "object %s ends before the range that was asked for", name);
}

/* Of an empty range there is nothing to send; whether it lies in the object is a question of its
 * size. The same where the range cannot be written down. */
static int
get_nothing(struct store *s, const char *name, const struct store_range *range, struct pgs_err *err)
{
    struct store_stat stat;
    int rc = s3_head(s, name, &stat, err);
    if (rc != 0)
        return rc;
    return range->size == 0 && range->offset == stat.size ? 0 : beyond_the_end(name, err);
}

static void
range_header(const struct store_range *range, char text[64])
{
    if (range->size > 0)
        snprintf(text, 64, "bytes=%" PRIu64 "-%" PRIu64, range->offset,
                 range->offset + range->size - 1);
    else
        snprintf(text, 64, "bytes=%" PRIu64 "-", range->offset);
}

static int
s3_get(struct store *s, const char *name, const struct store_range *range, struct buf *out,
       struct pgs_err *err)
{
    struct s3_call call = { .method = "GET", .name = name, .into = out };
    struct s3_answer answer = { 0 };
    size_t before = out->size;
    char text[64];
    bool part = range != NULL && (range->offset > 0 || range->size > 0);
    if (part && range->size > 0 && range->offset > UINT64_MAX - range->size)
        return get_nothing(s, name, range, err);
    if (part) {
        range_header(range, text);
        s3_call_header(&call, "range", text);
    }
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && answer.http.status == 404)
        rc = PGS_NONE;
    else if (rc == 0 && answer.http.status == 416)
        rc = get_nothing(s, name, range, err);
    else if (rc == 0 && answer.http.status != (part ? 206 : 200))
        rc = unexpected(&answer, err); /* 200 for a range: the whole object */
    else if (rc == 0 && part && range->size > 0 && out->size - before != range->size)
        rc = beyond_the_end(name, err);
    if (rc != 0)
        out->size = before;
    s3_answer_release(&answer);
    return rc < 0 ? err_doing(err, "read object %s", name) : rc;
}

/* --- writing --- */

int
s3_put(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct s3_call call = { .method = "PUT", .name = name, .body = bytes };
    struct s3_answer answer = { 0 };
    s3_call_storage(&call, s3_client_config(s3_client_of(s)));
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && !is_done(&answer))
        rc = unexpected(&answer, err);
    s3_answer_release(&answer);
    return rc < 0 ? err_doing(err, "write object %s", name) : 0;
}

/* After a lost answer: 0 when what is there are our bytes. */
static int
is_ours(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct buf there;
    buf_init(&there, bytes.size + 1); /* one more: a longer object is not ours */
    int rc = s3_get(s, name, NULL, &there, err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "object %s is there and is not", name);
    else if (rc == PGS_E_CORRUPT && buf_failed(&there))
        rc = PGS_NONE;
    else if (rc == 0)
        rc = there.size == bytes.size &&
                     (bytes.size == 0 || memcmp(there.data, bytes.data, bytes.size) == 0)
                 ? 0
                 : PGS_NONE;
    buf_release(&there);
    return rc;
}

static int
s3_put_unfenced(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct store_stat stat;
    int rc = s3_head(s, name, &stat, err);
    if (rc == PGS_NONE)
        return s3_put(s, name, bytes, err);
    return rc == 0 ? PGS_NONE : rc;
}

static int
no_fence(struct pgs_err *err)
{
    (void)err_set(err, PGS_E_REFUSED, "the store knows no conditional create: it cannot fence");
    return err_hint(err, "use one that does; --unsafe-no-fencing goes on where only one `serve` "
                         "can ever run");
}

static int
s3_put_if_absent(struct store *s, const char *name, struct slice bytes, struct pgs_err *err)
{
    struct s3_call call = { .method = "PUT", .name = name, .body = bytes };
    struct s3_answer answer = { 0 };
    const struct s3_config *config = s3_client_config(s3_client_of(s));
    if (config->unfenced)
        return s3_put_unfenced(s, name, bytes, err);
    s3_call_header(&call, "if-none-match", "*");
    s3_call_storage(&call, config);
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && answer.http.status == 412)
        rc = answer.repeated ? is_ours(s, name, bytes, err) : PGS_NONE;
    else if (rc == 0 && !is_done(&answer))
        rc = unexpected(&answer, err);
    if (rc < 0 && answer.http.status == 501)
        rc = no_fence(err);
    s3_answer_release(&answer);
    return rc < 0 ? err_doing(err, "create object %s", name) : rc;
}

/* --- removing --- */

static int
s3_remove(struct store *s, const char *name, struct pgs_err *err)
{
    struct s3_call call = { .method = "DELETE", .name = name };
    struct s3_answer answer = { 0 };
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && !is_done(&answer) && answer.http.status != 404)
        rc = unexpected(&answer, err);
    s3_answer_release(&answer);
    return rc < 0 ? err_doing(err, "remove object %s", name) : 0;
}

/* Amazon wants a checksum of the body of a batch; plain MD5 is the one that all know. */
static void
content_md5(struct slice bytes, char text[32])
{
    uint8_t digest[16];
    pgs_assert(EVP_Digest(bytes.data, bytes.size, digest, NULL, EVP_md5(), NULL) == 1);
    (void)EVP_EncodeBlock((unsigned char *)text, digest, sizeof(digest));
}

static int
removed_element(void *context, const char *path, const char *text, struct pgs_err *err)
{
    char *name = context;
    if (strcmp(path, "DeleteResult/Error/Key") == 0)
        snprintf(name, STORE_NAME_MAX, "%s", text);
    if (strcmp(path, "DeleteResult/Error/Code") == 0)
        return err_set(err, PGS_E_STORE, "the store answered %s", text);
    return 0;
}

static int
remove_batch(struct store *s, const char *const *names, size_t count, struct pgs_err *err)
{
    struct s3_call call = { .method = "POST" };
    struct s3_answer answer = { 0 };
    struct buf body = { 0 };
    char md5[32], last[STORE_NAME_MAX] = "";
    buf_put_str(&body, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) /* names have no character that XML would want escaped */
        buf_printf(&body, "<Object><Key>%s%s</Key></Object>",
                   s3_client_config(s3_client_of(s))->prefix, names[i]);
    buf_put_str(&body, "</Delete>");
    call.body = buf_slice(&body);
    content_md5(call.body, md5);
    s3_call_query(&call, "delete", "");
    s3_call_header(&call, "content-md5", md5);
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && !is_done(&answer))
        rc = unexpected(&answer, err);
    if (rc == 0 && answer.http.text.size > 0)
        rc = xml_walk(buf_slice(&answer.http.text), removed_element, last, err);
    s3_answer_release(&answer);
    buf_release(&body);
    return rc < 0 ? err_doing(err, "remove %zu objects", count) : 0;
}

static int
s3_remove_many(struct store *s, const char *const *names, size_t count, struct pgs_err *err)
{
    int rc = 0;
    for (size_t done = 0; rc == 0 && done < count; done += REMOVE_MAX) {
        size_t batch = count - done < REMOVE_MAX ? count - done : REMOVE_MAX;
        rc = remove_batch(s, names + done, batch, err);
    }
    return rc;
}

/* --- listing --- */

struct listing {
    size_t skip; /* the store's prefix */
    store_list_fn *fn;
    void *context;
    bool stopped;
    char last[STORE_NAME_MAX + 1];
};

static bool
name_is_ours(const char *name)
{
    const char *slash;
    for (; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        if (!store_name_part_is_plain(name, (size_t)(slash - name)))
            return false;
    }
    return store_name_part_is_plain(name, strlen(name));
}

/* Objects of others, whose names none of ours can have, are not seen. */
static int
listed(void *context, const char *key, uint64_t size, const char *modified, struct pgs_err *err)
{
    struct listing *l = context;
    struct store_stat stat = { .size = size };
    if (l->stopped || strlen(key) <= l->skip || strlen(key) - l->skip > STORE_NAME_MAX ||
        !name_is_ours(key + l->skip))
        return 0;
    const char *name = key + l->skip;
    if (strcmp(name, l->last) <= 0)
        return err_set(err, PGS_E_STORE, "the store lists %s out of order", name);
    snprintf(l->last, sizeof(l->last), "%s", name);
    int rc = time_parse(modified, &stat.modified, err);
    if (rc == 0)
        rc = l->fn(l->context, name, &stat, err);
    l->stopped = rc > 0;
    return rc < 0 ? rc : 0;
}

/* One page; *token changes to where the next begins, "" at the end. */
static int
list_page(struct store *s, const char *prefix, const char *after, char token[XML_TOKEN_MAX],
          struct listing *l, struct pgs_err *err)
{
    struct s3_call call = { .method = "GET" };
    struct s3_answer answer = { 0 };
    s3_call_query(&call, "list-type", "2");
    s3_call_query(&call, "encoding-type", "url");
    s3_call_query(&call, "prefix", prefix);
    if (token[0] != '\0')
        s3_call_query(&call, "continuation-token", token);
    else if (after[0] != '\0')
        s3_call_query(&call, "start-after", after);
    int rc = s3_call(s3_client_of(s), &call, &answer, err);
    if (rc == 0 && !is_done(&answer))
        rc = unexpected(&answer, err);
    if (rc == 0)
        rc = xml_object_list(buf_slice(&answer.http.text), listed, l, token, err);
    s3_answer_release(&answer);
    return rc;
}

static int
s3_list(struct store *s, const char *prefix, const char *after, store_list_fn *fn, void *context,
        struct pgs_err *err)
{
    const char *root = s3_client_config(s3_client_of(s))->prefix;
    struct listing l = { .skip = strlen(root), .fn = fn, .context = context };
    char token[XML_TOKEN_MAX] = "";
    struct buf full = { 0 }, from = { 0 };
    int rc;
    buf_printf(&full, "%s%s", root, prefix);
    if (after != NULL)
        buf_printf(&from, "%s%s", root, after);
    do {
        rc = list_page(s, buf_cstr(&full), buf_cstr(&from), token, &l, err);
    } while (rc == 0 && token[0] != '\0' && !l.stopped);
    buf_release(&full);
    buf_release(&from);
    return rc;
}

/* --- open and close --- */

static void
s3_interrupt(struct store *s)
{
    s3_client_interrupt(s3_client_of(s));
}

static void
s3_close(struct store *base)
{
    s3_client_free(s3_client_of(base));
    free(base);
}

static const struct store_ops s3_ops = {
    .scheme = "s3",
    .put = s3_put,
    .put_if_absent = s3_put_if_absent,
    .get = s3_get,
    .head = s3_head,
    .list = s3_list,
    .remove = s3_remove,
    .remove_many = s3_remove_many,
    .upload_begin = s3_upload_begin,
    .upload_write = s3_upload_write,
    .upload_finish = s3_upload_finish,
    .upload_abort = s3_upload_abort,
    .interrupt = s3_interrupt,
    .close = s3_close,
};

int
s3_store_open_with(const char *url, const struct retry_clock *clock, struct store **store,
                   struct pgs_err *err)
{
    struct s3_client *client;
    int rc = s3_client_new(url, clock, &client, err);
    if (rc < 0)
        return err_doing(err, "use the S3 store");
    struct s3_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->base.ops = &s3_ops;
    s->client = client;
    *store = &s->base;
    return 0;
}

int
s3_store_open(const char *url, struct store **store, struct pgs_err *err)
{
    return s3_store_open_with(url, &retry_clock_real, store, err);
}
