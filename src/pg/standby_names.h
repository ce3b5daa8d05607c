/* standby_names.h: who synchronous_standby_names makes every commit wait for (DESIGN 4.9). */
#ifndef PG_STANDBY_NAMES_H
#define PG_STANDBY_NAMES_H

#include <stdbool.h>

/* Whether a standby that calls itself `us` is among them: by name, in any case of letters as
 * PostgreSQL compares it, or by "*". All forms of the setting: a list, n (list), FIRST n (list),
 * ANY n (list); whether n is reached without us does not matter, for that changes. */
bool standby_names_include(const char *names, const char *us);

#endif
