
/*
 * Copyright (C) The nginx-oci authors
 *
 * The cache's directory, which may go, come back, be another one, or get
 * read-only.  The zone has a number of what was seen there last, by any
 * process: a hash of its device and inode, and what it is good for.  Each
 * process has descriptors, and the number of what they lead to; another
 * directory's take the place of the old ones under the same numbers, so that
 * threads which are just using them see one or the other.
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"
#include <sys/statvfs.h>
#include <pthread.h>


#define NGX_OCI_DIR_LATE    (2 * NGX_OCI_DIR_CHECK + 1000)
#define NGX_OCI_DIR_FDS     7

#define ngx_oci_dir_good(id)       ((ngx_uint_t) (id) & 3)


/* what could not be done, for the log; err: 0, it was refused */

typedef struct {
    ngx_err_t    err;
    const char  *what;
} ngx_oci_dir_failure_t;


static ngx_uint_t ngx_oci_dir_look(ngx_oci_cache_t *cache, ngx_log_t *log);
static ngx_uint_t ngx_oci_dir_known(ngx_oci_cache_t *cache);
static int ngx_oci_dir_top(ngx_oci_cache_t *cache, struct stat *sb,
    ngx_oci_dir_failure_t *f);
static ngx_int_t ngx_oci_dir_open(ngx_oci_cache_t *cache, int *fds,
    struct stat *sb, ngx_oci_dir_failure_t *f);
static int ngx_oci_dir_mkdir(int dir, const char *name, struct stat *top,
    ngx_oci_dir_failure_t *f);
static ngx_int_t ngx_oci_dir_take(ngx_oci_cache_t *cache, int *fds);
static uint64_t ngx_oci_dir_id(struct stat *sb, int fd);
static void ngx_oci_dir_publish(ngx_oci_cache_t *cache, uint64_t id,
    ngx_oci_dir_failure_t *f, ngx_log_t *log);
static ngx_int_t ngx_oci_dir_boot_id(ngx_oci_cache_t *cache, ngx_log_t *log);
static void ngx_oci_dir_check_task(void *data, ngx_log_t *log);
static void ngx_oci_dir_check_done(void *data);


/* of this process: one thread at a time changes the descriptors */

static pthread_mutex_t  ngx_oci_dir_mutex = PTHREAD_MUTEX_INITIALIZER;


static void
ngx_oci_dir_places(ngx_oci_cache_t *cache, int **places)
{
    places[0] = &cache->dir;
    places[1] = &cache->blobs;
    places[2] = &cache->algs[NGX_OCI_SHA256];
    places[3] = &cache->algs[NGX_OCI_SHA512];
    places[4] = &cache->refs_dir;
    places[5] = &cache->manifests;
    places[6] = &cache->uploads;
}


ngx_int_t
ngx_oci_dir_init(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    int                    fds[NGX_OCI_DIR_FDS], *places[NGX_OCI_DIR_FDS];
    struct stat            sb;
    ngx_uint_t             i;
    ngx_oci_dir_failure_t  f;

    ngx_oci_dir_places(cache, places);

    for (i = 0; i < NGX_OCI_DIR_FDS; i++) {
        *places[i] = -1;
    }

    cache->algs[NGX_OCI_DIGEST_NONE] = -1;
    cache->owner = (uid_t) -1;

    fds[0] = ngx_oci_dir_top(cache, &sb, &f);

    if (fds[0] == -1 || ngx_oci_dir_open(cache, fds, &sb, &f) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, log, f.err,
                      "oci cache directory \"%V\" can't be used: %s",
                      &cache->path->name, f.what);
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_OCI_DIR_FDS; i++) {
        *places[i] = fds[i];
    }

    cache->owner = sb.st_uid;
    cache->dir_id = ngx_oci_dir_id(&sb, cache->dir);

    ngx_oci_dir_publish(cache, cache->dir_id, NULL, log);

    return ngx_oci_dir_boot_id(cache, log);
}


