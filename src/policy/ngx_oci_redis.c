
/*
 * Copyright (C) The nginx-oci authors
 *
 * A connection to a Redis, on nginx's own events.
 */


#include "ngx_oci_redis.h"


#define NGX_OCI_REDIS_BUFFER  16384     /* bytes, read at a time */
#define NGX_OCI_REDIS_ROUND   8         /* such, before others have a turn */
#define NGX_OCI_REDIS_LONGEST 60000     /* ms, that any answer takes */


typedef enum {
    NGX_OCI_REDIS_CLOSED = 0,
    NGX_OCI_REDIS_FAILED,               /* closed() is to be called */
    NGX_OCI_REDIS_RESOLVING,
    NGX_OCI_REDIS_CONNECTING,
    NGX_OCI_REDIS_HANDSHAKE,
    NGX_OCI_REDIS_LOGIN,
    NGX_OCI_REDIS_READY
} ngx_oci_redis_state_e;


static void ngx_oci_redis_resolve(ngx_oci_redis_t *rd);
static void ngx_oci_redis_resolved(ngx_resolver_ctx_t *ctx);
static void ngx_oci_redis_connect(ngx_oci_redis_t *rd);
static void ngx_oci_redis_connected(ngx_oci_redis_t *rd);
#if (NGX_SSL)
static void ngx_oci_redis_handshake(ngx_oci_redis_t *rd);
static void ngx_oci_redis_handshake_handler(ngx_connection_t *c);
static void ngx_oci_redis_secured(ngx_oci_redis_t *rd);
static ngx_int_t ngx_oci_redis_check_name(ngx_oci_redis_t *rd,
    ngx_connection_t *c);
#endif
static void ngx_oci_redis_login(ngx_oci_redis_t *rd);
static void ngx_oci_redis_login_reply(ngx_oci_redis_t *rd,
    redisReply *reply);
static void ngx_oci_redis_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_oci_redis_take(ngx_oci_redis_t *rd, u_char *p,
    size_t n);
static void ngx_oci_redis_dispatch(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_redis_write_handler(ngx_event_t *wev);
static void ngx_oci_redis_timer_handler(ngx_event_t *ev);
static void ngx_oci_redis_timer(ngx_oci_redis_t *rd, ngx_msec_t ms);


void
ngx_oci_redis_init(ngx_oci_redis_t *rd, ngx_log_t *log)
{
    rd->log = *log;

    rd->dummy.fd = (ngx_socket_t) -1;
    rd->dummy.data = rd;

    rd->timer.handler = ngx_oci_redis_timer_handler;
    rd->timer.data = &rd->dummy;
    rd->timer.log = &rd->log;
    rd->timer.cancelable = 1;
}


ngx_uint_t
ngx_oci_redis_is_ready(ngx_oci_redis_t *rd)
{
    return rd->state == NGX_OCI_REDIS_READY;
}


void
ngx_oci_redis_open(ngx_oci_redis_t *rd)
{
    ngx_oci_redis_close(rd);

    /* the connection's own: what is said is said by the owner, once */

    rd->log.log_level = NGX_LOG_ALERT;
    rd->attempt++;

    ngx_oci_redis_timer(rd, rd->conf->connect_timeout);

    if (ngx_oci_redis_reader_init(&rd->reader) != NGX_OK) {
        ngx_oci_redis_fail(rd, "no memory", 0);
        return;
    }

    if (rd->conf->host.len) {
        ngx_oci_redis_resolve(rd);
        return;
    }

    rd->addr = rd->conf->addrs[rd->attempt % rd->conf->naddrs];

    ngx_oci_redis_connect(rd);
}


void
ngx_oci_redis_close(ngx_oci_redis_t *rd)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    rd->state = NGX_OCI_REDIS_CLOSED;
    rd->serial++;
    rd->waiting = 0;
    rd->first = 0;

    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    if (rd->resolving) {
        ngx_resolve_name_done(rd->resolving);
        rd->resolving = NULL;
    }

    c = rd->peer.connection;

    if (c) {
        rd->peer.connection = NULL;
        pool = c->pool;

#if (NGX_SSL)
        if (c->ssl) {
            c->ssl->no_wait_shutdown = 1;
            (void) ngx_ssl_shutdown(c);
        }
#endif

        ngx_close_connection(c);

        if (pool) {
            ngx_destroy_pool(pool);
        }
    }

    ngx_oci_redis_reader_done(&rd->reader);

    if (rd->out) {
        ngx_explicit_memzero(rd->out, rd->out_size);
        ngx_free(rd->out);
        rd->out = NULL;
    }

    rd->out_len = 0;
    rd->out_sent = 0;
    rd->out_size = 0;
}


