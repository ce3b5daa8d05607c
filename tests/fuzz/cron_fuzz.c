/* cron_fuzz.c: the parser of schedules. What is refused leaves the out parameter alone; what is
 * accepted fires within nine years, later than asked, and is what cron_prev finds again. */
#include "control/cron.h"
#include "core/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define UNTOUCHED 77

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_firings(const struct cron *cron)
{
    struct pgs_err err;
    struct arena *arena = arena_new(NULL);
    const struct zone *utc = NULL;
    pgs_time time = 0, found = 0;
    pgs_assert(zone_open(NULL, "UTC", arena, &utc, &err) == 0);
    for (int i = 0; i < 3; i++, time = found) {
        pgs_assert(cron_next(cron, utc, time, &found) == 0 && found > time);
        pgs_time again = 0;
        pgs_assert(cron_prev(cron, utc, found, &again) == 0 && again == found);
    }
    arena_free(arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgs_err err;
    struct cron cron = { .minutes = UNTOUCHED };
    char *text = malloc(size + 1); /* exactly so long: a read past the NUL is seen */
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    int rc = cron_parse(text, &cron, &err);
    if (rc == 0)
        check_firings(&cron);
    else
        pgs_assert(rc == PGS_E_USAGE && cron.minutes == UNTOUCHED && err.message[0] != '\0');
    free(text);
    return 0;
}
