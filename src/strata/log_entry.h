/* log_entry.h: one entry of the archive's log: what becomes visible at once, and its encoding.
 *
 * An entry is text: a JSON object, a newline, then the MAC line over everything before it
 * (docs/format.md). It names the MAC of the entry before it, so that none can be changed, removed
 * or put in between unseen. mac_alg 0 is SHA-256: damage is detected, tampering is not. */
#ifndef STRATA_LOG_ENTRY_H
#define STRATA_LOG_ENTRY_H

#include "core/arena.h"
#include "pg/relation.h"
#include "strata/segment.h"

#define LOG_FORMAT_VERSION 1
#define LOG_ENTRY_BYTES_MAX ((size_t)64 << 20)

enum log_kind {
    LOG_EPOCH,   /* a writer took over: new epoch, nothing else */
    LOG_CHANGES, /* the stream advanced: range, segments, transactions */
    LOG_RANGE,   /* the stream advanced over nothing of ours */
    LOG_BASE,    /* bases; the range is empty */
    LOG_ERA,     /* a new era begins at range.begin; `reason` says why; see log_entry_fork */
    LOG_NOTE,    /* breaks, shapes or drops found outside the stream; the range is empty */
};
const char *log_kind_name(enum log_kind kind);

struct log_shape { /* the table has this shape (and name) from `from` on */
    pgs_lsn from;
    uint64_t id; /* relation_shape_id */
    struct relation *relation;
};
struct log_base { /* exact state at lsn: versions after it have commit LSN >= lsn */
    uint32_t table_oid;
    uint64_t shape_id;
    pgs_lsn lsn;
    uint64_t rows;
    uint32_t *segments; /* indexes into the entry's segments; none for an empty table */
    size_t segment_count;
};
/* Between begin and end the archive cannot vouch for the table: an answer at cut P from a base at B
 * is exact only if [B, P) meets no break. */
struct log_break {
    uint32_t table_oid; /* 0: every table */
    pgs_lsn begin;
    pgs_lsn end;         /* 0: still open; closed by a later break with the same table and begin */
    struct slice code;   /* "gap", "shape_changed", "dropped", "identity_lost", "skipped",
                            "rows_changed" */
    struct slice reason; /* one sentence */
};
struct log_restore_point {
    struct slice name;
    pgs_lsn commit_lsn, commit_end_lsn;
    pgs_time time;
    uint64_t xid;
};

struct log_entry {
    enum log_kind kind;
    uint64_t number; /* from 1, without holes */
    struct slice archive_id;
    uint32_t era; /* from 1 */
    uint64_t system_id;
    uint32_t timeline;
    struct {
        uint64_t epoch;
        struct slice nonce;
    } writer;
    uint8_t previous_mac[32]; /* zeros in entry 1 */
    uint8_t mac[32];          /* of this entry; filled by encode and decode */
    /* Everything committed with commit_end_lsn in (begin, end] is in here. */
    struct pgs_lsn_range range;
    pgs_time time_min, time_max; /* commit times; PGS_TIME_NONE: no transaction */
    pgs_time created;
    struct slice reason;
    struct segment_info *segments;
    size_t segment_count;
    struct log_shape *shapes;
    size_t shape_count;
    struct log_base *bases;
    size_t base_count;
    struct log_break *breaks;
    size_t break_count;
    struct log_restore_point *restore_points;
    size_t restore_point_count;
    struct slice *barriers; /* ids of pgstrata.flush messages that are in */
    size_t barrier_count;
    struct {
        uint64_t counter; /* 0: none seen yet */
        struct slice nonce;
    } heartbeat;
};

/* Of an era: where it left the one before. Up to there positions mean the same in both; what the
 * one before has behind it is abandoned. It is the begin of the entry's break of every table. 0:
 * another server's era, whose positions cannot be compared with those before. */
pgs_lsn log_entry_fork(const struct log_entry *e);

/* Fills e->mac. */
PGS_CHECKED int log_entry_encode(struct log_entry *e, struct buf *out, struct pgs_err *err);
/* Checks format, MAC and every field; everything lives in `arena`. PGS_E_CORRUPT; a newer
 * format version is PGS_E_REFUSED naming it. */
PGS_CHECKED int log_entry_decode(struct slice bytes, struct arena *arena, struct log_entry **e,
                                 struct pgs_err *err);

#endif
