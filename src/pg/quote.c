#include "pg/quote.h"

#include "core/err.h"
#include "pg/conn_internal.h"

int
quote_ident(struct pg_conn *c, struct buf *out, struct slice name, struct pgs_err *err)
{
    char *text = PQescapeIdentifier(c->pq, (const char *)name.data, name.size);
    if (text == NULL)
        return pg_fail(c, NULL, "cannot quote a name", err);
    buf_put_str(out, text);
    PQfreemem(text);
    return 0;
}

int
quote_qualified(struct pg_conn *c, struct buf *out, struct slice schema, struct slice name,
                struct pgs_err *err)
{
    int rc = quote_ident(c, out, schema, err);
    if (rc == 0) {
        buf_put_u8(out, '.');
        rc = quote_ident(c, out, name, err);
    }
    return rc;
}

int
quote_literal(struct pg_conn *c, struct buf *out, struct slice value, struct pgs_err *err)
{
    if (value.data == NULL) {
        buf_put_str(out, "NULL");
        return 0;
    }
    char *text = PQescapeLiteral(c->pq, (const char *)value.data, value.size);
    if (text == NULL)
        return pg_fail(c, NULL, "cannot quote a value", err);
    buf_put_str(out, text);
    PQfreemem(text);
    return 0;
}

static void
put_doubled(struct buf *out, struct slice text, uint8_t quote)
{
    buf_put_u8(out, quote);
    for (size_t i = 0; i < text.size; i++) {
        pgs_assert(text.data[i] != 0);
        if (text.data[i] == quote)
            buf_put_u8(out, quote);
        buf_put_u8(out, text.data[i]);
    }
    buf_put_u8(out, quote);
}

void
quote_ident_offline(struct buf *out, struct slice name)
{
    put_doubled(out, name, '"');
}

void
quote_literal_offline(struct buf *out, struct slice value)
{
    if (value.data == NULL)
        buf_put_str(out, "NULL");
    else
        put_doubled(out, value, '\'');
}
