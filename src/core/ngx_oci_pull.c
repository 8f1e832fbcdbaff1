
/*
 * Copyright (C) The nginx-oci authors
 *
 * Pulls by the edge itself: a request as a client's to one of its servers,
 * over a pair of sockets.  So the server treats it as it would treat a
 * client's, whatever is configured, and nothing about it is special but that
 * the access phase is not for it: whoever had it begun was asked already.
 *
 * The server's end is an ordinary connection of the core's, which ends it as
 * any other.  The client's end is the pull's, which ends when the server
 * closed its own, or at once by pull_abort().
 */


#include "ngx_oci_core.h"


#define NGX_OCI_PULL_POOL    2048
#define NGX_OCI_PULL_HEADER  8192       /* bytes of a response's header */


/* what the server's end came by.  Owner: that connection's pool */

typedef struct {
    ngx_listening_t          listening;
    ngx_http_port_t          port;
    ngx_http_in_addr_t       addr;
    struct sockaddr_un       sockaddr;
    ngx_oci_registry_t      *registry;
    ngx_uint_t               preheat;
    time_t                   pin;
    ngx_uint_t               ssl;
} ngx_oci_pull_end_t;


typedef struct {
    ngx_connection_t        *connection;    /* the client's end; NULL: closed */
    ngx_event_t              event;         /* the end */
    ngx_log_t                log;
    ngx_buf_t               *request;
    ngx_buf_t               *header;
    ngx_http_request_t      *parser;        /* what the core's parsers need */
    ngx_http_status_t        line;
    size_t                   room;          /* of pull->body */
    ngx_int_t                rc;
    unsigned                 status_parsed:1;
    unsigned                 header_parsed:1;
    unsigned                 ending:1;
} ngx_oci_pull_priv_t;


static ngx_int_t ngx_oci_pull_serve(ngx_oci_pull_t *pull, ngx_socket_t s);
static ngx_int_t ngx_oci_pull_end(ngx_oci_pull_t *pull, ngx_connection_t *c);
static void ngx_oci_pull_accepted(ngx_connection_t *c);
static ngx_int_t ngx_oci_pull_connect(ngx_oci_pull_t *pull, ngx_socket_t s);
static ngx_buf_t *ngx_oci_pull_text(ngx_oci_pull_t *pull);
static void ngx_oci_pull_wipe(void *data);
static void ngx_oci_pull_write(ngx_event_t *ev);
static void ngx_oci_pull_read(ngx_event_t *ev);
static ngx_int_t ngx_oci_pull_header(ngx_oci_pull_t *pull);
static ngx_int_t ngx_oci_pull_field(ngx_oci_pull_t *pull, ngx_str_t *name,
    ngx_str_t *value);
static ngx_int_t ngx_oci_pull_body(ngx_oci_pull_t *pull, u_char *p,
    size_t size);
static void ngx_oci_pull_finish(ngx_oci_pull_t *pull, ngx_int_t rc);
static void ngx_oci_pull_done(ngx_event_t *ev);
static void ngx_oci_pull_free(ngx_oci_pull_t *pull);
static ngx_oci_pull_end_t *ngx_oci_pull_of(ngx_http_request_t *r);
static ngx_int_t ngx_oci_pull_secure(ngx_http_request_t *r);
static void ngx_oci_pull_variable(ngx_http_request_t *r, ngx_int_t index,
    char *text);
static ngx_int_t ngx_oci_pull_handler(ngx_http_request_t *r);


/* of this cycle: what rules of a server look at */

static ngx_int_t  ngx_oci_pull_scheme;
static ngx_int_t  ngx_oci_pull_https;


ngx_int_t
ngx_oci_pull_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t  scheme = ngx_string("scheme");
    static ngx_str_t  https = ngx_string("https");

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    ngx_oci_pull_scheme = ngx_http_get_variable_index(cf, &scheme);
    ngx_oci_pull_https = ngx_http_get_variable_index(cf, &https);

    if (ngx_oci_pull_scheme == NGX_ERROR || ngx_oci_pull_https == NGX_ERROR) {
        return NGX_ERROR;
    }

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_POST_READ_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_oci_pull_secure;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_oci_pull_handler;

    return NGX_OK;
}


