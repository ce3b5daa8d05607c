#include "archiver/inbox.h"

#include "core/err.h"

#include <stdlib.h>

#define FRAME_HEADER (2 * sizeof(uint32_t))

static struct item *
item_new(enum item_kind kind, size_t capacity)
{
    struct item *item = malloc(sizeof(*item) + capacity);
    if (item == NULL)
        abort();
    *item = (struct item){ .kind = kind, .capacity = capacity };
    return item;
}

struct item *
inbox_chunk(struct budget *budget, size_t bytes)
{
    size_t needed = bytes + FRAME_HEADER;
    struct item *item = item_new(ITEM_CHUNK, needed > CHUNK_BYTES ? needed : CHUNK_BYTES);
    item->budget = budget;
    budget_take(budget, item->capacity);
    return item;
}

struct item *
inbox_poll(struct schema_poll *poll)
{
    struct item *item = item_new(ITEM_POLL, 0);
    item->poll = poll;
    return item;
}

struct item *
inbox_bases(struct base_done *bases)
{
    struct item *item = item_new(ITEM_BASES, 0);
    item->bases = bases;
    return item;
}

void
schema_poll_free(struct schema_poll *poll)
{
    if (poll != NULL)
        arena_free(poll->arena); /* the struct lives in it */
}

void
inbox_free(void *item_or_null)
{
    struct item *item = item_or_null;
    if (item == NULL)
        return;
    schema_poll_free(item->poll);
    base_done_answer(item->bases, BASE_RETURNED);
    budget_give(item->budget, item->capacity);
    free(item);
}

bool
chunk_fits(const struct item *chunk, size_t bytes)
{
    return chunk->capacity - chunk->size >= bytes + FRAME_HEADER;
}

static void
frame_put(struct item *chunk, enum frame_kind kind, struct slice bytes)
{
    uint32_t header[2] = { (uint32_t)bytes.size, (uint32_t)kind };
    pgs_assert(bytes.size <= UINT32_MAX && chunk_fits(chunk, bytes.size));
    memcpy(chunk->data + chunk->size, header, sizeof(header));
    if (bytes.size > 0)
        memcpy(chunk->data + chunk->size + FRAME_HEADER, bytes.data, bytes.size);
    chunk->size += FRAME_HEADER + bytes.size;
}

void
chunk_put(struct item *chunk, struct slice bytes)
{
    frame_put(chunk, FRAME_DATA, bytes);
}

void
chunk_put_position(struct item *chunk, pgs_lsn lsn, bool urgent)
{
    frame_put(chunk, urgent ? FRAME_POSITION_URGENT : FRAME_POSITION, slice_of(&lsn, sizeof(lsn)));
}

bool
chunk_next(const struct item *chunk, size_t *position, struct frame *frame)
{
    uint32_t header[2];
    if (*position == chunk->size)
        return false;
    pgs_assert(chunk->size - *position >= FRAME_HEADER);
    memcpy(header, chunk->data + *position, sizeof(header));
    frame->kind = (enum frame_kind)header[1];
    frame->bytes = slice_of(chunk->data + *position + FRAME_HEADER, header[0]);
    *position += FRAME_HEADER + header[0];
    pgs_assert(*position <= chunk->size);
    frame->lsn = 0;
    if (frame->kind != FRAME_DATA)
        memcpy(&frame->lsn, frame->bytes.data, sizeof(frame->lsn));
    return true;
}
