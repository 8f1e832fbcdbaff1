
/*
 * Copyright (C) The nginx-oci authors
 *
 * Bodies of manifests: hashed in threads, kept on disk by digest as
 * manifests/ab/<hex>.  They are hashed again whenever they are read.
 */


#include "ngx_oci_manifest.h"
#include "ngx_oci_open.h"
#include "ngx_oci_sizes.h"
#include "ngx_oci_store.h"
#include <openssl/evp.h>


#define NGX_OCI_MANIFEST_FRESH  86400   /* s, then mtime is renewed */


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t        *cache;
    ngx_oci_digest_t        digest;
    ngx_oci_task_t          task;
    ngx_uint_t              number;     /* of the temporary file */
    u_char                 *body;       /* of a read: malloc()ed; else mf's */
    size_t                  size;
    ngx_oci_size_t         *sizes;      /* malloc()ed, of a verified body */
    ngx_uint_t              nsizes;
    ngx_int_t               rc;
    ngx_oci_manifest_t     *mf;         /* referenced */
    void                  (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc);
} ngx_oci_manifest_op_t;


static ngx_int_t ngx_oci_manifest_post(ngx_oci_manifest_t *mf,
    void (*run)(void *data, ngx_log_t *log), void (*done)(void *data),
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc));
static ngx_int_t ngx_oci_manifest_hash(ngx_uint_t alg, u_char *p, size_t len,
    ngx_oci_digest_t *digest);
static void ngx_oci_manifest_check_task(void *data, ngx_log_t *log);
static void ngx_oci_manifest_check_done(void *data);
static void ngx_oci_manifest_read_task(void *data, ngx_log_t *log);
static void ngx_oci_manifest_read_done(void *data);
static void ngx_oci_manifest_write_task(void *data, ngx_log_t *log);
static void ngx_oci_manifest_write_done(void *data);


static ngx_int_t
ngx_oci_manifest_hash(ngx_uint_t alg, u_char *p, size_t len,
    ngx_oci_digest_t *digest)
{
    unsigned int  n;

    ngx_memzero(digest, sizeof(ngx_oci_digest_t));

    if (EVP_Digest(p, len, digest->bytes, &n,
                   alg == NGX_OCI_SHA256 ? EVP_sha256() : EVP_sha512(), NULL)
        != 1)
    {
        return NGX_ERROR;
    }

    digest->alg = alg;
    digest->size = n;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_manifest_post(ngx_oci_manifest_t *mf,
    void (*run)(void *data, ngx_log_t *log), void (*done)(void *data),
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc))
{
    ngx_oci_manifest_op_t  *op;

    static ngx_uint_t       number;

    op = ngx_calloc(sizeof(ngx_oci_manifest_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NGX_ERROR;
    }

    if (number == 0) {

        /* a process of this id may have left a file */

        number = (ngx_uint_t) ngx_random();
    }

    op->cache = mf->cache;
    op->digest = mf->digest;
    op->number = ++number;
    op->body = mf->body;
    op->size = mf->size;
    op->mf = mf;
    op->handler = handler;
    op->task.run = run;
    op->task.done = done;
    op->task.data = op;

    if (ngx_oci_io_post(op->cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_ERROR;
    }

    mf->refs++;

    return NGX_OK;
}


ngx_int_t
ngx_oci_manifest_check(ngx_oci_manifest_t *mf,
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc))
{
    return ngx_oci_manifest_post(mf, ngx_oci_manifest_check_task,
                                 ngx_oci_manifest_check_done, handler);
}


static void
ngx_oci_manifest_check_task(void *data, ngx_log_t *log)
{
    ngx_oci_manifest_op_t *op = data;

    ngx_oci_digest_t  digest;

    if (ngx_oci_manifest_hash(op->digest.alg == NGX_OCI_DIGEST_NONE
                              ? NGX_OCI_SHA256 : op->digest.alg,
                              op->body, op->size, &digest)
        != NGX_OK)
    {
        op->rc = NGX_ERROR;
        return;
    }

    if (op->digest.alg == NGX_OCI_DIGEST_NONE) {
        op->digest = digest;
    }

    if (!ngx_oci_digest_equal(&digest, &op->digest)) {
        op->rc = NGX_DECLINED;
        return;
    }

    op->rc = NGX_OK;
    op->sizes = ngx_oci_sizes_list(op->body, op->size, &op->nsizes);
}


static void
ngx_oci_manifest_check_done(void *data)
{
    ngx_oci_manifest_op_t *op = data;

    free(op->mf->sizes);

    op->mf->sizes = op->sizes;
    op->mf->nsizes = op->nsizes;
    op->mf->digest = op->digest;
    op->handler(op->mf, op->rc);

    ngx_free(op);
}


ngx_int_t
ngx_oci_manifest_read(ngx_oci_manifest_t *mf,
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc))
{
    return ngx_oci_manifest_post(mf, ngx_oci_manifest_read_task,
                                 ngx_oci_manifest_read_done, handler);
}


