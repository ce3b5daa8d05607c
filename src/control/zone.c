#include "control/zone.h"

#include "control/zone_rule.h"
#include "core/cursor.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZONE_FOLDER_DEFAULT "/usr/share/zoneinfo"
#define ZONE_NAME_MAX 100
/* The largest file of tzdata has 3.5 KB. */
#define ZONE_FILE_BYTES_MAX ((size_t)64 << 10)
#define ZONE_TYPES_MAX 256 /* their index is one byte */
#define TZIF_MAGIC_BYTES 4
#define TZIF_RESERVED_BYTES 15
/* Far beyond any year, and far from where an offset could overflow. */
#define TIME_MAX_S (INT64_C(1) << 60)

struct transition {
    int64_t at;
    int32_t offset_s; /* from then on */
};

/* The table first, the rule behind its last transition. */
struct zone {
    int32_t first_offset_s; /* before the table */
    struct transition *transitions;
    size_t count;
    bool has_rule;
    struct zone_rule rule;
};

/* --- TZif --- */

struct tzif_header {
    uint8_t version; /* 0, or the digit '2' and up */
    uint32_t is_ut_count, is_standard_count, leap_count, time_count, type_count, char_count;
};

static struct tzif_header
read_header(struct cursor *c)
{
    struct tzif_header h = { 0 };
    struct slice magic = cursor_bytes(c, TZIF_MAGIC_BYTES);
    if (!slice_equal(magic, slice_str("TZif")))
        c->failed = true;
    h.version = cursor_u8(c);
    (void)cursor_bytes(c, TZIF_RESERVED_BYTES);
    h.is_ut_count = cursor_be32(c);
    h.is_standard_count = cursor_be32(c);
    h.leap_count = cursor_be32(c);
    h.time_count = cursor_be32(c);
    h.type_count = cursor_be32(c);
    h.char_count = cursor_be32(c);
    return h;
}

/* Of the block behind the header. Counts have 32 bits, so the sum cannot overflow. */
static uint64_t
block_bytes(const struct tzif_header *h, uint64_t time_bytes)
{
    return h->time_count * (time_bytes + 1) + h->type_count * UINT64_C(6) + h->char_count +
           h->leap_count * (time_bytes + 4) + h->is_standard_count + (uint64_t)h->is_ut_count;
}

static int64_t
read_time(struct cursor *c, uint64_t time_bytes)
{
    return time_bytes == 8 ? cursor_be64_signed(c) : (int32_t)cursor_be32(c);
}

static bool
read_offsets(struct cursor *c, uint32_t count, int32_t offsets[ZONE_TYPES_MAX])
{
    for (uint32_t i = 0; i < count; i++) {
        offsets[i] = (int32_t)cursor_be32(c);
        (void)cursor_bytes(c, 2); /* whether it is summer, and its abbreviation */
        if (offsets[i] < ZONE_OFFSET_MIN_S || offsets[i] > ZONE_OFFSET_MAX_S)
            return false;
    }
    return true;
}

/* The counts were checked: the whole block is there. */
static int
read_block(struct cursor *c, const struct tzif_header *h, uint64_t time_bytes, struct arena *arena,
           struct zone *zone, struct pgs_err *err)
{
    int32_t offsets[ZONE_TYPES_MAX];
    struct transition *transitions = arena_alloc_array(arena, h->time_count, sizeof(*transitions));
    for (uint32_t i = 0; i < h->time_count; i++) {
        transitions[i].at = read_time(c, time_bytes);
        if (i > 0 && transitions[i].at <= transitions[i - 1].at)
            return err_set(err, PGS_E_CORRUPT, "time zone: transition %u is not in order", i);
        if (transitions[i].at < -TIME_MAX_S || transitions[i].at > TIME_MAX_S)
            return err_set(err, PGS_E_CORRUPT, "time zone: transition %u is beyond all years", i);
    }
    struct slice types = cursor_bytes(c, h->time_count);
    if (!read_offsets(c, h->type_count, offsets))
        return err_set(err, PGS_E_CORRUPT, "time zone: an offset beyond a day");
    for (uint32_t i = 0; i < h->time_count; i++) {
        if (types.data[i] >= h->type_count)
            return err_set(err, PGS_E_CORRUPT, "time zone: transition %u has no type", i);
        transitions[i].offset_s = offsets[types.data[i]];
    }
    uint64_t rest = h->char_count + h->leap_count * (time_bytes + 4) + h->is_standard_count +
                    (uint64_t)h->is_ut_count;
    (void)cursor_bytes(c, (size_t)rest);
    zone->transitions = transitions;
    zone->count = h->time_count;
    zone->first_offset_s = offsets[0];
    return 0;
}

static int
check_header(const struct cursor *c, const struct tzif_header *h, uint64_t time_bytes,
             struct pgs_err *err)
{
    if (!cursor_ok(c))
        return err_set(err, PGS_E_CORRUPT, "time zone: not a TZif file");
    if (h->type_count == 0 || h->type_count > ZONE_TYPES_MAX)
        return err_set(err, PGS_E_CORRUPT, "time zone: %u types", h->type_count);
    if (h->leap_count != 0)
        return err_set(err, PGS_E_CORRUPT, "time zone: counts leap seconds, PostgreSQL does not");
    if (block_bytes(h, time_bytes) > cursor_left(c))
        return err_set(err, PGS_E_CORRUPT, "time zone: file is cut off");
    return 0;
}

