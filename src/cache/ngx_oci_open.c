
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"


#define NGX_OCI_FOREIGN_SETS   64       /* of names that are remembered */
#define NGX_OCI_FOREIGN_WAYS   8
#define NGX_OCI_FOREIGN_AGAIN  3600     /* s, then the same is said again */


static int ngx_oci_open_failed(ngx_oci_cache_t *cache, int dir,
    const char *sub, int fd, const char *name, int flags, ngx_log_t *log);
static ngx_int_t ngx_oci_open_own(ngx_oci_cache_t *cache, int dir, int subdir,
    const char *name, int fd, struct stat *sb);
static void ngx_oci_open_leftover(int subdir, const char *name,
    struct stat *sb);
static ngx_uint_t ngx_oci_foreign_said(ngx_oci_cache_t *cache,
    const char *sub, const char *name);
static const char *ngx_oci_open_where(ngx_oci_cache_t *cache, int dir);
static const char *ngx_oci_foreign_what(struct stat *sb);


int
ngx_oci_open(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, int flags, ngx_log_t *log)
{
    int          fd, subdir;
    ngx_err_t    err;
    ngx_uint_t   good;
    struct stat  sb;

    good = ngx_oci_dir_enter(cache, log);

    if (good == NGX_OCI_DIR_GONE
        || (good == NGX_OCI_DIR_READONLY
            && (flags & (O_WRONLY|O_RDWR|O_CREAT))))
    {
        ngx_set_errno(NGX_OCI_SAID);
        return -1;
    }

    subdir = ngx_oci_open_sub(cache, dir, sub, flags & O_CREAT, log);
    if (subdir == -1) {
        return -1;
    }

    fd = openat(subdir, name, flags|O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC, 0600);

    if (fd == -1) {
        (void) ngx_oci_open_failed(cache, dir, sub, subdir, name, flags, log);

    } else if (ngx_oci_open_own(cache, dir, subdir, name, fd, &sb)
               != NGX_OK)
    {
        err = ngx_errno;

        if (err == NGX_OCI_SAID) {
            ngx_oci_foreign(cache, dir, sub, name, &sb, log);
        }

        close(fd);
        ngx_set_errno(err);
        fd = -1;
    }

    err = ngx_errno;
    close(subdir);
    ngx_set_errno(err);

    return fd;
}


int
ngx_oci_open_sub(ngx_oci_cache_t *cache, int dir, const char *sub,
    ngx_uint_t create, ngx_log_t *log)
{
    int          fd;
    ngx_err_t    err;
    struct stat  sb;

    if (create && mkdirat(dir, sub, 0700) == -1 && ngx_errno != EEXIST) {
        return ngx_oci_open_failed(cache, dir, sub, dir, NULL, O_CREAT, log);
    }

    fd = openat(dir, sub, O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);
    if (fd == -1) {
        return ngx_oci_open_failed(cache, dir, sub, dir, NULL,
                                   create ? O_CREAT : 0, log);
    }

    if (fstat(fd, &sb) == -1) {
        err = ngx_errno;

    } else if (sb.st_uid != geteuid() || (sb.st_mode & S_IWOTH)) {

        /* who owns it may change names in it under our hands */

        ngx_oci_foreign(cache, dir, sub, NULL, &sb, log);
        err = NGX_OCI_SAID;

    } else {
        return fd;
    }

    close(fd);
    ngx_set_errno(err);

    return -1;
}


/*
 * Why did openat() of a name in fd, or of fd's "sub", fail?  Sets errno to
 * NGX_OCI_SAID if it is not for the caller to say; returns -1.
 */

