
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_core.h"


static ngx_int_t ngx_oci_stats_init_zone(ngx_shm_zone_t *zone, void *data);


static ngx_uint_t  ngx_oci_stat_codes[NGX_OCI_STAT_CODES] = {
    200, 201, 202, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 405,
    412, 413, 416, 429, 499, 500, 502, 503, 504, 0
};

static ngx_str_t  ngx_oci_stat_code_names[NGX_OCI_STAT_CODES] = {
    ngx_string("200"), ngx_string("201"), ngx_string("202"),
    ngx_string("204"), ngx_string("206"), ngx_string("301"),
    ngx_string("302"), ngx_string("304"), ngx_string("307"),
    ngx_string("400"), ngx_string("401"), ngx_string("403"),
    ngx_string("404"), ngx_string("405"), ngx_string("412"),
    ngx_string("413"), ngx_string("416"), ngx_string("429"),
    ngx_string("499"), ngx_string("500"), ngx_string("502"),
    ngx_string("503"), ngx_string("504"), ngx_string("other")
};

static ngx_str_t  ngx_oci_route_names[NGX_OCI_ROUTE_N] = {
    ngx_string("other"), ngx_string("ping"), ngx_string("blob"),
    ngx_string("manifest"), ngx_string("tag"), ngx_string("referrers"),
    ngx_string("tags_list"), ngx_string("upload")
};

static ngx_str_t  ngx_oci_cache_names[NGX_OCI_CACHE_N] = {
    ngx_string(""), ngx_string("HIT"), ngx_string("MISS"),
    ngx_string("PARTIAL"), ngx_string("JOIN"), ngx_string("STALE"),
    ngx_string("REVALIDATED"), ngx_string("BYPASS")
};

static ngx_str_t  ngx_oci_verify_names[] = {
    ngx_string(""), ngx_string("off"), ngx_string("pending"),
    ngx_string("verified"), ngx_string("mismatch")
};


ngx_int_t
ngx_oci_stats_add_zone(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf)
{
    size_t     size;
    ngx_str_t  name;

    ngx_str_set(&name, "oci_stats");

    size = ngx_align(sizeof(ngx_oci_stats_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    omcf->stats_zone = ngx_shared_memory_add(cf, &name, size,
                                             &ngx_http_oci_module);
    if (omcf->stats_zone == NULL) {
        return NGX_ERROR;
    }

    omcf->stats_zone->init = ngx_oci_stats_init_zone;
    omcf->stats_zone->data = omcf;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_stats_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t  *shpool;
    ngx_oci_stats_t  *st;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (zone->shm.exists || data) {
        st = shpool->data;

        if (st && st->abi == NGX_OCI_ABI
            && st->size == sizeof(ngx_oci_stats_t))
        {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "zone \"oci_stats\" was made by another build of the "
                      "module, nginx has to be restarted");
        return NGX_ERROR;
    }

    st = ngx_slab_calloc(shpool, sizeof(ngx_oci_stats_t));
    if (st == NULL) {
        return NGX_ERROR;
    }

    st->abi = NGX_OCI_ABI;
    st->size = sizeof(ngx_oci_stats_t);
    shpool->data = st;

    return NGX_OK;
}


ngx_oci_stats_t *
ngx_oci_stats(void)
{
    ngx_slab_pool_t      *shpool;
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);

    if (omcf == NULL || omcf->stats_zone == NULL
        || omcf->stats_zone->shm.addr == NULL)
    {
        return NULL;
    }

    shpool = (ngx_slab_pool_t *) omcf->stats_zone->shm.addr;

    return shpool->data;
}


ngx_int_t
ngx_oci_stats_log(ngx_http_request_t *r)
{
    ngx_uint_t        i, status;
    ngx_oci_ctx_t    *ctx;
    ngx_oci_stats_t  *st;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);
    st = ngx_oci_stats();

    if (ctx == NULL || st == NULL || ctx->registry == NULL) {
        return NGX_OK;
    }

    status = r->err_status ? r->err_status : r->headers_out.status;

    for (i = 0; i < NGX_OCI_STAT_CODES - 1; i++) {
        if (ngx_oci_stat_codes[i] == status) {
            break;
        }
    }

    (void) __atomic_fetch_add(
                     &st->requests[ctx->route.route][i][ctx->cache_status],
                     1, __ATOMIC_RELAXED);

    if (ctx->passed) {
        ngx_oci_pass_log(r, ctx);
    }

    if (ctx->cache_status == NGX_OCI_CACHE_BYPASS) {
        ngx_oci_stats_upstream(ctx->registry, ngx_oci_stats_passed(r));

        if (r->connection->sent > (off_t) r->header_size) {
            ngx_oci_stat_add(NGX_OCI_STAT_SENT_BYPASS,
                             r->connection->sent - r->header_size);
        }
    }

    return NGX_OK;
}


off_t
ngx_oci_stats_passed(ngx_http_request_t *r)
{
    off_t                       bytes;
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state;

    bytes = 0;

    if (r->upstream_states) {
        state = r->upstream_states->elts;

        for (i = 0; i < r->upstream_states->nelts; i++) {
            bytes += state[i].response_length;
        }
    }

    return bytes;
}


void
ngx_oci_stats_upstream(ngx_oci_registry_t *registry, off_t bytes)
{
    ngx_oci_stats_t  *st;

    st = ngx_oci_stats();

    if (st && registry->index < NGX_OCI_STAT_REGISTRIES) {
        (void) __atomic_fetch_add(&st->upstream_bytes[registry->index],
                                  (uint64_t) bytes, __ATOMIC_RELAXED);
    }
}


ngx_str_t
ngx_oci_code_name(ngx_uint_t i)
{
    return ngx_oci_stat_code_names[i];
}


ngx_str_t
ngx_oci_route_name(ngx_uint_t route)
{
    return ngx_oci_route_names[route];
}


ngx_str_t
ngx_oci_cache_name(ngx_uint_t status)
{
    return ngx_oci_cache_names[status];
}


ngx_str_t
ngx_oci_verify_name(ngx_uint_t status)
{
    return ngx_oci_verify_names[status];
}
