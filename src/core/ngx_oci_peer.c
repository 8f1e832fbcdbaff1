
/*
 * Copyright (C) The nginx-oci authors
 *
 * ngx_http_upstream gives peers that are named at run time no keep-alive;
 * hosts of redirects, and of registries with "resolve", get it here.  A kept
 * connection is used as long as its address is one of the host's.
 */


#include "ngx_oci_hop.h"


#define NGX_OCI_PEER_IDLE_MAX      32       /* connections of a worker */
#define NGX_OCI_PEER_IDLE_TIMEOUT  30000    /* ms */
#define NGX_OCI_PEER_HOST_MAX      253


/* Owner: the hop, in whose pool it is */

struct ngx_oci_peer_s {
    ngx_resolver_ctx_t     *resolver;   /* NULL: nothing is under way */
    void                  (*handler)(ngx_oci_hop_t *hop, ngx_int_t rc);
    ngx_addr_t             *addrs;
    ngx_uint_t              naddrs;
    ngx_uint_t              next;
};


/* an idle connection; static, taken from and returned to a free list */

typedef struct {
    ngx_queue_t             queue;
    ngx_connection_t       *connection;
    ngx_oci_registry_t     *registry;   /* whose TLS configuration it is */
    ngx_uint_t              ssl;
    ngx_uint_t              own;        /* verified by the registry's name,
                                           not by host */
    ngx_sockaddr_t          sockaddr;
    socklen_t               socklen;
    size_t                  len;
    u_char                  host[NGX_OCI_PEER_HOST_MAX];
} ngx_oci_peer_idle_t;


static ngx_uint_t ngx_oci_peer_filter(ngx_oci_hop_t *hop,
    ngx_resolver_ctx_t *ctx, ngx_resolver_addr_t *addrs);
static ngx_int_t ngx_oci_peer_copy(ngx_oci_hop_t *hop, ngx_uint_t n,
    ngx_resolver_addr_t *resolved, ngx_addr_t *literal);
static void ngx_oci_peer_resolve_handler(ngx_resolver_ctx_t *ctx);
static ngx_oci_names_t *ngx_oci_peer_names(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_peer_get(ngx_peer_connection_t *pc, void *data);
static ngx_oci_peer_idle_t *ngx_oci_peer_find(ngx_oci_hop_t *hop,
    ngx_addr_t **addr);
static void ngx_oci_peer_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static void ngx_oci_peer_idle_init(void);
static void ngx_oci_peer_close_handler(ngx_event_t *ev);
static void ngx_oci_peer_dummy_handler(ngx_event_t *ev);
static void ngx_oci_peer_close(ngx_oci_peer_idle_t *idle);
#if (NGX_HTTP_SSL)
static ngx_int_t ngx_oci_peer_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_oci_peer_save_session(ngx_peer_connection_t *pc, void *data);
#endif


/* per process */

static ngx_oci_peer_idle_t  ngx_oci_peer_items[NGX_OCI_PEER_IDLE_MAX];
static ngx_queue_t          ngx_oci_peer_cached;    /* latest first */
static ngx_queue_t          ngx_oci_peer_unused;


ngx_int_t
ngx_oci_peer_resolve(ngx_oci_hop_t *hop,
    void (*handler)(ngx_oci_hop_t *hop, ngx_int_t rc))
{
    ngx_int_t                  rc;
    ngx_str_t                  host;
    ngx_addr_t                 addr;
    ngx_oci_peer_t            *peer;
    ngx_oci_names_t           *names;
    ngx_resolver_ctx_t        *ctx, temp;
    ngx_http_core_loc_conf_t  *clcf;

    peer = ngx_pcalloc(hop->pool, sizeof(ngx_oci_peer_t));
    if (peer == NULL) {
        return NGX_ERROR;
    }

    hop->peer = peer;
    peer->handler = handler;

    host = hop->target->host;

    if (host.len > 2 && host.data[0] == '[') {
        host.data++;
        host.len -= 2;
    }

    rc = ngx_parse_addr(hop->pool, &addr, host.data, host.len);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {
        return ngx_oci_peer_copy(hop, 1, NULL, &addr);
    }

    names = ngx_oci_peer_names(hop);

    if (names && ngx_oci_names_held(names)) {
        return ngx_oci_peer_copy(hop, names->naddrs, names->addrs, NULL);
    }

    clcf = ngx_http_get_module_loc_conf(hop->request, ngx_http_core_module);

    temp.name = host;

    ctx = ngx_resolve_start(clcf->resolver, &temp);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (ctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "no resolver defined to resolve \"%V\"", &host);
        return NGX_ERROR;
    }

    ctx->name = host;
    ctx->handler = ngx_oci_peer_resolve_handler;
    ctx->data = hop;
    ctx->timeout = clcf->resolver_timeout;

    if (names) {
        ngx_oci_names_timeout(names, ctx);
    }

    peer->resolver = ctx;

    /* the handler may be called at once: it only posts an event then */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        peer->resolver = NULL;
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


static void
ngx_oci_peer_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t             rc;
    ngx_uint_t            n;
    ngx_oci_hop_t        *hop;
    ngx_oci_names_t      *names;
    ngx_resolver_addr_t  *addrs;

    hop = ctx->data;
    names = ngx_oci_peer_names(hop);

    if (ctx->state && names
        && ngx_oci_names_failed(hop->registry, ctx, hop->log) == NGX_OK)
    {
        rc = ngx_oci_peer_copy(hop, names->naddrs, names->addrs, NULL);

    } else if (ctx->state) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "\"%V\" could not be resolved (%i: %s)", &ctx->name,
                      ctx->state, ngx_resolver_strerror(ctx->state));
        rc = (ctx->state == NGX_RESOLVE_TIMEDOUT) ? NGX_BUSY : NGX_ERROR;

    } else if (hop->url) {

        addrs = ngx_palloc(hop->pool,
                           ctx->naddrs * sizeof(ngx_resolver_addr_t));

        n = addrs ? ngx_oci_peer_filter(hop, ctx, addrs) : 0;
        rc = n ? ngx_oci_peer_copy(hop, n, addrs, NULL) : NGX_ERROR;

    } else {

        if (names) {
            ngx_oci_names_resolved(hop->registry, ctx, hop->log);
        }

        rc = ngx_oci_peer_copy(hop, ctx->naddrs, ctx->addrs, NULL);
    }

    ngx_resolve_name_done(ctx);
    hop->peer->resolver = NULL;

    hop->peer->handler(hop, rc);
}