static int
ngx_oci_open_failed(ngx_oci_cache_t *cache, int dir, const char *sub, int fd,
    const char *name, int flags, ngx_log_t *log)
{
    ngx_err_t    err;
    struct stat  sb;

    err = ngx_errno;

    switch (err) {

    case ENOENT:
        if (!(flags & O_CREAT)) {
            break;
        }

        /* fall through */

    case EROFS:
    case ESTALE:
    case ENODEV:
    case EIO:
        if (ngx_oci_dir_check(cache, log) != NGX_OCI_DIR_OK) {
            err = NGX_OCI_SAID;
        }

        break;

    case ELOOP:
    case ENOTDIR:
    case EISDIR:
    case ENXIO:
    case EACCES:
    case EPERM:
        if (fstatat(fd, name ? name : sub, &sb, AT_SYMLINK_NOFOLLOW) == 0
            && (sb.st_uid != geteuid()
                || !(name ? S_ISREG(sb.st_mode) : S_ISDIR(sb.st_mode))))
        {
            ngx_oci_foreign(cache, dir, sub, name, &sb, log);
            err = NGX_OCI_SAID;
        }

        break;

    default:
        break;
    }

    ngx_set_errno(err);

    return -1;
}


/* NGX_OK; NGX_ERROR with errno, NGX_OCI_SAID: it is somebody else's */

