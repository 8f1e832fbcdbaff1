
/*
 * Copyright (C) The nginx-oci authors
 *
 * Files of references and bodies of manifests: what all of them take is
 * bounded when one is written, and counted anew now and then.  Those that
 * nobody used for long go, and more of them when all take too much; in the
 * cache manager's process, which may wait for the disk.
 */


#include "ngx_oci_open.h"
#include "ngx_oci_refs.h"
#include "ngx_oci_room.h"


#define NGX_OCI_REFS_AGES     256       /* classes of ages, of an eighth of an
                                           octave each */
#define NGX_OCI_REFS_TRIM     10        /* s between trims */
#define NGX_OCI_REFS_WARN     60        /* s between equal warnings */
#define NGX_OCI_REFS_COUNTED  100       /* ms, then a file that was counted is
                                           there, most likely */


typedef struct {
    ngx_oci_cache_t  *cache;
    uint64_t          taken;        /* bytes of what stays */
    uint64_t          goal;         /* it is trimmed to this, */
    ngx_uint_t        oldest;       /* of files of this class, or older */
    ngx_uint_t        trim;         /* 0: expired ones go */
    uint64_t          ages[NGX_OCI_REFS_AGES];  /* bytes, of each class */
} ngx_oci_refs_walk_t;


static ngx_uint_t ngx_oci_refs_expire_due(ngx_oci_cache_t *cache,
    uint64_t high);
static void ngx_oci_refs_walk(ngx_oci_refs_walk_t *walk);
static void ngx_oci_refs_walk_dir(ngx_oci_refs_walk_t *walk, int dir,
    const char *what);
static void ngx_oci_refs_walk_sub(ngx_oci_refs_walk_t *walk, int fd);
static ngx_uint_t ngx_oci_refs_walk_goes(ngx_oci_refs_walk_t *walk,
    struct stat *sb, ngx_uint_t tmp);
static ngx_uint_t ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp);
static ngx_uint_t ngx_oci_refs_age(time_t age);


void
ngx_oci_refs_expire(ngx_oci_cache_t *cache)
{
    uint64_t              added, older;
    ngx_uint_t            n;
    ngx_oci_refs_walk_t  *walk;

    if (!ngx_oci_refs_expire_due(cache, cache->small_max / 8 * 7)) {
        return;
    }

    walk = ngx_calloc(sizeof(ngx_oci_refs_walk_t), ngx_cycle->log);
    if (walk == NULL) {
        return;
    }

    walk->cache = cache;
    walk->goal = cache->small_max / 4 * 3;

    added = ngx_oci_index_added(cache);

    /* (what was counted by now is there by then) */

    ngx_msleep(NGX_OCI_REFS_COUNTED);

    ngx_oci_refs_walk(walk);

    if (ngx_quit || ngx_terminate) {
        ngx_free(walk);
        return;
    }

    ngx_oci_index_recount(cache, walk->taken, added);

    if (walk->taken > walk->goal) {

        older = 0;

        for (n = NGX_OCI_REFS_AGES - 1; n > 0; n--) {
            older += walk->ages[n];

            if (walk->taken - older <= walk->goal) {
                break;
            }
        }

        walk->oldest = n;
        walk->trim = 1;

        ngx_oci_refs_walk(walk);
    }

    ngx_free(walk);
}


/* once an hour, and when there is too much; whichever process manages the
   zone */

static ngx_uint_t
ngx_oci_refs_expire_due(ngx_oci_cache_t *cache, uint64_t high)
{
    time_t      now, passed;
    ngx_uint_t  due;

    now = ngx_time();
    due = 0;

    ngx_oci_refs_lock(cache);

    passed = now - cache->refs->expired;

    if (passed >= NGX_OCI_REFS_HOUR || passed < 0
        || (passed >= NGX_OCI_REFS_TRIM && ngx_oci_index_smalls(cache) > high))
    {
        cache->refs->expired = now;
        due = 1;
    }

    ngx_oci_refs_unlock(cache);

    return due;
}


static void
ngx_oci_refs_walk(ngx_oci_refs_walk_t *walk)
{
    ngx_oci_refs_walk_dir(walk, walk->cache->refs_dir, "refs");
    ngx_oci_refs_walk_dir(walk, walk->cache->manifests, "manifests");
}


static void
ngx_oci_refs_walk_dir(ngx_oci_refs_walk_t *walk, int dir, const char *what)
{
    int             fd, sub;
    DIR            *d;
    struct dirent  *de;

    /* a descriptor with a place of its own */

    fd = openat(dir, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    d = (fd == -1) ? NULL : fdopendir(fd);

    if (d == NULL) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      "opening the directory \"%V/%s\" failed",
                      &walk->cache->path->name, what);

        if (fd != -1) {
            close(fd);
        }

        return;
    }

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (ngx_strlen(de->d_name) != 2
            || ngx_hextoi((u_char *) de->d_name, 2) == NGX_ERROR)
        {
            continue;
        }

        sub = openat(fd, de->d_name,
                     O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

        if (sub != -1) {
            ngx_oci_refs_walk_sub(walk, sub);
            ngx_msleep(NGX_OCI_REFS_PAUSE);
        }
    }

    closedir(d);
    ngx_time_update();
}


