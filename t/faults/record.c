
/*
 * Copyright (C) The nginx-oci authors
 *
 * A library to preload: writes down, in their order, what a program changes
 * below a directory, and gives it another boot id.
 *
 *     RECORD_DIR      the directory, without a slash at its end
 *     RECORD_LOG      the file that the operations are appended to
 *     RECORD_BOOT_ID  is opened instead of the kernel's boot id
 *
 * A record is a record_t in the host's byte order, then both paths (relative
 * to the directory), then the data of a write.  t/lib/Crash.pm reads them.
 * Only what succeeded is recorded.  The mutex makes the order that is written
 * the order in which it was done, for one process and its threads.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>


#define BOOT_ID  "/proc/sys/kernel/random/boot_id"


typedef enum {
    OP_CREATE = 1,
    OP_WRITE,
    OP_TRUNCATE,
    OP_ALLOCATE,
    OP_RENAME,
    OP_LINK,
    OP_UNLINK,
    OP_MKDIR,
    OP_SYNC
} op_e;


typedef struct {
    uint32_t  op;
    uint32_t  path_len;
    uint32_t  other_len;        /* of rename's and link's second path */
    uint32_t  reserved;
    uint64_t  ino;              /* of the file; 0: it has none */
    uint64_t  offset;
    uint64_t  size;             /* of what is written, or to truncate to */
} record_t;


#define NEXT(name)  ((__typeof__(&name)) next(#name))


static pthread_mutex_t  mutex = PTHREAD_MUTEX_INITIALIZER;
static char             dir[PATH_MAX];
static size_t           dir_len;
static char             boot_id[PATH_MAX];
static int              log_fd = -1;


/* nginx clears its environment: what is in it is kept here */

__attribute__((constructor)) static void
record_init(void)
{
    char  *p;

    p = getenv("RECORD_BOOT_ID");
    if (p) {
        snprintf(boot_id, sizeof(boot_id), "%s", p);
    }

    p = getenv("RECORD_DIR");
    if (p) {
        snprintf(dir, sizeof(dir), "%s", p);
        dir_len = strlen(dir);
    }

    p = getenv("RECORD_LOG");
    if (p) {
        log_fd = open(p, O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0600);
    }
}


static void *
next(const char *name)
{
    void  *p;

    p = dlsym(RTLD_NEXT, name);
    if (p == NULL) {
        abort();
    }

    return p;
}


/* the path below the directory, or NULL: it is elsewhere */

static const char *
below(char *path)
{
    if (dir_len == 0 || strncmp(path, dir, dir_len) != 0
        || path[dir_len] != '/')
    {
        return NULL;
    }

    return path + dir_len + 1;
}


static const char *
fd_path(int fd, char *buf)
{
    char     link[64];
    ssize_t  n;

    if (log_fd == -1) {
        return NULL;
    }

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);

    n = readlink(link, buf, PATH_MAX - 1);
    if (n <= 0) {
        return NULL;
    }

    buf[n] = '\0';

    return below(buf);
}


static const char *
at_path(int fd, const char *name, char *buf)
{
    char     link[64];
    ssize_t  n;

    if (log_fd == -1) {
        return NULL;
    }

    if (name[0] == '/' || fd == AT_FDCWD) {
        snprintf(buf, PATH_MAX, "%s", name);
        return below(buf);
    }

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);

    n = readlink(link, buf, PATH_MAX - 2);
    if (n <= 0) {
        return NULL;
    }

    buf[n++] = '/';
    snprintf(buf + n, PATH_MAX - n, "%s", name);

    return below(buf);
}


static void
put(const void *p, size_t n)
{
    ssize_t  rc;

    while (n) {
        rc = NEXT(write)(log_fd, p, n);
        if (rc <= 0) {
            abort();
        }

        p = (const char *) p + rc;
        n -= rc;
    }
}