static ngx_int_t
ngx_oci_open_own(ngx_oci_cache_t *cache, int dir, int subdir,
    const char *name, int fd, struct stat *sb)
{
    if (fstat(fd, sb) == -1) {
        return NGX_ERROR;
    }

    if (S_ISREG(sb->st_mode) && sb->st_nlink > 1 && dir == cache->refs_dir) {

        /* the temporary file of which it was made may still be there */

        ngx_oci_open_leftover(subdir, name, sb);

        if (fstat(fd, sb) == -1) {
            return NGX_ERROR;
        }
    }

    /* (no name: it was removed just now, which the caller finds out) */

    if (!S_ISREG(sb->st_mode) || sb->st_uid != geteuid()
        || sb->st_nlink > 1)
    {
        ngx_set_errno(NGX_OCI_SAID);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * A process that died between link() and unlink() left a file of ours with
 * two names.  Whoever is just there finds his temporary file removed already.
 */

static void
ngx_oci_open_leftover(int subdir, const char *name, struct stat *sb)
{
    int             fd;
    DIR            *d;
    size_t          len, n;
    struct stat     other;
    struct dirent  *de;

    fd = openat(subdir, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    if (fd == -1) {
        return;
    }

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    len = ngx_strlen(name);

    while ((de = readdir(d)) != NULL) {

        n = ngx_strlen(de->d_name);

        if (n <= len + sizeof(".tmp")
            || ngx_strncmp(de->d_name, name, len) != 0
            || de->d_name[len] != '.'
            || ngx_strcmp(de->d_name + n - (sizeof(".tmp") - 1), ".tmp") != 0
            || fstatat(fd, de->d_name, &other, AT_SYMLINK_NOFOLLOW) == -1
            || other.st_ino != sb->st_ino || other.st_dev != sb->st_dev)
        {
            continue;
        }

        (void) unlinkat(fd, de->d_name, 0);
        break;
    }

    closedir(d);
}


int
ngx_oci_stat(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, struct stat *sb, ngx_log_t *log)
{
    int        fd, rc;
    ngx_err_t  err;

    fd = ngx_oci_open_sub(cache, dir, sub, 0, log);
    if (fd == -1) {
        return -1;
    }

    rc = fstatat(fd, name, sb, AT_SYMLINK_NOFOLLOW);
    err = ngx_errno;

    close(fd);
    ngx_set_errno(err);

    return rc;
}


/* the directory may have become read-only, or gone, since it was looked at */

ngx_err_t
ngx_oci_open_err(ngx_oci_cache_t *cache, ngx_err_t err, ngx_log_t *log)
{
    switch (err) {

    case EROFS:
    case ESTALE:
    case ENODEV:
    case EIO:
        if (ngx_oci_dir_check(cache, log) != NGX_OCI_DIR_OK) {
            return NGX_OCI_SAID;
        }

        break;

    default:
        break;
    }

    return err;
}


int
ngx_oci_unlink(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, ngx_log_t *log)
{
    int        fd, rc;
    ngx_err_t  err;

    fd = ngx_oci_open_sub(cache, dir, sub, 0, log);
    if (fd == -1) {
        return -1;
    }

    rc = unlinkat(fd, name, 0);
    err = (rc == -1) ? ngx_oci_open_err(cache, ngx_errno, log) : 0;

    close(fd);
    ngx_set_errno(err);

    return rc;
}


int
ngx_oci_rename(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *from, const char *to, ngx_log_t *log)
{
    int        fd, rc;
    ngx_err_t  err;

    fd = ngx_oci_open_sub(cache, dir, sub, 0, log);
    if (fd == -1) {
        return -1;
    }

    rc = renameat(fd, from, fd, to);
    err = (rc == -1) ? ngx_oci_open_err(cache, ngx_errno, log) : 0;

    close(fd);
    ngx_set_errno(err);

    return rc;
}


void
ngx_oci_foreign(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, struct stat *sb, ngx_log_t *log)
{
    if (ngx_oci_foreign_said(cache, sub, name)) {
        return;
    }

    ngx_log_error(NGX_LOG_CRIT, log, 0,
                  "\"%V/%s/%s%s%s\" is %s, not a file of the cache: it is "
                  "left alone, and what belongs there is not cached",
                  &cache->path->name, ngx_oci_open_where(cache, dir), sub,
                  name ? "/" : "", name ? name : "",
                  ngx_oci_foreign_what(sb));
}


/* a table of this process; a name's hash and the time make one word each, as
   threads meet here */

static ngx_uint_t
ngx_oci_foreign_said(ngx_oci_cache_t *cache, const char *sub,
    const char *name)
{
    uint32_t    crc, now;
    uint64_t   *set, said, oldest;
    ngx_uint_t  i, place;

    static uint64_t  names[NGX_OCI_FOREIGN_SETS][NGX_OCI_FOREIGN_WAYS];

    ngx_crc32_init(crc);
    ngx_crc32_update(&crc, cache->path->name.data, cache->path->name.len);
    ngx_crc32_update(&crc, (u_char *) sub, ngx_strlen(sub));

    if (name) {
        ngx_crc32_update(&crc, (u_char *) name, ngx_strlen(name));
    }

    ngx_crc32_final(crc);

    set = names[crc % NGX_OCI_FOREIGN_SETS];
    now = (uint32_t) ngx_time();

    place = 0;
    oldest = (uint64_t) -1;

    for (i = 0; i < NGX_OCI_FOREIGN_WAYS; i++) {

        said = __atomic_load_n(&set[i], __ATOMIC_RELAXED);

        if (said >> 32 == crc && now - (uint32_t) said < NGX_OCI_FOREIGN_AGAIN)
        {
            return 1;
        }

        if ((uint32_t) said < oldest) {
            oldest = (uint32_t) said;
            place = i;
        }
    }

    said = (uint64_t) crc << 32 | now;
    __atomic_store_n(&set[place], said, __ATOMIC_RELAXED);

    return 0;
}


static const char *
ngx_oci_open_where(ngx_oci_cache_t *cache, int dir)
{
    if (dir == cache->refs_dir) {
        return "refs";
    }

    if (dir == cache->manifests) {
        return "manifests";
    }

    if (dir == cache->uploads) {
        return "uploads";
    }

    return (dir == cache->algs[NGX_OCI_SHA512]) ? "blobs/sha512"
                                                : "blobs/sha256";
}


static const char *
ngx_oci_foreign_what(struct stat *sb)
{
    if (S_ISLNK(sb->st_mode)) {
        return "a symbolic link";
    }

    if (S_ISFIFO(sb->st_mode)) {
        return "a FIFO";
    }

    if (S_ISSOCK(sb->st_mode)) {
        return "a socket";
    }

    if (S_ISCHR(sb->st_mode) || S_ISBLK(sb->st_mode)) {
        return "a device";
    }

    if (sb->st_uid != geteuid()) {
        return "another user's";
    }

    if (S_ISDIR(sb->st_mode)) {
        return (sb->st_mode & S_IWOTH) ? "a directory that everyone may write"
                                       : "a directory";
    }

    return "a file with a second name elsewhere";
}