void
ngx_oci_dir_close(ngx_oci_cache_t *cache)
{
    int        *places[NGX_OCI_DIR_FDS];
    ngx_uint_t  i;

    ngx_oci_dir_places(cache, places);

    for (i = 0; i < NGX_OCI_DIR_FDS; i++) {
        if (*places[i] != -1) {
            close(*places[i]);
        }
    }
}


ngx_uint_t
ngx_oci_dir_check(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    ngx_uint_t  good;

    (void) pthread_mutex_lock(&ngx_oci_dir_mutex);
    good = ngx_oci_dir_look(cache, log);
    (void) pthread_mutex_unlock(&ngx_oci_dir_mutex);

    return good;
}


ngx_uint_t
ngx_oci_dir_enter(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    ngx_msec_t  checked;
    ngx_uint_t  good;

    if (!ngx_oci_dir_same(__atomic_load_n(&cache->dir_id, __ATOMIC_RELAXED),
                          ngx_oci_dir_now(cache)))
    {
        return ngx_oci_dir_check(cache, log);
    }

    checked = __atomic_load_n(&cache->index->dir_checked, __ATOMIC_RELAXED);

    if ((ngx_msec_int_t) (ngx_current_msec - checked) < NGX_OCI_DIR_LATE) {
        return ngx_oci_dir_known(cache);
    }

    if (pthread_mutex_trylock(&ngx_oci_dir_mutex) != 0) {

        /* another thread is looking */

        return ngx_oci_dir_known(cache);
    }

    good = ngx_oci_dir_look(cache, log);
    (void) pthread_mutex_unlock(&ngx_oci_dir_mutex);

    return good;
}


ngx_uint_t
ngx_oci_dir_state(ngx_oci_cache_t *cache)
{
    ngx_msec_t       checked;
    ngx_oci_task_t  *task;

    checked = __atomic_load_n(&cache->index->dir_checked, __ATOMIC_RELAXED);

    if ((ngx_msec_int_t) (ngx_current_msec - checked) >= NGX_OCI_DIR_LATE
        && __atomic_compare_exchange_n(&cache->index->dir_checked, &checked,
                                       ngx_current_msec, 0, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED))
    {
        /* the manager is late, or there is none */

        task = ngx_calloc(sizeof(ngx_oci_task_t) + sizeof(void *),
                          ngx_cycle->log);
        if (task) {
            task->run = ngx_oci_dir_check_task;
            task->done = ngx_oci_dir_check_done;
            task->data = task;
            *(ngx_oci_cache_t **) (void *) (task + 1) = cache;

            if (ngx_oci_io_post(cache, task) != NGX_OK) {
                ngx_free(task);
            }
        }
    }

    return ngx_oci_dir_good(ngx_oci_dir_now(cache));
}


static void
ngx_oci_dir_check_task(void *data, ngx_log_t *log)
{
    ngx_oci_task_t *task = data;

    (void) ngx_oci_dir_check(*(ngx_oci_cache_t **) (void *) (task + 1), log);
}


static void
ngx_oci_dir_check_done(void *data)
{
    ngx_free(data);
}


/* of what the descriptors lead to */

static ngx_uint_t
ngx_oci_dir_known(ngx_oci_cache_t *cache)
{
    uint64_t  now;

    now = ngx_oci_dir_now(cache);

    if (!ngx_oci_dir_same(__atomic_load_n(&cache->dir_id, __ATOMIC_RELAXED),
                          now))
    {
        return NGX_OCI_DIR_GONE;
    }

    return ngx_oci_dir_good(now);
}


/* under the mutex */

