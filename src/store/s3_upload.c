/* s3_upload.c: parts are sent as they fill; what never fills the first is a single PUT. */
#include "store/s3_store_internal.h"

#include "core/err.h"
#include "store/name.h"

#include <stdlib.h>

#define PART_BYTES ((size_t)8 << 20) /* S3 takes no less than 5 MiB but in the last */
#define PARTS_MAX 10000
/* Every so many parts the next are twice as large, so that 10,000 hold S3's largest object, 5 TiB:
 * 1250 * (8 + 16 + ... + 1024) MiB = 2.4 TiB in the first 8 steps, the last 1250 of 1 GiB more. */
#define PARTS_STEP 1250

struct s3_upload {
    struct store_upload base;
    char name[STORE_NAME_MAX + 1];
    char id[1024]; /* "": no part was sent yet */
    struct buf part;
    struct buf list; /* the parts so far, as the end wants them */
    unsigned part_count;
    uint64_t size;
    bool failed; /* what is there must never become visible */
};

static struct s3_client *
client_of(struct s3_upload *u)
{
    return s3_client_of(u->base.store);
}

static size_t
part_bytes(const struct s3_upload *u)
{
    return PART_BYTES << (u->part_count / PARTS_STEP);
}

static int
failed(struct s3_upload *u, struct pgs_err *err)
{
    u->failed = true;
    return err_doing(err, "write object %s", u->name);
}

static void
upload_free(struct s3_upload *u)
{
    buf_release(&u->part);
    buf_release(&u->list);
    free(u);
}

/* An upload that stays there is unfinished, hence invisible; the bucket's rule ends it. */
static void
parts_abandon(struct s3_upload *u)
{
    struct s3_call call = { .method = "DELETE", .name = u->name };
    struct s3_answer answer = { 0 };
    struct pgs_err ignored;
    if (u->id[0] == '\0')
        return;
    s3_call_query(&call, "uploadId", u->id);
    err_ignore(s3_call(client_of(u), &call, &answer, &ignored));
    s3_answer_release(&answer);
}

static int
id_get(struct s3_upload *u, struct pgs_err *err)
{
    struct s3_call call = { .method = "POST", .name = u->name };
    struct s3_answer answer = { 0 };
    s3_call_query(&call, "uploads", "");
    s3_call_storage(&call, s3_client_config(client_of(u)));
    int rc = s3_call(client_of(u), &call, &answer, err);
    if (rc == 0 && answer.http.status != 200)
        rc = s3_answer_failed(&answer, err);
    if (rc == 0)
        rc = xml_text(buf_slice(&answer.http.text), "InitiateMultipartUploadResult/UploadId", u->id,
                      sizeof(u->id), err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "the store began an upload without an id");
    s3_answer_release(&answer);
    return rc;
}

/* A tag is put into XML again: only what needs no escape but the quotes around it. */
static int
etag_add(struct s3_upload *u, const char *etag, struct pgs_err *err)
{
    size_t size = strlen(etag);
    bool quoted = size >= 2 && etag[0] == '"' && etag[size - 1] == '"';
    struct slice tag = quoted ? slice_of(etag + 1, size - 2) : slice_of(etag, size);
    for (size_t i = 0; i < tag.size; i++) {
        if (strchr("<>&\"'", tag.data[i]) != NULL)
            size = 0;
    }
    if (size == 0)
        return err_set(err, PGS_E_STORE, "the store gave no tag for part %u", u->part_count + 1);
    buf_printf(&u->list, "<Part><PartNumber>%u</PartNumber><ETag>&quot;%.*s&quot;</ETag></Part>",
               u->part_count + 1, SLICE_PRINT(tag));
    return 0;
}

