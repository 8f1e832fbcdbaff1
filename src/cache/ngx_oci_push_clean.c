
/*
 * Copyright (C) The nginx-oci authors
 *
 * Copies that came to no end: their worker died, their client did not go on,
 * or nginx did not.  In the cache manager's process, which may wait for the
 * disk.
 */


#include "ngx_oci_push.h"
#include "ngx_oci_open.h"


#define NGX_OCI_PUSH_LOOK  60           /* s between looks at the directory */


static void ngx_oci_push_clean_dir(ngx_oci_cache_t *cache);
static ngx_uint_t ngx_oci_push_clean_one(ngx_oci_cache_t *cache, uint64_t id);
static ngx_int_t ngx_oci_push_id(const char *name, uint64_t *id);


void
ngx_oci_push_clean(ngx_oci_cache_t *cache)
{
    uint64_t    id;
    ngx_uint_t  place, n;

    for (n = 0; n < NGX_OCI_PUSH_MAX; n++) {

        if (ngx_oci_push_left(cache, &place, &id) != NGX_OK) {
            break;
        }

        (void) ngx_oci_push_clean_one(cache, id);
        ngx_oci_push_free(cache, place, id);
    }

    if (n) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "removed the copies of %ui pushes in \"%V\" that came "
                      "to no end", n, &cache->path->name);
    }

    if (cache->uploads_looked
        && ngx_time() - cache->uploads_looked < NGX_OCI_PUSH_LOOK)
    {
        return;
    }

    cache->uploads_looked = ngx_time();

    ngx_oci_push_clean_dir(cache);
}


/* what another nginx left, or this one before its memory was lost */

static void
ngx_oci_push_clean_dir(ngx_oci_cache_t *cache)
{
    int             fd;
    DIR            *d;
    uint64_t        id;
    ngx_uint_t      n;
    struct dirent  *de;

    fd = openat(cache->uploads, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    d = (fd == -1) ? NULL : fdopendir(fd);

    if (d == NULL) {
        if (fd != -1) {
            close(fd);
        }

        return;
    }

    n = 0;

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (ngx_oci_push_id(de->d_name, &id) == NGX_OK
            && !ngx_oci_push_known(cache, id))
        {
            n += ngx_oci_push_clean_one(cache, id);
        }
    }

    closedir(d);

    if (n) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "removed %ui files that pushes had left in \"%V\"", n,
                      &cache->path->name);
    }
}


/* how many files went; a copy that is being written is locked */

static ngx_uint_t
ngx_oci_push_clean_one(ngx_oci_cache_t *cache, uint64_t id)
{
    int         fd;
    char        data[NGX_OCI_PUSH_NAME], map[NGX_OCI_PUSH_NAME];
    ngx_uint_t  n;

    ngx_oci_push_names(id, data, map);

    fd = ngx_oci_open(cache, cache->uploads, ".", map, O_RDWR,
                      ngx_cycle->log);

    if (fd == -1 && ngx_errno != ENOENT) {
        return 0;
    }

    if (fd != -1 && ngx_oci_store_trylock(fd) != NGX_OK) {
        close(fd);
        return 0;
    }

    n = 0;

    if (ngx_oci_unlink(cache, cache->uploads, ".", data, ngx_cycle->log)
        == 0)
    {
        n++;
    }

    if (ngx_oci_unlink(cache, cache->uploads, ".", map, ngx_cycle->log)
        == 0)
    {
        n++;
    }

    if (fd != -1) {
        close(fd);
    }

    return n;
}


static ngx_int_t
ngx_oci_push_id(const char *name, uint64_t *id)
{
    u_char      c;
    ngx_uint_t  i;

    *id = 0;

    for (i = 0; i < 16; i++) {
        c = name[i];

        if (c >= '0' && c <= '9') {
            *id = *id << 4 | (uint64_t) (c - '0');

        } else if (c >= 'a' && c <= 'f') {
            *id = *id << 4 | (uint64_t) (c - 'a' + 10);

        } else {
            return NGX_DECLINED;
        }
    }

    return (name[16] == '\0' || ngx_strcmp(name + 16, ".map") == 0)
           ? NGX_OK : NGX_DECLINED;
}
