
/*
 * Copyright (C) The nginx-oci authors
 *
 * OpenSSL's low-level contexts are used on purpose: they are plain memory,
 * so that their state can be kept in the sidecar and taken up by another
 * worker.  EVP has no such thing.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_blob.h"
#include <openssl/sha.h>


#define NGX_OCI_VERIFY_PIECE       (8 * 1024 * 1024)
#define NGX_OCI_VERIFY_CHECKPOINT  (64 * 1024 * 1024)


static void ngx_oci_verify_task(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_verify_file(ngx_oci_verify_t *v);
static ngx_int_t ngx_oci_verify_work(ngx_oci_verify_t *v);
static void ngx_oci_verify_update(ngx_oci_verify_t *v, uint64_t pos,
    u_char *data, size_t size);
static void ngx_oci_verify_final(ngx_oci_verify_t *v, ngx_log_t *log);
static void ngx_oci_verify_task_done(void *data);
static void ngx_oci_verify_release(ngx_oci_verify_t *v,
    ngx_oci_verify_buf_t *bufs, ngx_uint_t *n);
static void ngx_oci_verify_back(ngx_oci_verify_t *v);
static size_t ngx_oci_verify_state_len(ngx_uint_t alg);


typedef char ngx_oci_verify_state_fits[
                 (sizeof(SHA256_CTX) <= NGX_OCI_STORE_HASH_MAX
                  && sizeof(SHA512_CTX) <= NGX_OCI_STORE_HASH_MAX) ? 1 : -1];


static size_t
ngx_oci_verify_state_len(ngx_uint_t alg)
{
    return (alg == NGX_OCI_SHA256) ? sizeof(SHA256_CTX) : sizeof(SHA512_CTX);
}


void
ngx_oci_verify_init(ngx_oci_verify_t *v, ngx_oci_fill_t *fill,
    ngx_oci_blob_t *blob)
{
    v->fill = fill;
    v->cache = blob->cache;
    v->digest = &blob->digest;
    v->fd = blob->store.fd;
    v->map = blob->store.map;
    v->header = blob->store.header;
    v->size = blob->size;

    v->task.run = ngx_oci_verify_task;
    v->task.done = ngx_oci_verify_task_done;
    v->task.data = v;
    v->task.bulk = 1;

    if (v->header.hashed && v->header.hashed <= v->size
        && v->header.hashed % v->header.slice == 0
        && v->header.hash_len == ngx_oci_verify_state_len(v->digest->alg)
        && ngx_memcmp(v->header.boot_id, blob->cache->boot_id,
                      sizeof(v->header.boot_id))
           == 0)
    {
        ngx_memcpy(v->state.bytes, v->header.hash_state, v->header.hash_len);
        v->pos = v->header.hashed;

    } else {
        v->pos = 0;

        if (v->digest->alg == NGX_OCI_SHA256) {
            (void) SHA256_Init((SHA256_CTX *) (void *) v->state.bytes);

        } else {
            (void) SHA512_Init((SHA512_CTX *) (void *) v->state.bytes);
        }
    }

    v->next = v->pos;
    v->safe = v->pos;
    v->safe_state = v->state;
}


void
ngx_oci_verify_done(ngx_oci_verify_t *v)
{
    ngx_oci_verify_release(v, v->queue, &v->nqueue);

    while (v->nspare) {
        ngx_free(v->spare[--v->nspare]);
    }
}


u_char *
ngx_oci_verify_buffer(ngx_oci_verify_t *v, ngx_log_t *log)
{
    if (v->nspare) {
        return v->spare[--v->nspare];
    }

    return ngx_alloc(NGX_OCI_VERIFY_BUFFER, log);
}


void
ngx_oci_verify_spare(ngx_oci_verify_t *v, u_char *data)
{
    if (v->nspare < NGX_OCI_VERIFY_BUFFERS) {
        v->spare[v->nspare++] = data;
        return;
    }

    ngx_free(data);
}


static void
ngx_oci_verify_release(ngx_oci_verify_t *v, ngx_oci_verify_buf_t *bufs,
    ngx_uint_t *n)
{
    while (*n) {
        ngx_oci_verify_spare(v, bufs[--(*n)].data);
    }
}


ngx_int_t
ngx_oci_verify_take(ngx_oci_verify_t *v, uint64_t offset, u_char *data,
    size_t size)
{
    ngx_oci_verify_buf_t  *b;

    if (offset != v->next || v->discard
        || v->nqueue == NGX_OCI_VERIFY_BUFFERS)
    {
        return NGX_DECLINED;
    }

    b = &v->queue[v->nqueue++];

    b->data = data;
    b->size = size;

    v->next += size;

    return NGX_OK;
}


/* half of the queue is left for what is on its way to the file */

ngx_uint_t
ngx_oci_verify_full(ngx_oci_verify_t *v, uint64_t offset)
{
    return v->running && !v->discard && offset == v->next
           && v->nqueue >= NGX_OCI_VERIFY_BUFFERS / 2;
}


void
ngx_oci_verify_discard(ngx_oci_verify_t *v, uint64_t start, uint64_t end)
{
    if (v->next <= start || v->next > end) {
        return;
    }

    ngx_oci_verify_release(v, v->queue, &v->nqueue);

    if (v->running) {
        v->discard = (v->end > start);
        v->next = v->end;
        return;
    }

    if (v->pos > start) {
        ngx_oci_verify_back(v);
    }

    v->next = v->pos;
}


/* to the last border between slices */

static void
ngx_oci_verify_back(ngx_oci_verify_t *v)
{
    v->state = v->safe_state;
    v->pos = v->safe;
    v->next = v->safe;
}


