
/*
 * Copyright (C) The nginx-oci authors
 *
 * What exchanges tell of a registry's state, and probes: while a breaker is
 * open, GET /v2/ is asked for now and then, without credentials, by one
 * worker at a time, of those that have seen it open, and not by a client's
 * request, which would wait for it (but for one that comes after nobody has
 * looked for a while).  Any answer will do.
 */


#include "ngx_oci_hop.h"
#include "ngx_oci_health.h"


#define NGX_OCI_HEALTH_TICK   250       /* ms */
#define NGX_OCI_HEALTH_SPARE  100       /* ms between two probes */


/* Owner: the cycle, in whose pool it is; one a registry in a worker */

typedef struct {
    ngx_oci_registry_t     *registry;
    ngx_oci_hop_t          *hop;        /* NULL: none is under way */
    ngx_msec_t              end;        /* of hop */
    ngx_event_t             timer;
    ngx_connection_t        dummy;      /* for the timer's debug lines */
    u_char                  buf[512];   /* of a body that nobody wants */
} ngx_oci_health_watch_t;


static void ngx_oci_health_tick(ngx_event_t *ev);
static void ngx_oci_health_probe(ngx_oci_health_watch_t *watch);
static ngx_int_t ngx_oci_health_probe_header(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_health_probe_buffer(ngx_oci_hop_t *hop, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_health_probe_received(ngx_oci_hop_t *hop, size_t n,
    ngx_uint_t idle);
static void ngx_oci_health_probe_done(ngx_oci_hop_t *hop, ngx_int_t rc);


ngx_int_t
ngx_oci_health_hop_begin(ngx_oci_hop_t *hop)
{
    ngx_int_t  rc;

    hop->begun = ngx_current_msec;

    if (hop->probe) {
        return NGX_OK;
    }

    rc = ngx_oci_health_gate(hop->registry);

    if (rc != NGX_OK) {
        ngx_oci_hop_end(hop, rc);
        return NGX_AGAIN;
    }

    return NGX_OK;
}


void
ngx_oci_health_hop_header(ngx_oci_hop_t *hop)
{
    if (hop->url == NULL) {
        ngx_oci_health_answered(hop->registry);
    }
}


/* could the registry not be reached?  Whoever closes a connection is there */

void
ngx_oci_health_hop_done(ngx_oci_hop_t *hop)
{
    if (hop->url || !hop->unreached || hop->header_parsed
        || (hop->rc != NGX_ERROR && hop->rc != NGX_BUSY))
    {
        return;
    }

    if (hop->rc == NGX_BUSY
        || ngx_oci_health_unconnected(hop->request->upstream))
    {
        ngx_oci_health_failed(hop->registry, hop->begun,
                              hop->rc == NGX_BUSY);
    }
}


/* the core takes the time before it looks whether connect() succeeded */

ngx_uint_t
ngx_oci_health_unconnected(ngx_http_upstream_t *u)
{
    return !u->request_sent
           || (u->state && u->state->connect_time == (ngx_msec_t) -1);
}


void
ngx_oci_health_watch(ngx_oci_registry_t *registry)
{
    ngx_oci_health_watch_t  *watch;

    watch = registry->watch;

    if (watch == NULL) {
        watch = ngx_pcalloc(ngx_cycle->pool, sizeof(ngx_oci_health_watch_t));
        if (watch == NULL) {
            return;
        }

        watch->registry = registry;
        watch->dummy.fd = (ngx_socket_t) -1;
        watch->dummy.data = watch;
        watch->timer.handler = ngx_oci_health_tick;
        watch->timer.data = &watch->dummy;
        watch->timer.log = ngx_cycle->log;
        watch->timer.cancelable = 1;

        registry->watch = watch;
    }

    if (!watch->timer.timer_set) {
        ngx_add_timer(&watch->timer, NGX_OCI_HEALTH_TICK);
    }
}


static void
ngx_oci_health_tick(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_oci_health_watch_t  *watch;

    c = ev->data;
    watch = c->data;

    if (watch->hop) {

        if (ngx_exiting
            || (ngx_msec_int_t) (ngx_current_msec - watch->end) >= 0)
        {
            ngx_oci_hop_abort(watch->hop);
        }

    } else if (!ngx_exiting) {
        ngx_oci_health_probe(watch);
    }

    if (watch->hop || ngx_oci_health_down(watch->registry)) {
        ngx_oci_health_watch(watch->registry);
    }
}


static void
ngx_oci_health_probe(ngx_oci_health_watch_t *watch)
{
    ngx_msec_t      time;
    ngx_oci_hop_t  *hop;

    time = ngx_oci_health_probe_due(watch->registry);

    if (time == 0) {
        return;
    }

    hop = ngx_oci_hop_create(watch->registry, ngx_cycle->log);
    if (hop == NULL) {
        return;
    }

    /* that it fails was said when the breaker opened */

    hop->log->log_level = ngx_min(hop->log->log_level, NGX_LOG_ALERT);

    hop->data = watch;
    hop->probe = 1;
    ngx_str_set(&hop->uri, "/v2/");
    hop->header = ngx_oci_health_probe_header;
    hop->buffer = ngx_oci_health_probe_buffer;
    hop->received = ngx_oci_health_probe_received;
    hop->done = ngx_oci_health_probe_done;

    if (ngx_oci_hop_start(hop) != NGX_OK) {
        return;
    }

    watch->hop = hop;
    watch->end = ngx_current_msec + time - NGX_OCI_HEALTH_SPARE;
}


/* the header was what it is about; a short body lets the connection live */

static ngx_int_t
ngx_oci_health_probe_header(ngx_oci_hop_t *hop)
{
    return (hop->in.content_length >= 0
            && hop->in.content_length <= 16384) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_health_probe_buffer(ngx_oci_hop_t *hop, u_char **p, size_t *size)
{
    ngx_oci_health_watch_t  *watch = hop->data;

    *p = watch->buf;
    *size = sizeof(watch->buf);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_health_probe_received(ngx_oci_hop_t *hop, size_t n, ngx_uint_t idle)
{
    return NGX_OK;
}


static void
ngx_oci_health_probe_done(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    ngx_oci_health_watch_t  *watch = hop->data;

    watch->hop = NULL;
}
