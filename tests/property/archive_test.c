/* archive_test.c: a naive archive beside the real one.
 *
 * The naive one is an array: the whole database after each commit. A history is played to both:
 * rows inserted, updated (with and without their large value), deleted with and without a known
 * tenant, renamed, moved between tenants, truncated; flushed, based and broken at any place. Then
 * every tenant is compared at every cut. Every choice comes from a chooser, which either counts
 * through all of them (small histories) or draws them from a seed; a failure names the seed, and
 *
 *     PGS_PROPERTY_SEED=<seed> test_property_archive
 *
 * plays that history alone, exactly. */
#include "core/err.h"
#include "support/strata_world.h"
#include "support/unit.h"

#include <stdio.h>
#include <stdlib.h>

/* --- choices --- */

#define CHOICES_MAX 64

/* Counting: `digits` is an odometer whose wheels are as large as play asked for. */
struct chooser {
    bool random;
    uint64_t state;
    size_t digits[CHOICES_MAX], bounds[CHOICES_MAX], used, known;
};

static uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* A number below bound. */
static size_t
choose(struct chooser *c, size_t bound)
{
    if (c->random)
        return (size_t)(random_next(&c->state) % bound);
    assert_true(c->used < CHOICES_MAX);
    if (c->used == c->known)
        c->digits[c->known++] = 0;
    c->bounds[c->used] = bound;
    return c->digits[c->used++];
}

/* The next history; false: all were played. */
static bool
chooser_step(struct chooser *c)
{
    c->known = c->used;
    c->used = 0;
    while (c->known > 0) {
        if (++c->digits[c->known - 1] < c->bounds[c->known - 1])
            return true;
        c->known--;
    }
    return false;
}

/* --- the naive archive --- */

#define KEYS_MAX 6
#define TABLES_MAX 2
#define TENANTS_MAX 3
#define STATES_MAX 128
#define FACTS_MAX 64

/* In bytewise order, with one that is another's prefix. */
static const char *const key_names[KEYS_MAX] = { "1", "10", "2", "a", "a b", "\xc3\xa9" };
static const char *const tenant_names[TENANTS_MAX] = { "acme", "acme2", NULL };
static const uint32_t table_oids[TABLES_MAX] = { WORLD_ORDERS, WORLD_ITEMS };

struct naive_row {
    bool present;
    size_t tenant;
    unsigned note, document;
};
struct naive_state {
    pgs_lsn commit_lsn; /* of the transaction that led here; 0: the beginning */
    struct naive_row rows[TABLES_MAX][KEYS_MAX];
};
struct naive_fact { /* a base (end unused) or a break */
    size_t table;
    pgs_lsn begin, end;
};

struct size {
    size_t tables, tenants, keys;
    bool seeded;         /* the first base has a row */
    size_t transactions; /* 0: 1 */
    size_t changes_max;  /* of a transaction; 0: 1 */
    bool breaks, layouts;
};

struct play {
    struct chooser *c;
    const struct size *size;
    struct world w;
    struct naive_state now; /* with the open transaction */
    struct naive_state states[STATES_MAX];
    size_t state_count;
    struct naive_fact bases[FACTS_MAX], breaks[FACTS_MAX];
    size_t base_count, break_count;
    uint64_t sequence;
    unsigned texts;
    pgs_lsn next_commit;
};

static const char *
row_text(struct play *p, size_t key, const struct naive_row *r, bool unchanged)
{
    const char *tenant = tenant_names[r->tenant];
    return arena_printf(p->w.arena, "%s|%s|note %u|%s", key_names[key],
                        tenant != NULL ? tenant : "~", r->note,
                        unchanged ? "=" : arena_printf(p->w.arena, "document %u", r->document));
}

/* --- changes, each to both --- */

static void
change(struct play *p, size_t tenant, size_t table, enum version_op op, size_t key, const char *row)
{
    world_change(&p->w, tenant_names[tenant], table_oids[table], p->sequence, op, key_names[key],
                 row, NULL);
}

static void
delete_key(struct play *p, size_t table, size_t key, size_t tenant, bool tombstone)
{
    world_change(&p->w, tombstone ? "*" : tenant_names[tenant], table_oids[table], p->sequence,
                 VERSION_DELETE, key_names[key], NULL, NULL);
}