static int
part_send(struct s3_upload *u, struct slice bytes, struct pgs_err *err)
{
    char number[16];
    struct s3_call call = { .method = "PUT", .name = u->name, .body = bytes };
    struct s3_answer answer = { 0 };
    if (u->part_count == PARTS_MAX)
        return err_set(err, PGS_E_STORE, "it has more than %d parts", PARTS_MAX);
    if (u->id[0] == '\0') {
        int rc = id_get(u, err);
        if (rc < 0)
            return rc;
    }
    snprintf(number, sizeof(number), "%u", u->part_count + 1);
    s3_call_query(&call, "partNumber", number);
    s3_call_query(&call, "uploadId", u->id);
    int rc = s3_call(client_of(u), &call, &answer, err);
    if (rc == 0 && answer.http.status != 200)
        rc = s3_answer_failed(&answer, err);
    if (rc == 0)
        rc = etag_add(u, answer.http.etag, err);
    if (rc == 0)
        u->part_count++;
    s3_answer_release(&answer);
    return rc;
}

int
s3_upload_begin(struct store *s, const char *name, struct store_upload **upload,
                struct pgs_err *err)
{
    struct s3_upload *u = calloc(1, sizeof(*u));
    (void)err;
    if (u == NULL)
        abort();
    u->base.store = s;
    snprintf(u->name, sizeof(u->name), "%s", name);
    *upload = &u->base;
    return 0;
}

int
s3_upload_write(struct store_upload *base, struct slice bytes, struct pgs_err *err)
{
    struct s3_upload *u = (struct s3_upload *)base;
    if (u->failed)
        return err_set(err, PGS_E_STORE, "object %s has failed before", u->name);
    u->size += bytes.size;
    while (bytes.size > 0) {
        /* A full part is sent when more comes: the last may be of any size, but is needed. */
        if (u->part.size == part_bytes(u)) {
            if (part_send(u, buf_slice(&u->part), err) < 0)
                return failed(u, err);
            buf_reset(&u->part);
        }
        size_t room = part_bytes(u) - u->part.size;
        size_t size = bytes.size < room ? bytes.size : room;
        buf_put(&u->part, bytes.data, size);
        bytes = slice_of(bytes.data + size, bytes.size - size);
    }
    return 0;
}

/* The answer to an end that was carried out can be lost, and the repetition finds no upload. Names
 * of uploads are written once, so an object of that size is what was sent. */
static int
end_is_ours(struct s3_upload *u, struct pgs_err *err)
{
    struct store_stat stat;
    int rc = s3_head(u->base.store, u->name, &stat, err);
    if (rc < 0 || (rc == 0 && stat.size == u->size))
        return rc;
    return err_set(err, PGS_E_STORE, "the store has lost the upload");
}

static int
parts_join(struct s3_upload *u, struct pgs_err *err)
{
    struct s3_call call = { .method = "POST", .name = u->name };
    struct s3_answer answer = { 0 };
    struct buf body = { 0 };
    buf_printf(&body, "<CompleteMultipartUpload>%s</CompleteMultipartUpload>", buf_cstr(&u->list));
    call.body = buf_slice(&body);
    s3_call_query(&call, "uploadId", u->id);
    int rc = s3_call(client_of(u), &call, &answer, err);
    if (rc == 0 && answer.http.status == 404 && answer.repeated)
        rc = end_is_ours(u, err);
    else if (rc == 0 && (answer.http.status != 200 || answer.error.code[0] != '\0'))
        rc = s3_answer_failed(&answer, err); /* 200 is said before the work is done */
    s3_answer_release(&answer);
    buf_release(&body);
    return rc;
}

int
s3_upload_finish(struct store_upload *base, struct pgs_err *err)
{
    struct s3_upload *u = (struct s3_upload *)base;
    int rc = u->failed ? err_set(err, PGS_E_STORE, "object %s has failed before", u->name) : 0;
    if (rc == 0 && u->id[0] == '\0') {
        rc = s3_put(base->store, u->name, buf_slice(&u->part), err);
    } else if (rc == 0) {
        rc = part_send(u, buf_slice(&u->part), err);
        if (rc == 0)
            rc = parts_join(u, err);
        if (rc < 0)
            rc = err_doing(err, "write object %s", u->name);
    }
    if (rc < 0)
        parts_abandon(u);
    upload_free(u);
    return rc;
}

void
s3_upload_abort(struct store_upload *base)
{
    struct s3_upload *u = (struct s3_upload *)base;
    parts_abandon(u);
    upload_free(u);
}
