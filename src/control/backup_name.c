#include "control/backup_name.h"

#include "core/calendar.h"
#include "core/err.h"
#include "core/timefmt.h"
#include "pg/digest.h"

#define US_PER_S INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)
#define HASHED_PREFIX "%sha256-"
#define HASH_DIGITS 64
#define TIME_SIZE (sizeof("YYYY-MM-DDTHH-MM-SS") - 1)

/* --- folders --- */

static bool
is_plain(uint8_t ch, bool first)
{
    if (ch == '.' || ch == '-')
        return !first; /* no hidden file, no "..", nothing that looks like an option */
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '_';
}

static size_t
encoded_size(struct slice tenant)
{
    size_t size = 0;
    for (size_t i = 0; i < tenant.size; i++)
        size += is_plain(tenant.data[i], i == 0) ? 1 : 3;
    return size;
}

void
backup_folder_put(struct buf *out, struct slice tenant)
{
    if (tenant.size == 0) {
        buf_put_u8(out, '%');
        return;
    }
    if (encoded_size(tenant) > BACKUP_FOLDER_MAX) {
        char hex[DIGEST_HEX_SIZE];
        digest_sha256_hex(tenant, hex);
        buf_printf(out, "%s%s", HASHED_PREFIX, hex);
        return;
    }
    for (size_t i = 0; i < tenant.size; i++) {
        if (is_plain(tenant.data[i], i == 0))
            buf_put_u8(out, tenant.data[i]);
        else
            buf_printf(out, "%%%02X", tenant.data[i]);
    }
}