static void
play_insert(struct play *p, size_t table, size_t key)
{
    struct naive_row *r = &p->now.rows[table][key];
    p->sequence++;
    *r = (struct naive_row){ true, choose(p->c, p->size->tenants), ++p->texts, p->texts };
    change(p, r->tenant, table, VERSION_INSERT, key, row_text(p, key, r, false));
}

static void
play_update(struct play *p, size_t table, size_t key, bool unchanged)
{
    struct naive_row *r = &p->now.rows[table][key];
    p->sequence++;
    r->note = ++p->texts;
    r->document = unchanged ? r->document : p->texts;
    change(p, r->tenant, table, VERSION_UPDATE, key, row_text(p, key, r, unchanged));
}

static void
play_delete(struct play *p, size_t table, size_t key, bool tombstone)
{
    struct naive_row *r = &p->now.rows[table][key];
    p->sequence++;
    delete_key(p, table, key, r->tenant, tombstone);
    r->present = false;
}

/* One change in the stream: the old key's end and the new key's version share its sequence. Where
 * the tenant changes too, it is not known whose the old key was. */
static void
play_rename(struct play *p, size_t table, size_t key, size_t to, size_t tenant, bool unchanged)
{
    struct naive_row *rows = p->now.rows[table];
    size_t from = rows[key].tenant;
    p->sequence++;
    if (key != to)
        delete_key(p, table, key, from, from != tenant);
    rows[to] = rows[key];
    rows[key].present = key == to;
    rows[to].tenant = tenant;
    rows[to].document = unchanged ? rows[to].document : ++p->texts;
    world_change(&p->w, tenant_names[tenant], table_oids[table], p->sequence, VERSION_UPDATE,
                 key_names[to], row_text(p, to, &rows[to], unchanged),
                 key != to ? key_names[key] : NULL);
    if (from == tenant)
        return;
    p->sequence++; /* the message of the move trigger */
    change(p, from, table, VERSION_MOVED_OUT, to, NULL);
    change(p, tenant, table, VERSION_MOVED_IN, to,
           tenant_names[from] != NULL ? tenant_names[from] : "");
}

static void
play_truncate(struct play *p, size_t table)
{
    p->sequence++;
    world_change(&p->w, "*", table_oids[table], p->sequence, VERSION_TRUNCATE, "", NULL, NULL);
    for (size_t i = 0; i < KEYS_MAX; i++)
        p->now.rows[table][i].present = false;
}

enum play_op {
    PLAY_UPDATE,
    PLAY_UPDATE_UNCHANGED,
    PLAY_DELETE,
    PLAY_TOMBSTONE,
    PLAY_RENAME,
    PLAY_RENAME_UNCHANGED,
    PLAY_TRUNCATE,
    PLAY_OPS
};

static void
play_change(struct play *p)
{
    size_t table = choose(p->c, p->size->tables);
    size_t key = choose(p->c, p->size->keys);
    if (!p->now.rows[table][key].present) {
        play_insert(p, table, key);
        return;
    }
    size_t op = choose(p->c, PLAY_OPS);
    size_t to = key, tenant = p->now.rows[table][key].tenant;
    switch ((enum play_op)op) {
    case PLAY_UPDATE: play_update(p, table, key, false); return;
    case PLAY_UPDATE_UNCHANGED: play_update(p, table, key, true); return;
    case PLAY_DELETE: play_delete(p, table, key, false); return;
    case PLAY_TOMBSTONE: play_delete(p, table, key, true); return;
    case PLAY_RENAME:
    case PLAY_RENAME_UNCHANGED:
        to = choose(p->c, p->size->keys);
        tenant = choose(p->c, p->size->tenants);
        if (to != key && p->now.rows[table][to].present)
            to = key;
        play_rename(p, table, key, to, tenant, op == PLAY_RENAME_UNCHANGED);
        return;
    case PLAY_TRUNCATE:
    case PLAY_OPS: play_truncate(p, table); return;
    }
}

static void
play_commit(struct play *p)
{
    pgs_lsn lsn = p->next_commit;
    world_commit(&p->w, lsn, (pgs_time)lsn * 1000, lsn);
    p->next_commit += 32;
    p->sequence = 0;
    p->now.commit_lsn = lsn;
    assert_true(p->state_count < STATES_MAX);
    p->states[p->state_count++] = p->now;
}

