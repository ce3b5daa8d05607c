/* message_fuzz.c: bodies of logical messages, which any role of the database may write under our
 * prefixes. The input is tried under each. */
#include "core/err.h"
#include "pg/messages.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const prefixes[] = {
    MESSAGE_FLUSH, MESSAGE_RESTORE_POINT, MESSAGE_HEARTBEAT, MESSAGE_ACTOR,
    MESSAGE_MOVE,  MESSAGE_DDL,           MESSAGE_RESTORE,   "somebody.else",
};

/* What names itself must come back from the body that it makes. */
static void
check_restore_point(const struct message *m, struct arena *arena)
{
    struct buf body = { 0 };
    struct message again;
    struct pgs_err err;
    message_restore_point_body(&body, m->u.restore_point.name);
    pgs_assert(message_parse(slice_str(MESSAGE_RESTORE_POINT), buf_slice(&body), arena, &again,
                             &err) == 0);
    pgs_assert(slice_equal(again.u.restore_point.name, m->u.restore_point.name));
    buf_release(&body);
}

/* Names from a terminal are any bytes: a body is made all the same. */
static void
check_any_name(struct slice name, struct arena *arena)
{
    struct buf body = { 0 };
    struct message m;
    struct pgs_err err;
    message_restore_point_body(&body,
                               slice_of(name.size == 0 ? "" : (const char *)name.data, name.size));
    pgs_assert(message_parse(slice_str(MESSAGE_RESTORE_POINT), buf_slice(&body), arena, &m, &err) ==
               0);
    buf_release(&body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(NULL);
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        struct message m;
        struct pgs_err err;
        int rc = message_parse(slice_str(prefixes[i]), slice_of(data, size), arena, &m, &err);
        pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
        if (rc == 0 && m.kind == MESSAGE_KIND_RESTORE_POINT)
            check_restore_point(&m, arena);
        pgs_assert(rc < 0 || m.kind != MESSAGE_KIND_MOVE || m.u.move.key.size > 0);
    }
    check_any_name(slice_of(data, size), arena);
    arena_free(arena);
    return 0;
}
