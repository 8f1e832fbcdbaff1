
/*
 * Copyright (C) The nginx-oci authors
 *
 * The oci_cache_path directive.
 */


#include "ngx_oci_index.h"


#define NGX_OCI_CACHE_SLICE_MIN   (64 * 1024)
#define NGX_OCI_CACHE_SLICE_MAX   (1024 * 1024 * 1024)
#define NGX_OCI_CACHE_SCRUB_MIN   (64 * 1024)     /* bytes per second */
#define NGX_OCI_CACHE_ZONE_MIN    (16 * ngx_pagesize)
#define NGX_OCI_CACHE_SMALL_SHARE 16    /* of max_size: a 16th */
#define NGX_OCI_CACHE_SMALL_MIN   (uint64_t) (1024 * 1024)
#define NGX_OCI_CACHE_SMALL_MAX   ((uint64_t) 8 * 1024 * 1024 * 1024)


static ngx_int_t ngx_oci_cache_path_param(ngx_conf_t *cf,
    ngx_oci_cache_t *cache, ngx_str_t *value, ngx_str_t *name,
    ssize_t *size);
static ngx_int_t ngx_oci_cache_path_scrub(ngx_str_t *value, off_t *rate);
static ngx_int_t ngx_oci_cache_path_size(ngx_str_t *value, const char *name,
    off_t *size);
static ngx_int_t ngx_oci_cache_path_add(ngx_conf_t *cf,
    ngx_oci_cache_t *cache, ngx_str_t *name, ssize_t size);
static void ngx_oci_cache_path_renew(ngx_conf_t *cf, ngx_shm_zone_t *zone);


char *
ngx_oci_cache_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_main_conf_t *ocmcf = conf;

    ssize_t            size;
    ngx_str_t         *value, name;
    ngx_uint_t         i;
    ngx_oci_cache_t   *cache, **p;

    cache = ngx_pcalloc(cf->pool, sizeof(ngx_oci_cache_t));
    if (cache == NULL) {
        return NGX_CONF_ERROR;
    }

    cache->path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (cache->path == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_thread_pool_add(cf, NULL) == NULL) {
        return NGX_CONF_ERROR;
    }

    cache->slice = NGX_OCI_CACHE_SLICE_DEFAULT;
    cache->max_size = NGX_MAX_OFF_T_VALUE;
    cache->inactive = 60 * 86400;
    cache->manager_files = 100;
    cache->manager_sleep = 50;
    cache->manager_threshold = 200;
    cache->dir = -1;

    value = cf->args->elts;

    if (value[1].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid path \"\"");
        return NGX_CONF_ERROR;
    }

    cache->path->name = value[1];

    if (cache->path->name.len > 1
        && cache->path->name.data[cache->path->name.len - 1] == '/')
    {
        cache->path->name.len--;
    }

    if (ngx_conf_full_name(cf->cycle, &cache->path->name, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_str_null(&name);
    size = 0;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_oci_cache_path_param(cf, cache, &value[i], &name, &size)
            != NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"keys_zone\" parameter",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    /* tags, references and manifests take little beside the blobs */

    cache->small_max = ngx_max((uint64_t) cache->max_size
                               / NGX_OCI_CACHE_SMALL_SHARE,
                               NGX_OCI_CACHE_SMALL_MIN);
    cache->small_max = ngx_min(cache->small_max, NGX_OCI_CACHE_SMALL_MAX);
    cache->small_max = ngx_min(cache->small_max,
                               (uint64_t) cache->max_size / 4);

    if (ngx_oci_cache_path_add(cf, cache, &name, size) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    p = ngx_array_push(&ocmcf->caches);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = cache;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_cache_path_add(ngx_conf_t *cf, ngx_oci_cache_t *cache,
    ngx_str_t *name, ssize_t size)
{
    cache->path->manager = ngx_oci_manager;
    cache->path->loader = ngx_oci_loader;
    cache->path->data = cache;
    cache->path->conf_file = cf->conf_file->file.name.data;
    cache->path->line = cf->conf_file->line;

    if (ngx_add_path(cf, &cache->path) != NGX_OK) {
        return NGX_ERROR;
    }

    cache->zone = ngx_shared_memory_add(cf, name, size,
                                        &ngx_http_oci_cache_module);
    if (cache->zone == NULL) {
        return NGX_ERROR;
    }

    if (cache->zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate zone \"%V\"", name);
        return NGX_ERROR;
    }

    cache->zone->init = ngx_oci_cache_init_zone;
    cache->zone->data = cache;

    ngx_oci_cache_path_renew(cf, cache->zone);

    return NGX_OK;
}


/*
 * A zone that was left damaged is not taken over from the configuration
 * before: its workers drain with what they have, the new ones get a zone of
 * their own, and the index is made again from the sidecars.  Files that both
 * come to are locked, as between two instances of nginx.
 */

static void
ngx_oci_cache_path_renew(ngx_conf_t *cf, ngx_shm_zone_t *zone)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *old;
    ngx_list_part_t  *part;
    ngx_oci_cache_t  *cache;

    if (ngx_is_init_cycle(cf->cycle->old_cycle)) {
        return;
    }

    part = &cf->cycle->old_cycle->shared_memory.part;
    old = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            part = part->next;

            if (part == NULL) {
                return;
            }

            old = part->elts;
            i = 0;
        }

        if (old[i].tag != zone->tag
            || old[i].shm.name.len != zone->shm.name.len
            || ngx_memcmp(old[i].shm.name.data, zone->shm.name.data,
                          zone->shm.name.len) != 0)
        {
            continue;
        }

        cache = old[i].data;

        if (cache && cache->index && cache->index->broken) {
            ngx_log_error(NGX_LOG_NOTICE, cf->log, 0,
                          "oci cache zone \"%V\" was left damaged, "
                          "it is made anew", &zone->shm.name);

            /* the old one is asked when it is to be freed */

            zone->noreuse = 1;
            old[i].noreuse = 1;
        }

        return;
    }
}


