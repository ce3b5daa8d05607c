/* conn_internal.h: the connection, for this folder's files only. */
#ifndef PG_CONN_INTERNAL_H
#define PG_CONN_INTERNAL_H

#include "pg/conn.h"

#include <libpq-fe.h>

struct pg_conn {
    PGconn *pq;
    char *message;       /* the last COPY row or replication message: PQfreemem */
    struct buf *notices; /* where notices go; NULL: diag */
};

/* Fills *err from a result (NULL: from the connection). */
int pg_fail(struct pg_conn *c, const PGresult *result, const char *doing, struct pgs_err *err);

#endif
