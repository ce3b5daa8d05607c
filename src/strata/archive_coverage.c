/* archive_coverage.c: what can be answered exactly: bases and breaks, folded by LSN
 * (docs/decisions/0001-coverage-is-bases-and-breaks.md). */
#include "strata/archive_internal.h"

#include "core/err.h"
#include "core/timefmt.h"

#include <stdlib.h>

static bool
break_concerns(const struct log_break *b, uint32_t table_oid)
{
    return b->table_oid == 0 || b->table_oid == table_oid;
}

/* An open break ends where a later record with the same table and begin says. */
static pgs_lsn
break_end(struct archive *a, const struct log_break *b)
{
    pgs_lsn end = b->end;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; end == 0 && i < e->break_count; i++) {
            const struct log_break *other = &e->breaks[i];
            if (other->table_oid == b->table_oid && other->begin == b->begin && other->end != 0)
                end = other->end;
        }
    }
    return end;
}

/* The first break that meets [from, to). */
static const struct log_break *
break_between(struct archive *a, uint32_t table_oid, pgs_lsn from, pgs_lsn to)
{
    const struct log_break *found = NULL;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; from < to && i < e->break_count; i++) {
            const struct log_break *b = &e->breaks[i];
            if (!break_concerns(b, table_oid) || b->begin >= to ||
                (found != NULL && b->begin >= found->begin))
                continue;
            pgs_lsn end = break_end(a, b);
            if (end == 0 || end > from)
                found = b;
        }
    }
    return found;
}

static const struct relation *
shape_relation(struct archive *a, uint32_t table_oid, uint64_t shape_id, pgs_lsn at)
{
    const struct relation *found = NULL;
    pgs_lsn found_from = 0;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->shape_count; i++) {
            const struct log_shape *s = &e->shapes[i];
            if (s->relation->oid == table_oid && s->id == shape_id &&
                (found == NULL || (s->from <= at && s->from >= found_from))) {
                found = s->relation;
                found_from = s->from;
            }
        }
    }
    return found;
}

static void
base_set(struct coverage *c, const struct log_entry *e, const struct log_base *base)
{
    *c = (struct coverage){
        .base_lsn = base->lsn, .shape_id = base->shape_id, .base_entry = e, .base = base
    };
}

/* The newest base at or before `at`, and the oldest after it; base NULL: none. */
static void
bases_around(struct archive *a, uint32_t table_oid, pgs_lsn at, struct coverage *before,
             struct coverage *after)
{
    *before = *after = (struct coverage){ 0 };
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->base_count; i++) {
            const struct log_base *b = &e->bases[i];
            if (b->table_oid != table_oid || b->lsn > a->view_limit)
                continue;
            if (b->lsn <= at && (before->base == NULL || b->lsn >= before->base_lsn))
                base_set(before, e, b);
            if (b->lsn > at && (after->base == NULL || b->lsn < after->base_lsn))
                base_set(after, e, b);
        }
    }
}

/* --- refusing, with the nearest moments --- */

/* The name of the table as last known. */
static const char *
table_label(struct archive *a, uint32_t table_oid, struct arena *arena)
{
    const struct relation *r = NULL;
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->shape_count; i++) {
            if (e->shapes[i].relation->oid == table_oid)
                r = e->shapes[i].relation;
        }
    }
    return r == NULL ? arena_printf(arena, "table %u", table_oid)
                     : arena_printf(arena, "table %.*s.%.*s", SLICE_PRINT(r->schema),
                                    SLICE_PRINT(r->name));
}

/* Where the break begins, or, in the middle of it, at the base itself. The time of the last
 * transaction before means that position as long as the base is not behind it. */
static void
nearest_before(struct archive *a, const struct coverage *base, const struct log_break *b,
               struct pgs_moment *moment)
{
    struct txn txn;
    moment->lsn = b->begin > base->base_lsn ? b->begin : base->base_lsn;
    if (archive_txn_before(a, moment->lsn, &txn) == 0 && txn.commit_end_lsn >= base->base_lsn) {
        moment->time = txn.commit_time;
        moment->xid = txn.xid;
    }
}

/* The next base. Its time: that of the first transaction behind it, or, where none came yet, that
 * of the entry that told of the base, unless a break came first. */
static void
nearest_after(struct archive *a, uint32_t table_oid, pgs_lsn lsn, pgs_time created,
              struct pgs_moment *moment)
{
    struct txn txn;
    moment->lsn = lsn;
    if (archive_txn_after(a, lsn, &txn) == 0) {
        if (break_between(a, table_oid, lsn, txn.commit_end_lsn) == NULL) {
            moment->time = txn.commit_time;
            moment->xid = txn.xid;
        }
    } else if (break_between(a, table_oid, lsn, archive_end(a)) == NULL) {
        moment->time = created;
    }
}

static int
outside(struct archive *a, uint32_t table_oid, pgs_lsn at, const struct coverage *before,
        const struct log_break *b, const struct coverage *after, struct pgs_err *err)
{
    char lsn[LSN_TEXT_MAX];
    struct arena *scratch = arena_new(NULL);
    (void)err_set(err, PGS_E_REFUSED, "%s cannot be answered exactly at %s: %.*s",
                  table_label(a, table_oid, scratch), lsn_format(at, lsn),
                  SLICE_PRINT(b != NULL ? b->reason : slice_str("no base was taken before it")));
    arena_free(scratch);
    (void)err_code(err, "outside_coverage");
    (void)err_hint(err, "choose one of the nearest moments, or leave the table out");
    if (b != NULL)
        nearest_before(a, before, b, &err->nearest_before);
    if (after->base != NULL)
        nearest_after(a, table_oid, after->base_lsn, after->base_entry->created,
                      &err->nearest_after);
    return err->kind;
}

