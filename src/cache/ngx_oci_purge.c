
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_cache_purge: a location that takes back what is cached of a tag, a
 * manifest, a blob or a repository.
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"
#include "ngx_oci_purge.h"
#include "ngx_oci_ranges.h"


typedef enum {
    NGX_OCI_PURGE_TAG = 0,
    NGX_OCI_PURGE_MANIFEST,
    NGX_OCI_PURGE_BLOB,
    NGX_OCI_PURGE_REPOSITORY
} ngx_oci_purge_e;


/*
 * Owner: its references: the request's cleanup, and what is under way; the
 * last one frees the pool.  A client that leaves stops nothing.
 */

typedef struct {
    ngx_pool_t          *pool;
    ngx_uint_t           refs;
    ngx_http_request_t  *r;             /* NULL: the client has gone */
    ngx_oci_cache_t     *cache;
    ngx_oci_registry_t  *registry;
    ngx_uint_t           what;          /* ..._purge_e */
    ngx_str_t            name;          /* of the repository, at the edge */
    ngx_str_t            repository;    /* and at the registry */
    ngx_str_t            reference;     /* "": of a repository */
    ngx_oci_digest_t     digest;
    ngx_uint_t           reference_gone;
    ngx_int_t            data;          /* NGX_OK: the file went; what else
                                           ngx_oci_purge_blob() returns */
    uint64_t             bytes;
    ngx_oci_task_t       task;
} ngx_oci_purge_t;


static char *ngx_oci_purge_value(ngx_conf_t *cf, ngx_oci_purge_conf_t *pcf,
    ngx_str_t *value);
static ngx_int_t ngx_oci_purge_handler(ngx_http_request_t *r);
static ngx_int_t ngx_oci_purge_name(ngx_http_request_t *r, ngx_str_t *name);
static ngx_oci_registry_t *ngx_oci_purge_registry(ngx_http_request_t *r,
    ngx_oci_purge_conf_t *pcf);
static ngx_int_t ngx_oci_purge_target(ngx_http_request_t *r,
    ngx_oci_purge_conf_t *pcf, ngx_oci_route_t *route, u_char *buf,
    ngx_uint_t *code);
static ngx_oci_purge_t *ngx_oci_purge_create(ngx_oci_cache_t *cache,
    ngx_oci_registry_t *registry, ngx_oci_route_t *route);
static ngx_int_t ngx_oci_purge_copy(ngx_oci_purge_t *pg, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_purge_start(ngx_http_request_t *r,
    ngx_oci_purge_t *pg);
static void ngx_oci_purge_cleanup(void *data);
static void ngx_oci_purge_unref(ngx_oci_purge_t *pg);
static void ngx_oci_purge_forgotten(void *data, ngx_int_t rc);
static void ngx_oci_purge_blob_task(void *data, ngx_log_t *log);
static void ngx_oci_purge_manifest_task(void *data, ngx_log_t *log);
static void ngx_oci_purge_done(void *data);
static void ngx_oci_purge_answer(ngx_oci_purge_t *pg, ngx_uint_t failed);
static ngx_int_t ngx_oci_purge_refuse(ngx_oci_purge_t *pg,
    ngx_uint_t failed);
static ngx_int_t ngx_oci_purge_send(ngx_oci_purge_t *pg);


static const char  *ngx_oci_purge_names[] = {
    "tag", "manifest", "blob", "repository"
};


static const ngx_oci_duty_t  ngx_oci_purge_duty = {
    NGX_OCI_DUTY_PURGE, ngx_oci_purge_handler, ngx_oci_purge_name
};


char *
ngx_oci_purge_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    ngx_str_t                 *value;
    ngx_oci_purge_conf_t      *pcf;
    ngx_http_core_loc_conf_t  *clcf;

    if (ocf->purge) {
        return "is duplicate";
    }

    value = cf->args->elts;
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "conflicts with another handler of this location";
    }

    if (clcf->exact_match || clcf->named || clcf->noname
#if (NGX_PCRE)
        || clcf->regex
#endif
       )
    {
        return "needs a location of a prefix";
    }

    pcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_purge_conf_t));
    if (pcf == NULL) {
        return NGX_CONF_ERROR;
    }

    pcf->file = cf->conf_file->file.name.data;
    pcf->line = cf->conf_file->line;
    pcf->prefix = clcf->name;

    if (pcf->prefix.len && pcf->prefix.data[pcf->prefix.len - 1] == '/') {
        pcf->prefix.len--;
    }

    if (ngx_oci_purge_value(cf, pcf, &value[1]) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ocf->purge = pcf;

    ngx_oci_core.duty_set(cf, &ngx_oci_purge_duty);

    return NGX_CONF_OK;
}


