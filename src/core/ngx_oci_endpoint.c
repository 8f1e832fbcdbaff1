
/*
 * Copyright (C) The nginx-oci authors
 *
 * A URL that is no registry's, for exchanges with other servers: what the
 * configuration names, and nothing else.  Nobody's credentials but what the
 * exchange itself has, no redirects, no breaker, no statistics.
 */


#include "ngx_oci_core.h"


#define NGX_OCI_ENDPOINT_CONNECT  5000      /* ms */
#define NGX_OCI_ENDPOINT_STALL    30000


static ngx_oci_registry_t *ngx_oci_endpoint_create(ngx_conf_t *cf,
    ngx_str_t *name, ngx_oci_url_t *url, ngx_str_t *trusted);
static ngx_int_t ngx_oci_endpoint_init(ngx_conf_t *cf,
    ngx_oci_registry_t *endpoint, const char *what);
static ngx_http_upstream_srv_conf_t *ngx_oci_endpoint_upstream(
    ngx_conf_t *cf, ngx_oci_url_t *url);


ngx_oci_registry_t *
ngx_oci_endpoint(ngx_conf_t *cf, ngx_str_t *text, ngx_str_t *trusted,
    ngx_str_t *uri)
{
    ngx_oci_url_t         url;
    ngx_oci_registry_t   *endpoint, **p;
    ngx_oci_main_conf_t  *omcf;

    if (ngx_oci_url_parse(text, &url) != NGX_OK || !url.absolute) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid URL \"%V\"", text);
        return NULL;
    }

    endpoint = ngx_oci_endpoint_create(cf, &url.authority, &url, trusted);
    if (endpoint == NULL) {
        return NULL;
    }

    endpoint->connect_timeout = NGX_OCI_ENDPOINT_CONNECT;
    endpoint->stall_timeout = NGX_OCI_ENDPOINT_STALL;

    endpoint->ctx = ngx_pcalloc(cf->pool, sizeof(ngx_http_conf_ctx_t));
    endpoint->upstream = ngx_oci_endpoint_upstream(cf, &url);

    if (endpoint->ctx == NULL || endpoint->upstream == NULL) {
        return NULL;
    }

    *endpoint->ctx = *(ngx_http_conf_ctx_t *) cf->ctx;

    if (ngx_oci_endpoint_init(cf, endpoint, "the location for") != NGX_OK) {
        return NULL;
    }

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);

    p = ngx_array_push(&omcf->endpoints);
    if (p == NULL) {
        return NULL;
    }

    *p = endpoint;
    *uri = url.uri;

    return endpoint;
}


/* it is asked as the host of a redirect is */

ngx_oci_registry_t *
ngx_oci_receiver(ngx_conf_t *cf, ngx_str_t *name, ngx_oci_url_t *url,
    ngx_str_t *trusted, ngx_msec_t timeout)
{
    ngx_oci_registry_t  *receiver;

    receiver = ngx_oci_endpoint_create(cf, name, url, trusted);
    if (receiver == NULL) {
        return NULL;
    }

    receiver->receiver = url;
    receiver->connect_timeout = timeout;
    receiver->stall_timeout = timeout;

    if (ngx_oci_endpoint_init(cf, receiver, "\"oci_notify\" with queue")
        != NGX_OK)
    {
        return NULL;
    }

    return receiver;
}


ngx_int_t
ngx_oci_receiver_server(ngx_oci_registry_t *receiver,
    ngx_http_conf_ctx_t *server)
{
    ngx_str_t                 *host;
    ngx_http_core_loc_conf_t  *clcf;

    receiver->ctx = server;

    host = &receiver->receiver->host;

    if (host->data[0] == '['
        || ngx_inet_addr(host->data, host->len) != INADDR_NONE)
    {
        return NGX_OK;
    }

    clcf = server->loc_conf[ngx_http_core_module.ctx_index];

    /* without one the core has made one without servers */

    if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* as far as exchanges look at it, it is a registry */

static ngx_oci_registry_t *
ngx_oci_endpoint_create(ngx_conf_t *cf, ngx_str_t *name, ngx_oci_url_t *url,
    ngx_str_t *trusted)
{
    ngx_oci_registry_t  *endpoint;

    endpoint = ngx_pcalloc(cf->pool, sizeof(ngx_oci_registry_t));
    if (endpoint == NULL) {
        return NULL;
    }

    endpoint->name = *name;
    endpoint->index = NGX_OCI_STAT_REGISTRIES;
    endpoint->scheme = url->scheme;
    endpoint->host = url->authority;
    endpoint->authority = url->authority;
    endpoint->group = url->authority;
    endpoint->ssl = (url->scheme.len == 5);
    endpoint->ssl_verify = endpoint->ssl;
    endpoint->endpoint = 1;
    endpoint->trusted_certificate = *trusted;

    return endpoint;
}


static ngx_int_t
ngx_oci_endpoint_init(ngx_conf_t *cf, ngx_oci_registry_t *endpoint,
    const char *what)
{
    if (ngx_oci_exchange_trusted(cf, endpoint, what) != NGX_OK) {
        return NGX_ERROR;
    }

    /* what the core says of it has no place in the file */

    if (ngx_oci_exchange_init_registry(cf, endpoint) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "trusted_certificate \"%V\" for \"%V\" can't be "
                           "used", &endpoint->trusted_certificate,
                           &endpoint->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* as proxy_pass: an upstream{} of that name, or what the name is at start */

static ngx_http_upstream_srv_conf_t *
ngx_oci_endpoint_upstream(ngx_conf_t *cf, ngx_oci_url_t *url)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = url->authority;
    u.default_port = url->port;
    u.no_resolve = 1;

    return ngx_http_upstream_add(cf, &u, 0);
}
