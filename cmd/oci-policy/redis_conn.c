
/*
 * Copyright (C) The nginx-oci authors
 *
 * A connection to Redis, with TLS or without; hiredis is the codec, as its
 * 0.14 has no TLS.
 */


#include "redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>


static int op_conn_unix(op_conn_t *c, op_redis_at_t *at);
static int op_conn_inet(op_conn_t *c, op_redis_at_t *at);
static int op_conn_connect(int fd, struct sockaddr *sa, socklen_t len,
    int timeout);
static int op_conn_tls(op_conn_t *c, op_redis_at_t *at);
static int op_conn_login(op_conn_t *c, op_redis_at_t *at);
static ssize_t op_conn_read(op_conn_t *c, char *buf, size_t size);


int
op_conn_open(op_conn_t *c, op_redis_at_t *at)
{
    int  rc, on;

    memset(c, 0, sizeof(op_conn_t));
    c->fd = -1;
    c->name = at->name;

    rc = at->path ? op_conn_unix(c, at) : op_conn_inet(c, at);

    if (rc == OP_OK) {
        on = 1;
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void) setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        (void) op_conn_timeout(c, at->timeout);

        c->reader = op_memory(redisReaderCreate());

        if (at->tls) {
            rc = op_conn_tls(c, at);
        }
    }

    if (rc == OP_OK) {
        rc = op_conn_login(c, at);
    }

    if (rc != OP_OK) {
        op_conn_close(c);
    }

    return rc;
}


static int
op_conn_unix(op_conn_t *c, op_redis_at_t *at)
{
    struct sockaddr_un  sa;

    memset(&sa, 0, sizeof(sa));
    sa.sun_family = AF_UNIX;

    if (strlen(at->path) >= sizeof(sa.sun_path)) {
        op_error("\"%s\" is too long a path for a socket", at->path);
        return OP_FAILED;
    }

    strcpy(sa.sun_path, at->path);

    c->fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sa, sizeof(sa)) == -1)
    {
        op_error("\"%s\" can't be connected to (%s)", at->name,
                 strerror(errno));
        return OP_FAILED;
    }

    return OP_OK;
}


/* the first address that answers */

static int
op_conn_inet(op_conn_t *c, op_redis_at_t *at)
{
    int               rc;
    struct addrinfo   hints, *list, *ai;

    memset(&hints, 0, sizeof(hints));
    hints.ai_socktype = SOCK_STREAM;

    rc = getaddrinfo(at->host, at->port, &hints, &list);

    if (rc != 0) {
        op_error("host \"%s\" can't be resolved (%s)", at->host,
                 gai_strerror(rc));
        return OP_FAILED;
    }

    for (ai = list; ai; ai = ai->ai_next) {

        c->fd = socket(ai->ai_family, SOCK_STREAM|SOCK_CLOEXEC, 0);

        if (c->fd != -1
            && op_conn_connect(c->fd, ai->ai_addr, ai->ai_addrlen,
                               at->timeout)
               == OP_OK)
        {
            freeaddrinfo(list);
            return OP_OK;
        }

        rc = errno;

        if (c->fd != -1) {
            (void) close(c->fd);
            c->fd = -1;
        }
    }

    freeaddrinfo(list);
    op_error("\"%s\" can't be connected to (%s)", at->name, strerror(rc));

    return OP_FAILED;
}


/* else errno says why */

static int
op_conn_connect(int fd, struct sockaddr *sa, socklen_t len, int timeout)
{
    int            err, flags;
    socklen_t      n;
    struct pollfd  pfd;

    flags = fcntl(fd, F_GETFL);
    (void) fcntl(fd, F_SETFL, flags|O_NONBLOCK);

    if (connect(fd, sa, len) == -1) {

        if (errno != EINPROGRESS) {
            return OP_FAILED;
        }

        pfd.fd = fd;
        pfd.events = POLLOUT;

        err = poll(&pfd, 1, timeout * 1000);

        if (err <= 0) {
            errno = err ? errno : ETIMEDOUT;
            return OP_FAILED;
        }

        n = sizeof(err);

        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == -1) {
            return OP_FAILED;
        }

        if (err) {
            errno = err;
            return OP_FAILED;
        }
    }

    (void) fcntl(fd, F_SETFL, flags);

    return OP_OK;
}


int
op_conn_timeout(op_conn_t *c, int seconds)
{
    struct timeval  tv;

    tv.tv_sec = seconds;
    tv.tv_usec = 0;

    return setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0
           && setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv))
              == 0
           ? OP_OK : OP_FAILED;
}


/* always verified, with the name or address of the source */

static int
op_conn_tls(op_conn_t *c, op_redis_at_t *at)
{
    long                verify;
    const char         *why;
    unsigned char       addr[sizeof(struct in6_addr)];
    X509_VERIFY_PARAM  *param;

    c->ctx = op_memory(SSL_CTX_new(TLS_client_method()));

    (void) SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    (void) SSL_CTX_set_mode(c->ctx, SSL_MODE_AUTO_RETRY);

    if (at->ca_file
        ? SSL_CTX_load_verify_locations(c->ctx, at->ca_file, NULL) != 1
        : SSL_CTX_set_default_verify_paths(c->ctx) != 1)
    {
        op_error("the certificates in \"%s\" can't be read",
                 at->ca_file ? at->ca_file : "the system's store");
        return OP_FAILED;
    }

    c->ssl = op_memory(SSL_new(c->ctx));
    param = SSL_get0_param(c->ssl);

    if (inet_pton(AF_INET, at->host, addr) == 1
        || inet_pton(AF_INET6, at->host, addr) == 1)
    {
        (void) X509_VERIFY_PARAM_set1_ip_asc(param, at->host);

    } else {
        (void) X509_VERIFY_PARAM_set1_host(param, at->host, 0);
        (void) SSL_set_tlsext_host_name(c->ssl, at->host);
    }

    if (SSL_set_fd(c->ssl, c->fd) == 1 && SSL_connect(c->ssl) == 1) {
        return OP_OK;
    }

    verify = SSL_get_verify_result(c->ssl);
    why = (verify != X509_V_OK) ? X509_verify_cert_error_string(verify)
                                : ERR_reason_error_string(ERR_peek_error());

    op_error("TLS with \"%s\" failed (%s)", at->name,
             why ? why : "no handshake");

    return OP_FAILED;
}


