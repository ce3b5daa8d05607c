/* s3_config.h: what a store's URL says, with what is usual where it is silent.
 *
 *     s3://bucket/prefix?endpoint=https://host:9000&region=eu-west-1
 *
 *     endpoint       http[s]://host[:port]; else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or Amazon's
 *     region         else AWS_REGION, AWS_DEFAULT_REGION, or us-east-1
 *     style          path or virtual; else virtual at Amazon's own endpoints, path elsewhere
 *     ca_file        authorities for the server's certificate; else AWS_CA_BUNDLE, or the system's
 *     storage_class  of what is written, as STANDARD_IA
 *     sse            AES256 or aws:kms
 *     sse_kms_key    id of the key for aws:kms
 *     fencing        off: the store need not honour conditional create (--unsafe-no-fencing)
 *
 * Values are percent-encoded where a URL wants it. No secret belongs in here. */
#ifndef STORE_S3_CONFIG_H
#define STORE_S3_CONFIG_H

#include <pgstrata/error.h>

struct s3_config {
    bool tls;
    char host[256]; /* with the port, if one was given */
    char bucket[64];
    char prefix[256]; /* "" or with a slash at its end */
    char region[64];
    bool path_style;
    bool unfenced;
    char ca_file[512]; /* "": the system's */
    char storage_class[32];
    char sse[16];
    char sse_kms_key[256];
};

PGS_CHECKED int s3_config_parse(const char *url, struct s3_config *config, struct pgs_err *err);

#endif
