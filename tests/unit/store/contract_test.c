/* contract_test.c: the promises of store/store.h, for every driver and every view. A new driver is
 * one more row in `local_drivers`, or `s3_drivers` where it needs a server. */
#include "support/unit.h"

#include "core/err.h"
#include "core/timefmt.h"
#include "store/store.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/temp_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LAYERS_MAX 3
#define THREADS 4

struct subject {
    struct store *store;              /* what is tested: the last of the layers */
    struct store *layers[LAYERS_MAX]; /* each stands on the one before */
    size_t layers_count;
    char *folder;
};

struct driver {
    const char *name;
    void (*open)(struct subject *s);
    bool real; /* not the memory store, which has no clock and serves one thread */
};

static const struct driver *driver;

static void
layer_add(struct subject *s, struct store *layer)
{
    s->layers[s->layers_count++] = layer;
    s->store = layer;
}

static void
file_open(struct subject *s)
{
    struct store *layer;
    struct pgs_err err;
    s->folder = temp_folder_make();
    assert_int_equal(store_open(s->folder, &layer, &err), 0);
    layer_add(s, layer);
}

static void
memory_open(struct subject *s)
{
    layer_add(s, memory_store_new());
}

static void
prefix_add(struct subject *s)
{
    struct store *layer;
    struct pgs_err err;
    /* Neighbours on both sides: a view must not see them. */
    assert_int_equal(store_put(s->store, "a/ab", slice_str("neighbour"), &err), 0);
    assert_int_equal(store_put(s->store, "b/c", slice_str("neighbour"), &err), 0);
    assert_int_equal(store_open_prefix(s->store, "a/b/", &layer, &err), 0);
    layer_add(s, layer);
}

static void
file_prefix_open(struct subject *s)
{
    file_open(s);
    prefix_add(s);
}

static void
memory_prefix_open(struct subject *s)
{
    memory_open(s);
    prefix_add(s);
}

static void
file_fault_open(struct subject *s)
{
    file_open(s);
    layer_add(s, fault_store_new(s->store));
}

/* PGSTRATA_TEST_S3_URL, with a folder of the bucket for each test. */
static void
s3_open_at(struct subject *s, const char *path)
{
    static unsigned counter;
    struct store *layer;
    struct pgs_err err;
    struct buf url = { 0 };
    const char *base = getenv("PGSTRATA_TEST_S3_URL");
    assert_non_null(base);
    int bucket = (int)strcspn(base, "?");
    buf_printf(&url, "%.*s/%s%u%s", bucket, base, path, counter++, base + bucket);
    assert_int_equal(store_open(buf_cstr(&url), &layer, &err), 0);
    buf_release(&url);
    layer_add(s, layer);
}

static void
s3_open(struct subject *s)
{
    s3_open_at(s, "contract/");
}

static void
s3_prefix_open(struct subject *s)
{
    s3_open_at(s, "view/");
    prefix_add(s);
}

static const struct driver local_drivers[] = {
    { "file", file_open, true },
    { "memory", memory_open, false },
    { "file, prefix", file_prefix_open, true },
    { "memory, prefix", memory_prefix_open, false },
    { "file, fault", file_fault_open, true },
};

/* Beside a server: scripts/minio.py run test_store_contract s3 */
static const struct driver s3_drivers[] = {
    { "s3", s3_open, true },
    { "s3, prefix", s3_prefix_open, true },
};

static int
setup(void **state)
{
    struct subject *s = calloc(1, sizeof(*s));
    driver->open(s);
    *state = s;
    return 0;
}

static int
teardown(void **state)
{
    struct subject *s = *state;
    while (s->layers_count > 0)
        store_close(s->layers[--s->layers_count]);
    temp_folder_remove(s->folder);
    free(s);
    return 0;
}

/* --- helpers: one line for what every test does --- */

static void
put(struct store *s, const char *name, const char *text)
{
    struct pgs_err err;
    assert_int_equal(store_put(s, name, slice_str(text), &err), 0);
}

