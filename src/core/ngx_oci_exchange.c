
/*
 * Copyright (C) The nginx-oci authors
 *
 * A logical exchange: hops, one after the other, until an answer is neither
 * a challenge that can be met nor a redirect that may be followed.
 */


#include "ngx_oci_hop.h"
#include "ngx_oci_health.h"


#define NGX_OCI_EXCHANGE_POOL       2048
#define NGX_OCI_EXCHANGE_REDIRECTS  5


/* what follows the hop that ends */

typedef enum {
    NGX_OCI_EXCHANGE_DONE = 0,
    NGX_OCI_EXCHANGE_DANCE,
    NGX_OCI_EXCHANGE_REDIRECT,
    NGX_OCI_EXCHANGE_AGAIN          /* the registry instead of ex->target */
} ngx_oci_exchange_next_e;


/* Owner: the exchange, in whose pool it is */

typedef struct {
    ngx_oci_hop_t              *hop;        /* NULL: none is running */
    ngx_oci_auth_waiter_t       waiter;
    ngx_event_t                 event;      /* the end, where no hop is */
    ngx_event_t                 timer;      /* reads on: the registry's rate */
    ngx_event_t                 late;       /* ex->timeout is over */
    ngx_connection_t            dummy;      /* for their debug lines */
    ngx_oci_url_t              *url;        /* of the redirect */
    ngx_str_t                   challenge;
    ngx_str_t                   value;      /* of stored credentials */
    ngx_uint_t                  next;       /* ..._next_e */
    ngx_uint_t                  redirects;
    ngx_int_t                   rc;

    unsigned                    remembered:1;   /* ex->target is asked */
    unsigned                    danced:1;
    unsigned                    redirected:1;
    unsigned                    refused:1;      /* a redirect's address: it
                                               is left to the client */
    unsigned                    aborted:1;
    unsigned                    expired:1;  /* by late */
    unsigned                    limited:1;  /* in is of an answer to another
                                               exchange */
} ngx_oci_exchange_priv_t;


