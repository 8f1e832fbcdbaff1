
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a worker remembers for its upstream authentication: values, in memory
 * and nowhere else, and the token services; and which of those it may ask.
 */


#include "ngx_oci_auth.h"


#define NGX_OCI_AUTH_BUCKETS      256
#define NGX_OCI_AUTH_VALUES       1024      /* remembered by a worker */
#define NGX_OCI_AUTH_REALM        4096      /* bytes, with the service */


static void ngx_oci_auth_forget(ngx_oci_auth_value_t *v);
static ngx_uint_t ngx_oci_auth_own(ngx_oci_registry_t *registry,
    ngx_oci_url_t *url, ngx_uint_t origin);


ngx_str_t  ngx_oci_auth_catalog = ngx_string("registry:catalog:*");


/* per process */

static ngx_queue_t              ngx_oci_auth_buckets[NGX_OCI_AUTH_BUCKETS];
static ngx_queue_t              ngx_oci_auth_lru;
static ngx_uint_t               ngx_oci_auth_count;
static ngx_oci_auth_service_t  *ngx_oci_auth_services;
static ngx_uint_t               ngx_oci_auth_nservices;


ngx_int_t
ngx_oci_auth_init_table(ngx_cycle_t *cycle)
{
    ngx_uint_t            i;
    ngx_oci_main_conf_t  *omcf;

    for (i = 0; i < NGX_OCI_AUTH_BUCKETS; i++) {
        ngx_queue_init(&ngx_oci_auth_buckets[i]);
    }

    ngx_queue_init(&ngx_oci_auth_lru);

    omcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_oci_module);

    if (omcf == NULL || omcf->registries.nelts == 0) {
        return NGX_OK;
    }

    ngx_oci_auth_nservices = omcf->registries.nelts;
    ngx_oci_auth_services = ngx_calloc(ngx_oci_auth_nservices
                                       * sizeof(ngx_oci_auth_service_t),
                                       cycle->log);

    return ngx_oci_auth_services ? NGX_OK : NGX_ERROR;
}


/* at the worker's end: nothing asks any more */

void
ngx_oci_auth_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t    i;
    ngx_queue_t  *q;

    if (ngx_oci_auth_lru.next == NULL) {
        return;
    }

    while (!ngx_queue_empty(&ngx_oci_auth_lru)) {
        q = ngx_queue_head(&ngx_oci_auth_lru);
        ngx_oci_auth_forget(ngx_queue_data(q, ngx_oci_auth_value_t, lru));
    }

    for (i = 0; i < ngx_oci_auth_nservices; i++) {
        if (ngx_oci_auth_services[i].realm.data) {
            ngx_free(ngx_oci_auth_services[i].realm.data);
        }
    }

    if (ngx_oci_auth_services) {
        ngx_free(ngx_oci_auth_services);
    }

    ngx_oci_auth_services = NULL;
    ngx_oci_auth_nservices = 0;
}


ngx_int_t
ngx_oci_auth_scope(ngx_str_t *scope, u_char *buf, ngx_str_t *repository,
    const char *actions)
{
    u_char  *p;

    if (repository->len == 0) {
        *scope = ngx_oci_auth_catalog;
        return NGX_OK;
    }

    p = ngx_snprintf(buf, NGX_OCI_AUTH_SCOPE, "repository:%V:%s", repository,
                     actions);

    scope->data = buf;
    scope->len = p - buf;

    return scope->len < NGX_OCI_AUTH_SCOPE ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_auth_lookup(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *repository,
    const char *actions, ngx_pool_t *pool, ngx_str_t *value)
{
    u_char                 buf[NGX_OCI_AUTH_SCOPE];
    ngx_str_t              scope;
    ngx_oci_auth_value_t  *v;

    if (ngx_oci_auth_scope(&scope, buf, repository, actions) != NGX_OK) {
        return NGX_DECLINED;
    }

    v = ngx_oci_auth_find(registry, credentials, &scope);

    if (v == NULL && repository->len == 0) {

        /* no challenge named the catalog */

        ngx_str_set(&scope, "");
        v = ngx_oci_auth_find(registry, credentials, &scope);
    }

    return v ? ngx_oci_auth_copy(v, pool, value) : NGX_DECLINED;
}


ngx_oci_auth_value_t *
ngx_oci_auth_find(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *scope)
{
    uint32_t               hash;
    ngx_queue_t           *q, *bucket;
    ngx_oci_auth_value_t  *v;

    hash = ngx_murmur_hash2(scope->data, scope->len);
    bucket = &ngx_oci_auth_buckets[hash % NGX_OCI_AUTH_BUCKETS];

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        v = ngx_queue_data(q, ngx_oci_auth_value_t, bucket);

        if (v->registry != registry
            || v->credentials != credentials
            || v->scope.len != scope->len
            || ngx_memcmp(v->scope.data, scope->data, scope->len) != 0)
        {
            continue;
        }

        if ((ngx_msec_int_t) (v->expires - ngx_current_msec) <= 0) {
            ngx_oci_auth_forget(v);
            return NULL;
        }

        ngx_queue_remove(&v->lru);
        ngx_queue_insert_head(&ngx_oci_auth_lru, &v->lru);

        return v;
    }

    return NULL;
}


