/* manifest.h: the description beside a portable backup, <name>.json (DESIGN 9). From it lists are
 * made, chains are walked and the catalog is rebuilt, without opening the backup itself.
 *
 * The manifests are the truth: all that the catalog cannot guess is in them. Each holds the
 * SHA-256 of its own content, so damage is noticed (docs/decisions/0012). Text is UTF-8.
 *
 * Pure and thread-safe. */
#ifndef CONTROL_MANIFEST_H
#define CONTROL_MANIFEST_H

#include "core/arena.h"
#include "core/buf.h"
#include <pgstrata/error.h>

#define MANIFEST_FORMAT "pgstrata-backup"
#define MANIFEST_VERSION 1
/* A table takes 100 bytes or so: more tables than any tenant has. */
#define MANIFEST_BYTES_MAX ((size_t)16 << 20)
#define MANIFEST_CHECKSUM_SIZE 65 /* SHA-256 as 64 hex digits, and NUL */

enum backup_type { BACKUP_FULL, BACKUP_INCREMENTAL, BACKUP_DIFFERENTIAL };

struct manifest_table {
    const char *schema, *name;
    uint64_t rows;
};

struct manifest {
    const char *id;
    const char *tenant; /* the key, also where the folder's name is hashed */
    enum backup_type type;
    const char *parent;                           /* id; NULL for a full one, and only there */
    char parent_checksum[MANIFEST_CHECKSUM_SIZE]; /* its file's; empty without parent */
    pgs_lsn since_lsn;                            /* the parent's lsn; 0 without */
    pgs_lsn lsn;                                  /* what it holds is the tenant at this position */
    pgs_time time;                                /* the moment of lsn */
    pgs_time created;                             /* when it was written */
    pgs_time expires;                             /* PGS_TIME_NONE: by policy alone */
    bool includes_schema, includes_data;
    bool all_tables; /* none was left out */
    bool compressed, encrypted;
    const char *key_id; /* of the key it is encrypted under; NULL if it is not, and only then */
    uint64_t size;      /* of the file as stored */
    char checksum[MANIFEST_CHECKSUM_SIZE]; /* of the file as stored */
    uint64_t body_size;                    /* of the plain script without its last line */
    char body_checksum[MANIFEST_CHECKSUM_SIZE];
    const struct manifest_table *tables;
    size_t tables_count;
};

const char *backup_type_name(enum backup_type type);
bool backup_type_parse(const char *name, enum backup_type *type);

/* Appends the file's bytes. PGS_E_FAILED: a text is not UTF-8, or it would be too long. What does
 * not fit together (a full one with a parent) is our mistake: asserted. */
PGS_CHECKED int manifest_encode(const struct manifest *manifest, struct buf *out,
                                struct pgs_err *err);
/* All texts and tables are copied into `arena`. PGS_E_CORRUPT says which field; PGS_E_REFUSED: a
 * later format version. */
PGS_CHECKED int manifest_decode(struct slice bytes, struct arena *arena, struct manifest *manifest,
                                struct pgs_err *err);

#endif
