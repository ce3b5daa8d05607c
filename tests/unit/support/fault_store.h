/* fault_store.h: a view of a store whose calls go wrong by a script.
 *
 *     s = fault_store_new(inner);
 *     fault_store_next(s, FAULT_LOSE_ANSWER, 2); -- the call after the next one
 *
 * Every call of every kind counts, uploads' too. Where the faults are tried one after the other,
 * count with fault_store_calls what a scenario needs. Any number of threads, if `inner` allows it;
 * the script is changed by one. Closing the view leaves `inner` open. */
#ifndef SUPPORT_FAULT_STORE_H
#define SUPPORT_FAULT_STORE_H

#include "store/store.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_FAIL,        /* answers PGS_E_STORE without having done anything */
    FAULT_LOSE_ANSWER, /* does its work, then answers PGS_E_STORE */
    FAULT_TRUNCATE,    /* half of the bytes are lost, and it answers 0: a store that lies */
    FAULT_DELAY,       /* calls the function of fault_store_on_delay, then does its work */
};

struct store *fault_store_new(struct store *inner);

/* The nth call from now (1: the next one) suffers the fault; those set before are forgotten. */
void fault_store_next(struct store *s, enum fault_kind kind, size_t nth);
/* This call and all that follow. */
void fault_store_from(struct store *s, enum fault_kind kind, size_t nth);
void fault_store_on_delay(struct store *s, void (*fn)(void *context), void *context);
/* Calls made so far. */
size_t fault_store_calls(struct store *s);

#endif