static void
assert_object(struct store *s, const char *name, const char *text)
{
    struct pgs_err err;
    struct store_stat stat;
    struct buf got = { 0 };
    assert_int_equal(store_get(s, name, NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), text);
    assert_int_equal(store_head(s, name, &stat, &err), 0);
    assert_int_equal(stat.size, strlen(text));
    buf_release(&got);
}

static void
assert_absent(struct store *s, const char *name)
{
    struct pgs_err err;
    struct store_stat stat = { .size = 77, .modified = 88 };
    struct buf got = { 0 };
    buf_put_str(&got, "kept");
    assert_int_equal(store_get(s, name, NULL, &got, &err), PGS_NONE);
    assert_int_equal(store_head(s, name, &stat, &err), PGS_NONE);
    assert_slice_equal(buf_slice(&got), "kept");
    assert_int_equal(stat.size, 77);
    assert_int_equal(stat.modified, 88);
    buf_release(&got);
}

static int
name_append(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    (void)stat;
    (void)err;
    buf_printf(context, "%s ", name);
    return 0;
}

static void
assert_list(struct store *s, const char *prefix, const char *after, const char *names)
{
    struct pgs_err err;
    struct buf got = { 0 };
    assert_int_equal(store_list(s, prefix, after, name_append, &got, &err), 0);
    assert_string_equal(buf_cstr(&got), names);
    buf_release(&got);
}

/* --- the promises --- */

static void
what_was_never_put_is_absent(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    assert_absent(s, "log/1");
    assert_absent(s, "top");
    assert_int_equal(store_remove(s, "log/1", &err), 0);
    assert_list(s, "", NULL, "");
    assert_list(s, "log/", NULL, "");
}

static void
the_beginning_of_a_name_is_no_object(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    put(s, "a/b/c", "x");
    assert_absent(s, "a/b");
    assert_absent(s, "a");
    assert_absent(s, "a/b/c/d");
    assert_int_equal(store_remove(s, "a/b", &err), 0);
    assert_int_equal(store_remove(s, "a/b/c/d", &err), 0);
    assert_object(s, "a/b/c", "x");
}

static void
many_are_removed_at_once(void **state)
{
    static const char *const names[] = { "a/1", "never/there", "a/3" };
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    put(s, "a/1", "x");
    put(s, "a/2", "x");
    put(s, "a/3", "x");
    assert_int_equal(store_remove_many(s, names, 0, &err), 0);
    assert_int_equal(store_remove_many(s, names, 3, &err), 0);
    assert_list(s, "", NULL, "a/2 ");
    assert_int_equal(store_remove_many(s, (const char *const[]){ "a/2", "../x" }, 2, &err),
                     PGS_E_USAGE);
    assert_list(s, "", NULL, "a/2 ");
}

static void
put_replaces_the_whole_object(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    put(s, "boundary", "a long text");
    put(s, "boundary", "short");
    assert_object(s, "boundary", "short");
    put(s, "boundary", "short");
    assert_object(s, "boundary", "short");
    put(s, "boundary", "");
    assert_object(s, "boundary", "");
}

static void
all_bytes_come_back(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct buf in = { 0 }, out = { 0 };
    for (size_t i = 0; i < 300000; i++)
        buf_put_u8(&in, (uint8_t)(i * 31 >> 3));
    assert_int_equal(store_put(s, "segments/all", buf_slice(&in), &err), 0);
    assert_int_equal(store_get(s, "segments/all", NULL, &out, &err), 0);
    assert_int_equal(out.size, in.size);
    assert_memory_equal(out.data, in.data, in.size);
    buf_release(&in);
    buf_release(&out);
}

static void
put_if_absent_leaves_what_is_there(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    assert_int_equal(store_put_if_absent(s, "log/1", slice_str("mine"), &err), 0);
    assert_int_equal(store_put_if_absent(s, "log/1", slice_str("yours"), &err), PGS_NONE);
    assert_object(s, "log/1", "mine");
    assert_int_equal(store_remove(s, "log/1", &err), 0);
    assert_absent(s, "log/1");
    assert_int_equal(store_put_if_absent(s, "log/1", slice_str("yours"), &err), 0);
    assert_object(s, "log/1", "yours");
}