/* those of the addresses that the host of a realm or a redirect may have */

static ngx_uint_t
ngx_oci_peer_filter(ngx_oci_hop_t *hop, ngx_resolver_ctx_t *ctx,
    ngx_resolver_addr_t *addrs)
{
    ngx_uint_t            i, n;
    ngx_resolver_addr_t  *addr;

    for (i = 0, n = 0; i < ctx->naddrs; i++) {
        addr = &ctx->addrs[i];

        if (ngx_oci_private_allowed(hop->registry, &hop->target->host,
                                    addr->sockaddr, addr->socklen))
        {
            addrs[n++] = *addr;
            continue;
        }

        ngx_oci_private_log(hop->registry, &hop->target->host, addr->sockaddr,
                            addr->socklen, hop->log);
    }

    hop->refused = (n == 0);

    return n;
}


/* NULL: it is not the registry's own name */

static ngx_oci_names_t *
ngx_oci_peer_names(ngx_oci_hop_t *hop)
{
    return hop->url ? NULL : hop->registry->names;
}


void
ngx_oci_peer_cancel(ngx_oci_hop_t *hop)
{
    if (hop->peer && hop->peer->resolver) {
        ngx_resolve_name_done(hop->peer->resolver);
        hop->peer->resolver = NULL;
    }
}


/* the addresses, with the port and in text for the log */

