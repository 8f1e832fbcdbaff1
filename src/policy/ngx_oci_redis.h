
/*
 * Copyright (C) The nginx-oci authors
 *
 * A connection to a Redis, on nginx's own events: name, connect, TLS, log in,
 * commands and their answers, or what a channel says.
 */


#ifndef _NGX_OCI_REDIS_H_INCLUDED_
#define _NGX_OCI_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include "ngx_oci_redis_reply.h"


#define NGX_OCI_REDIS_COMMANDS  16      /* without an answer, at a time */
#define NGX_OCI_REDIS_OUT_MAX   (1024 * 1024)   /* bytes to be sent */


/* where it is, and how to log in; of the configuration */

typedef struct {
    ngx_str_t                   source;     /* as it was configured */
    ngx_str_t                   host;       /* to be resolved, or "" */
    in_port_t                   port;
    ngx_addr_t                 *addrs;      /* if not */
    ngx_uint_t                  naddrs;
    ngx_str_t                   database;   /* "": 0 */
    ngx_str_t                   user;       /* "": the default one */
    ngx_str_t                   password;   /* "": it needs none */
    ngx_msec_t                  connect_timeout;    /* until it is ready */
    ngx_msec_t                  timeout;    /* of a command */
    ngx_resolver_t             *resolver;   /* with host */

#if (NGX_SSL)
    ngx_ssl_t                  *ssl;        /* NULL: no TLS */
    ngx_str_t                   ssl_name;   /* SNI, and to be verified; a
                                               zero follows */
    ngx_uint_t                  ssl_address;    /* it is one */
    ngx_uint_t                  ssl_verify;
#endif
} ngx_oci_redis_conf_t;


typedef struct ngx_oci_redis_s  ngx_oci_redis_t;

/* the reply goes when it returns */
typedef void (*ngx_oci_redis_pt)(ngx_oci_redis_t *rd, redisReply *reply);


/*
 * Owner: whoever has it in a structure of its own, for as long as the worker
 * lives.  Everything is called from the event loop, none from inside a
 * function of this file that the owner calls.
 */

struct ngx_oci_redis_s {
    /* of the owner */
    ngx_oci_redis_conf_t       *conf;
    void                       *data;
    ngx_uint_t                  quiet;      /* failures were said */
    /* logged in: commands may be sent */
    void                      (*ready)(ngx_oci_redis_t *rd);
    /* what comes unasked for, or to a command without handler; NULL: nothing
       may */
    ngx_oci_redis_pt            push;
    /* it is closed, may be opened again */
    void                      (*closed)(ngx_oci_redis_t *rd,
                                    const char *why, ngx_err_t err);

    /* ngx_oci_redis.c's */
    ngx_log_t                   log;
    ngx_peer_connection_t       peer;
    ngx_resolver_ctx_t         *resolving;
    ngx_event_t                 timer;
    ngx_connection_t            dummy;      /* of timer */
    ngx_addr_t                  addr;       /* that is connected to */
    ngx_sockaddr_t              resolved;
    ngx_uint_t                  known;      /* resolved is an address */
    ngx_uint_t                  attempt;
    ngx_uint_t                  state;
    ngx_uint_t                  serial;     /* of connections */

    char                        why[64];
    const char                 *failure;    /* to be told by timer */
    ngx_err_t                   err;

    ngx_oci_redis_reader_t      reader;
    u_char                     *out;
    size_t                      out_len;
    size_t                      out_sent;
    size_t                      out_size;

    ngx_oci_redis_pt            handlers[NGX_OCI_REDIS_COMMANDS];
    ngx_uint_t                  first;      /* of these */
    ngx_uint_t                  waiting;
    ngx_msec_t                  since;      /* the first one waits */
};


void ngx_oci_redis_init(ngx_oci_redis_t *rd, ngx_log_t *log);

/* ready() or closed() follows */
void ngx_oci_redis_open(ngx_oci_redis_t *rd);

/* at once, without closed(); may be called twice */
void ngx_oci_redis_close(ngx_oci_redis_t *rd);

/* at once, and closed() follows from the event loop */
void ngx_oci_redis_fail(ngx_oci_redis_t *rd, const char *why,
    ngx_err_t err);

/* likewise, for an answer that is an error */
void ngx_oci_redis_refused(ngx_oci_redis_t *rd, const char *what,
    redisReply *reply);

ngx_uint_t ngx_oci_redis_is_ready(ngx_oci_redis_t *rd);

/*
 * handler() gets the answer; NULL: push() does, and what comes first counts
 * for one.  Where it can't be sent, closed() follows.
 */
void ngx_oci_redis_command(ngx_oci_redis_t *rd, ngx_oci_redis_pt handler,
    ngx_uint_t n, const char **argv, const size_t *len);


#endif /* _NGX_OCI_REDIS_H_INCLUDED_ */