static ngx_int_t
ngx_oci_cache_path_param(ngx_conf_t *cf, ngx_oci_cache_t *cache,
    ngx_str_t *value, ngx_str_t *name, ssize_t *size)
{
    off_t       n;
    u_char     *p;
    ngx_str_t   s;

    if (ngx_strncmp(value->data, "keys_zone=", 10) == 0) {

        if (name->len) {
            return NGX_ERROR;
        }

        name->data = value->data + 10;

        p = (u_char *) ngx_strchr(name->data, ':');
        if (p == NULL) {
            return NGX_ERROR;
        }

        name->len = p - name->data;

        s.data = p + 1;
        s.len = value->data + value->len - s.data;

        *size = ngx_parse_size(&s);

        return (name->len && *size >= (ssize_t) NGX_OCI_CACHE_ZONE_MIN)
               ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "slice=", 6) == 0) {

        if (ngx_oci_cache_path_size(value, "slice=", &n) != NGX_OK
            || n < NGX_OCI_CACHE_SLICE_MIN || n > NGX_OCI_CACHE_SLICE_MAX
            || n % 4096)
        {
            return NGX_ERROR;
        }

        cache->slice = n;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "max_size=", 9) == 0) {
        return ngx_oci_cache_path_size(value, "max_size=",
                                       &cache->max_size);
    }

    if (ngx_strncmp(value->data, "min_free=", 9) == 0) {
        return ngx_oci_cache_path_size(value, "min_free=",
                                       &cache->min_free);
    }

    if (ngx_strncmp(value->data, "inactive=", 9) == 0) {
        s.data = value->data + 9;
        s.len = value->len - 9;
        cache->inactive = ngx_parse_time(&s, 1);
        return (cache->inactive > 0) ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "manager_files=", 14) == 0) {
        n = ngx_atoi(value->data + 14, value->len - 14);
        cache->manager_files = n;
        return (n > 0) ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "manager_sleep=", 14) == 0) {
        s.data = value->data + 14;
        s.len = value->len - 14;
        n = ngx_parse_time(&s, 0);
        cache->manager_sleep = n;
        return (n >= 0) ? NGX_OK : NGX_ERROR;
    }

    if (ngx_strncmp(value->data, "scrub=", 6) == 0) {
        return ngx_oci_cache_path_scrub(value, &cache->scrub);
    }

    if (ngx_strncmp(value->data, "manager_threshold=", 18) == 0) {
        s.data = value->data + 18;
        s.len = value->len - 18;
        n = ngx_parse_time(&s, 0);
        cache->manager_threshold = n;
        return (n >= 0) ? NGX_OK : NGX_ERROR;
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_cache_path_scrub(ngx_str_t *value, off_t *rate)
{
    if (ngx_strcmp(value->data, "scrub=off") == 0) {
        *rate = 0;
        return NGX_OK;
    }

    if (ngx_oci_cache_path_size(value, "scrub=", rate) != NGX_OK) {
        return NGX_ERROR;
    }

    return (*rate >= NGX_OCI_CACHE_SCRUB_MIN) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_cache_path_size(ngx_str_t *value, const char *name, off_t *size)
{
    off_t      n;
    u_char     unit;
    size_t     len;
    ngx_str_t  s;

    len = ngx_strlen(name);
    s.data = value->data + len;
    s.len = value->len - len;

    /* the core knows no terabytes */

    unit = s.len ? s.data[s.len - 1] : 0;

    if (unit == 't' || unit == 'T') {
        s.len--;
        n = ngx_atoof(s.data, s.len);

        if (n <= 0 || n > NGX_MAX_OFF_T_VALUE >> 40) {
            return NGX_ERROR;
        }

        *size = n << 40;
        return NGX_OK;
    }

    n = ngx_parse_offset(&s);

    if (n < 0) {
        return NGX_ERROR;
    }

    *size = n;

    return NGX_OK;
}
