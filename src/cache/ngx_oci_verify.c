
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
#define NGX_OCI_VERIFY_BUFFER      (256 * 1024)
#define NGX_OCI_VERIFY_CHECKPOINT  (64 * 1024 * 1024)


static void ngx_oci_verify_task(void *data, ngx_log_t *log);
static void ngx_oci_verify_done(void *data);
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
    v->task.done = ngx_oci_verify_done;
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
        return;
    }

    v->pos = 0;

    if (v->digest->alg == NGX_OCI_SHA256) {
        (void) SHA256_Init((SHA256_CTX *) (void *) v->state.bytes);

    } else {
        (void) SHA512_Init((SHA512_CTX *) (void *) v->state.bytes);
    }
}


ngx_int_t
ngx_oci_verify_run(ngx_oci_verify_t *v, uint64_t end)
{
    if (v->running) {
        return NGX_OK;
    }

    v->end = ngx_min(end, v->pos + NGX_OCI_VERIFY_PIECE);

    if (ngx_oci_io_post(v->cache, &v->task) != NGX_OK) {
        return NGX_ERROR;
    }

    v->running = 1;

    return NGX_OK;
}


/* in a thread; touches only v and the two descriptors */

static void
ngx_oci_verify_task(void *data, ngx_log_t *log)
{
    ngx_oci_verify_t *v = data;

    u_char      *buf, md[NGX_OCI_DIGEST_BYTES];
    ssize_t      n;
    uint64_t     pos;

    v->rc = NGX_OK;
    v->err = 0;
    pos = v->pos;

    buf = malloc(NGX_OCI_VERIFY_BUFFER);
    if (buf == NULL) {
        v->rc = NGX_ERROR;
        v->err = ENOMEM;
        return;
    }

    while (pos < v->end) {

        n = pread(v->fd, buf, ngx_min(v->end - pos, NGX_OCI_VERIFY_BUFFER),
                  pos);

        if (n <= 0) {
            if (n == -1 && ngx_errno == NGX_EINTR) {
                continue;
            }

            v->rc = NGX_ERROR;
            v->err = n ? ngx_errno : EIO;
            free(buf);
            return;
        }

        if (v->digest->alg == NGX_OCI_SHA256) {
            (void) SHA256_Update((SHA256_CTX *) (void *) v->state.bytes, buf,
                                 n);
        } else {
            (void) SHA512_Update((SHA512_CTX *) (void *) v->state.bytes, buf,
                                 n);
        }

        pos += n;
    }

    free(buf);

    if (pos / NGX_OCI_VERIFY_CHECKPOINT
        != v->pos / NGX_OCI_VERIFY_CHECKPOINT && pos != v->size)
    {
        v->header.hash_len = ngx_oci_verify_state_len(v->digest->alg);
        v->header.hashed = pos;
        ngx_memcpy(v->header.hash_state, v->state.bytes, v->header.hash_len);

        /* a lost checkpoint costs time only */

        (void) ngx_oci_store_header(v->map, &v->header);
    }

    if (pos != v->size) {
        return;
    }

    if (v->digest->alg == NGX_OCI_SHA256) {
        (void) SHA256_Final(md, (SHA256_CTX *) (void *) v->state.bytes);

    } else {
        (void) SHA512_Final(md, (SHA512_CTX *) (void *) v->state.bytes);
    }

    if (ngx_memcmp(md, v->digest->bytes, v->digest->size) != 0) {
        v->rc = NGX_DONE;

        /* the lock is held: nobody else writes or opens them to write */

        ngx_oci_store_unlink(v->cache, v->digest, log);
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
ngx_oci_verify_done(void *data)
{
    ngx_oci_verify_t *v = data;

    v->running = 0;

    if (v->rc == NGX_OK) {
        v->pos = v->end;
    }

    ngx_oci_fill_verified(v->fill, v->rc);
}
