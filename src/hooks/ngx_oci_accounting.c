
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_pull_accounting: pulls that the cache served are made known to the
 * registry by one GET of the manifest, behind the client's back and never in
 * its way.
 */


#include "ngx_oci_hooks.h"

#include <openssl/sha.h>


#define NGX_OCI_ACCOUNT_ZONE    (1024 * 1024)
#define NGX_OCI_ACCOUNT_SETS    8192
#define NGX_OCI_ACCOUNT_WAYS    4
#define NGX_OCI_ACCOUNT_MAX     16      /* GETs at once, of a worker */
#define NGX_OCI_ACCOUNT_AGAIN   60      /* s, after one that failed */
#define NGX_OCI_ACCOUNT_BUFFER  16384


/* when an artifact's next pull counts; read and written under the mutex */

typedef struct {
    uint64_t                    key;
    time_t                      due;
} ngx_oci_account_t;


/* Owner: the exchange's pool */

typedef struct {
    uint64_t                    key;
    u_char                      buffer[NGX_OCI_ACCOUNT_BUFFER];
} ngx_oci_account_get_t;


static ngx_int_t ngx_oci_accounting_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_oci_accounting_log(ngx_http_request_t *r);
static ngx_int_t ngx_oci_accounting_key(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, uint64_t *key);
static ngx_uint_t ngx_oci_accounting_due(uint64_t key, time_t interval);
static void ngx_oci_accounting_set(uint64_t key, time_t due);
static ngx_oci_account_t *ngx_oci_accounting_find(uint64_t key);
static ngx_int_t ngx_oci_accounting_get(ngx_oci_ctx_t *ctx, uint64_t key);
static ngx_int_t ngx_oci_accounting_copy(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_accounting_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_accounting_buffer(ngx_oci_exchange_t *ex,
    u_char **p, size_t *size);
static ngx_int_t ngx_oci_accounting_received(ngx_oci_exchange_t *ex,
    size_t n, ngx_uint_t idle);
static void ngx_oci_accounting_done(ngx_oci_exchange_t *ex, ngx_int_t rc);


/* of this cycle's zone, and of this worker */

static ngx_slab_pool_t    *ngx_oci_accounting_shpool;
static ngx_oci_account_t  *ngx_oci_accounting_table;
static ngx_uint_t          ngx_oci_accounting_n;


char *
ngx_oci_accounting_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_hooks_loc_conf_t *hlcf = conf;

    ngx_str_t                  *value;
    ngx_oci_hooks_main_conf_t  *hmcf;

    if (hlcf->accounting != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        hlcf->accounting = 0;
        return NGX_CONF_OK;
    }

    hlcf->accounting = ngx_parse_time(&value[1], 1);

    if (hlcf->accounting == (time_t) NGX_ERROR || hlcf->accounting == 0) {
        return "is to be \"off\" or a time that is not 0";
    }

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_hooks_module);
    hmcf->accounting = 1;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_oci_accounting_init(ngx_conf_t *cf)
{
    ngx_str_t                   name;
    ngx_shm_zone_t             *zone;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_oci_accounting_log;

    ngx_str_set(&name, "nginx_oci_accounting");

    zone = ngx_shared_memory_add(cf, &name, NGX_OCI_ACCOUNT_ZONE,
                                 &ngx_http_oci_hooks_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_oci_accounting_init_zone;
    zone->data = zone;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_accounting_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_account_t  *table;

    ngx_oci_accounting_shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data || zone->shm.exists) {
        ngx_oci_accounting_table = ngx_oci_accounting_shpool->data;
        return NGX_OK;
    }

    table = ngx_slab_calloc(ngx_oci_accounting_shpool,
                            NGX_OCI_ACCOUNT_SETS * NGX_OCI_ACCOUNT_WAYS
                            * sizeof(ngx_oci_account_t));
    if (table == NULL) {
        return NGX_ERROR;
    }

    ngx_oci_accounting_shpool->data = table;
    ngx_oci_accounting_table = table;

    return NGX_OK;
}


/* in the log phase: the client has all of it */

static ngx_int_t
ngx_oci_accounting_log(ngx_http_request_t *r)
{
    uint64_t                   key;
    ngx_oci_ctx_t             *ctx;
    ngx_oci_hooks_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_hooks_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (hlcf->accounting <= 0 || ctx == NULL || ctx->registry == NULL
        || r->method != NGX_HTTP_GET
        || r->headers_out.status != NGX_HTTP_OK
        || (ctx->route.route != NGX_OCI_ROUTE_TAG
            && ctx->route.route != NGX_OCI_ROUTE_MANIFEST)
        || ngx_oci_core.pull_own(r) != NGX_OCI_PULL_NOT
        || ngx_oci_accounting_key(r, ctx, &key) != NGX_OK)
    {
        return NGX_OK;
    }

    switch (ctx->cache_status) {

    case NGX_OCI_CACHE_MISS:
    case NGX_OCI_CACHE_BYPASS:

        /* the registry has seen it */

        ngx_oci_accounting_set(key, ngx_time() + hlcf->accounting);
        return NGX_OK;

    case NGX_OCI_CACHE_HIT:
    case NGX_OCI_CACHE_JOIN:
    case NGX_OCI_CACHE_STALE:
    case NGX_OCI_CACHE_REVALIDATED:
        break;

    default:
        return NGX_OK;
    }

    if (!ngx_oci_accounting_due(key, hlcf->accounting)) {
        return NGX_OK;
    }

    if (ngx_oci_accounting_get(ctx, key) != NGX_OK) {
        ngx_oci_accounting_set(key, ngx_time() + NGX_OCI_ACCOUNT_AGAIN);
    }

    return NGX_OK;
}


