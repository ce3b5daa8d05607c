/* alog.h: the archive's log: entries log/<20 digits>, numbered from 1, created only if absent.
 *
 * Reading:  open -> (refresh)... -> close.              Any number of readers, any machine.
 * Writing:  open -> take_epoch -> append... -> close.   One writer: a second one's create is
 *           refused (PGS_E_FENCED), and it stops.
 * One thread at a time. */
#ifndef STRATA_ALOG_H
#define STRATA_ALOG_H

#include "strata/log_entry.h"

struct alog;

/* The store of one archive under `root`: `.pgstrata/<archive id>/`. The caller closes it. */
PGS_CHECKED int alog_store(struct store *root, const char *archive_id, struct store **archive,
                           struct pgs_err *err);
/* Ids of the archives under `root`. */
PGS_CHECKED int alog_archives(struct store *root, struct arena *arena, struct slice **ids,
                              size_t *count, struct pgs_err *err);

/* Reads all entries and checks the chain. `store` must outlive it. An archive without any entry is
 * an empty log. */
PGS_CHECKED int alog_open(struct store *store, const char *archive_id, struct alog **log,
                          struct pgs_err *err);
void alog_close(struct alog *log); /* accepts NULL */
/* Reads entries that came since. PGS_NONE: none. */
PGS_CHECKED int alog_refresh(struct alog *log, struct pgs_err *err);

size_t alog_count(const struct alog *log);
/* 0-based; valid until close. */
const struct log_entry *alog_entry(const struct alog *log, size_t index);
const struct log_entry *alog_last(const struct alog *log); /* NULL when empty */
/* End of the stream that is durably visible: the highest range.end of the current era; 0 when
 * none. */
pgs_lsn alog_end(const struct alog *log);
struct store *alog_store_of(const struct alog *log);

/* Appends an entry LOG_EPOCH with the next epoch and a fresh nonce; from now on append may be
 * called. */
PGS_CHECKED int alog_take_epoch(struct alog *log, uint64_t system_id, uint32_t timeline,
                                struct pgs_err *err);
/* Between two sessions of a writer: reads the entries of its own whose answers were lost. They are
 * part of the log; what is appended next follows them. PGS_E_FENCED: another writer lives. */
PGS_CHECKED int alog_resume(struct alog *log, struct pgs_err *err);
uint64_t alog_epoch(const struct alog *log);
/* A fresh object name of this writer's epoch: "seg/<epoch>/<32 hex>". */
void alog_segment_name(const struct alog *log, char name[SEGMENT_NAME_MAX]);
/* Fills number, archive id, writer, MACs, created, and era, system id, timeline and heartbeat where
 * 0 from the last entry; creates it; on success the log has its own copy. A lost answer is
 * recognised by our nonce. PGS_E_FENCED: another writer lives; never try again. PGS_E_STORE: may be
 * tried again with the same entry. */
PGS_CHECKED int alog_append(struct alog *log, struct log_entry *e, struct pgs_err *err);

#endif