/* "\n<rule>\n"; an empty rule says that the last offset stays. */
static int
read_footer(struct cursor *c, struct zone *zone, struct pgs_err *err)
{
    struct slice text = cursor_bytes(c, cursor_left(c));
    if (text.size < 2 || text.data[0] != '\n' || text.data[text.size - 1] != '\n')
        return err_set(err, PGS_E_CORRUPT, "time zone: no footer");
    text = slice_of(text.data + 1, text.size - 2);
    zone->has_rule = text.size > 0;
    if (zone->has_rule && !zone_rule_parse(text, &zone->rule))
        return err_set(err, PGS_E_CORRUPT, "time zone: its footer is no rule");
    return 0;
}

int
zone_read(struct slice tzif, struct arena *arena, const struct zone **zone, struct pgs_err *err)
{
    struct cursor c = cursor_of(tzif);
    struct zone *z = arena_alloc_zero(arena, sizeof(*z));
    uint64_t time_bytes = 4;
    struct tzif_header h = read_header(&c);
    if (cursor_ok(&c) && h.version != 0) {
        /* The first block is for readers of version 1: the same with times of 32 bits. */
        (void)cursor_bytes(&c, (size_t)block_bytes(&h, time_bytes));
        h = read_header(&c);
        time_bytes = 8;
    }
    int rc = check_header(&c, &h, time_bytes, err);
    if (rc == 0)
        rc = read_block(&c, &h, time_bytes, arena, z, err);
    if (rc == 0 && time_bytes == 8)
        rc = read_footer(&c, z, err);
    if (rc == 0)
        *zone = z;
    return rc;
}

/* --- the file --- */

/* Parts of [A-Za-z0-9_+-] between slashes: never out of the folder, never the leap-second files. */
static bool
name_is_plain(const char *name)
{
    bool part_is_empty = true;
    for (const char *p = name; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '_' || *p == '+' || *p == '-';
        if (!plain && (*p != '/' || part_is_empty))
            return false;
        part_is_empty = !plain;
    }
    return !part_is_empty && strlen(name) <= ZONE_NAME_MAX;
}

static int
refuse_name(const char *name, struct pgs_err *err)
{
    (void)err_set(err, PGS_E_USAGE, "unknown time zone \"%.60s\"", name);
    return err_hint(err, "write a name of the IANA database, as Europe/Berlin or UTC");
}

static int
read_file(int fd, const char *path, struct arena *arena, struct slice *bytes, struct pgs_err *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return err_set_errno(err, PGS_E_FAILED, "%s", path);
    if (!S_ISREG(info.st_mode) || info.st_size > (off_t)ZONE_FILE_BYTES_MAX)
        return err_set(err, PGS_E_CORRUPT, "%s is no time zone", path);
    size_t size = (size_t)info.st_size, done = 0;
    uint8_t *data = arena_alloc_bytes(arena, size + 1);
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(err, PGS_E_FAILED, "%s", path);
        if (n == 0)
            break; /* replaced by a shorter one meanwhile; the parser will say */
        done += (size_t)n;
    }
    *bytes = slice_of(data, done);
    return 0;
}

int
zone_open(const char *folder, const char *name, struct arena *arena, const struct zone **zone,
          struct pgs_err *err)
{
    struct slice bytes = SLICE_NULL;
    if (strcmp(name, "UTC") == 0) {
        *zone = arena_alloc_zero(arena, sizeof(struct zone));
        return 0;
    }
    if (!name_is_plain(name))
        return refuse_name(name, err);
    if (folder == NULL)
        folder = getenv("TZDIR");
    if (folder == NULL || folder[0] == '\0')
        folder = ZONE_FOLDER_DEFAULT;
    const char *path = arena_printf(arena, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return refuse_name(name, err);
    if (fd < 0)
        return err_set_errno(err, PGS_E_FAILED, "cannot open %s", path);
    int rc = read_file(fd, path, arena, &bytes, err);
    close(fd);
    if (rc == 0)
        rc = zone_read(bytes, arena, zone, err);
    return rc < 0 ? err_doing(err, "read time zone %s", name) : rc;
}

/* --- spans --- */

struct zone_span
zone_span_at(const struct zone *zone, int64_t t)
{
    size_t low = 0, high = zone->count; /* the first transition behind t */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->transitions[middle].at <= t)
            low = middle + 1;
        else
            high = middle;
    }
    struct zone_span span = { INT64_MIN, INT64_MAX, zone->first_offset_s };
    if (low == zone->count && zone->has_rule)
        span = zone_rule_span_at(&zone->rule, t);
    else if (low > 0)
        span.offset_s = zone->transitions[low - 1].offset_s;
    if (low > 0 && zone->transitions[low - 1].at > span.begin_s)
        span.begin_s = zone->transitions[low - 1].at;
    if (low < zone->count)
        span.end_s = zone->transitions[low].at;
    return span;
}
