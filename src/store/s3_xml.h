/* s3_xml.h: what S3 answers in XML. Bytes from outside: depth, names and texts have limits, and a
 * document type is refused, so that no entity expands. */
#ifndef STORE_S3_XML_H
#define STORE_S3_XML_H

#include "core/buf.h"
#include <pgstrata/error.h>

/* Called at the end of each element with its path ("Error/Code") and the text directly in it. A
 * negative answer ends the walk and becomes its result. */
typedef int xml_element_fn(void *context, const char *path, const char *text, struct pgs_err *err);

/* PGS_E_CORRUPT: no XML that we read. */
PGS_CHECKED int xml_walk(struct slice document, xml_element_fn *fn, void *context,
                         struct pgs_err *err);

/* The text of the first element at `path` into `text`. PGS_NONE: there is none, or it is longer. */
PGS_CHECKED int xml_text(struct slice document, const char *path, char *text, size_t size,
                         struct pgs_err *err);

struct xml_s3_error {
    char code[64];
    char message[256];
    char region[64];
};

/* What is no error of S3 (a proxy's page, nothing at all) leaves all empty. */
void xml_s3_error(struct slice document, struct xml_s3_error *error);

/* One page of ListObjectsV2 with encoding-type=url; key decoded, times as S3 wrote them. */
typedef int xml_object_fn(void *context, const char *key, uint64_t size, const char *modified,
                          struct pgs_err *err);

#define XML_TOKEN_MAX 2048

/* *token: where the next page begins; "" on the last. */
PGS_CHECKED int xml_object_list(struct slice document, xml_object_fn *fn, void *context,
                                char token[XML_TOKEN_MAX], struct pgs_err *err);

#endif
