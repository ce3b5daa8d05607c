/* name.h: what may be the name of an object (the rule is in store.h), for dispatch and drivers. */
#ifndef STORE_NAME_H
#define STORE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define STORE_NAME_MAX 512

/* One part of a name, between slashes: [A-Za-z0-9._-], not empty, not "." or "..". */
bool store_name_part_is_plain(const char *part, size_t size);

#endif
