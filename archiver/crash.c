#include "archiver/crash.h"

#ifdef PGS_TEST_HOOKS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void
crash_point(const char *name)
{
    static atomic_ulong passed;
    const char *at = getenv("PGSTRATA_CRASH_AT");
    const char *colon = at != NULL ? strrchr(at, ':') : NULL;
    if (colon == NULL || strlen(name) != (size_t)(colon - at) ||
        strncmp(at, name, strlen(name)) != 0)
        return;
    if (atomic_fetch_add(&passed, 1) + 1 == strtoul(colon + 1, NULL, 10))
        (void)raise(SIGKILL);
}
#else
typedef int crash_point_is_inline; /* a translation unit must hold something */
#endif