void
ngx_oci_redis_fail(ngx_oci_redis_t *rd, const char *why, ngx_err_t err)
{
    ngx_oci_redis_close(rd);

    rd->state = NGX_OCI_REDIS_FAILED;
    rd->failure = why;
    rd->err = err;

    ngx_oci_redis_timer(rd, 1);
}


void
ngx_oci_redis_refused(ngx_oci_redis_t *rd, const char *what,
    redisReply *reply)
{
    (void) ngx_snprintf((u_char *) rd->why, sizeof(rd->why),
                        "it refused %s (%s)%Z", what,
                        ngx_oci_redis_error(reply));

    ngx_oci_redis_fail(rd, rd->why, 0);
}


static void
ngx_oci_redis_timer(ngx_oci_redis_t *rd, ngx_msec_t ms)
{
    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    ngx_add_timer(&rd->timer, ms);
}


static void
ngx_oci_redis_timer_handler(ngx_event_t *ev)
{
    ngx_oci_redis_t   *rd;
    ngx_connection_t  *c;

    c = ev->data;
    rd = c->data;

    switch (rd->state) {

    case NGX_OCI_REDIS_CLOSED:
        return;

    case NGX_OCI_REDIS_FAILED:
        rd->state = NGX_OCI_REDIS_CLOSED;
        rd->closed(rd, rd->failure, rd->err);
        return;

    case NGX_OCI_REDIS_READY:
        ngx_oci_redis_fail(rd, "it didn't answer in time", 0);
        return;

    default:
        ngx_oci_redis_fail(rd, "it could not be connected to in time", 0);
    }
}


static void
ngx_oci_redis_resolve(ngx_oci_redis_t *rd)
{
    ngx_resolver_ctx_t  *ctx, temp;

    rd->state = NGX_OCI_REDIS_RESOLVING;

    temp.name = rd->conf->host;
    ctx = ngx_resolve_start(rd->conf->resolver, &temp);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_oci_redis_fail(rd, "its name can't be resolved", 0);
        return;
    }

    ctx->name = rd->conf->host;
    ctx->handler = ngx_oci_redis_resolved;
    ctx->data = rd;
    ctx->cancelable = 1;

    /* an address that is known is tried while there is time for it */

    ctx->timeout = rd->known ? rd->conf->connect_timeout / 2
                             : rd->conf->connect_timeout;

    rd->resolving = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        rd->resolving = NULL;
        ngx_oci_redis_fail(rd, "its name can't be resolved", 0);
    }
}


static void
ngx_oci_redis_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t             state;
    ngx_oci_redis_t      *rd;
    ngx_resolver_addr_t  *addr;

    rd = ctx->data;
    state = ctx->state;

    if (state == 0 && ctx->naddrs) {
        addr = &ctx->addrs[rd->attempt % ctx->naddrs];

        ngx_memcpy(&rd->resolved, addr->sockaddr, addr->socklen);
        rd->addr.socklen = addr->socklen;
        rd->known = 1;

        ngx_inet_set_port(&rd->resolved.sockaddr, rd->conf->port);
    }

    /* that there is no such name is an answer */

    if (state == NGX_RESOLVE_NXDOMAIN) {
        rd->known = 0;
    }

    rd->resolving = NULL;
    ngx_resolve_name_done(ctx);

    if (!rd->known) {
        ngx_oci_redis_fail(rd, (state == NGX_RESOLVE_NXDOMAIN)
                               ? "there is no such name"
                               : "its name can't be resolved", 0);
        return;
    }

    rd->addr.sockaddr = &rd->resolved.sockaddr;
    rd->addr.name = rd->conf->host;

    ngx_oci_redis_connect(rd);
}


