/* fold_internal.h: for state.c alone. */
#ifndef STRATA_FOLD_INTERNAL_H
#define STRATA_FOLD_INTERNAL_H

#include "strata/scan.h"

/* The fold goes on from this whole row, as if it had been the last image. */
void fold_carry(struct fold *f, const struct row_field *fields);

#endif