ngx_oci_pull_t *
ngx_oci_pull_create(ngx_http_core_srv_conf_t *server, ngx_log_t *log)
{
    ngx_pool_t           *pool;
    ngx_oci_pull_t       *pull;
    ngx_oci_pull_priv_t  *priv;

    pool = ngx_create_pool(NGX_OCI_PULL_POOL, log);
    if (pool == NULL) {
        return NULL;
    }

    pull = ngx_pcalloc(pool, sizeof(ngx_oci_pull_t));
    priv = ngx_pcalloc(pool, sizeof(ngx_oci_pull_priv_t));

    if (pull == NULL || priv == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    pull->pool = pool;
    pull->server = server;
    pull->method = NGX_HTTP_GET;
    pull->content_length = -1;
    pull->priv = priv;

    priv->log = *log;
    pull->log = &priv->log;

    priv->event.handler = ngx_oci_pull_done;
    priv->event.data = pull;
    priv->event.log = pull->log;

    return pull;
}


ngx_int_t
ngx_oci_pull_start(ngx_oci_pull_t *pull)
{
    int                   s[2];
    ngx_oci_pull_priv_t  *priv;

    priv = pull->priv;

    priv->request = ngx_oci_pull_text(pull);
    priv->header = ngx_create_temp_buf(pull->pool, NGX_OCI_PULL_HEADER);
    priv->parser = ngx_pcalloc(pull->pool, sizeof(ngx_http_request_t));

    if (priv->request == NULL || priv->header == NULL
        || priv->parser == NULL)
    {
        ngx_oci_pull_free(pull);
        return NGX_ERROR;
    }

    if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0, s)
        == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, pull->log, ngx_socket_errno,
                      "socketpair() failed");
        ngx_oci_pull_free(pull);
        return NGX_ERROR;
    }

    /* each of the two owns its descriptor, whatever comes of it */

    if (ngx_oci_pull_connect(pull, s[0]) != NGX_OK) {
        (void) close(s[1]);
        ngx_oci_pull_free(pull);
        return NGX_ERROR;
    }

    if (ngx_oci_pull_serve(pull, s[1]) != NGX_OK) {
        ngx_oci_pull_free(pull);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the server's end, as ngx_event_accept() makes one */

static ngx_int_t
ngx_oci_pull_serve(ngx_oci_pull_t *pull, ngx_socket_t s)
{
    ngx_log_t         *log;
    ngx_connection_t  *c;

    c = ngx_get_connection(s, pull->log);

    if (c == NULL) {
        (void) close(s);
        return NGX_ERROR;
    }

    c->type = SOCK_STREAM;

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, 1);
#endif

    c->pool = ngx_create_pool(NGX_OCI_PULL_POOL, pull->log);

    if (c->pool == NULL) {
        goto failed;
    }

    log = ngx_palloc(c->pool, sizeof(ngx_log_t));

    if (log == NULL || ngx_oci_pull_end(pull, c) != NGX_OK) {
        goto failed;
    }

    *log = *ngx_cycle->log;

    c->recv = ngx_recv;
    c->send = ngx_send;
    c->recv_chain = ngx_recv_chain;
    c->send_chain = ngx_send_chain;

    c->log = log;
    c->pool->log = log;
    c->read->log = log;
    c->write->log = log;

    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;

    c->write->ready = 1;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;

    log->data = NULL;
    log->handler = NULL;

    c->listening->handler(c);

    return NGX_OK;

failed:

    if (c->pool) {
        ngx_destroy_pool(c->pool);
    }

    ngx_close_connection(c);

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, -1);
#endif

    return NGX_ERROR;
}


/* a listening socket of its own, of one server without TLS */

static ngx_int_t
ngx_oci_pull_end(ngx_oci_pull_t *pull, ngx_connection_t *c)
{
    ngx_oci_pull_end_t  *end;

    end = ngx_pcalloc(c->pool, sizeof(ngx_oci_pull_end_t));
    if (end == NULL) {
        return NGX_ERROR;
    }

    end->registry = pull->registry;
    end->preheat = pull->preheat;
    end->pin = pull->pin;
    end->ssl = pull->ssl;
    end->sockaddr.sun_family = AF_UNIX;

    end->addr.conf.default_server = pull->server;
    end->port.addrs = &end->addr;
    end->port.naddrs = 1;

    end->listening.fd = (ngx_socket_t) -1;
    end->listening.sockaddr = (struct sockaddr *) &end->sockaddr;
    end->listening.socklen = offsetof(struct sockaddr_un, sun_path) + 1;
    end->listening.type = SOCK_STREAM;
    end->listening.handler = ngx_oci_pull_accepted;
    end->listening.servers = &end->port;
    ngx_str_set(&end->listening.addr_text, "unix:");

    c->listening = &end->listening;
    c->sockaddr = end->listening.sockaddr;
    c->socklen = end->listening.socklen;
    c->local_sockaddr = end->listening.sockaddr;
    c->local_socklen = end->listening.socklen;
    ngx_str_set(&c->addr_text, "unix:");

    return NGX_OK;
}


