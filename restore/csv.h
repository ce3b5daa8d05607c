/* csv.h: a field as COPY's CSV format has it: NULL is empty, the empty string is "". Pure. */
#ifndef RESTORE_CSV_H
#define RESTORE_CSV_H

#include "core/buf.h"

/* The field alone: the caller puts ',' between and '\n' after. */
void csv_put_field(struct buf *out, struct slice text);

#endif
