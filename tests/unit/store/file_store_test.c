/* file_store_test.c: what the file driver adds to the contract: modes, links, leftovers, full
 * disks. */
#include "support/unit.h"

#include "core/err.h"
#include "store/file_store.h"
#include "support/temp_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DAY_S (24 * 3600)

struct fixture {
    char *above;     /* where things outside of the store can lie */
    char folder[96]; /* the store's */
    struct store *store;
};

static void
must(int rc)
{
    if (rc < 0)
        perror("test");
    assert_true(rc >= 0);
}

static struct store *
opened(const char *folder)
{
    struct store *s;
    struct pgs_err err;
    int rc = file_store_open(folder, &s, &err);
    if (rc < 0)
        fail_msg("%s", err.message);
    return s;
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->above = temp_folder_make();
    snprintf(f->folder, sizeof(f->folder), "%s/archive", f->above);
    f->store = opened(f->folder);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    temp_folder_remove(f->above);
    free(f);
    return 0;
}

/* A path below the store's folder. */
struct path {
    char text[256];
};

static struct path
below(const struct fixture *f, const char *name)
{
    struct path path;
    snprintf(path.text, sizeof(path.text), "%s/%s", f->folder, name);
    return path;
}

static void
put(struct fixture *f, const char *name, const char *text)
{
    struct pgs_err err;
    assert_int_equal(store_put(f->store, name, slice_str(text), &err), 0);
}

static mode_t
mode_of(const struct fixture *f, const char *name)
{
    struct stat st;
    must(lstat(below(f, name).text, &st));
    return st.st_mode & 07777;
}

static size_t
files_in(struct path folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder.text);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        count += e->d_name[0] != '.' ? 1 : 0;
    closedir(dir);
    return count;
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
only_the_owner_can_read(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct store_upload *u;
    mode_t before = umask(0);
    put(f, "log/1", "x");
    assert_int_equal(store_put_if_absent(f->store, "state/2", slice_str("x"), &err), 0);
    assert_int_equal(store_upload_begin(f->store, "segments/a/b", &u, &err), 0);
    assert_int_equal(store_upload_finish(u, &err), 0);
    umask(before);
    assert_int_equal(mode_of(f, ""), 0700);
    assert_int_equal(mode_of(f, "log"), 0700);
    assert_int_equal(mode_of(f, "segments/a"), 0700);
    assert_int_equal(mode_of(f, "log/1"), 0600);
    assert_int_equal(mode_of(f, "state/2"), 0600);
    assert_int_equal(mode_of(f, "segments/a/b"), 0600);
}

