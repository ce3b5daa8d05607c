#include "store/s3_xml.h"

#include "core/err.h"
#include "store/percent.h"

#include <errno.h>
#include <expat.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#define DEPTH_MAX 8
#define PATH_MAX_BYTES 256
#define TEXT_MAX_BYTES ((size_t)16 << 10)
#define KEY_MAX_BYTES 1024 /* S3's own limit, in UTF-8 */

struct walk {
    XML_Parser parser;
    char path[PATH_MAX_BYTES];
    size_t path_size;
    size_t depth;
    struct buf text;
    xml_element_fn *fn;
    void *context;
    struct pgs_err *err;
    int rc;
};

static void
walk_stop(struct walk *w, int rc)
{
    if (w->rc == 0)
        w->rc = rc;
    (void)XML_StopParser(w->parser, XML_FALSE);
}

static void
on_start(void *context, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *w = context;
    size_t size = strlen(name), slash = w->depth > 0 ? 1 : 0;
    (void)attributes;
    if (w->depth == DEPTH_MAX || w->path_size + slash + size >= sizeof(w->path)) {
        walk_stop(w, err_set(w->err, PGS_E_CORRUPT, "the XML is nested too deeply"));
        return;
    }
    if (slash > 0)
        w->path[w->path_size++] = '/';
    memcpy(w->path + w->path_size, name, size + 1);
    w->path_size += size;
    w->depth++;
    buf_reset(&w->text);
}

static void
on_end(void *context, const XML_Char *name)
{
    struct walk *w = context;
    if (w->rc < 0)
        return; /* expat still ends an empty element that was stopped at */
    if (buf_failed(&w->text)) {
        walk_stop(w, err_set(w->err, PGS_E_CORRUPT, "a text in the XML is too long"));
        return;
    }
    int rc = w->fn(w->context, w->path, buf_cstr(&w->text), w->err);
    if (rc < 0)
        walk_stop(w, rc);
    w->depth--;
    w->path_size -= strlen(name) + (w->depth > 0 ? 1 : 0);
    w->path[w->path_size] = '\0';
    buf_reset(&w->text);
}

static void
on_text(void *context, const XML_Char *data, int size)
{
    struct walk *w = context;
    buf_put(&w->text, data, (size_t)size);
}

static void
on_doctype(void *context, const XML_Char *name, const XML_Char *system, const XML_Char *public,
           int internal)
{
    struct walk *w = context;
    (void)name;
    (void)system;
    (void)public;
    (void)internal;
    walk_stop(w, err_set(w->err, PGS_E_CORRUPT, "the XML has a document type"));
}

int
xml_walk(struct slice document, xml_element_fn *fn, void *context, struct pgs_err *err)
{
    struct walk w = { .fn = fn, .context = context, .err = err };
    if (document.size > INT32_MAX)
        return err_set(err, PGS_E_CORRUPT, "the XML is too long");
    w.parser = XML_ParserCreate(NULL);
    if (w.parser == NULL)
        abort();
    buf_init(&w.text, TEXT_MAX_BYTES);
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, on_start, on_end);
    XML_SetCharacterDataHandler(w.parser, on_text);
    XML_SetStartDoctypeDeclHandler(w.parser, on_doctype);
    const char *data = document.size > 0 ? (const char *)document.data : "";
    if (XML_Parse(w.parser, data, (int)document.size, XML_TRUE) != XML_STATUS_OK && w.rc == 0)
        w.rc =
            err_set(err, PGS_E_CORRUPT, "no XML: %s", XML_ErrorString(XML_GetErrorCode(w.parser)));
    XML_ParserFree(w.parser);
    buf_release(&w.text);
    return w.rc;
}

/* --- one text --- */

struct wanted {
    const char *path;
    struct buf text;
    bool found;
};

static int
wanted_element(void *context, const char *path, const char *text, struct pgs_err *err)
{
    struct wanted *w = context;
    (void)err;
    if (!w->found && strcmp(path, w->path) == 0) {
        w->found = true;
        buf_put(&w->text, text, strlen(text) + 1);
    }
    return 0;
}

