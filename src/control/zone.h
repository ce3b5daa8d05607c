/* zone.h: time zones by IANA name ("Europe/Berlin"), from the system's tzdata.
 *
 * libc knows one zone a process, through the environment, so schedules of many zones in many
 * threads cannot use it (docs/decisions/0009). This reads the TZif files themselves (RFC 8536),
 * with the rule in their footer for the years behind the table.
 *
 * A zone is a row of spans in which local time is UTC plus a constant. Seconds here are Unix's,
 * without leap seconds. A zone lives in the arena it was read into, never changes, and may be used
 * by any thread. */
#ifndef CONTROL_ZONE_H
#define CONTROL_ZONE_H

#include "core/arena.h"
#include <pgstrata/error.h>

/* Offsets are within these, by RFC 8536: one day and two hours at most. */
#define ZONE_OFFSET_MIN_S (-89999)
#define ZONE_OFFSET_MAX_S 93599

struct zone;

/* Half-open: begin_s <= t < end_s. INT64_MIN and INT64_MAX where it has no end. */
struct zone_span {
    int64_t begin_s;
    int64_t end_s;
    int32_t offset_s; /* local time minus UTC */
};

/* folder NULL: $TZDIR, else /usr/share/zoneinfo. "UTC" needs no file. PGS_E_USAGE: no such zone;
 * PGS_E_CORRUPT: its file is not what it must be. */
PGS_CHECKED int zone_open(const char *folder, const char *name, struct arena *arena,
                          const struct zone **zone, struct pgs_err *err);
/* From the bytes of a TZif file, which are not needed afterwards. PGS_E_CORRUPT. */
PGS_CHECKED int zone_read(struct slice tzif, struct arena *arena, const struct zone **zone,
                          struct pgs_err *err);
/* The span that holds t. Spans side by side may have the same offset. */
struct zone_span zone_span_at(const struct zone *zone, int64_t t);

#endif