static void
ngx_oci_manifest_read_task(void *data, ngx_log_t *log)
{
    ngx_oci_manifest_op_t *op = data;

    int               fd;
    char              sub[3], name[NGX_OCI_STORE_NAME];
    ssize_t           n;
    struct stat       sb;
    ngx_oci_digest_t  digest;

    op->rc = NGX_DECLINED;
    op->body = NULL;

    ngx_oci_store_names(&op->digest, sub, name);

    fd = ngx_oci_open(op->cache, op->cache->manifests, sub, name, O_RDONLY,
                      log);
    if (fd == -1) {
        return;
    }

    if (fstat(fd, &sb) == -1 || sb.st_size <= 0
        || sb.st_size > NGX_OCI_MANIFEST_MAX)
    {
        close(fd);
        return;
    }

    op->size = sb.st_size;
    op->body = malloc(op->size);

    n = op->body ? pread(fd, op->body, op->size, 0) : -1;

    if (n == (ssize_t) op->size
        && ngx_oci_manifest_hash(op->digest.alg, op->body, op->size, &digest)
           == NGX_OK
        && ngx_oci_digest_equal(&digest, &op->digest))
    {
        op->rc = NGX_OK;
        op->sizes = ngx_oci_sizes_list(op->body, op->size, &op->nsizes);

        /* the manager removes what is not used */

        if (ngx_time() - sb.st_mtime > NGX_OCI_MANIFEST_FRESH) {
            (void) futimens(fd, NULL);
        }

    } else if (op->body) {
        ngx_log_error(NGX_LOG_CRIT, log, 0,
                      "manifest file \"%s/%s\" was damaged and is removed",
                      sub, name);

        if (ngx_oci_unlink(op->cache, op->cache->manifests, sub, name, log)
            == 0)
        {
            ngx_oci_refs_unroom(op->cache, op->size);
        }
    }

    close(fd);
}


static void
ngx_oci_manifest_read_done(void *data)
{
    ngx_oci_manifest_op_t *op = data;

    ngx_int_t            rc;
    ngx_oci_manifest_t  *mf;

    mf = op->mf;
    rc = op->rc;

    if (rc == NGX_OK) {

        /* a part of one may be there that broke on its way */

        ngx_oci_manifest_free(mf);

        if (ngx_oci_manifest_reserve(mf, op->size) != NGX_OK) {
            rc = NGX_BUSY;
        }
    }

    if (rc == NGX_OK) {
        mf->body = op->body;
        mf->size = op->size;
        mf->sizes = op->sizes;
        mf->nsizes = op->nsizes;
        ngx_oci_manifest_share(mf);

    } else {
        free(op->body);
        free(op->sizes);
    }

    op->handler(mf, rc);

    ngx_free(op);
}


void
ngx_oci_manifest_write(ngx_oci_manifest_t *mf)
{
    if (ngx_oci_manifest_post(mf, ngx_oci_manifest_write_task,
                              ngx_oci_manifest_write_done, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "no memory to keep manifest \"%V\"",
                      &mf->digest_text);
    }
}


static void
ngx_oci_manifest_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_manifest_op_t *op = data;

    int        fd, dir;
    char       sub[3], name[NGX_OCI_STORE_NAME];
    char       tmp[NGX_OCI_STORE_NAME + 2 * NGX_INT64_LEN + 8];
    time_t     pinned;
    ngx_err_t  err;

    dir = op->cache->manifests;

    ngx_oci_store_names(&op->digest, sub, name);
    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%ui.tmp%Z", name, ngx_pid,
                       op->number);

    pinned = ngx_oci_refs_replace(op->cache, dir, sub, name, log);

    if (ngx_oci_refs_room(op->cache, op->size, log) != NGX_OK) {
        return;
    }

    fd = ngx_oci_open(op->cache, dir, sub, tmp, O_WRONLY|O_CREAT|O_EXCL,
                      log);

    if (fd == -1) {
        err = ngx_errno;
        ngx_oci_refs_unroom(op->cache, op->size);

        if (err != NGX_OCI_SAID) {
            ngx_log_error(ngx_oci_refs_level(err), log, err,
                          "open() \"%s/%s\" of a manifest failed", sub,
                          tmp);
            op->rc = NGX_ERROR;
        }

        return;
    }

    if (ngx_oci_store_write(fd, op->body, op->size, 0) != NGX_OK
        || ngx_oci_rename(op->cache, dir, sub, tmp, name, log) == -1)
    {
        err = ngx_errno;
        ngx_log_error(ngx_oci_refs_level(err), log, err,
                      "writing manifest \"%s/%s\" failed", sub, name);
        op->rc = NGX_ERROR;
        (void) ngx_oci_unlink(op->cache, dir, sub, tmp, log);
        ngx_oci_refs_unroom(op->cache, op->size);
    }

    ngx_oci_pin_fd(fd, pinned);

    close(fd);
}


static void
ngx_oci_manifest_write_done(void *data)
{
    ngx_oci_manifest_op_t *op = data;

    if (op->rc != NGX_OK) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_manifest_unref(op->mf);
    ngx_free(op);
}
