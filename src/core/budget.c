#include "core/budget.h"

void
budget_init(struct budget *b, size_t limit)
{
    b->limit = limit;
    atomic_init(&b->used, 0);
    atomic_init(&b->peak, 0);
}

void
budget_take(struct budget *b, size_t bytes)
{
    if (b == NULL)
        return;
    size_t used = atomic_fetch_add_explicit(&b->used, bytes, memory_order_relaxed) + bytes;
    size_t peak = atomic_load_explicit(&b->peak, memory_order_relaxed);
    while (used > peak && !atomic_compare_exchange_weak_explicit(
                              &b->peak, &peak, used, memory_order_relaxed, memory_order_relaxed))
        continue;
}

void
budget_give(struct budget *b, size_t bytes)
{
    if (b != NULL)
        atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);
}

bool
budget_fits(const struct budget *b, size_t bytes)
{
    if (b == NULL)
        return true;
    size_t used = budget_used(b);
    return used <= b->limit && bytes <= b->limit - used;
}

size_t
budget_used(const struct budget *b)
{
    return atomic_load_explicit(&b->used, memory_order_relaxed);
}

size_t
budget_peak(const struct budget *b)
{
    return atomic_load_explicit(&b->peak, memory_order_relaxed);
}
