/* batch_internal.h: how items lie in a batch, for batch.c and batch_write.c. */
#ifndef ARCHIVER_BATCH_INTERNAL_H
#define ARCHIVER_BATCH_INTERNAL_H

#include "archiver/batch.h"

#define ITEMS_PER_BLOCK ((size_t)1024)

static inline const struct batch_item *
batch_item_at(const struct batch *b, size_t index)
{
    return &b->blocks[index / ITEMS_PER_BLOCK][index % ITEMS_PER_BLOCK];
}

#endif
