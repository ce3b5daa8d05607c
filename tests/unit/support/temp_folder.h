/* temp_folder.h: an empty folder of a test's own, removed with all that is in it. */
#ifndef SUPPORT_TEMP_FOLDER_H
#define SUPPORT_TEMP_FOLDER_H

/* Its path; ended by temp_folder_remove, which also frees the string and accepts NULL. */
char *temp_folder_make(void);
void temp_folder_remove(char *path);

#endif
