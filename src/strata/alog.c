#include "strata/alog.h"

#include "core/err.h"
#include "core/random.h"
#include "core/timefmt.h"
#include "strata/log_json.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOT_FOLDER ".pgstrata/"
#define NONCE_BYTES 16
#define ENTRY_NAME_MAX 32

struct alog {
    struct store *store;
    struct arena *arena;
    struct slice archive_id;
    struct log_entry **entries;
    size_t count, capacity;
    struct buf scratch;
    uint64_t epoch; /* ours; 0: reading only */
    char nonce[2 * NONCE_BYTES + 1];
};

int
alog_store(struct store *root, const char *archive_id, struct store **archive, struct pgs_err *err)
{
    char prefix[128];
    snprintf(prefix, sizeof(prefix), ROOT_FOLDER "%s/", archive_id);
    return store_open_prefix(root, prefix, archive, err);
}

struct id_list {
    struct arena *arena;
    struct slice *items;
    size_t count;
};

static int
collect_id(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    struct id_list *l = context;
    const char *id = name + sizeof(ROOT_FOLDER) - 1, *slash = strchr(id, '/');
    (void)stat;
    (void)err;
    /* Every archive has a first entry, and only one. */
    if (slash == NULL || strcmp(slash, "/log/00000000000000000001") != 0)
        return 0;
    struct slice *items = arena_alloc_array(l->arena, l->count + 1, sizeof(*items));
    if (l->count > 0)
        memcpy(items, l->items, l->count * sizeof(*items));
    items[l->count++] = arena_dup(l->arena, slice_of(id, (size_t)(slash - id)));
    l->items = items;
    return 0;
}

int
alog_archives(struct store *root, struct arena *arena, struct slice **ids, size_t *count,
              struct pgs_err *err)
{
    struct id_list l = { .arena = arena };
    int rc = store_list(root, ROOT_FOLDER, NULL, collect_id, &l, err);
    if (rc < 0)
        return rc;
    *ids = l.items;
    *count = l.count;
    return 0;
}

static void
entry_name(uint64_t number, char name[ENTRY_NAME_MAX])
{
    snprintf(name, ENTRY_NAME_MAX, "log/%020llu", (unsigned long long)number);
}

static void
entry_add(struct alog *log, struct log_entry *e)
{
    if (log->count == log->capacity) {
        log->capacity = log->capacity == 0 ? 256 : log->capacity * 2;
        struct log_entry **entries = realloc(log->entries, log->capacity * sizeof(*entries));
        if (entries == NULL)
            abort();
        log->entries = entries;
    }
    log->entries[log->count++] = e;
}

/* What makes an entry the next one of this log: number, archive and chain. */
static int
entry_check(const struct alog *log, const struct log_entry *e, uint64_t number, struct pgs_err *err)
{
    static const uint8_t zeros[32];
    const struct log_entry *last = alog_last(log);
    const uint8_t *previous = last != NULL ? last->mac : zeros;
    if (e->number != number || !slice_equal(e->archive_id, log->archive_id))
        return err_set(err, PGS_E_CORRUPT, "log entry %llu belongs elsewhere",
                       (unsigned long long)number);
    if (memcmp(e->previous_mac, previous, sizeof(zeros)) != 0)
        return err_set(err, PGS_E_CORRUPT,
                       "log entry %llu does not follow the one before it: the chain is broken",
                       (unsigned long long)number);
    return 0;
}

/* PGS_NONE: there is no entry of this number. */
static int
entry_read(struct alog *log, uint64_t number, struct log_entry **e, struct pgs_err *err)
{
    char name[ENTRY_NAME_MAX];
    entry_name(number, name);
    buf_reset(&log->scratch);
    int rc = store_get(log->store, name, NULL, &log->scratch, err);
    if (rc == 0)
        rc = log_entry_decode(buf_slice(&log->scratch), log->arena, e, err);
    if (rc < 0) {
        (void)err_doing(err, "read log entry %s", name);
        if (err->kind == PGS_E_CORRUPT)
            (void)err_hint(err, "run `pgstrata verify`; the archive is damaged from here on");
    }
    return rc;
}

int
alog_refresh(struct alog *log, struct pgs_err *err)
{
    bool any = false;
    for (;;) {
        struct log_entry *e;
        uint64_t number = log->count + 1;
        int rc = entry_read(log, number, &e, err);
        if (rc == PGS_NONE)
            return any ? 0 : PGS_NONE;
        if (rc == 0)
            rc = entry_check(log, e, number, err);
        if (rc != 0)
            return rc;
        entry_add(log, e);
        any = true;
    }
}

int
alog_open(struct store *store, const char *archive_id, struct alog **log, struct pgs_err *err)
{
    struct alog *l = calloc(1, sizeof(*l));
    if (l == NULL)
        abort();
    l->store = store;
    l->arena = arena_new(NULL);
    l->archive_id = arena_dup(l->arena, slice_str(archive_id));
    int rc = alog_refresh(l, err);
    if (rc < 0) {
        alog_close(l);
        return rc;
    }
    *log = l;
    return 0;
}

void
alog_close(struct alog *log)
{
    if (log == NULL)
        return;
    arena_free(log->arena);
    buf_release(&log->scratch);
    free(log->entries);
    free(log);
}

size_t
alog_count(const struct alog *log)
{
    return log->count;
}

const struct log_entry *
alog_entry(const struct alog *log, size_t index)
{
    pgs_assert(index < log->count);
    return log->entries[index];
}

