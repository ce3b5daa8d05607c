/* copytext_fuzz.c: COPY's text. A line that is accepted gives fields that come back through a line
 * of our own; and any bytes at all survive as a field. */
#include "core/err.h"
#include "pg/copytext.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS_MAX 8

static void
check_line(struct slice line, size_t count, struct arena *arena)
{
    struct slice fields[FIELDS_MAX], again[FIELDS_MAX];
    struct pgs_err err;
    struct buf ours = { 0 };
    int rc = copytext_split(line, count, fields, arena, &err);
    pgs_assert(rc == 0 || rc == PGS_E_CORRUPT);
    if (rc < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_put_u8(&ours, '\t');
        copytext_put(&ours, fields[i]);
    }
    buf_put_u8(&ours, '\n');
    pgs_assert(copytext_split(buf_slice(&ours), count, again, arena, &err) == 0);
    for (size_t i = 0; i < count; i++)
        pgs_assert(slice_equal(again[i], fields[i]));
    buf_release(&ours);
}

static void
check_field(struct slice value, struct arena *arena)
{
    struct slice field;
    struct pgs_err err;
    struct buf line = { 0 };
    copytext_put(&line, value);
    pgs_assert(line.size == 0 || (memchr(line.data, '\n', line.size) == NULL &&
                                  memchr(line.data, '\t', line.size) == NULL));
    pgs_assert(copytext_split(buf_slice(&line), 1, &field, arena, &err) == 0);
    pgs_assert(slice_equal(field, value));
    buf_release(&line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(NULL);
    struct slice input = slice_of(size == 0 ? (const uint8_t *)"" : data, size);
    for (size_t count = 0; count <= FIELDS_MAX; count++)
        check_line(input, count, arena);
    check_field(input, arena);
    arena_free(arena);
    return 0;
}