static void
objects_are_there_after_opening_again(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    put(f, "log/1", "kept");
    store_close(f->store);
    f->store = opened(f->folder);
    assert_int_equal(store_get(f->store, "log/1", NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "kept");
    buf_release(&got);
}

static void
no_temporary_file_stays(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct store_upload *u;
    put(f, "a", "x");
    put(f, "a", "y");
    assert_int_equal(store_put_if_absent(f->store, "b", slice_str("x"), &err), 0);
    assert_int_equal(store_put_if_absent(f->store, "b", slice_str("x"), &err), PGS_NONE);
    assert_int_equal(store_upload_begin(f->store, "c", &u, &err), 0);
    assert_int_equal(files_in(below(f, ".tmp")), 1);
    store_upload_abort(u);
    assert_int_equal(store_upload_begin(f->store, "c", &u, &err), 0);
    assert_int_equal(store_upload_finish(u, &err), 0);
    assert_int_equal(files_in(below(f, ".tmp")), 0);
}

static void
make_leftover(const struct fixture *f, const char *name, time_t age)
{
    struct timespec times[2] = { { .tv_sec = time(NULL) - age }, { .tv_sec = time(NULL) - age } };
    int fd = open(below(f, name).text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    must(fd);
    must(futimens(fd, times));
    close(fd);
}

static void
leftovers_go_after_a_day(void **state)
{
    struct fixture *f = *state;
    make_leftover(f, ".tmp/old", DAY_S + 60);
    make_leftover(f, ".tmp/young", DAY_S - 60);
    store_close(f->store);
    f->store = opened(f->folder);
    assert_int_equal(access(below(f, ".tmp/old").text, F_OK), -1);
    assert_int_equal(access(below(f, ".tmp/young").text, F_OK), 0);
}

static void
temporary_files_are_no_objects(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    struct store_stat stat;
    make_leftover(f, ".tmp/x", 0);
    assert_int_equal(store_list(f->store, "", NULL, name_append, &got, &err), 0);
    assert_int_equal(store_list(f->store, ".tmp/", NULL, name_append, &got, &err), 0);
    assert_int_equal(got.size, 0);
    assert_int_equal(store_get(f->store, ".tmp/x", NULL, &got, &err), PGS_NONE);
    assert_int_equal(store_head(f->store, ".tmp/x", &stat, &err), PGS_NONE);
    assert_int_equal(store_put(f->store, ".tmp/x", slice_str("x"), &err), PGS_E_STORE);
    assert_int_equal(store_remove(f->store, ".tmp/x", &err), 0);
    assert_int_equal(access(below(f, ".tmp/x").text, F_OK), 0);
    buf_release(&got);
}

/* Absent would be the worst answer: an archive that somebody moved must not look new. */
static void
a_linked_folder_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    struct store_stat stat;
    char outside[128];
    snprintf(outside, sizeof(outside), "%s/outside", f->above);
    must(mkdir(outside, 0700));
    must(symlink(outside, below(f, "log").text));
    assert_int_equal(store_put(f->store, "log/1", slice_str("x"), &err), PGS_E_STORE);
    assert_non_null(strstr(err.message, "log/1"));
    assert_non_null(strstr(err.message, "symbolic link"));
    assert_int_equal(store_put_if_absent(f->store, "log/1", slice_str("x"), &err), PGS_E_STORE);
    assert_int_equal(store_get(f->store, "log/1", NULL, &got, &err), PGS_E_STORE);
    assert_int_equal(store_head(f->store, "log/1", &stat, &err), PGS_E_STORE);
    assert_int_equal(store_remove(f->store, "log/1", &err), PGS_E_STORE);
    assert_int_equal(store_list(f->store, "log/", NULL, name_append, &got, &err), PGS_E_STORE);
    assert_int_equal(store_list(f->store, "", NULL, name_append, &got, &err), PGS_E_STORE);
    assert_int_equal(got.size, 0);
    struct path outer;
    snprintf(outer.text, sizeof(outer.text), "%s", outside);
    assert_int_equal(files_in(outer), 0);
    assert_int_equal(files_in(below(f, ".tmp")), 0);
    buf_release(&got);
}

static void
a_linked_file_is_never_read(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    struct store_stat stat;
    must(symlink("/etc/passwd", below(f, "secret").text));
    assert_int_equal(store_get(f->store, "secret", NULL, &got, &err), PGS_E_STORE);
    assert_int_equal(store_head(f->store, "secret", &stat, &err), PGS_E_STORE);
    assert_int_equal(got.size, 0);
    /* Writing replaces the link, not what it points at. */
    put(f, "secret", "ours");
    assert_int_equal(store_get(f->store, "secret", NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "ours");
    buf_release(&got);
}

static void
foreign_files_are_not_seen(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    put(f, "log/1", "x");
    must(mkdir(below(f, "lost+found").text, 0700));
    make_leftover(f, "lost+found/x", 0);
    make_leftover(f, "log/1~", 0);
    must(mkfifo(below(f, "log/pipe").text, 0600));
    assert_int_equal(store_list(f->store, "", NULL, name_append, &got, &err), 0);
    assert_string_equal(buf_cstr(&got), "log/1 ");
    assert_int_equal(store_get(f->store, "log/pipe", NULL, &got, &err), PGS_NONE);
    buf_release(&got);
}

static void
a_name_is_an_object_or_a_folder(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    put(f, "a", "x");
    assert_int_equal(store_put(f->store, "a/b", slice_str("x"), &err), PGS_E_STORE);
    assert_non_null(strstr(err.message, "a/b"));
    put(f, "c/d", "x");
    assert_int_equal(store_put(f->store, "c", slice_str("x"), &err), PGS_E_STORE);
    assert_int_equal(files_in(below(f, ".tmp")), 0);
}

static void
file_size_limit(rlim_t bytes)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_FSIZE, &limit));
    limit.rlim_cur = bytes;
    must(setrlimit(RLIMIT_FSIZE, &limit));
}

