/* file_store.h: objects as plain files under a folder: fsync, atomic rename, 0700/0600. */
#ifndef STORE_FILE_STORE_H
#define STORE_FILE_STORE_H

#include "store/store.h"

/* The folder is created (0700) when its parent exists. */
PGS_CHECKED int file_store_open(const char *folder, struct store **store, struct pgs_err *err);

#endif
