/* s3_retry.h: how long one call of a store goes on trying.
 *
 *     struct retry r = retry_begin(clock, &interrupted);
 *     while (!done && retry_wait(&r, at_least_us)) ...again...
 *
 * Waits are drawn evenly from zero to a bound that doubles from 100 ms to 4 s ("full jitter": many
 * that failed together do not come back together). No try begins more than 8 s after the first:
 * layers above go on themselves, and a stop must come through within 10 s (DESIGN 4.12). */
#ifndef STORE_S3_RETRY_H
#define STORE_S3_RETRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RETRY_BOUND_FIRST_US INT64_C(100000)
#define RETRY_BOUND_LAST_US INT64_C(4000000)
#define RETRY_FOR_US INT64_C(8000000)

/* Tests own time and chance. */
struct retry_clock {
    int64_t (*now_us)(void *context); /* never goes back */
    void (*wait_us)(void *context, int64_t us);
    uint64_t (*random)(void *context);
    void *context;
};

extern const struct retry_clock retry_clock_real;

struct retry {
    const struct retry_clock *clock;
    const atomic_bool *interrupted;
    int64_t begin_us;
    int64_t bound_us;
};

/* Once *interrupted, no wait goes on; NULL: nothing interrupts. */
struct retry retry_begin(const struct retry_clock *clock, const atomic_bool *interrupted);
/* Waits, at least as long as the server asked for. False, at once, when the next try would begin
 * too late. */
bool retry_wait(struct retry *r, int64_t at_least_us);

/* Whether the same request can succeed later: 500, 502, 503, 504, 429, timeouts, and a 409 that
 * only says "somebody else is at it". `code` is S3's word for it, or "". */
bool retry_is_worth(int status, const char *code);

#endif
