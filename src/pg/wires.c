#include "pg/wires.h"

#include "core/err.h"
#include "pg/conn_internal.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

void
pg_wires_init(struct pg_wires *w)
{
    *w = (struct pg_wires){ .first = NULL };
    pthread_mutex_init(&w->mutex, NULL);
}

void
pg_wires_release(struct pg_wires *w)
{
    pgs_assert(w->first == NULL);
    pthread_mutex_destroy(&w->mutex);
}

/* A descriptor of our own: libpq may close its one, and then the number is somebody else's. */
void
pg_wire_add(struct pg_conn *c, struct pg_wires *w)
{
    c->wire_fd = -1;
    if (w == NULL)
        return;
    c->wires = w;
    c->wire_fd = fcntl(PQsocket(c->pq), F_DUPFD_CLOEXEC, 0);
    pthread_mutex_lock(&w->mutex);
    c->wire_next = w->first;
    w->first = c;
    pthread_mutex_unlock(&w->mutex);
}

void
pg_wire_remove(struct pg_conn *c)
{
    struct pg_wires *w = c->wires;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->mutex);
    struct pg_conn **at = &w->first;
    while (*at != c)
        at = &(*at)->wire_next;
    *at = c->wire_next;
    pthread_mutex_unlock(&w->mutex);
    if (c->wire_fd >= 0)
        close(c->wire_fd);
}

void
pg_wires_cut(struct pg_wires *w)
{
    pthread_mutex_lock(&w->mutex);
    for (const struct pg_conn *c = w->first; c != NULL; c = c->wire_next) {
        if (c->wire_fd >= 0)
            (void)shutdown(c->wire_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&w->mutex);
}
