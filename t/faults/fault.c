
/*
 * Copyright (C) The nginx-oci authors
 *
 * A library to preload: the n-th call of a function in nginx's workers fails,
 * or is short.  t/lib/Fault.pm says which.
 *
 * FAULT_FILE names a file that is mapped by all processes: the test writes
 * what is to fail, calls are counted there.  Nothing is counted outside of
 * workers, and nothing before it is armed.  File functions count for what is
 * below FAULT_DIR, sockets for connections to fault_t.port.  Clocks are moved
 * on by fault_t.skew.  With FAULT_TRACE it is told to stderr where a call came
 * from.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>


#define FAULT_WORKER   3    /* NGX_PROCESS_WORKER */
#define FAULT_OBJECTS  8
#define FAULT_SHORT    0    /* fault_t.error: a short count, no error */
#define FAULT_DEATH    4095 /* fault_t.error: the process dies there */
#define FAULT_STOP     4094 /* fault_t.error: it is stopped, and goes on well */
#define FAULT_TORN     4093 /* of a log: half is written, the process dies */
#define FAULT_LATE     4092 /* of a log: all is written, the process dies */

#ifndef F_OFD_SETLK
#define F_OFD_SETLK    37
#endif


/* as t/lib/Fault.pm has them */

typedef enum {
    FAULT_NONE = 0,
    FAULT_OPEN,
    FAULT_MKDIR,
    FAULT_WRITE,            /* pwrite(), and write() to a log */
    FAULT_READ,
    FAULT_PROBE,            /* preadv2() */
    FAULT_TRUNCATE,
    FAULT_SYNC,
    FAULT_RENAME,
    FAULT_UNLINK,
    FAULT_STAT,
    FAULT_LOCK,
    FAULT_RECV,
    FAULT_CONNECT,
    FAULT_BELL,             /* write() to an eventfd */
    FAULT_MEMORY,
    FAULT_PAIR              /* socketpair() */
} fault_function_e;


/* the file, in the host's byte order */

typedef struct {
    uint32_t  armed;
    uint32_t  function;     /* ..._function_e */
    uint32_t  n;            /* from 1 */
    uint32_t  on;           /* also all calls after the n-th */
    uint32_t  error;        /* errno */
    uint32_t  port;         /* of the registry; 0: any socket */
    uint32_t  skew;         /* s */
    uint32_t  count;        /* calls since it was armed */
    uint32_t  fired;
    uint32_t  cold;         /* no file is in memory, as preadv2() tells */
    uint32_t  from;         /* reads before this place of a file don't count */
    uint32_t  hang;         /* a bit: the thread waits there first, then fails,
                               without an error goes on well */
    uint32_t  released;     /* bits: it waits no longer */
    char      name[160];    /* the end of the only name that counts, if any */
} fault_t;


typedef struct {
    uintptr_t  start;
    uintptr_t  end;
    int        module;      /* 0: nginx itself */
} fault_range_t;


void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);


static volatile fault_t   *fault;
static volatile uintptr_t *fault_process;   /* nginx's ngx_process */
static char                fault_dir[4096];
static size_t              fault_dir_len;
static int                 fault_trace;

/* the code of nginx and its modules: what a library asks for is its own */

static fault_range_t       fault_objects[FAULT_OBJECTS];
static unsigned            fault_nobjects;
static unsigned            fault_scanned;


