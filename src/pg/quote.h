/* quote.h: the one place where SQL text is quoted (by libpq, in the connection's encoding rules).
 *
 * All append to a buf. Identifiers are always quoted, so that quote_all_identifiers changes
 * nothing. */
#ifndef PG_QUOTE_H
#define PG_QUOTE_H

#include "core/buf.h"
#include "pg/conn.h"

/* "name" */
PGS_CHECKED int quote_ident(struct pg_conn *c, struct buf *out, struct slice name,
                            struct pgs_err *err);
/* "schema"."name" */
PGS_CHECKED int quote_qualified(struct pg_conn *c, struct buf *out, struct slice schema,
                                struct slice name, struct pgs_err *err);
/* 'value', or NULL for SLICE_NULL */
PGS_CHECKED int quote_literal(struct pg_conn *c, struct buf *out, struct slice value,
                              struct pgs_err *err);
/* Offline forms for scripts without a connection (standard_conforming_strings on, UTF-8); the bytes
 * must hold no NUL. */
void quote_ident_offline(struct buf *out, struct slice name);
void quote_literal_offline(struct buf *out, struct slice value);

#endif
