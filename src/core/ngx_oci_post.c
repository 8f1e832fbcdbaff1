
/*
 * Copyright (C) The nginx-oci authors
 *
 * Posts to a receiver that the configuration names.  It is asked as the host
 * of a redirect is, by a hop, and what it answers is its status only.
 */


#include "ngx_oci_hop.h"


#define NGX_OCI_POST_POOL    1024
#define NGX_OCI_POST_ANSWER  16384      /* bytes of a body that are taken, for
                                           the connection to stay */


/* Owner: the post, in whose pool it is */

typedef struct {
    ngx_oci_hop_t           *hop;       /* NULL: not started */
    ngx_event_t              timer;
    ngx_connection_t         dummy;     /* for its debug lines */
    size_t                   taken;
    u_char                   buf[512];  /* of a body that nobody wants */
    unsigned                 answered:1;
    unsigned                 late:1;
} ngx_oci_post_priv_t;


static ngx_int_t ngx_oci_post_header(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_post_buffer(ngx_oci_hop_t *hop, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_post_received(ngx_oci_hop_t *hop, size_t n,
    ngx_uint_t idle);
static void ngx_oci_post_late(ngx_event_t *ev);
static void ngx_oci_post_done(ngx_oci_hop_t *hop, ngx_int_t rc);


static char *ngx_oci_post_ca = "/etc/ssl/certs/ca-certificates.crt";


/* as far as a hop looks at it, it is a registry */

ngx_oci_registry_t *
ngx_oci_post_target(ngx_conf_t *cf, ngx_str_t *name, ngx_oci_url_t *url,
    ngx_str_t *certificate, ngx_msec_t timeout)
{
    ngx_oci_registry_t  *target;

    target = ngx_pcalloc(cf->pool, sizeof(ngx_oci_registry_t));
    if (target == NULL) {
        return NULL;
    }

    target->target = 1;
    target->name = *name;
    target->index = NGX_OCI_STAT_REGISTRIES;
    target->scheme = url->scheme;
    target->ssl = (url->scheme.len == 5);
    target->ssl_verify = target->ssl;
    target->host = url->authority;
    target->authority = url->authority;
    target->group = url->authority;
    target->connect_timeout = timeout;
    target->stall_timeout = timeout;
    target->trusted_certificate = *certificate;

    if (target->ssl && certificate->len == 0) {
        target->trusted_certificate.data = (u_char *) ngx_oci_post_ca;
        target->trusted_certificate.len = ngx_strlen(ngx_oci_post_ca);
    }

    if (target->trusted_certificate.len
        && ngx_conf_full_name(cf->cycle, &target->trusted_certificate, 1)
           != NGX_OK)
    {
        return NULL;
    }

    if (ngx_oci_hop_init_registry(cf, target) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"trusted_certificate\" \"%V\" can't be used",
                           &target->trusted_certificate);
        return NULL;
    }

    return target;
}


ngx_int_t
ngx_oci_post_server(ngx_oci_registry_t *target, ngx_oci_url_t *url,
    ngx_http_conf_ctx_t *server)
{
    u_char                    *p, *last;
    ngx_http_core_loc_conf_t  *clcf;

    target->ctx = server;

    p = url->host.data;
    last = p + url->host.len;

    if (*p == '[' || ngx_inet_addr(p, last - p) != INADDR_NONE) {
        return NGX_OK;
    }

    clcf = server->loc_conf[ngx_http_core_module.ctx_index];

    /* without one the core has made one without servers */

    if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_oci_post_t *
ngx_oci_post_create(ngx_oci_registry_t *target, ngx_log_t *log)
{
    ngx_pool_t           *pool;
    ngx_oci_post_t       *post;
    ngx_oci_post_priv_t  *priv;

    pool = ngx_create_pool(NGX_OCI_POST_POOL, log);
    if (pool == NULL) {
        return NULL;
    }

    post = ngx_pcalloc(pool, sizeof(ngx_oci_post_t));
    priv = ngx_pcalloc(pool, sizeof(ngx_oci_post_priv_t));

    if (post == NULL || priv == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    post->pool = pool;
    post->log = log;
    post->target = target;
    post->priv = priv;

    priv->dummy.fd = (ngx_socket_t) -1;
    priv->dummy.data = post;
    priv->timer.handler = ngx_oci_post_late;
    priv->timer.data = &priv->dummy;
    priv->timer.log = log;

    return post;
}


ngx_int_t
ngx_oci_post_start(ngx_oci_post_t *post)
{
    ngx_oci_hop_t        *hop;
    ngx_oci_post_priv_t  *priv;

    priv = post->priv;

    hop = ngx_oci_hop_create(post->target, post->log);

    if (hop == NULL) {
        ngx_destroy_pool(post->pool);
        return NGX_ERROR;
    }

    if (post->quiet) {
        hop->log->log_level = ngx_min(hop->log->log_level, NGX_LOG_ALERT);
    }

    hop->data = post;
    hop->url = post->url;
    hop->method = NGX_HTTP_POST;
    hop->uri = post->url->uri;
    hop->headers = post->headers;
    hop->body = post->body;

    hop->header = ngx_oci_post_header;
    hop->buffer = ngx_oci_post_buffer;
    hop->received = ngx_oci_post_received;
    hop->done = ngx_oci_post_done;

    if (ngx_oci_hop_start(hop) != NGX_OK) {
        ngx_destroy_pool(post->pool);
        return NGX_ERROR;
    }

    priv->hop = hop;

    ngx_add_timer(&priv->timer, post->timeout);

    return NGX_OK;
}


void
ngx_oci_post_abort(ngx_oci_post_t *post)
{
    ngx_oci_post_priv_t  *priv;

    priv = post->priv;

    if (priv->hop) {
        ngx_oci_hop_abort(priv->hop);
        return;
    }

    ngx_destroy_pool(post->pool);
}


static ngx_int_t
ngx_oci_post_header(ngx_oci_hop_t *hop)
{
    ngx_oci_post_t *post = hop->data;

    ngx_oci_post_priv_t  *priv;

    priv = post->priv;

    priv->answered = 1;
    post->status = hop->in.status;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_post_buffer(ngx_oci_hop_t *hop, u_char **p, size_t *size)
{
    ngx_oci_post_t *post = hop->data;

    ngx_oci_post_priv_t  *priv;

    priv = post->priv;

    *p = priv->buf;
    *size = sizeof(priv->buf);

    return (priv->taken > NGX_OCI_POST_ANSWER) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_oci_post_received(ngx_oci_hop_t *hop, size_t n, ngx_uint_t idle)
{
    ngx_oci_post_t *post = hop->data;

    ngx_oci_post_priv_t  *priv;

    priv = post->priv;
    priv->taken += n;

    return NGX_OK;
}


static void
ngx_oci_post_late(ngx_event_t *ev)
{
    ngx_oci_post_t       *post;
    ngx_connection_t     *c;
    ngx_oci_post_priv_t  *priv;

    c = ev->data;
    post = c->data;
    priv = post->priv;

    priv->late = 1;

    ngx_oci_hop_abort(priv->hop);
}


/* its status is all that counts, whatever becomes of the body */

static void
ngx_oci_post_done(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    ngx_oci_post_t *post = hop->data;

    ngx_oci_post_priv_t  *priv;

    priv = post->priv;

    if (priv->timer.timer_set) {
        ngx_del_timer(&priv->timer);
    }

    if (priv->answered) {
        rc = NGX_OK;

    } else if (priv->late) {
        rc = NGX_BUSY;
    }

    post->done(post, rc);

    ngx_destroy_pool(post->pool);
}
