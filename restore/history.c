/* history.c: every version of a tenant's rows, with before and after images.
 *
 * The merge gives versions by key; the answer is by time. So all are folded, and only the `limit`
 * first (newest or oldest) beyond the cursor are kept, in a heap: memory follows the answer, not
 * the history. */
#include "restore/json_row.h"
#include "restore/plan.h"

#include "core/err.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Place of an item in history; ties of one transaction by sequence, then table and key. */
struct place {
    pgs_lsn commit_lsn;
    uint64_t sequence;
    uint32_t table_oid;
    struct slice key; /* a truncate, or a change of a key, has several items of one sequence */
};

struct kept {
    struct place place;
    struct buf place_key; /* what place.key points to */
    const struct plan_table *table;
    enum version_op op;
    bool from_update;              /* an image of a row that was there before */
    struct buf key, before, after; /* JSON; has_ says which are there */
    bool has_before, has_after;
};

struct collector {
    const struct history_opts *opts;
    struct kept **heap; /* the one to be given up first on top */
    size_t count;
    bool more; /* something was given up */
    struct place cursor;
    struct buf cursor_key; /* what cursor.key points to */
    bool has_cursor;
    struct pgs_lsn_range range; /* commit LSNs that are wanted */
};

static int
place_compare(const struct place *a, const struct place *b)
{
    if (a->commit_lsn != b->commit_lsn)
        return a->commit_lsn < b->commit_lsn ? -1 : 1;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence ? -1 : 1;
    if (a->table_oid != b->table_oid)
        return a->table_oid < b->table_oid ? -1 : 1;
    return slice_compare(a->key, b->key);
}

/* Whether a comes before b in the answer. */
static bool
comes_first(const struct collector *c, const struct place *a, const struct place *b)
{
    int order = place_compare(a, b);
    return c->opts->ascending ? order < 0 : order > 0;
}

static bool
heap_above(const struct collector *c, size_t i, size_t j)
{
    return comes_first(c, &c->heap[j]->place, &c->heap[i]->place);
}

static void
heap_swap(struct collector *c, size_t i, size_t j)
{
    struct kept *swap = c->heap[i];
    c->heap[i] = c->heap[j];
    c->heap[j] = swap;
}

static void
heap_up(struct collector *c, size_t i)
{
    for (; i > 0 && heap_above(c, i, (i - 1) / 2); i = (i - 1) / 2)
        heap_swap(c, i, (i - 1) / 2);
}

static void
heap_down(struct collector *c, size_t i)
{
    for (;;) {
        size_t top = i, left = 2 * i + 1, right = left + 1;
        if (left < c->count && heap_above(c, left, top))
            top = left;
        if (right < c->count && heap_above(c, right, top))
            top = right;
        if (top == i)
            return;
        heap_swap(c, i, top);
        i = top;
    }
}

static void
kept_place(struct kept *k, const struct place *place)
{
    k->place = *place;
    buf_reset(&k->place_key);
    buf_put_slice(&k->place_key, place->key);
    k->place.key = buf_slice(&k->place_key);
}

static void
kept_free(struct kept *k)
{
    buf_release(&k->place_key);
    buf_release(&k->key);
    buf_release(&k->before);
    buf_release(&k->after);
    free(k);
}

/* A slot for an item at this place; NULL: it is not wanted. */
static struct kept *
collector_slot(struct collector *c, const struct place *place)
{
    struct kept *k;
    if (place->commit_lsn < c->range.begin || place->commit_lsn >= c->range.end ||
        (c->has_cursor && !comes_first(c, &c->cursor, place)))
        return NULL;
    if (c->count < c->opts->limit) {
        k = calloc(1, sizeof(*k));
        if (k == NULL)
            abort();
        kept_place(k, place);
        c->heap[c->count++] = k;
        heap_up(c, c->count - 1);
        return k;
    }
    c->more = true;
    if (c->count == 0 || !comes_first(c, place, &c->heap[0]->place))
        return NULL;
    k = c->heap[0];
    kept_place(k, place);
    buf_reset(&k->key);
    buf_reset(&k->before);
    buf_reset(&k->after);
    k->has_before = k->has_after = false;
    heap_down(c, 0);
    return k;
}

static int
fill(struct kept *k, const struct plan_table *t, const struct version *v, bool existed,
     const struct buf *before, const struct fold *fold, struct pgs_err *err)
{
    const struct row_field *after = fold_row(fold);
    k->table = t;
    k->op = v->op;
    k->from_update = existed;
    k->has_before = existed;
    if (existed)
        buf_put_slice(&k->before, buf_slice(before));
    k->has_after = after != NULL;
    if (after != NULL)
        json_put_row(&k->after, t->relation, after);
    return json_put_encoded_key(&k->key, t->relation, v->key, err);
}

/* A delete or truncate of a row that is not there says nothing. */
static bool
is_event(const struct version *v, bool existed)
{
    if (v->op == VERSION_MOVED_IN)
        return false;
    return v->op == VERSION_INSERT || v->op == VERSION_UPDATE || existed;
}

