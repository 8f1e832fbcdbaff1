
/*
 * Copyright (C) The nginx-oci authors
 *
 * How exchanges connect: the configuration of a registry's hops.
 */


#include "ngx_oci_hop.h"


#define NGX_OCI_HOP_HEADER_SIZE  (32 * 1024)    /* bytes of a header */


static ngx_int_t ngx_oci_hop_ssl(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);


static char *ngx_oci_hop_ca = "/etc/ssl/certs/ca-certificates.crt";


ngx_int_t
ngx_oci_hop_init_registry(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    ngx_http_upstream_conf_t      *conf;
    ngx_http_upstream_srv_conf_t  *uscf;

    conf = &registry->conf;

    conf->upstream = registry->upstream;
    conf->connect_timeout = registry->connect_timeout;
    conf->send_timeout = registry->stall_timeout;
    conf->read_timeout = registry->stall_timeout;
    conf->buffer_size = NGX_OCI_HOP_HEADER_SIZE;
    conf->ignore_client_abort = 1;
    conf->next_upstream = NGX_HTTP_UPSTREAM_FT_ERROR
                          |NGX_HTTP_UPSTREAM_FT_TIMEOUT
                          |NGX_HTTP_UPSTREAM_FT_INVALID_HEADER;
    conf->next_upstream_tries = NGX_OCI_HOP_TRIES;
    ngx_str_set(&conf->module, "oci");

    if (ngx_oci_hop_ssl(cf, registry) != NGX_OK) {
        return NGX_ERROR;
    }

    uscf = ngx_pcalloc(cf->pool, sizeof(ngx_http_upstream_srv_conf_t));
    if (uscf == NULL) {
        return NGX_ERROR;
    }

    uscf->peer.init = ngx_oci_peer_init;

    if (registry->names) {
        conf->upstream = uscf;
    }

    registry->redirect_conf = *conf;
    registry->redirect_conf.upstream = uscf;

#if (NGX_HTTP_SSL)
    registry->redirect_conf.ssl_name = NULL;
#endif

    return NGX_OK;
}


/* as ngx_http_proxy_set_ssl(); also with an http registry, for its realm */

static ngx_int_t
ngx_oci_hop_ssl(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
#if (NGX_HTTP_SSL)

    u_char                    *p, *last;
    ngx_str_t                  ciphers;
    ngx_pool_cleanup_t        *cln;
    ngx_http_upstream_conf_t  *conf;

    conf = &registry->conf;

    conf->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    conf->ssl_name = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));

    if (conf->ssl == NULL || conf->ssl_name == NULL) {
        return NGX_ERROR;
    }

    conf->ssl->log = cf->log;

    if (ngx_ssl_create(conf->ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(conf->ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = conf->ssl;

    ngx_str_set(&ciphers, "DEFAULT");

    if (ngx_ssl_ciphers(cf, conf->ssl, &ciphers, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    conf->ssl_server_name = 1;
    conf->ssl_session_reuse = 1;
    conf->ssl_verify = registry->ssl_verify;

    if (registry->ssl_verify && registry->trusted_certificate.len
        && ngx_ssl_trusted_certificate(cf, conf->ssl,
                                       &registry->trusted_certificate, 4)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_ssl_client_session_cache(cf, conf->ssl, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the name without a port */

    conf->ssl_name->value = registry->host;
    p = registry->host.data;
    last = p + registry->host.len;

    if (*p == '[') {
        p = ngx_strlchr(p, last, ']');
    }

    p = p ? ngx_strlchr(p, last, ':') : NULL;

    if (p) {
        conf->ssl_name->value.len = p - registry->host.data;
    }

#endif

    return NGX_OK;
}


ngx_int_t
ngx_oci_exchange_trusted(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    const char *what)
{
    ngx_str_t   *file;
    ngx_uint_t   there;

    file = &registry->trusted_certificate;

    if (registry->ssl_verify && file->len == 0) {

        there = (access(ngx_oci_hop_ca, R_OK) == 0);

        if (!there && registry->ssl) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "no trusted_certificate in %s \"%V\" and no "
                               "\"%s\"", what, &registry->name,
                               ngx_oci_hop_ca);
            return NGX_ERROR;
        }

        if (there) {
            file->data = (u_char *) ngx_oci_hop_ca;
            file->len = ngx_strlen(ngx_oci_hop_ca);
        }
    }

    return file->len ? ngx_conf_full_name(cf->cycle, file, 1) : NGX_OK;
}