/* also what such a connection is known by */

static void
ngx_oci_pull_accepted(ngx_connection_t *c)
{
    ngx_http_init_connection(c);
}


static ngx_int_t
ngx_oci_pull_connect(ngx_oci_pull_t *pull, ngx_socket_t s)
{
    ngx_connection_t     *c;
    ngx_oci_pull_priv_t  *priv;

    priv = pull->priv;

    c = ngx_get_connection(s, pull->log);

    if (c == NULL) {
        (void) close(s);
        return NGX_ERROR;
    }

    priv->connection = c;

    c->type = SOCK_STREAM;
    c->data = pull;
    c->log = pull->log;
    c->recv = ngx_recv;
    c->send = ngx_send;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);

    c->read->handler = ngx_oci_pull_read;
    c->read->log = pull->log;
    c->write->handler = ngx_oci_pull_write;
    c->write->log = pull->log;
    c->write->ready = 1;

    /* nothing is taken from or given to it before the event loop */

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_post_event(c->write, &ngx_posted_events);

    return NGX_OK;
}


static ngx_buf_t *
ngx_oci_pull_text(ngx_oci_pull_t *pull)
{
    size_t               len;
    u_char              *p;
    ngx_buf_t           *b;
    ngx_pool_cleanup_t  *cln;

    /* HTTP/1.0: the body comes as it is, and ends with the connection */

    len = sizeof("HEAD  HTTP/1.0" CRLF "Host: " CRLF
                 "User-Agent: nginx-oci/" NGX_OCI_VERSION CRLF
                 "Accept: " CRLF "Authorization: " CRLF CRLF)
          + pull->uri.len + pull->host.len + pull->accept.len
          + pull->authorization.len;

    b = ngx_create_temp_buf(pull->pool, len);
    cln = ngx_pool_cleanup_add(pull->pool, 0);

    if (b == NULL || cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_oci_pull_wipe;
    cln->data = b;

    p = ngx_sprintf(b->last, "%s %V HTTP/1.0" CRLF "Host: %V" CRLF
                    "User-Agent: nginx-oci/" NGX_OCI_VERSION CRLF,
                    pull->method == NGX_HTTP_HEAD ? "HEAD" : "GET",
                    &pull->uri, &pull->host);

    if (pull->accept.len) {
        p = ngx_sprintf(p, "Accept: %V" CRLF, &pull->accept);
    }

    if (pull->authorization.len) {
        p = ngx_sprintf(p, "Authorization: %V" CRLF, &pull->authorization);
    }

    b->last = ngx_cpymem(p, CRLF, 2);

    return b;
}


static void
ngx_oci_pull_wipe(void *data)
{
    ngx_buf_t *b = data;

    ngx_explicit_memzero(b->start, b->end - b->start);
}


static void
ngx_oci_pull_write(ngx_event_t *ev)
{
    ssize_t               n;
    ngx_buf_t            *b;
    ngx_oci_pull_t       *pull;
    ngx_connection_t     *c;
    ngx_oci_pull_priv_t  *priv;

    c = ev->data;
    pull = c->data;
    priv = pull->priv;
    b = priv->request;

    while (b->pos < b->last) {

        n = c->send(c, b->pos, b->last - b->pos);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0) {
            ngx_oci_pull_finish(pull, NGX_ERROR);
            return;
        }

        b->pos += n;
    }

    if (ngx_handle_write_event(ev, 0) != NGX_OK) {
        ngx_oci_pull_finish(pull, NGX_ERROR);
    }
}


static void
ngx_oci_pull_read(ngx_event_t *ev)
{
    u_char               *p;
    size_t                size;
    ssize_t               n;
    ngx_buf_t            *b;
    ngx_int_t             rc;
    ngx_uint_t            turn;
    ngx_oci_pull_t       *pull;
    ngx_connection_t     *c;
    ngx_oci_pull_priv_t  *priv;

    c = ev->data;
    pull = c->data;
    priv = pull->priv;
    b = priv->header;

    /* after its header the buffer takes the body's pieces */

    for (turn = 0; turn < 64; turn++) {

        p = priv->header_parsed ? b->start : b->last;
        size = b->end - p;

        if (size == 0) {
            ngx_log_error(NGX_LOG_ERR, pull->log, 0,
                          "the edge's own answer to \"%V\" has too long a "
                          "header", &pull->uri);
            ngx_oci_pull_finish(pull, NGX_ERROR);
            return;
        }

        n = c->recv(c, p, size);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(ev, 0) != NGX_OK) {
                ngx_oci_pull_finish(pull, NGX_ERROR);
            }

            return;
        }

        if (n <= 0) {
            ngx_oci_pull_finish(pull, (n == 0 && priv->header_parsed
                                       && (pull->content_length == -1
                                           || pull->preheat
                                           || pull->status != NGX_HTTP_OK
                                           || pull->method == NGX_HTTP_HEAD
                                           || (off_t) pull->size
                                              == pull->content_length))
                                      ? NGX_OK : NGX_ERROR);
            return;
        }

        if (priv->header_parsed) {
            rc = ngx_oci_pull_body(pull, p, n);

        } else {
            b->last += n;
            rc = ngx_oci_pull_header(pull);

            if (rc == NGX_OK && priv->header_parsed) {
                rc = ngx_oci_pull_body(pull, b->pos, b->last - b->pos);
            }
        }

        if (rc != NGX_OK) {
            ngx_oci_pull_finish(pull, rc);
            return;
        }
    }

    ngx_post_event(ev, &ngx_posted_next_events);
}


