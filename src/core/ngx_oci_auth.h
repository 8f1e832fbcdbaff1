
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the token dance share.
 */


#ifndef _NGX_OCI_AUTH_H_INCLUDED_
#define _NGX_OCI_AUTH_H_INCLUDED_


#include "ngx_oci_core.h"


#define NGX_OCI_AUTH_SCOPE        1024      /* bytes */

/* seconds */

#define NGX_OCI_AUTH_NONE_VALID   300
#define NGX_OCI_AUTH_VALID        3600      /* of a realm, or of Basic */


typedef enum {
    NGX_OCI_AUTH_UNKNOWN = 0,
    NGX_OCI_AUTH_NONE,                      /* GET /v2/ needs nothing */
    NGX_OCI_AUTH_BASIC,
    NGX_OCI_AUTH_BEARER
} ngx_oci_auth_kind_e;


/* how a registry authenticates; realm and service are in one ngx_alloc() */

typedef struct {
    ngx_oci_registry_t       *registry;
    ngx_uint_t                kind;         /* ngx_oci_auth_kind_e */
    ngx_msec_t                expires;
    ngx_str_t                 realm;
    ngx_str_t                 service;
} ngx_oci_auth_service_t;


/* a remembered value; owner: the table */

typedef struct {
    ngx_queue_t               bucket;
    ngx_queue_t               lru;          /* latest used first */
    ngx_oci_registry_t       *registry;
    ngx_oci_credentials_t    *credentials;
    ngx_msec_t                expires;
    size_t                    size;         /* of all of it */
    ngx_str_t                 scope;        /* behind the struct */
    ngx_str_t                 value;
} ngx_oci_auth_value_t;


/* what a dance is for: equal ones are one */

typedef struct {
    ngx_oci_registry_t       *registry;
    ngx_oci_credentials_t    *credentials;
    ngx_str_t                 scope;        /* data is never NULL */
    ngx_uint_t                discover;     /* only the realm is wanted */
    ngx_uint_t                optional;     /* scope is left out unless the
                                               challenge names it */
} ngx_oci_auth_key_t;


/* ngx_oci_auth_table.c: what a worker remembers, and whom it may ask */

ngx_int_t ngx_oci_auth_init_table(ngx_cycle_t *cycle);

ngx_oci_auth_value_t *ngx_oci_auth_find(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *scope);
ngx_int_t ngx_oci_auth_copy(ngx_oci_auth_value_t *v, ngx_pool_t *pool,
    ngx_str_t *value);

/* the value is scheme and text; valid: seconds */
ngx_int_t ngx_oci_auth_remember(ngx_oci_auth_key_t *key, ngx_str_t *scope,
    const char *scheme, ngx_str_t *text, ngx_uint_t valid);

/* NULL if it is not known, or too old */
ngx_oci_auth_service_t *ngx_oci_auth_service(ngx_oci_registry_t *registry);
ngx_int_t ngx_oci_auth_set_service(ngx_oci_registry_t *registry,
    ngx_uint_t kind, ngx_oci_challenge_t *ch);

/*
 * NGX_OK: a Bearer challenge whose realm may be called; NGX_DONE: Basic;
 * NGX_DECLINED: it can't be answered (logged).
 */
ngx_int_t ngx_oci_auth_parse(ngx_oci_registry_t *registry,
    ngx_str_t *challenge, ngx_oci_challenge_t *ch, ngx_uint_t level,
    ngx_log_t *log);

/* scope in buf[NGX_OCI_AUTH_SCOPE]; NGX_ERROR: it is too long */
ngx_int_t ngx_oci_auth_scope(ngx_str_t *scope, u_char *buf,
    ngx_str_t *repository, const char *actions);


/* ngx_oci_upstream_auth.c: as ngx_oci_auth_challenge() */

ngx_int_t ngx_oci_auth_start(ngx_oci_auth_key_t *key, ngx_str_t *challenge,
    ngx_oci_auth_waiter_t *waiter);


extern ngx_str_t  ngx_oci_auth_catalog;     /* the scope of /v2/_catalog */


#endif /* _NGX_OCI_AUTH_H_INCLUDED_ */
