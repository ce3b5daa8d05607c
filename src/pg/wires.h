/* wires.h: connections that another thread may cut.
 *
 * A server that is gone without a word (its machine died, the network drops packets) leaves a query
 * waiting for as long as TCP does. Who must not wait for that opens its connections with one
 * `struct pg_wires`, and cuts them all: every call in progress fails as if the server had ended the
 * session. A cut is no state: what is opened afterwards works. Any thread, at any time. */
#ifndef PG_WIRES_H
#define PG_WIRES_H

#include "pg/conn.h"

#include <pthread.h>

struct pg_wires {
    pthread_mutex_t mutex; /* guards the list */
    struct pg_conn *first;
};

void pg_wires_init(struct pg_wires *w);
void pg_wires_release(struct pg_wires *w); /* every connection is closed by then */
void pg_wires_cut(struct pg_wires *w);

#endif