static ngx_int_t ngx_oci_exchange_begin(ngx_oci_exchange_t *ex);
static void ngx_oci_exchange_wipe(void *data);
static void ngx_oci_exchange_forget(ngx_str_t *value);
static ngx_uint_t ngx_oci_exchange_limited(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_exchange_remembered(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_exchange_again(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_exchange_hop(ngx_oci_exchange_t *ex,
    ngx_oci_url_t *url, ngx_str_t *uri);
static ngx_int_t ngx_oci_exchange_authorization(ngx_oci_exchange_t *ex,
    ngx_str_t *value);
static ngx_int_t ngx_oci_exchange_header(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_exchange_redirect(ngx_oci_exchange_t *ex,
    ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_exchange_follow(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_exchange_dup(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_exchange_buffer(ngx_oci_hop_t *hop, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_exchange_received(ngx_oci_hop_t *hop, size_t n,
    ngx_uint_t idle);
static void ngx_oci_exchange_timer(ngx_event_t *ev);
static void ngx_oci_exchange_late(ngx_event_t *ev);
static void ngx_oci_exchange_hop_done(ngx_oci_hop_t *hop, ngx_int_t rc);
static void ngx_oci_exchange_danced(void *data, ngx_int_t rc);
static void ngx_oci_exchange_end(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_exchange_event(ngx_event_t *ev);
static void ngx_oci_exchange_finish(ngx_oci_exchange_t *ex, ngx_int_t rc);


ngx_int_t
ngx_oci_exchange_init_registry(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    return ngx_oci_hop_init_registry(cf, registry);
}


ngx_oci_exchange_t *
ngx_oci_exchange_create(ngx_oci_registry_t *registry, ngx_log_t *log)
{
    ngx_pool_t               *pool;
    ngx_pool_cleanup_t       *cln;
    ngx_oci_exchange_t       *ex;
    ngx_oci_exchange_priv_t  *priv;

    pool = ngx_create_pool(NGX_OCI_EXCHANGE_POOL, log);
    if (pool == NULL) {
        return NULL;
    }

    ex = ngx_pcalloc(pool, sizeof(ngx_oci_exchange_t));
    priv = ngx_pcalloc(pool, sizeof(ngx_oci_exchange_priv_t));

    cln = ngx_pool_cleanup_add(pool, 0);

    if (ex == NULL || priv == NULL || cln == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    cln->handler = ngx_oci_exchange_wipe;
    cln->data = ex;

    ex->pool = pool;
    ex->registry = registry;
    ex->log = log;
    ex->method = NGX_HTTP_GET;
    ex->range_start = -1;
    ex->range_end = -1;
    ex->priv = priv;

    priv->waiter.handler = ngx_oci_exchange_danced;
    priv->waiter.data = ex;

    priv->event.handler = ngx_oci_exchange_event;
    priv->event.data = ex;
    priv->event.log = log;

    priv->dummy.fd = (ngx_socket_t) -1;
    priv->dummy.data = ex;
    priv->timer.handler = ngx_oci_exchange_timer;
    priv->timer.data = &priv->dummy;
    priv->timer.log = log;

    priv->late.handler = ngx_oci_exchange_late;
    priv->late.data = &priv->dummy;
    priv->late.log = log;

    return ex;
}


/* credentials do not stay in memory that is freed */

static void
ngx_oci_exchange_wipe(void *data)
{
    ngx_oci_exchange_t *ex = data;

    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    ngx_oci_exchange_forget(&ex->authorization);
    ngx_oci_exchange_forget(&ex->headers);
    ngx_oci_exchange_forget(&ex->body);
    ngx_oci_exchange_forget(&ex->target);
    ngx_oci_exchange_forget(&priv->value);
}


static void
ngx_oci_exchange_forget(ngx_str_t *value)
{
    if (value->len) {
        ngx_explicit_memzero(value->data, value->len);
    }

    ngx_str_null(value);
}


ngx_int_t
ngx_oci_exchange_start(ngx_oci_exchange_t *ex)
{
    ngx_oci_exchange_priv_t  *priv;

    if (ngx_oci_exchange_begin(ex) != NGX_OK) {
        ngx_destroy_pool(ex->pool);
        return NGX_ERROR;
    }

    /* nothing of it ends before the event loop goes on */

    if (ex->timeout) {
        priv = ex->priv;
        ngx_add_timer(&priv->late, ex->timeout);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_exchange_begin(ngx_oci_exchange_t *ex)
{
    if (ex->target.len && ngx_oci_exchange_remembered(ex) == NGX_OK) {
        return NGX_OK;
    }

    if (ngx_oci_exchange_limited(ex)) {
        return NGX_OK;
    }

    return ngx_oci_exchange_again(ex);
}


/*
 * The registry has told this account to wait: 1, and the owner is told what
 * the registry would tell him again.
 */

static ngx_uint_t
ngx_oci_exchange_limited(ngx_oci_exchange_t *ex)
{
    ngx_msec_t                ms;
    ngx_uint_t                status;
    ngx_oci_exchange_priv_t  *priv;

    ms = ngx_oci_health_limited(ex->registry,
                    ngx_oci_health_account(ex->registry, ex->credentials,
                                           ex->stored, &ex->authorization),
                    &ex->repository, &status);

    if (ms == 0) {
        return 0;
    }

    priv = ex->priv;
    priv->limited = 1;

    ex->in.status = status;
    ex->in.content_length = 0;
    ex->in.range_start = -1;
    ex->in.range_end = -1;
    ex->in.range_total = -1;

    ngx_oci_exchange_end(ex, NGX_OK);

    return 1;
}


static ngx_int_t
ngx_oci_exchange_remembered(ngx_oci_exchange_t *ex)
{
    ngx_oci_url_t            *url;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    url = ngx_palloc(ex->pool, sizeof(ngx_oci_url_t));

    if (url == NULL
        || ngx_oci_url_parse(&ex->target, url) != NGX_OK || !url->absolute
        || !ngx_oci_auth_host_allowed(ex->registry->redirect_allow, url))
    {
        return NGX_ERROR;
    }

    priv->remembered = 1;
    priv->redirected = 1;

    return ngx_oci_exchange_hop(ex, url, &url->uri);
}


/* asks the registry itself, as if nothing had been asked before */

static ngx_int_t
ngx_oci_exchange_again(ngx_oci_exchange_t *ex)
{
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    priv->remembered = 0;
    priv->redirected = 0;
    priv->redirects = 0;

    /* the hop that ends may point there */

    ngx_str_null(&ex->target);

    return ngx_oci_exchange_hop(ex, ex->registry->receiver, &ex->uri);
}


void
ngx_oci_exchange_resume(ngx_oci_exchange_t *ex)
{
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->hop) {
        ngx_oci_hop_resume(priv->hop);
    }
}


void
ngx_oci_exchange_abort(ngx_oci_exchange_t *ex)
{
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->aborted) {
        return;
    }

    priv->aborted = 1;

    if (priv->hop) {
        ngx_oci_hop_abort(priv->hop);
        return;
    }

    if (priv->waiter.waiting) {
        ngx_oci_auth_leave(&priv->waiter);
        ngx_oci_exchange_end(ex, NGX_ABORT);
        return;
    }

    if (priv->event.posted) {
        return;
    }

    /* never started */

    ngx_destroy_pool(ex->pool);
}


static ngx_int_t
ngx_oci_exchange_hop(ngx_oci_exchange_t *ex, ngx_oci_url_t *url,
    ngx_str_t *uri)
{
    ngx_oci_hop_t            *hop;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    hop = ngx_oci_hop_create(ex->registry, ex->log);
    if (hop == NULL) {
        return NGX_ERROR;
    }

    if (ex->quiet) {
        hop->log->log_level = ngx_min(hop->log->log_level, NGX_LOG_ALERT);
    }

    hop->data = ex;
    hop->url = url;
    hop->uri = *uri;
    hop->method = ex->method;
    hop->accept = ex->accept;
    hop->headers = ex->headers;
    hop->body = ex->body;
    hop->range_start = ex->range_start;
    hop->range_end = ex->range_end;

    hop->header = ngx_oci_exchange_header;
    hop->buffer = ngx_oci_exchange_buffer;
    hop->received = ngx_oci_exchange_received;
    hop->done = ngx_oci_exchange_hop_done;

    /* another host gets no credentials */

    if (url == NULL
        && ngx_oci_exchange_authorization(ex, &hop->authorization) != NGX_OK)
    {
        ngx_destroy_pool(hop->pool);
        return NGX_ERROR;
    }

    priv->next = NGX_OCI_EXCHANGE_DONE;

    if (ngx_oci_hop_start(hop) != NGX_OK) {
        return NGX_ERROR;
    }

    priv->hop = hop;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_exchange_authorization(ngx_oci_exchange_t *ex, ngx_str_t *value)
{
    ngx_int_t                 rc;
    ngx_oci_exchange_priv_t  *priv;

    if (ex->credentials == NGX_OCI_CREDENTIALS_CLIENT) {
        *value = ex->authorization;
        return NGX_OK;
    }

    priv = ex->priv;

    ngx_oci_exchange_forget(&priv->value);

    rc = ngx_oci_auth_lookup(ex->registry, ex->stored, &ex->repository,
                             "pull", ex->pool, &priv->value);

    if (rc == NGX_OK) {
        *value = priv->value;
        return NGX_OK;
    }

    ngx_str_null(&priv->value);
    ngx_str_null(value);

    /* declined: the answer will be a challenge, or none is needed */

    return (rc == NGX_DECLINED) ? NGX_OK : rc;
}


static ngx_int_t
ngx_oci_exchange_header(ngx_oci_hop_t *hop)
{
    ngx_oci_exchange_t *ex = hop->data;

    ngx_int_t                 rc;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->aborted) {
        return NGX_ERROR;
    }

    if (hop->url == NULL) {
        ngx_oci_health_answer(ex->registry,
                    ngx_oci_health_account(ex->registry, ex->credentials,
                                           ex->stored, &ex->authorization),
                    &ex->repository, hop->in.status, &hop->in.retry_after);
    }

    if (priv->remembered) {
        priv->remembered = 0;

        /* a presigned URL expires, a store moves; later is not elsewhere */

        if (hop->in.status >= 400 && hop->in.status < 500
            && hop->in.status != NGX_HTTP_REQUEST_TIME_OUT
            && hop->in.status != NGX_HTTP_TOO_MANY_REQUESTS)
        {
            priv->next = NGX_OCI_EXCHANGE_AGAIN;
            return NGX_ABORT;
        }
    }

    if (hop->in.status == NGX_HTTP_UNAUTHORIZED
        && ex->credentials == NGX_OCI_CREDENTIALS_STORED
        && hop->url == NULL
        && !priv->danced
        && hop->in.www_authenticate.len)
    {
        if (ngx_oci_exchange_dup(ex->pool, &priv->challenge,
                                 &hop->in.www_authenticate)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        priv->danced = 1;
        priv->next = NGX_OCI_EXCHANGE_DANCE;

        return NGX_ABORT;
    }

    /* what is sent to an endpoint is for that one only */

    if (hop->in.location.len && !ex->registry->endpoint
        && (hop->in.status == NGX_HTTP_MOVED_PERMANENTLY
            || hop->in.status == NGX_HTTP_MOVED_TEMPORARILY
            || hop->in.status == NGX_HTTP_SEE_OTHER
            || hop->in.status == NGX_HTTP_TEMPORARY_REDIRECT
            || hop->in.status == NGX_HTTP_PERMANENT_REDIRECT))
    {
        rc = ngx_oci_exchange_redirect(ex, hop);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            priv->next = NGX_OCI_EXCHANGE_REDIRECT;
            return NGX_ABORT;
        }
    }

    ex->in = hop->in;
    ex->in.redirected = priv->redirected;

    return ex->header(ex);
}


/* NGX_OK: priv->url is where to go; NGX_DECLINED: it is not followed */

static ngx_int_t
ngx_oci_exchange_redirect(ngx_oci_exchange_t *ex, ngx_oci_hop_t *hop)
{
    ngx_str_t                 location;
    ngx_oci_url_t            *url;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->refused) {
        return NGX_DECLINED;
    }

    if (++priv->redirects > NGX_OCI_EXCHANGE_REDIRECTS) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream redirects more than %d times",
                      NGX_OCI_EXCHANGE_REDIRECTS);
        return NGX_DECLINED;
    }

    /* the one before is the running hop's own until that is freed */

    url = ngx_palloc(ex->pool, sizeof(ngx_oci_url_t));

    if (url == NULL
        || ngx_oci_exchange_dup(ex->pool, &location, &hop->in.location)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_oci_url_parse(&location, url) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent an invalid Location");
        return NGX_DECLINED;
    }

    if (!url->absolute) {

        /* another path of the same server */

        if (hop->url) {
            url->scheme = hop->url->scheme;
            url->host = hop->url->host;
            url->authority = hop->url->authority;
            url->port = hop->url->port;
            url->absolute = 1;
        }

        priv->url = url;
        return NGX_OK;
    }

    if (url->scheme.len == 4 && ex->registry->ssl) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "a redirect from https to http host \"%V\" is not "
                      "followed", &url->authority);
        return NGX_DECLINED;
    }

    if (!ngx_oci_auth_host_allowed(ex->registry->redirect_allow, url)) {
        ngx_log_error(NGX_LOG_WARN, hop->log, 0,
                      "a redirect to host \"%V\" is not in redirect_allow, "
                      "it is left to the client", &url->authority);
        return NGX_DECLINED;
    }

    priv->url = url;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_exchange_follow(ngx_oci_exchange_t *ex)
{
    ngx_oci_url_t            *url;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;
    url = priv->url;

    if (!url->absolute) {
        ngx_str_null(&ex->target);

        return ngx_oci_exchange_hop(ex, NULL, &url->uri);
    }

    ex->target.data = ngx_pnalloc(ex->pool, url->scheme.len + 3
                                            + url->authority.len
                                            + url->uri.len);
    if (ex->target.data == NULL) {
        ex->target.len = 0;
        return NGX_ERROR;
    }

    ex->target.len = ngx_sprintf(ex->target.data, "%V://%V%V", &url->scheme,
                                 &url->authority, &url->uri)
                     - ex->target.data;

    priv->redirected = 1;

    return ngx_oci_exchange_hop(ex, url, &url->uri);
}


static ngx_int_t
ngx_oci_exchange_dup(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    dst->len = src->len;
    dst->data = ngx_pstrdup(pool, src);

    return dst->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_exchange_buffer(ngx_oci_hop_t *hop, u_char **p, size_t *size)
{
    ngx_oci_exchange_t *ex = hop->data;

    size_t                    room;
    ngx_int_t                 rc;
    ngx_msec_t                delay;
    ngx_oci_exchange_priv_t  *priv;

    if (ex->registry->rate == 0) {
        return ex->buffer(ex, p, size);
    }

    room = ngx_oci_health_room(ex->registry, &delay);

    if (room == 0) {
        priv = ex->priv;

        /* what has gathered need not wait */

        if (ex->received(ex, 0, 1) != NGX_OK) {
            return NGX_ERROR;
        }

        if (!priv->timer.timer_set) {
            ngx_add_timer(&priv->timer, delay);
        }

        return NGX_AGAIN;
    }

    rc = ex->buffer(ex, p, size);

    if (rc == NGX_OK) {
        *size = ngx_min(*size, room);
    }

    return rc;
}


static void
ngx_oci_exchange_timer(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    ngx_oci_exchange_resume(c->data);
}


static void
ngx_oci_exchange_late(ngx_event_t *ev)
{
    ngx_connection_t         *c;
    ngx_oci_exchange_t       *ex;
    ngx_oci_exchange_priv_t  *priv;

    c = ev->data;
    ex = c->data;
    priv = ex->priv;

    priv->expired = !priv->aborted;

    ngx_oci_exchange_abort(ex);
}


static ngx_int_t
ngx_oci_exchange_received(ngx_oci_hop_t *hop, size_t n, ngx_uint_t idle)
{
    ngx_oci_exchange_t *ex = hop->data;

    ex->received_bytes += n;

    if (ex->registry->rate && n) {
        ngx_oci_health_spend(ex->registry, n);
    }

    return ex->received(ex, n, idle);
}


static void
ngx_oci_exchange_hop_done(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    ngx_oci_exchange_t *ex = hop->data;

    ngx_int_t                 ok;
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;
    priv->hop = NULL;

    if (priv->aborted) {
        ngx_oci_exchange_finish(ex, NGX_ABORT);
        return;
    }

    if (priv->remembered) {

        /* it did not answer */

        priv->next = NGX_OCI_EXCHANGE_AGAIN;
    }

    if (hop->refused && !ex->registry->endpoint) {

        /* the registry's answer is had once more, as it is */

        priv->refused = 1;
        priv->next = NGX_OCI_EXCHANGE_AGAIN;
    }

    switch (priv->next) {

    case NGX_OCI_EXCHANGE_DANCE:

        ok = ngx_oci_auth_challenge(ex->registry, ex->stored,
                                    &ex->repository, "pull",
                                    &priv->challenge, &priv->waiter);
        if (ok == NGX_AGAIN) {
            return;
        }

        rc = NGX_ERROR;
        break;

    case NGX_OCI_EXCHANGE_REDIRECT:

        if (ngx_oci_exchange_follow(ex) == NGX_OK) {
            return;
        }

        rc = NGX_ERROR;
        break;

    case NGX_OCI_EXCHANGE_AGAIN:

        if (ngx_oci_exchange_limited(ex)
            || ngx_oci_exchange_again(ex) == NGX_OK)
        {
            return;
        }

        rc = NGX_ERROR;
        break;
    }

    ngx_oci_exchange_finish(ex, rc);
}


static void
ngx_oci_exchange_danced(void *data, ngx_int_t rc)
{
    ngx_oci_exchange_t *ex = data;

    if (rc == NGX_OK) {

        if (ngx_oci_exchange_hop(ex, NULL, &ex->uri) == NGX_OK) {
            return;
        }

        rc = NGX_ERROR;
    }

    ngx_oci_exchange_end(ex, rc);
}


static void
ngx_oci_exchange_end(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;
    priv->rc = rc;

    ngx_post_event(&priv->event, &ngx_posted_events);
}


static void
ngx_oci_exchange_event(ngx_event_t *ev)
{
    ngx_oci_exchange_t *ex = ev->data;

    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->limited && !priv->aborted && ex->header(ex) != NGX_OK) {
        priv->rc = NGX_ABORT;
    }

    ngx_oci_exchange_finish(ex, priv->aborted ? NGX_ABORT : priv->rc);
}


/* the last hop's strings, which ex->in points at, live on until here */

static void
ngx_oci_exchange_finish(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_exchange_priv_t  *priv;

    priv = ex->priv;

    if (priv->timer.timer_set) {
        ngx_del_timer(&priv->timer);
    }

    if (priv->late.timer_set) {
        ngx_del_timer(&priv->late);
    }

    ex->done(ex, priv->expired ? NGX_BUSY : rc);

    ngx_destroy_pool(ex->pool);
}
