/* fk_order.h: parents before children. Pure. */
#ifndef RESTORE_FK_ORDER_H
#define RESTORE_FK_ORDER_H

#include <stddef.h>

/* Things are numbered 0 to count - 1. */
struct fk_edge {
    size_t child, parent;
};

/* Fills order[count] so that parents come before children; the reverse is children first. Among
 * free ones the lowest number comes first, so that the answer is stable. References to oneself do
 * not count; a cycle is entered at its lowest number. */
void fk_order(size_t count, const struct fk_edge *edges, size_t edge_count, size_t *order);

#endif
