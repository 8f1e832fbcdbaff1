
/*
 * Copyright (C) The nginx-oci authors
 *
 * One object of a registry's, into memory.
 */


#include "ngx_oci_signed.h"


#define NGX_OCI_SIGNED_ROOM  4096       /* bytes; most are smaller */


static ngx_int_t ngx_oci_signed_copy(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_signed_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_signed_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_signed_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_signed_done(ngx_oci_exchange_t *ex, ngx_int_t rc);


ngx_int_t
ngx_oci_signed_fetch(ngx_oci_signed_t *s, const char *what, ngx_str_t *name,
    const char *accept, size_t max)
{
    ngx_str_t            text;
    ngx_oci_exchange_t  *ex;

    s->size = 0;
    s->max = max;
    s->large = 0;

    ex = ngx_oci_core.exchange_create(s->registry, ngx_cycle->log);
    if (ex == NULL) {
        return NGX_ERROR;
    }

    text.data = (u_char *) accept;
    text.len = ngx_strlen(accept);

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2///") - 1
                                         + s->repository.len
                                         + ngx_strlen(what) + name->len);

    if (ex->uri.data == NULL
        || ngx_oci_signed_copy(ex->pool, &ex->repository, &s->repository)
           != NGX_OK
        || ngx_oci_signed_copy(ex->pool, &ex->authorization,
                               &s->authorization)
           != NGX_OK
        || ngx_oci_signed_copy(ex->pool, &ex->accept, &text) != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NGX_ERROR;
    }

    ex->uri.len = ngx_sprintf(ex->uri.data, "/v2/%V/%s/%V", &s->repository,
                              what, name)
                  - ex->uri.data;

    ex->credentials = s->registry->credentials;
    ex->stored = s->registry->stored;
    ex->data = s;
    ex->header = ngx_oci_signed_header;
    ex->buffer = ngx_oci_signed_buffer;
    ex->received = ngx_oci_signed_received;
    ex->done = ngx_oci_signed_done;

    return ngx_oci_core.exchange_start(ex);
}


static ngx_int_t
ngx_oci_signed_copy(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    dst->len = src->len;

    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pool, src);

    return dst->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_signed_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_signed_t *s = ex->data;

    if (ex->in.status != NGX_HTTP_OK) {
        return NGX_ERROR;
    }

    if (ex->in.content_length > (off_t) s->max) {
        s->large = 1;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* what is announced need not come: room is made for what does */

static ngx_int_t
ngx_oci_signed_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_signed_t *s = ex->data;

    u_char  *body;
    size_t   room;

    if (s->size == s->room) {

        room = s->room ? 2 * s->room : NGX_OCI_SIGNED_ROOM;

        body = realloc(s->body, room);
        if (body == NULL) {
            return NGX_ERROR;
        }

        s->body = body;
        s->room = room;
    }

    *p = s->body + s->size;
    *size = s->room - s->size;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_signed_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_signed_t *s = ex->data;

    s->size += n;

    if (s->size > s->max) {
        s->large = 1;
        return NGX_ERROR;
    }

    return (ngx_time() - s->started > NGX_OCI_SIGNED_TIME) ? NGX_ERROR
                                                           : NGX_OK;
}


static void
ngx_oci_signed_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_signed_t *s = ex->data;

    ngx_uint_t  status;

    /* what is too large is none, which is no failure */

    status = (rc == NGX_OK || rc == NGX_ABORT) ? ex->in.status : 0;

    if (rc == NGX_ABORT && status == NGX_HTTP_OK) {
        status = s->large ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE : 0;
    }

    if (status == 0) {
        ngx_log_error(NGX_LOG_WARN, ex->log, 0,
                      "looking for signatures: \"%V\" of oci_registry "
                      "\"%V\" can't be had", &ex->uri, &s->registry->name);
    }

    ngx_oci_signed_fetched(s, status);
}
