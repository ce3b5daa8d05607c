/* root_url.h: the one text that says where the archive lies, made of the settings of a store.
 *
 * BACKUP_S3_URL is stronger than BACKUP_DIR, which may be an s3:// URL itself (as --backup-dir is).
 * The other settings become options of that URL; those it has already are stronger. */
#ifndef CLI_ROOT_URL_H
#define CLI_ROOT_URL_H

#include "core/arena.h"
#include <pgstrata/error.h>

/* NULL: not set. */
struct root_settings {
    const char *dir, *s3_url;
    const char *endpoint, *region, *style, *ca_file, *storage_class, *sse, *sse_kms_key;
    bool unfenced;
};

/* PGS_E_USAGE: no store can be opened with these; nothing is sent to find out. */
PGS_CHECKED int root_url_build(const struct root_settings *settings, struct arena *arena,
                               const char **root_url, struct pgs_err *err);

#endif
