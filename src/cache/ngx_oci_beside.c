
/*
 * Copyright (C) The nginx-oci authors
 *
 * A text of another module's beside a manifest: manifests/ab/<hex>.kept.  It
 * goes when nobody used it for long, or when room is needed, as a manifest
 * does; what it says is for that module to check.
 */


#include "ngx_oci_cache.h"
#include "ngx_oci_index.h"
#include "ngx_oci_open.h"
#include "ngx_oci_store.h"


#define NGX_OCI_BESIDE_FRESH  86400     /* s, then mtime is renewed */
#define NGX_OCI_BESIDE_NAME   (NGX_OCI_STORE_NAME + sizeof(".kept") - 1)


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t    *cache;
    ngx_oci_beside_t    beside;
    ngx_uint_t          number;         /* of the temporary file */
    ngx_int_t           rc;
} ngx_oci_beside_op_t;


static void ngx_oci_beside_names(ngx_oci_digest_t *digest, char sub[3],
    char *name);
static void ngx_oci_beside_read_task(void *data, ngx_log_t *log);
static void ngx_oci_beside_write_task(void *data, ngx_log_t *log);
static void ngx_oci_beside_done(void *data);


void *
ngx_oci_beside_place(ngx_http_request_t *r)
{
    ngx_oci_cache_loc_conf_t  *ocf;

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    return (ocf->cache && !ngx_oci_index_broken(ocf->cache)) ? ocf->cache
                                                             : NULL;
}


ngx_int_t
ngx_oci_beside(void *place, ngx_oci_beside_t *beside)
{
    ngx_oci_task_t        task;
    ngx_oci_beside_op_t  *op;

    static ngx_uint_t     number;

    op = ngx_calloc(sizeof(ngx_oci_beside_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NGX_ERROR;
    }

    if (number == 0) {

        /* a process of this id may have left a file */

        number = (ngx_uint_t) ngx_random();
    }

    op->cache = place;
    op->beside = *beside;
    op->number = ++number;

    ngx_memzero(&task, sizeof(ngx_oci_task_t));

    task.run = beside->write ? ngx_oci_beside_write_task
                             : ngx_oci_beside_read_task;
    task.done = ngx_oci_beside_done;
    task.data = op;

    if (ngx_oci_io_post(op->cache, &task) != NGX_OK) {
        ngx_free(op);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_oci_beside_names(ngx_oci_digest_t *digest, char sub[3], char *name)
{
    size_t  len;

    ngx_oci_store_names(digest, sub, name);

    len = ngx_strlen(name);
    ngx_memcpy(name + len, ".kept", sizeof(".kept"));
}


static void
ngx_oci_beside_read_task(void *data, ngx_log_t *log)
{
    ngx_oci_beside_op_t *op = data;

    int                fd;
    char               sub[3], name[NGX_OCI_BESIDE_NAME];
    struct stat        sb;
    ngx_oci_beside_t  *b;

    b = &op->beside;
    b->text = NULL;
    b->len = 0;

    op->rc = NGX_DECLINED;

    ngx_oci_beside_names(&b->digest, sub, name);

    fd = ngx_oci_open(op->cache, op->cache->manifests, sub, name, O_RDONLY,
                      log);
    if (fd == -1) {
        return;
    }

    if (fstat(fd, &sb) == 0 && sb.st_size > 0
        && sb.st_size <= NGX_OCI_BESIDE_MAX)
    {
        b->text = malloc(sb.st_size);

        if (b->text
            && pread(fd, b->text, sb.st_size, 0) == (ssize_t) sb.st_size)
        {
            b->len = sb.st_size;
            op->rc = NGX_OK;

            /* the manager removes what is not used */

            if (ngx_time() - sb.st_mtime > NGX_OCI_BESIDE_FRESH) {
                (void) futimens(fd, NULL);
            }

        } else {
            free(b->text);
            b->text = NULL;
        }
    }

    close(fd);
}


static void
ngx_oci_beside_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_beside_op_t *op = data;

    int                fd, dir;
    char               sub[3], name[NGX_OCI_BESIDE_NAME];
    char               tmp[NGX_OCI_BESIDE_NAME + 2 * NGX_INT64_LEN + 8];
    ngx_err_t          err;
    ngx_oci_beside_t  *b;

    b = &op->beside;
    dir = op->cache->manifests;
    op->rc = NGX_ERROR;

    ngx_oci_beside_names(&b->digest, sub, name);
    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%ui.tmp%Z", name, ngx_pid,
                       op->number);

    (void) ngx_oci_refs_replace(op->cache, dir, sub, name, log);

    if (ngx_oci_refs_room(op->cache, b->len, log) != NGX_OK) {
        op->rc = NGX_DECLINED;
        return;
    }

    fd = ngx_oci_open(op->cache, dir, sub, tmp, O_WRONLY|O_CREAT|O_EXCL,
                      log);

    if (fd == -1) {
        err = ngx_errno;
        ngx_oci_refs_unroom(op->cache, b->len);

        if (err == NGX_OCI_SAID) {
            op->rc = NGX_DECLINED;
            return;
        }

        ngx_log_error(ngx_oci_refs_level(err), log, err,
                      "open() \"%s/%s\" beside a manifest failed", sub, tmp);
        return;
    }

    if (ngx_oci_store_write(fd, b->text, b->len, 0) != NGX_OK
        || ngx_oci_rename(op->cache, dir, sub, tmp, name, log) == -1)
    {
        err = ngx_errno;
        ngx_log_error(ngx_oci_refs_level(err), log, err,
                      "writing \"%s/%s\" beside a manifest failed", sub,
                      name);
        (void) ngx_oci_unlink(op->cache, dir, sub, tmp, log);
        ngx_oci_refs_unroom(op->cache, b->len);

    } else {
        op->rc = NGX_OK;
    }

    close(fd);
}


void
ngx_oci_beside_forget(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_log_t *log)
{
    char  sub[3], name[NGX_OCI_BESIDE_NAME];

    ngx_oci_beside_names(digest, sub, name);
    (void) ngx_oci_refs_replace(cache, cache->manifests, sub, name, log);
}


static void
ngx_oci_beside_done(void *data)
{
    ngx_oci_beside_op_t *op = data;

    ngx_oci_beside_t  b;

    b = op->beside;

    if (op->rc == NGX_ERROR) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    b.rc = op->rc;
    ngx_free(op);

    b.handler(&b);
}
