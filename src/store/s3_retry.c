#include "store/s3_retry.h"

#include "core/random.h"
#include "core/timefmt.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SLICE_US INT64_C(100000)

static int64_t
real_now_us(void *context)
{
    (void)context;
    return clock_us();
}

static void
real_wait_us(void *context, int64_t us)
{
    struct timespec left = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
    (void)context;
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

static uint64_t
real_random(void *context)
{
    uint64_t n;
    (void)context;
    random_bytes(&n, sizeof(n));
    return n;
}

const struct retry_clock retry_clock_real = {
    .now_us = real_now_us,
    .wait_us = real_wait_us,
    .random = real_random,
};

struct retry
retry_begin(const struct retry_clock *clock, const atomic_bool *interrupted)
{
    return (struct retry){
        .clock = clock,
        .interrupted = interrupted,
        .begin_us = clock->now_us(clock->context),
        .bound_us = RETRY_BOUND_FIRST_US,
    };
}

static bool
is_interrupted(const struct retry *r)
{
    return r->interrupted != NULL && atomic_load(r->interrupted);
}

/* In slices, so that an interruption is seen. */
static void
wait_us(const struct retry *r, int64_t us)
{
    while (us > 0 && !is_interrupted(r)) {
        int64_t slice = r->interrupted != NULL && us > SLICE_US ? SLICE_US : us;
        r->clock->wait_us(r->clock->context, slice);
        us -= slice;
    }
}

bool
retry_wait(struct retry *r, int64_t at_least_us)
{
    const struct retry_clock *c = r->clock;
    int64_t us = (int64_t)(c->random(c->context) % (uint64_t)(r->bound_us + 1));
    if (us < at_least_us)
        us = at_least_us;
    if (c->now_us(c->context) - r->begin_us > RETRY_FOR_US - us)
        return false;
    wait_us(r, us);
    r->bound_us = r->bound_us * 2 < RETRY_BOUND_LAST_US ? r->bound_us * 2 : RETRY_BOUND_LAST_US;
    return !is_interrupted(r);
}

bool
retry_is_worth(int status, const char *code)
{
    static const char *const codes[] = { "SlowDown",
                                         "RequestTimeout",
                                         "InternalError",
                                         "OperationAborted",
                                         "ConditionalRequestConflict",
                                         "ServiceUnavailable",
                                         "Busy" };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i]) == 0)
            return true;
    }
    return status == 500 || status == 502 || status == 503 || status == 504 || status == 429 ||
           status == 408;
}
