
/*
 * Copyright (C) The nginx-oci authors
 *
 * An upstream{} that registries name, or that was made for one.  What the
 * core's balancers do there is wrapped.
 *
 * A server that took a request and did not answer it in time, or not well, is
 * not counted as failed: a client may choose what is asked for, and one slow
 * place would turn all of the registry off.
 */


#include "ngx_oci_hop.h"
#include "ngx_oci_health.h"


typedef struct {
    ngx_http_upstream_init_peer_pt      init;
} ngx_oci_group_conf_t;


/* Owner: the request, in whose pool it is */

typedef struct {
    ngx_http_upstream_t                *upstream;
    void                               *data;       /* of those below */
    ngx_event_get_peer_pt               get;
    ngx_event_free_peer_pt              free;
#if (NGX_HTTP_SSL)
    ngx_event_set_peer_session_pt       set_session;
    ngx_event_save_peer_session_pt      save_session;
#endif
} ngx_oci_group_peer_t;


static ngx_int_t ngx_oci_group_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_oci_group_get(ngx_peer_connection_t *pc, void *data);
static void ngx_oci_group_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
#if (NGX_HTTP_SSL)
static ngx_int_t ngx_oci_group_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_oci_group_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif


void *
ngx_oci_group_create_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_oci_group_conf_t));
}


ngx_int_t
ngx_oci_group_init(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf)
{
    ngx_uint_t                     i;
    ngx_oci_registry_t           **registries;
    ngx_oci_group_conf_t          *gcf;
    ngx_http_upstream_srv_conf_t  *us;

    registries = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {

        us = registries[i]->upstream;

        if (us == NULL || us->peer.init == ngx_oci_group_init_peer) {
            continue;
        }

        gcf = ngx_http_conf_upstream_srv_conf(us, ngx_http_oci_module);

        gcf->init = us->peer.init;
        us->peer.init = ngx_oci_group_init_peer;
    }

    return NGX_OK;
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


static ngx_int_t
ngx_oci_group_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    return gp->get(pc, gp->data);
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

    gp->free(pc, gp->data, state);
}


#if (NGX_HTTP_SSL)

static ngx_int_t
ngx_oci_group_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    return gp->set_session(pc, gp->data);
}


static void
ngx_oci_group_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_group_peer_t *gp = data;

    gp->save_session(pc, gp->data);
}

#endif