static int
op_conn_login(op_conn_t *c, op_redis_at_t *at)
{
    int          n, rc;
    redisReply  *reply;
    const char  *argv[3];

    if (at->password[0]) {

        n = 0;
        argv[n++] = "AUTH";

        if (at->user) {
            argv[n++] = at->user;
        }

        argv[n++] = at->password;

        if (op_conn_send(c, n, argv, NULL) != OP_OK
            || op_conn_reply(c, &reply, 0) != OP_OK)
        {
            return OP_FAILED;
        }

        rc = OP_OK;

        if (reply->type == REDIS_REPLY_ERROR) {
            op_error("\"%s\" does not take user and password (%s)",
                     at->name, ngx_oci_redis_error(reply));
            rc = OP_FAILED;
        }

        freeReplyObject(reply);

        if (rc != OP_OK) {
            return rc;
        }
    }

    if (at->db && strcmp(at->db, "0") != 0) {

        argv[0] = "SELECT";
        argv[1] = at->db;

        reply = op_conn_call(c, REDIS_REPLY_STATUS, 2, argv, NULL);

        if (reply == NULL) {
            return OP_FAILED;
        }

        freeReplyObject(reply);
    }

    return OP_OK;
}


void
op_conn_close(op_conn_t *c)
{
    if (c->ssl) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }

    if (c->ctx) {
        SSL_CTX_free(c->ctx);
        c->ctx = NULL;
    }

    if (c->reader) {
        redisReaderFree(c->reader);
        c->reader = NULL;
    }

    if (c->fd != -1) {
        (void) close(c->fd);
        c->fd = -1;
    }
}


int
op_conn_send(op_conn_t *c, int argc, const char **argv, const size_t *lens)
{
    int          n;
    char        *text;
    long long    len;
    size_t       done;

    len = redisFormatCommandArgv(&text, argc, argv, lens);

    if (len < 0) {
        (void) op_memory(NULL);
    }

    for (done = 0; done < (size_t) len; done += (size_t) n) {

        n = c->ssl ? SSL_write(c->ssl, text + done,
                               (int) ((size_t) len - done))
                   : (int) send(c->fd, text + done, (size_t) len - done, 0);

        if (n == -1 && c->ssl == NULL && errno == EINTR) {
            n = 0;

        } else if (n <= 0) {
            op_error("the connection to \"%s\" broke (%s)", c->name,
                     errno ? strerror(errno) : "closed");
            break;
        }
    }

    explicit_bzero(text, (size_t) len);
    redisFreeCommand(text);

    return done == (size_t) len ? OP_OK : OP_FAILED;
}


int
op_conn_reply(op_conn_t *c, redisReply **reply, int quiet)
{
    char     buf[65536];
    void    *p;
    size_t   len;
    ssize_t  n;

    len = 0;

    for ( ;; ) {

        p = NULL;

        if (redisReaderGetReply(c->reader, &p) != REDIS_OK) {
            op_error("\"%s\" does not answer as Redis does (%s)", c->name,
                     c->reader->errstr);
            return OP_FAILED;
        }

        if (p) {
            *reply = p;
            return OP_OK;
        }

        n = op_conn_read(c, buf, sizeof(buf));

        if (n <= 0) {

            if (n == OP_AGAIN) {

                if (quiet && len == 0) {
                    return OP_AGAIN;
                }

                op_error("\"%s\" does not answer", c->name);

            } else {
                op_error("\"%s\" closed the connection", c->name);
            }

            return OP_FAILED;
        }

        len += (size_t) n;

        if (len > OP_REPLY_MAX
            || redisReaderFeed(c->reader, buf, (size_t) n) != REDIS_OK)
        {
            op_error("\"%s\" answers too much", c->name);
            return OP_FAILED;
        }
    }
}


/* 0: closed, or broken; OP_AGAIN: too late */

static ssize_t
op_conn_read(op_conn_t *c, char *buf, size_t size)
{
    int      err;
    ssize_t  n;

    for ( ;; ) {

        errno = 0;

        if (c->ssl == NULL) {

            n = recv(c->fd, buf, size, 0);

            if (n >= 0) {
                return n;
            }

        } else {

            n = SSL_read(c->ssl, buf, (int) size);

            if (n > 0) {
                return n;
            }

            err = SSL_get_error(c->ssl, (int) n);

            if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_SYSCALL) {
                return 0;
            }
        }

        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return OP_AGAIN;
        }

        if (errno != EINTR) {
            return 0;
        }
    }
}


redisReply *
op_conn_call(op_conn_t *c, int type, int argc, const char **argv,
    const size_t *lens)
{
    redisReply  *reply;

    if (op_conn_send(c, argc, argv, lens) != OP_OK
        || op_conn_reply(c, &reply, 0) != OP_OK)
    {
        return NULL;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        op_error("\"%s\" refuses %s (%s)", c->name, argv[0],
                 ngx_oci_redis_error(reply));
        freeReplyObject(reply);
        return NULL;
    }

    if (type && reply->type != type) {
        op_error("\"%s\" answers something else than is due to %s", c->name,
                 argv[0]);
        freeReplyObject(reply);
        return NULL;
    }

    return reply;
}
