/* base_done.h: bases that are written and wait for their place in the log.
 *
 * Whoever took them owns them and waits; builder and flusher answer once: published, or returned
 * (the session ended, or no table of them can be used). A base stays exact, so returned ones may be
 * handed in again. */
#ifndef ARCHIVER_BASE_DONE_H
#define ARCHIVER_BASE_DONE_H

#include "strata/log_entry.h"

#include <pthread.h>

enum base_answer { BASE_WAITS, BASE_PUBLISHED, BASE_RETURNED };

struct base_table {
    const struct relation *relation; /* as the snapshot shows it */
    uint64_t shape_id;
    uint64_t rows;
    uint32_t *segments; /* indexes */
    size_t segment_count;
    /* It needs a newer base: it was truncated or rewritten before it could be read, or the builder
     * has not archived all of its changes since. */
    bool left_out;
};

/* The history that LSNs are of: another server, a promoted one and a later era have their own. */
struct history_id {
    uint64_t system_id;
    uint32_t timeline, era;
};

struct base_done {
    struct history_id history;
    pgs_lsn lsn; /* the consistent point: the exact state of every table below */
    struct base_table *tables;
    size_t table_count;
    struct segment_info *segments;
    size_t segment_count;
    /* An entry that names the segments was sent to the store: it may be there whatever the answer,
     * so they are not to be removed. */
    bool offered;
    pthread_mutex_t mutex; /* guards answer */
    pthread_cond_t answered;
    enum base_answer answer;
};

void base_done_init(struct base_done *b);
void base_done_release(struct base_done *b);
void base_done_answer(struct base_done *b, enum base_answer answer); /* accepts NULL */
/* BASE_WAITS after timeout_ms without an answer. */
enum base_answer base_done_wait(struct base_done *b, int timeout_ms);

#endif
