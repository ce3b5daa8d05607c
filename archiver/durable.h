/* durable.h: the end of the last log entry, and all the slot ever confirms (DESIGN 4.1). Begins at
 * the archive's end. The flusher advances it (asserted: never back); reading never waits.
 *
 * The spills, bases and joining tables that are under way hold nothing back: whatever is not in an
 * entry yet committed after this position, and comes again from the slot. */
#ifndef ARCHIVER_DURABLE_H
#define ARCHIVER_DURABLE_H

#include <pgstrata/types.h>
#include <stdatomic.h>

struct durable {
    _Atomic pgs_lsn end;
    int wake_fd; /* an eventfd told of every advance; -1: none */
};

void durable_init(struct durable *d, pgs_lsn end, int wake_fd);
/* Between sessions: a new era may begin lower. */
void durable_restart(struct durable *d, pgs_lsn end);
void durable_advance(struct durable *d, pgs_lsn end);
pgs_lsn durable_lsn(const struct durable *d);

#endif
