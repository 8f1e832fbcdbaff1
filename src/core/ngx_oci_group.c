
/*
 * Copyright (C) The nginx-oci authors
 *
 * An upstream{} that registries name, or that was made for one.  What the
 * core's balancers and keep-alive do there is wrapped: they know servers by
 * their addresses only.
 *
 * A server that took a request and did not answer it in time, or not well, is
 * not counted as failed: a client may choose what is asked for, and one slow
 * place would turn all of the registry off.  And a TLS connection that was
 * kept is for whoever verified it: not for another registry, nor for a
 * proxy_pass, to the same servers; likewise sessions.
 */


#include "ngx_oci_hop.h"
#include "ngx_oci_health.h"


typedef struct {
    ngx_http_upstream_init_peer_pt      init;
} ngx_oci_group_conf_t;


/* Owner: the request, in whose pool it is */

typedef struct {
    ngx_http_upstream_t                *upstream;
    ngx_oci_registry_t                 *registry;   /* NULL: not one's */
    void                               *data;       /* of those below */
    ngx_event_get_peer_pt               get;
    ngx_event_free_peer_pt              free;
#if (NGX_HTTP_SSL)
    ngx_event_set_peer_session_pt       set_session;
    ngx_event_save_peer_session_pt      save_session;
#endif
} ngx_oci_group_peer_t;


static const char *ngx_oci_group_differs(ngx_oci_registry_t *a,
    ngx_oci_registry_t *b);
static void ngx_oci_group_wrap(ngx_array_t *array);
static ngx_int_t ngx_oci_group_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_oci_registry_t *ngx_oci_group_registry(ngx_http_request_t *r);
static ngx_int_t ngx_oci_group_get(ngx_peer_connection_t *pc, void *data);
static void ngx_oci_group_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
#if (NGX_HTTP_SSL)
static ngx_uint_t ngx_oci_group_foreign(ngx_oci_group_peer_t *gp,
    ngx_connection_t *c);
static ngx_int_t ngx_oci_group_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_oci_group_save_session(ngx_peer_connection_t *pc,
    void *data);


/* whose they are: the registry */

static int  ngx_oci_group_connection_index = -1;
static int  ngx_oci_group_session_index = -1;
#endif


/*
 * Kept connections would be torn down by turns, so it is refused: two https
 * registries that trust different servers in one upstream{}.
 */

char *
ngx_oci_group_check(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    const char           *what;
    ngx_uint_t            i;
    ngx_oci_registry_t  **other;
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    other = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {

        if (other[i] == registry || registry->upstream == NULL
            || other[i]->upstream != registry->upstream)
        {
            continue;
        }

        what = ngx_oci_group_differs(registry, other[i]);

        if (what) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "oci_registry \"%V\" has another %s than "
                               "\"%V\", whose upstream \"%V\" it names: "
                               "each needs an upstream of its own",
                               &registry->name, what, &other[i]->name,
                               &registry->group);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* NULL: they check the same */

static const char *
ngx_oci_group_differs(ngx_oci_registry_t *a, ngx_oci_registry_t *b)
{
#if (NGX_HTTP_SSL)

    ngx_str_t  *an, *bn;

    if (a->ssl != b->ssl) {
        return "scheme";
    }

    if (!a->ssl) {
        return NULL;
    }

    an = &a->conf.ssl_name->value;
    bn = &b->conf.ssl_name->value;

    if (an->len != bn->len
        || ngx_strncasecmp(an->data, bn->data, an->len) != 0)
    {
        return "\"host\"";
    }

    if (a->ssl_verify != b->ssl_verify) {
        return "\"ssl_verify\"";
    }

    if (a->ssl_verify
        && (a->trusted_certificate.len != b->trusted_certificate.len
            || ngx_memcmp(a->trusted_certificate.data,
                          b->trusted_certificate.data,
                          a->trusted_certificate.len)
               != 0))
    {
        return "\"trusted_certificate\"";
    }

#endif

    return NULL;
}


void *
ngx_oci_group_create_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_oci_group_conf_t));
}


ngx_int_t
ngx_oci_group_init(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf)
{
#if (NGX_HTTP_SSL)

    if (ngx_oci_group_session_index == -1) {
        ngx_oci_group_connection_index = SSL_get_ex_new_index(0, NULL, NULL,
                                                              NULL, NULL);
        ngx_oci_group_session_index = SSL_SESSION_get_ex_new_index(0, NULL,
                                                          NULL, NULL, NULL);

        if (ngx_oci_group_connection_index == -1
            || ngx_oci_group_session_index == -1)
        {
            ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                          "SSL_get_ex_new_index() failed");
            return NGX_ERROR;
        }
    }

#endif

    ngx_oci_group_wrap(&omcf->registries);
    ngx_oci_group_wrap(&omcf->endpoints);

    return NGX_OK;
}