static char *
ngx_oci_purge_value(ngx_conf_t *cf, ngx_oci_purge_conf_t *pcf,
    ngx_str_t *value)
{
    ngx_oci_main_conf_t               *omcf;
    ngx_http_compile_complex_value_t   ccv;

    if (ngx_http_script_variables_count(value) == 0) {

        omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
        pcf->registry = ngx_oci_core.registry(omcf, value);

        if (pcf->registry == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown oci_registry \"%V\" (it has to stand "
                               "before oci_cache_purge)", value);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));
    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = &pcf->name;

    return (ngx_http_compile_complex_value(&ccv) == NGX_OK) ? NGX_CONF_OK
                                                            : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_oci_purge_handler(ngx_http_request_t *r)
{
    u_char                     buf[NGX_OCI_DIGEST_LEN];
    ngx_int_t                  rc;
    ngx_str_t                  methods;
    ngx_uint_t                 code;
    ngx_oci_purge_t           *pg;
    ngx_oci_route_t            route;
    ngx_oci_registry_t        *registry;
    ngx_oci_cache_loc_conf_t  *ocf;

    if (!(r->method & (NGX_HTTP_DELETE|NGX_HTTP_POST))
        && (r->method_name.len != 5
            || ngx_strncmp(r->method_name.data, "PURGE", 5) != 0))
    {
        ngx_str_set(&methods, "DELETE, POST, PURGE");

        if (ngx_oci_ranges_add(r, "Allow", &methods) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_oci_core.error(r, NGX_HTTP_NOT_ALLOWED,
                                  NGX_OCI_ERR_UNSUPPORTED, NULL);
    }

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    rc = ngx_oci_purge_target(r, ocf->purge, &route, buf, &code);

    if (rc == NGX_DECLINED) {
        return ngx_oci_core.error(r, NGX_HTTP_NOT_FOUND, code,
                                  "nothing of that kind is cached");
    }

    if (rc != NGX_OK) {
        return ngx_oci_core.error(r, NGX_HTTP_BAD_REQUEST, code, NULL);
    }

    registry = ngx_oci_purge_registry(r, ocf->purge);

    if (registry == NULL) {
        return ngx_oci_core.error(r, NGX_HTTP_NOT_FOUND,
                                  NGX_OCI_ERR_NAME_UNKNOWN,
                                  "no such registry");
    }

    if (ngx_oci_index_broken(ocf->cache)) {
        return ngx_oci_core.error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  NGX_OCI_ERR_UNAVAILABLE,
                                  "the cache zone is damaged");
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    pg = ngx_oci_purge_create(ocf->cache, registry, &route);
    if (pg == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_oci_purge_start(r, pg);

    ngx_oci_purge_unref(pg);

    return rc;
}


static ngx_oci_registry_t *
ngx_oci_purge_registry(ngx_http_request_t *r, ngx_oci_purge_conf_t *pcf)
{
    ngx_str_t             name;
    ngx_oci_main_conf_t  *omcf;

    if (pcf->registry) {
        return pcf->registry;
    }

    if (ngx_http_complex_value(r, &pcf->name, &name) != NGX_OK) {
        return NULL;
    }

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    return ngx_oci_core.registry(omcf, &name);
}


/*
 * What stands after the location's prefix in the URI as it was sent: a tag, a
 * manifest or a blob, as in a registry's API, or "/v2/<name>/".  NGX_OK;
 * NGX_DECLINED: nothing that could be cached; NGX_ERROR: malformed.
 */

static ngx_int_t
ngx_oci_purge_target(ngx_http_request_t *r, ngx_oci_purge_conf_t *pcf,
    ngx_oci_route_t *route, u_char *buf, ngx_uint_t *code)
{
    u_char     *p, *last;
    ngx_int_t   rc;
    ngx_str_t   target;

    *code = NGX_OCI_ERR_NAME_UNKNOWN;

    target = r->unparsed_uri;

    if (target.len < pcf->prefix.len
        || ngx_memcmp(target.data, pcf->prefix.data, pcf->prefix.len) != 0)
    {
        return NGX_DECLINED;
    }

    target.data += pcf->prefix.len;
    target.len -= pcf->prefix.len;

    p = target.data;
    last = ngx_strlchr(p, p + target.len, '?');

    if (last == NULL) {
        last = p + target.len;
    }

    if (last - p > 4 && ngx_memcmp(p, "/v2/", 4) == 0 && last[-1] == '/') {

        ngx_memzero(route, sizeof(ngx_oci_route_t));

        route->repository.data = p + 4;
        route->repository.len = last - 1 - (p + 4);

        if (ngx_oci_name_valid(route->repository.data, route->repository.len)
            != NGX_OK)
        {
            *code = NGX_OCI_ERR_NAME_INVALID;
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    rc = ngx_oci_route_parse(route, &target, buf, code);

    if (rc != NGX_OK) {
        return rc;
    }

    switch (route->route) {

    case NGX_OCI_ROUTE_TAG:
        return NGX_OK;

    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_BLOB:
        return (route->digest.alg == NGX_OCI_DIGEST_NONE) ? NGX_DECLINED
                                                          : NGX_OK;
    }

    return NGX_DECLINED;
}


/* of the repository, at the edge */

static ngx_int_t
ngx_oci_purge_name(ngx_http_request_t *r, ngx_str_t *name)
{
    u_char                     buf[NGX_OCI_DIGEST_LEN];
    ngx_uint_t                 code;
    ngx_oci_route_t            route;
    ngx_oci_cache_loc_conf_t  *ocf;

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    if (ocf->purge == NULL
        || ngx_oci_purge_target(r, ocf->purge, &route, buf, &code) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    *name = route.repository;

    return NGX_OK;
}


/* referenced for the caller; route points into the request */

static ngx_oci_purge_t *
ngx_oci_purge_create(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_oci_route_t *route)
{
    ngx_pool_t       *pool;
    ngx_oci_purge_t  *pg;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    pg = ngx_pcalloc(pool, sizeof(ngx_oci_purge_t));
    if (pg == NULL) {
        goto failed;
    }

    pg->pool = pool;
    pg->refs = 1;
    pg->cache = cache;
    pg->registry = registry;
    pg->digest = route->digest;
    pg->data = NGX_DECLINED;

    switch (route->route) {

    case NGX_OCI_ROUTE_TAG:
        pg->what = NGX_OCI_PURGE_TAG;
        break;

    case NGX_OCI_ROUTE_MANIFEST:
        pg->what = NGX_OCI_PURGE_MANIFEST;
        break;

    case NGX_OCI_ROUTE_BLOB:
        pg->what = NGX_OCI_PURGE_BLOB;
        break;

    default:
        pg->what = NGX_OCI_PURGE_REPOSITORY;
    }

    if (ngx_oci_purge_copy(pg, &pg->name, &route->repository) == NGX_OK
        && ngx_oci_purge_copy(pg, &pg->reference, &route->reference) == NGX_OK
        && ngx_oci_core.map(registry, pool, &pg->name, &pg->repository)
           == NGX_OK)
    {
        return pg;
    }

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static ngx_int_t
ngx_oci_purge_copy(ngx_oci_purge_t *pg, ngx_str_t *dst, ngx_str_t *src)
{
    ngx_str_set(dst, "");

    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pg->pool, src);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    dst->len = src->len;

    return NGX_OK;
}


/* returns what a content handler returns */

static ngx_int_t
ngx_oci_purge_start(ngx_http_request_t *r, ngx_oci_purge_t *pg)
{
    ngx_uint_t           kind;
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    kind = (pg->what == NGX_OCI_PURGE_BLOB) ? NGX_OCI_REFS_BLOB
                                            : NGX_OCI_REFS_MANIFEST;

    if (ngx_oci_refs_purge(pg->cache, kind, pg->registry, &pg->repository,
                           pg->reference.len ? &pg->reference : NULL,
                           ngx_oci_purge_forgotten, pg)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* the cleanup's and the handler's */

    pg->refs += 2;
    pg->r = r;

    cln->handler = ngx_oci_purge_cleanup;
    cln->data = pg;

    r->main->count++;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_oci_purge_cleanup(void *data)
{
    ngx_oci_purge_t *pg = data;

    pg->r = NULL;

    ngx_oci_purge_unref(pg);
}


static void
ngx_oci_purge_unref(ngx_oci_purge_t *pg)
{
    if (--pg->refs == 0) {
        ngx_destroy_pool(pg->pool);
    }
}


/* the reference has gone from memory and disk */

static void
ngx_oci_purge_forgotten(void *data, ngx_int_t rc)
{
    ngx_oci_purge_t *pg = data;

    pg->reference_gone = (rc == NGX_OK);

    if (rc == NGX_ERROR) {
        ngx_oci_purge_answer(pg, 1);
        return;
    }

    if (pg->what == NGX_OCI_PURGE_BLOB) {
        pg->task.run = ngx_oci_purge_blob_task;

    } else if (pg->what == NGX_OCI_PURGE_MANIFEST && pg->reference_gone) {
        pg->task.run = ngx_oci_purge_manifest_task;

    } else {
        ngx_oci_purge_answer(pg, 0);
        return;
    }

    pg->task.done = ngx_oci_purge_done;
    pg->task.data = pg;

    if (ngx_oci_io_post(pg->cache, &pg->task) != NGX_OK) {
        ngx_oci_purge_answer(pg, 1);
    }
}


/* the blob is this registry's if this repository has it, or if the sidecar
   says so */

static void
ngx_oci_purge_blob_task(void *data, ngx_log_t *log)
{
    ngx_oci_purge_t *pg = data;

    pg->data = ngx_oci_purge_blob(pg->cache, &pg->digest,
                                  ngx_oci_index_origin(pg->registry),
                                  pg->reference_gone, &pg->bytes, log);
}


/*
 * A body is kept once for all that refer to it, and nothing tells who does:
 * it goes, and others fetch theirs again.  One that is being fetched just now
 * may come back, but no reference leads to it without asking the registry.
 */

static void
ngx_oci_purge_manifest_task(void *data, ngx_log_t *log)
{
    ngx_oci_purge_t *pg = data;

    char         sub[3], name[NGX_OCI_STORE_NAME];
    struct stat  sb;

    ngx_oci_beside_forget(pg->cache, &pg->digest, log);

    ngx_oci_store_names(&pg->digest, sub, name);

    if (ngx_oci_stat(pg->cache, pg->cache->manifests, sub, name, &sb, log)
        == 0)
    {
        pg->bytes = sb.st_size;
    }

    if (ngx_oci_unlink(pg->cache, pg->cache->manifests, sub, name, log)
        == 0)
    {
        ngx_oci_refs_unroom(pg->cache, pg->bytes);
        pg->data = NGX_OK;

    } else if (ngx_errno != ENOENT) {
        pg->data = NGX_ERROR;

        if (ngx_errno != NGX_OCI_SAID) {
            ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                          "unlinkat() \"%V/manifests/%s/%s\" failed",
                          &pg->cache->path->name, sub, name);
        }
    }
}


static void
ngx_oci_purge_done(void *data)
{
    ngx_oci_purge_t *pg = data;

    if (pg->data == NGX_ERROR) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_purge_answer(pg, pg->data == NGX_ERROR);
}


/* may finalize the request; what was under way has ended, with its reference */

static void
ngx_oci_purge_answer(ngx_oci_purge_t *pg, ngx_uint_t failed)
{
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = pg->r;
    c = NULL;

    if (r) {
        c = r->connection;
        ngx_http_set_log_request(c->log, r);

        rc = ngx_oci_purge_refuse(pg, failed);

        if (rc == NGX_DECLINED) {
            rc = ngx_oci_purge_send(pg);
        }

        ngx_http_finalize_request(r, rc);
    }

    ngx_oci_purge_unref(pg);

    if (c) {
        ngx_http_run_posted_requests(c);
    }
}


/* NGX_DECLINED: something was purged; else as ngx_oci_core.error() */

static ngx_int_t
ngx_oci_purge_refuse(ngx_oci_purge_t *pg, ngx_uint_t failed)
{
    if (failed) {
        return ngx_oci_core.error(pg->r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  NGX_OCI_ERR_UNKNOWN,
                                  "a file could not be removed");
    }

    if (pg->data == NGX_BUSY) {
        return ngx_oci_core.error(pg->r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  NGX_OCI_ERR_UNAVAILABLE,
                                  "another nginx fetches the blob");
    }

    if (pg->reference_gone || pg->data != NGX_DECLINED) {
        return NGX_DECLINED;
    }

    switch (pg->what) {

    case NGX_OCI_PURGE_BLOB:
        return ngx_oci_core.error(pg->r, NGX_HTTP_NOT_FOUND,
                                  NGX_OCI_ERR_BLOB_UNKNOWN,
                                  "the blob is not cached");

    case NGX_OCI_PURGE_REPOSITORY:
        return ngx_oci_core.error(pg->r, NGX_HTTP_NOT_FOUND,
                                  NGX_OCI_ERR_NAME_UNKNOWN,
                                  "nothing is cached of the repository");

    default:
        return ngx_oci_core.error(pg->r, NGX_HTTP_NOT_FOUND,
                                  NGX_OCI_ERR_MANIFEST_UNKNOWN,
                                  "the manifest is not cached");
    }
}


/* names and references are of the grammar: nothing in them is to be escaped */

static ngx_int_t
ngx_oci_purge_send(ngx_oci_purge_t *pg)
{
    size_t               len;
    ngx_buf_t           *b;
    ngx_uint_t           pending;
    ngx_http_request_t  *r;

    r = pg->r;
    pending = (pg->data == NGX_AGAIN);

    len = sizeof("{\"registry\":\"\",\"repository\":\"\",\"purged\":\"\","
                 "\"reference\":\"\",\"bytes\":,\"pending\":false}" CRLF)
          + pg->registry->name.len + pg->name.len + pg->reference.len
          + sizeof("repository") + NGX_INT64_LEN;

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "{\"registry\":\"%V\",\"repository\":"
                          "\"%V\",\"purged\":\"%s\"", &pg->registry->name,
                          &pg->name, ngx_oci_purge_names[pg->what]);

    if (pg->reference.len) {
        b->last = ngx_sprintf(b->last, ",\"reference\":\"%V\"",
                              &pg->reference);
    }

    if (pg->data == NGX_OK || pending) {
        b->last = ngx_sprintf(b->last, ",\"bytes\":%uL,\"pending\":%s",
                              pg->bytes, pending ? "true" : "false");
    }

    b->last = ngx_cpymem(b->last, "}" CRLF, sizeof("}" CRLF) - 1);

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "oci cache zone \"%V\": purged %s \"%V\" of \"%V\" in "
                  "registry \"%V\"", &pg->cache->zone->shm.name,
                  ngx_oci_purge_names[pg->what], &pg->reference, &pg->name,
                  &pg->registry->name);

    return ngx_oci_core.send(r, pending ? NGX_HTTP_ACCEPTED : NGX_HTTP_OK,
                             "application/json", b);
}
