/* pgoutput_fuzz.c: the decoder of the replication stream. What is accepted lies within the message
 * and can be split as its counts promise. */
#include "core/err.h"
#include "pg/pgoutput.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice input;

static void
check_inside(struct slice part)
{
    pgs_assert(part.data >= input.data);
    pgs_assert(part.size <= (size_t)(input.data + input.size - part.data));
}

static void
check_tuple(const struct pgoutput_tuple *t)
{
    struct pgs_err err;
    struct row_field *fields = calloc((size_t)t->column_count + 1, sizeof(*fields));
    pgs_assert(fields != NULL);
    check_inside(t->image);
    pgs_assert(row_split(t->image, t->column_count, fields, &err) == 0);
    free(fields);
}

static void
check_relation(const struct pgoutput_message *m)
{
    struct arena *arena = arena_new(NULL);
    struct relation *r = NULL;
    struct pgs_err err;
    int rc = pgoutput_relation(m, arena, &r, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
    if (rc == 0) {
        struct buf json = { 0 };
        pgs_assert(relation_matches(r, r));
        (void)relation_shape_id(r);
        relation_to_json(r, &json); /* every name is text */
        buf_release(&json);
    }
    arena_free(arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgoutput_message m;
    struct pgs_err err;
    input = slice_of(data, size);
    int rc = pgoutput_decode(input, &m, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
    if (rc < 0)
        return 0;
    switch (m.kind) {
    case PGOUTPUT_INSERT: check_tuple(&m.u.insert.row); break;
    case PGOUTPUT_DELETE: check_tuple(&m.u.delete.old); break;
    case PGOUTPUT_UPDATE:
        check_tuple(&m.u.update.row);
        if (m.u.update.old_kind != 0)
            check_tuple(&m.u.update.old);
        break;
    case PGOUTPUT_TRUNCATE:
        check_inside(m.u.truncate.oids);
        pgs_assert(m.u.truncate.oids.size == (size_t)m.u.truncate.count * 4);
        break;
    case PGOUTPUT_MESSAGE:
        check_inside(m.u.message.prefix);
        check_inside(m.u.message.content);
        break;
    case PGOUTPUT_RELATION: check_relation(&m); break;
    default: break;
    }
    return 0;
}
