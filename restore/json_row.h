/* json_row.h: rows and keys as JSON objects: column -> PostgreSQL's text, or null.
 *
 * Values stay text whatever their type, so that nothing is rounded and the text can go back into
 * PostgreSQL as it is. Columns come in the table's order. UTF-8 passes unchanged; pure functions,
 * no failure (a buffer over its limit is failed, see core/buf.h). */
#ifndef RESTORE_JSON_ROW_H
#define RESTORE_JSON_ROW_H

#include "core/buf.h"
#include "pg/relation.h"

/* "text", quoted and escaped; SLICE_NULL: null. */
void json_put_text(struct buf *out, struct slice text);
/* The field is not known: json_put_row leaves it out. */
#define ROW_ABSENT 0
/* {"column": value, ...} of all columns; no field may be unchanged TOAST. */
void json_put_row(struct buf *out, const struct relation *r, const struct row_field *fields);
/* {"key column": value, ...} from the key's fields in order. */
void json_put_key(struct buf *out, const struct relation *r, const struct slice *key_fields);
/* As json_put_key, from the encoded key. PGS_E_CORRUPT. */
PGS_CHECKED int json_put_encoded_key(struct buf *out, const struct relation *r, struct slice key,
                                     struct pgs_err *err);
/* Number of key columns. */
size_t relation_key_count(const struct relation *r);

#endif