__attribute__((constructor)) static void
fault_init(void)
{
    int    fd;
    char  *name, *dir;
    void  *p;

    name = getenv("FAULT_FILE");
    dir = getenv("FAULT_DIR");

    if (name == NULL || dir == NULL || strlen(dir) >= sizeof(fault_dir)) {
        return;
    }

    strcpy(fault_dir, dir);
    fault_dir_len = strlen(dir);
    fault_trace = (getenv("FAULT_TRACE") != NULL);

    fault_process = dlsym(RTLD_DEFAULT, "ngx_process");

    fd = syscall(SYS_openat, AT_FDCWD, name, O_RDWR|O_CLOEXEC);

    if (fd == -1 || fault_process == NULL) {
        return;
    }

    p = mmap(NULL, sizeof(fault_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);

    if (p != MAP_FAILED) {
        fault = p;
    }
}


static int
fault_wanted(unsigned function)
{
    return fault && fault->armed && fault->function == function
           && *fault_process == FAULT_WORKER;
}


/* counts a call that is of interest: is it to fail? */

static int
fault_now(void)
{
    int       len;
    void     *frames[32];
    uint32_t  n, hang, error;

    const struct timespec  nap = { 0, 5 * 1000 * 1000 };

    hang = fault->hang;
    error = fault->error;

    n = __atomic_add_fetch(&fault->count, 1, __ATOMIC_SEQ_CST);

    if (n != fault->n && !(fault->on && n > fault->n)) {
        return 0;
    }

    __atomic_add_fetch(&fault->fired, 1, __ATOMIC_SEQ_CST);

    if (fault_trace) {
        len = backtrace(frames, 32);
        backtrace_symbols_fd(frames, len, STDERR_FILENO);
    }

    while (hang && !(fault->released & hang)) {
        syscall(SYS_nanosleep, &nap, NULL);
    }

    if (hang && error == 0) {
        return 0;
    }

    if (error == FAULT_DEATH) {
        syscall(SYS_kill, getpid(), SIGKILL);
    }

    if (error == FAULT_STOP) {
        syscall(SYS_kill, getpid(), SIGSTOP);
        return 0;
    }

    errno = (int) error;

    return 1;
}


static const fault_range_t *
fault_caller(void *caller)
{
    unsigned   i;
    uintptr_t  p;

    if (!__atomic_load_n(&fault_scanned, __ATOMIC_ACQUIRE)) {
        return NULL;
    }

    p = (uintptr_t) caller;

    for (i = 0; i < fault_nobjects; i++) {
        if (p >= fault_objects[i].start && p < fault_objects[i].end) {
            return &fault_objects[i];
        }
    }

    return NULL;
}


static int
fault_below(const char *path)
{
    return strncmp(path, fault_dir, fault_dir_len) == 0;
}


static int
fault_path(int fd, char *buf, size_t size)
{
    char     name[64], *p;
    ssize_t  n;
    int      i;
    char     digits[16];

    /* no printf(): it may ask for memory */

    if (fd < 0) {
        return 0;
    }

    strcpy(name, "/proc/self/fd/");
    p = name + strlen(name);
    i = 0;

    do {
        digits[i++] = '0' + fd % 10;
        fd /= 10;
    } while (fd);

    while (i) {
        *p++ = digits[--i];
    }

    *p = '\0';

    n = syscall(SYS_readlinkat, AT_FDCWD, name, buf, size - 1);
    if (n <= 0) {
        return 0;
    }

    buf[n] = '\0';

    return 1;
}


/* a call with a descriptor */

static int
fault_fd(unsigned function, int fd)
{
    int   rc, err;
    char  buf[4096];

    if (!fault_wanted(function)) {
        return 0;
    }

    err = errno;
    rc = fault_path(fd, buf, sizeof(buf)) && fault_below(buf);
    errno = err;

    return rc && fault_now();
}


static int
fault_named(const char *path)
{
    size_t       len, n;
    const char  *name;

    name = (const char *) fault->name;
    len = strlen(path);
    n = strnlen(name, sizeof(fault->name));

    return n <= len && memcmp(path + len - n, name, n) == 0;
}


/* a call with a name, perhaps relative to a descriptor */

static int
fault_name(unsigned function, int dir, const char *path)
{
    if (!fault_wanted(function) || !fault_named(path)) {
        return 0;
    }

    if (path[0] == '/') {
        return fault_below(path) && fault_now();
    }

    return dir != AT_FDCWD && fault_fd(function, dir);
}


static int
fault_port(struct sockaddr *sa)
{
    if (fault->port == 0) {
        return 1;
    }

    return sa->sa_family == AF_INET
           && ntohs(((struct sockaddr_in *) sa)->sin_port) == fault->port;
}


static int
fault_socket(unsigned function, int fd)
{
    int                      err, rc;
    socklen_t                len;
    struct sockaddr_storage  sa;

    if (!fault_wanted(function)) {
        return 0;
    }

    err = errno;
    len = sizeof(sa);
    rc = getpeername(fd, (struct sockaddr *) &sa, &len) == 0
         && fault_port((struct sockaddr *) &sa);
    errno = err;

    return rc && fault_now();
}


/* what is left of a count */

static size_t
fault_short(size_t n)
{
    return n / 2;
}


/* names */

static int
fault_openat(int dir, const char *path, int flags, mode_t mode)
{
    if (fault_name(FAULT_OPEN, dir, path)) {
        return -1;
    }

    return syscall(SYS_openat, dir, path, flags, mode);
}


static mode_t
fault_mode(int flags, va_list args)
{
    return (flags & O_CREAT) ? va_arg(args, mode_t) : 0;
}


#define fault_open_function(name)                                             \
                                                                              \
int                                                                           \
name(const char *path, int flags, ...)                                        \
{                                                                             \
    mode_t   mode;                                                            \
    va_list  args;                                                            \
                                                                              \
    va_start(args, flags);                                                    \
    mode = fault_mode(flags, args);                                           \
    va_end(args);                                                             \
                                                                              \
    return fault_openat(AT_FDCWD, path, flags, mode);                         \
}


#define fault_openat_function(name)                                           \
                                                                              \
int                                                                           \
name(int dir, const char *path, int flags, ...)                               \
{                                                                             \
    mode_t   mode;                                                            \
    va_list  args;                                                            \
                                                                              \
    va_start(args, flags);                                                    \
    mode = fault_mode(flags, args);                                           \
    va_end(args);                                                             \
                                                                              \
    return fault_openat(dir, path, flags, mode);                              \
}


fault_open_function(open)
fault_open_function(open64)
fault_openat_function(openat)
fault_openat_function(openat64)


int
mkdirat(int dir, const char *path, mode_t mode)
{
    if (fault_name(FAULT_MKDIR, dir, path)) {
        return -1;
    }

    return syscall(SYS_mkdirat, dir, path, mode);
}


int
mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}