ngx_int_t
ngx_oci_verify_run(ngx_oci_verify_t *v, uint64_t end)
{
    if (v->running) {
        return NGX_OK;
    }

    if (v->nqueue) {
        v->end = v->next;

    } else if (end > v->pos) {
        v->end = ngx_min(end, v->pos + NGX_OCI_VERIFY_PIECE);

    } else {
        return NGX_OK;
    }

    /* a thread may begin before the post returns */

    ngx_memcpy(v->work, v->queue, v->nqueue * sizeof(ngx_oci_verify_buf_t));
    v->nwork = v->nqueue;

    if (ngx_oci_io_post(v->cache, &v->task) != NGX_OK) {
        v->nwork = 0;
        return NGX_ERROR;
    }

    v->nqueue = 0;
    v->next = v->end;
    v->running = 1;

    return NGX_OK;
}


/* in a thread; touches only v and the two descriptors */

static void
ngx_oci_verify_task(void *data, ngx_log_t *log)
{
    ngx_oci_verify_t *v = data;

    v->err = 0;
    v->rc = v->nwork ? ngx_oci_verify_work(v) : ngx_oci_verify_file(v);

    if (v->rc != NGX_OK) {
        return;
    }

    if (v->end == v->size) {
        ngx_oci_verify_final(v, log);
        return;
    }

    if (v->safe / NGX_OCI_VERIFY_CHECKPOINT
        != v->header.hashed / NGX_OCI_VERIFY_CHECKPOINT)
    {
        v->header.hash_len = ngx_oci_verify_state_len(v->digest->alg);
        v->header.hashed = v->safe;
        ngx_memcpy(v->header.hash_state, v->safe_state.bytes,
                   v->header.hash_len);

        /* a lost checkpoint costs time only */

        (void) ngx_oci_store_header(v->map, &v->header);
    }
}


static ngx_int_t
ngx_oci_verify_work(ngx_oci_verify_t *v)
{
    uint64_t    pos;
    ngx_uint_t  i;

    pos = v->pos;

    for (i = 0; i < v->nwork; i++) {
        ngx_oci_verify_update(v, pos, v->work[i].data, v->work[i].size);
        pos += v->work[i].size;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_verify_file(ngx_oci_verify_t *v)
{
    u_char    *buf;
    size_t     size;
    ssize_t    n;
    uint64_t   pos;

    buf = malloc(NGX_OCI_VERIFY_BUFFER);
    if (buf == NULL) {
        v->err = ENOMEM;
        return NGX_ERROR;
    }

    pos = v->pos;

    while (pos < v->end) {

        size = v->header.slice - pos % v->header.slice;
        size = ngx_min(size, v->end - pos);
        size = ngx_min(size, NGX_OCI_VERIFY_BUFFER);

        n = pread(v->fd, buf, size, pos);

        if (n <= 0) {
            if (n == -1 && ngx_errno == NGX_EINTR) {
                continue;
            }

            v->err = n ? ngx_errno : EIO;
            free(buf);
            return NGX_ERROR;
        }

        ngx_oci_verify_update(v, pos, buf, n);

        pos += n;
    }

    free(buf);

    return NGX_OK;
}


/* data does not cross the border of a slice */

static void
ngx_oci_verify_update(ngx_oci_verify_t *v, uint64_t pos, u_char *data,
    size_t size)
{
    if (v->digest->alg == NGX_OCI_SHA256) {
        (void) SHA256_Update((SHA256_CTX *) (void *) v->state.bytes, data,
                             size);
    } else {
        (void) SHA512_Update((SHA512_CTX *) (void *) v->state.bytes, data,
                             size);
    }

    if ((pos + size) % v->header.slice == 0) {
        v->safe = pos + size;
        v->safe_state = v->state;
    }
}


static void
ngx_oci_verify_final(ngx_oci_verify_t *v, ngx_log_t *log)
{
    u_char  md[NGX_OCI_DIGEST_BYTES];

    if (v->digest->alg == NGX_OCI_SHA256) {
        (void) SHA256_Final(md, (SHA256_CTX *) (void *) v->state.bytes);

    } else {
        (void) SHA512_Final(md, (SHA512_CTX *) (void *) v->state.bytes);
    }

    if (ngx_memcmp(md, v->digest->bytes, v->digest->size) != 0) {
        v->rc = NGX_DONE;

        /* the lock is held: nobody else writes or opens them to write, if
           the name still leads to them */

        if (ngx_oci_store_lock(v->cache, v->digest, v->map) == NGX_OK) {
            ngx_oci_store_unlink(v->cache, v->digest, log);
        }

        return;
    }

    v->header.flags |= NGX_OCI_STORE_VERIFIED;
    v->header.hashed = 0;
    v->header.hash_len = 0;

    if (ngx_oci_store_header(v->map, &v->header) != NGX_OK) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "pwrite() of a blob's sidecar failed");
    }
}


static void
ngx_oci_verify_task_done(void *data)
{
    ngx_oci_verify_t *v = data;

    v->running = 0;

    ngx_oci_verify_release(v, v->work, &v->nwork);

    if (v->rc == NGX_OK) {
        v->pos = v->end;

        if (v->discard) {
            ngx_oci_verify_back(v);
        }

    } else if (v->rc == NGX_ERROR) {

        /* some bytes are in the state: a run that goes on may lead to the next
           task before the fill ends */

        ngx_oci_verify_release(v, v->queue, &v->nqueue);
        ngx_oci_verify_back(v);
    }

    v->discard = 0;

    ngx_oci_fill_verified(v->fill, v->rc);
}