static void
get_appends_the_range_that_was_asked_for(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct buf got = { 0 };
    put(s, "digits", "0123456789");
    buf_put_str(&got, "<");
    assert_int_equal(store_get(s, "digits", &(struct store_range){ 2, 3 }, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "<234");
    assert_int_equal(store_get(s, "digits", &(struct store_range){ 7, 0 }, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "<234789");
    assert_int_equal(store_get(s, "digits", &(struct store_range){ 10, 0 }, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "<234789");
    buf_release(&got);
}

static void
a_range_beyond_the_end_is_corruption(void **state)
{
    static const struct store_range ranges[] = { { 8, 3 },  { 11, 0 },         { 11, 1 },
                                                 { 0, 11 }, { UINT64_MAX, 2 }, { 2, UINT64_MAX } };
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct buf got = { 0 };
    put(s, "digits", "0123456789");
    buf_put_str(&got, "kept");
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        assert_int_equal(store_get(s, "digits", &ranges[i], &got, &err), PGS_E_CORRUPT);
    assert_slice_equal(buf_slice(&got), "kept");
    buf_release(&got);
}

static void
names_are_listed_in_bytewise_order(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    /* '-' < '.' < '/' < '0' < 'A' < '_' < 'a' */
    static const char *const names[] = { "a/c0/x", "a0",    "a-b/c", "a.d", "B",    "a_",
                                         "a/b-1",  "a/b.1", "a/b",   "z/1", "z/10", "z/2" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(s, names[i], "x");
    assert_list(s, "", NULL, "B a-b/c a.d a/b a/b-1 a/b.1 a/c0/x a0 a_ z/1 z/10 z/2 ");
    assert_list(s, "a/", NULL, "a/b a/b-1 a/b.1 a/c0/x ");
    assert_list(s, "a/b", NULL, "a/b a/b-1 a/b.1 ");
    assert_list(s, "a/b-", NULL, "a/b-1 ");
    assert_list(s, "a", NULL, "a-b/c a.d a/b a/b-1 a/b.1 a/c0/x a0 a_ ");
    assert_list(s, "z/1", NULL, "z/1 z/10 ");
    assert_list(s, "z/10", NULL, "z/10 ");
    assert_list(s, "z/100", NULL, "");
    assert_list(s, "y/", NULL, "");
}

static void
a_list_begins_behind_after(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    put(s, "log/1", "x");
    put(s, "log/2", "x");
    put(s, "log/3/4", "x");
    put(s, "state/1", "x");
    assert_list(s, "log/", "log/1", "log/2 log/3/4 ");
    assert_list(s, "log/", "log/15", "log/2 log/3/4 ");
    assert_list(s, "log/", "log/3", "log/3/4 ");
    assert_list(s, "log/", "log/3/4", "");
    assert_list(s, "log/", "a", "log/1 log/2 log/3/4 ");
    assert_list(s, "log/", "log/", "log/1 log/2 log/3/4 ");
    assert_list(s, "log/", "z", "");
    assert_list(s, "", "log/3", "log/3/4 state/1 ");
}

static int
stop_at_second(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    size_t *seen = context;
    (void)name;
    (void)err;
    assert_int_equal(stat->size, 4);
    return ++*seen == 2 ? PGS_NONE : 0;
}

static int
fail_at_second(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    size_t *seen = context;
    (void)stat;
    return ++*seen == 2 ? err_set(err, PGS_E_CONFLICT, "not %s", name) : 0;
}

static void
who_lists_can_stop(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    size_t seen = 0;
    put(s, "log/1", "four");
    put(s, "log/2", "four");
    put(s, "log/3", "four");
    assert_int_equal(store_list(s, "", NULL, stop_at_second, &seen, &err), 0);
    assert_int_equal(seen, 2);
    seen = 0;
    assert_int_equal(store_list(s, "", NULL, fail_at_second, &seen, &err), PGS_E_CONFLICT);
    assert_string_equal(err.message, "not log/2");
    assert_int_equal(seen, 2);
}

static void
an_upload_is_visible_when_finished(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct store_upload *u;
    assert_int_equal(store_upload_begin(s, "segments/1/x", &u, &err), 0);
    assert_int_equal(store_upload_write(u, slice_str("one "), &err), 0);
    assert_absent(s, "segments/1/x");
    assert_list(s, "", NULL, "");
    assert_int_equal(store_upload_write(u, slice_str(""), &err), 0);
    assert_int_equal(store_upload_write(u, slice_str("two"), &err), 0);
    assert_int_equal(store_upload_finish(u, &err), 0);
    assert_object(s, "segments/1/x", "one two");
}

static void
an_aborted_upload_leaves_nothing(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct store_upload *u;
    put(s, "kept", "old");
    assert_int_equal(store_upload_begin(s, "kept", &u, &err), 0);
    assert_int_equal(store_upload_write(u, slice_str("new"), &err), 0);
    store_upload_abort(u);
    store_upload_abort(NULL);
    assert_object(s, "kept", "old");
    assert_int_equal(store_upload_begin(s, "empty", &u, &err), 0);
    assert_int_equal(store_upload_finish(u, &err), 0);
    assert_object(s, "empty", "");
    assert_list(s, "", NULL, "empty kept ");
}

/* 20 MiB in writes that fit nothing: several parts where the driver sends parts. */
static void
a_large_upload_comes_back(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct store_upload *u;
    struct buf in = { 0 }, out = { 0 };
    const size_t size = ((size_t)20 << 20) + 77, step = 1000003;
    for (size_t i = 0; i < size / 4 + 1; i++)
        buf_put_be32(&in, (uint32_t)(i * 2654435761U));
    assert_int_equal(store_upload_begin(s, "segments/large", &u, &err), 0);
    for (size_t i = 0; i < size; i += step) {
        size_t part = size - i < step ? size - i : step;
        assert_int_equal(store_upload_write(u, slice_of(in.data + i, part), &err), 0);
    }
    assert_absent(s, "segments/large");
    assert_int_equal(store_upload_finish(u, &err), 0);
    assert_int_equal(store_get(s, "segments/large", NULL, &out, &err), 0);
    assert_int_equal(out.size, size);
    assert_memory_equal(out.data, in.data, size);
    buf_reset(&out);
    /* Over the seam of two parts. */
    struct store_range seam = { ((uint64_t)8 << 20) - 3, 6 };
    assert_int_equal(store_get(s, "segments/large", &seam, &out, &err), 0);
    assert_memory_equal(out.data, in.data + seam.offset, 6);
    assert_int_equal(store_upload_begin(s, "segments/aborted", &u, &err), 0);
    assert_int_equal(store_upload_write(u, slice_of(in.data, size), &err), 0);
    store_upload_abort(u);
    assert_absent(s, "segments/aborted");
    buf_release(&in);
    buf_release(&out);
}

static void
uploads_do_not_mix(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct store_upload *a, *b;
    assert_int_equal(store_upload_begin(s, "x", &a, &err), 0);
    assert_int_equal(store_upload_begin(s, "x", &b, &err), 0);
    assert_int_equal(store_upload_write(a, slice_str("a"), &err), 0);
    assert_int_equal(store_upload_write(b, slice_str("b"), &err), 0);
    assert_int_equal(store_upload_write(a, slice_str("a"), &err), 0);
    assert_int_equal(store_upload_finish(b, &err), 0);
    assert_object(s, "x", "b");
    assert_int_equal(store_upload_finish(a, &err), 0);
    assert_object(s, "x", "aa");
}

static void
only_plain_names_are_taken(void **state)
{
    static const char *const names[] = { "",    "/",    "/a",   "a/",    "a//b", ".",
                                         "..",  "a/..", "../a", "a b",   "a\\b", "a%b",
                                         "a:b", "a\n",  "./a",  "a/./b", "~",    "\xc3\xa9" };
    struct store *s = ((struct subject *)*state)->store;
    struct slice x = slice_str("x");
    struct store_upload *u;
    struct store_stat stat;
    struct pgs_err err;
    struct buf got = { 0 };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(store_put(s, names[i], x, &err), PGS_E_USAGE);
        assert_int_equal(store_put_if_absent(s, names[i], x, &err), PGS_E_USAGE);
        assert_int_equal(store_get(s, names[i], NULL, &got, &err), PGS_E_USAGE);
        assert_int_equal(store_head(s, names[i], &stat, &err), PGS_E_USAGE);
        assert_int_equal(store_remove(s, names[i], &err), PGS_E_USAGE);
        assert_int_equal(store_upload_begin(s, names[i], &u, &err), PGS_E_USAGE);
    }
    assert_int_equal(store_list(s, "../", NULL, name_append, &got, &err), PGS_E_USAGE);
    assert_int_equal(store_list(s, "/", NULL, name_append, &got, &err), PGS_E_USAGE);
    assert_int_equal(store_list(s, "", "a//", name_append, &got, &err), PGS_E_USAGE);
    assert_int_equal(got.size, 0);
    put(s, "...", "x");
    put(s, "A-Z.a_z/0.9", "x");
    assert_list(s, "", NULL, "... A-Z.a_z/0.9 ");
}

static void
names_have_a_longest_length(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    char name[514];
    /* Parts of 100: file systems end at 255. */
    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = i % 100 == 99 ? '/' : 'n';
    name[513] = '\0';
    assert_int_equal(store_put(s, name, slice_str("x"), &err), PGS_E_USAGE);
    name[450] = '\0';
    put(s, name, "x");
    assert_object(s, name, "x");
}

static void
a_buffer_with_a_limit_is_not_overrun(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct buf got;
    put(s, "long", "0123456789");
    buf_init(&got, 4);
    int rc = store_get(s, "long", NULL, &got, &err);
    assert_true(rc < 0 || buf_failed(&got));
    assert_int_equal(got.size, 0);
    buf_release(&got);
}

static void
objects_know_when_they_were_made(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct store_stat stat;
    pgs_time now = time_now();
    put(s, "x", "y");
    assert_int_equal(store_head(s, "x", &stat, &err), 0);
    assert_true(stat.modified > now - 60 * INT64_C(1000000));
    assert_true(stat.modified < now + 60 * INT64_C(1000000));
}

static void
a_store_that_fences_passes_the_probe(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    assert_int_equal(store_probe(s, &err), 0);
    assert_int_equal(store_probe(s, &err), 0);
    assert_list(s, "", NULL, "");
}

/* --- threads --- */

struct racer {
    struct store *store;
    pthread_barrier_t *barrier;
    atomic_bool *stop;
    size_t wins, failures;
};

static void
racer_name(size_t round, char name[32])
{
    snprintf(name, 32, "log/%zu/entry", round);
}

#define ROUNDS ((size_t)20)

static void *
race_to_create(void *context)
{
    struct racer *r = context;
    struct pgs_err err;
    char name[32];
    for (size_t i = 0; i < ROUNDS; i++) {
        racer_name(i, name);
        pthread_barrier_wait(r->barrier);
        int rc = store_put_if_absent(r->store, name, slice_str("x"), &err);
        r->wins += rc == 0 ? 1 : 0;
        r->failures += rc < 0 ? 1 : 0;
    }
    return NULL;
}

static void
one_of_many_creates_the_object(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    pthread_barrier_t barrier;
    pthread_t threads[THREADS];
    struct racer racers[THREADS] = { 0 };
    size_t wins = 0;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){ .store = s, .barrier = &barrier };
        assert_int_equal(pthread_create(&threads[i], NULL, race_to_create, &racers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].failures, 0);
        wins += racers[i].wins;
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(wins, ROUNDS);
}

#define OLD_BYTES 70000
#define NEW_BYTES 30000

static struct slice
filled(struct buf *b, size_t size, uint8_t byte)
{
    buf_reset(b);
    for (size_t i = 0; i < size; i++)
        buf_put_u8(b, byte);
    return buf_slice(b);
}

static void *
read_again_and_again(void *context)
{
    struct racer *r = context;
    struct pgs_err err;
    struct buf got = { 0 };
    while (!atomic_load(r->stop)) {
        buf_reset(&got);
        int rc = store_get(r->store, "boundary", NULL, &got, &err);
        bool old = got.size == OLD_BYTES && got.data[0] == 'o' && got.data[got.size - 1] == 'o';
        bool new = got.size == NEW_BYTES &&got.data[0] == 'n' && got.data[got.size - 1] == 'n';
        if (rc != 0 || !(old || new))
            r->failures++;
    }
    buf_release(&got);
    return NULL;
}

static void
a_reader_sees_the_old_or_the_new_object(void **state)
{
    struct store *s = ((struct subject *)*state)->store;
    struct pgs_err err;
    struct buf old_bytes = { 0 }, new_bytes = { 0 };
    atomic_bool stop = false;
    pthread_t thread;
    struct racer reader = { .store = s, .stop = &stop };
    struct slice old = filled(&old_bytes, OLD_BYTES, 'o'), new = filled(&new_bytes, NEW_BYTES, 'n');
    assert_int_equal(store_put(s, "boundary", old, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_again_and_again, &reader), 0);
    for (size_t i = 0; i < ROUNDS; i++)
        assert_int_equal(store_put(s, "boundary", i % 2 == 0 ? new : old, &err), 0);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(reader.failures, 0);
    buf_release(&old_bytes);
    buf_release(&new_bytes);
}

#define PROMISE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(int argc, char **argv)
{
    static const struct CMUnitTest promises[] = {
        PROMISE(what_was_never_put_is_absent),
        PROMISE(the_beginning_of_a_name_is_no_object),
        PROMISE(many_are_removed_at_once),
        PROMISE(put_replaces_the_whole_object),
        PROMISE(all_bytes_come_back),
        PROMISE(put_if_absent_leaves_what_is_there),
        PROMISE(get_appends_the_range_that_was_asked_for),
        PROMISE(a_range_beyond_the_end_is_corruption),
        PROMISE(names_are_listed_in_bytewise_order),
        PROMISE(a_list_begins_behind_after),
        PROMISE(who_lists_can_stop),
        PROMISE(an_upload_is_visible_when_finished),
        PROMISE(an_aborted_upload_leaves_nothing),
        PROMISE(uploads_do_not_mix),
        PROMISE(only_plain_names_are_taken),
        PROMISE(names_have_a_longest_length),
        PROMISE(a_buffer_with_a_limit_is_not_overrun),
        PROMISE(a_store_that_fences_passes_the_probe),
    };
    static const struct CMUnitTest real_promises[] = {
        PROMISE(objects_know_when_they_were_made),
        PROMISE(one_of_many_creates_the_object),
        PROMISE(a_large_upload_comes_back),
        PROMISE(a_reader_sees_the_old_or_the_new_object),
    };
    bool s3 = argc > 1 && strcmp(argv[1], "s3") == 0;
    const struct driver *drivers = s3 ? s3_drivers : local_drivers;
    size_t drivers_count = s3 ? sizeof(s3_drivers) / sizeof(s3_drivers[0])
                              : sizeof(local_drivers) / sizeof(local_drivers[0]);
    int failures = 0;
    for (size_t i = 0; i < drivers_count; i++) {
        driver = &drivers[i];
        failures += cmocka_run_group_tests_name(driver->name, promises, NULL, NULL);
        if (driver->real)
            failures += cmocka_run_group_tests_name(driver->name, real_promises, NULL, NULL);
    }
    return failures;
}
