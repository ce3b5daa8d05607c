/* file_store.c: an object is written to .tmp/, made durable, and then given its name in one step:
 * rename(2) to replace, link(2) to create only if absent. Then the folder is made durable. The way
 * to a folder is gone step by step from a descriptor of the root, so that no symbolic link, put
 * there at whatever moment, leads out of it. */
#include "store/file_store.h"

#include "core/arena.h"
#include "core/err.h"
#include "store/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TEMP_FOLDER ".tmp"
#define TEMP_NAME_MAX 64
#define TEMP_AGE_S (24 * 3600)
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
/* O_NONBLOCK: a FIFO that somebody left there must not hold us. */
#define OBJECT_FLAGS (O_RDONLY | O_NONBLOCK | O_CLOEXEC)
/* Beyond so many, a folder is synced each time anew. */
#define DURABLE_MAX 64

struct file_store {
    struct store base;
    char *folder; /* as given, for messages */
    int root, temp;
    atomic_uint temp_counter;
    pthread_mutex_t mutex;      /* guards durable and durable_count */
    char *durable[DURABLE_MAX]; /* folders whose own names are known to survive a power loss */
    size_t durable_count;
};

struct file_upload {
    struct store_upload base;
    char name[STORE_NAME_MAX + 1];
    char temp[TEMP_NAME_MAX];
    int fd;
    bool failed; /* a write did not succeed: what is there must never become visible */
};

static struct file_store *
file_store_of(struct store *s)
{
    return (struct file_store *)s;
}

/* PGS_E_STORE from errno, with the cure where we know one. */
static int
failed(struct file_store *s, struct pgs_err *err, const char *doing, const char *name)
{
    int cause = errno;
    if (cause == ELOOP) {
        (void)err_set(err, PGS_E_STORE, "cannot %s object %s: there is a symbolic link", doing,
                      name);
        return err_hint(err, "put the files themselves below %s", s->folder);
    }
    (void)err_set_errno(err, PGS_E_STORE, "cannot %s object %s", doing, name);
    if (cause == ENOSPC || cause == EDQUOT)
        return err_hint(err, "make room on the disk that holds %s", s->folder);
    return err_hint(err, "check the disk and the permissions of %s", s->folder);
}

static void
close_keeping_errno(int fd)
{
    int cause = errno;
    close(fd);
    errno = cause;
}

/* --- folders --- */

/* openat of a folder, where a symbolic link is ELOOP: plain ENOTDIR would read as "absent". */
static int
folder_openat(int above, const char *part)
{
    struct stat st;
    int fd = openat(above, part, FOLDER_FLAGS);
    if (fd < 0 && errno == ENOTDIR && fstatat(above, part, &st, AT_SYMLINK_NOFOLLOW) == 0)
        errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
    return fd;
}

static bool
folder_is_durable(struct file_store *s, const char *path)
{
    bool found = false;
    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->durable_count && !found; i++)
        found = strcmp(s->durable[i], path) == 0;
    pthread_mutex_unlock(&s->mutex);
    return found;
}

static void
folder_remember(struct file_store *s, const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        abort();
    pthread_mutex_lock(&s->mutex);
    if (s->durable_count < DURABLE_MAX) {
        s->durable[s->durable_count++] = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&s->mutex);
    free(copy);
}

/* Opens the folder `part` of `above`, made if it is missing. `path` is its full name. Found here is
 * not yet durable: another process may have made it and not have come to its fsync. */
static int
folder_make(struct file_store *s, int above, const char *part, const char *path)
{
    int fd = folder_openat(above, part);
    if (fd < 0 && errno == ENOENT) {
        if (mkdirat(above, part, 0700) < 0 && errno != EEXIST)
            return -1;
        fd = folder_openat(above, part);
    }
    if (fd < 0 || folder_is_durable(s, path))
        return fd;
    if (fsync(above) < 0) {
        close_keeping_errno(fd);
        return -1;
    }
    folder_remember(s, path);
    return fd;
}

static bool
is_reserved(const char *name)
{
    size_t size = sizeof(TEMP_FOLDER) - 1;
    return strncmp(name, TEMP_FOLDER, size) == 0 && (name[size] == '\0' || name[size] == '/');
}