static void
record(op_e op, const char *path, const char *other, uint64_t ino,
    uint64_t offset, uint64_t size, const void *data)
{
    record_t  r;

    memset(&r, 0, sizeof(r));

    r.op = op;
    r.path_len = strlen(path);
    r.other_len = other ? strlen(other) : 0;
    r.ino = ino;
    r.offset = offset;
    r.size = size;

    put(&r, sizeof(r));
    put(path, r.path_len);
    put(other, r.other_len);

    if (op == OP_WRITE) {
        put(data, size);
    }
}


static uint64_t
inode(int fd)
{
    struct stat  sb;

    return fstat(fd, &sb) == 0 ? sb.st_ino : 0;
}


static int
record_open(int at, const char *name, int flags, mode_t mode)
{
    int          fd, err, existed;
    char         buf[PATH_MAX];
    const char  *path;

    __typeof__(&openat)  call = NEXT(openat);

    if (boot_id[0] && strcmp(name, BOOT_ID) == 0) {
        return call(at, boot_id, flags, mode);
    }

    path = (flags & (O_CREAT|O_TRUNC)) ? at_path(at, name, buf) : NULL;

    if (path == NULL) {
        return call(at, name, flags, mode);
    }

    pthread_mutex_lock(&mutex);

    existed = (faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    fd = call(at, name, flags, mode);
    err = errno;

    if (fd != -1 && !existed) {
        record(OP_CREATE, path, NULL, inode(fd), 0, 0, NULL);

    } else if (fd != -1 && (flags & O_TRUNC)) {
        record(OP_TRUNCATE, path, NULL, inode(fd), 0, 0, NULL);
    }

    pthread_mutex_unlock(&mutex);
    errno = err;

    return fd;
}


#define MODE(flags, last)                                                     \
    mode_t   mode = 0;                                                        \
    va_list  args;                                                            \
    if (flags & (O_CREAT|__O_TMPFILE)) {                                      \
        va_start(args, last);                                                 \
        mode = va_arg(args, mode_t);                                          \
        va_end(args);                                                         \
    }

int
open(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return record_open(AT_FDCWD, name, flags, mode);
}

int
open64(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return record_open(AT_FDCWD, name, flags, mode);
}

int
openat(int at, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return record_open(at, name, flags, mode);
}

int
openat64(int at, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return record_open(at, name, flags, mode);
}

/* what fortified programs call where the compiler can't see the flags */

int
__open_2(const char *name, int flags)
{
    return record_open(AT_FDCWD, name, flags, 0);
}

int
__open64_2(const char *name, int flags)
{
    return record_open(AT_FDCWD, name, flags, 0);
}

int
__openat_2(int at, const char *name, int flags)
{
    return record_open(at, name, flags, 0);
}

int
__openat64_2(int at, const char *name, int flags)
{
    return record_open(at, name, flags, 0);
}


/* runs a call; if it succeeded and the file is below the directory: records */

#define WRITTEN(type, call, fd, op, offset, size, data)                       \
    type         rc;                                                          \
    int          err;                                                         \
    char         buf[PATH_MAX];                                               \
    const char  *path = fd_path(fd, buf);                                     \
    if (path == NULL) {                                                       \
        return call;                                                          \
    }                                                                         \
    pthread_mutex_lock(&mutex);                                               \
    rc = call;                                                                \
    err = errno;                                                              \
    if (rc >= 0) {                                                            \
        record(op, path, NULL, inode(fd), offset, size, data);                \
    }                                                                         \
    pthread_mutex_unlock(&mutex);                                             \
    errno = err;                                                              \
    return rc;

ssize_t
pwrite(int fd, const void *p, size_t n, off_t offset)
{
    WRITTEN(ssize_t, NEXT(pwrite)(fd, p, n, offset), fd, OP_WRITE, offset, rc,
            p)
}

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t offset)
{
    WRITTEN(ssize_t, NEXT(pwrite64)(fd, p, n, offset), fd, OP_WRITE, offset,
            rc, p)
}

ssize_t
write(int fd, const void *p, size_t n)
{
    WRITTEN(ssize_t, NEXT(write)(fd, p, n), fd, OP_WRITE,
            lseek(fd, 0, SEEK_CUR) - rc, rc, p)
}

