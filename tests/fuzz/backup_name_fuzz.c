/* backup_name_fuzz.c: names of backups, as people and listings give them. What is accepted is what
 * would be written; any tenant key has a folder that leads back to it and nowhere else. */
#include "control/backup_name.h"
#include "core/err.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_path(struct slice path)
{
    struct pgs_err err;
    struct backup_name name;
    struct buf again = { 0 };
    if (backup_name_parse(path, &name, &err) != 0)
        return;
    backup_name_put(&again, &name);
    pgs_assert(slice_equal(buf_slice(&again), path));
    buf_release(&again);
}

static void
check_key(struct slice key)
{
    struct pgs_err err;
    struct buf folder = { 0 };
    struct slice found = SLICE_NULL;
    struct arena *arena = arena_new(NULL);
    backup_folder_put(&folder, key);
    pgs_assert(folder.size >= 1 && folder.size <= BACKUP_FOLDER_MAX);
    pgs_assert(memchr(folder.data, '/', folder.size) == NULL && folder.data[0] != '.');
    int rc = backup_folder_parse(buf_slice(&folder), arena, &found, &err);
    /* PostgreSQL's text has no NUL, so a folder never stands for one. */
    if (key.size > 0 && memchr(key.data, '\0', key.size) != NULL)
        pgs_assert(rc == PGS_E_USAGE || rc == PGS_NONE);
    else
        pgs_assert(rc == PGS_NONE || (rc == 0 && slice_compare(found, key) == 0));
    arena_free(arena);
    buf_release(&folder);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_path(slice_of(data, size));
    check_key(slice_of(data, size));
    return 0;
}
