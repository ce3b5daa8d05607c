/* backup_name.h: what portable backups are called (DESIGN 9).
 *
 *     <folder>/<folder>-YYYY-MM-DDTHH-MM-SS[-N].sql[.zst][.enc]
 *
 * below the backup root; UTC; N from 2 up where the name was taken; the manifest has ".json" behind
 * it. <folder> is the tenant key, safe as a file name in every store:
 *
 *     plain     [A-Za-z0-9._-], not beginning with "." or "-": the key as it is
 *     encoded   other bytes, and such a first one, as %XX in upper case; the empty key is "%"
 *     hashed    keys longer than 200 bytes when encoded: "%sha256-" and 64 hex digits. No encoded
 *               key looks like that, so no tenant's name can lead into another's folder
 *
 * Pure and thread-safe. */
#ifndef CONTROL_BACKUP_NAME_H
#define CONTROL_BACKUP_NAME_H

#include "core/arena.h"
#include "core/buf.h"
#include <pgstrata/error.h>

#define BACKUP_FOLDER_MAX 200
#define BACKUP_NUMBER_MAX 999999
#define BACKUP_MANIFEST_SUFFIX ".json"

struct backup_name {
    struct slice folder;
    pgs_time time;   /* whole seconds */
    uint32_t number; /* 1: no -N */
    bool compressed, encrypted;
};

/* Appends a tenant's folder. */
void backup_folder_put(struct buf *out, struct slice tenant);
/* The tenant key of a folder, in `arena`. PGS_NONE: it is hashed, the manifest knows. PGS_E_USAGE:
 * no tenant has such a folder. */
PGS_CHECKED int backup_folder_parse(struct slice folder, struct arena *arena, struct slice *tenant,
                                    struct pgs_err *err);
/* Appends the whole relative path. Fractions of a second are dropped; the time is within the years
 * 0 to 9999, the number within 1 to BACKUP_NUMBER_MAX. */
void backup_name_put(struct buf *out, const struct backup_name *name);
/* Reads such a path; name->folder points into it. Exact: what is accepted is what backup_name_put
 * writes, and its folder is a tenant's. PGS_E_USAGE. */
PGS_CHECKED int backup_name_parse(struct slice path, struct backup_name *name, struct pgs_err *err);

#endif