int
ftruncate(int fd, off_t size)
{
    WRITTEN(int, NEXT(ftruncate)(fd, size), fd, OP_TRUNCATE, 0, size, NULL)
}

int
ftruncate64(int fd, off64_t size)
{
    WRITTEN(int, NEXT(ftruncate64)(fd, size), fd, OP_TRUNCATE, 0, size, NULL)
}

int
fallocate(int fd, int mode, off_t offset, off_t size)
{
    WRITTEN(int, NEXT(fallocate)(fd, mode, offset, size), fd, OP_ALLOCATE,
            offset, size, NULL)
}

int
fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    WRITTEN(int, NEXT(fallocate64)(fd, mode, offset, size), fd, OP_ALLOCATE,
            offset, size, NULL)
}

int
fsync(int fd)
{
    WRITTEN(int, NEXT(fsync)(fd), fd, OP_SYNC, 0, 0, NULL)
}

int
fdatasync(int fd)
{
    WRITTEN(int, NEXT(fdatasync)(fd), fd, OP_SYNC, 0, 0, NULL)
}

/* it waits for no metadata and no disk's cache: nothing is durable by it */

int
sync_file_range(int fd, off64_t offset, off64_t size, unsigned int flags)
{
    return NEXT(sync_file_range)(fd, offset, size, flags);
}


#define NAMED(call, at, name, op)                                             \
    int          rc, err;                                                     \
    char         buf[PATH_MAX];                                               \
    const char  *path = at_path(at, name, buf);                               \
    if (path == NULL) {                                                       \
        return call;                                                          \
    }                                                                         \
    pthread_mutex_lock(&mutex);                                               \
    rc = call;                                                                \
    err = errno;                                                              \
    if (rc == 0) {                                                            \
        record(op, path, NULL, 0, 0, 0, NULL);                                \
    }                                                                         \
    pthread_mutex_unlock(&mutex);                                             \
    errno = err;                                                              \
    return rc;

int
mkdir(const char *name, mode_t mode)
{
    NAMED(NEXT(mkdir)(name, mode), AT_FDCWD, name, OP_MKDIR)
}

int
mkdirat(int at, const char *name, mode_t mode)
{
    NAMED(NEXT(mkdirat)(at, name, mode), at, name, OP_MKDIR)
}

int
unlink(const char *name)
{
    NAMED(NEXT(unlink)(name), AT_FDCWD, name, OP_UNLINK)
}

int
unlinkat(int at, const char *name, int flags)
{
    NAMED(NEXT(unlinkat)(at, name, flags), at, name, OP_UNLINK)
}


#define NAMED2(call, at, from, to_at, to, op)                                 \
    int          rc, err;                                                     \
    char         a[PATH_MAX], b[PATH_MAX];                                    \
    const char  *path = at_path(at, from, a);                                 \
    const char  *other = at_path(to_at, to, b);                               \
    if (path == NULL || other == NULL) {                                      \
        return call;                                                          \
    }                                                                         \
    pthread_mutex_lock(&mutex);                                               \
    rc = call;                                                                \
    err = errno;                                                              \
    if (rc == 0) {                                                            \
        record(op, path, other, 0, 0, 0, NULL);                               \
    }                                                                         \
    pthread_mutex_unlock(&mutex);                                             \
    errno = err;                                                              \
    return rc;

int
rename(const char *from, const char *to)
{
    NAMED2(NEXT(rename)(from, to), AT_FDCWD, from, AT_FDCWD, to, OP_RENAME)
}

int
renameat(int at, const char *from, int to_at, const char *to)
{
    NAMED2(NEXT(renameat)(at, from, to_at, to), at, from, to_at, to,
           OP_RENAME)
}

int
linkat(int at, const char *from, int to_at, const char *to, int flags)
{
    NAMED2(NEXT(linkat)(at, from, to_at, to, flags), at, from, to_at, to,
           OP_LINK)
}
