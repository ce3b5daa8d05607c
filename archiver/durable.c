#include "archiver/durable.h"

#include "core/err.h"

#include <sys/eventfd.h>

void
durable_init(struct durable *d, pgs_lsn end, int wake_fd)
{
    atomic_init(&d->end, end);
    d->wake_fd = wake_fd;
}

void
durable_restart(struct durable *d, pgs_lsn end)
{
    atomic_store(&d->end, end);
}

void
durable_advance(struct durable *d, pgs_lsn end)
{
    pgs_lsn before = atomic_exchange(&d->end, end);
    pgs_assert(end >= before);
    if (d->wake_fd >= 0 && end > before)
        (void)eventfd_write(d->wake_fd, 1);
}

pgs_lsn
durable_lsn(const struct durable *d)
{
    return atomic_load(&d->end);
}