/* closes fd */

static void
ngx_oci_refs_walk_sub(ngx_oci_refs_walk_t *walk, int fd)
{
    DIR            *d;
    ngx_uint_t      tmp;
    struct stat     sb;
    struct dirent  *de;

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (!ngx_oci_refs_expirable(de->d_name, &tmp)
            || fstatat(fd, de->d_name, &sb, AT_SYMLINK_NOFOLLOW) == -1
            || !S_ISREG(sb.st_mode)
            || !ngx_oci_refs_walk_goes(walk, &sb, tmp))
        {
            continue;
        }

        if (unlinkat(fd, de->d_name, 0) == 0) {
            if (walk->trim) {
                walk->taken -= ngx_oci_refs_takes(sb.st_size);
                ngx_oci_refs_unroom(walk->cache, sb.st_size);
            }

        } else if (ngx_errno != ENOENT) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                          "unlinkat() \"%V/.../%s\" failed",
                          &walk->cache->path->name, de->d_name);
            break;
        }
    }

    closedir(d);
}


static ngx_uint_t
ngx_oci_refs_walk_goes(ngx_oci_refs_walk_t *walk, struct stat *sb,
    ngx_uint_t tmp)
{
    time_t  age;

    age = ngx_time() - ngx_max(sb->st_atime, sb->st_mtime);

    if (walk->trim) {
        return !tmp && walk->taken > walk->goal
               && ngx_oci_refs_age(age) >= walk->oldest;
    }

    /* of a leftover that got its name, too, the times are the file's */

    if (age > (tmp ? NGX_OCI_REFS_HOUR : walk->cache->inactive)
        || (tmp && sb->st_nlink > 1))
    {
        return 1;
    }

    walk->taken += ngx_oci_refs_takes(sb->st_size);
    walk->ages[ngx_oci_refs_age(age)] += ngx_oci_refs_takes(sb->st_size);

    return 0;
}


/* in classes: of a second each, then of an eighth of an octave */

static ngx_uint_t
ngx_oci_refs_age(time_t age)
{
    ngx_uint_t  n, octave;

    n = (age < 0) ? 0 : (ngx_uint_t) age;

    for (octave = 0; n >= 16; octave++) {
        n >>= 1;
    }

    return ngx_min(n + 8 * octave, NGX_OCI_REFS_AGES - 1);
}


/* hex digits of a digest, alone or before a "."; *tmp: a leftover's name */

static ngx_uint_t
ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp)
{
    size_t  n, len;

    for (n = 0; name[n]; n++) {
        if (!((name[n] >= '0' && name[n] <= '9')
              || (name[n] >= 'a' && name[n] <= 'f')))
        {
            break;
        }
    }

    if ((n != 64 && n != 128) || (name[n] != '\0' && name[n] != '.')) {
        return 0;
    }

    len = ngx_strlen(name);

    *tmp = len - n >= sizeof(".tmp") - 1
           && ngx_strcmp(name + len - (sizeof(".tmp") - 1), ".tmp") == 0;

    return 1;
}


ngx_int_t
ngx_oci_refs_room(ngx_oci_cache_t *cache, size_t size, ngx_log_t *log)
{
    static time_t  warned;

    if (ngx_oci_index_small(cache, ngx_oci_refs_takes(size)) == NGX_OK) {
        return NGX_OK;
    }

    /* (two threads may say it) */

    if (ngx_time() - warned >= NGX_OCI_REFS_WARN) {
        warned = ngx_time();
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "no room for more in refs/ and manifests/ of \"%V\", "
                      "they take %uL bytes", &cache->path->name,
                      ngx_oci_index_smalls(cache));
    }

    return NGX_DECLINED;
}


ngx_uint_t
ngx_oci_refs_level(ngx_err_t err)
{
    static time_t  said;

    if (err != NGX_ENOSPC) {
        return NGX_LOG_CRIT;
    }

    /* (two threads may say it) */

    if (ngx_time() - said < NGX_OCI_REFS_WARN) {
        return NGX_LOG_INFO;
    }

    said = ngx_time();

    return NGX_LOG_CRIT;
}


void
ngx_oci_refs_unroom(ngx_oci_cache_t *cache, size_t size)
{
    (void) ngx_oci_index_small(cache, -ngx_oci_refs_takes(size));
}


/*
 * Whether a file that a rename replaces was there then, or had been removed
 * by the manager, who counted that, nobody could tell.
 */

time_t
ngx_oci_refs_replace(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, ngx_log_t *log)
{
    struct stat  sb;

    if (ngx_oci_stat(cache, dir, sub, name, &sb, log) != 0
        || !S_ISREG(sb.st_mode)
        || ngx_oci_unlink(cache, dir, sub, name, log) != 0)
    {
        return 0;
    }

    ngx_oci_refs_unroom(cache, sb.st_size);

    return (sb.st_mtime > ngx_time()) ? sb.st_mtime : 0;
}