const struct log_entry *
alog_last(const struct alog *log)
{
    return log->count > 0 ? log->entries[log->count - 1] : NULL;
}

pgs_lsn
alog_end(const struct alog *log)
{
    pgs_lsn end = 0;
    const struct log_entry *last = alog_last(log);
    for (size_t i = log->count; i-- > 0 && log->entries[i]->era == last->era;) {
        if (log->entries[i]->range.end > end)
            end = log->entries[i]->range.end;
    }
    return end;
}

struct store *
alog_store_of(const struct alog *log)
{
    return log->store;
}

uint64_t
alog_epoch(const struct alog *log)
{
    return log->epoch;
}

void
alog_segment_name(const struct alog *log, char name[SEGMENT_NAME_MAX])
{
    char random[2 * NONCE_BYTES + 1];
    snprintf(name, SEGMENT_NAME_MAX, "seg/%010llu/%s", (unsigned long long)log->epoch,
             random_hex(random, NONCE_BYTES));
}

static void
entry_fill(const struct alog *log, struct log_entry *e)
{
    const struct log_entry *last = alog_last(log);
    e->number = log->count + 1;
    e->archive_id = log->archive_id;
    e->writer.epoch = log->epoch;
    e->writer.nonce = slice_str(log->nonce);
    e->created = time_now();
    memset(e->previous_mac, 0, sizeof(e->previous_mac));
    if (last != NULL)
        memcpy(e->previous_mac, last->mac, sizeof(e->previous_mac));
    if (e->era == 0)
        e->era = last != NULL ? last->era : 1;
    if (e->system_id == 0 && last != NULL)
        e->system_id = last->system_id;
    if (e->timeline == 0 && last != NULL)
        e->timeline = last->timeline;
    if (e->heartbeat.counter == 0 && last != NULL) {
        e->heartbeat.counter = last->heartbeat.counter;
        e->heartbeat.nonce = last->heartbeat.nonce;
    }
}

/* The number is taken: by ourselves, when an answer was lost, or by another writer. */
static int
entry_taken(struct alog *log, const char *name, struct slice ours, struct pgs_err *err)
{
    struct buf there = { 0 };
    int rc = store_get(log->store, name, NULL, &there, err);
    if (rc == PGS_NONE)
        rc = err_set(err, PGS_E_STORE, "object %s is there and is not", name);
    if (rc == 0 && !slice_equal(buf_slice(&there), ours)) {
        rc = err_set(err, PGS_E_FENCED, "another writer has created %s: this one must stop", name);
        (void)err_hint(err, "only one `pgstrata serve` may run for a database: find the other one");
    }
    buf_release(&there);
    return rc;
}

int
alog_append(struct alog *log, struct log_entry *e, struct pgs_err *err)
{
    char name[ENTRY_NAME_MAX];
    struct buf bytes = { 0 };
    struct log_entry *copy;
    pgs_assert(log->epoch > 0);
    if (e->number != log->count + 1) /* not a retry: then the bytes must stay what they were */
        entry_fill(log, e);
    entry_name(e->number, name);
    int rc = log_entry_encode(e, &bytes, err);
    if (rc == 0)
        rc = store_put_if_absent(log->store, name, buf_slice(&bytes), err);
    if (rc == PGS_NONE)
        rc = entry_taken(log, name, buf_slice(&bytes), err);
    /* Decoding what was written is the second half of the pair of checks. */
    if (rc == 0)
        rc = log_entry_decode(buf_slice(&bytes), log->arena, &copy, err);
    if (rc == 0)
        entry_add(log, copy);
    buf_release(&bytes);
    return rc < 0 ? err_doing(err, "append log entry %s", name) : 0;
}

/* An epoch entry of a try before this one, whose answer was lost. PGS_NONE: there is none. */
static int
epoch_find(struct alog *log, struct pgs_err *err)
{
    if (log->nonce[0] == '\0')
        return PGS_NONE;
    int rc = alog_refresh(log, err);
    if (rc < 0)
        return rc;
    const struct log_entry *last = alog_last(log);
    bool ours = last != NULL && slice_equal(last->writer.nonce, slice_str(log->nonce));
    if (ours)
        log->epoch = last->writer.epoch;
    return ours ? 0 : PGS_NONE;
}

int
alog_resume(struct alog *log, struct pgs_err *err)
{
    pgs_assert(log->epoch > 0);
    int rc = alog_refresh(log, err);
    if (rc < 0)
        return rc;
    const struct log_entry *last = alog_last(log);
    if (slice_equal(last->writer.nonce, slice_str(log->nonce)))
        return 0;
    (void)err_set(err, PGS_E_FENCED,
                  "another writer has created log entry %llu: this one must stop",
                  (unsigned long long)last->number);
    return err_hint(err, "only one `pgstrata serve` may run for a database: find the other one");
}

int
alog_take_epoch(struct alog *log, uint64_t system_id, uint32_t timeline, struct pgs_err *err)
{
    struct log_entry e = { .kind = LOG_EPOCH,
                           .timeline = timeline,
                           .system_id = system_id,
                           .time_min = PGS_TIME_NONE,
                           .time_max = PGS_TIME_NONE };
    int rc = epoch_find(log, err);
    if (rc != PGS_NONE)
        return rc;
    const struct log_entry *last = alog_last(log);
    random_hex(log->nonce, NONCE_BYTES);
    log->epoch = last != NULL ? last->writer.epoch + 1 : 1;
    rc = alog_append(log, &e, err);
    if (rc < 0)
        log->epoch = 0;
    return rc;
}
