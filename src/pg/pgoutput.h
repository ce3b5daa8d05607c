/* pgoutput.h: decodes the messages of the pgoutput plugin, protocol version 1 (PostgreSQL docs,
 * "Logical Replication Message Formats"). A parser of foreign bytes: no allocation, nothing read
 * past the end, everything left over is an error. Slices point into the message. */
#ifndef PG_PGOUTPUT_H
#define PG_PGOUTPUT_H

#include "core/arena.h"
#include "pg/relation.h"
#include <pgstrata/error.h>

enum pgoutput_kind {
    PGOUTPUT_BEGIN = 'B',
    PGOUTPUT_COMMIT = 'C',
    PGOUTPUT_ORIGIN = 'O',
    PGOUTPUT_RELATION = 'R',
    PGOUTPUT_TYPE = 'Y',
    PGOUTPUT_INSERT = 'I',
    PGOUTPUT_UPDATE = 'U',
    PGOUTPUT_DELETE = 'D',
    PGOUTPUT_TRUNCATE = 'T',
    PGOUTPUT_MESSAGE = 'M',
};

/* TupleData: `image` is a row image as pg/relation.h defines it (the bytes after the column
 * count). */
struct pgoutput_tuple {
    uint16_t column_count;
    struct slice image;
};

struct pgoutput_message {
    enum pgoutput_kind kind;
    union {
        struct {
            pgs_lsn commit_lsn; /* start of the commit record ("final LSN") */
            pgs_time commit_time;
            uint32_t xid;
        } begin;
        struct {
            pgs_lsn commit_lsn, commit_end_lsn;
            pgs_time commit_time;
        } commit;
        struct {
            uint32_t oid;
            struct slice body; /* for pgoutput_relation */
        } relation;
        struct {
            uint32_t oid;
            struct pgoutput_tuple row;
        } insert;
        struct {
            uint32_t oid;
            char old_kind; /* 'K' key, 'O' whole old row, 0 none */
            struct pgoutput_tuple old;
            struct pgoutput_tuple row;
        } update;
        struct {
            uint32_t oid;
            char old_kind; /* 'K' or 'O' */
            struct pgoutput_tuple old;
        } delete;
        struct {
            uint32_t count;
            uint8_t options;   /* 1 CASCADE, 2 RESTART IDENTITY */
            struct slice oids; /* count * 4 bytes, big-endian */
        } truncate;
        struct {
            bool transactional;
            pgs_lsn lsn;
            struct slice prefix;
            struct slice content;
        } message;
    } u;
};

PGS_CHECKED int pgoutput_decode(struct slice bytes, struct pgoutput_message *m,
                                struct pgs_err *err);
/* The table a Relation message describes: columns with name, type, typmod and key flag; attnum
 * 0. */
PGS_CHECKED int pgoutput_relation(const struct pgoutput_message *m, struct arena *arena,
                                  struct relation **r, struct pgs_err *err);

#endif
