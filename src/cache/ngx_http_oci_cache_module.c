
/*
 * Copyright (C) The nginx-oci authors
 *
 * Directives of the cache, the zones, and what happens when processes begin
 * and end.
 */


#include "ngx_oci_blob.h"
#include "ngx_oci_hold.h"
#include "ngx_oci_probe.h"
#include "ngx_oci_manifest.h"
#include "ngx_oci_negative.h"
#include "ngx_oci_open.h"
#include "ngx_oci_prove.h"
#include "ngx_oci_purge.h"
#include "ngx_oci_push.h"


static ngx_int_t ngx_oci_cache_content(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx);
static ngx_int_t ngx_oci_cache_zone_info(ngx_uint_t i,
    ngx_oci_zone_info_t *info);
static ngx_int_t ngx_oci_cache_blob_info(ngx_oci_digest_t *digest,
    ngx_oci_blob_info_t *info);

static void *ngx_oci_cache_create_main_conf(ngx_conf_t *cf);
static void *ngx_oci_cache_create_loc_conf(ngx_conf_t *cf);
static char *ngx_oci_cache_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_oci_cache_postconfiguration(ngx_conf_t *cf);

static char *ngx_oci_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_oci_cache_valid(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_oci_cache_use_stale(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_oci_cache_abandoned(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_oci_cache_connections(ngx_conf_t *cf, void *post,
    void *data);

static ngx_int_t ngx_oci_cache_init_module(ngx_cycle_t *cycle);
static void ngx_oci_cache_close_dirs(void *data);
static ngx_int_t ngx_oci_cache_init_process(ngx_cycle_t *cycle);
static void ngx_oci_cache_exit_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_oci_cache_connections_post = {
    ngx_oci_cache_connections
};

static ngx_conf_enum_t  ngx_oci_cache_verify[] = {
    { ngx_string("off"), NGX_OCI_VERIFY_MODE_OFF },
    { ngx_string("on"), NGX_OCI_VERIFY_MODE_ON },
    { ngx_string("strict"), NGX_OCI_VERIFY_MODE_STRICT },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_oci_cache_commands[] = {

    { ngx_string("oci_cache_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_oci_cache_path,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_cache"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_cache_zone,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_cache_valid"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_oci_cache_valid,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_cache_use_stale"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_oci_cache_use_stale,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_verify"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_oci_cache_loc_conf_t, verify),
      &ngx_oci_cache_verify },

    { ngx_string("oci_fill_connections"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_oci_cache_loc_conf_t, fill_connections),
      &ngx_oci_cache_connections_post },

    { ngx_string("oci_fill_ahead"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_oci_cache_loc_conf_t, fill_ahead),
      NULL },

    { ngx_string("oci_fill_abandoned"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_oci_cache_abandoned,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_cache_purge"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_purge_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_push"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_push_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_oci_cache_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_oci_cache_postconfiguration,       /* postconfiguration */

    ngx_oci_cache_create_main_conf,        /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_oci_cache_create_loc_conf,         /* create location configuration */
    ngx_oci_cache_merge_loc_conf           /* merge location configuration */
};


ngx_module_t  ngx_http_oci_cache_module = {
    NGX_MODULE_V1,
    &ngx_http_oci_cache_module_ctx,        /* module context */
    ngx_oci_cache_commands,                /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_oci_cache_init_module,             /* init module */
    ngx_oci_cache_init_process,            /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_oci_cache_exit_process,            /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* GET and HEAD of blobs and manifests; NGX_DECLINED: pass it through */

static ngx_int_t
ngx_oci_cache_content(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_cache_loc_conf_t  *ocf;

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    if (ocf->cache == NULL || ngx_oci_index_broken(ocf->cache)) {
        return NGX_DECLINED;
    }

    if (ctx->route.route == NGX_OCI_ROUTE_BLOB) {
        return ngx_oci_reader_handler(r, ctx, ocf);
    }

    return ngx_oci_manifest_handler(r, ctx, ocf);
}


/* as ngx_oci_reader_stale() */

static time_t
ngx_oci_cache_stale(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 mask;
    ngx_oci_cache_loc_conf_t  *ocf;

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    mask = (status == NGX_HTTP_TOO_MANY_REQUESTS) ? NGX_OCI_STALE_HTTP_429
           : (status < NGX_HTTP_INTERNAL_SERVER_ERROR) ? 0
           : (r->upstream && r->upstream->headers_in.status_n)
             ? NGX_OCI_STALE_HTTP_5XX
           : (status == NGX_HTTP_GATEWAY_TIME_OUT) ? NGX_OCI_STALE_TIMEOUT
           : NGX_OCI_STALE_ERROR;

    return (ocf->cache && (ocf->use_stale & mask)) ? ocf->stale_max : 0;
}


static ngx_int_t
ngx_oci_cache_zone_info(ngx_uint_t i, ngx_oci_zone_info_t *info)
{
    ngx_oci_cache_t            *cache;
    ngx_oci_cache_main_conf_t  *ocmcf;

    ocmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                                ngx_http_oci_cache_module);

    if (ocmcf == NULL || i >= ocmcf->caches.nelts) {
        return NGX_DECLINED;
    }

    cache = ((ngx_oci_cache_t **) ocmcf->caches.elts)[i];

    info->name = cache->zone->shm.name;
    info->max_size = (cache->max_size == NGX_MAX_OFF_T_VALUE)
                     ? 0 : cache->max_size;

    ngx_oci_index_totals(cache, info);

    return NGX_OK;
}


/* where most of it is */

static ngx_int_t
ngx_oci_cache_blob_info(ngx_oci_digest_t *digest, ngx_oci_blob_info_t *info)
{
    ngx_int_t                   rc;
    ngx_uint_t                  i;
    ngx_oci_cache_t           **caches;
    ngx_oci_blob_info_t         one;
    ngx_oci_cache_main_conf_t  *ocmcf;

    ocmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                                ngx_http_oci_cache_module);
    caches = ocmcf->caches.elts;
    rc = NGX_DECLINED;

    for (i = 0; i < ocmcf->caches.nelts; i++) {

        if (ngx_oci_index_blob_info(caches[i], digest, &one) == NGX_OK
            && (rc != NGX_OK || one.bytes > info->bytes))
        {
            *info = one;
            rc = NGX_OK;
        }
    }

    return rc;
}


static void *
ngx_oci_cache_create_main_conf(ngx_conf_t *cf)
{
    ngx_oci_cache_main_conf_t  *ocmcf;

    ocmcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_cache_main_conf_t));
    if (ocmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&ocmcf->caches, cf->pool, 2,
                       sizeof(ngx_oci_cache_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return ocmcf;
}


static void *
ngx_oci_cache_create_loc_conf(ngx_conf_t *cf)
{
    ngx_oci_cache_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_cache_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->zone = NGX_CONF_UNSET_PTR;
    conf->valid_tag = NGX_CONF_UNSET;
    conf->valid_manifest = NGX_CONF_UNSET;
    conf->valid_negative = NGX_CONF_UNSET;
    conf->use_stale = 0;
    conf->stale_max = NGX_CONF_UNSET;
    conf->verify = NGX_CONF_UNSET_UINT;
    conf->fill_connections = NGX_CONF_UNSET_UINT;
    conf->fill_ahead = NGX_CONF_UNSET;
    conf->abandoned_finish = NGX_CONF_UNSET_UINT;
    conf->abandoned_after = NGX_CONF_UNSET_MSEC;
    conf->push = NGX_CONF_UNSET_UINT;

    return conf;
}


static char *
ngx_oci_cache_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_oci_cache_loc_conf_t *prev = parent;
    ngx_oci_cache_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    if (conf->zone == NGX_CONF_UNSET_PTR) {
        conf->zone = prev->zone;
        conf->file = prev->file;
        conf->line = prev->line;
    }

    if (conf->zone == NGX_CONF_UNSET_PTR) {
        conf->zone = NULL;
    }

    if (conf->zone) {
        conf->cache = conf->zone->data;

        if (conf->cache == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"oci_cache\" zone \"%V\" is unknown in %s:%ui",
                          &conf->zone->shm.name, conf->file, conf->line);
            return NGX_CONF_ERROR;
        }
    }

    /* "if" and "limit_except" in such a location are still that location */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && conf->purge == NULL) {
        conf->purge = prev->purge;
    }

    if (conf->purge && conf->cache == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_cache_purge\" needs \"oci_cache\" in %s:%ui",
                      conf->purge->file, conf->purge->line);
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_uint_value(conf->push, prev->push, 0);

    if (conf->push && conf->push_file && conf->cache == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_push both\" needs \"oci_cache\" in %s:%ui",
                      conf->push_file, conf->push_line);
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_sec_value(conf->valid_tag, prev->valid_tag, 0);
    ngx_conf_merge_sec_value(conf->valid_manifest, prev->valid_manifest,
                             300);
    ngx_conf_merge_sec_value(conf->valid_negative, prev->valid_negative, 5);
    ngx_conf_merge_sec_value(conf->stale_max, prev->stale_max, 86400);

    ngx_conf_merge_bitmask_value(conf->use_stale, prev->use_stale,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_OCI_STALE_ERROR
                                  |NGX_OCI_STALE_TIMEOUT
                                  |NGX_OCI_STALE_HTTP_5XX
                                  |NGX_OCI_STALE_HTTP_429));

    if (conf->use_stale & NGX_OCI_STALE_OFF) {
        conf->use_stale = NGX_CONF_BITMASK_SET|NGX_OCI_STALE_OFF;
    }

    ngx_conf_merge_uint_value(conf->verify, prev->verify,
                              NGX_OCI_VERIFY_MODE_ON);
    ngx_conf_merge_uint_value(conf->fill_connections,
                              prev->fill_connections, 4);
    ngx_conf_merge_off_value(conf->fill_ahead, prev->fill_ahead,
                             256 * 1024 * 1024);
    ngx_conf_merge_uint_value(conf->abandoned_finish,
                              prev->abandoned_finish, 0);
    ngx_conf_merge_msec_value(conf->abandoned_after, prev->abandoned_after,
                              30000);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_cache_postconfiguration(ngx_conf_t *cf)
{
    ngx_oci_main_conf_t        *omcf;
    ngx_oci_cache_main_conf_t  *ocmcf;

    if (ngx_oci_core.abi != NGX_OCI_ABI
        || ngx_strcmp(ngx_oci_core.build, NGX_OCI_BUILD) != 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "ngx_http_oci_cache_module.so and "
                      "ngx_http_oci_module.so are of different builds");
        return NGX_ERROR;
    }

    ocmcf = ngx_http_conf_get_module_main_conf(cf,
                                               ngx_http_oci_cache_module);
    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);

    if (omcf == NULL || omcf->registries.nelts == 0) {
        return NGX_OK;
    }

    ngx_oci_hold_init();

    if (ocmcf->caches.nelts == 0) {
        return NGX_OK;
    }

    ngx_oci_negative_init_filter();
    ngx_oci_push_init_filter();

    omcf->content = ngx_oci_cache_content;
    omcf->changed = ngx_oci_changed;
    omcf->stale = ngx_oci_cache_stale;
    omcf->zone_info = ngx_oci_cache_zone_info;
    omcf->blob_info = ngx_oci_cache_blob_info;
    omcf->beside_place = ngx_oci_beside_place;
    omcf->beside = ngx_oci_beside;
    omcf->push = ngx_oci_push_begin;
    omcf->pushed = ngx_oci_push_answered;

    return NGX_OK;
}


static char *
ngx_oci_cache_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    ngx_str_t  *value;

    if (ocf->zone != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ocf->zone = NULL;
        return NGX_CONF_OK;
    }

    ocf->zone = ngx_shared_memory_add(cf, &value[1], 0,
                                      &ngx_http_oci_cache_module);
    if (ocf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    ocf->file = cf->conf_file->file.name.data;
    ocf->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


static char *
ngx_oci_cache_valid(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    time_t      valid, *p;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "tag") == 0) {
        p = &ocf->valid_tag;

    } else if (ngx_strcmp(value[1].data, "manifest") == 0) {
        p = &ocf->valid_manifest;

    } else if (ngx_strcmp(value[1].data, "negative") == 0) {
        p = &ocf->valid_negative;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid oci_cache_valid object \"%V\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (*p != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    valid = ngx_parse_time(&value[2], 1);

    if (valid == (time_t) NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time value \"%V\"", &value[2]);
        return NGX_CONF_ERROR;
    }

    *p = valid;

    return NGX_CONF_OK;
}