/* an artifact: of which registry, repository and digest.  NGX_DECLINED: the
   answer doesn't say */

static ngx_int_t
ngx_oci_accounting_key(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    uint64_t *key)
{
    u_char            md[SHA256_DIGEST_LENGTH];
    SHA256_CTX        sha;
    ngx_table_elt_t  *h;

    h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                            "Docker-Content-Digest");
    if (h == NULL) {
        return NGX_DECLINED;
    }

    SHA256_Init(&sha);
    SHA256_Update(&sha, ctx->registry->name.data, ctx->registry->name.len);
    SHA256_Update(&sha, "@", 1);
    SHA256_Update(&sha, ctx->repository.data, ctx->repository.len);
    SHA256_Update(&sha, "@", 1);
    SHA256_Update(&sha, h->value.data, h->value.len);
    SHA256_Final(md, &sha);

    ngx_memcpy(key, md, sizeof(uint64_t));

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_accounting_due(uint64_t key, time_t interval)
{
    ngx_uint_t          due;
    ngx_oci_account_t  *account;

    ngx_shmtx_lock(&ngx_oci_accounting_shpool->mutex);

    account = ngx_oci_accounting_find(key);
    due = (account->key != key || account->due <= ngx_time());

    if (due) {
        account->key = key;
        account->due = ngx_time() + interval;
    }

    ngx_shmtx_unlock(&ngx_oci_accounting_shpool->mutex);

    return due;
}


static void
ngx_oci_accounting_set(uint64_t key, time_t due)
{
    ngx_oci_account_t  *account;

    ngx_shmtx_lock(&ngx_oci_accounting_shpool->mutex);

    account = ngx_oci_accounting_find(key);
    account->key = key;
    account->due = due;

    ngx_shmtx_unlock(&ngx_oci_accounting_shpool->mutex);
}


/* its place, or the one to be used for it: where the time came first */

static ngx_oci_account_t *
ngx_oci_accounting_find(uint64_t key)
{
    ngx_uint_t          i;
    ngx_oci_account_t  *set, *first;

    set = ngx_oci_accounting_table
          + key % NGX_OCI_ACCOUNT_SETS * NGX_OCI_ACCOUNT_WAYS;
    first = set;

    for (i = 0; i < NGX_OCI_ACCOUNT_WAYS; i++) {

        if (set[i].key == key) {
            return &set[i];
        }

        if (set[i].due < first->due) {
            first = &set[i];
        }
    }

    return first;
}


/*
 * By the name that the client used, with what the client's own pull would have
 * been made with.
 */

static ngx_int_t
ngx_oci_accounting_get(ngx_oci_ctx_t *ctx, uint64_t key)
{
    ngx_uint_t              down;
    ngx_oci_exchange_t     *ex;
    ngx_oci_account_get_t  *get;

    if (ngx_exiting || ngx_oci_accounting_n == NGX_OCI_ACCOUNT_MAX
        || ngx_oci_core.wait(ctx->registry, &ctx->repository,
                             &ctx->authorization, &down))
    {
        return NGX_DECLINED;
    }

    ex = ngx_oci_core.exchange_create(ctx->registry, ngx_cycle->log);
    if (ex == NULL) {
        return NGX_ERROR;
    }

    get = ngx_palloc(ex->pool, sizeof(ngx_oci_account_get_t));
    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//manifests/")
                                         + ctx->repository.len
                                         + ctx->route.reference.len);

    if (get == NULL || ex->uri.data == NULL
        || ngx_oci_accounting_copy(ex->pool, &ex->repository,
                                   &ctx->repository)
           != NGX_OK
        || ngx_oci_accounting_copy(ex->pool, &ex->authorization,
                                   &ctx->authorization)
           != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NGX_ERROR;
    }

    ex->uri.len = ngx_sprintf(ex->uri.data, "/v2/%V/manifests/%V",
                              &ctx->repository, &ctx->route.reference)
                  - ex->uri.data;

    get->key = key;

    ngx_str_set(&ex->accept, NGX_OCI_HOOK_ACCEPT);
    ex->method = NGX_HTTP_GET;
    ex->credentials = ctx->registry->credentials;
    ex->stored = ctx->registry->stored;
    ex->data = get;
    ex->header = ngx_oci_accounting_header;
    ex->buffer = ngx_oci_accounting_buffer;
    ex->received = ngx_oci_accounting_received;
    ex->done = ngx_oci_accounting_done;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_oci_accounting_n++;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_accounting_copy(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        ngx_str_set(dst, "");
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pool, src);
    dst->len = src->len;

    return dst->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_accounting_header(ngx_oci_exchange_t *ex)
{
    return (ex->in.status == NGX_HTTP_OK) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_accounting_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_account_get_t *get = ex->data;

    /* nobody wants it */

    *p = get->buffer;
    *size = NGX_OCI_ACCOUNT_BUFFER;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_accounting_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle)
{
    return (ex->received_bytes > NGX_OCI_MANIFEST_MAX) ? NGX_ERROR : NGX_OK;
}


static void
ngx_oci_accounting_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_account_get_t *get = ex->data;

    ngx_oci_accounting_n--;

    if (rc == NGX_OK) {
        return;
    }

    ngx_oci_accounting_set(get->key, ngx_time() + NGX_OCI_ACCOUNT_AGAIN);

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "a pull from \"%V\" was not made known to registry \"%V\", "
                  "its answer was %ui",
                  &ex->repository, &ex->registry->name, ex->in.status);
}
