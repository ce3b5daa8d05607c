/* s3_credentials.h: whose keys sign the requests: the first of these that is configured.
 *
 *     environment    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *     web identity   AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, exchanged at STS
 *     shared file    AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials, profile AWS_PROFILE
 *     container      AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI
 *     instance       IMDSv2, unless AWS_EC2_METADATA_DISABLED is true
 *
 * One that is configured and fails is an error: the next would be somebody else's keys. Keys that
 * expire are read anew 5 minutes before; while that fails, the old ones serve to their end. Any
 * number of threads. Secrets never reach messages. */
#ifndef STORE_S3_CREDENTIALS_H
#define STORE_S3_CREDENTIALS_H

#include "store/http.h"
#include "store/s3_config.h"

#define S3_KEYS_NEVER INT64_MAX

struct s3_keys {
    char access_key[160];
    char secret_key[256];
    char session_token[4096]; /* "": none */
    int64_t expires_s;        /* seconds of Unix, or S3_KEYS_NEVER */
};

struct s3_credentials;

/* Both must outlive it. */
struct s3_credentials *s3_credentials_new(struct http_pool *pool, const struct s3_config *config);
void s3_credentials_free(struct s3_credentials *c); /* accepts NULL */

/* Whoever gets the keys wipes them. PGS_E_STORE: none were found, or their source failed. */
PGS_CHECKED int s3_credentials_get(struct s3_credentials *c, struct s3_keys *keys,
                                   struct pgs_err *err);
/* The store calls the keys stale: forget them. False where they cannot change (environment). */
bool s3_credentials_renew(struct s3_credentials *c);

#endif
