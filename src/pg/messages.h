/* messages.h: the logical messages pgstrata writes into the user's WAL, all transactional, all
 * ASCII JSON (DESIGN 4.11). The prefix names the kind, the body is small.
 *
 *   pgstrata.flush          {"id": "<nonce>"}                     barrier
 *   pgstrata.restore_point  {"name": "..."}                       named restore point, this commit
 *   pgstrata.heartbeat      {"counter": n, "nonce": "..."}
 *   pgstrata.actor          {"actor": "..."}                      pgstrata.set_actor(...)
 *   pgstrata.move           {"oid": n, "old": t|null, "new": t|null, "key": [text...]}
 *                           old and new tenant as text, the NEW row's key in attnum order; sent by
 *                           the AFTER UPDATE row trigger
 *   pgstrata.ddl            {"tag": "CREATE TABLE", "dropped": [oid...], "changed": [oid...],
 *                           "relations": [<relation JSON of pg/relation.h>...]}
 *                           table shapes after the command; changed: tables whose stored rows may
 *                           now read differently without row events (ALTER TYPE ... RENAME VALUE,
 *                           ALTER COLUMN ... USING), that left the publication, or of which
 *                           something could not be said: history does not carry across this commit
 *   pgstrata.restore        {"id": "...", "phase": "begin"|"end", "tenant": "...",
 *                           "restore_point": "..."}
 *
 * Non-ASCII text in bodies is \u-escaped. */
#ifndef PG_MESSAGES_H
#define PG_MESSAGES_H

#include "pg/relation.h"

#define MESSAGE_FLUSH "pgstrata.flush"
#define MESSAGE_RESTORE_POINT "pgstrata.restore_point"
#define MESSAGE_HEARTBEAT "pgstrata.heartbeat"
#define MESSAGE_ACTOR "pgstrata.actor"
#define MESSAGE_MOVE "pgstrata.move"
#define MESSAGE_DDL "pgstrata.ddl"
#define MESSAGE_RESTORE "pgstrata.restore"

enum message_kind {
    MESSAGE_KIND_OTHER, /* not ours */
    MESSAGE_KIND_FLUSH,
    MESSAGE_KIND_RESTORE_POINT,
    MESSAGE_KIND_HEARTBEAT,
    MESSAGE_KIND_ACTOR,
    MESSAGE_KIND_MOVE,
    MESSAGE_KIND_DDL,
    MESSAGE_KIND_RESTORE,
};

struct message {
    enum message_kind kind;
    union {
        struct {
            struct slice id;
        } flush;
        struct {
            struct slice name;
        } restore_point;
        struct {
            uint64_t counter;
            struct slice nonce;
        } heartbeat;
        struct {
            struct slice actor;
        } actor;
        struct {
            uint32_t oid;
            struct slice old_tenant, new_tenant; /* SLICE_NULL for NULL */
            struct slice key;                    /* encoded as pg/relation.h says */
        } move;
        struct {
            struct slice tag;
            struct relation **relations;
            size_t relation_count;
            uint32_t *dropped;
            size_t dropped_count;
            uint32_t *changed;
            size_t changed_count;
        } ddl;
        struct {
            struct slice id, phase, tenant, restore_point;
        } restore;
    } u;
};

/* A body of our prefix that does not parse is PGS_E_CORRUPT; another's prefix is
 * MESSAGE_KIND_OTHER. */
PGS_CHECKED int message_parse(struct slice prefix, struct slice content, struct arena *arena,
                              struct message *m, struct pgs_err *err);
/* Bodies, as ASCII JSON. Bytes that are not UTF-8 become '?': PostgreSQL refuses them elsewhere. */
void message_flush_body(struct buf *out, const char *id);
void message_restore_point_body(struct buf *out, struct slice name);
void message_restore_body(struct buf *out, struct slice id, const char *phase, struct slice tenant,
                          struct slice restore_point);

#endif
