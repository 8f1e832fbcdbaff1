
/*
 * Copyright (C) The nginx-oci authors
 *
 * "url ... resolve": a registry's host that is resolved at run time.  The
 * resolver keeps what it was answered for the answer's TTL; what is
 * remembered here is for the time when it gets no answer.
 */


#include "ngx_oci_hop.h"


#define NGX_OCI_NAMES_WAIT  5000    /* ms, for an answer when there are
                                       addresses to go on with */
#define NGX_OCI_NAMES_HOLD  5       /* s until it is asked again */


/*
 * The group becomes the name itself.  It ends in the dot of the root, with
 * which no upstream{} and no literal proxy_pass of another location, whose
 * addresses are those of the start, is found by it.
 */

char *
ngx_oci_names_init(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    ngx_int_t         rc;
    ngx_str_t         url, *host;
    ngx_addr_t        addr;
    ngx_oci_names_t  *names;

    names = ngx_pcalloc(cf->pool, sizeof(ngx_oci_names_t));

    url.data = ngx_pnalloc(cf->pool, registry->authority.len
                                     + sizeof("https://") - 1);

    registry->group.data = ngx_pnalloc(cf->pool, registry->authority.len
                                                 + sizeof(".:65535") - 1);

    if (names == NULL || url.data == NULL || registry->group.data == NULL) {
        return NGX_CONF_ERROR;
    }

    url.len = ngx_sprintf(url.data, "%V://%V", &registry->scheme,
                          &registry->authority)
              - url.data;

    if (ngx_oci_url_parse(&url, &names->target) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    host = &names->target.host;

    rc = (host->data[0] == '[') ? NGX_OK
                                : ngx_parse_addr(cf->pool, &addr, host->data,
                                                 host->len);

    if (rc == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (rc == NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"url\" of oci_registry \"%V\" is an address, it "
                           "has nothing to \"resolve\"", &registry->name);
        return NGX_CONF_ERROR;
    }

    registry->group.len = ngx_sprintf(registry->group.data, "%V%s:%ui", host,
                                      host->data[host->len - 1] == '.' ? ""
                                                                       : ".",
                                      (ngx_uint_t) names->target.port)
                          - registry->group.data;

    registry->names = names;

    return NGX_CONF_OK;
}


/* of a location, when all of the configuration has been read */

ngx_int_t
ngx_oci_names_check(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_loc_conf_t *olcf)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (registry->names == NULL) {
        return NGX_OK;
    }

    if (ngx_oci_registry_upstream(cf, &registry->authority)) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "upstream \"%V\" stands behind oci_registry \"%V\" that "
                      "names it, used in %s:%ui", &registry->authority,
                      &registry->name, olcf->file, olcf->line);
        return NGX_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* without one the core has made one without servers */

    if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the name of oci_registry \"%V\" is resolved at run "
                      "time: \"resolver\" is required with \"%s\" in %s:%ui",
                      &registry->name, olcf->token ? "oci_token" : "oci_pass",
                      olcf->file, olcf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_oci_names_held(ngx_oci_names_t *names)
{
    return names->naddrs && ngx_time() < names->hold;
}


void
ngx_oci_names_timeout(ngx_oci_names_t *names, ngx_resolver_ctx_t *ctx)
{
    if (names->naddrs && ctx->timeout > NGX_OCI_NAMES_WAIT) {
        ctx->timeout = NGX_OCI_NAMES_WAIT;
    }
}


void
ngx_oci_names_resolved(ngx_oci_registry_t *registry, ngx_resolver_ctx_t *ctx,
    ngx_log_t *log)
{
    ngx_uint_t            i;
    ngx_oci_names_t      *names;
    ngx_resolver_addr_t  *addr;

    names = registry->names;
    names->naddrs = ngx_min(ctx->naddrs, NGX_OCI_NAMES_ADDRS);
    names->hold = 0;

    for (i = 0; i < names->naddrs; i++) {
        addr = &ctx->addrs[i];

        ngx_memcpy(&names->sockaddrs[i], addr->sockaddr, addr->socklen);

        names->addrs[i].sockaddr = &names->sockaddrs[i].sockaddr;
        names->addrs[i].socklen = addr->socklen;
    }

    if (names->failing) {
        names->failing = 0;

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "the name of oci_registry \"%V\" is resolved again",
                      &registry->name);
    }
}


ngx_int_t
ngx_oci_names_failed(ngx_oci_registry_t *registry, ngx_resolver_ctx_t *ctx,
    ngx_log_t *log)
{
    ngx_oci_names_t  *names;

    names = registry->names;

    /* that there is no such name is an answer */

    if (ctx->state == NGX_RESOLVE_NXDOMAIN) {
        names->naddrs = 0;
    }

    if (names->naddrs == 0) {
        return NGX_DECLINED;
    }

    names->hold = ngx_time() + NGX_OCI_NAMES_HOLD;

    if (!names->failing) {
        names->failing = 1;

        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "\"%V\" could not be resolved (%i: %s), oci_registry "
                      "\"%V\" is used at its last addresses", &ctx->name,
                      ctx->state, ngx_resolver_strerror(ctx->state),
                      &registry->name);
    }

    return NGX_OK;
}