ngx_int_t
ngx_oci_auth_copy(ngx_oci_auth_value_t *v, ngx_pool_t *pool, ngx_str_t *value)
{
    if (v->value.len == 0) {
        ngx_str_null(value);
        return NGX_OK;
    }

    value->len = v->value.len;
    value->data = ngx_pstrdup(pool, &v->value);

    return value->data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_auth_remember(ngx_oci_auth_key_t *key, ngx_str_t *scope,
    const char *scheme, ngx_str_t *text, ngx_uint_t valid)
{
    u_char                *p;
    size_t                 size;
    uint32_t               hash;
    ngx_queue_t           *q;
    ngx_oci_auth_value_t  *v;

    v = ngx_oci_auth_find(key->registry, key->credentials, scope);
    if (v) {
        ngx_oci_auth_forget(v);
    }

    if (ngx_oci_auth_count >= NGX_OCI_AUTH_VALUES) {
        q = ngx_queue_last(&ngx_oci_auth_lru);
        ngx_oci_auth_forget(ngx_queue_data(q, ngx_oci_auth_value_t, lru));
    }

    size = sizeof(ngx_oci_auth_value_t) + scope->len
           + ngx_strlen(scheme) + text->len;

    v = ngx_alloc(size, ngx_cycle->log);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->registry = key->registry;
    v->credentials = key->credentials;
    v->expires = ngx_current_msec + valid * 1000;
    v->size = size;

    p = (u_char *) v + sizeof(ngx_oci_auth_value_t);

    v->scope.data = p;
    v->scope.len = scope->len;
    p = ngx_cpymem(p, scope->data, scope->len);

    v->value.data = p;
    p = ngx_cpymem(p, scheme, ngx_strlen(scheme));
    p = ngx_cpymem(p, text->data, text->len);
    v->value.len = p - v->value.data;

    hash = ngx_murmur_hash2(v->scope.data, v->scope.len);

    ngx_queue_insert_head(&ngx_oci_auth_buckets[hash % NGX_OCI_AUTH_BUCKETS],
                          &v->bucket);
    ngx_queue_insert_head(&ngx_oci_auth_lru, &v->lru);
    ngx_oci_auth_count++;

    return NGX_OK;
}


void
ngx_oci_auth_refused(ngx_oci_registry_t *registry, ngx_str_t *value)
{
    ngx_queue_t           *q;
    ngx_oci_auth_value_t  *v;

    if (value->len == 0) {
        return;
    }

    for (q = ngx_queue_head(&ngx_oci_auth_lru);
         q != ngx_queue_sentinel(&ngx_oci_auth_lru);
         q = ngx_queue_next(q))
    {
        v = ngx_queue_data(q, ngx_oci_auth_value_t, lru);

        if (v->registry == registry
            && v->value.len == value->len
            && ngx_memcmp(v->value.data, value->data, value->len) == 0)
        {
            ngx_oci_auth_forget(v);
            return;
        }
    }
}


static void
ngx_oci_auth_forget(ngx_oci_auth_value_t *v)
{
    ngx_queue_remove(&v->bucket);
    ngx_queue_remove(&v->lru);
    ngx_oci_auth_count--;

    ngx_explicit_memzero(v, v->size);
    ngx_free(v);
}


ngx_oci_auth_service_t *
ngx_oci_auth_service(ngx_oci_registry_t *registry)
{
    ngx_oci_auth_service_t  *service;

    if (registry->index >= ngx_oci_auth_nservices) {
        return NULL;
    }

    service = &ngx_oci_auth_services[registry->index];

    if (service->registry != registry
        || service->kind == NGX_OCI_AUTH_UNKNOWN
        || (ngx_msec_int_t) (service->expires - ngx_current_msec) <= 0)
    {
        return NULL;
    }

    return service;
}


ngx_int_t
ngx_oci_auth_set_service(ngx_oci_registry_t *registry, ngx_uint_t kind,
    ngx_oci_challenge_t *ch)
{
    u_char                  *p;
    ngx_oci_auth_service_t  *service;

    if (registry->index >= ngx_oci_auth_nservices) {
        return NGX_ERROR;
    }

    service = &ngx_oci_auth_services[registry->index];
    p = NULL;

    if (kind == NGX_OCI_AUTH_BEARER) {
        p = ngx_alloc(ch->realm.len + ch->service.len, ngx_cycle->log);
        if (p == NULL) {
            return NGX_ERROR;
        }
    }

    if (service->realm.data) {
        ngx_free(service->realm.data);
    }

    ngx_memzero(service, sizeof(ngx_oci_auth_service_t));

    service->registry = registry;
    service->kind = kind;
    service->expires = ngx_current_msec
                       + 1000 * (kind == NGX_OCI_AUTH_NONE
                                 ? NGX_OCI_AUTH_NONE_VALID
                                 : NGX_OCI_AUTH_VALID);

    if (kind == NGX_OCI_AUTH_BEARER) {
        service->realm.data = p;
        service->realm.len = ch->realm.len;
        p = ngx_cpymem(p, ch->realm.data, ch->realm.len);

        if (ch->service.len) {
            service->service.data = p;
            service->service.len = ch->service.len;
            ngx_memcpy(p, ch->service.data, ch->service.len);
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_auth_parse(ngx_oci_registry_t *registry, ngx_str_t *challenge,
    ngx_oci_challenge_t *ch, ngx_uint_t level, ngx_log_t *log)
{
    ngx_oci_url_t  url;

    if (ngx_oci_challenge_parse(challenge, ch) != NGX_OK) {
        ngx_log_error(level, log, 0,
                      "oci_registry \"%V\" sent no challenge that is known",
                      &registry->name);
        return NGX_DECLINED;
    }

    if (ch->scheme.len == 5) {
        return NGX_DONE;
    }

    if (ch->realm.len + ch->service.len > NGX_OCI_AUTH_REALM
        || ngx_oci_url_parse(&ch->realm, &url) != NGX_OK || !url.absolute)
    {
        ngx_log_error(level, log, 0,
                      "oci_registry \"%V\" sent an invalid realm",
                      &registry->name);
        return NGX_DECLINED;
    }

    if (url.scheme.len == 4 && registry->ssl) {
        ngx_log_error(level, log, 0,
                      "oci_registry \"%V\" is called by https, its token "
                      "service \"%V\" by http is not used",
                      &registry->name, &url.authority);
        return NGX_DECLINED;
    }

    if (!ngx_oci_auth_own(registry, &url, 0)
        && !ngx_oci_auth_host_allowed(registry->realm_allow, &url))
    {
        ngx_log_error(level, log, 0,
                      "token service \"%V\" is not on the registry's own "
                      "host and port, it is not used without \"realm_allow "
                      "%V\" in oci_registry \"%V\"", &url.authority,
                      &url.authority, &registry->name);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_oci_auth_host_allowed(ngx_array_t *hosts, ngx_oci_url_t *url)
{
    ngx_uint_t       i;
    ngx_oci_host_t  *host;

    if (hosts == NULL) {
        return 0;
    }

    host = hosts->elts;

    for (i = 0; i < hosts->nelts; i++) {

        if (host[i].host.len == url->host.len
            && (host[i].port == 0 || host[i].port == url->port)
            && ngx_strncasecmp(host[i].host.data, url->host.data,
                               url->host.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_oci_auth_own_origin(ngx_oci_registry_t *registry, ngx_oci_url_t *url)
{
    return ngx_oci_auth_own(registry, url, 1);
}


/*
 * Is it the registry's own host, at the registry's port or the scheme's
 * default one?  Whatever else listens there may be anybody's.  origin: scheme
 * and port have to be the registry's.
 */

static ngx_uint_t
ngx_oci_auth_own(ngx_oci_registry_t *registry, ngx_oci_url_t *url,
    ngx_uint_t origin)
{
    u_char         buf[sizeof("https://") + 512];
    ngx_str_t      text[3];
    ngx_uint_t     i;
    ngx_oci_url_t  own;

    text[0] = registry->host;
    text[1] = registry->public_url;
    text[2] = registry->authority;

    for (i = 0; i < 3; i++) {

        if (text[i].len == 0 || text[i].len > 512) {
            continue;
        }

        if (i != 1) {
            text[i].len = ngx_sprintf(buf, "%V://%V", &registry->scheme,
                                      &text[i])
                          - buf;
            text[i].data = buf;
        }

        if (ngx_oci_url_parse(&text[i], &own) != NGX_OK || !own.absolute
            || own.host.len != url->host.len
            || ngx_strncasecmp(own.host.data, url->host.data, own.host.len)
               != 0)
        {
            continue;
        }

        if (own.port == url->port
            && (!origin || own.scheme.len == url->scheme.len))
        {
            return 1;
        }

        if (!origin && url->port == ((url->scheme.len == 5) ? 443 : 80)) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_oci_auth_realm(ngx_oci_registry_t *registry, ngx_pool_t *pool,
    ngx_str_t *realm)
{
    ngx_oci_auth_service_t  *service;

    service = ngx_oci_auth_service(registry);

    if (service == NULL) {
        return NGX_DECLINED;
    }

    if (service->kind != NGX_OCI_AUTH_BEARER) {
        return NGX_DONE;
    }

    realm->len = service->realm.len;
    realm->data = ngx_pstrdup(pool, &service->realm);

    return realm->data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_auth_learn(ngx_oci_registry_t *registry, ngx_str_t *challenge,
    ngx_oci_challenge_t *ch, ngx_log_t *log)
{
    if (ngx_oci_auth_parse(registry, challenge, ch, NGX_LOG_WARN, log)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    (void) ngx_oci_auth_set_service(registry, NGX_OCI_AUTH_BEARER, ch);

    return NGX_OK;
}
