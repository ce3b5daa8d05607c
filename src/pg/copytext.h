/* copytext.h: COPY's text format (PostgreSQL docs, COPY, "Text Format"), both ways. */
#ifndef PG_COPYTEXT_H
#define PG_COPYTEXT_H

#include "core/arena.h"
#include "core/buf.h"
#include <pgstrata/error.h>

/* Splits one line (with or without its newline) into exactly `columns` fields; \N is SLICE_NULL.
 * Fields without escapes point into `line`, others into `scratch`. PGS_E_CORRUPT otherwise. */
PGS_CHECKED int copytext_split(struct slice line, size_t columns, struct slice *fields,
                               struct arena *scratch, struct pgs_err *err);
/* Appends one field, escaped; SLICE_NULL becomes \N. The caller puts '\t' between and '\n'
 * after. */
void copytext_put(struct buf *out, struct slice field);

#endif