static void
ngx_oci_redis_connect(ngx_oci_redis_t *rd)
{
    ngx_int_t               rc;
    ngx_err_t               err;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *pc;

    rd->state = NGX_OCI_REDIS_CONNECTING;

    pc = &rd->peer;
    ngx_memzero(pc, sizeof(ngx_peer_connection_t));

    pc->sockaddr = rd->addr.sockaddr;
    pc->socklen = rd->addr.socklen;
    pc->name = &rd->conf->source;
    pc->get = ngx_event_get_peer;
    pc->log = &rd->log;
    pc->log_error = NGX_ERROR_ERR;
    pc->so_keepalive = 1;

    ngx_set_socket_errno(0);

    rc = ngx_event_connect_peer(pc);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        err = ngx_socket_errno;
        ngx_oci_redis_fail(rd, "it can't be connected to", err);
        return;
    }

    c = pc->connection;
    c->data = rd;
    c->read->handler = ngx_oci_redis_read_handler;
    c->write->handler = ngx_oci_redis_write_handler;

    c->pool = ngx_create_pool(256, &rd->log);

    if (c->pool == NULL) {
        ngx_oci_redis_fail(rd, "no memory", 0);
        return;
    }

    if (rc == NGX_OK) {
        ngx_oci_redis_connected(rd);
    }
}


static void
ngx_oci_redis_connected(ngx_oci_redis_t *rd)
{
    int                err;
    socklen_t          len;
    ngx_connection_t  *c;

    c = rd->peer.connection;
    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_oci_redis_fail(rd, "it can't be connected to", err);
        return;
    }

    if (rd->addr.sockaddr->sa_family != AF_UNIX
        && ngx_tcp_nodelay(c) != NGX_OK)
    {
        ngx_oci_redis_fail(rd, "it can't be connected to", 0);
        return;
    }

#if (NGX_SSL)
    if (rd->conf->ssl) {
        ngx_oci_redis_handshake(rd);
        return;
    }
#endif

    ngx_oci_redis_login(rd);
}


#if (NGX_SSL)

static void
ngx_oci_redis_handshake(ngx_oci_redis_t *rd)
{
    ngx_connection_t  *c;

    rd->state = NGX_OCI_REDIS_HANDSHAKE;

    /* what OpenSSL has to say of it, once */

    if (!rd->quiet) {
        rd->log.log_level = NGX_LOG_ERR;
    }

    c = rd->peer.connection;

    if (ngx_ssl_create_connection(rd->conf->ssl, c,
                                  NGX_SSL_BUFFER|NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_oci_redis_fail(rd, "TLS failed", 0);
        return;
    }

    /* what was to be sent may have moved when it is sent at last */

    (void) SSL_set_mode(c->ssl->connection,
                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    /* an address has no place there (RFC 6066) */

    if (!rd->conf->ssl_address
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) rd->conf->ssl_name.data)
           == 0)
    {
        ngx_oci_redis_fail(rd, "TLS failed", 0);
        return;
    }

    if (ngx_ssl_handshake(c) == NGX_AGAIN) {
        c->ssl->handler = ngx_oci_redis_handshake_handler;
        return;
    }

    ngx_oci_redis_secured(rd);
}


static void
ngx_oci_redis_handshake_handler(ngx_connection_t *c)
{
    ngx_oci_redis_secured(c->data);
}


static void
ngx_oci_redis_secured(ngx_oci_redis_t *rd)
{
    ngx_connection_t  *c;

    c = rd->peer.connection;

    if (!c->ssl->handshaked) {
        ngx_oci_redis_fail(rd, "the TLS handshake failed", 0);
        return;
    }

    if (rd->conf->ssl_verify) {

        if (SSL_get_verify_result(c->ssl->connection) != X509_V_OK) {
            ngx_oci_redis_fail(rd, "its certificate is not trusted", 0);
            return;
        }

        if (ngx_oci_redis_check_name(rd, c) != NGX_OK) {
            ngx_oci_redis_fail(rd, "its certificate is of another name", 0);
            return;
        }
    }

    c->read->handler = ngx_oci_redis_read_handler;
    c->write->handler = ngx_oci_redis_write_handler;

    ngx_oci_redis_login(rd);
}


/* nginx looks for names only */

static ngx_int_t
ngx_oci_redis_check_name(ngx_oci_redis_t *rd, ngx_connection_t *c)
{
    int    rc;
    X509  *cert;

    if (!rd->conf->ssl_address) {
        return ngx_ssl_check_host(c, &rd->conf->ssl_name);
    }

    cert = SSL_get1_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        return NGX_ERROR;
    }

    rc = X509_check_ip_asc(cert, (char *) rd->conf->ssl_name.data, 0);

    X509_free(cert);

    return (rc == 1) ? NGX_OK : NGX_ERROR;
}

