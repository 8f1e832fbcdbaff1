
/*
 * Copyright (C) The nginx-oci authors
 *
 * The token dance (distribution-spec, "Token Authentication"): GET /v2/ for
 * a challenge where there is none yet, the registry's token service for a
 * token.
 */


#include "ngx_oci_hop.h"
#include "ngx_oci_auth.h"

#include <jansson.h>


#define NGX_OCI_AUTH_BODY         65536     /* bytes of a token's JSON */

/* seconds */

#define NGX_OCI_AUTH_TOKEN_MIN    60
#define NGX_OCI_AUTH_TOKEN_MAX    86400
#define NGX_OCI_AUTH_MARGIN       30


/* Owner: itself, ngx_oci_auth_finish() frees it; nobody can end it before */

typedef struct {
    ngx_queue_t               queue;        /* of all dances of the worker */
    ngx_queue_t               waiters;
    ngx_pool_t               *pool;
    ngx_oci_auth_key_t        key;
    ngx_str_t                 asked;        /* key.scope, or "" */
    ngx_str_t                 challenge;    /* the answer to GET /v2/ */
    ngx_uint_t                status;
    u_char                   *body;
    size_t                    len;          /* of body */
    ngx_event_t               event;        /* the end, without a hop */
} ngx_oci_auth_dance_t;


static ngx_oci_auth_dance_t *ngx_oci_auth_running(ngx_oci_auth_key_t *key);
static ngx_oci_auth_dance_t *ngx_oci_auth_create(ngx_oci_auth_key_t *key);
static ngx_int_t ngx_oci_auth_begin(ngx_oci_auth_dance_t *dance,
    ngx_str_t *challenge);
static ngx_int_t ngx_oci_auth_answer(ngx_oci_auth_dance_t *dance,
    ngx_str_t *challenge, ngx_uint_t ping, ngx_log_t *log);
static ngx_int_t ngx_oci_auth_basic(ngx_oci_auth_dance_t *dance,
    ngx_log_t *log);
static ngx_int_t ngx_oci_auth_ping(ngx_oci_auth_dance_t *dance);
static ngx_int_t ngx_oci_auth_ping_header(ngx_oci_hop_t *hop);
static void ngx_oci_auth_ping_done(ngx_oci_hop_t *hop, ngx_int_t rc);
static ngx_int_t ngx_oci_auth_token(ngx_oci_auth_dance_t *dance);
static ngx_int_t ngx_oci_auth_token_uri(ngx_oci_auth_dance_t *dance,
    ngx_pool_t *pool, ngx_str_t *path, ngx_str_t *service, ngx_str_t *uri);
