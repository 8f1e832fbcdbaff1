
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens that were right, as a worker has them parsed: most requests of a pull
 * come with the same one, and its signature and JSON would take more than the
 * rest of a hot request.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_BEARER_SETS  32
#define NGX_OCI_BEARER_WAYS  4
#define NGX_OCI_BEARER_MAX   4096   /* bytes of a token that is kept: parsed
                                       it may have 30 times as many */


/*
 * Owner of jwt: the entry, by a reference of its own, until it is replaced or
 * the worker ends.
 */

typedef struct {
    u_char          mac[NGX_OCI_POLICY_MAC];
    uint64_t        expires;        /* ngx_current_msec; 0: free */
    ngx_oci_jwt_t   jwt;
} ngx_oci_bearer_entry_t;


static ngx_oci_bearer_entry_t *ngx_oci_bearer_set(u_char *mac);


/* of a worker; the hash is that of the token and of the policy's lines */

static ngx_oci_bearer_entry_t
    ngx_oci_bearer_entries[NGX_OCI_BEARER_SETS * NGX_OCI_BEARER_WAYS];


ngx_uint_t
ngx_oci_bearer_cached(ngx_oci_policy_conf_t *pcf, u_char *mac,
    ngx_oci_jwt_t *jwt)
{
    ngx_uint_t               i;
    ngx_oci_bearer_entry_t  *e;

    e = ngx_oci_bearer_set(mac);

    for (i = 0; i < NGX_OCI_BEARER_WAYS; i++) {

        if (e[i].expires <= ngx_current_msec
            || ngx_memcmp(e[i].mac, mac, NGX_OCI_POLICY_MAC) != 0)
        {
            continue;
        }

        if (ngx_oci_jwt_timely(&e[i].jwt, ngx_time())) {
            return 0;
        }

        e[i].expires = ngx_current_msec + (uint64_t) pcf->valid * 1000;

        ngx_oci_jwt_copy(jwt, &e[i].jwt);

        return 1;
    }

    return 0;
}


void
ngx_oci_bearer_keep(ngx_oci_policy_conf_t *pcf, u_char *mac, size_t len,
    ngx_oci_jwt_t *jwt)
{
    ngx_uint_t               i;
    ngx_oci_bearer_entry_t  *e, *old;

    if (pcf->valid == 0 || len > NGX_OCI_BEARER_MAX) {
        return;
    }

    e = ngx_oci_bearer_set(mac);
    old = e;

    for (i = 0; i < NGX_OCI_BEARER_WAYS; i++) {

        if (ngx_memcmp(e[i].mac, mac, NGX_OCI_POLICY_MAC) == 0) {
            old = &e[i];
            break;
        }

        if (e[i].expires < old->expires) {
            old = &e[i];
        }
    }

    ngx_oci_jwt_free(&old->jwt);
    ngx_oci_jwt_copy(&old->jwt, jwt);

    ngx_memcpy(old->mac, mac, NGX_OCI_POLICY_MAC);
    old->expires = ngx_current_msec + (uint64_t) pcf->valid * 1000;
}


void
ngx_oci_bearer_forget(void)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_BEARER_SETS * NGX_OCI_BEARER_WAYS; i++) {
        ngx_oci_jwt_free(&ngx_oci_bearer_entries[i].jwt);
        ngx_oci_bearer_entries[i].expires = 0;
    }
}


static ngx_oci_bearer_entry_t *
ngx_oci_bearer_set(u_char *mac)
{
    return &ngx_oci_bearer_entries[(mac[0] & (NGX_OCI_BEARER_SETS - 1))
                                   * NGX_OCI_BEARER_WAYS];
}
