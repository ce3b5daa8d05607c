/* zone_fuzz.c: the reader of TZif files. Whatever is accepted is a row of spans without holes, on
 * which a schedule can be searched. */
#include "control/cron.h"
#include "core/err.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_spans(const struct zone *zone)
{
    int64_t t = -INT64_C(6000000000); /* 1779 */
    for (int i = 0; i < 300; i++) {
        struct zone_span span = zone_span_at(zone, t);
        pgs_assert(span.begin_s <= t && t < span.end_s);
        pgs_assert(span.offset_s >= ZONE_OFFSET_MIN_S && span.offset_s <= ZONE_OFFSET_MAX_S);
        if (span.end_s == INT64_MAX)
            break;
        pgs_assert(zone_span_at(zone, span.end_s).begin_s == span.end_s);
        t = span.end_s;
    }
}

static void
check_schedule(const struct zone *zone, const char *text)
{
    struct pgs_err err;
    struct cron cron;
    pgs_time time = 0, found;
    pgs_assert(cron_parse(text, &cron, &err) == 0);
    for (int i = 0; i < 20 && cron_next(&cron, zone, time, &found) == 0; i++, time = found) {
        pgs_time again = 0;
        pgs_assert(found > time);
        pgs_assert(cron_prev(&cron, zone, found, &again) == 0 && again == found);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgs_err err;
    struct arena *arena = arena_new(NULL);
    const struct zone *zone = NULL;
    int rc = zone_read(slice_of(data, size), arena, &zone, &err);
    pgs_assert(rc == 0 || (rc == PGS_E_CORRUPT && zone == NULL));
    if (rc == 0) {
        check_spans(zone);
        check_schedule(zone, "30 2 * * *");
        check_schedule(zone, "*/30 * * 3,10 *");
    }
    arena_free(arena);
    return 0;
}