int
archive_coverage(struct archive *a, uint32_t table_oid, pgs_lsn from, pgs_lsn to,
                 struct coverage *coverage, struct pgs_err *err)
{
    struct coverage found, after;
    bases_around(a, table_oid, from, &found, &after);
    if (found.base == NULL)
        return outside(a, table_oid, from, &found, NULL, &after, err);
    const struct log_break *b = break_between(a, table_oid, found.base_lsn, to);
    if (b != NULL)
        return outside(a, table_oid, from, &found, b, &after, err);
    found.relation = shape_relation(a, table_oid, found.shape_id, found.base_lsn);
    if (found.relation == NULL)
        return err_set(err, PGS_E_CORRUPT, "the log has a base of table %u and not its shape",
                       table_oid);
    *coverage = found;
    return 0;
}

/* Back from base to base, as long as the next older one still reaches `to`. */
bool
archive_coverage_longest(struct archive *a, uint32_t table_oid, pgs_lsn to,
                         struct coverage *coverage)
{
    struct coverage found = { 0 };
    struct pgs_err ignored;
    bool any = false;
    for (pgs_lsn at = to; at > 0 && archive_coverage(a, table_oid, at, to, &found, &ignored) == 0;
         at = found.base_lsn - 1) {
        *coverage = found;
        any = true;
    }
    return any;
}

bool
archive_table_covered(struct archive *a, uint32_t table_oid)
{
    struct coverage newest, none;
    /* A base may lie ahead of the stream's end for a moment. */
    pgs_lsn end = archive_end(a);
    bases_around(a, table_oid, UINT64_MAX, &newest, &none);
    return newest.base != NULL && break_between(a, table_oid, newest.base_lsn, end) == NULL;
}

/* --- tables --- */

static int
table_order(const void *a, const void *b)
{
    const struct archive_table *x = a, *y = b;
    int order = slice_compare(x->relation->schema, y->relation->schema);
    if (order == 0)
        order = slice_compare(x->relation->name, y->relation->name);
    return order != 0 ? order : (x->oid > y->oid) - (x->oid < y->oid);
}

static void
table_see(struct archive_table *tables, size_t *count, const struct log_shape *s, pgs_lsn cut)
{
    struct archive_table *t = NULL;
    for (size_t i = 0; i < *count; i++) {
        if (tables[i].oid == s->relation->oid)
            t = &tables[i];
    }
    if (t == NULL) {
        t = &tables[(*count)++];
        *t = (struct archive_table){ s->relation->oid, s->id, s->from, s->relation };
        return;
    }
    /* Newest at or before the cut; when none is, the oldest. */
    bool better =
        s->from <= cut ? t->from > cut || s->from >= t->from : t->from > cut && s->from < t->from;
    if (better)
        *t = (struct archive_table){ s->relation->oid, s->id, s->from, s->relation };
}

/* Dropped before the cut, and not seen again since. */
static bool
is_dropped(struct archive *a, const struct archive_table *t, pgs_lsn cut)
{
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->break_count; i++) {
            const struct log_break *b = &e->breaks[i];
            if (b->table_oid == t->oid && b->begin < cut && b->begin >= t->from &&
                slice_equal(b->code, slice_str("dropped")))
                return true;
        }
    }
    return false;
}

int
archive_tables(struct archive *a, pgs_lsn cut, struct arena *arena,
               const struct archive_table **tables, size_t *count, struct pgs_err *err)
{
    size_t total = 0, n = 0, kept = 0;
    (void)err;
    if (cut == 0)
        cut = UINT64_MAX;
    ARCHIVE_FOR_ENTRIES(a, e) total += e->shape_count;
    struct archive_table *list = arena_alloc_array(arena, total + 1, sizeof(*list));
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->shape_count; i++)
            table_see(list, &n, &e->shapes[i], cut);
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_dropped(a, &list[i], cut))
            list[kept++] = list[i];
    }
    if (kept > 1)
        qsort(list, kept, sizeof(*list), table_order);
    *tables = list;
    *count = kept;
    return 0;
}

/* --- gaps --- */

static int
gap_order(const void *a, const void *b)
{
    const struct archive_gap *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->table_oid > y->table_oid) - (x->table_oid < y->table_oid);
}

int
archive_gaps(struct archive *a, struct arena *arena, struct archive_gap **gaps, size_t *count,
             struct pgs_err *err)
{
    size_t total = 0, n = 0, kept = 0;
    (void)err;
    ARCHIVE_FOR_ENTRIES(a, e) total += e->break_count;
    struct archive_gap *list = arena_alloc_array(arena, total + 1, sizeof(*list));
    ARCHIVE_FOR_ENTRIES(a, e)
    {
        for (size_t i = 0; i < e->break_count; i++) {
            const struct log_break *b = &e->breaks[i];
            if (b->begin >= a->view_limit)
                continue;
            list[n++] =
                (struct archive_gap){ b->begin, break_end(a, b), b->table_oid, b->code, b->reason };
        }
    }
    if (n > 1)
        qsort(list, n, sizeof(*list), gap_order);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || gap_order(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    }
    *gaps = list;
    *count = kept;
    return 0;
}
