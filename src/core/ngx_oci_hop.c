
/*
 * Copyright (C) The nginx-oci authors
 *
 * The core's ngx_http_upstream connects, does TLS, sends the request, reads
 * the header and retries.  From the header's end on the body is read here,
 * straight into the owner's memory: the core's way on, through the header
 * filters to a client, is never taken.
 *
 * The fake request's count is 2.  Whatever ends the upstream takes one, and
 * with write_event_handler NULL and connection.error set that is all that
 * the core does to it; ngx_oci_hop_event() frees it.
 */


#include "ngx_oci_hop.h"


#define NGX_OCI_HOP_POOL  4096
#define NGX_OCI_HOP_TURN  (512 * 1024)          /* bytes of one event */
#define NGX_OCI_HOP_ROOM  256


static ngx_int_t ngx_oci_hop_request(ngx_oci_hop_t *hop);
static ngx_str_t *ngx_oci_hop_method(ngx_oci_hop_t *hop);
static void ngx_oci_hop_connection(ngx_oci_hop_t *hop);
static ngx_chain_t *ngx_oci_hop_text(ngx_oci_hop_t *hop);
static void ngx_oci_hop_wipe(void *data);
static ngx_int_t ngx_oci_hop_upstream(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_hop_room(ngx_pool_t *pool);
static void ngx_oci_hop_resolved(ngx_oci_hop_t *hop, ngx_int_t rc);
static void ngx_oci_hop_init(ngx_oci_hop_t *hop);
static ngx_int_t ngx_oci_hop_create_request(ngx_http_request_t *r);
static ngx_int_t ngx_oci_hop_reinit_request(ngx_http_request_t *r);
static ngx_int_t ngx_oci_hop_process_header(ngx_http_request_t *r);
static ssize_t ngx_oci_hop_no_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static void ngx_oci_hop_abort_request(ngx_http_request_t *r);
static void ngx_oci_hop_finalize_request(ngx_http_request_t *r,
    ngx_int_t rc);
static ngx_chain_t *ngx_oci_hop_send_chain(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static void ngx_oci_hop_event(ngx_event_t *ev);
static void ngx_oci_hop_finish(ngx_oci_hop_t *hop);
static void ngx_oci_hop_read(ngx_http_request_t *r, ngx_http_upstream_t *u);
static ngx_int_t ngx_oci_hop_body(ngx_oci_hop_t *hop, ngx_connection_t *c);
static ssize_t ngx_oci_hop_recv(ngx_oci_hop_t *hop, ngx_connection_t *c,
    u_char *p, size_t size);
static u_char *ngx_oci_hop_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


ngx_oci_hop_t *
ngx_oci_hop_create(ngx_oci_registry_t *registry, ngx_log_t *log)
{
    ngx_pool_t     *pool;
    ngx_oci_hop_t  *hop;

    if (registry->ctx == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "no location passes to oci_registry \"%V\"",
                      &registry->name);
        return NULL;
    }

    pool = ngx_create_pool(NGX_OCI_HOP_POOL, log);
    if (pool == NULL) {
        return NULL;
    }

    hop = ngx_pcalloc(pool, sizeof(ngx_oci_hop_t));
    if (hop == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    hop->pool = pool;
    hop->registry = registry;
    hop->range_start = -1;
    hop->range_end = -1;
    hop->method = NGX_HTTP_GET;

    hop->private_log = *log;
    hop->private_log.handler = ngx_oci_hop_log_error;
    hop->private_log.data = &hop->log_ctx;
    hop->log = &hop->private_log;
    pool->log = hop->log;

    hop->event.handler = ngx_oci_hop_event;
    hop->event.data = hop;
    hop->event.log = hop->log;

    return hop;
}


ngx_int_t
ngx_oci_hop_start(ngx_oci_hop_t *hop)
{
    ngx_int_t         rc;
    ngx_oci_names_t  *names;

    names = hop->registry->names;

    hop->target = hop->url ? hop->url : names ? &names->target : NULL;

    if (ngx_oci_hop_request(hop) != NGX_OK
        || ngx_oci_hop_upstream(hop) != NGX_OK)
    {
        ngx_destroy_pool(hop->pool);
        return NGX_ERROR;
    }

    if (hop->url == NULL && ngx_oci_health_hop_begin(hop) == NGX_AGAIN) {
        return NGX_OK;
    }

    if (hop->target) {

        rc = ngx_oci_peer_resolve(hop, ngx_oci_hop_resolved);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc != NGX_OK) {
            ngx_destroy_pool(hop->pool);
            return NGX_ERROR;
        }
    }

    ngx_oci_hop_init(hop);

    return NGX_OK;
}


static void
ngx_oci_hop_resolved(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    if (rc != NGX_OK) {
        ngx_oci_hop_end(hop, rc);
        return;
    }

    ngx_oci_hop_init(hop);
}


/*
 * Without memory for the upstream's cleanup the core answers the request by
 * itself and tells nobody.  It is not to come to that, see
 * ngx_oci_hop_room(), but an exchange that never ends would keep a fill.
 */

static void
ngx_oci_hop_init(ngx_oci_hop_t *hop)
{
    hop->started = 1;

    ngx_http_upstream_init(hop->request);

    if (hop->ended || hop->request->upstream->cleanup) {
        return;
    }

    if (hop->write.timer_set) {
        ngx_del_timer(&hop->write);
    }

    hop->ended = 1;

    ngx_oci_hop_end(hop, NGX_ERROR);
}


/* the fake request: what ngx_http_upstream and balancers look at */

static ngx_int_t
ngx_oci_hop_request(ngx_oci_hop_t *hop)
{
    u_char                     *p;
    ngx_http_request_t         *r;
    ngx_http_conf_ctx_t        *ctx;
    ngx_http_core_main_conf_t  *cmcf;

    ctx = hop->registry->ctx;

    r = ngx_pcalloc(hop->pool, sizeof(ngx_http_request_t));
    if (r == NULL) {
        return NGX_ERROR;
    }

    hop->request = r;

    r->signature = NGX_HTTP_MODULE;
    r->pool = hop->pool;
    r->connection = &hop->connection;
    r->main = r;
    r->count = 2;
    r->main_conf = ctx->main_conf;
    r->srv_conf = ctx->srv_conf;
    r->loc_conf = ctx->loc_conf;
    r->method = hop->method;
    r->http_version = NGX_HTTP_VERSION_11;
    r->unparsed_uri = hop->uri;
    r->uri = hop->uri;

    /* it is logged; the query of a redirect's URL may be a secret */

    p = ngx_strlchr(hop->uri.data, hop->uri.data + hop->uri.len, '?');
    if (p) {
        r->uri.len = p - hop->uri.data;
    }

    /* and all that follows a receiver's name */

    if (hop->registry->receiver) {
        r->uri.len = 1;
    }

    r->header_only = (hop->method == NGX_HTTP_HEAD);
    r->start_sec = ngx_time();
    r->headers_in.content_length_n = -1;
    r->headers_out.content_length_n = -1;

    r->method_name = *ngx_oci_hop_method(hop);

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    r->ctx = ngx_pcalloc(hop->pool, sizeof(void *) * ngx_http_max_module);
    r->variables = ngx_pcalloc(hop->pool, cmcf->variables.nelts
                                        * sizeof(ngx_http_variable_value_t));

    if (r->ctx == NULL || r->variables == NULL) {
        return NGX_ERROR;
    }

    if (ngx_list_init(&r->headers_in.headers, hop->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK
        || ngx_list_init(&r->headers_out.headers, hop->pool, 1,
                         sizeof(ngx_table_elt_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_oci_hop_connection(hop);

    return NGX_OK;
}


static ngx_str_t *
ngx_oci_hop_method(ngx_oci_hop_t *hop)
{
    static ngx_str_t  get = ngx_string("GET");
    static ngx_str_t  head = ngx_string("HEAD");
    static ngx_str_t  post = ngx_string("POST");

    return (hop->method == NGX_HTTP_POST) ? &post
           : (hop->method == NGX_HTTP_HEAD) ? &head : &get;
}


static void
ngx_oci_hop_connection(ngx_oci_hop_t *hop)
{
    ngx_connection_t  *c;

    c = &hop->connection;

    /* not one of the cycle's: no descriptor, no slot, no close */

    hop->log_ctx.connection = c;
    hop->log_ctx.request = hop->request;
    hop->log_ctx.current_request = hop->request;

    hop->sockaddr.sin_family = AF_INET;

    c->fd = (ngx_socket_t) -1;
    c->data = hop->request;
    c->read = &hop->read;
    c->write = &hop->write;
    c->log = hop->log;
    c->pool = hop->pool;
    c->send_chain = ngx_oci_hop_send_chain;
    c->sockaddr = (struct sockaddr *) &hop->sockaddr;
    c->local_sockaddr = c->sockaddr;
    c->socklen = sizeof(struct sockaddr_in);
    c->local_socklen = c->socklen;
    ngx_str_set(&c->addr_text, "fill");
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;

    hop->read.data = c;
    hop->read.log = hop->log;
    hop->read.active = 1;

    hop->write.data = c;
    hop->write.log = hop->log;
    hop->write.write = 1;
    hop->write.active = 1;
    hop->write.ready = 1;
}


/* the request's text */

static ngx_chain_t *
ngx_oci_hop_text(ngx_oci_hop_t *hop)
{
    u_char              *p;
    size_t               len;
    ngx_buf_t           *b;
    ngx_str_t            host, range;
    ngx_chain_t         *cl;
    ngx_pool_cleanup_t  *cln;
    u_char               buf[sizeof("Range: bytes=-" CRLF) + 2 * NGX_OFF_T_LEN];

    if (hop->url) {
        host = hop->url->authority;

    } else {
        host = hop->registry->host;
    }

    range.data = buf;
    range.len = 0;

    if (hop->range_start >= 0) {
        p = ngx_sprintf(buf, "Range: bytes=%O-", hop->range_start);

        if (hop->range_end > hop->range_start) {
            p = ngx_sprintf(p, "%O", hop->range_end - 1);
        }

        range.len = ngx_sprintf(p, CRLF) - buf;
    }

    len = sizeof("HEAD  HTTP/1.1" CRLF "Host: " CRLF
                 "User-Agent: nginx-oci/" NGX_OCI_VERSION CRLF
                 "Accept-Encoding: identity" CRLF
                 "Accept: " CRLF "Authorization: " CRLF
                 "Content-Length: " CRLF CRLF)
          + hop->uri.len + host.len + range.len + hop->accept.len
          + hop->authorization.len + hop->headers.len + NGX_SIZE_T_LEN
          + hop->body.len;

    b = ngx_create_temp_buf(hop->pool, len);
    cl = ngx_alloc_chain_link(hop->pool);
    cln = ngx_pool_cleanup_add(hop->pool, 0);

    if (b == NULL || cl == NULL || cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_oci_hop_wipe;
    cln->data = b;

    p = ngx_sprintf(b->last, "%V %V HTTP/1.1" CRLF "Host: %V" CRLF
                    "User-Agent: nginx-oci/" NGX_OCI_VERSION CRLF
                    "Accept-Encoding: identity" CRLF "%V%V",
                    ngx_oci_hop_method(hop), &hop->uri, &host, &range,
                    &hop->headers);

    if (hop->accept.len) {
        p = ngx_sprintf(p, "Accept: %V" CRLF, &hop->accept);
    }

    if (hop->authorization.len) {
        p = ngx_sprintf(p, "Authorization: %V" CRLF, &hop->authorization);
    }

    if (hop->method == NGX_HTTP_POST) {
        p = ngx_sprintf(p, "Content-Length: %uz" CRLF, hop->body.len);
    }

    p = ngx_cpymem(p, CRLF, 2);
    b->last = hop->body.len ? ngx_cpymem(p, hop->body.data, hop->body.len)
                            : p;

    /* else it stays in the TLS buffer of a kept-alive connection */

    b->flush = 1;

    cl->buf = b;
    cl->next = NULL;

    return cl;
}


/* it may be sent again until the end */

static void
ngx_oci_hop_wipe(void *data)
{
    ngx_buf_t *b = data;

    ngx_explicit_memzero(b->start, b->end - b->start);
}


static ngx_int_t
ngx_oci_hop_upstream(ngx_oci_hop_t *hop)
{
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = hop->request;

    if (ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_ERROR;
    }

    u = r->upstream;

    u->conf = hop->url ? &hop->registry->redirect_conf
                       : &hop->registry->conf;

#if (NGX_HTTP_SSL)
    u->ssl = hop->url ? (hop->url->scheme.len == 5) : hop->registry->ssl;
#endif

    u->schema = u->ssl ? (ngx_str_t) ngx_string("https://")
                       : (ngx_str_t) ngx_string("http://");
    u->output.tag = (ngx_buf_tag_t) &ngx_http_oci_module;
    u->buffering = 0;

    u->create_request = ngx_oci_hop_create_request;
    u->reinit_request = ngx_oci_hop_reinit_request;
    u->process_header = ngx_oci_hop_process_header;
    u->abort_request = ngx_oci_hop_abort_request;
    u->finalize_request = ngx_oci_hop_finalize_request;
    u->input_filter_ctx = hop;

    /* what can't fail must not: the core would answer the client */

    u->request_bufs = ngx_oci_hop_text(hop);
    if (u->request_bufs == NULL) {
        return NGX_ERROR;
    }

    r->upstream_states = ngx_array_create(hop->pool, NGX_OCI_HOP_TRIES + 1,
                                          sizeof(ngx_http_upstream_state_t));
    if (r->upstream_states == NULL) {
        return NGX_ERROR;
    }

    return ngx_oci_hop_room(hop->pool);
}


/* the next small allocation does not need memory from the system */

static ngx_int_t
ngx_oci_hop_room(ngx_pool_t *pool)
{
    ngx_pool_t  *p;

    for (p = pool->current; p; p = p->d.next) {
        if (p->d.end - p->d.last >= NGX_OCI_HOP_ROOM) {
            return NGX_OK;
        }
    }

    /* what does not fit begins a block, which has more */

    return ngx_palloc(pool, NGX_OCI_HOP_ROOM) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_hop_create_request(ngx_http_request_t *r)
{
    ngx_oci_response_init(r->upstream->input_filter_ctx);

    return NGX_OK;
}


ngx_oci_hop_t *
ngx_oci_hop_of(ngx_http_request_t *r)
{
    return (r->upstream->create_request == ngx_oci_hop_create_request)
           ? r->upstream->input_filter_ctx : NULL;
}


static ngx_int_t
ngx_oci_hop_reinit_request(ngx_http_request_t *r)
{
    ngx_oci_response_init(r->upstream->input_filter_ctx);

    r->state = 0;

    return NGX_OK;
}


/*
 * At the header's end the core's reading stops, as if the socket were
 * empty, and ngx_oci_hop_read() takes over.
 */

static ngx_int_t
ngx_oci_hop_process_header(ngx_http_request_t *r)
{
    ngx_int_t             rc;
    ngx_connection_t     *c;
    ngx_oci_hop_t        *hop;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    hop = u->input_filter_ctx;

    if (ngx_oci_response_plain(u)) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent an answer before the TLS handshake");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    rc = ngx_oci_response_parse(hop, r);
    if (rc != NGX_OK) {
        return rc;
    }

    c = u->peer.connection;

    hop->header_parsed = 1;
    hop->raw = u->buffer;
    hop->recv = c->recv;

    u->buffer.last = u->buffer.start;
    u->read_event_handler = ngx_oci_hop_read;
    c->recv = ngx_oci_hop_no_recv;

    ngx_post_event(&hop->event, &ngx_posted_events);

    return NGX_AGAIN;
}


static ssize_t
ngx_oci_hop_no_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    ngx_oci_hop_t       *hop;
    ngx_http_request_t  *r;

    r = c->data;
    hop = r->upstream->input_filter_ctx;

    c->recv = hop->recv;

    return NGX_AGAIN;
}


static void
ngx_oci_hop_abort_request(ngx_http_request_t *r)
{
    return;
}


/* the core is about to end it, with its reason or on our behalf */

static void
ngx_oci_hop_finalize_request(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_oci_hop_t  *hop;

    hop = r->upstream->input_filter_ctx;

    hop->ended = 1;
    hop->connection.error = 1;
    r->write_event_handler = NULL;

    if (!hop->ending) {
        hop->unreached = (rc == NGX_HTTP_BAD_GATEWAY
                          || rc == NGX_HTTP_GATEWAY_TIME_OUT);

        ngx_oci_hop_end(hop, rc == NGX_HTTP_GATEWAY_TIME_OUT ? NGX_BUSY
                                                             : NGX_ERROR);
    }
}


static ngx_chain_t *
ngx_oci_hop_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    return NULL;
}


void
ngx_oci_hop_resume(ngx_oci_hop_t *hop)
{
    if (hop->paused && !hop->ending) {
        hop->paused = 0;
        ngx_post_event(&hop->event, &ngx_posted_events);
    }
}


void
ngx_oci_hop_abort(ngx_oci_hop_t *hop)
{
    if (!hop->ending) {
        ngx_oci_hop_end(hop, NGX_ABORT);
    }
}


void
ngx_oci_hop_end(ngx_oci_hop_t *hop, ngx_int_t rc)
{
    hop->ending = 1;
    hop->rc = rc;

    ngx_post_event(&hop->event, &ngx_posted_events);
}


static void
ngx_oci_hop_event(ngx_event_t *ev)
{
    size_t                n;
    ngx_oci_hop_t        *hop;
    ngx_http_upstream_t  *u;

    hop = ev->data;
    u = hop->request->upstream;

    if (hop->ending) {
        ngx_oci_hop_finish(hop);
        return;
    }

    if (!hop->header_given) {
        hop->header_given = 1;
        ngx_oci_health_hop_header(hop);

        if (hop->header(hop) != NGX_OK && !hop->ending) {

            /* the connection stays good if all of it has come already */

            n = hop->raw.last - hop->raw.pos;

            if (!hop->chunked && hop->length >= 0
                && (off_t) n == hop->length)
            {
                hop->length = 0;
                hop->raw.pos = hop->raw.last;
            }

            ngx_oci_hop_end(hop, NGX_ABORT);
        }

        if (hop->ending) {
            return;
        }
    }

    ngx_oci_hop_read(hop->request, u);
}


static void
ngx_oci_hop_finish(ngx_oci_hop_t *hop)
{
    ngx_http_cleanup_t   *cln;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = hop->request;
    u = r->upstream;

    ngx_oci_health_hop_done(hop);

    if (!hop->started) {
        ngx_oci_peer_cancel(hop);

    } else if (!hop->ended) {

        u->keepalive = (hop->header_parsed && hop->length == 0
                        && !hop->connection_close
                        && hop->raw.pos == hop->raw.last);

        if (u->cleanup && *u->cleanup) {
            (*u->cleanup)(r);
        }
    }

    hop->done(hop, hop->rc);

    cln = r->cleanup;
    r->cleanup = NULL;

    for ( /* void */ ; cln; cln = cln->next) {
        if (cln->handler) {
            cln->handler(cln->data);
        }
    }

    if (hop->event.posted) {
        ngx_delete_posted_event(&hop->event);
    }

    ngx_destroy_pool(hop->pool);
}


static void
ngx_oci_hop_read(ngx_http_request_t *r, ngx_http_upstream_t *u)
{
    off_t              bytes;
    ngx_int_t          rc;
    ngx_connection_t  *c;
    ngx_oci_hop_t     *hop;

    hop = u->input_filter_ctx;
    c = u->peer.connection;

    if (hop->ending || !hop->header_given) {
        return;
    }

    if (c->read->timedout) {
        ngx_log_error(NGX_LOG_ERR, hop->log, NGX_ETIMEDOUT,
                      "upstream timed out");
        ngx_oci_hop_end(hop, NGX_BUSY);
        return;
    }

    if (hop->paused) {
        return;
    }

    c->log->action = "reading upstream";

    bytes = hop->body_bytes;

    rc = ngx_oci_hop_body(hop, c);

    if (hop->ending) {
        return;
    }

    if (rc == NGX_BUSY) {
        hop->paused = 1;

        if (c->read->timer_set) {
            ngx_del_timer(c->read);
        }

        return;
    }

    if (rc != NGX_AGAIN) {
        ngx_oci_hop_end(hop, rc);
        return;
    }

    /* what is no body is no progress */

    if (hop->body_bytes != bytes || !c->read->timer_set) {
        ngx_add_timer(c->read, u->conf->read_timeout);
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_oci_hop_end(hop, NGX_ERROR);
    }
}


/*
 * NGX_AGAIN: the socket is empty; NGX_BUSY: the owner has no place; else
 * how it ended.
 */

static ngx_int_t
ngx_oci_hop_body(ngx_oci_hop_t *hop, ngx_connection_t *c)
{
    u_char     *p;
    size_t      size, room;
    ssize_t     n;
    ngx_int_t   rc;

    for (room = NGX_OCI_HOP_TURN; /* void */ ; room -= n) {

        if (hop->length == 0) {
            return NGX_OK;
        }

        if (room == 0) {
            ngx_post_event(c->read, &ngx_posted_next_events);
            return NGX_AGAIN;
        }

        rc = hop->buffer(hop, &p, &size);

        if (rc != NGX_OK) {
            return (rc == NGX_AGAIN) ? NGX_BUSY : NGX_ABORT;
        }

        if (hop->length > 0 && (off_t) size > hop->length) {
            size = (size_t) hop->length;
        }

        n = ngx_oci_hop_recv(hop, c, p, ngx_min(size, room));

        if (n == NGX_AGAIN) {
            rc = hop->received(hop, 0, 1);
            return (rc == NGX_OK) ? NGX_AGAIN : NGX_ABORT;
        }

        if (n == NGX_DONE) {
            hop->length = 0;
            return NGX_OK;
        }

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (n == 0) {

            if (hop->length == -1 && !hop->chunked) {
                hop->connection_close = 1;
                return NGX_OK;
            }

            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream prematurely closed connection after %O "
                          "bytes of the body", hop->body_bytes);
            return NGX_ERROR;
        }

        if (hop->length > 0) {
            hop->length -= n;
        }

        hop->body_bytes += n;
        ngx_oci_stats_upstream(hop->registry, n);

        rc = hop->received(hop, n, !c->read->ready || hop->length == 0);

        if (rc != NGX_OK) {
            return NGX_ABORT;
        }

        if (hop->ending) {
            return NGX_OK;
        }
    }
}


/* as recv(); NGX_DONE at the end of a chunked body */

static ssize_t
ngx_oci_hop_recv(ngx_oci_hop_t *hop, ngx_connection_t *c, u_char *p,
    size_t size)
{
    size_t      len;
    ssize_t     n;
    ngx_int_t   rc;
    ngx_buf_t  *raw;

    raw = &hop->raw;

    if (!hop->chunked) {

        len = raw->last - raw->pos;

        if (len == 0) {
            return c->recv(c, p, size);
        }

        len = ngx_min(len, size);
        ngx_memcpy(p, raw->pos, len);
        raw->pos += len;

        return len;
    }

    for ( ;; ) {

        rc = ngx_oci_parse_chunked(hop->request, raw, &hop->chunked_state);

        if (rc == NGX_DONE) {
            return NGX_DONE;
        }

        if (rc == NGX_ERROR) {
            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream sent invalid chunked response");
            return NGX_ERROR;
        }

        len = raw->last - raw->pos;

        if (rc == NGX_OK && len) {
            len = ngx_min(len, size);
            len = ngx_min((off_t) len, hop->chunked_state.size);
            ngx_memcpy(p, raw->pos, len);
            raw->pos += len;
            hop->chunked_state.size -= len;
            hop->framing = 0;

            return len;
        }

        raw->pos = raw->start;
        raw->last = raw->start;

        n = c->recv(c, raw->start, raw->end - raw->start);
        if (n <= 0) {
            return n;
        }

        raw->last += n;
        hop->framing += n;

        /* a buffer of extensions or trailers, which may have no end */

        if (hop->framing > (size_t) (raw->end - raw->start)) {
            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream sent no body in %uz bytes of a chunked "
                          "response", hop->framing);
            return NGX_ERROR;
        }
    }
}


static u_char *
ngx_oci_hop_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char               *p;
    ngx_oci_hop_t        *hop;
    ngx_http_log_ctx_t   *ctx;
    ngx_http_upstream_t  *u;

    ctx = log->data;
    p = buf;

    if (log->action) {
        p = ngx_snprintf(p, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    if (ctx->request == NULL || ctx->request->upstream == NULL) {
        return p;
    }

    u = ctx->request->upstream;
    hop = u->input_filter_ctx;

    p = ngx_snprintf(buf, len, ", %s: \"%V\", request: \"%V %V\"",
                     hop->registry->receiver ? "notifications"
                     : hop->registry->endpoint ? "endpoint" : "registry",
                     &hop->registry->name, &ctx->request->method_name,
                     &ctx->request->uri);
    len -= p - buf;
    buf = p;

    if (u->peer.name) {
        p = ngx_snprintf(buf, len, ", upstream: \"%V%V\"", &u->schema,
                         u->peer.name);
    }

    return p;
}
