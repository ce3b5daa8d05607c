/* file_store.h: objects as plain files under a folder: fsync, atomic rename, 0700/0600.
 *
 * The object a/b/c is the file <folder>/a/b/c, so a name cannot be an object and the beginning of
 * others' names at once (a and a/b): the second is PGS_E_STORE. <folder>/.tmp holds what is being
 * written; what killed processes left there goes at the first open a day later. Folders below stay
 * when their last object goes. Symbolic links below the folder are an error and never followed;
 * files whose names no object can have, as lost+found, are not seen. Many processes may use one
 * folder at once. When the folder was moved away or covered by a mount, creating is PGS_E_STORE
 * until it is back. */
#ifndef STORE_FILE_STORE_H
#define STORE_FILE_STORE_H

#include "store/store.h"

/* The folder is created (0700) when its parent exists. */
PGS_CHECKED int file_store_open(const char *folder, struct store **store, struct pgs_err *err);

#endif
