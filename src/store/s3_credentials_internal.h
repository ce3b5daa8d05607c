/* s3_credentials_internal.h: what the sources of keys share. Each answers PGS_NONE when it is not
 * configured. */
#ifndef STORE_S3_CREDENTIALS_INTERNAL_H
#define STORE_S3_CREDENTIALS_INTERNAL_H

#include "store/s3_credentials.h"

typedef int keys_source_fn(struct http_pool *pool, const struct s3_config *config,
                           struct s3_keys *keys, struct pgs_err *err);

keys_source_fn keys_from_environment;
keys_source_fn keys_from_web_identity;
keys_source_fn keys_from_shared_file;
keys_source_fn keys_from_container;
keys_source_fn keys_from_instance;

/* The value of a variable of the environment; NULL when unset or empty. */
const char *keys_variable(const char *name);
/* A short file's text without the blanks at its end; PGS_NONE: there is no such file. */
PGS_CHECKED int keys_file(const char *path, struct buf *text, struct pgs_err *err);
/* Copies one field, unless it is empty, too long or not printable: then PGS_E_STORE, and the
 * message names the field, never its value. */
PGS_CHECKED int keys_field(const char *name, const char *value, char *to, size_t size,
                           struct pgs_err *err);
/* Seconds of Unix of an RFC 3339 time. */
PGS_CHECKED int keys_expiry(const char *text, int64_t *expires_s, struct pgs_err *err);

#endif
