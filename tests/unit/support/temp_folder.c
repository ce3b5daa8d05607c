#include "support/temp_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#define OPEN_FOLDERS_MAX 16

char *
temp_folder_make(void)
{
    const char *above = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/pgstrata-test-XXXXXX", above != NULL ? above : "/tmp") < 0 ||
        mkdtemp(path) == NULL) {
        perror("cannot make a folder for the test");
        abort();
    }
    return path;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st;
    (void)kind;
    (void)place;
    return remove(path);
}

void
temp_folder_remove(char *path)
{
    if (path != NULL)
        (void)nftw(path, remove_one, OPEN_FOLDERS_MAX, FTW_DEPTH | FTW_PHYS);
    free(path);
}