static int
hex_value(uint8_t ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

static bool
is_hashed(struct slice folder)
{
    size_t prefix = strlen(HASHED_PREFIX);
    if (folder.size != prefix + HASH_DIGITS || memcmp(folder.data, HASHED_PREFIX, prefix) != 0)
        return false;
    for (size_t i = prefix; i < folder.size; i++) {
        uint8_t ch = folder.data[i];
        if (!(ch >= '0' && ch <= '9') && !(ch >= 'a' && ch <= 'f'))
            return false;
    }
    return true;
}

/* One byte of the key, from *at on. false: no tenant's folder reads so. */
static bool
decode_byte(struct slice folder, size_t *at, bool first, uint8_t *byte)
{
    uint8_t ch = folder.data[*at];
    if (ch != '%') {
        *at += 1;
        *byte = ch;
        return is_plain(ch, first);
    }
    if (folder.size - *at < 3)
        return false;
    int high = hex_value(folder.data[*at + 1]), low = hex_value(folder.data[*at + 2]);
    if (high < 0 || low < 0)
        return false;
    *at += 3;
    *byte = (uint8_t)(high << 4 | low);
    return *byte != 0 && !is_plain(*byte, first); /* one way to write each key */
}

/* PGS_NONE: hashed. The key, no longer than the folder, goes to `tenant`. */
static int
decode_folder(struct slice folder, uint8_t tenant[BACKUP_FOLDER_MAX], size_t *size)
{
    size_t at = 0, count = 0;
    if (is_hashed(folder))
        return PGS_NONE;
    if (folder.size == 0 || folder.size > BACKUP_FOLDER_MAX)
        return PGS_E_USAGE;
    if (folder.size == 1 && folder.data[0] == '%')
        at = 1;
    while (at < folder.size) {
        if (!decode_byte(folder, &at, count == 0, &tenant[count]))
            return PGS_E_USAGE;
        count++;
    }
    *size = count;
    return 0;
}

int
backup_folder_parse(struct slice folder, struct arena *arena, struct slice *tenant,
                    struct pgs_err *err)
{
    uint8_t bytes[BACKUP_FOLDER_MAX];
    size_t size = 0;
    int rc = decode_folder(folder, bytes, &size);
    if (rc < 0)
        return err_set(err, PGS_E_USAGE, "\"%.*s\" is no tenant's backup folder",
                       SLICE_PRINT(folder));
    if (rc == 0)
        *tenant = arena_dup(arena, slice_of(bytes, size));
    return rc;
}

/* --- names --- */

/* "2026-11-23T16-20-00": RFC 3339 with the colons that some file systems refuse as '-'. */
static void
put_time(struct buf *out, pgs_time time)
{
    int64_t seconds = time / US_PER_S - (time % US_PER_S < 0 ? 1 : 0) + PGS_EPOCH_UNIX_S;
    int64_t days = seconds / S_PER_DAY - (seconds % S_PER_DAY < 0 ? 1 : 0);
    struct calendar_date date = calendar_date(days);
    int clock = (int)(seconds - days * S_PER_DAY);
    pgs_assert(date.year >= 0 && date.year <= 9999);
    buf_printf(out, "%04d-%02d-%02dT%02d-%02d-%02d", (int)date.year, date.month, date.day,
               clock / 3600, clock / 60 % 60, clock % 60);
}

void
backup_name_put(struct buf *out, const struct backup_name *name)
{
    pgs_assert(name->number >= 1 && name->number <= BACKUP_NUMBER_MAX);
    buf_put_slice(out, name->folder);
    buf_put_u8(out, '/');
    buf_put_slice(out, name->folder);
    buf_put_u8(out, '-');
    put_time(out, name->time);
    if (name->number > 1)
        buf_printf(out, "-%u", name->number);
    buf_put_str(out, ".sql");
    if (name->compressed)
        buf_put_str(out, ".zst");
    if (name->encrypted)
        buf_put_str(out, ".enc");
}

static bool
drop_suffix(struct slice *s, const char *suffix)
{
    size_t size = strlen(suffix);
    if (s->size < size || memcmp(s->data + s->size - size, suffix, size) != 0)
        return false;
    s->size -= size;
    return true;
}

/* The time at the end of *s, with the '-' before it. */
static bool
drop_time(struct slice *s, pgs_time *time)
{
    char text[TIME_SIZE + 1];
    struct pgs_err err;
    if (s->size < TIME_SIZE + 1)
        return false;
    memcpy(text, s->data + s->size - TIME_SIZE, TIME_SIZE);
    text[TIME_SIZE] = '\0';
    if (s->data[s->size - TIME_SIZE - 1] != '-' || text[13] != '-' || text[16] != '-')
        return false;
    text[13] = text[16] = ':';
    if (text[10] != 'T' || time_parse(text, time, &err) != 0)
        return false;
    s->size -= TIME_SIZE + 1;
    return true;
}

/* "-N" at the end of *s. */
static bool
drop_number(struct slice *s, uint32_t *number)
{
    uint32_t value = 0, factor = 1;
    size_t at = s->size;
    for (; at > 0 && s->data[at - 1] >= '0' && s->data[at - 1] <= '9'; at--) {
        if (s->size - at >= 6) /* digits of BACKUP_NUMBER_MAX */
            return false;
        value += (uint32_t)(s->data[at - 1] - '0') * factor;
        factor *= 10;
    }
    if (at == s->size || at == 0 || s->data[at - 1] != '-' || s->data[at] == '0' || value < 2)
        return false;
    s->size = at - 1;
    *number = value;
    return true;
}

/* What is left of a path once the end of its name is dropped: "<folder>/<folder>". */
static bool
read_folder(struct slice left, struct slice *folder)
{
    uint8_t tenant[BACKUP_FOLDER_MAX];
    size_t size = left.size / 2, tenant_size;
    if (left.size % 2 == 0 || left.data[size] != '/' ||
        memcmp(left.data, left.data + size + 1, size) != 0)
        return false;
    *folder = slice_of(left.data, size);
    return decode_folder(*folder, tenant, &tenant_size) >= 0;
}

int
backup_name_parse(struct slice path, struct backup_name *name, struct pgs_err *err)
{
    struct backup_name n = { .number = 1 };
    struct slice left = path;
    n.encrypted = drop_suffix(&left, ".enc");
    n.compressed = drop_suffix(&left, ".zst");
    /* A time never ends like a number behind another time: "T16-20-30" is one or the other. */
    bool good = drop_suffix(&left, ".sql") &&
                (drop_time(&left, &n.time) ||
                 (drop_number(&left, &n.number) && drop_time(&left, &n.time))) &&
                read_folder(left, &n.folder);
    if (!good) {
        (void)err_set(err, PGS_E_USAGE, "\"%.*s\" is no backup's name", SLICE_PRINT(path));
        return err_hint(err, "it reads <tenant>/<tenant>-YYYY-MM-DDTHH-MM-SS.sql[.zst][.enc]");
    }
    *name = n;
    return 0;
}
