/* conn_internal.h: the connection, for this folder's files only. */
#ifndef PG_CONN_INTERNAL_H
#define PG_CONN_INTERNAL_H

#include "pg/conn.h"

#include <libpq-fe.h>

struct pg_conn {
    PGconn *pq;
    char *message;       /* the last COPY row or replication message: PQfreemem */
    struct buf *notices; /* where notices go; NULL: diag */
    /* wires.c; the list's mutex guards wire_next. */
    struct pg_wires *wires;
    struct pg_conn *wire_next;
    int wire_fd; /* -1: none */
};

void pg_wire_add(struct pg_conn *c, struct pg_wires *w); /* NULL: not on a wire */
void pg_wire_remove(struct pg_conn *c);

/* Fills *err from a result (NULL: from the connection). */
int pg_fail(struct pg_conn *c, const PGresult *result, const char *doing, struct pgs_err *err);

#endif