static ngx_int_t ngx_oci_auth_token_header(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_auth_token_buffer(ngx_oci_hop_t *hop, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_auth_token_received(ngx_oci_hop_t *hop, size_t n,
    ngx_uint_t idle);
static void ngx_oci_auth_token_done(ngx_oci_hop_t *hop, ngx_int_t rc);
static ngx_int_t ngx_oci_auth_token_parse(ngx_oci_auth_dance_t *dance,
    ngx_log_t *log);
static json_t *ngx_oci_auth_token_text(json_t *root, const char *name,
    ngx_str_t *token);
static void ngx_oci_auth_event(ngx_event_t *ev);
static void ngx_oci_auth_finish(ngx_oci_auth_dance_t *dance, ngx_int_t rc);
static void ngx_oci_auth_free(ngx_oci_auth_dance_t *dance);


static ngx_queue_t  ngx_oci_auth_dances;     /* per process */


ngx_int_t
ngx_oci_auth_init_process(ngx_cycle_t *cycle)
{
    ngx_queue_init(&ngx_oci_auth_dances);

    return ngx_oci_auth_init_table(cycle);
}


ngx_int_t
ngx_oci_auth_challenge(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *repository,
    const char *actions, ngx_str_t *challenge, ngx_oci_auth_waiter_t *waiter)
{
    u_char              buf[NGX_OCI_AUTH_SCOPE];
    ngx_oci_auth_key_t  key;

    ngx_memzero(&key, sizeof(ngx_oci_auth_key_t));

    key.registry = registry;
    key.credentials = credentials;
    key.optional = (repository->len == 0);

    if (ngx_oci_auth_scope(&key.scope, buf, repository, actions) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_oci_auth_start(&key, challenge, waiter);
}


ngx_int_t
ngx_oci_auth_discover(ngx_oci_registry_t *registry,
    ngx_oci_auth_waiter_t *waiter)
{
    ngx_str_t           challenge;
    ngx_oci_auth_key_t  key;

    ngx_memzero(&key, sizeof(ngx_oci_auth_key_t));
    ngx_str_null(&challenge);

    ngx_str_set(&key.scope, "");
    key.registry = registry;
    key.discover = 1;

    return ngx_oci_auth_start(&key, &challenge, waiter);
}


void
ngx_oci_auth_leave(ngx_oci_auth_waiter_t *waiter)
{
    if (waiter->waiting) {
        waiter->waiting = 0;
        ngx_queue_remove(&waiter->queue);
    }
}


ngx_int_t
ngx_oci_auth_start(ngx_oci_auth_key_t *key, ngx_str_t *challenge,
    ngx_oci_auth_waiter_t *waiter)
{
    ngx_int_t              rc;
    ngx_oci_auth_dance_t  *dance;

    dance = ngx_oci_auth_running(key);

    if (dance == NULL) {
        dance = ngx_oci_auth_create(key);
        if (dance == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_oci_auth_begin(dance, challenge);

        if (rc == NGX_ERROR) {
            ngx_oci_auth_free(dance);
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            ngx_post_event(&dance->event, &ngx_posted_events);
        }

        ngx_queue_insert_head(&ngx_oci_auth_dances, &dance->queue);
    }

    waiter->waiting = 1;
    ngx_queue_insert_tail(&dance->waiters, &waiter->queue);

    return NGX_AGAIN;
}


static ngx_oci_auth_dance_t *
ngx_oci_auth_running(ngx_oci_auth_key_t *key)
{
    ngx_queue_t           *q;
    ngx_oci_auth_dance_t  *dance;

    for (q = ngx_queue_head(&ngx_oci_auth_dances);
         q != ngx_queue_sentinel(&ngx_oci_auth_dances);
         q = ngx_queue_next(q))
    {
        dance = ngx_queue_data(q, ngx_oci_auth_dance_t, queue);

        if (dance->key.registry == key->registry
            && dance->key.credentials == key->credentials
            && dance->key.discover == key->discover
            && dance->key.optional == key->optional
            && dance->key.scope.len == key->scope.len
            && ngx_memcmp(dance->key.scope.data, key->scope.data,
                          key->scope.len)
               == 0)
        {
            return dance;
        }
    }

    return NULL;
}


static ngx_oci_auth_dance_t *
ngx_oci_auth_create(ngx_oci_auth_key_t *key)
{
    ngx_pool_t            *pool;
    ngx_oci_auth_dance_t  *dance;

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    dance = ngx_pcalloc(pool, sizeof(ngx_oci_auth_dance_t));
    if (dance == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    dance->pool = pool;
    dance->key = *key;

    dance->event.handler = ngx_oci_auth_event;
    dance->event.data = dance;
    dance->event.log = ngx_cycle->log;

    ngx_queue_init(&dance->waiters);

    dance->key.scope.data = ngx_pnalloc(pool, key->scope.len + 1);
    if (dance->key.scope.data == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    ngx_memcpy(dance->key.scope.data, key->scope.data, key->scope.len);
    dance->asked = dance->key.scope;

    return dance;
}


/*
 * Here and in the functions below: NGX_OK: it is remembered;
 * NGX_AGAIN: a hop is under way, its done() goes on; NGX_ERROR.
 */

static ngx_int_t
ngx_oci_auth_begin(ngx_oci_auth_dance_t *dance, ngx_str_t *challenge)
{
    ngx_str_t                none;
    ngx_oci_auth_service_t  *service;

    if (challenge->len) {
        return ngx_oci_auth_answer(dance, challenge, 0, ngx_cycle->log);
    }

    service = ngx_oci_auth_service(dance->key.registry);

    if (service == NULL) {
        return ngx_oci_auth_ping(dance);
    }

    if (dance->key.discover) {
        return NGX_OK;
    }

    switch (service->kind) {

    case NGX_OCI_AUTH_NONE:
        ngx_str_set(&none, "");
        return ngx_oci_auth_remember(&dance->key, &dance->asked, "", &none,
                                     NGX_OCI_AUTH_NONE_VALID);

    case NGX_OCI_AUTH_BASIC:
        return ngx_oci_auth_basic(dance, ngx_cycle->log);
    }

    if (dance->key.optional) {
        ngx_str_set(&dance->asked, "");
    }

    return ngx_oci_auth_token(dance);
}


/*
 * Only the challenge of GET /v2/ tells that Basic is all that there is: on
 * other ways it is Harbor's answer to a token without the right.
 */

static ngx_int_t
ngx_oci_auth_answer(ngx_oci_auth_dance_t *dance, ngx_str_t *challenge,
    ngx_uint_t ping, ngx_log_t *log)
{
    ngx_int_t            rc;
    ngx_oci_challenge_t  ch;

    rc = ngx_oci_auth_parse(dance->key.registry, challenge, &ch, NGX_LOG_ERR,
                            log);

    if (rc == NGX_DECLINED) {
        return NGX_ERROR;
    }

    if (rc == NGX_DONE) {

        if (ping
            && ngx_oci_auth_set_service(dance->key.registry,
                                        NGX_OCI_AUTH_BASIC, NULL)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        return dance->key.discover ? NGX_OK : ngx_oci_auth_basic(dance, log);
    }

    if (ngx_oci_auth_set_service(dance->key.registry, NGX_OCI_AUTH_BEARER, &ch)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (dance->key.discover) {
        return NGX_OK;
    }

    if (dance->key.optional
        && (ch.scope.len == 0
            || ngx_strlcasestrn(ch.scope.data, ch.scope.data + ch.scope.len,
                                (u_char *) "registry:catalog:", 17 - 1)
               == NULL))
    {
        ngx_str_set(&dance->asked, "");
    }

    return ngx_oci_auth_token(dance);
}


static ngx_int_t
ngx_oci_auth_basic(ngx_oci_auth_dance_t *dance, ngx_log_t *log)
{
    if (dance->key.credentials == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "oci_registry \"%V\" asks for Basic credentials and "
                      "has none", &dance->key.registry->name);
        return NGX_ERROR;
    }

    return ngx_oci_auth_remember(&dance->key, &dance->asked, "",
                                 &dance->key.credentials->basic,
                                 NGX_OCI_AUTH_VALID);
}


static ngx_int_t
ngx_oci_auth_ping(ngx_oci_auth_dance_t *dance)
{
    ngx_oci_hop_t  *hop;

    hop = ngx_oci_hop_create(dance->key.registry, ngx_cycle->log);
    if (hop == NULL) {
        return NGX_ERROR;
    }

    hop->data = dance;
    hop->method = NGX_HTTP_GET;
    ngx_str_set(&hop->uri, "/v2/");
    hop->header = ngx_oci_auth_ping_header;
    hop->buffer = ngx_oci_auth_token_buffer;
    hop->received = ngx_oci_auth_token_received;
    hop->done = ngx_oci_auth_ping_done;

    return ngx_oci_hop_start(hop) == NGX_OK ? NGX_AGAIN : NGX_ERROR;
}


static ngx_int_t
ngx_oci_auth_ping_header(ngx_oci_hop_t *hop)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    dance->status = hop->in.status;

    if (hop->in.www_authenticate.len) {
        dance->challenge.data = ngx_pstrdup(dance->pool,
                                            &hop->in.www_authenticate);
        if (dance->challenge.data) {
            dance->challenge.len = hop->in.www_authenticate.len;
        }
    }

    /* the body is of no use */

    return NGX_ABORT;
}


static void
ngx_oci_auth_ping_done(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    ngx_str_t  none;

    if (dance->status == 0) {
        rc = (rc == NGX_BUSY) ? NGX_BUSY : NGX_ERROR;

    } else if (dance->status == NGX_HTTP_UNAUTHORIZED) {
        rc = ngx_oci_auth_answer(dance, &dance->challenge, 1, hop->log);

    } else if (dance->status >= 200 && dance->status < 300) {
        ngx_str_set(&none, "");

        rc = ngx_oci_auth_set_service(dance->key.registry, NGX_OCI_AUTH_NONE,
                                      NULL);

        if (rc == NGX_OK && !dance->key.discover) {
            rc = ngx_oci_auth_remember(&dance->key, &dance->asked, "", &none,
                                       NGX_OCI_AUTH_NONE_VALID);
        }

    } else {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream answers %ui to \"/v2/\"", dance->status);
        rc = NGX_ERROR;
    }

    if (rc != NGX_AGAIN) {
        ngx_oci_auth_finish(dance, rc);
    }
}


/* what the hop points at is in its own pool: the dance may end before it */

static ngx_int_t
ngx_oci_auth_token(ngx_oci_auth_dance_t *dance)
{
    ngx_str_t                realm;
    ngx_oci_hop_t           *hop;
    ngx_oci_url_t           *url;
    ngx_oci_auth_service_t  *service;

    service = ngx_oci_auth_service(dance->key.registry);
    if (service == NULL) {
        return NGX_ERROR;
    }

    hop = ngx_oci_hop_create(dance->key.registry, ngx_cycle->log);
    if (hop == NULL) {
        return NGX_ERROR;
    }

    url = ngx_palloc(hop->pool, sizeof(ngx_oci_url_t));
    realm.len = service->realm.len;
    realm.data = ngx_pstrdup(hop->pool, &service->realm);

    if (url == NULL || realm.data == NULL
        || ngx_oci_url_parse(&realm, url) != NGX_OK
        || ngx_oci_auth_token_uri(dance, hop->pool, &url->uri,
                                  &service->service, &hop->uri)
           != NGX_OK)
    {
        ngx_destroy_pool(hop->pool);
        return NGX_ERROR;
    }

    if (!ngx_oci_auth_own_origin(dance->key.registry, url)) {
        hop->url = url;
    }

    /* the realm's host is allowed: ngx_oci_auth_parse() */

    if (dance->key.credentials) {
        hop->authorization = dance->key.credentials->basic;
    }

    hop->data = dance;
    hop->method = NGX_HTTP_GET;
    ngx_str_set(&hop->accept, "application/json");
    hop->header = ngx_oci_auth_token_header;
    hop->buffer = ngx_oci_auth_token_buffer;
    hop->received = ngx_oci_auth_token_received;
    hop->done = ngx_oci_auth_token_done;

    dance->status = 0;

    return ngx_oci_hop_start(hop) == NGX_OK ? NGX_AGAIN : NGX_ERROR;
}


static ngx_int_t
ngx_oci_auth_token_uri(ngx_oci_auth_dance_t *dance, ngx_pool_t *pool,
    ngx_str_t *path, ngx_str_t *service, ngx_str_t *uri)
{
    u_char  *p, *q, *last, *scope, sep;

    uri->data = ngx_pnalloc(pool, path->len + sizeof("?service=") - 1
                                  + 3 * service->len
                                  + 2 * (sizeof("&scope=") - 1)
                                  + 3 * dance->asked.len);
    if (uri->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(uri->data, path->data, path->len);

    sep = '?';

    if (ngx_strlchr(path->data, path->data + path->len, '?')) {
        sep = (p[-1] == '?' || p[-1] == '&') ? 0 : '&';
    }

    if (service->len) {
        if (sep) {
            *p++ = sep;
        }

        p = ngx_cpymem(p, "service=", 8);
        p = (u_char *) ngx_escape_uri(p, service->data, service->len,
                                      NGX_ESCAPE_URI_COMPONENT);
        sep = '&';
    }

    /* a parameter a scope; there are two at most */

    q = dance->asked.data;
    last = q + dance->asked.len;

    while (q < last) {
        scope = q;

        q = ngx_strlchr(q, last, ' ');
        if (q == NULL) {
            q = last;
        }

        if (sep) {
            *p++ = sep;
        }

        p = ngx_cpymem(p, "scope=", 6);
        p = (u_char *) ngx_escape_uri(p, scope, q - scope,
                                      NGX_ESCAPE_URI_COMPONENT);
        sep = '&';
        q++;
    }

    uri->len = p - uri->data;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_auth_token_header(ngx_oci_hop_t *hop)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    dance->status = hop->in.status;

    if (hop->in.status != NGX_HTTP_OK) {
        return NGX_ABORT;
    }

    if (hop->in.content_length > NGX_OCI_AUTH_BODY
        || (hop->in.content_encoding.len
            && (hop->in.content_encoding.len != 8
                || ngx_strncasecmp(hop->in.content_encoding.data,
                                   (u_char *) "identity", 8)
                   != 0)))
    {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "token service sent too long, or an encoded response");
        return NGX_ABORT;
    }

    dance->len = 0;
    dance->body = ngx_palloc(dance->pool, NGX_OCI_AUTH_BODY + 1);

    return dance->body ? NGX_OK : NGX_ABORT;
}


static ngx_int_t
ngx_oci_auth_token_buffer(ngx_oci_hop_t *hop, u_char **p, size_t *size)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    if (dance->body == NULL || dance->len > NGX_OCI_AUTH_BODY) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "token service sent too long response");
        return NGX_ERROR;
    }

    *p = dance->body + dance->len;
    *size = NGX_OCI_AUTH_BODY + 1 - dance->len;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_auth_token_received(ngx_oci_hop_t *hop, size_t n, ngx_uint_t idle)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    dance->len += n;

    return NGX_OK;
}


static void
ngx_oci_auth_token_done(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    ngx_oci_auth_dance_t *dance = hop->data;

    ngx_oci_auth_service_t  *service;

    if (rc == NGX_OK) {
        rc = ngx_oci_auth_token_parse(dance, hop->log);

    } else if (rc != NGX_BUSY) {
        rc = NGX_ERROR;
    }

    if (dance->status == NGX_HTTP_UNAUTHORIZED
        || dance->status == NGX_HTTP_FORBIDDEN)
    {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "token service answers %ui to the %s of oci_registry "
                      "\"%V\" for scope \"%V\"", dance->status,
                      dance->key.credentials ? "credentials"
                                             : "anonymous request",
                      &dance->key.registry->name, &dance->asked);

    } else if (dance->status && dance->status != NGX_HTTP_OK) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "token service of oci_registry \"%V\" answers %ui",
                      &dance->key.registry->name, dance->status);

        /* it may be at another place by now */

        service = ngx_oci_auth_service(dance->key.registry);
        if (service) {
            service->kind = NGX_OCI_AUTH_UNKNOWN;
        }
    }

    ngx_oci_auth_finish(dance, rc);
}


