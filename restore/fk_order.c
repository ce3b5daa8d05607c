#include "restore/fk_order.h"

#include "core/err.h"

#include <stdbool.h>
#include <stdlib.h>

/* Whether all parents of `child` are placed. */
static bool
is_free(size_t child, const struct fk_edge *edges, size_t edge_count, const bool *placed)
{
    for (size_t i = 0; i < edge_count; i++) {
        if (edges[i].child == child && edges[i].parent != child && !placed[edges[i].parent])
            return false;
    }
    return true;
}

static size_t
next_place(size_t count, const struct fk_edge *edges, size_t edge_count, const bool *placed)
{
    size_t first_left = count;
    for (size_t i = 0; i < count; i++) {
        if (placed[i])
            continue;
        if (is_free(i, edges, edge_count, placed))
            return i;
        if (first_left == count)
            first_left = i;
    }
    return first_left; /* only cycles are left */
}

void
fk_order(size_t count, const struct fk_edge *edges, size_t edge_count, size_t *order)
{
    bool *placed = calloc(count + 1, sizeof(*placed));
    pgs_assert(placed != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t next = next_place(count, edges, edge_count, placed);
        order[i] = next;
        placed[next] = true;
    }
    free(placed);
}
