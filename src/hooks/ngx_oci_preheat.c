
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_preheat: a location that is a P2P preheat provider for Harbor, which
 * speaks Dragonfly's open API, that of before, and Kraken's notifications.
 */


#include "ngx_oci_hooks.h"


static ngx_uint_t ngx_oci_preheat_host(ngx_oci_registry_t *registry,
    ngx_oci_url_t *url);


ngx_int_t
ngx_oci_preheat(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text)
{
    ngx_int_t  rc;
    ngx_str_t  path;

    /* "rewrite ... break" may have made it anything */

    if (r->uri.len < conf->name.len
        || ngx_memcmp(r->uri.data, conf->name.data, conf->name.len) != 0)
    {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND,
                                    "no such endpoint");
    }

    path.data = r->uri.data + conf->name.len;
    path.len = r->uri.len - conf->name.len;

    rc = ngx_oci_dragonfly(r, conf, &path, text);

    if (rc == NGX_DECLINED) {
        rc = ngx_oci_kraken(r, conf, &path, text);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_oci_job_api(r, conf, &path, text);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such endpoint");
    }

    return rc;
}


/*
 * A manifest's URL, by the registry's own names, as a repository of the edge
 * and a reference.  NGX_OK; NGX_DECLINED: it is nothing of that registry's;
 * NGX_ERROR: no memory.
 */

ngx_int_t
ngx_oci_preheat_find(ngx_oci_hook_conf_t *conf, ngx_str_t *url,
    ngx_pool_t *pool, ngx_str_t *repository, ngx_str_t *reference)
{
    u_char            buf[NGX_OCI_DIGEST_LEN], *p;
    ngx_uint_t        code;
    ngx_oci_url_t     parsed;
    ngx_oci_route_t   route;

    if (ngx_oci_url_parse(url, &parsed) != NGX_OK
        || !ngx_oci_preheat_host(conf->registry, &parsed)
        || ngx_oci_route_parse(&route, &parsed.uri, buf, &code) != NGX_OK
        || (route.route != NGX_OCI_ROUTE_TAG
            && route.route != NGX_OCI_ROUTE_MANIFEST)
        || route.args.len)
    {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(pool, route.repository.len + route.reference.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    repository->data = p;
    repository->len = route.repository.len;
    reference->data = ngx_cpymem(p, route.repository.data,
                                 route.repository.len);
    reference->len = route.reference.len;
    ngx_memcpy(reference->data, route.reference.data, route.reference.len);

    return ngx_oci_preheat_unmap(conf->registry, pool, repository);
}


static ngx_uint_t
ngx_oci_preheat_host(ngx_oci_registry_t *registry, ngx_oci_url_t *url)
{
    ngx_uint_t     i;
    ngx_str_t     *names[3];
    ngx_oci_url_t  own;

    /* a path alone is nobody else's */

    if (url->authority.len == 0) {
        return 1;
    }

    if (registry->public_url.len
        && ngx_oci_url_parse(&registry->public_url, &own) == NGX_OK)
    {
        names[0] = &own.authority;

    } else {
        names[0] = &registry->authority;
    }

    names[1] = &registry->authority;
    names[2] = &registry->host;

    for (i = 0; i < 3; i++) {
        if (names[i]->len == url->authority.len
            && ngx_strncasecmp(names[i]->data, url->authority.data,
                               url->authority.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_oci_preheat_unmap(ngx_oci_registry_t *registry, ngx_pool_t *pool,
    ngx_str_t *name)
{
    u_char              *p;
    ngx_str_t            mapped, edge;
    ngx_uint_t           i, n;
    ngx_oci_path_map_t  *map;

    map = registry->paths ? registry->paths->elts : NULL;
    n = registry->paths ? registry->paths->nelts : 0;

    /* of all names at the edge that may be meant, one that leads there */

    for (i = 0; i <= n; i++) {

        if (i == n) {
            edge = *name;

        } else {

            if (name->len < map[i].to.len
                || ngx_memcmp(name->data, map[i].to.data, map[i].to.len) != 0)
            {
                continue;
            }

            edge.len = name->len - map[i].to.len + map[i].from.len;
            p = ngx_pnalloc(pool, edge.len + 1);

            if (p == NULL) {
                return NGX_ERROR;
            }

            edge.data = p;
            p = ngx_cpymem(p, map[i].from.data, map[i].from.len);
            ngx_memcpy(p, name->data + map[i].to.len,
                       name->len - map[i].to.len);

            while (edge.len && edge.data[0] == '/') {
                edge.data++;
                edge.len--;
            }
        }

        if (ngx_oci_name_valid(edge.data, edge.len) != NGX_OK) {
            continue;
        }

        if (ngx_oci_core.map(registry, pool, &edge, &mapped) != NGX_OK) {
            return NGX_ERROR;
        }

        if (mapped.len == name->len
            && ngx_memcmp(mapped.data, name->data, name->len) == 0)
        {
            *name = edge;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}
