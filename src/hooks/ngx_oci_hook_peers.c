
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_preheat's "peers": other edges, each by the URL of a location of this
 * kind, and with what that location wants to see.
 */


#include "ngx_oci_hooks.h"


#define NGX_OCI_HOOK_PEERS  64


static char *ngx_oci_hook_peer(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_oci_hook_far_t *far, ngx_str_t *url);
static char *ngx_oci_hook_peer_secret(ngx_conf_t *cf,
    ngx_oci_hook_conf_t *conf, ngx_oci_job_peer_t *peer, ngx_str_t *secret);


char *
ngx_oci_hook_peers(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_oci_hook_far_t *far)
{
    char                *rv;
    u_char              *p, *end, *last;
    ngx_str_t            url, *secret;
    ngx_uint_t           i, n;
    ngx_oci_job_peer_t  *peer;

    if (far->urls.len == 0) {
        return (far->secrets || far->trusted.len)
               ? "has no \"peers=\" for its \"peer_secret=\" or "
                 "\"peer_trusted=\""
               : NGX_CONF_OK;
    }

    conf->peers = ngx_array_create(cf->pool, 4, sizeof(ngx_oci_job_peer_t));
    if (conf->peers == NULL) {
        return NGX_CONF_ERROR;
    }

    last = far->urls.data + far->urls.len;

    for (p = far->urls.data; p <= last; p = end + 1) {

        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        url.data = p;
        url.len = end - p;

        rv = ngx_oci_hook_peer(cf, conf, far, &url);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (far->secrets == NULL) {
        return NGX_CONF_OK;
    }

    /* one for all of them, or each has its own */

    n = far->secrets->nelts;
    secret = far->secrets->elts;
    peer = conf->peers->elts;

    if (n != 1 && n != conf->peers->nelts) {
        return "has to have one line in \"peer_secret=\", or as many as "
               "there are \"peers=\"";
    }

    for (i = 0; i < conf->peers->nelts; i++) {

        rv = ngx_oci_hook_peer_secret(cf, conf, &peer[i],
                                      &secret[n == 1 ? 0 : i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_hook_peer(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_oci_hook_far_t *far, ngx_str_t *url)
{
    ngx_oci_job_peer_t  *peer;

    if (conf->peers->nelts == NGX_OCI_HOOK_PEERS) {
        return "has too many \"peers=\"";
    }

    peer = ngx_array_push(conf->peers);
    if (peer == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(peer, sizeof(ngx_oci_job_peer_t));

    peer->url = *url;
    peer->endpoint = ngx_oci_core.endpoint(cf, url, &far->trusted,
                                           &peer->uri);

    if (peer->endpoint == NULL) {
        return NGX_CONF_ERROR;
    }

    if (peer->uri.data[peer->uri.len - 1] != '/'
        || ngx_strlchr(peer->uri.data, peer->uri.data + peer->uri.len, '?'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "peer \"%V\" is no location that ends in \"/\"",
                           url);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* a line of the request's header */

static char *
ngx_oci_hook_peer_secret(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_oci_job_peer_t *peer, ngx_str_t *secret)
{
    u_char  *p, *last;

    last = secret->data + secret->len;

    for (p = secret->data; p < last; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return "has a \"peer_secret=\" that no header can have";
        }
    }

    p = ngx_pnalloc(cf->pool, conf->header.len + secret->len
                              + sizeof(": " CRLF));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    peer->header.data = p;
    peer->header.len = ngx_sprintf(p, "%V: %V" CRLF, &conf->header, secret)
                       - p;

    return NGX_CONF_OK;
}