#endif


static void
ngx_oci_redis_login(ngx_oci_redis_t *rd)
{
    size_t                 len[3];
    ngx_uint_t             n;
    const char            *argv[3];
    ngx_oci_redis_conf_t  *conf;

    rd->state = NGX_OCI_REDIS_LOGIN;
    conf = rd->conf;

    if (conf->password.len) {
        n = 0;
        argv[n] = "AUTH";
        len[n++] = 4;

        if (conf->user.len) {
            argv[n] = (char *) conf->user.data;
            len[n++] = conf->user.len;
        }

        argv[n] = (char *) conf->password.data;
        len[n++] = conf->password.len;

        ngx_oci_redis_command(rd, ngx_oci_redis_login_reply, n, argv, len);
    }

    if (conf->database.len) {
        argv[0] = "SELECT";
        len[0] = 6;
        argv[1] = (char *) conf->database.data;
        len[1] = conf->database.len;

        ngx_oci_redis_command(rd, ngx_oci_redis_login_reply, 2, argv, len);
    }

    /* what logs in nowhere talks to somebody at least */

    if (rd->waiting == 0) {
        argv[0] = "PING";
        len[0] = 4;

        ngx_oci_redis_command(rd, ngx_oci_redis_login_reply, 1, argv, len);
    }

    if (rd->state == NGX_OCI_REDIS_LOGIN) {
        ngx_oci_redis_timer(rd, conf->connect_timeout);
        ngx_post_event(rd->peer.connection->read, &ngx_posted_events);
    }
}


static void
ngx_oci_redis_login_reply(ngx_oci_redis_t *rd, redisReply *reply)
{
    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "the login", reply);
        return;
    }

    if (!ngx_oci_redis_status(reply, "OK")
        && !ngx_oci_redis_status(reply, "PONG"))
    {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
        return;
    }

    if (rd->waiting) {
        return;
    }

    /* the answer to AUTH was there: nothing of it is left */

    if (rd->out) {
        ngx_explicit_memzero(rd->out, rd->out_size);
    }

    rd->state = NGX_OCI_REDIS_READY;

    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    rd->ready(rd);
}


void
ngx_oci_redis_command(ngx_oci_redis_t *rd, ngx_oci_redis_pt handler,
    ngx_uint_t n, const char **argv, const size_t *len)
{
    int      size;
    char    *text;
    size_t   want;
    u_char  *p;

    if (rd->state != NGX_OCI_REDIS_READY && rd->state != NGX_OCI_REDIS_LOGIN) {
        return;
    }

    if (rd->waiting == NGX_OCI_REDIS_COMMANDS) {
        ngx_oci_redis_fail(rd, "too many commands wait for an answer", 0);
        return;
    }

    text = NULL;
    size = redisFormatCommandArgv(&text, (int) n, argv, len);

    if (size < 0 || rd->out_len + size > NGX_OCI_REDIS_OUT_MAX) {
        if (size >= 0) {
            ngx_explicit_memzero(text, size);
            redisFreeCommand(text);
        }

        ngx_oci_redis_fail(rd, (size < 0) ? "no memory"
                                          : "it takes no commands", 0);
        return;
    }

    want = rd->out_len + size;

    if (want > rd->out_size) {

        want = ngx_max(want, 2 * rd->out_size);
        p = ngx_alloc(want, &rd->log);

        if (p && rd->out) {
            ngx_memcpy(p, rd->out, rd->out_len);
            ngx_explicit_memzero(rd->out, rd->out_size);
            ngx_free(rd->out);
        }

        if (p == NULL) {
            ngx_explicit_memzero(text, size);
            redisFreeCommand(text);
            ngx_oci_redis_fail(rd, "no memory", 0);
            return;
        }

        rd->out = p;
        rd->out_size = want;
    }

    ngx_memcpy(rd->out + rd->out_len, text, size);
    rd->out_len += size;

    ngx_explicit_memzero(text, size);
    redisFreeCommand(text);

    rd->handlers[(rd->first + rd->waiting) % NGX_OCI_REDIS_COMMANDS] =
                                                                     handler;

    if (rd->waiting++ == 0) {
        rd->since = ngx_current_msec;

        if (rd->state == NGX_OCI_REDIS_READY) {
            ngx_oci_redis_timer(rd, rd->conf->timeout);
        }
    }

    ngx_post_event(rd->peer.connection->write, &ngx_posted_events);
}


