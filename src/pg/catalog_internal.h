/* catalog_internal.h: what the files of the catalog share. */
#ifndef PG_CATALOG_INTERNAL_H
#define PG_CATALOG_INTERNAL_H

#include "pg/catalog.h"

bool cell_true(const struct pg_rows *rows, size_t row, size_t column);
uint32_t cell_oid(const struct pg_rows *rows, size_t row, size_t column);
/* The row's only key column, an index into its columns; -1: there are none or several. */
int relation_only_key(const struct relation *r);

#endif
