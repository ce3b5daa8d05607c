#include "strata/part.h"

#include "core/err.h"
#include "strata/crc32c.h"

#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

/* Below this a compressor's start costs more than it saves. */
#define RAW_BYTES_MAX 512
/* What a codec's scratch may keep between uses. */
#define SCRATCH_BYTES_MAX ((size_t)1 << 20)
#define CRC_BYTES 4

struct part_codec {
    ZSTD_CCtx *cctx; /* NULL until first used, as is dctx */
    ZSTD_DCtx *dctx;
    struct buf stored;
    struct part_codec *next;
};

/* Codecs nobody uses now. There are never more of them than threads that worked at once. */
static pthread_mutex_t idle_mutex = PTHREAD_MUTEX_INITIALIZER; /* guards idle */
static struct part_codec *idle;

struct part_codec *
part_codec_take(void)
{
    pthread_mutex_lock(&idle_mutex);
    struct part_codec *codec = idle;
    if (codec != NULL)
        idle = codec->next;
    pthread_mutex_unlock(&idle_mutex);
    if (codec == NULL)
        codec = calloc(1, sizeof(*codec));
    if (codec == NULL)
        abort();
    return codec;
}

void
part_codec_give(struct part_codec *codec)
{
    if (codec == NULL)
        return;
    if (codec->stored.capacity > SCRATCH_BYTES_MAX)
        buf_release(&codec->stored);
    pthread_mutex_lock(&idle_mutex);
    codec->next = idle;
    idle = codec;
    pthread_mutex_unlock(&idle_mutex);
}

static void
put_header(struct buf *out, enum part_coding coding)
{
    buf_put_u8(out, (uint8_t)coding);
    buf_put_u8(out, 0);
    buf_put_be32(out, 0);
}

static int
too_large(size_t size, struct pgs_err *err)
{
    return err_set(err, PGS_E_FAILED, "%zu bytes are too many for one part of a segment", size);
}

static int
pack_zstd(struct part_codec *codec, int level, struct slice raw, struct buf *out,
          struct pgs_err *err)
{
    size_t bound = ZSTD_compressBound(raw.size);
    if (codec->cctx == NULL && (codec->cctx = ZSTD_createCCtx()) == NULL)
        abort();
    (void)ZSTD_CCtx_setParameter(codec->cctx, ZSTD_c_compressionLevel, level);
    (void)ZSTD_CCtx_setParameter(codec->cctx, ZSTD_c_checksumFlag, 1);
    put_header(out, PART_ZSTD);
    if (!buf_reserve(out, bound))
        return too_large(raw.size, err);
    size_t size = ZSTD_compress2(codec->cctx, out->data + out->size, bound, raw.data, raw.size);
    if (ZSTD_isError(size))
        return err_set(err, PGS_E_FAILED, "cannot compress: %s", ZSTD_getErrorName(size));
    out->size += size;
    return 0;
}

int
part_pack(struct part_codec *codec, int level, struct slice raw, struct buf *out,
          struct pgs_err *err)
{
    if (raw.size > PART_RAW_MAX)
        return too_large(raw.size, err);
    if (raw.size > RAW_BYTES_MAX)
        return pack_zstd(codec, level, raw, out, err);
    put_header(out, PART_RAW);
    buf_put_slice(out, raw);
    buf_put_be32(out, crc32c(raw));
    return buf_failed(out) ? too_large(raw.size, err) : 0;
}

static int
damaged(const char *what, const char *how, struct pgs_err *err)
{
    return err_set(err, PGS_E_CORRUPT, "%s is damaged: %s", what, how);
}

static int
unpack_raw(struct slice payload, uint64_t raw_size, const char *what, struct buf *raw,
           struct pgs_err *err)
{
    uint32_t crc;
    if (payload.size != raw_size + CRC_BYTES)
        return damaged(what, "wrong size", err);
    struct slice bytes = slice_of(payload.data, (size_t)raw_size);
    memcpy(&crc, payload.data + raw_size, CRC_BYTES);
    if (__builtin_bswap32(crc) != crc32c(bytes))
        return damaged(what, "wrong checksum", err);
    buf_put_slice(raw, bytes);
    return 0;
}

/* The frame must say the size that whoever points to the part says: only then is memory taken. */
static int
unpack_zstd(struct part_codec *codec, struct slice frame, uint64_t raw_size, const char *what,
            struct buf *raw, struct pgs_err *err)
{
    if (ZSTD_getFrameContentSize(frame.data, frame.size) != raw_size)
        return damaged(what, "wrong size", err);
    if (codec->dctx == NULL && (codec->dctx = ZSTD_createDCtx()) == NULL)
        abort();
    if (!buf_reserve(raw, (size_t)raw_size))
        return damaged(what, "too large", err);
    size_t size =
        ZSTD_decompressDCtx(codec->dctx, raw->data, (size_t)raw_size, frame.data, frame.size);
    if (ZSTD_isError(size))
        return damaged(what, ZSTD_getErrorName(size), err);
    if (size != raw_size)
        return damaged(what, "wrong size", err);
    raw->size = size;
    return 0;
}

static bool
has_key(const uint8_t *header)
{
    return (header[2] | header[3] | header[4] | header[5]) != 0;
}

static bool
has_no_cipher(const uint8_t *header)
{
    return header[1] == 0 && !has_key(header);
}

/* Cipher and key both: one changed byte is damage, and never looks like encryption. */
static bool
is_encrypted(const uint8_t *header)
{
    return header[1] != 0 && has_key(header);
}

int
part_unpack(struct part_codec *codec, struct slice stored, uint64_t raw_size, const char *what,
            struct buf *raw, struct pgs_err *err)
{
    buf_reset(raw);
    if (stored.size <= PART_HEADER_BYTES || raw_size > PART_RAW_MAX)
        return damaged(what, "wrong size", err);
    if (is_encrypted(stored.data))
        return err_set(err, PGS_E_REFUSED, "%s is encrypted: this version cannot read it", what);
    if (!has_no_cipher(stored.data))
        return damaged(what, "a cipher without a key, or a key without a cipher", err);
    struct slice payload =
        slice_of(stored.data + PART_HEADER_BYTES, stored.size - PART_HEADER_BYTES);
    switch (stored.data[0]) {
    case PART_RAW: return unpack_raw(payload, raw_size, what, raw, err);
    case PART_ZSTD: return unpack_zstd(codec, payload, raw_size, what, raw, err);
    default: return damaged(what, "unknown coding", err);
    }
}

int
part_read(struct store *store, const char *name, const struct part_ref *part, const char *what,
          struct buf *raw, struct pgs_err *err)
{
    struct store_range range = { part->offset, part->stored_size };
    if (part->stored_size <= PART_HEADER_BYTES || part->raw_size > PART_RAW_MAX ||
        part->stored_size > PART_RAW_MAX)
        return damaged(what, "wrong size", err);
    struct part_codec *codec = part_codec_take();
    buf_reset(&codec->stored);
    int rc = store_get(store, name, &range, &codec->stored, err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_CORRUPT, "the object is missing");
    if (rc == 0)
        rc = part_unpack(codec, buf_slice(&codec->stored), part->raw_size, what, raw, err);
    part_codec_give(codec);
    return rc;
}
