/* crash.h: places where tests end the process as power loss would. Compiled in with
 * -DPGS_TEST_HOOKS only: PGSTRATA_CRASH_AT=name:count kills it when `name` is passed for the
 * count-th time. */
#ifndef ARCHIVER_CRASH_H
#define ARCHIVER_CRASH_H

#ifdef PGS_TEST_HOOKS
void crash_point(const char *name);
#else
static inline void
crash_point(const char *name)
{
    (void)name;
}
#endif

#endif
