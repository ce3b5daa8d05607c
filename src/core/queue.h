/* queue.h: a bounded queue of pointers between threads, bounded in bytes (each item brings its
 * size).
 *
 * Any number of pushers and poppers. An item larger than the bound is accepted when the queue is
 * empty, so that nothing can get stuck. A failure travels in the item, never beside it. */
#ifndef CORE_QUEUE_H
#define CORE_QUEUE_H

#include <pgstrata/error.h>

struct queue;

#define PGS_FULL 2
#define PGS_CLOSED 3
#define PGS_TIMEOUT 4

struct queue *queue_new(size_t bytes_max);
/* The queue must be empty or `release` given, which is called for what is left. Accepts NULL. */
void queue_free(struct queue *q, void (*release)(void *item));
/* 0: the queue owns it. PGS_FULL, PGS_CLOSED: still yours. Never waits. */
PGS_CHECKED int queue_try_push(struct queue *q, void *item, size_t bytes);
/* Waits for room. 0: the queue owns it. PGS_CLOSED: still yours. */
PGS_CHECKED int queue_push(struct queue *q, void *item, size_t bytes);
/* Waits until an item comes, the queue is closed and empty (PGS_CLOSED), or timeout_ms have passed
 * (PGS_TIMEOUT; negative: no limit). */
PGS_CHECKED int queue_pop(struct queue *q, int timeout_ms, void **item);
/* No more pushes; poppers get what is left, then PGS_CLOSED. */
void queue_close(struct queue *q);
/* As close, and poppers get PGS_CLOSED at once; what is left waits for queue_free. */
void queue_abort(struct queue *q);
size_t queue_bytes(struct queue *q);

#endif