static ngx_int_t
ngx_oci_auth_token_parse(ngx_oci_auth_dance_t *dance, ngx_log_t *log)
{
    json_t        *root, *token, *expires;
    ngx_int_t      rc;
    ngx_str_t      text;
    json_int_t     valid;
    json_error_t   err;

    if (dance->len > NGX_OCI_AUTH_BODY) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "token service sent too long response");
        return NGX_ERROR;
    }

    root = json_loadb((char *) dance->body, dance->len, 0, &err);

    /* err quotes the text: it is not logged */

    if (root == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "token service sent invalid JSON");
        return NGX_ERROR;
    }

    token = ngx_oci_auth_token_text(root, "token", &text);

    if (token == NULL) {
        token = ngx_oci_auth_token_text(root, "access_token", &text);
    }

    if (token == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "token service sent no token that can be used");
        rc = NGX_ERROR;
        goto done;
    }

    expires = json_object_get(root, "expires_in");
    valid = json_is_integer(expires) ? json_integer_value(expires) : 0;

    valid = ngx_max(valid, NGX_OCI_AUTH_TOKEN_MIN);
    valid = ngx_min(valid, NGX_OCI_AUTH_TOKEN_MAX);
    valid -= ngx_min(valid / 10, NGX_OCI_AUTH_MARGIN);

    rc = ngx_oci_auth_remember(&dance->key, &dance->asked, "Bearer ", &text,
                               (ngx_uint_t) valid);

    ngx_explicit_memzero(text.data, text.len);

