/* s3_store_internal.h: what the store and its uploads share. */
#ifndef STORE_S3_STORE_INTERNAL_H
#define STORE_S3_STORE_INTERNAL_H

#include "store/s3_client.h"
#include "store/store.h"

struct s3_store {
    struct store base;
    struct s3_client *client;
};

static inline struct s3_client *
s3_client_of(struct store *s)
{
    return ((struct s3_store *)s)->client;
}

/* As s3_store_open, for tests that own time. */
PGS_CHECKED int s3_store_open_with(const char *url, const struct retry_clock *clock,
                                   struct store **store, struct pgs_err *err);

void s3_call_header(struct s3_call *call, const char *name, const char *value);
void s3_call_query(struct s3_call *call, const char *name, const char *value);
/* How an object is to be stored: class and encryption, where they are configured. */
void s3_call_storage(struct s3_call *call, const struct s3_config *config);

int s3_put(struct store *s, const char *name, struct slice bytes, struct pgs_err *err);
int s3_head(struct store *s, const char *name, struct store_stat *stat, struct pgs_err *err);

int s3_upload_begin(struct store *s, const char *name, struct store_upload **upload,
                    struct pgs_err *err);
int s3_upload_write(struct store_upload *base, struct slice bytes, struct pgs_err *err);
int s3_upload_finish(struct store_upload *base, struct pgs_err *err);
void s3_upload_abort(struct store_upload *base);

#endif