/* Anywhere from the last commit record's end to the next one's start. */
static void
play_base(struct play *p, size_t table)
{
    const char *rows[2 * KEYS_MAX];
    size_t count = 0;
    pgs_lsn last_end = p->w.last_end > 0 ? p->w.last_end : 16;
    pgs_lsn places[] = { p->next_commit, last_end, last_end + 1 };
    pgs_lsn lsn = places[p->size->layouts ? choose(p->c, 3) : 0];
    for (size_t i = 0; i < KEYS_MAX; i++) {
        const struct naive_row *r = &p->now.rows[table][i];
        if (!r->present)
            continue;
        rows[2 * count] = tenant_names[r->tenant];
        rows[2 * count++ + 1] = row_text(p, i, r, false);
    }
    world_base(&p->w, table_oids[table], lsn, rows, count,
               p->size->layouts ? choose(p->c, 3) + (count > 0) : 1);
    assert_true(p->base_count < FACTS_MAX);
    p->bases[p->base_count++] = (struct naive_fact){ .table = table, .begin = lsn };
}

static void
play_break(struct play *p)
{
    struct naive_fact b = { .table = choose(p->c, p->size->tables + 1),
                            .begin = p->next_commit - choose(p->c, 64) };
    uint32_t oid = b.table < p->size->tables ? table_oids[b.table] : 0;
    switch (choose(p->c, 3)) {
    case 0: b.end = b.begin + 1; break;
    case 1: b.end = b.begin + choose(p->c, 64) + 1; break;
    default: b.end = 0;
    }
    world_break(&p->w, oid, b.begin, b.end, "gap");
    if (b.end == 0 && choose(p->c, 2) == 0) {
        b.end = p->next_commit + choose(p->c, 64);
        world_break(&p->w, oid, b.begin, b.end, "gap");
    }
    assert_true(p->break_count < FACTS_MAX);
    p->breaks[p->break_count++] = b;
}

static void
play_between(struct play *p)
{
    const struct size *size = p->size;
    if (choose(p->c, 2) == 0) {
        p->w.segments_per_flush = size->layouts ? 1 + choose(p->c, 2) : 1;
        world_flush(&p->w);
    }
    if (choose(p->c, size->layouts ? 8 : 2) == 0)
        play_base(p, choose(p->c, size->tables));
    if (size->breaks && choose(p->c, 40) == 0)
        play_break(p);
}

static size_t
at_least_1(size_t n)
{
    return n > 0 ? n : 1;
}

static void
play_history(struct play *p)
{
    p->next_commit = 32;
    p->states[p->state_count++] = p->now;
    if (p->size->layouts)
        p->w.segment.block_bytes = 1 + choose(p->c, 300);
    if (p->size->seeded)
        p->now.rows[0][0] = p->states[0].rows[0][0] = (struct naive_row){ .present = true };
    for (size_t i = 0; i < p->size->tables; i++)
        play_base(p, i);
    for (size_t i = 0; i < at_least_1(p->size->transactions); i++) {
        size_t changes = 1 + choose(p->c, at_least_1(p->size->changes_max));
        for (size_t j = 0; j < changes; j++)
            play_change(p);
        play_commit(p);
        play_between(p);
    }
    world_flush(&p->w);
}

/* --- comparing --- */

static const struct naive_state *
naive_at(const struct play *p, pgs_lsn cut)
{
    size_t i = p->state_count - 1;
    while (p->states[i].commit_lsn >= cut)
        i--;
    return &p->states[i];
}

static bool
naive_meets(const struct play *p, size_t table, pgs_lsn from, pgs_lsn to)
{
    for (size_t i = 0; i < p->break_count; i++) {
        const struct naive_fact *b = &p->breaks[i];
        if ((b->table == table || b->table == p->size->tables) && b->begin < to &&
            (b->end == 0 || b->end > from) && from < to)
            return true;
    }
    return false;
}

static bool
naive_covered(const struct play *p, size_t table, pgs_lsn cut)
{
    for (size_t i = 0; i < p->base_count; i++) {
        const struct naive_fact *b = &p->bases[i];
        if (b->table == table && b->begin <= cut && !naive_meets(p, table, b->begin, cut))
            return true;
    }
    return false;
}

