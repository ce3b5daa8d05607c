/* replication.h: the replication side of a connection opened with pg_open_opts.replication
 * (PostgreSQL docs, "Streaming Replication Protocol"). One thread owns the connection. */
#ifndef PG_REPLICATION_H
#define PG_REPLICATION_H

#include "pg/conn.h"

struct server_identity {
    uint64_t system_id;
    uint32_t timeline;
    pgs_lsn flush_lsn;
};
PGS_CHECKED int replication_identify(struct pg_conn *c, struct server_identity *id,
                                     struct pgs_err *err);

struct timeline_switch {
    uint32_t timeline; /* the timeline that ended */
    pgs_lsn end;       /* where it was left */
};
/* History of `timeline`, oldest first; empty for timeline 1. */
PGS_CHECKED int replication_timeline_history(struct pg_conn *c, uint32_t timeline,
                                             struct arena *arena, struct timeline_switch **switches,
                                             size_t *count, struct pgs_err *err);

struct slot_created {
    pgs_lsn consistent_point;
    char snapshot[64]; /* exported snapshot's name; empty without export */
};
/* temporary + export for bases; permanent (FAILOVER on 17+) for the archiver's slot. The snapshot
 * lives until the next command on this connection. The server waits for each transaction that has
 * written to end; when one takes longer than a minute this fails and names it (DESIGN 4.3). */
PGS_CHECKED int replication_create_slot(struct pg_conn *c, const char *name, bool temporary,
                                        bool export_snapshot, struct slot_created *created,
                                        struct pgs_err *err);

/* START_REPLICATION with proto_version 1, publication_names and messages 'true'. */
PGS_CHECKED int replication_start(struct pg_conn *c, const char *slot, pgs_lsn start,
                                  const char *publication, struct pgs_err *err);

enum replication_event {
    REPLICATION_DATA,      /* one pgoutput message */
    REPLICATION_KEEPALIVE, /* all that ends at or before wal_end has been sent */
    REPLICATION_WAIT,      /* nothing there now: poll the socket */
    REPLICATION_END,       /* the server ended the stream */
};
struct replication_message {
    enum replication_event event;
    pgs_lsn wal_start, wal_end;
    bool reply_requested;
    struct slice bytes; /* DATA: valid until the next read */
};
/* Never waits: takes what has arrived. */
PGS_CHECKED int replication_read(struct pg_conn *c, struct replication_message *m,
                                 struct pgs_err *err);
/* Waits until the socket or `wake_fd` (-1: none) is readable, or timeout_ms. */
PGS_CHECKED int replication_poll(struct pg_conn *c, int wake_fd, int timeout_ms,
                                 struct pgs_err *err);
/* Standby status update: written, flushed and applied are all `confirmed` for us, so that our
 * walsender never looks ahead of the archive. */
PGS_CHECKED int replication_status(struct pg_conn *c, pgs_lsn confirmed, bool request_reply,
                                   struct pgs_err *err);
/* Ends the stream (CopyDone) and takes what remains, for 5 s at most: a server that goes on sending
 * is left to notice the closed connection. Afterwards only pg_close is of use. */
PGS_CHECKED int replication_stop(struct pg_conn *c, struct pgs_err *err);

#endif