static ngx_uint_t
ngx_oci_dir_look(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    int                    fds[NGX_OCI_DIR_FDS];
    uint64_t               id;
    ngx_int_t              rc;
    struct stat            sb;
    ngx_oci_dir_failure_t  f;

    id = 0;

    __atomic_store_n(&cache->index->dir_checked, ngx_current_msec,
                     __ATOMIC_RELAXED);

    fds[0] = ngx_oci_dir_top(cache, &sb, &f);
    rc = (fds[0] == -1) ? NGX_ERROR : NGX_OK;

    if (rc == NGX_OK) {
        id = ngx_oci_dir_id(&sb, fds[0]);

        if (ngx_oci_dir_same(id, cache->dir_id)) {
            close(fds[0]);

        } else {
            rc = ngx_oci_dir_open(cache, fds, &sb, &f);

            if (rc == NGX_OK && ngx_oci_dir_take(cache, fds) != NGX_OK) {
                f.err = EMFILE;
                rc = NGX_ERROR;
            }
        }
    }

    if (rc == NGX_OK) {
        __atomic_store_n(&cache->dir_id, id, __ATOMIC_RELAXED);
        ngx_oci_dir_publish(cache, id, NULL, log);

    } else if (f.err != EMFILE && f.err != ENFILE && f.err != ENOMEM
               && f.err != EINTR)
    {
        id = (ngx_oci_dir_now(cache) & ~(uint64_t) 3) | NGX_OCI_DIR_GONE;
        ngx_oci_dir_publish(cache, id, &f, log);
    }

    /* (this process's own want tells nothing of the directory) */

    return ngx_oci_dir_known(cache);
}


/*
 * Opens the directory itself.  The name in the configuration may be a symbolic
 * link, but not one that somebody without root's rights put there for root to
 * follow.
 */

static int
ngx_oci_dir_top(ngx_oci_cache_t *cache, struct stat *sb,
    ngx_oci_dir_failure_t *f)
{
    int          fd, flags;
    char        *path;
    struct stat  link;

    path = (char *) cache->path->name.data;
    flags = O_RDONLY|O_DIRECTORY|O_CLOEXEC;

    f->what = "open() failed";

    fd = open(path, flags|O_NOFOLLOW);

    if (fd == -1 && (ngx_errno == ELOOP || ngx_errno == ENOTDIR)) {

        if (lstat(path, &link) == 0 && S_ISLNK(link.st_mode)
            && link.st_uid != 0 && link.st_uid != geteuid())
        {
            f->err = 0;
            f->what = "it is another user's symbolic link";
            return -1;
        }

        fd = open(path, flags);
    }

    if (fd == -1) {
        f->err = ngx_errno;
        return -1;
    }

    if (fstat(fd, sb) == -1) {
        f->err = ngx_errno;
        f->what = "fstat() failed";
        close(fd);
        return -1;
    }

    f->err = 0;

    if (sb->st_mode & S_IWOTH) {
        f->what = "it is writable by everyone";
        close(fd);
        return -1;
    }

    if (cache->owner != (uid_t) -1 && sb->st_uid != cache->owner) {
        f->what = "it belongs to another user than before";
        close(fd);
        return -1;
    }

    return fd;
}


/* the directories in it; takes fds[0], closes all where it fails */