static int
collect_table(struct archive *a, const struct plan *plan, const struct plan_table *t,
              const struct slice *key, struct collector *c, struct pgs_err *err)
{
    struct scan_opts opts = { .tenant = plan->tenant,
                              .coverage = &t->coverage,
                              .table_oid = t->relation->oid,
                              .to = plan->cut.lsn,
                              .keys = key,
                              .key_count = key != NULL ? 1 : 0 };
    struct fold *fold = fold_new(t->relation->column_count, NULL);
    struct buf current = { 0 }, before = { 0 };
    struct scan *scan = NULL;
    struct version v;
    bool base;
    int rc = scan_open(a, &opts, &scan, err);
    while (rc == 0 && (rc = scan_next(scan, &v, &base, err)) == 0) {
        struct place place = { v.commit_lsn, v.sequence, t->relation->oid, v.key };
        if (!slice_equal(v.key, buf_slice(&current)) || current.size == 0) {
            fold_reset(fold);
            buf_reset(&current);
            buf_put_slice(&current, v.key);
        }
        bool existed = fold_row(fold) != NULL;
        bool wanted = !base && is_event(&v, existed) && place.commit_lsn >= c->range.begin;
        buf_reset(&before);
        if (wanted && existed)
            json_put_row(&before, t->relation, fold_row(fold));
        /* After a key change large values lie under the old key; the image shows what the WAL
         * had. */
        rc = fold_apply_known(fold, &v, err);
        struct kept *k = rc == 0 && wanted ? collector_slot(c, &place) : NULL;
        if (k != NULL)
            rc = fill(k, t, &v, existed, &before, fold, err);
    }
    scan_close(scan);
    fold_free(fold);
    buf_release(&current);
    buf_release(&before);
    return rc < 0 ? err_doing(err, "read the history of %s", t->label) : 0;
}

static int
key_encode(const struct history_opts *opts, const struct plan_table *t, struct buf *key,
           struct pgs_err *err)
{
    if (opts->key_count != t->key_count)
        return err_set(err, PGS_E_USAGE, "--key: table %s has a key of %zu columns", t->label,
                       t->key_count);
    for (size_t i = 0; i < opts->key_count; i++)
        key_put_field(key, slice_str(opts->key[i]));
    return 0;
}

/* "<high>-<low>-<sequence>-<oid>-<key>": LSN and key in hex digits. */
static void
cursor_write(const struct place *place, struct buf *out)
{
    buf_printf(out, "%X-%X-%" PRIu64 "-%u-", PGS_LSN_ARGS(place->commit_lsn), place->sequence,
               place->table_oid);
    for (size_t i = 0; i < place->key.size; i++)
        buf_printf(out, "%02x", place->key.data[i]);
}

/* A number and the dash behind it; NULL: there is none, or it is above max. */
static const char *
cursor_number(const char *text, int base, uint64_t max, uint64_t *number)
{
    char *end;
    if (text == NULL || !isxdigit((unsigned char)*text))
        return NULL;
    errno = 0;
    *number = strtoull(text, &end, base);
    return errno == 0 && *number <= max && *end == '-' ? end + 1 : NULL;
}

static bool
cursor_key(const char *text, struct buf *key)
{
    static const char digits[] = "0123456789abcdef";
    for (; text[0] != '\0'; text += 2) {
        const char *high = strchr(digits, text[0]);
        const char *low = text[1] != '\0' ? strchr(digits, text[1]) : NULL;
        if (high == NULL || low == NULL)
            return false;
        buf_put_u8(key, (uint8_t)((high - digits) << 4 | (low - digits)));
    }
    return true;
}

static int
cursor_parse(const char *text, struct collector *c, struct pgs_err *err)
{
    uint64_t high = 0, low = 0, sequence = 0, oid = 0;
    if (text == NULL)
        return 0;
    const char *rest = cursor_number(text, 16, UINT32_MAX, &high);
    rest = cursor_number(rest, 16, UINT32_MAX, &low);
    rest = cursor_number(rest, 10, UINT64_MAX, &sequence);
    rest = cursor_number(rest, 10, UINT32_MAX, &oid);
    if (rest == NULL || !cursor_key(rest, &c->cursor_key))
        return err_set(err, PGS_E_USAGE, "\"%.60s\" is no cursor", text);
    c->cursor =
        (struct place){ high << 32 | low, sequence, (uint32_t)oid, buf_slice(&c->cursor_key) };
    c->has_cursor = true;
    return 0;
}

static const char *
op_name(const struct kept *k)
{
    switch (k->op) {
    case VERSION_TRUNCATE: return "truncate";
    case VERSION_DELETE:
    case VERSION_MOVED_OUT: return "delete";
    case VERSION_INSERT: return "insert";
    case VERSION_UPDATE:
    case VERSION_MOVED_IN: return k->from_update ? "update" : "insert";
    }
    return "update";
}