static void
ngx_oci_redis_write_handler(ngx_event_t *wev)
{
    ssize_t            n;
    ngx_oci_redis_t   *rd;
    ngx_connection_t  *c;

    c = wev->data;
    rd = c->data;

    if (rd->state == NGX_OCI_REDIS_CONNECTING) {
        ngx_oci_redis_connected(rd);
        return;
    }

    while (rd->out_sent < rd->out_len) {

        n = c->send(c, rd->out + rd->out_sent, rd->out_len - rd->out_sent);

        if (n == NGX_AGAIN || n == 0) {
            break;
        }

        if (n < 0) {
            ngx_oci_redis_fail(rd, "the connection broke", ngx_socket_errno);
            return;
        }

        rd->out_sent += n;
    }

    if (rd->out_sent == rd->out_len) {
        rd->out_sent = 0;
        rd->out_len = 0;
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_oci_redis_fail(rd, "the connection broke", 0);
    }
}


static void
ngx_oci_redis_read_handler(ngx_event_t *rev)
{
    u_char             buf[NGX_OCI_REDIS_BUFFER];
    ssize_t            n;
    ngx_uint_t         round;
    ngx_oci_redis_t   *rd;
    ngx_connection_t  *c;

    c = rev->data;
    rd = c->data;

    if (rd->state == NGX_OCI_REDIS_CONNECTING) {
        ngx_oci_redis_connected(rd);
        return;
    }

    for (round = 0; rev->ready; round++) {

        if (round == NGX_OCI_REDIS_ROUND) {
            ngx_post_event(rev, &ngx_posted_next_events);
            return;
        }

        n = c->recv(c, buf, NGX_OCI_REDIS_BUFFER);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0) {
            ngx_oci_redis_fail(rd, (n == 0) ? "it closed the connection"
                                            : "the connection broke",
                               (n == 0 || c->ssl) ? 0 : ngx_socket_errno);
            return;
        }

        if (ngx_oci_redis_take(rd, buf, n) != NGX_OK) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_oci_redis_fail(rd, "the connection broke", 0);
    }
}


/* NGX_DONE: the connection is not there any more */

static ngx_int_t
ngx_oci_redis_take(ngx_oci_redis_t *rd, u_char *p, size_t n)
{
    ngx_int_t    rc;
    ngx_uint_t   serial;
    redisReply  *reply;

    rc = ngx_oci_redis_reader_feed(&rd->reader, p, n);

    while (rc == NGX_OK) {

        rc = ngx_oci_redis_reader_next(&rd->reader, &reply);

        if (rc != NGX_OK) {
            break;
        }

        serial = rd->serial;

        ngx_oci_redis_dispatch(rd, reply);

        freeReplyObject(reply);

        if (rd->serial != serial) {
            return NGX_DONE;
        }
    }

    if (rc == NGX_ERROR) {
        ngx_oci_redis_fail(rd, rd->reader.error, 0);
        return NGX_DONE;
    }

    /* a long answer takes its time, as long as it goes on */

    if (rd->waiting && rd->state == NGX_OCI_REDIS_READY) {

        if (ngx_current_msec - rd->since > NGX_OCI_REDIS_LONGEST) {
            ngx_oci_redis_fail(rd, "it didn't answer in time", 0);
            return NGX_DONE;
        }

        ngx_oci_redis_timer(rd, rd->conf->timeout);
    }

    return NGX_OK;
}


static void
ngx_oci_redis_dispatch(ngx_oci_redis_t *rd, redisReply *reply)
{
    ngx_oci_redis_pt  handler;

    handler = NULL;

    if (rd->waiting) {
        handler = rd->handlers[rd->first];
        rd->first = (rd->first + 1) % NGX_OCI_REDIS_COMMANDS;
        rd->waiting--;
        rd->since = ngx_current_msec;

        if (rd->waiting == 0 && rd->state == NGX_OCI_REDIS_READY
            && rd->timer.timer_set)
        {
            ngx_del_timer(&rd->timer);
        }
    }

    if (handler == NULL) {
        handler = rd->push;
    }

    if (handler == NULL) {
        ngx_oci_redis_fail(rd, "it answered what it wasn't asked", 0);
        return;
    }

    handler(rd, reply);
}