static char *
ngx_oci_cache_use_stale(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    ngx_str_t   *value, s;
    ngx_uint_t   i, n;

    static ngx_conf_bitmask_t  masks[] = {
        { ngx_string("error"), NGX_OCI_STALE_ERROR },
        { ngx_string("timeout"), NGX_OCI_STALE_TIMEOUT },
        { ngx_string("http_5xx"), NGX_OCI_STALE_HTTP_5XX },
        { ngx_string("http_429"), NGX_OCI_STALE_HTTP_429 },
        { ngx_string("off"), NGX_OCI_STALE_OFF },
        { ngx_null_string, 0 }
    };

    if (ocf->use_stale) {
        return "is duplicate";
    }

    ocf->use_stale = NGX_CONF_BITMASK_SET;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "max=", 4) == 0) {

            s.data = value[i].data + 4;
            s.len = value[i].len - 4;

            ocf->stale_max = ngx_parse_time(&s, 1);

            if (ocf->stale_max == (time_t) NGX_ERROR) {
                goto invalid;
            }

            continue;
        }

        for (n = 0; masks[n].name.len; n++) {
            if (masks[n].name.len == value[i].len
                && ngx_strcmp(masks[n].name.data, value[i].data) == 0)
            {
                break;
            }
        }

        if (masks[n].name.len == 0 || (ocf->use_stale & masks[n].mask)) {
            goto invalid;
        }

        ocf->use_stale |= masks[n].mask;
    }

    /* "off" stands alone, and max= not without a condition */

    i = cf->args->nelts - 1;

    if (ocf->use_stale == NGX_CONF_BITMASK_SET
        || ((ocf->use_stale & NGX_OCI_STALE_OFF) && cf->args->nelts > 2))
    {
        goto invalid;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[i]);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_cache_abandoned(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    ngx_int_t    ms;
    ngx_str_t   *value, s;
    ngx_uint_t   i;

    if (ocf->abandoned_finish != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    i = 1;

    if (ngx_strcmp(value[1].data, "finish") == 0) {
        ocf->abandoned_finish = 1;

    } else if (ngx_strcmp(value[1].data, "stop") == 0) {
        ocf->abandoned_finish = 0;

    } else {
        goto invalid;
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    i = 2;

    if (ocf->abandoned_finish
        || ngx_strncmp(value[2].data, "after=", 6) != 0)
    {
        goto invalid;
    }

    s.data = value[2].data + 6;
    s.len = value[2].len - 6;

    ms = ngx_parse_time(&s, 0);

    if (ms == NGX_ERROR) {
        goto invalid;
    }

    ocf->abandoned_after = ms;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       &value[i]);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_cache_connections(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t *np = data;

    if (*np < 1 || *np > NGX_OCI_INDEX_RUNS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "value must be between 1 and %d",
                           NGX_OCI_INDEX_RUNS);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_oci_cache_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_cache_t *old = data;

    ngx_oci_cache_t  *cache;

    cache = zone->data;
    cache->shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {

        if (old->path->name.len != cache->path->name.len
            || ngx_memcmp(old->path->name.data, cache->path->name.data,
                          cache->path->name.len) != 0
            || old->slice != cache->slice)
        {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "oci cache zone \"%V\" uses path \"%V\" and slice "
                          "%uz, was used with \"%V\" and %uz before",
                          &zone->shm.name, &cache->path->name, cache->slice,
                          &old->path->name, old->slice);
            return NGX_ERROR;
        }

        cache->index = old->index;
        cache->refs = old->refs;
        cache->doorbell = old->doorbell;

    } else {
        cache->shpool->log_nomem = 0;
    }

    if (ngx_oci_index_init(cache, old != NULL) != NGX_OK
        || ngx_oci_refs_init(cache, old != NULL) != NGX_OK
        || ngx_oci_doorbell_init(cache, old != NULL) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "oci cache zone \"%V\" is too small",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* in the master, before any worker is there */

static ngx_int_t
ngx_oci_cache_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_oci_cache_t            **caches;
    ngx_pool_cleanup_t          *cln;
    ngx_oci_cache_main_conf_t   *ocmcf;

    ocmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                                ngx_http_oci_cache_module);
    if (ocmcf == NULL || ocmcf->caches.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_oci_io_init(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    caches = ocmcf->caches.elts;

    for (i = 0; i < ocmcf->caches.nelts; i++) {

        cln = ngx_pool_cleanup_add(cycle->pool, 0);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        /* what was made anew may be taken over by the next configuration */

        caches[i]->zone->noreuse = 0;

        cln->handler = ngx_oci_cache_close_dirs;
        cln->data = caches[i];

        if (ngx_oci_dir_init(caches[i], cycle->log) != NGX_OK
            || ngx_oci_doorbell_open(caches[i], cycle->log) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "oci cache zone \"%V\" uses \"%V\", %s",
                      &caches[i]->zone->shm.name, &caches[i]->path->name,
                      NGX_OCI_BUILD);
    }

    return NGX_OK;
}


static void
ngx_oci_cache_close_dirs(void *data)
{
    ngx_oci_dir_close(data);
}


static ngx_int_t
ngx_oci_cache_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_oci_cache_t            **caches;
    ngx_oci_cache_main_conf_t   *ocmcf;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    ocmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                                ngx_http_oci_cache_module);
    if (ocmcf == NULL || ocmcf->caches.nelts == 0) {
        return NGX_OK;
    }

    ngx_oci_probe_init_process();
    ngx_oci_manifest_init_process();
    ngx_oci_prove_init_process();

    if (ngx_oci_blob_init_process(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    caches = ocmcf->caches.elts;

    for (i = 0; i < ocmcf->caches.nelts; i++) {

        ngx_oci_io_pools(caches[i], cycle);

        /* without a slot requests are passed through */

        if (ngx_oci_doorbell_claim(caches[i], cycle, ngx_oci_blob_rung)
            == NGX_ERROR)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_oci_cache_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_oci_cache_t            **caches;
    ngx_oci_cache_main_conf_t   *ocmcf;

    ocmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                                ngx_http_oci_cache_module);
    if (ocmcf == NULL) {
        return;
    }

    ngx_oci_blob_exit_process(cycle);

    caches = ocmcf->caches.elts;

    for (i = 0; i < ocmcf->caches.nelts; i++) {
        ngx_oci_doorbell_free(caches[i]);
    }
}