int
renameat(int dir, const char *from, int to_dir, const char *to)
{
    if (fault_name(FAULT_RENAME, dir, from)) {
        return -1;
    }

    return syscall(SYS_renameat2, dir, from, to_dir, to, 0);
}


int
renameat2(int dir, const char *from, int to_dir, const char *to,
    unsigned flags)
{
    if (fault_name(FAULT_RENAME, dir, from)) {
        return -1;
    }

    return syscall(SYS_renameat2, dir, from, to_dir, to, flags);
}


int
rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}


int
unlinkat(int dir, const char *path, int flags)
{
    if (fault_name(FAULT_UNLINK, dir, path)) {
        return -1;
    }

    return syscall(SYS_unlinkat, dir, path, flags);
}


int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}


/* descriptors */

static ssize_t
fault_pwrite(int fd, const void *p, size_t n, off_t offset)
{
    if (fault_fd(FAULT_WRITE, fd)) {

        if (errno != FAULT_SHORT) {
            return -1;
        }

        n = fault_short(n);
    }

    return syscall(SYS_pwrite64, fd, p, n, offset);
}


static ssize_t
fault_pread(int fd, void *p, size_t n, off_t offset)
{
    if (fault && (uint64_t) offset >= fault->from && fault_fd(FAULT_READ, fd)) {

        if (errno != FAULT_SHORT) {
            return -1;
        }

        n = fault_short(n);
    }

    return syscall(SYS_pread64, fd, p, n, offset);
}


ssize_t
pwrite(int fd, const void *p, size_t n, off_t offset)
{
    return fault_pwrite(fd, p, n, offset);
}


ssize_t
pwrite64(int fd, const void *p, size_t n, off_t offset)
{
    return fault_pwrite(fd, p, n, offset);
}


ssize_t
pread(int fd, void *p, size_t n, off_t offset)
{
    return fault_pread(fd, p, n, offset);
}


ssize_t
pread64(int fd, void *p, size_t n, off_t offset)
{
    return fault_pread(fd, p, n, offset);
}


/* a short one of its single byte: the end of the file */

