
/*
 * Copyright (C) The nginx-oci authors
 *
 * One HTTP request to one server, on a fake request of its own that no
 * client is tied to, with ngx_http_upstream: no redirects, no dance.
 */


#ifndef _NGX_OCI_HOP_H_INCLUDED_
#define _NGX_OCI_HOP_H_INCLUDED_


#include "ngx_oci_core.h"


#define NGX_OCI_HOP_TRIES  3        /* servers of one hop */


typedef struct ngx_oci_hop_s   ngx_oci_hop_t;
typedef struct ngx_oci_peer_s  ngx_oci_peer_t;


/*
 * Owner: whoever called ngx_oci_hop_create(), until done() returned; then
 * it is freed by itself.
 */

struct ngx_oci_hop_s {
    /* set by create() */
    ngx_pool_t                     *pool;
    ngx_log_t                      *log;
    ngx_oci_registry_t             *registry;

    /* set by the owner */
    void                           *data;
    ngx_oci_url_t                  *url;    /* NULL: the registry's group */
    ngx_uint_t                      method; /* NGX_HTTP_GET, _HEAD, _POST */
    ngx_str_t                       uri;
    ngx_str_t                       accept;
    ngx_str_t                       authorization;
    ngx_str_t                       headers;    /* lines, each with its
                                                   end */
    ngx_str_t                       body;       /* of POST */
    off_t                           range_start;    /* -1: no Range */
    off_t                           range_end;      /* -1: open-ended */
    ngx_uint_t                      probe;  /* also while the registry's
                                               breaker is open */

    /* as in ngx_oci_exchange_t, called with this hop */
    ngx_int_t                     (*header)(ngx_oci_hop_t *hop);
    ngx_int_t                     (*buffer)(ngx_oci_hop_t *hop, u_char **p,
                                      size_t *size);
    ngx_int_t                     (*received)(ngx_oci_hop_t *hop, size_t n,
                                      ngx_uint_t idle);
    void                          (*done)(ngx_oci_hop_t *hop, ngx_int_t rc);

    ngx_oci_response_t              in;
    off_t                           body_bytes;     /* received */

    /* ngx_oci_hop.c's own */
    ngx_connection_t                connection;     /* fake */
    ngx_event_t                     read;
    ngx_event_t                     write;
    ngx_log_t                       private_log;
    ngx_http_log_ctx_t              log_ctx;
    struct sockaddr_in              sockaddr;
    ngx_http_request_t             *request;        /* fake */
    ngx_oci_url_t                  *target; /* of peer: url, or what the
                                               registry's url says; NULL: a
                                               group */
    ngx_oci_peer_t                 *peer;   /* of target; NULL with a group */
    ngx_msec_t                      begun;  /* with a group: ms */
    ngx_event_t                     event;  /* header, reading on, the end */
    ngx_http_status_t               status;
    ngx_recv_pt                     recv;           /* the peer's own */
    off_t                           length; /* of the body left; -1: to the
                                               connection's end */
    ngx_http_chunked_t              chunked_state;
    size_t                          framing;    /* bytes of a chunked body
                                               since the last that counts */
    ngx_buf_t                       raw;    /* what came with the header, or
                                               of a chunked body */
    ngx_int_t                       rc;

    unsigned                        refused:1;      /* the target's address
                                                       is nothing for it */
    unsigned                        started:1;
    unsigned                        status_parsed:1;
    unsigned                        header_parsed:1;
    unsigned                        header_given:1;
    unsigned                        chunked:1;
    unsigned                        connection_close:1;
    unsigned                        length_seen:1;
    unsigned                        malformed:1;
    unsigned                        paused:1;
    unsigned                        ending:1;       /* rc is set */
    unsigned                        ended:1;        /* core is through */
    unsigned                        unreached:1;    /* by the registry's doing,
                                                       not for want of memory
                                                       or descriptors here */
};


/* NULL: no memory, or no location passes to the registry */
ngx_oci_hop_t *ngx_oci_hop_create(ngx_oci_registry_t *registry,
    ngx_log_t *log);

/* NGX_OK: done() follows from the event loop; NGX_ERROR: it was freed */
ngx_int_t ngx_oci_hop_start(ngx_oci_hop_t *hop);

/* reading goes on after buffer() said NGX_AGAIN */
void ngx_oci_hop_resume(ngx_oci_hop_t *hop);

/* done(NGX_ABORT) follows from the event loop */
void ngx_oci_hop_abort(ngx_oci_hop_t *hop);

/* done(rc) follows from the event loop */
void ngx_oci_hop_end(ngx_oci_hop_t *hop, ngx_int_t rc);

/* whose request it is, which has an upstream; NULL: a client's */
ngx_oci_hop_t *ngx_oci_hop_of(ngx_http_request_t *r);


/* ngx_oci_hop_conf.c: registry->conf and redirect_conf */
ngx_int_t ngx_oci_hop_init_registry(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);


/*
 * ngx_oci_health_probe.c: what hops to a registry's group tell of its state.
 */

/* NGX_OK: it may begin; NGX_AGAIN: it was ended, the breaker is open */
ngx_int_t ngx_oci_health_hop_begin(ngx_oci_hop_t *hop);
void ngx_oci_health_hop_header(ngx_oci_hop_t *hop);
void ngx_oci_health_hop_done(ngx_oci_hop_t *hop);


/*
 * ngx_oci_peer.c: servers that are in no upstream{}: hosts of redirects and
 * realms, and of registries with "resolve".  Resolved at run time, their idle
 * connections kept per worker.
 */

/* finds hop->target's addresses.  NGX_OK: they are there; NGX_AGAIN:
   handler(hop, rc) follows from the event loop; NGX_ERROR: logged */
ngx_int_t ngx_oci_peer_resolve(ngx_oci_hop_t *hop,
    void (*handler)(ngx_oci_hop_t *hop, ngx_int_t rc));
/* withdraws a resolution that is under way */
void ngx_oci_peer_cancel(ngx_oci_hop_t *hop);
/* u->conf->upstream->peer.init where there is no group */
ngx_int_t ngx_oci_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);


/* ngx_oci_response.c: the response's header into hop->in */

/*
 * u->process_header: NGX_OK at the header's end, NGX_AGAIN,
 * NGX_HTTP_UPSTREAM_INVALID_HEADER, NGX_ERROR (no memory).
 */
ngx_int_t ngx_oci_response_parse(ngx_oci_hop_t *hop, ngx_http_request_t *r);
void ngx_oci_response_init(ngx_oci_hop_t *hop);


#endif /* _NGX_OCI_HOP_H_INCLUDED_ */