static int
item_fill(struct archive *a, const struct kept *k, struct arena *arena, struct history_item *item,
          struct pgs_err *err)
{
    struct txn txn = { 0 };
    int rc = archive_txn(a, k->place.commit_lsn, arena, &txn, err);
    if (rc < 0)
        return rc;
    *item = (struct history_item){
        .commit_lsn = k->place.commit_lsn,
        .commit_end_lsn = txn.commit_end_lsn,
        .commit_time = rc == 0 ? txn.commit_time : PGS_TIME_NONE,
        .xid = txn.xid,
        .sequence = k->place.sequence,
        .actor = txn.actor,
        .schema = k->table->relation->schema,
        .table = k->table->relation->name,
        .op = op_name(k),
        .key_json = arena_dup(arena, buf_slice(&k->key)),
        .before_json = k->has_before ? arena_dup(arena, buf_slice(&k->before)) : SLICE_NULL,
        .after_json = k->has_after ? arena_dup(arena, buf_slice(&k->after)) : SLICE_NULL,
    };
    return 0;
}

/* Takes the heap apart: what comes last in the answer is on top. */
static int
answer(struct archive *a, struct collector *c, struct arena *arena, struct history_result *result,
       struct pgs_err *err)
{
    int rc = 0;
    result->count = c->count;
    result->items = arena_alloc_array(arena, c->count + 1, sizeof(*result->items));
    result->next_cursor = SLICE_NULL;
    if (c->more && c->count > 0) {
        struct buf cursor = { 0 };
        cursor_write(&c->heap[0]->place, &cursor);
        result->next_cursor = arena_dup(arena, buf_slice(&cursor));
        buf_release(&cursor);
    }
    while (rc == 0 && c->count > 0) {
        struct kept *k = c->heap[0];
        c->heap[0] = c->heap[--c->count];
        heap_down(c, 0);
        rc = item_fill(a, k, arena, &result->items[c->count], err);
        kept_free(k);
    }
    return rc;
}

static int
resolve_range(struct restore_session *s, const struct history_opts *opts, struct cut *from,
              struct cut *to, struct pgs_err *err)
{
    struct target end = { .kind = TARGET_END, .era = opts->to.era };
    *from = (struct cut){ 0 };
    int rc = archive_resolve(s->archive, opts->has_to ? &opts->to : &end, s->server_now, to, err);
    if (rc == 0 && opts->has_from)
        rc = archive_resolve(s->archive, &opts->from, s->server_now, from, err);
    /* History begins where the archive does: asking for more is no mistake. */
    if (rc < 0 && opts->has_from && strcmp(err->code, "outside_coverage") == 0) {
        *from = (struct cut){ 0 };
        rc = 0;
    }
    if (rc == 0 && opts->has_from && from->era < to->era)
        *from = (struct cut){ .era = to->era };
    if (rc == 0 && opts->has_from && (from->era > to->era || from->lsn > to->lsn))
        rc = err_set(err, PGS_E_USAGE, "--from lies after --to");
    return rc;
}

int
history_run(struct restore_session *s, const struct history_opts *opts, struct arena *arena,
            struct history_result *result, struct pgs_err *err)
{
    struct collector c = { .opts = opts };
    struct tenant tenant = tenant_of(opts->tenant);
    struct plan plan = { 0 };
    struct cut from, to;
    struct plan_opts plan_opts = {
        .selection = { .tables = opts->table != NULL ? &opts->table : NULL,
                       .table_count = opts->table != NULL ? 1 : 0 },
        .to_schema = true,
    };
    struct buf key = { 0 };
    int rc = cursor_parse(opts->cursor, &c, err);
    if (rc == 0)
        rc = restore_session_flush(s, err);
    if (rc == 0)
        rc = resolve_range(s, opts, &from, &to, err);
    if (rc == 0)
        rc = plan_build(s, &plan_opts, &tenant, &to, arena, &plan, err);
    if (rc == 0)
        rc = archive_view(s->archive, to.era, err);
    c.range = (struct pgs_lsn_range){ from.lsn, to.lsn };
    c.heap = arena_alloc_array(arena, opts->limit + 1, sizeof(struct kept *));
    for (size_t i = 0; rc == 0 && i < plan.table_count; i++) {
        struct plan_table *t = &plan.tables[i];
        struct slice wanted;
        /* As far back as one base reaches without a break: beyond it deletes would be missing. */
        struct coverage longest;
        if (archive_coverage_longest(s->archive, t->relation->oid, to.lsn, &longest))
            t->coverage = longest;
        if (opts->key_count > 0)
            rc = key_encode(opts, t, &key, err);
        wanted = buf_slice(&key);
        if (rc == 0)
            rc = collect_table(s->archive, &plan, t, opts->key_count > 0 ? &wanted : NULL, &c, err);
    }
    if (rc == 0)
        rc = answer(s->archive, &c, arena, result, err);
    while (c.count > 0)
        kept_free(c.heap[--c.count]);
    buf_release(&key);
    buf_release(&c.cursor_key);
    return rc;
}