static ssize_t
fault_preadv2(int fd, const struct iovec *iov, int n, off_t offset,
    int flags)
{
    if (fault_fd(FAULT_PROBE, fd)) {
        return (errno == FAULT_SHORT) ? 0 : -1;
    }

    if (fault && fault->armed && fault->cold && (flags & RWF_NOWAIT)) {
        errno = EAGAIN;
        return -1;
    }

    return syscall(SYS_preadv2, fd, iov, n, offset, 0, flags);
}


ssize_t
preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return fault_preadv2(fd, iov, n, offset, flags);
}


ssize_t
preadv64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return fault_preadv2(fd, iov, n, offset, flags);
}


static int
fault_ftruncate(int fd, off_t size)
{
    if (fault_fd(FAULT_TRUNCATE, fd)) {
        return -1;
    }

    return syscall(SYS_ftruncate, fd, size);
}


int
ftruncate(int fd, off_t size)
{
    return fault_ftruncate(fd, size);
}


int
ftruncate64(int fd, off_t size)
{
    return fault_ftruncate(fd, size);
}


int
fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (fault_fd(FAULT_TRUNCATE, fd)) {
        return -1;
    }

    return syscall(SYS_fallocate, fd, mode, offset, size);
}


int
posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) == -1 ? errno : 0;
}


int
fsync(int fd)
{
    if (fault_fd(FAULT_SYNC, fd)) {
        return -1;
    }

    return syscall(SYS_fsync, fd);
}


int
fdatasync(int fd)
{
    if (fault_fd(FAULT_SYNC, fd)) {
        return -1;
    }

    return syscall(SYS_fdatasync, fd);
}


#define fault_fstat_function(name, type)                                      \
                                                                              \
int                                                                           \
name(int fd, struct type *sb)                                                 \
{                                                                             \
    if (fault_fd(FAULT_STAT, fd)) {                                           \
        return -1;                                                            \
    }                                                                         \
                                                                              \
    return syscall(SYS_newfstatat, fd, "", sb, AT_EMPTY_PATH);                \
}


#define fault_fstatat_function(name, type)                                    \
                                                                              \
int                                                                           \
name(int dir, const char *path, struct type *sb, int flags)                   \
{                                                                             \
    if (fault_name(FAULT_STAT, dir, path)) {                                  \
        return -1;                                                            \
    }                                                                         \
                                                                              \
    return syscall(SYS_newfstatat, dir, path, sb, flags);                     \
}


fault_fstat_function(fstat, stat)
fault_fstat_function(fstat64, stat64)
fault_fstatat_function(fstatat, stat)
fault_fstatat_function(fstatat64, stat64)


static int
fault_fcntl(int fd, int cmd, void *arg)
{
    /* a lock that can't be given back is the kernel's fault */

    if (cmd == F_OFD_SETLK && ((struct flock *) arg)->l_type == F_WRLCK
        && fault_fd(FAULT_LOCK, fd))
    {
        return -1;
    }

    return syscall(SYS_fcntl, fd, cmd, arg);
}


#define fault_fcntl_function(name)                                            \
                                                                              \
int                                                                           \
name(int fd, int cmd, ...)                                                    \
{                                                                             \
    void     *arg;                                                            \
    va_list   args;                                                           \
                                                                              \
    va_start(args, cmd);                                                      \
    arg = va_arg(args, void *);                                               \
    va_end(args);                                                             \
                                                                              \
    return fault_fcntl(fd, cmd, arg);                                         \
}


fault_fcntl_function(fcntl)
fault_fcntl_function(fcntl64)


/* a write() to what is appended to */

static ssize_t
fault_append(int fd, const void *p, size_t n)
{
    int  error;

    if (!fault_wanted(FAULT_WRITE) || !(fcntl(fd, F_GETFL) & O_APPEND)
        || !fault_fd(FAULT_WRITE, fd))
    {
        return syscall(SYS_write, fd, p, n);
    }

    error = errno;

    if (error == FAULT_SHORT) {
        return syscall(SYS_write, fd, p, fault_short(n));
    }

    if (error == FAULT_TORN || error == FAULT_LATE) {
        syscall(SYS_write, fd, p, error == FAULT_TORN ? fault_short(n) : n);
        syscall(SYS_kill, getpid(), SIGKILL);
    }

    return -1;
}