/* Opens the folder that holds `name`; *last is what remains of the name in it. */
static int
parent_open(struct file_store *s, const char *name, bool make, const char **last)
{
    char path[STORE_NAME_MAX + 1];
    const char *part = name;
    if (is_reserved(name)) {
        errno = make ? EPERM : ENOENT;
        return -1;
    }
    int folder = openat(s->root, ".", FOLDER_FLAGS); /* a dup would share where readdir stands */
    for (const char *slash; folder >= 0 && (slash = strchr(part, '/')) != NULL; part = slash + 1) {
        snprintf(path, sizeof(path), "%.*s", (int)(slash - name), name);
        const char *step = path + (part - name);
        int next = make ? folder_make(s, folder, step, path) : folder_openat(folder, step);
        close_keeping_errno(folder);
        folder = next;
    }
    *last = part;
    return folder;
}

/* ENOTDIR: what should be a folder on the way is an object. */
static bool
errno_is_absent(void)
{
    return errno == ENOENT || errno == ENOTDIR;
}

/* --- writing --- */

static int
write_all(int fd, struct slice bytes)
{
    size_t done = 0;
    while (done < bytes.size) {
        ssize_t n = write(fd, bytes.data + done, bytes.size - done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int
temp_open(struct file_store *s, char temp[TEMP_NAME_MAX])
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    for (;;) {
        unsigned n = atomic_fetch_add(&s->temp_counter, 1);
        snprintf(temp, TEMP_NAME_MAX, "%d-%lld-%u", (int)getpid(), (long long)time(NULL), n);
        int fd = openat(s->temp, temp, flags, 0600);
        if (fd >= 0 || (errno != EEXIST && errno != EINTR))
            return fd;
    }
}

static void
temp_remove(struct file_store *s, const char *temp)
{
    int cause = errno;
    (void)unlinkat(s->temp, temp, 0); /* what stays is collected a day later */
    errno = cause;
}

/* link(2), 1 when the name is taken. Over NFS an answer can be lost and the repetition find its own
 * link: only the number of links tells. */
static int
temp_link(struct file_store *s, const char *temp, int folder, const char *last)
{
    struct stat st;
    if (linkat(s->temp, temp, folder, last, 0) == 0)
        return 0;
    int cause = errno;
    if (fstatat(s->temp, temp, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 2)
        return 0;
    errno = cause;
    return cause == EEXIST ? 1 : -1;
}

/* The descriptors stay good when the folder is moved away, unmounted lazily, or covered by a mount:
 * what is written through them then, nobody would find who comes by the folder's name. */
static int
root_check(struct file_store *s, struct pgs_err *err)
{
    struct stat ours, named;
    if (fstat(s->root, &ours) == 0 && stat(s->folder, &named) == 0 && ours.st_dev == named.st_dev &&
        ours.st_ino == named.st_ino)
        return 0;
    (void)err_set(err, PGS_E_STORE, "folder %s is not there any more, or another one", s->folder);
    return err_hint(err, "put back the folder that was opened, or start pgstrata again");
}

/* Gives the durable temporary file its name, and ends its time in .tmp/ in any case. PGS_NONE:
 * taken (only if_absent). */
static int
temp_publish(struct file_store *s, const char *temp, const char *name, bool if_absent,
             struct pgs_err *err)
{
    const char *last;
    int rc = root_check(s, err);
    if (rc < 0) {
        temp_remove(s, temp);
        return err_doing(err, "create object %s", name);
    }
    int folder = parent_open(s, name, true, &last);
    rc = -1;
    if (folder >= 0)
        rc = if_absent ? temp_link(s, temp, folder, last) : renameat(s->temp, temp, folder, last);
    if (rc == 0)
        rc = fsync(folder);
    if (rc != 0 || if_absent)
        temp_remove(s, temp);
    if (folder >= 0)
        close_keeping_errno(folder);
    if (rc < 0)
        return failed(s, err, "create", name);
    return rc == 0 ? 0 : PGS_NONE;
}

/* Makes the temporary file durable and closes it, also when it fails. */
static int
temp_finish(int fd)
{
    int rc = fsync(fd);
    if (rc < 0)
        close_keeping_errno(fd);
    else
        rc = close(fd);
    return rc;
}

static int
create(struct store *base, const char *name, struct slice bytes, bool if_absent,
       struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    char temp[TEMP_NAME_MAX];
    int fd = temp_open(s, temp);
    if (fd < 0)
        return failed(s, err, "create", name);
    int rc = write_all(fd, bytes);
    if (rc < 0)
        close_keeping_errno(fd);
    else
        rc = temp_finish(fd);
    if (rc < 0) {
        temp_remove(s, temp);
        return failed(s, err, "write", name);
    }
    return temp_publish(s, temp, name, if_absent, err);
}

static int
file_put(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    return create(base, name, bytes, false, err);
}

static int
file_put_if_absent(struct store *base, const char *name, struct slice bytes, struct pgs_err *err)
{
    return create(base, name, bytes, true, err);
}

static int
file_remove(struct store *base, const char *name, struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    const char *last;
    int folder = parent_open(s, name, false, &last);
    if (folder < 0)
        return errno_is_absent() ? 0 : failed(s, err, "remove", name);
    int rc = unlinkat(folder, last, 0);
    bool absent = rc < 0 && (errno == ENOENT || errno == EISDIR); /* a folder is no object */
    if (rc == 0)
        rc = fsync(folder);
    close_keeping_errno(folder);
    return rc < 0 && !absent ? failed(s, err, "remove", name) : 0;
}

/* --- uploads --- */

static int
file_upload_begin(struct store *base, const char *name, struct store_upload **upload,
                  struct pgs_err *err)
{
    struct file_upload *u = calloc(1, sizeof(*u));
    if (u == NULL)
        abort();
    u->fd = temp_open(file_store_of(base), u->temp);
    if (u->fd < 0) {
        int rc = failed(file_store_of(base), err, "create", name);
        free(u);
        return rc;
    }
    u->base.store = base;
    snprintf(u->name, sizeof(u->name), "%s", name);
    *upload = &u->base;
    return 0;
}

static int
file_upload_write(struct store_upload *base, struct slice bytes, struct pgs_err *err)
{
    struct file_upload *u = (struct file_upload *)base;
    if (write_all(u->fd, bytes) == 0)
        return 0;
    u->failed = true;
    return failed(file_store_of(base->store), err, "write", u->name);
}

static void
file_upload_abort(struct store_upload *base)
{
    struct file_upload *u = (struct file_upload *)base;
    close(u->fd);
    temp_remove(file_store_of(base->store), u->temp);
    free(u);
}

static int
file_upload_finish(struct store_upload *base, struct pgs_err *err)
{
    struct file_upload *u = (struct file_upload *)base;
    struct file_store *s = file_store_of(base->store);
    int rc;
    if (u->failed) {
        rc = err_set(err, PGS_E_STORE, "cannot create object %s: a write failed before", u->name);
        file_upload_abort(base);
        return rc;
    }
    if (temp_finish(u->fd) < 0) {
        temp_remove(s, u->temp);
        rc = failed(s, err, "write", u->name);
    } else {
        rc = temp_publish(s, u->temp, u->name, false, err);
    }
    free(u);
    return rc;
}

/* --- reading --- */

static int
read_range(struct file_store *s, int fd, const char *name, struct store_range range,
           struct buf *out, struct pgs_err *err)
{
    size_t done = 0, size = (size_t)range.size;
    if (!buf_reserve(out, size))
        return err_set(err, PGS_E_CORRUPT, "object %s: %zu bytes are too many", name, size);
    while (done < size) {
        off_t at = (off_t)(range.offset + done);
        ssize_t n = pread(fd, out->data + out->size + done, size - done, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(s, err, "read", name);
        if (n == 0)
            return err_set(err, PGS_E_CORRUPT, "object %s ends early", name);
        done += (size_t)n;
    }
    out->size += size;
    return 0;
}

static int
read_object(struct file_store *s, int fd, const char *name, const struct store_range *wanted,
            struct buf *out, struct pgs_err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return failed(s, err, "read", name);
    if (!S_ISREG(st.st_mode))
        return PGS_NONE;
    struct store_range range = wanted != NULL ? *wanted : (struct store_range){ 0, 0 };
    uint64_t total = (uint64_t)st.st_size;
    if (range.offset > total || range.size > total - range.offset)
        return err_set(err, PGS_E_CORRUPT, "object %s has %llu bytes: too short", name,
                       (unsigned long long)total);
    if (range.size == 0)
        range.size = total - range.offset;
    return read_range(s, fd, name, range, out, err);
}

static int
object_open_by_steps(struct file_store *s, const char *name)
{
    const char *last;
    int fd = -1;
    int folder = parent_open(s, name, false, &last);
    if (folder >= 0) {
        fd = openat(folder, last, OBJECT_FLAGS | O_NOFOLLOW);
        close_keeping_errno(folder);
    }
    return fd;
}

/* A restore reads thousands of small ranges: the kernel goes the whole way at once, and keeps the
 * same promise, no symbolic link. Before Linux 5.6, and where a sandbox does not know the call, it
 * is gone step by step. */
static int
object_open(struct file_store *s, const char *name)
{
    struct open_how how = { .flags = OBJECT_FLAGS,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    if (is_reserved(name)) {
        errno = ENOENT;
        return -1;
    }
    int fd = (int)syscall(SYS_openat2, s->root, name, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == E2BIG || errno == EAGAIN))
        return object_open_by_steps(s, name);
    return fd;
}

static int
file_get(struct store *base, const char *name, const struct store_range *range, struct buf *out,
         struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    int fd = object_open(s, name);
    if (fd < 0)
        return errno_is_absent() ? PGS_NONE : failed(s, err, "open", name);
    int rc = read_object(s, fd, name, range, out, err);
    close(fd);
    return rc;
}

static struct store_stat
stat_of(const struct stat *st)
{
    int64_t seconds = (int64_t)st->st_mtim.tv_sec - PGS_EPOCH_UNIX_S;
    return (struct store_stat){ .size = (uint64_t)st->st_size,
                                .modified = seconds * 1000000 + st->st_mtim.tv_nsec / 1000 };
}

static int
file_head(struct store *base, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    const char *last;
    struct stat st;
    int rc = -1;
    int folder = parent_open(s, name, false, &last);
    if (folder >= 0) {
        rc = fstatat(folder, last, &st, AT_SYMLINK_NOFOLLOW);
        close_keeping_errno(folder);
    }
    if (rc == 0 && S_ISLNK(st.st_mode)) {
        errno = ELOOP;
        rc = -1;
    }
    if (rc < 0)
        return errno_is_absent() ? PGS_NONE : failed(s, err, "look at", name);
    if (!S_ISREG(st.st_mode))
        return PGS_NONE;
    *stat = stat_of(&st);
    return 0;
}

/* --- listing --- */

struct listed {
    const char *name;
    struct store_stat stat;
};

/* All names first, then sorted: '/' has its place among other characters, so no order of walking
 * folders gives the order of names ("a-b" comes before "a/b"). */
struct listing {
    const char *prefix;
    const char *after;
    struct arena *arena;
    struct listed *items;
    size_t count, capacity;
};

static void
listing_add(struct listing *l, const char *name, const struct stat *st)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity == 0 ? 64 : l->capacity * 2;
        struct listed *items = arena_alloc_array(l->arena, capacity, sizeof(*items));
        if (l->count > 0)
            memcpy(items, l->items, l->count * sizeof(*items));
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->count++] = (struct listed){ .name = name, .stat = stat_of(st) };
}

/* Whether a name below the folder `path` can start with the prefix. */
static bool
may_match(const struct listing *l, const char *path)
{
    size_t path_size = strlen(path), prefix_size = strlen(l->prefix);
    return strncmp(path, l->prefix, path_size < prefix_size ? path_size : prefix_size) == 0;
}

static int listing_walk(struct listing *l, int fd, const char *path);

/* One directory entry; `path` is its folder's full name, with the slash behind it. */
static int
listing_entry(struct listing *l, int folder, const char *path, const char *part)
{
    struct stat st;
    size_t size = strlen(path) + strlen(part);
    if (!store_name_part_is_plain(part, strlen(part)) || size > STORE_NAME_MAX)
        return 0; /* no object of ours */
    const char *name = arena_printf(l->arena, "%s%s", path, part);
    if (!may_match(l, name) || is_reserved(name))
        return 0;
    if (fstatat(folder, part, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -1; /* removed meanwhile */
    if (S_ISLNK(st.st_mode)) {
        errno = ELOOP;
        return -1;
    }
    if (S_ISREG(st.st_mode) && size >= strlen(l->prefix) &&
        (l->after == NULL || strcmp(name, l->after) > 0))
        listing_add(l, name, &st);
    if (!S_ISDIR(st.st_mode))
        return 0;
    int fd = folder_openat(folder, part);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    return listing_walk(l, fd, arena_printf(l->arena, "%s/", name));
}

/* Takes over fd, the folder `path`. */
static int
listing_walk(struct listing *l, int fd, const char *path)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close_keeping_errno(fd);
        return -1;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0; /* readdir says "end" and "failed" with the same NULL */
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            rc = errno != 0 ? -1 : 0;
            break;
        }
        rc = listing_entry(l, fd, path, entry->d_name);
    }
    int cause = errno;
    closedir(dir);
    errno = cause;
    return rc;
}

static int
listed_order(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

/* Begins in the deepest folder that the prefix names whole. */
static int
listing_collect(struct file_store *s, struct listing *l)
{
    const char *last;
    int fd = parent_open(s, l->prefix, false, &last);
    if (fd < 0)
        return errno_is_absent() ? 0 : -1;
    int size = (int)(last - l->prefix);
    return listing_walk(l, fd, arena_printf(l->arena, "%.*s", size, l->prefix));
}

static int
file_list(struct store *base, const char *prefix, const char *after, store_list_fn *fn,
          void *context, struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    struct listing l = { .prefix = prefix, .after = after, .arena = arena_new(NULL) };
    int rc = 0;
    if (listing_collect(s, &l) < 0)
        rc = failed(s, err, "list", prefix[0] != '\0' ? prefix : "*");
    if (rc == 0 && l.count > 1)
        qsort(l.items, l.count, sizeof(*l.items), listed_order);
    for (size_t i = 0; rc == 0 && i < l.count; i++)
        rc = fn(context, l.items[i].name, &l.items[i].stat, err);
    arena_free(l.arena);
    return rc < 0 ? rc : 0;
}

/* --- open and close --- */

static void
file_close(struct store *base)
{
    struct file_store *s = file_store_of(base);
    if (s->temp >= 0)
        close(s->temp);
    if (s->root >= 0)
        close(s->root);
    for (size_t i = 0; i < s->durable_count; i++)
        free(s->durable[i]);
    pthread_mutex_destroy(&s->mutex);
    free(s->folder);
    free(s);
}

static const struct store_ops file_ops = {
    .scheme = "file",
    .put = file_put,
    .put_if_absent = file_put_if_absent,
    .get = file_get,
    .head = file_head,
    .list = file_list,
    .remove = file_remove,
    .upload_begin = file_upload_begin,
    .upload_write = file_upload_write,
    .upload_finish = file_upload_finish,
    .upload_abort = file_upload_abort,
    .close = file_close,
};

/* What a killed process left behind: old enough that nobody can still be writing it. */
static void
temp_collect(struct file_store *s)
{
    int fd = openat(s->temp, ".", FOLDER_FLAGS);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            time(NULL) - st.st_mtime > TEMP_AGE_S)
            (void)unlinkat(fd, entry->d_name, 0);
    }
    closedir(dir);
}