static ngx_int_t
ngx_oci_dir_open(ngx_oci_cache_t *cache, int *fds, struct stat *sb,
    ngx_oci_dir_failure_t *f)
{
    ngx_uint_t  i;

    static const struct {
        ngx_uint_t   in;
        const char  *name;
        const char  *failed;
    } dirs[NGX_OCI_DIR_FDS] = {
        { 0, NULL, NULL },
        { 0, "blobs", "opening its \"blobs\" failed" },
        { 1, "sha256", "opening its \"blobs/sha256\" failed" },
        { 1, "sha512", "opening its \"blobs/sha512\" failed" },
        { 0, "refs", "opening its \"refs\" failed" },
        { 0, "manifests", "opening its \"manifests\" failed" },
        { 0, "uploads", "opening its \"uploads\" failed" }
    };

    for (i = 1; i < NGX_OCI_DIR_FDS; i++) {
        fds[i] = ngx_oci_dir_mkdir(fds[dirs[i].in], dirs[i].name, sb, f);

        if (fds[i] == -1) {
            f->what = dirs[i].failed;

            while (i) {
                close(fds[--i]);
            }

            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static int
ngx_oci_dir_mkdir(int dir, const char *name, struct stat *top,
    ngx_oci_dir_failure_t *f)
{
    int          fd;
    struct stat  sb;

    if (mkdirat(dir, name, 0700) == -1 && ngx_errno != EEXIST) {
        f->err = ngx_errno;
        return -1;
    }

    fd = openat(dir, name, O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);
    if (fd == -1) {
        f->err = ngx_errno;
        return -1;
    }

    if (fstat(fd, &sb) == -1) {
        f->err = ngx_errno;
        close(fd);
        return -1;
    }

    /* workers run as the user who owns the cache's directory */

    if (geteuid() == 0) {

        if ((sb.st_uid != top->st_uid || sb.st_gid != top->st_gid)
            && fchown(fd, top->st_uid, top->st_gid) == -1)
        {
            f->err = ngx_errno;
            close(fd);
            return -1;
        }

    } else if (sb.st_uid != geteuid()) {
        f->err = EPERM;
        close(fd);
        return -1;
    }

    if (sb.st_mode & S_IWOTH) {
        f->err = EPERM;
        close(fd);
        return -1;
    }

    return fd;
}


/* others may be using the old ones; closes fds */

static ngx_int_t
ngx_oci_dir_take(ngx_oci_cache_t *cache, int *fds)
{
    int        *places[NGX_OCI_DIR_FDS];
    ngx_int_t   rc;
    ngx_uint_t  i;

    ngx_oci_dir_places(cache, places);

    rc = NGX_OK;

    for (i = 0; i < NGX_OCI_DIR_FDS; i++) {
        if (dup3(fds[i], *places[i], O_CLOEXEC) == -1) {
            rc = NGX_ERROR;
        }

        close(fds[i]);
    }

    return rc;
}


static uint64_t
ngx_oci_dir_id(struct stat *sb, int fd)
{
    uint64_t        id;
    struct statvfs  fs;

    id = (uint64_t) sb->st_dev * 0x9e3779b97f4a7c15 + (uint64_t) sb->st_ino;
    id = (id ^ (id >> 29)) * 0xbf58476d1ce4e5b9;
    id = (id ^ (id >> 32)) & ~(uint64_t) 3;

    if (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_RDONLY)) {
        return id | NGX_OCI_DIR_READONLY;
    }

    return id | NGX_OCI_DIR_OK;
}


/* what is there now, for all processes; the one that changes it says so.  f:
   why it is gone */

static void
ngx_oci_dir_publish(ngx_oci_cache_t *cache, uint64_t id,
    ngx_oci_dir_failure_t *f, ngx_log_t *log)
{
    uint64_t    old;
    ngx_uint_t  another, level;

    old = __atomic_exchange_n(&cache->index->dir, id, __ATOMIC_ACQ_REL);

    if (old == id || (old == 0 && ngx_oci_dir_good(id) == NGX_OCI_DIR_OK)) {
        return;
    }

    another = (old && !ngx_oci_dir_same(old, id));

    switch (ngx_oci_dir_good(id)) {

    case NGX_OCI_DIR_GONE:
        ngx_log_error(NGX_LOG_CRIT, log, f->err,
                      "oci cache directory \"%V\" can't be used any more, "
                      "requests are passed through: %s", &cache->path->name,
                      f->what);
        break;

    case NGX_OCI_DIR_READONLY:
        ngx_log_error(NGX_LOG_CRIT, log, 0,
                      "oci cache directory \"%V\" is%s read-only, what is "
                      "not stored is passed through", &cache->path->name,
                      another ? " another one, and" : "");
        break;

    default:
        level = another ? NGX_LOG_WARN : NGX_LOG_NOTICE;

        ngx_log_error(level, log, 0,
                      "oci cache directory \"%V\" %s", &cache->path->name,
                      another ? "is another one now, what is in it is used"
                              : "can be used again");
    }

    if (another) {
        ngx_oci_index_moved(cache);
    }
}


static ngx_int_t
ngx_oci_dir_boot_id(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    int      fd;
    ssize_t  n;

    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY|O_CLOEXEC);
    if (fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      "open() of the kernel's boot id failed");
        return NGX_ERROR;
    }

    n = read(fd, cache->boot_id, sizeof(cache->boot_id) - 1);
    close(fd);

    if (n < 36) {
        ngx_log_error(NGX_LOG_EMERG, log, 0, "no boot id");
        return NGX_ERROR;
    }

    ngx_memzero(cache->boot_id + 36, sizeof(cache->boot_id) - 36);

    return NGX_OK;
}
