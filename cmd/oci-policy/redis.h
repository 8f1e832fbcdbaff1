
/*
 * Copyright (C) The nginx-oci authors
 *
 * Connections to Redis.
 */


#ifndef _OP_REDIS_H_INCLUDED_
#define _OP_REDIS_H_INCLUDED_


#include "op.h"
#include "ngx_oci_redis_reply.h"

#include <hiredis/hiredis.h>
#include <openssl/ssl.h>


#define OP_REPLY_MAX  (256 * 1024 * 1024)   /* bytes of one */
#define OP_ARGS_MAX   1024                  /* of one command */


/* where it is, and who we are there; owner: the store */

typedef struct {
    char        *name;          /* of the source, for messages */
    char        *host;          /* NULL: a unix socket */
    char        *port;
    char        *path;
    char        *user;          /* NULL: none */
    char        *db;            /* NULL: 0 */
    char         password[OP_SECRET_MAX];   /* "": none */
    const char  *ca_file;
    int          tls;
    int          timeout;       /* seconds */
} op_redis_at_t;


typedef struct {
    int           fd;           /* -1: closed */
    SSL_CTX      *ctx;
    SSL          *ssl;          /* NULL: without TLS */
    redisReader  *reader;
    const char   *name;
} op_conn_t;


/* redis_url.c: OP_USAGE, said */
int op_redis_at(op_redis_at_t *at, op_opts_t *o);
void op_redis_at_free(op_redis_at_t *at);

/* redis_conn.c */
int op_conn_open(op_conn_t *c, op_redis_at_t *at);
void op_conn_close(op_conn_t *c);

/* OP_OK, or OP_FAILED, said */
int op_conn_send(op_conn_t *c, int argc, const char **argv,
    const size_t *lens);

/* OP_AGAIN: nothing has come within the time, which is said unless quiet */
int op_conn_reply(op_conn_t *c, redisReply **reply, int quiet);

/* NULL, said: no answer, an error, or one of another type; 0: any type */
redisReply *op_conn_call(op_conn_t *c, int type, int argc,
    const char **argv, const size_t *lens);

int op_conn_timeout(op_conn_t *c, int seconds);


#endif /* _OP_REDIS_H_INCLUDED_ */