static int
sync_folder(int above, const char *folder)
{
    int fd = openat(above, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1;
    if (fd >= 0)
        close_keeping_errno(fd);
    return rc;
}

static int
folders_open(struct file_store *s, struct pgs_err *err)
{
    bool made = mkdir(s->folder, 0700) == 0;
    if (!made && errno != EEXIST) {
        (void)err_set_errno(err, PGS_E_STORE, "cannot create folder %s", s->folder);
        return err_hint(err, "create the folder above it, or set BACKUP_DIR");
    }
    s->root = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->root < 0 || (made && sync_folder(s->root, "..") < 0)) {
        (void)err_set_errno(err, PGS_E_STORE, "cannot open folder %s", s->folder);
        return err_hint(err, "check that it is a folder which this user may read and write");
    }
    if (mkdirat(s->root, TEMP_FOLDER, 0700) == 0 || errno == EEXIST)
        s->temp = folder_openat(s->root, TEMP_FOLDER);
    if (s->temp < 0) {
        (void)err_set_errno(err, PGS_E_STORE, "cannot write to folder %s", s->folder);
        return err_hint(err, "check the permissions of %s/" TEMP_FOLDER, s->folder);
    }
    return 0;
}

int
file_store_open(const char *folder, struct store **store, struct pgs_err *err)
{
    struct file_store *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->folder = strdup(folder)) == NULL)
        abort();
    s->base.ops = &file_ops;
    s->root = s->temp = -1;
    pthread_mutex_init(&s->mutex, NULL);
    int rc = folders_open(s, err);
    if (rc < 0) {
        file_close(&s->base);
        return rc;
    }
    temp_collect(s);
    *store = &s->base;
    return 0;
}