/* A limit on file sizes stands for a full disk: write(2) answers short, then fails. */
static void
what_does_not_fit_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct store_upload *u;
    static uint8_t bytes[10000];
    struct slice large = slice_of(bytes, sizeof(bytes));
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    put(f, "segments/1", "old");
    file_size_limit(4096);
    int put_rc = store_put(f->store, "segments/1", large, &err);
    int absent_rc = store_put_if_absent(f->store, "segments/2", large, &err);
    struct pgs_err put_err = err;
    int begin_rc = store_upload_begin(f->store, "segments/1", &u, &err);
    int write_rc = store_upload_write(u, large, &err);
    /* Whoever forgets to look at the answer must not make half an object visible. */
    int finish_rc = store_upload_finish(u, &err);
    file_size_limit(RLIM_INFINITY);
    signal(SIGXFSZ, before);
    assert_int_equal(put_rc, PGS_E_STORE);
    assert_int_equal(absent_rc, PGS_E_STORE);
    assert_non_null(strstr(put_err.message, "cannot write object segments/2: File too large"));
    assert_non_null(strstr(put_err.hint, f->folder));
    assert_int_equal(begin_rc, 0);
    assert_int_equal(write_rc, PGS_E_STORE);
    assert_int_equal(finish_rc, PGS_E_STORE);
    struct buf got = { 0 };
    assert_int_equal(store_get(f->store, "segments/1", NULL, &got, &err), 0);
    assert_slice_equal(buf_slice(&got), "old");
    assert_int_equal(store_get(f->store, "segments/2", NULL, &got, &err), PGS_NONE);
    assert_int_equal(files_in(below(f, ".tmp")), 0);
    buf_release(&got);
}

static void
a_folder_without_parent_is_not_made(void **state)
{
    struct fixture *f = *state;
    struct store *s = NULL;
    struct pgs_err err;
    assert_int_equal(file_store_open(below(f, "no/such").text, &s, &err), PGS_E_STORE);
    assert_non_null(strstr(err.message, "no/such"));
    assert_true(err.hint[0] != '\0');
    assert_null(s);
    put(f, "file", "x");
    assert_int_equal(file_store_open(below(f, "file").text, &s, &err), PGS_E_STORE);
    assert_null(s);
}

static void
the_store_itself_may_be_a_link(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    char link[128];
    snprintf(link, sizeof(link), "%s/link", f->above);
    must(symlink(f->folder, link));
    put(f, "log/1", "x");
    struct store *s = opened(link);
    assert_int_equal(store_get(s, "log/1", NULL, &got, &err), 0);
    store_close(s);
    buf_release(&got);
}

/* What is written into a folder that was moved away would be lost to all who come by its name. */
static void
nothing_is_created_in_a_folder_that_moved(void **state)
{
    struct fixture *f = *state;
    struct pgs_err err;
    struct buf got = { 0 };
    char away[128];
    snprintf(away, sizeof(away), "%s/away", f->above);
    for (int replaced = 0; replaced < 2; replaced++) {
        must(rename(f->folder, away));
        if (replaced)
            must(mkdir(f->folder, 0700));
        assert_int_equal(store_put(f->store, "log/1", slice_str("x"), &err), PGS_E_STORE);
        assert_non_null(strstr(err.message, f->folder));
        assert_int_equal(store_put_if_absent(f->store, "log/1", slice_str("x"), &err), PGS_E_STORE);
        if (replaced)
            must(rmdir(f->folder));
        must(rename(away, f->folder));
        assert_int_equal(store_get(f->store, "log/1", NULL, &got, &err), PGS_NONE);
        assert_int_equal(files_in(below(f, ".tmp")), 0);
    }
    put(f, "log/1", "x");
    buf_release(&got);
}

/* More folders than the driver remembers as durable. */
static void
many_folders_work_too(void **state)
{
    struct fixture *f = *state;
    char name[64];
    struct pgs_err err;
    struct buf got = { 0 };
    size_t names = 0;
    for (int i = 0; i < 70; i++) {
        snprintf(name, sizeof(name), "tenants/%d/backup", i);
        put(f, name, "x");
    }
    put(f, name, "y");
    assert_int_equal(store_list(f->store, "tenants/", NULL, name_append, &got, &err), 0);
    for (size_t i = 0; i < got.size; i++)
        names += got.data[i] == ' ' ? 1 : 0;
    assert_int_equal(names, 70);
    buf_release(&got);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(only_the_owner_can_read),
        TEST(objects_are_there_after_opening_again),
        TEST(no_temporary_file_stays),
        TEST(leftovers_go_after_a_day),
        TEST(temporary_files_are_no_objects),
        TEST(a_linked_folder_is_an_error),
        TEST(a_linked_file_is_never_read),
        TEST(foreign_files_are_not_seen),
        TEST(a_name_is_an_object_or_a_folder),
        TEST(what_does_not_fit_leaves_nothing),
        TEST(a_folder_without_parent_is_not_made),
        TEST(the_store_itself_may_be_a_link),
        TEST(nothing_is_created_in_a_folder_that_moved),
        TEST(many_folders_work_too),
    };
    return cmocka_run_group_tests_name("file store", tests, NULL, NULL);
}
