
/*
 * Copyright (C) The nginx-oci authors
 *
 * The files of a copy, in threads.  As in ngx_oci_verify.c, the digest's state
 * is plain memory: the next request of an upload goes on with it in another
 * worker.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_push.h"
#include "ngx_oci_open.h"
#include <openssl/sha.h>


#define NGX_OCI_PUSH_STEP  (64 * 1024 * 1024)   /* bytes reserved ahead of those
                                                   that came, at most */


static ngx_int_t ngx_oci_push_open(ngx_oci_push_t *up, ngx_log_t *log);
static int ngx_oci_push_open_one(ngx_oci_push_t *up, const char *name,
    ngx_log_t *log);
static ngx_int_t ngx_oci_push_copy(ngx_oci_push_t *up, u_char *p,
    size_t size);
static void ngx_oci_push_hash(ngx_oci_push_t *up, u_char *p, size_t n);
static ngx_int_t ngx_oci_push_final(ngx_oci_push_t *up);
static void ngx_oci_push_remove(ngx_oci_push_t *up, ngx_log_t *log);


void
ngx_oci_push_hash_init(ngx_oci_push_t *up)
{
    if (up->alg == NGX_OCI_SHA256) {
        (void) SHA256_Init((SHA256_CTX *) (void *) up->state.bytes);

    } else {
        (void) SHA512_Init((SHA512_CTX *) (void *) up->state.bytes);
    }
}


static void
ngx_oci_push_hash(ngx_oci_push_t *up, u_char *p, size_t n)
{
    if (up->alg == NGX_OCI_SHA256) {
        (void) SHA256_Update((SHA256_CTX *) (void *) up->state.bytes, p, n);

    } else {
        (void) SHA512_Update((SHA512_CTX *) (void *) up->state.bytes, p, n);
    }
}


/* NGX_DECLINED: it is another digest */

static ngx_int_t
ngx_oci_push_final(ngx_oci_push_t *up)
{
    u_char  md[NGX_OCI_DIGEST_BYTES];

    if (up->alg == NGX_OCI_SHA256) {
        (void) SHA256_Final(md, (SHA256_CTX *) (void *) up->state.bytes);

    } else {
        (void) SHA512_Final(md, (SHA512_CTX *) (void *) up->state.bytes);
    }

    return (up->digest.alg == up->alg
            && ngx_memcmp(md, up->digest.bytes, up->digest.size) == 0)
           ? NGX_OK : NGX_DECLINED;
}


void
ngx_oci_push_names(uint64_t id, char *data, char *map)
{
    (void) ngx_sprintf((u_char *) data, "%016xL%Z", id);
    (void) ngx_sprintf((u_char *) map, "%016xL.map%Z", id);
}


/* the sidecar first: its lock tells that the files are in use */

static ngx_int_t
ngx_oci_push_open(ngx_oci_push_t *up, ngx_log_t *log)
{
    char         data[NGX_OCI_PUSH_NAME], map[NGX_OCI_PUSH_NAME];
    struct stat  sb;

    if (up->map != -1) {
        return NGX_OK;
    }

    ngx_oci_push_names(up->id, data, map);

    up->map = ngx_oci_push_open_one(up, map, log);

    if (up->map == -1) {
        return (ngx_errno == NGX_OCI_SAID || up->known) ? NGX_DECLINED
                                                        : NGX_ERROR;
    }

    if (ngx_oci_store_trylock(up->map) != NGX_OK) {
        return NGX_DECLINED;
    }

    up->fd = ngx_oci_push_open_one(up, data, log);

    if (up->fd == -1) {
        return (ngx_errno == NGX_OCI_SAID || up->known) ? NGX_DECLINED
                                                        : NGX_ERROR;
    }

    /* what another process, or a new directory, made of it */

    if (fstat(up->fd, &sb) == -1 || (uint64_t) sb.st_size != up->written) {
        return NGX_DECLINED;
    }

    up->known = 1;

    return NGX_OK;
}


static int
ngx_oci_push_open_one(ngx_oci_push_t *up, const char *name, ngx_log_t *log)
{
    return ngx_oci_open(up->cache, up->cache->uploads, ".", name,
                        up->known ? O_RDWR : O_RDWR|O_CREAT|O_EXCL, log);
}