/* `wanted` has a bit for each key. */
static const char *
naive_rows(struct play *p, size_t tenant, size_t table, pgs_lsn cut, unsigned wanted)
{
    const struct naive_state *s = naive_at(p, cut);
    struct buf out = { 0 };
    if (!naive_covered(p, table, cut))
        return "refused: outside_coverage";
    for (size_t i = 0; i < KEYS_MAX; i++) {
        const struct naive_row *r = &s->rows[table][i];
        if (r->present && r->tenant == tenant && (wanted >> i & 1) != 0)
            buf_printf(&out, "%s\n", row_text(p, i, r, false));
    }
    const char *text = arena_strdup(p->w.arena, buf_cstr(&out));
    buf_release(&out);
    return text;
}

/* Lines of keys that are gone may be there or not: what ever existed depends on the base that is
 * read. */
static const char *
without_gone(struct play *p, const char *text, const struct naive_state *s, size_t table,
             size_t tenant)
{
    struct buf out = { 0 };
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        if (size > 5 && memcmp(line + size - 5, " gone", 5) == 0) {
            for (size_t i = 0; i < KEYS_MAX; i++) {
                if (strlen(key_names[i]) == size - 5 && memcmp(key_names[i], line, size - 5) == 0)
                    assert_false(s->rows[table][i].present && s->rows[table][i].tenant == tenant);
            }
        } else {
            buf_printf(&out, "%.*s\n", (int)size, line);
        }
        line += size + (line[size] == '\n');
    }
    const char *kept = arena_strdup(p->w.arena, buf_cstr(&out));
    buf_release(&out);
    return kept;
}

static void
check_keys(struct play *p, size_t tenant, size_t table, pgs_lsn cut, unsigned wanted)
{
    const char *ids[KEYS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < KEYS_MAX; i++) {
        if ((wanted >> i & 1) != 0)
            ids[count++] = key_names[i];
    }
    const char *expected = naive_rows(p, tenant, table, cut, wanted);
    const char *rows =
        world_rows_of_keys(&p->w, tenant_names[tenant], table_oids[table], cut, ids, count);
    if (strncmp(rows, "refused", 7) != 0)
        rows = without_gone(p, rows, naive_at(p, cut), table, tenant);
    assert_string_equal(rows, expected);
}

static bool
has_key(const struct slice *keys, size_t count, struct slice key)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(keys[i], key))
            return true;
    }
    return false;
}

static bool
same_for(const struct naive_row *x, const struct naive_row *y, size_t tenant)
{
    bool in_x = x->present && x->tenant == tenant, in_y = y->present && y->tenant == tenant;
    return in_x == in_y && (!in_x || (x->note == y->note && x->document == y->document));
}

/* What differs between two cuts is among the changed keys, in order, unless everything may have
 * changed; and among those of them that the tenant ever held. */
static void
check_changed(struct play *p, size_t tenant, size_t table, struct pgs_lsn_range range)
{
    const struct naive_state *a = naive_at(p, range.begin), *b = naive_at(p, range.end);
    struct coverage coverage;
    struct scan_opts opts = { .tenant = world_tenant(tenant_names[tenant]),
                              .coverage = &coverage,
                              .table_oid = table_oids[table],
                              .to = range.end };
    struct archive *archive = world_archive(&p->w);
    struct changed_keys changed;
    struct slice *held;
    size_t held_count;
    struct pgs_err err;
    int rc =
        scan_changed_keys(archive, &opts.tenant, opts.table_oid, range, p->w.arena, &changed, &err);
    world_must(rc, &err);
    for (size_t i = 1; i < changed.count; i++)
        assert_true(slice_compare(changed.keys[i - 1], changed.keys[i]) < 0);
    rc = archive_coverage(archive, opts.table_oid, range.begin, range.end, &coverage, &err);
    if (rc < 0)
        return;
    opts.keys = changed.keys;
    opts.key_count = changed.count;
    world_must(scan_held_keys(archive, &opts, p->w.arena, &held, &held_count, &err), &err);
    for (size_t i = 0; i < changed.count; i++)
        assert_true(!changed.own[i] || has_key(held, held_count, changed.keys[i]));
    for (size_t i = 0; i < KEYS_MAX && !changed.truncated; i++) {
        if (!same_for(&a->rows[table][i], &b->rows[table][i], tenant))
            assert_true(has_key(held, held_count, world_key(&p->w, key_names[i])));
    }
}

