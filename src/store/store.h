/* store.h: where objects live: plain files, S3, and others behind the same few functions.
 *
 * Names are '/'-separated, relative, of [A-Za-z0-9._-] segments; no segment is "." or ".."; at most
 * 512 bytes. Objects are immutable by convention: nothing in pgstrata overwrites one, except with
 * store_put where its header says so (the boundary object).
 *
 * A store may be used by several threads at once; an upload belongs to one thread.
 *
 * Promises every driver keeps (tests/unit/store/contract):
 *   atomicity   an object is absent or whole; a reader never sees a part of it
 *   durability  when put, put_if_absent or upload_finish answer 0, the object survives power loss
 *   absence     get, head of an absent object: PGS_NONE, *out unchanged; delete of one: 0
 *   repetition  put of the same bytes twice is harmless; put_if_absent on a taken name is PGS_NONE
 *   failure     PGS_E_STORE; afterwards a put may or may not have happened (a lost answer), so
 *               callers of put_if_absent compare what is there with what they wrote
 *   order       list is in bytewise order of names and sees every put that answered before it began
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "core/buf.h"
#include <pgstrata/error.h>

struct store;
struct store_upload;

struct store_stat {
    uint64_t size;
    pgs_time modified;
};

struct store_range {
    uint64_t offset;
    uint64_t size; /* 0: to the end */
};

/* Called once per name. A negative answer ends the listing and becomes its result; PGS_NONE ends it
 * with success. */
typedef int store_list_fn(void *context, const char *name, const struct store_stat *stat,
                          struct pgs_err *err);

struct store_ops {
    const char *scheme; /* "file", "s3" */
    int (*put)(struct store *s, const char *name, struct slice bytes, struct pgs_err *err);
    int (*put_if_absent)(struct store *s, const char *name, struct slice bytes,
                         struct pgs_err *err);
    int (*get)(struct store *s, const char *name, const struct store_range *range, struct buf *out,
               struct pgs_err *err);
    int (*head)(struct store *s, const char *name, struct store_stat *stat, struct pgs_err *err);
    int (*list)(struct store *s, const char *prefix, const char *after, store_list_fn *fn,
                void *context, struct pgs_err *err);
    int (*remove)(struct store *s, const char *name, struct pgs_err *err);
    /* NULL: one by one. */
    int (*remove_many)(struct store *s, const char *const *names, size_t count,
                       struct pgs_err *err);
    int (*upload_begin)(struct store *s, const char *name, struct store_upload **upload,
                        struct pgs_err *err);
    int (*upload_write)(struct store_upload *u, struct slice bytes, struct pgs_err *err);
    int (*upload_finish)(struct store_upload *u, struct pgs_err *err);
    void (*upload_abort)(struct store_upload *u);
    /* NULL: no call waits for anybody. */
    void (*interrupt)(struct store *s);
    void (*close)(struct store *s);
};

/* Embedded first in each driver's own struct. */
struct store {
    const struct store_ops *ops;
};
struct store_upload {
    struct store *store;
};

/* `url` is a folder (absolute or relative), file:///folder, or s3://bucket/prefix?option=value&...
 * (store/s3_config.h); other schemes are PGS_E_USAGE. A folder is created (0700) when its parent
 * exists; a bucket must be there. */
PGS_CHECKED int store_open(const char *url, struct store **store, struct pgs_err *err);
void store_close(struct store *s); /* accepts NULL */
/* For a stop that storage must not hold up: calls under way, and all later ones, that would wait
 * for a server end with PGS_E_STORE within two seconds. Any thread; cannot be taken back. */
void store_interrupt(struct store *s);

PGS_CHECKED int store_put(struct store *s, const char *name, struct slice bytes,
                          struct pgs_err *err);
/* Creates the object unless one of that name exists: then PGS_NONE. The only fence there is. */
PGS_CHECKED int store_put_if_absent(struct store *s, const char *name, struct slice bytes,
                                    struct pgs_err *err);
/* Appends the object's bytes (or the range) to *out. range NULL: all. A range beyond the end is
 * PGS_E_CORRUPT: who asks knows the size. */
PGS_CHECKED int store_get(struct store *s, const char *name, const struct store_range *range,
                          struct buf *out, struct pgs_err *err);
PGS_CHECKED int store_head(struct store *s, const char *name, struct store_stat *stat,
                           struct pgs_err *err);
/* Names that start with prefix and are greater than `after` (NULL: all), in bytewise order. */
PGS_CHECKED int store_list(struct store *s, const char *prefix, const char *after,
                           store_list_fn *fn, void *context, struct pgs_err *err);
PGS_CHECKED int store_remove(struct store *s, const char *name, struct pgs_err *err);
/* As store_remove of each, in few requests where the store knows how. After a failure some are
 * gone. */
PGS_CHECKED int store_remove_many(struct store *s, const char *const *names, size_t count,
                                  struct pgs_err *err);

/* Streams an object of unknown size: begin -> write... -> finish | abort. Visible at finish only.
 * The handle ends with finish (whatever it answers) and with abort (accepts NULL). */
PGS_CHECKED int store_upload_begin(struct store *s, const char *name, struct store_upload **upload,
                                   struct pgs_err *err);
PGS_CHECKED int store_upload_write(struct store_upload *u, struct slice bytes, struct pgs_err *err);
PGS_CHECKED int store_upload_finish(struct store_upload *u, struct pgs_err *err);
void store_upload_abort(struct store_upload *u);

/* A view of `inner` under prefix ("a/b/"): names get the prefix in front. Closing the view leaves
 * `inner` open; it must outlive the view. */
PGS_CHECKED int store_open_prefix(struct store *inner, const char *prefix, struct store **store,
                                  struct pgs_err *err);
/* Creates a scratch object twice; the second create must be refused. PGS_E_REFUSED when the store
 * does not fence (DESIGN 8). */
PGS_CHECKED int store_probe(struct store *s, struct pgs_err *err);

#endif
