/* budget.h: the memory promise (DESIGN 4.5), counted in one place. Thread-safe, lock-free counting.
 *
 * A budget never allocates. Who wants memory takes first and gives back later. budget_take always
 * succeeds (a unit of work must be able to finish); who can wait asks budget_fits before it accepts
 * more work, and spills or waits when it does not. */
#ifndef CORE_BUDGET_H
#define CORE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
    size_t limit;
    atomic_size_t used;
    atomic_size_t peak;
};

void budget_init(struct budget *b, size_t limit);
void budget_take(struct budget *b, size_t bytes); /* b may be NULL: not counted */
void budget_give(struct budget *b, size_t bytes);
/* Whether `bytes` more would stay within the limit. */
bool budget_fits(const struct budget *b, size_t bytes);
size_t budget_used(const struct budget *b);
size_t budget_peak(const struct budget *b);

#endif