ssize_t
write(int fd, const void *p, size_t n)
{
    int                   err;
    char                  buf[4096];
    const fault_range_t  *r;

    r = fault_wanted(FAULT_BELL) ? fault_caller(__builtin_return_address(0))
                                 : NULL;

    /* nginx's own tells of threads that are ready: without it it hangs */

    if (r && r->module) {
        err = errno;

        if (n == sizeof(uint64_t) && fault_path(fd, buf, sizeof(buf))
            && strstr(buf, "[eventfd]") && fault_now())
        {
            return -1;
        }

        errno = err;
    }

    return fault_append(fd, p, n);
}


/* sockets */

ssize_t
recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *from,
    socklen_t *len)
{
    if (fault_socket(FAULT_RECV, fd)) {

        if (errno != FAULT_SHORT) {
            return -1;
        }

        /* 0 would be the end */

        n = (n > 1) ? fault_short(n) : n;
    }

    return syscall(SYS_recvfrom, fd, p, n, flags, from, len);
}


ssize_t
recv(int fd, void *p, size_t n, int flags)
{
    return recvfrom(fd, p, n, flags, NULL, NULL);
}


ssize_t
readv(int fd, const struct iovec *iov, int n)
{
    if (fault_socket(FAULT_RECV, fd)) {

        if (errno != FAULT_SHORT) {
            return -1;
        }

        n = 1;
    }

    return syscall(SYS_readv, fd, iov, n);
}


int
socketpair(int domain, int type, int protocol, int fds[2])
{
    if (fault_wanted(FAULT_PAIR) && fault_now()) {
        return -1;
    }

    return syscall(SYS_socketpair, domain, type, protocol, fds);
}


int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    if (fault_wanted(FAULT_CONNECT) && fault_port((struct sockaddr *) sa)
        && fault_now())
    {
        return -1;
    }

    return syscall(SYS_connect, fd, sa, len);
}


/* memory */

static int
fault_object(struct dl_phdr_info *info, size_t size, void *data)
{
    int             i;
    const char     *name;
    fault_range_t  *r;

    name = info->dlpi_name;

    if (name[0] != '\0' && strstr(name, "ngx_http_oci") == NULL
        && strstr(name, "libjansson") == NULL)
    {
        return 0;
    }

    for (i = 0; i < info->dlpi_phnum; i++) {

        if (info->dlpi_phdr[i].p_type != PT_LOAD
            || !(info->dlpi_phdr[i].p_flags & PF_X)
            || fault_nobjects == FAULT_OBJECTS)
        {
            continue;
        }

        r = &fault_objects[fault_nobjects++];
        r->start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        r->end = r->start + info->dlpi_phdr[i].p_memsz;
        r->module = (strstr(name, "ngx_http_oci") != NULL);
    }

    return 0;
}


static int
fault_memory(void *caller)
{
    return fault_wanted(FAULT_MEMORY) && fault_caller(caller)
           && fault_now();
}


void *
malloc(size_t size)
{
    if (fault_memory(__builtin_return_address(0))) {
        return NULL;
    }

    return __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    if (fault_memory(__builtin_return_address(0))) {
        return NULL;
    }

    return __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    if (fault_memory(__builtin_return_address(0))) {
        return NULL;
    }

    return __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    void  *m;

    if (fault_memory(__builtin_return_address(0))) {
        return ENOMEM;
    }

    m = __libc_memalign(alignment, size);

    if (m == NULL) {
        return ENOMEM;
    }

    *p = m;

    return 0;
}


/* clocks; also where the objects are looked at: by each process before it
   has threads, after the modules were loaded */

static void
fault_scan(void)
{
    if (fault && *fault_process == FAULT_WORKER && !fault_scanned) {
        (void) dl_iterate_phdr(fault_object, NULL);
        __atomic_store_n(&fault_scanned, 1, __ATOMIC_RELEASE);
    }
}


int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    int  rc;

    fault_scan();

    rc = syscall(SYS_gettimeofday, tv, tz);

    if (rc == 0 && fault) {
        tv->tv_sec += fault->skew;
    }

    return rc;
}


int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int  rc;

    rc = syscall(SYS_clock_gettime, id, ts);

    if (rc == 0 && fault
        && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE))
    {
        ts->tv_sec += fault->skew;
    }

    return rc;
}
