
/*
 * Copyright (C) The nginx-oci authors
 *
 * Files of references and bodies of manifests that nobody used for long go;
 * in the cache manager's process, which may wait for the disk.
 */


#include "ngx_oci_refs.h"


static void ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir,
    const char *what);
static void ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd);
static ngx_uint_t ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp);


void
ngx_oci_refs_expire(ngx_oci_cache_t *cache)
{
    time_t      now;
    ngx_uint_t  due;

    /* once an hour, whichever process manages the zone */

    due = 0;
    now = ngx_time();

    ngx_oci_refs_lock(cache);

    if (now - cache->refs->expired >= NGX_OCI_REFS_HOUR
        || now < cache->refs->expired)
    {
        cache->refs->expired = now;
        due = 1;
    }

    ngx_oci_refs_unlock(cache);

    if (due) {
        ngx_oci_refs_expire_dir(cache, cache->refs_dir, "refs");
        ngx_oci_refs_expire_dir(cache, cache->manifests, "manifests");
    }
}


static void
ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir, const char *what)
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
                      &cache->path->name, what);

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
            ngx_oci_refs_expire_sub(cache, sub);
            ngx_msleep(NGX_OCI_REFS_PAUSE);
        }
    }

    closedir(d);
    ngx_time_update();
}


/* closes fd */

static void
ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd)
{
    DIR            *d;
    time_t          now, used;
    ngx_uint_t      tmp;
    struct stat     sb;
    struct dirent  *de;

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    now = ngx_time();

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (!ngx_oci_refs_expirable(de->d_name, &tmp)
            || fstatat(fd, de->d_name, &sb, AT_SYMLINK_NOFOLLOW) == -1
            || !S_ISREG(sb.st_mode))
        {
            continue;
        }

        used = ngx_max(sb.st_atime, sb.st_mtime);

        /* of a leftover that got its name, too, the times are the file's */

        if (!(tmp && sb.st_nlink > 1)
            && now - used <= (tmp ? NGX_OCI_REFS_HOUR : cache->inactive))
        {
            continue;
        }

        if (unlinkat(fd, de->d_name, 0) == -1 && ngx_errno != ENOENT) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                          "unlinkat() \"%V/.../%s\" failed",
                          &cache->path->name, de->d_name);
            break;
        }
    }

    closedir(d);
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
