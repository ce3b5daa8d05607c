#include "archiver/base_done.h"

#include <time.h>

void
base_done_init(struct base_done *b)
{
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->answered, NULL);
    b->answer = BASE_WAITS;
}

void
base_done_release(struct base_done *b)
{
    pthread_cond_destroy(&b->answered);
    pthread_mutex_destroy(&b->mutex);
}

/* Signals with the mutex held: the owner may release as soon as it has seen the answer. */
void
base_done_answer(struct base_done *b, enum base_answer answer)
{
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->mutex);
    b->answer = answer;
    pthread_cond_signal(&b->answered);
    pthread_mutex_unlock(&b->mutex);
}

enum base_answer
base_done_wait(struct base_done *b, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&b->mutex);
    int rc = 0;
    while (b->answer == BASE_WAITS && rc == 0)
        rc = pthread_cond_timedwait(&b->answered, &b->mutex, &until);
    enum base_answer answer = b->answer;
    pthread_mutex_unlock(&b->mutex);
    return answer;
}
