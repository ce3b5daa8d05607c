#include "core/queue.h"

#include "core/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct node {
    struct node *next;
    void *item;
    size_t bytes;
};

struct queue {
    size_t bytes_max;
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t not_empty, not_full;
    struct node *first, *last;
    size_t bytes;
    bool closed, aborted;
};

struct queue *
queue_new(size_t bytes_max)
{
    pthread_condattr_t attributes;
    struct queue *q = calloc(1, sizeof(*q));
    if (q == NULL)
        abort();
    q->bytes_max = bytes_max;
    pthread_mutex_init(&q->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&q->not_empty, &attributes);
    pthread_cond_init(&q->not_full, &attributes);
    pthread_condattr_destroy(&attributes);
    return q;
}

void
queue_free(struct queue *q, void (*release)(void *item))
{
    if (q == NULL)
        return;
    pgs_assert(q->first == NULL || release != NULL);
    while (q->first != NULL) {
        struct node *n = q->first;
        q->first = n->next;
        release(n->item);
        free(n);
    }
    pthread_cond_destroy(&q->not_full);
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

static bool
has_room(const struct queue *q, size_t bytes)
{
    return q->first == NULL || (q->bytes <= q->bytes_max && bytes <= q->bytes_max - q->bytes);
}

static void
append(struct queue *q, void *item, size_t bytes)
{
    struct node *n = malloc(sizeof(*n));
    if (n == NULL)
        abort();
    *n = (struct node){ .item = item, .bytes = bytes };
    if (q->last != NULL)
        q->last->next = n;
    else
        q->first = n;
    q->last = n;
    q->bytes += bytes;
    pthread_cond_signal(&q->not_empty);
}

int
queue_try_push(struct queue *q, void *item, size_t bytes)
{
    int rc = 0;
    pthread_mutex_lock(&q->mutex);
    if (q->closed)
        rc = PGS_CLOSED;
    else if (!has_room(q, bytes))
        rc = PGS_FULL;
    else
        append(q, item, bytes);
    pthread_mutex_unlock(&q->mutex);
    return rc;
}

int
queue_push(struct queue *q, void *item, size_t bytes)
{
    int rc = 0;
    pthread_mutex_lock(&q->mutex);
    while (!q->closed && !has_room(q, bytes))
        pthread_cond_wait(&q->not_full, &q->mutex);
    if (q->closed)
        rc = PGS_CLOSED;
    else
        append(q, item, bytes);
    pthread_mutex_unlock(&q->mutex);
    return rc;
}

static struct timespec
deadline_in(int timeout_ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* Waits for an item with the mutex held: 0, PGS_CLOSED or PGS_TIMEOUT. */
static int
wait_item(struct queue *q, int timeout_ms)
{
    struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
    while (!q->aborted && q->first == NULL && !q->closed) {
        int rc = timeout_ms < 0 ? pthread_cond_wait(&q->not_empty, &q->mutex)
                                : pthread_cond_timedwait(&q->not_empty, &q->mutex, &deadline);
        if (rc == ETIMEDOUT && q->first == NULL && !q->closed)
            return PGS_TIMEOUT;
    }
    return q->aborted || q->first == NULL ? PGS_CLOSED : 0;
}

int
queue_pop(struct queue *q, int timeout_ms, void **item)
{
    struct node *n = NULL;
    pthread_mutex_lock(&q->mutex);
    int rc = wait_item(q, timeout_ms);
    if (rc == 0) {
        n = q->first;
        q->first = n->next;
        if (q->first == NULL)
            q->last = NULL;
        q->bytes -= n->bytes;
        *item = n->item;
        pthread_cond_broadcast(&q->not_full);
    }
    pthread_mutex_unlock(&q->mutex);
    free(n);
    return rc;
}

static void
queue_end(struct queue *q, bool abort_now)
{
    pthread_mutex_lock(&q->mutex);
    q->closed = true;
    q->aborted = q->aborted || abort_now;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->mutex);
}

void
queue_close(struct queue *q)
{
    queue_end(q, false);
}

void
queue_abort(struct queue *q)
{
    queue_end(q, true);
}

size_t
queue_bytes(struct queue *q)
{
    pthread_mutex_lock(&q->mutex);
    size_t bytes = q->bytes;
    pthread_mutex_unlock(&q->mutex);
    return bytes;
}
