/* file_store.c: an object is written to .tmp/, made durable, and then given its name in one step:
 * rename(2) to replace, link(2) to create only if absent. Names are folders and files below the
 * root, reached by openat(2) from a descriptor of the root, never through a symbolic link at the
 * end. */
#include "store/file_store.h"

#include "core/arena.h"
#include "core/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_MAX_BYTES 512
#define TEMP_FOLDER ".tmp"
#define TEMP_AGE_S (24 * 3600)

struct file_store {
    struct store base;
    int root;
    atomic_uint temp_counter;
};

struct file_upload {
    struct store_upload base;
    char name[NAME_MAX_BYTES + 1];
    char temp[64];
    int fd;
};

static struct file_store *
file_store_of(struct store *s)
{
    return (struct file_store *)s;
}

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
sync_folder(int root, const char *folder)
{
    int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

/* "a/b/c" -> "a/b"; "." for a name without folder. */
static void
parent_of(const char *name, char parent[NAME_MAX_BYTES + 1])
{
    const char *slash = strrchr(name, '/');
    if (slash == NULL)
        snprintf(parent, NAME_MAX_BYTES + 1, ".");
    else
        snprintf(parent, NAME_MAX_BYTES + 1, "%.*s", (int)(slash - name), name);
}

/* Makes the folders above `name`, each durable in its parent. */
static int
make_folders(int root, const char *name)
{
    char folder[NAME_MAX_BYTES + 1], above[NAME_MAX_BYTES + 1];
    for (const char *p = strchr(name, '/'); p != NULL; p = strchr(p + 1, '/')) {
        snprintf(folder, sizeof(folder), "%.*s", (int)(p - name), name);
        if (mkdirat(root, folder, 0700) == 0) {
            parent_of(folder, above);
            if (sync_folder(root, above) < 0)
                return -1;
        } else if (errno != EEXIST) {
            return -1;
        }
    }
    return 0;
}

static int
failed(struct pgs_err *err, const char *doing, const char *name)
{
    bool full = errno == ENOSPC || errno == EDQUOT;
    (void)err_set_errno(err, PGS_E_STORE, "cannot %s object %s", doing, name);
    if (full)
        return err_hint(err, "make room on the disk of the archive");
    return err_hint(err, "check the disk and the permissions of the archive's folder");
}

static int
temp_open(struct file_store *s, char temp[64])
{
    for (;;) {
        unsigned n = atomic_fetch_add(&s->temp_counter, 1);
        snprintf(temp, 64, TEMP_FOLDER "/%d-%lld-%u", (int)getpid(), (long long)time(NULL), n);
        int fd = openat(s->root, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
}

static int
name_sync_parent(struct file_store *s, const char *name)
{
    char parent[NAME_MAX_BYTES + 1];
    parent_of(name, parent);
    return sync_folder(s->root, parent);
}

/* Gives the durable temporary file its name. PGS_NONE: taken (only if_absent). */
static int
temp_publish(struct file_store *s, const char *temp, const char *name, bool if_absent,
             struct pgs_err *err)
{
    int rc = make_folders(s->root, name);
    if (rc == 0)
        rc = if_absent ? linkat(s->root, temp, s->root, name, 0)
                       : renameat(s->root, temp, s->root, name);
    bool taken = rc < 0 && if_absent && errno == EEXIST;
    if (rc == 0)
        rc = name_sync_parent(s, name);
    if (rc < 0 && !taken) {
        (void)failed(err, "create", name);
        (void)unlinkat(s->root, temp, 0);
        return err->kind;
    }
    if (if_absent)
        (void)unlinkat(s->root, temp, 0);
    return taken ? PGS_NONE : 0;
}

static int
create(struct store *base, const char *name, struct slice bytes, bool if_absent,
       struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    char temp[64];
    int fd = temp_open(s, temp);
    if (fd < 0)
        return failed(err, "create", name);
    int rc = write_all(fd, bytes);
    if (rc == 0)
        rc = fsync(fd);
    int cause = errno;
    if (close(fd) < 0 && rc == 0) {
        rc = -1;
        cause = errno;
    }
    if (rc < 0) {
        (void)unlinkat(s->root, temp, 0);
        errno = cause;
        return failed(err, "write", name);
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
read_range(int fd, const char *name, uint64_t offset, size_t size, struct buf *out,
           struct pgs_err *err)
{
    size_t done = 0;
    if (!buf_reserve(out, size))
        return err_set(err, PGS_E_CORRUPT, "object %s: %zu bytes are too many", name, size);
    while (done < size) {
        ssize_t n = pread(fd, out->data + out->size + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(err, "read", name);
        if (n == 0)
            return err_set(err, PGS_E_CORRUPT, "object %s ends early", name);
        done += (size_t)n;
    }
    out->size += size;
    return 0;
}

static int
file_get(struct store *base, const char *name, const struct store_range *range, struct buf *out,
         struct pgs_err *err)
{
    struct stat st;
    int fd = openat(file_store_of(base)->root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? PGS_NONE : failed(err, "open", name);
    int rc = fstat(fd, &st) < 0 ? failed(err, "read", name) : 0;
    uint64_t total = (uint64_t)st.st_size;
    uint64_t offset = range != NULL ? range->offset : 0;
    if (rc == 0 && (offset > total || (range != NULL && range->size > total - offset)))
        rc = err_set(err, PGS_E_CORRUPT, "object %s has %llu bytes: too short", name,
                     (unsigned long long)total);
    if (rc == 0) {
        uint64_t size = range != NULL && range->size != 0 ? range->size : total - offset;
        rc = read_range(fd, name, offset, (size_t)size, out, err);
    }
    close(fd);
    return rc;
}

static pgs_time
time_of(const struct timespec *t)
{
    return ((int64_t)t->tv_sec - PGS_EPOCH_UNIX_S) * 1000000 + t->tv_nsec / 1000;
}

static int
file_head(struct store *base, const char *name, struct store_stat *stat, struct pgs_err *err)
{
    struct stat st;
    if (fstatat(file_store_of(base)->root, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == ENOTDIR ? PGS_NONE : failed(err, "look at", name);
    if (!S_ISREG(st.st_mode))
        return PGS_NONE;
    *stat = (struct store_stat){ .size = (uint64_t)st.st_size, .modified = time_of(&st.st_mtim) };
    return 0;
}

struct names {
    char **items;
    size_t count, capacity;
    struct arena *arena;
};

static void
names_add(struct names *names, const char *name)
{
    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? 64 : names->capacity * 2;
        char **items = arena_alloc_array(names->arena, capacity, sizeof(*items));
        if (names->count > 0)
            memcpy(items, names->items, names->count * sizeof(*items));
        names->items = items;
        names->capacity = capacity;
    }
    names->items[names->count++] = arena_strdup(names->arena, name);
}

/* A folder is worth entering when a name below it can start with the prefix. */
static bool
may_match(const char *path, const char *prefix)
{
    size_t path_size = strlen(path), prefix_size = strlen(prefix);
    return strncmp(path, prefix, path_size < prefix_size ? path_size : prefix_size) == 0;
}

static int
walk(int root, const char *folder, const char *prefix, struct names *names)
{
    int fd = openat(root, folder[0] != '\0' ? folder : ".",
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return -1;
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            (folder[0] == '\0' && strcmp(entry->d_name, TEMP_FOLDER) == 0))
            continue;
        const char *path = arena_printf(names->arena, "%s%s%s", folder,
                                        folder[0] != '\0' ? "/" : "", entry->d_name);
        if (!may_match(path, prefix) || fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            rc = walk(root, path, prefix, names);
        else if (S_ISREG(st.st_mode) && strncmp(path, prefix, strlen(prefix)) == 0)
            names_add(names, path);
    }
    closedir(dir);
    return rc;
}

static int
names_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int
file_list(struct store *base, const char *prefix, const char *after, store_list_fn *fn,
          void *context, struct pgs_err *err)
{
    struct names names = { .arena = arena_new(NULL) };
    int rc = 0;
    if (walk(file_store_of(base)->root, "", prefix, &names) < 0)
        rc = failed(err, "list", prefix);
    if (names.count > 1)
        qsort(names.items, names.count, sizeof(*names.items), names_order);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        struct store_stat stat;
        if (after != NULL && strcmp(names.items[i], after) <= 0)
            continue;
        rc = file_head(base, names.items[i], &stat, err);
        if (rc == PGS_NONE) { /* removed meanwhile */
            rc = 0;
            continue;
        }
        if (rc == 0)
            rc = fn(context, names.items[i], &stat, err);
    }
    arena_free(names.arena);
    return rc < 0 ? rc : 0;
}

static int
file_remove(struct store *base, const char *name, struct pgs_err *err)
{
    struct file_store *s = file_store_of(base);
    if (unlinkat(s->root, name, 0) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : failed(err, "remove", name);
    return name_sync_parent(s, name) < 0 ? failed(err, "remove", name) : 0;
}

static int
file_upload_begin(struct store *base, const char *name, struct store_upload **upload,
                  struct pgs_err *err)
{
    struct file_upload *u = calloc(1, sizeof(*u));
    if (u == NULL)
        abort();
    u->fd = temp_open(file_store_of(base), u->temp);
    if (u->fd < 0) {
        free(u);
        return failed(err, "create", name);
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
    return write_all(u->fd, bytes) < 0 ? failed(err, "write", u->name) : 0;
}

static void
file_upload_abort(struct store_upload *base)
{
    struct file_upload *u = (struct file_upload *)base;
    if (u == NULL)
        return;
    close(u->fd);
    (void)unlinkat(file_store_of(base->store)->root, u->temp, 0);
    free(u);
}

static int
file_upload_finish(struct store_upload *base, struct pgs_err *err)
{
    struct file_upload *u = (struct file_upload *)base;
    if (fsync(u->fd) < 0) {
        (void)failed(err, "write", u->name);
        file_upload_abort(base);
        return err->kind;
    }
    close(u->fd);
    int rc = temp_publish(file_store_of(base->store), u->temp, u->name, false, err);
    free(u);
    return rc;
}

static void
file_close(struct store *base)
{
    close(file_store_of(base)->root);
    free(base);
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
temp_collect(int root)
{
    int fd = openat(root, TEMP_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            time(NULL) - st.st_mtime > TEMP_AGE_S)
            (void)unlinkat(fd, entry->d_name, 0);
    }
    closedir(dir);
}

int
file_store_open(const char *folder, struct store **store, struct pgs_err *err)
{
    if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
        (void)err_set_errno(err, PGS_E_STORE, "cannot create folder %s", folder);
        return err_hint(err, "create the folder above it, or set BACKUP_DIR");
    }
    int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_set_errno(err, PGS_E_STORE, "cannot open folder %s", folder);
    if (mkdirat(root, TEMP_FOLDER, 0700) < 0 && errno != EEXIST) {
        (void)err_set_errno(err, PGS_E_STORE, "cannot write to folder %s", folder);
        close(root);
        return err->kind;
    }
    temp_collect(root);
    struct file_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->base.ops = &file_ops;
    s->root = root;
    *store = &s->base;
    return 0;
}