int
xml_text(struct slice document, const char *path, char *text, size_t size, struct pgs_err *err)
{
    struct wanted w = { .path = path };
    int rc = xml_walk(document, wanted_element, &w, err);
    if (rc == 0 && (!w.found || w.text.size > size))
        rc = PGS_NONE;
    if (rc == 0)
        memcpy(text, w.text.data, w.text.size);
    if (w.text.data != NULL)
        OPENSSL_cleanse(w.text.data, w.text.size); /* keys of STS come this way */
    buf_release(&w.text);
    return rc;
}

/* --- errors --- */

static int
error_element(void *context, const char *path, const char *text, struct pgs_err *err)
{
    struct xml_s3_error *e = context;
    (void)err;
    const char *last = strncmp(path, "Error/", 6) == 0 ? path + 6 : "";
    if (strcmp(last, "Code") == 0)
        snprintf(e->code, sizeof(e->code), "%s", text);
    else if (strcmp(last, "Message") == 0)
        snprintf(e->message, sizeof(e->message), "%s", text);
    else if (strcmp(last, "Region") == 0)
        snprintf(e->region, sizeof(e->region), "%s", text);
    return 0;
}

void
xml_s3_error(struct slice document, struct xml_s3_error *error)
{
    struct pgs_err ignored;
    *error = (struct xml_s3_error){ 0 };
    err_ignore(xml_walk(document, error_element, error, &ignored));
}

/* --- lists --- */

struct page {
    char key[3 * KEY_MAX_BYTES + 1]; /* as S3 encodes it */
    char size[24];
    char modified[40];
    bool truncated;
    char token[XML_TOKEN_MAX];
    xml_object_fn *fn;
    void *context;
};

static int
page_text(char *to, size_t size, const char *text, struct pgs_err *err)
{
    if (strlen(text) >= size)
        return err_set(err, PGS_E_CORRUPT, "a text in the list of objects is too long");
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

static int
page_object(struct page *p, struct pgs_err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long size =
        p->size[0] >= '0' && p->size[0] <= '9' ? strtoull(p->size, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0 || p->key[0] == '\0' || !percent_decode(p->key))
        return err_set(err, PGS_E_CORRUPT, "the list of objects has one without name or size");
    int rc = p->fn(p->context, p->key, size, p->modified, err);
    p->key[0] = p->size[0] = p->modified[0] = '\0';
    return rc;
}

#define ROOT "ListBucketResult"

static int
page_element(void *context, const char *path, const char *text, struct pgs_err *err)
{
    struct page *p = context;
    int rc = 0;
    if (strcmp(path, ROOT "/Contents") == 0)
        rc = page_object(p, err);
    else if (strcmp(path, ROOT "/Contents/Key") == 0)
        rc = page_text(p->key, sizeof(p->key), text, err);
    else if (strcmp(path, ROOT "/Contents/Size") == 0)
        rc = page_text(p->size, sizeof(p->size), text, err);
    else if (strcmp(path, ROOT "/Contents/LastModified") == 0)
        rc = page_text(p->modified, sizeof(p->modified), text, err);
    else if (strcmp(path, ROOT "/NextContinuationToken") == 0)
        rc = page_text(p->token, sizeof(p->token), text, err);
    else if (strcmp(path, ROOT "/IsTruncated") == 0)
        p->truncated = strcmp(text, "true") == 0;
    else if (strchr(path, '/') == NULL && strcmp(path, ROOT) != 0)
        rc = err_set(err, PGS_E_CORRUPT, "the answer is no list of objects");
    return rc;
}

int
xml_object_list(struct slice document, xml_object_fn *fn, void *context, char token[XML_TOKEN_MAX],
                struct pgs_err *err)
{
    struct page p = { .fn = fn, .context = context };
    int rc = xml_walk(document, page_element, &p, err);
    if (rc == 0 && p.truncated && p.token[0] == '\0')
        rc = err_set(err, PGS_E_CORRUPT, "the list of objects ends in its middle");
    if (rc == 0)
        memcpy(token, p.truncated ? p.token : "", p.truncated ? strlen(p.token) + 1 : 1);
    return rc;
}
