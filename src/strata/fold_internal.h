/* fold_internal.h: for state.c alone. */
#ifndef STRATA_FOLD_INTERNAL_H
#define STRATA_FOLD_INTERNAL_H

#include "strata/scan.h"

/* Whether the image of this update carries fields over, and not from the row that is here: there
 * is none, or the update changed the key. */
bool fold_needs_carry(struct fold *f, const struct version *v);
/* The fold goes on from this whole row, as if it had been the last image. */
void fold_carry(struct fold *f, const struct row_field *fields);

#endif