static ngx_int_t
ngx_oci_peer_copy(ngx_oci_hop_t *hop, ngx_uint_t n,
    ngx_resolver_addr_t *resolved, ngx_addr_t *literal)
{
    u_char           *p;
    socklen_t         socklen;
    ngx_uint_t        i;
    ngx_addr_t       *addr;
    ngx_oci_peer_t   *peer;
    struct sockaddr  *sockaddr;

    peer = hop->peer;

    peer->addrs = ngx_pcalloc(hop->pool, n * sizeof(ngx_addr_t));
    if (peer->addrs == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        addr = &peer->addrs[i];

        socklen = resolved ? resolved[i].socklen : literal->socklen;

        sockaddr = ngx_palloc(hop->pool, socklen);
        p = ngx_pnalloc(hop->pool, NGX_SOCKADDR_STRLEN);

        if (sockaddr == NULL || p == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(sockaddr, resolved ? resolved[i].sockaddr
                                      : literal->sockaddr, socklen);
        ngx_inet_set_port(sockaddr, hop->target->port);

        addr->sockaddr = sockaddr;
        addr->socklen = socklen;
        addr->name.data = p;
        addr->name.len = ngx_sock_ntop(sockaddr, socklen, p,
                                       NGX_SOCKADDR_STRLEN, 1);
    }

    peer->naddrs = n;
    peer->next = n > 1 ? (ngx_uint_t) ngx_random() % n : 0;

    return NGX_OK;
}


ngx_int_t
ngx_oci_peer_init(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us)
{
    ngx_oci_hop_t        *hop;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    hop = u->input_filter_ctx;

    u->peer.data = hop;
    u->peer.get = ngx_oci_peer_get;
    u->peer.free = ngx_oci_peer_free;
    u->peer.tries = hop->peer->naddrs;

#if (NGX_HTTP_SSL)
    u->peer.set_session = ngx_oci_peer_set_session;
    u->peer.save_session = ngx_oci_peer_save_session;
    u->ssl_name = hop->target->host;
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_oci_peer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_oci_hop_t *hop = data;

    ngx_addr_t           *addr;
    ngx_oci_peer_t       *peer;
    ngx_connection_t     *c;
    ngx_oci_peer_idle_t  *idle;

    peer = hop->peer;

    idle = ngx_oci_peer_find(hop, &addr);

    if (idle == NULL) {
        addr = &peer->addrs[peer->next];
        peer->next = (peer->next + 1) % peer->naddrs;
    }

    pc->tries--;
    pc->sockaddr = addr->sockaddr;
    pc->socklen = addr->socklen;
    pc->name = &addr->name;
    pc->cached = 0;
    pc->connection = NULL;

    if (idle == NULL) {
        return NGX_OK;
    }

    c = idle->connection;

    ngx_queue_remove(&idle->queue);
    ngx_queue_insert_head(&ngx_oci_peer_unused, &idle->queue);

    c->idle = 0;
    c->sent = 0;
    c->data = NULL;
    c->log = pc->log;
    c->read->log = pc->log;
    c->write->log = pc->log;
    c->pool->log = pc->log;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    pc->cached = 1;
    pc->connection = c;

    return NGX_DONE;
}


/* a kept connection to one of the addresses, which is set; NULL: none */

static ngx_oci_peer_idle_t *
ngx_oci_peer_find(ngx_oci_hop_t *hop, ngx_addr_t **addr)
{
    ngx_uint_t            i;
    ngx_queue_t          *q;
    ngx_oci_url_t        *url;
    ngx_oci_peer_t       *peer;
    ngx_oci_peer_idle_t  *idle;

    peer = hop->peer;
    url = hop->target;

    ngx_oci_peer_idle_init();

    for (q = ngx_queue_head(&ngx_oci_peer_cached);
         q != ngx_queue_sentinel(&ngx_oci_peer_cached);
         q = ngx_queue_next(q))
    {
        idle = ngx_queue_data(q, ngx_oci_peer_idle_t, queue);

        if (idle->registry != hop->registry
            || idle->own != (hop->url == NULL)
            || idle->ssl != (url->scheme.len == 5)
            || idle->len != url->host.len
            || ngx_strncasecmp(idle->host, url->host.data, idle->len) != 0)
        {
            continue;
        }

        /* it may have moved since */

        for (i = 0; i < peer->naddrs; i++) {

            if (ngx_cmp_sockaddr(&idle->sockaddr.sockaddr, idle->socklen,
                                 peer->addrs[i].sockaddr,
                                 peer->addrs[i].socklen, 1)
                == NGX_OK)
            {
                *addr = &peer->addrs[i];
                return idle;
            }
        }
    }

    return NULL;
}


static void
ngx_oci_peer_free(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    ngx_oci_hop_t *hop = data;

    ngx_queue_t          *q;
    ngx_oci_url_t        *url;
    ngx_connection_t     *c;
    ngx_oci_peer_idle_t  *idle;

    c = pc->connection;
    url = hop->target;

    if ((state & NGX_PEER_FAILED)
        || c == NULL
        || c->read->eof
        || c->read->error
        || c->read->timedout
        || c->write->error
        || c->write->timedout
        || !hop->request->upstream->keepalive
        || !hop->request->upstream->request_body_sent
        || ngx_terminate || ngx_exiting
        || url->host.len > NGX_OCI_PEER_HOST_MAX
        || ngx_handle_read_event(c->read, 0) != NGX_OK)
    {
        return;
    }

    ngx_oci_peer_idle_init();

    if (ngx_queue_empty(&ngx_oci_peer_unused)) {
        q = ngx_queue_last(&ngx_oci_peer_cached);
        ngx_oci_peer_close(ngx_queue_data(q, ngx_oci_peer_idle_t, queue));
    }

    q = ngx_queue_head(&ngx_oci_peer_unused);
    ngx_queue_remove(q);
    ngx_queue_insert_head(&ngx_oci_peer_cached, q);

    idle = ngx_queue_data(q, ngx_oci_peer_idle_t, queue);
    idle->connection = c;
    idle->registry = hop->registry;
    idle->ssl = (url->scheme.len == 5);
    idle->own = (hop->url == NULL);
    idle->socklen = pc->socklen;
    ngx_memcpy(&idle->sockaddr, pc->sockaddr, pc->socklen);
    idle->len = url->host.len;
    ngx_memcpy(idle->host, url->host.data, idle->len);

    pc->connection = NULL;

    /* an exiting worker closes idle connections itself, c->close */

    ngx_add_timer(c->read, NGX_OCI_PEER_IDLE_TIMEOUT);

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    c->write->handler = ngx_oci_peer_dummy_handler;
    c->read->handler = ngx_oci_peer_close_handler;

    c->data = idle;
    c->idle = 1;
    c->log = ngx_cycle->log;
    c->read->log = ngx_cycle->log;
    c->write->log = ngx_cycle->log;
    c->pool->log = ngx_cycle->log;

    if (c->read->ready) {
        ngx_oci_peer_close_handler(c->read);
    }
}


static void
ngx_oci_peer_idle_init(void)
{
    ngx_uint_t  i;

    if (ngx_oci_peer_cached.next) {
        return;
    }

    ngx_queue_init(&ngx_oci_peer_cached);
    ngx_queue_init(&ngx_oci_peer_unused);

    for (i = 0; i < NGX_OCI_PEER_IDLE_MAX; i++) {
        ngx_queue_insert_head(&ngx_oci_peer_unused,
                              &ngx_oci_peer_items[i].queue);
    }
}


static void
ngx_oci_peer_dummy_handler(ngx_event_t *ev)
{
    return;
}


/* as ngx_http_upstream_keepalive_close_handler() */

static void
ngx_oci_peer_close_handler(ngx_event_t *ev)
{
    int                n;
    char               buf[1];
    ngx_connection_t  *c;

    c = ev->data;

    if (c->close || c->read->timedout) {
        goto close;
    }

    n = recv(c->fd, buf, 1, MSG_PEEK);

    if (n == -1 && ngx_socket_errno == NGX_EAGAIN) {
        ev->ready = 0;

        if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
            goto close;
        }

        return;
    }

close:

    ngx_oci_peer_close(c->data);
}


static void
ngx_oci_peer_close(ngx_oci_peer_idle_t *idle)
{
    ngx_connection_t  *c;

    c = idle->connection;
    idle->connection = NULL;

    ngx_queue_remove(&idle->queue);
    ngx_queue_insert_head(&ngx_oci_peer_unused, &idle->queue);

#if (NGX_HTTP_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        if (ngx_ssl_shutdown(c) == NGX_AGAIN) {
            c->ssl->handler = NULL;
        }
    }

#endif

    ngx_destroy_pool(c->pool);
    ngx_close_connection(c);
}


#if (NGX_HTTP_SSL)

/* a session is not carried over: idle connections save the handshakes */

static ngx_int_t
ngx_oci_peer_set_session(ngx_peer_connection_t *pc, void *data)
{
    return NGX_OK;
}


static void
ngx_oci_peer_save_session(ngx_peer_connection_t *pc, void *data)
{
    return;
}

#endif