done:

    json_decref(root);

    return rc;
}


/* NULL: there is none, or not one for a header */

static json_t *
ngx_oci_auth_token_text(json_t *root, const char *name, ngx_str_t *token)
{
    size_t   i;
    json_t  *value;

    value = json_object_get(root, name);

    if (!json_is_string(value)) {
        return NULL;
    }

    token->data = (u_char *) json_string_value(value);
    token->len = json_string_length(value);

    if (token->len == 0
        || token->len > NGX_OCI_AUTHORIZATION_MAX - (sizeof("Bearer ") - 1))
    {
        return NULL;
    }

    for (i = 0; i < token->len; i++) {
        if (token->data[i] <= 0x20 || token->data[i] >= 0x7f) {
            return NULL;
        }
    }

    return value;
}


static void
ngx_oci_auth_event(ngx_event_t *ev)
{
    ngx_oci_auth_finish(ev->data, NGX_OK);
}


static void
ngx_oci_auth_finish(ngx_oci_auth_dance_t *dance, ngx_int_t rc)
{
    ngx_queue_t             list, *q;
    ngx_oci_auth_waiter_t  *waiter;

    ngx_queue_remove(&dance->queue);
    ngx_queue_init(&list);

    if (!ngx_queue_empty(&dance->waiters)) {
        ngx_queue_add(&list, &dance->waiters);
    }

    ngx_oci_auth_free(dance);

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_auth_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data, rc);
    }
}


static void
ngx_oci_auth_free(ngx_oci_auth_dance_t *dance)
{
    if (dance->body) {
        ngx_explicit_memzero(dance->body, NGX_OCI_AUTH_BODY + 1);
    }

    ngx_destroy_pool(dance->pool);
}