void
ngx_oci_push_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_push_t *up = data;

    uint64_t             end, all, ahead;
    ngx_uint_t           i;
    ngx_oci_push_buf_t  *b;

    up->rc = ngx_oci_push_open(up, log);

    if (up->rc != NGX_OK) {
        up->err = ngx_errno;
        return;
    }

    end = up->written;

    for (i = up->first; i != up->last; i++) {
        end += up->bufs[i % NGX_OCI_PUSH_BUFFERS].size;
    }

    /* who announces much may bring little, and may not even push: not more
       goes for it than as much again as has come */

    all = ngx_max(end, up->expected);
    ahead = end + ngx_min(end, NGX_OCI_PUSH_STEP);

    if (up->expected >= end) {
        ahead = ngx_min(ahead, up->expected);
    }

    up->rc = (ngx_oci_index_fits(up->cache, all)
              && all <= (uint64_t) up->cache->max_size)
             ? ngx_oci_room_push(up, ahead, all) : NGX_DECLINED;

    for (i = up->first; i != up->last && up->rc == NGX_OK; i++) {
        b = &up->bufs[i % NGX_OCI_PUSH_BUFFERS];
        up->rc = ngx_oci_push_copy(up, b->data, b->size);
    }

    up->err = ngx_errno;
}


/* bytes and the records of slices that they complete */

static ngx_int_t
ngx_oci_push_copy(ngx_oci_push_t *up, u_char *p, size_t size)
{
    size_t     n, slice;
    ngx_int_t  rc;

    slice = up->cache->slice;

    while (size) {

        n = ngx_min(size, slice - up->written % slice);

        rc = ngx_oci_room_write(up->cache, up->fd, p, n, up->written);
        if (rc != NGX_OK) {
            return rc;
        }

        if (up->written % slice == 0) {
            up->crc = 0;
        }

        up->crc = ngx_oci_crc32c(up->crc, p, n);
        ngx_oci_push_hash(up, p, n);

        up->written += n;
        p += n;
        size -= n;

        ngx_oci_push_wrote(up, n);

        if (up->written % slice == 0
            && ngx_oci_store_record(up->map, up->written / slice - 1, up->crc,
                                    NGX_OCI_SLICE_PRESENT)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NGX_OK: it is a blob of the cache */

void
ngx_oci_push_finish_task(void *data, ngx_log_t *log)
{
    ngx_oci_push_t *up = data;

    size_t                  slices;
    ngx_oci_store_header_t  h;

    /* (an upload whose last request has no body is opened here) */

    up->rc = ngx_oci_push_open(up, log);

    if (up->rc == NGX_OK && up->written == 0) {
        up->rc = NGX_DECLINED;
    }

    if (up->rc != NGX_OK) {
        goto done;
    }

    up->rc = ngx_oci_push_final(up);

    if (up->rc != NGX_OK) {

        /* as of an upload that did not come this way from its beginning */

        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "what was copied of a push in \"%V\" is not what the "
                      "registry took", &up->cache->path->name);
        goto done;
    }

    ngx_oci_store_header_init(up->cache, &up->digest, up->written, up->origin,
                              &h);
    h.flags = NGX_OCI_STORE_VERIFIED;

    slices = (up->written + h.slice - 1) / h.slice;

    if ((up->written % h.slice
         && ngx_oci_store_record(up->map, slices - 1, up->crc,
                                 NGX_OCI_SLICE_PRESENT)
            != NGX_OK)
        || ngx_oci_store_header(up->map, &h) != NGX_OK)
    {
        up->rc = NGX_ERROR;
        up->err = ngx_errno;
        goto done;
    }

    up->rc = ngx_oci_push_place(up, log);

done:

    ngx_oci_push_remove(up, log);
}


void
ngx_oci_push_drop_task(void *data, ngx_log_t *log)
{
    ngx_oci_push_remove(data, log);
}


/* what is still there of the copy */

static void
ngx_oci_push_remove(ngx_oci_push_t *up, ngx_log_t *log)
{
    char  data[NGX_OCI_PUSH_NAME], map[NGX_OCI_PUSH_NAME];

    if (up->fd != -1) {
        close(up->fd);
        up->fd = -1;
    }

    ngx_oci_push_names(up->id, data, map);

    (void) ngx_oci_unlink(up->cache, up->cache->uploads, ".", data, log);
    (void) ngx_oci_unlink(up->cache, up->cache->uploads, ".", map, log);

    if (up->map != -1) {
        close(up->map);
        up->map = -1;
    }
}