static void
check_cut(struct play *p, size_t tenant, size_t table, pgs_lsn cut)
{
    unsigned all = (1u << KEYS_MAX) - 1, some = (unsigned)(cut * 37 + tenant * 11) & all;
    assert_string_equal(world_rows(&p->w, tenant_names[tenant], table_oids[table], cut),
                        naive_rows(p, tenant, table, cut, all));
    check_keys(p, tenant, table, cut, some);
}

static void
check_order(struct play *p, size_t tenant, size_t table)
{
    struct archive *a = world_archive(&p->w);
    struct coverage coverage;
    struct scan_opts opts = { .tenant = world_tenant(tenant_names[tenant]),
                              .table_oid = table_oids[table],
                              .to = archive_end(a),
                              .coverage = &coverage };
    struct pgs_err err;
    struct scan *scan;
    struct version v, last = { 0 };
    bool base, any = false;
    int rc = archive_coverage(a, opts.table_oid, opts.to, opts.to, &coverage, &err);
    if (rc < 0)
        return;
    world_must(scan_open(a, &opts, &scan, &err), &err);
    while ((rc = scan_next(scan, &v, &base, &err)) == 0) {
        if (base)
            v.commit_lsn = 0;
        assert_true(!any || version_compare(&last, &v) < 0);
        last = v;
        last.key = arena_dup(p->w.arena, v.key);
        any = true;
    }
    assert_int_equal(rc, PGS_NONE);
    scan_close(scan);
}

static void
check_all(struct play *p)
{
    for (size_t table = 0; table < p->size->tables; table++) {
        for (size_t tenant = 0; tenant < p->size->tenants; tenant++) {
            for (size_t i = 1; i < p->state_count; i++) {
                pgs_lsn lsn = p->states[i].commit_lsn;
                check_cut(p, tenant, table, lsn);
                check_cut(p, tenant, table, lsn + 1);
                check_changed(p, tenant, table,
                              (struct pgs_lsn_range){ p->states[i / 2].commit_lsn + 1, lsn + 1 });
            }
            for (size_t i = 0; i < p->base_count; i++) {
                check_cut(p, tenant, table, p->bases[i].begin);
                check_cut(p, tenant, table, p->bases[i].begin - 1);
            }
            check_order(p, tenant, table);
        }
    }
}

static void
play(struct chooser *c, const struct size *size)
{
    struct play *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->c = c;
    p->size = size;
    world_open(&p->w);
    play_history(p);
    check_all(p);
    world_close(&p->w);
    free(p);
}

/* --- tests --- */

#define SEED_VARIABLE "PGS_PROPERTY_SEED"

static void
every_small_history_reads_back(void **state)
{
    static const struct size sizes[] = {
        { .tables = 1, .tenants = 1, .keys = 2, .seeded = true, .transactions = 2 },
        { .tables = 1, .tenants = 2, .keys = 2, .seeded = true, .transactions = 2 },
        { .tables = 1, .tenants = 2, .keys = 1, .seeded = true, .changes_max = 2 },
    };
    (void)state;
    if (getenv(SEED_VARIABLE) != NULL)
        skip();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct chooser c = { .random = false };
        size_t count = 0;
        do {
            play(&c, &sizes[i]);
            count++;
        } while (chooser_step(&c));
        print_message("%zu small histories\n", count);
    }
}

#define SEED_FIRST UINT64_C(1)
#define SEED_COUNT 40

static void
random_histories_read_back(void **state)
{
    static const struct size size = { .tables = 2,
                                      .tenants = TENANTS_MAX,
                                      .keys = KEYS_MAX,
                                      .transactions = 25,
                                      .changes_max = 6,
                                      .breaks = true,
                                      .layouts = true };
    const char *given = getenv(SEED_VARIABLE);
    uint64_t first = given != NULL ? strtoull(given, NULL, 10) : SEED_FIRST;
    uint64_t count = given != NULL ? 1 : SEED_COUNT;
    (void)state;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct chooser c = { .random = true, .state = seed };
        /* Said before it can fail: an assertion ends the test at once. */
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        play(&c, &size);
    }
    fprintf(stderr, "\r");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_history_reads_back),
        cmocka_unit_test(random_histories_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
