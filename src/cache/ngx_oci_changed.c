
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a push or a removal through oci_pass takes back.
 */


#include "ngx_oci_index.h"


#define NGX_OCI_CHANGED_TAGS  10    /* of one push; the specification has a
                                       registry take at least so many */


static void ngx_oci_changed_tags(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_log_t *log);
static void ngx_oci_changed_one(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_uint_t kind, ngx_str_t *reference, ngx_log_t *log);


/*
 * Whatever zone a location uses: another one may serve what this one pushes.
 * No reference is all of the repository.
 * A manifest that went takes along the tags that lead to it, as they are
 * served only while their digest is known.
 */

void
ngx_oci_changed(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_log_t                   *log;
    ngx_uint_t                   i, kind;
    ngx_oci_cache_t            **caches;
    ngx_oci_cache_main_conf_t   *ocmcf;

    kind = (ctx->route.route == NGX_OCI_ROUTE_BLOB) ? NGX_OCI_REFS_BLOB
                                                    : NGX_OCI_REFS_MANIFEST;
    log = r->connection->log;

    ocmcf = ngx_http_get_module_main_conf(r, ngx_http_oci_cache_module);
    caches = ocmcf->caches.elts;

    for (i = 0; i < ocmcf->caches.nelts; i++) {

        if (ngx_oci_index_broken(caches[i])) {
            continue;
        }

        ngx_oci_changed_one(caches[i], ctx, kind,
                            ctx->route.reference.len ? &ctx->route.reference
                                                     : NULL,
                            log);

        if (r->method == NGX_HTTP_PUT) {
            ngx_oci_changed_tags(caches[i], ctx, log);
        }
    }
}


/*
 * "?tag=..." beside a digest names tags that are to lead to it.  Of more than
 * some, all of the repository is taken back: that costs the same for any
 * number, while each reference costs a task for the disk.
 */

static void
ngx_oci_changed_tags(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_log_t *log)
{
    u_char      *p, *last, *end;
    ngx_str_t    tag;
    ngx_uint_t   n;

    n = 0;
    p = ctx->route.args.data;
    last = p + ctx->route.args.len;

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        if (end == NULL) {
            end = last;
        }

        if (end - p <= 4 || ngx_strncmp(p, "tag=", 4) != 0) {
            continue;
        }

        tag.data = p + 4;
        tag.len = end - tag.data;

        if (ngx_oci_tag_valid(tag.data, tag.len) != NGX_OK) {
            continue;
        }

        if (n++ == NGX_OCI_CHANGED_TAGS) {
            ngx_oci_changed_one(cache, ctx, NGX_OCI_REFS_MANIFEST, NULL, log);
            return;
        }

        ngx_oci_changed_one(cache, ctx, NGX_OCI_REFS_MANIFEST, &tag, log);
    }
}


static void
ngx_oci_changed_one(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_uint_t kind, ngx_str_t *reference, ngx_log_t *log)
{
    if (ngx_oci_refs_purge(cache, kind, ctx->registry, &ctx->repository,
                           reference, NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "the file of a reference in \"%V\" was not removed",
                      &cache->path->name);
    }
}