static void
ngx_oci_group_wrap(ngx_array_t *array)
{
    ngx_uint_t                     i;
    ngx_oci_registry_t           **registries;
    ngx_oci_group_conf_t          *gcf;
    ngx_http_upstream_srv_conf_t  *us;

    registries = array->elts;

    for (i = 0; i < array->nelts; i++) {

        us = registries[i]->upstream;

        if (us == NULL || us->peer.init == ngx_oci_group_init_peer) {
            continue;
        }

        /* one that no upstream{} is keeps no connections, but TLS sessions,
           also of those who trust others */

        if (us->srv_conf == NULL) {
            registries[i]->conf.ssl_session_reuse = 0;
            continue;
        }

        gcf = ngx_http_conf_upstream_srv_conf(us, ngx_http_oci_module);

        gcf->init = us->peer.init;
        us->peer.init = ngx_oci_group_init_peer;
    }
}


static ngx_int_t
ngx_oci_group_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t   *u;
    ngx_oci_group_conf_t  *gcf;
    ngx_oci_group_peer_t  *gp;

    gcf = ngx_http_conf_upstream_srv_conf(us, ngx_http_oci_module);

    gp = ngx_palloc(r->pool, sizeof(ngx_oci_group_peer_t));
    if (gp == NULL) {
        return NGX_ERROR;
    }

    if (gcf->init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    u = r->upstream;

    gp->upstream = u;
    gp->registry = ngx_oci_group_registry(r);
    gp->data = u->peer.data;
    gp->get = u->peer.get;
    gp->free = u->peer.free;

    u->peer.data = gp;
    u->peer.get = ngx_oci_group_get;
    u->peer.free = ngx_oci_group_free;

#if (NGX_HTTP_SSL)
    gp->set_session = u->peer.set_session;
    gp->save_session = u->peer.save_session;

    u->peer.set_session = ngx_oci_group_set_session;
    u->peer.save_session = ngx_oci_group_save_session;
#endif

    return NGX_OK;
}


/* whose request it is: a hop's, or one that oci_pass or oci_token pass on */

static ngx_oci_registry_t *
ngx_oci_group_registry(ngx_http_request_t *r)
{
    ngx_oci_ctx_t       *ctx;
    ngx_oci_hop_t       *hop;
    ngx_oci_loc_conf_t  *olcf;

    hop = ngx_oci_hop_of(r);

    if (hop) {
        return hop->registry;
    }

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    if (olcf->token) {
        return olcf->token->registry;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    return ctx ? ctx->registry : NULL;
}


static ngx_int_t
ngx_oci_group_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    ngx_int_t  rc;

    rc = gp->get(pc, gp->data);

#if (NGX_HTTP_SSL)

    if (rc == NGX_DONE && pc->connection
        && ngx_oci_group_foreign(gp, pc->connection))
    {
        if (pc->connection->ssl) {
            pc->connection->ssl->no_wait_shutdown = 1;
            pc->connection->ssl->no_send_shutdown = 1;

            (void) ngx_ssl_shutdown(pc->connection);
        }

        if (pc->connection->pool) {
            ngx_destroy_pool(pc->connection->pool);
        }

        ngx_close_connection(pc->connection);

        /* the server that was chosen is connected to */

        pc->connection = NULL;
        pc->cached = 0;

        return NGX_OK;
    }

#endif

    return rc;
}


static void
ngx_oci_group_free(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    ngx_oci_group_peer_t *gp = data;

    ngx_http_upstream_t  *u;

    u = gp->upstream;

    if ((state & NGX_PEER_FAILED) && !ngx_oci_health_unconnected(u)) {

        /* the connection isn't kept all the same */

        u->keepalive = 0;
        state = NGX_PEER_NEXT;
    }

#if (NGX_HTTP_SSL)

    if (pc->connection && pc->connection->ssl
        && SSL_set_ex_data(pc->connection->ssl->connection,
                           ngx_oci_group_connection_index, gp->registry)
           == 0)
    {
        u->keepalive = 0;
    }

#endif

    gp->free(pc, gp->data, state);
}


#if (NGX_HTTP_SSL)

static ngx_uint_t
ngx_oci_group_foreign(ngx_oci_group_peer_t *gp, ngx_connection_t *c)
{
    if (c->ssl == NULL || !gp->upstream->ssl) {
        return c->ssl != NULL || gp->upstream->ssl;
    }

    return SSL_get_ex_data(c->ssl->connection, ngx_oci_group_connection_index)
           != gp->registry;
}


/* of sessions that lie in a "zone" nobody knows whose they are: not used */

static ngx_int_t
ngx_oci_group_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    ngx_int_t           rc;
    SSL                *ssl;
    ngx_ssl_session_t  *session;

    rc = gp->set_session(pc, gp->data);

    ssl = pc->connection->ssl->connection;
    session = SSL_get_session(ssl);

    if (rc == NGX_OK && session
        && SSL_SESSION_get_ex_data(session, ngx_oci_group_session_index)
           != gp->registry)
    {
        return SSL_set_session(ssl, NULL) ? NGX_OK : NGX_ERROR;
    }

    return rc;
}


static void
ngx_oci_group_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    ngx_ssl_session_t  *session;

    session = ngx_ssl_get0_session(pc->connection);

    if (session == NULL
        || SSL_SESSION_set_ex_data(session, ngx_oci_group_session_index,
                                   gp->registry)
           == 0)
    {
        return;
    }

    gp->save_session(pc, gp->data);
}

#endif
