/* embedded.h: the files of sql/, built into the program, so that it needs nothing beside it.
 *
 * Sorted bytewise by name, which is the path below sql/ ("001_schema.sql"), so that numbered
 * migrations come in their order. The build writes the table anew when a file changes. */
#ifndef SQL_EMBEDDED_H
#define SQL_EMBEDDED_H

#include <stddef.h>

struct sql_file {
    const char *name;
    const char *text;
};

/* One more entry follows the last, with both members NULL. */
extern const struct sql_file sql_files[];
extern const size_t sql_files_count;

#endif