/* NGX_OK: it, or a part of it; NGX_ERROR */

static ngx_int_t
ngx_oci_pull_header(ngx_oci_pull_t *pull)
{
    ngx_buf_t            *b;
    ngx_int_t             rc;
    ngx_str_t             name, value;
    ngx_http_request_t   *r;
    ngx_oci_pull_priv_t  *priv;

    priv = pull->priv;
    b = priv->header;
    r = priv->parser;

    if (!priv->status_parsed) {

        rc = ngx_http_parse_status_line(r, b, &priv->line);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }

        priv->status_parsed = 1;
        pull->status = priv->line.code;
        r->state = 0;
    }

    for ( ;; ) {

        rc = ngx_http_parse_header_line(r, b, 1);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            priv->header_parsed = 1;
            return NGX_OK;
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }

        name.data = r->header_name_start;
        name.len = r->header_name_end - r->header_name_start;
        value.data = r->header_start;
        value.len = r->header_end - r->header_start;

        if (ngx_oci_pull_field(pull, &name, &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_oci_pull_field(ngx_oci_pull_t *pull, ngx_str_t *name, ngx_str_t *value)
{
    ngx_str_t   *dst;
    ngx_uint_t   i;

    struct {
        ngx_str_t   name;
        ngx_str_t  *value;
    } fields[] = {
        { ngx_string("Content-Type"), &pull->content_type },
        { ngx_string("Docker-Content-Digest"), &pull->digest },
        { ngx_string("Cache-Status"), &pull->cache_status },
        { ngx_string("Retry-After"), &pull->retry_after },
        { ngx_null_string, NULL }
    };

    if (name->len == sizeof("Content-Length") - 1
        && ngx_strncasecmp(name->data, (u_char *) "Content-Length",
                           name->len) == 0)
    {
        pull->content_length = ngx_atoof(value->data, value->len);
        return (pull->content_length == NGX_ERROR) ? NGX_ERROR : NGX_OK;
    }

    for (i = 0; fields[i].value; i++) {

        if (fields[i].name.len != name->len
            || ngx_strncasecmp(fields[i].name.data, name->data, name->len)
               != 0)
        {
            continue;
        }

        dst = fields[i].value;
        dst->data = ngx_pstrdup(pull->pool, value);
        dst->len = value->len;

        return dst->data ? NGX_OK : NGX_ERROR;
    }

    return NGX_OK;
}


/* NGX_OK; NGX_ERROR: no memory; NGX_DECLINED: it is more than is wanted */

static ngx_int_t
ngx_oci_pull_body(ngx_oci_pull_t *pull, u_char *p, size_t size)
{
    size_t                room;
    u_char               *body;
    ngx_oci_pull_priv_t  *priv;

    priv = pull->priv;

    /* what an error says is for people */

    if (pull->preheat || pull->status != NGX_HTTP_OK) {
        return NGX_OK;
    }

    if (size > pull->max - pull->size) {
        return NGX_DECLINED;
    }

    if (pull->size + size > priv->room) {

        room = ngx_max(2 * priv->room, pull->size + size);

        if (pull->content_length > 0
            && (size_t) pull->content_length <= pull->max)
        {
            room = ngx_max(room, (size_t) pull->content_length);
        }

        room = ngx_min(room, pull->max);

        body = realloc(pull->body, room);
        if (body == NULL) {
            return NGX_ERROR;
        }

        pull->body = body;
        priv->room = room;
    }

    if (size) {
        ngx_memcpy(pull->body + pull->size, p, size);
        pull->size += size;
    }

    return NGX_OK;
}


void
ngx_oci_pull_abort(ngx_oci_pull_t *pull)
{
    ngx_oci_pull_priv_t *priv = pull->priv;

    if (priv->connection == NULL && !priv->ending) {
        ngx_oci_pull_free(pull);
        return;
    }

    ngx_oci_pull_finish(pull, NGX_ABORT);
}


/* done() follows from the event loop */

static void
ngx_oci_pull_finish(ngx_oci_pull_t *pull, ngx_int_t rc)
{
    ngx_oci_pull_priv_t *priv = pull->priv;

    if (priv->connection) {
        ngx_close_connection(priv->connection);
        priv->connection = NULL;
    }

    priv->rc = rc;

    if (!priv->ending) {
        priv->ending = 1;
        ngx_post_event(&priv->event, &ngx_posted_events);
    }
}


static void
ngx_oci_pull_done(ngx_event_t *ev)
{
    ngx_oci_pull_t       *pull;
    ngx_oci_pull_priv_t  *priv;

    pull = ev->data;
    priv = pull->priv;

    pull->done(pull, priv->rc);

    ngx_oci_pull_free(pull);
}


static void
ngx_oci_pull_free(ngx_oci_pull_t *pull)
{
    ngx_oci_pull_priv_t *priv = pull->priv;

    if (priv->connection) {
        ngx_close_connection(priv->connection);
    }

    free(pull->body);

    ngx_destroy_pool(pull->pool);
}


static ngx_oci_pull_end_t *
ngx_oci_pull_of(ngx_http_request_t *r)
{
    ngx_listening_t  *ls;

    ls = r->connection->listening;

    if (ls == NULL || ls->handler != ngx_oci_pull_accepted) {
        return NULL;
    }

    return (ngx_oci_pull_end_t *) ls;
}


ngx_uint_t
ngx_oci_pull_own(ngx_http_request_t *r)
{
    ngx_oci_pull_end_t  *end;

    end = ngx_oci_pull_of(r);

    return (end == NULL) ? NGX_OCI_PULL_NOT
           : end->preheat ? NGX_OCI_PULL_PREHEAT : NGX_OCI_PULL_BODY;
}


time_t
ngx_oci_pull_pin(ngx_http_request_t *r)
{
    ngx_oci_pull_end_t  *end;

    end = ngx_oci_pull_of(r);

    return end ? end->pin : 0;
}


/*
 * Servers send clients from http to https, by what these say.  The sockets
 * between the two ends have no TLS, and need none.
 */

static ngx_int_t
ngx_oci_pull_secure(ngx_http_request_t *r)
{
    ngx_oci_pull_end_t  *end;

    end = ngx_oci_pull_of(r);

    if (end && end->ssl) {
        ngx_oci_pull_variable(r, ngx_oci_pull_scheme, "https");
        ngx_oci_pull_variable(r, ngx_oci_pull_https, "on");
    }

    return NGX_DECLINED;
}


static void
ngx_oci_pull_variable(ngx_http_request_t *r, ngx_int_t index, char *text)
{
    ngx_http_variable_value_t  *v;

    v = &r->variables[index];

    v->data = (u_char *) text;
    v->len = ngx_strlen(text);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}


/*
 * The edge's own requests go past the access phase: of a client's address,
 * credentials and rights there is nothing to be decided.
 */

static ngx_int_t
ngx_oci_pull_handler(ngx_http_request_t *r)
{
    ngx_int_t                   i;
    ngx_uint_t                  status, code;
    ngx_oci_ctx_t              *ctx;
    ngx_oci_pass_t             *pass;
    ngx_oci_loc_conf_t         *olcf;
    ngx_oci_pull_end_t         *end;
    ngx_http_phase_handler_t   *ph;
    ngx_http_core_main_conf_t  *cmcf;

    end = ngx_oci_pull_of(r);
    if (end == NULL) {
        return NGX_DECLINED;
    }

    /* what it has to show itself with is that registry's, and nobody else's */

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);
    pass = ngx_oci_pass_find(r, olcf);

    if (pass == NULL || pass->registry != end->registry) {
        return NGX_HTTP_MISDIRECTED_REQUEST;
    }

    ctx = ngx_oci_core.request(r, &status, &code);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* nor is what is pulled: it is judged when a client asks for it */

    ctx->allowed = ngx_oci_access_policy(r);
    ctx->judge = 0;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ph = cmcf->phase_engine.handlers;

    i = ph[r->phase_handler].next;

    while (ph[i].checker == ngx_http_core_access_phase) {
        i = ph[i].next;
    }

    /* the phase's own checker goes on with the next one */

    r->phase_handler = i - 1;

    return NGX_DECLINED;
}
