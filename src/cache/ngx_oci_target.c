
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where the registry redirected a fill's exchanges last: the next ones go
 * straight there.  Such a URL is a credential of its own (a presigned one):
 * it stays in the worker's memory, is used for the source only that it was
 * given to, and is wiped.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_fill.h"
#include <openssl/sha.h>


#define NGX_OCI_TARGET_VALID  3600          /* s */


static void ngx_oci_target_source(u_char *md, ngx_oci_exchange_t *ex);


void
ngx_oci_target_get(ngx_oci_target_t *target, ngx_oci_exchange_t *ex,
    u_char *source)
{
    u_char  *p;

    ngx_oci_target_source(source, ex);

    if (target->url.len == 0) {
        return;
    }

    if (ngx_memcmp(target->source, source, NGX_OCI_TARGET_SOURCE) != 0
        || ngx_time() - target->since >= NGX_OCI_TARGET_VALID)
    {
        ngx_oci_target_forget(target);
        return;
    }

    p = ngx_pstrdup(ex->pool, &target->url);

    if (p) {
        ex->target.data = p;
        ex->target.len = target->url.len;
    }
}


void
ngx_oci_target_set(ngx_oci_target_t *target, ngx_oci_exchange_t *ex,
    u_char *source)
{
    u_char  *p;

    if (ngx_oci_target_is(target, ex)
        && ngx_memcmp(target->source, source, NGX_OCI_TARGET_SOURCE) == 0)
    {
        /* it does not become younger by being used */

        return;
    }

    ngx_oci_target_forget(target);

    if (ex->target.len == 0) {
        return;
    }

    p = ngx_alloc(ex->target.len, ngx_cycle->log);
    if (p == NULL) {
        return;
    }

    ngx_memcpy(p, ex->target.data, ex->target.len);
    ngx_memcpy(target->source, source, NGX_OCI_TARGET_SOURCE);

    target->url.data = p;
    target->url.len = ex->target.len;
    target->since = ngx_time();
}


ngx_uint_t
ngx_oci_target_is(ngx_oci_target_t *target, ngx_oci_exchange_t *ex)
{
    return target->url.len
           && target->url.len == ex->target.len
           && ngx_memcmp(target->url.data, ex->target.data, ex->target.len)
              == 0;
}


void
ngx_oci_target_forget(ngx_oci_target_t *target)
{
    if (target->url.len) {
        ngx_explicit_memzero(target->url.data, target->url.len);
        ngx_free(target->url.data);
    }

    ngx_str_null(&target->url);
}


/* a caller's credential counts only where it is what goes upstream */

static void
ngx_oci_target_source(u_char *md, ngx_oci_exchange_t *ex)
{
    SHA256_CTX  sha;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, ex->registry->name.data,
                         ex->registry->name.len);
    (void) SHA256_Update(&sha, "", 1);
    (void) SHA256_Update(&sha, ex->repository.data, ex->repository.len);
    (void) SHA256_Update(&sha, "", 1);

    if (ex->credentials == NGX_OCI_CREDENTIALS_CLIENT) {
        (void) SHA256_Update(&sha, ex->authorization.data,
                             ex->authorization.len);
    }

    (void) SHA256_Final(md, &sha);

    ngx_explicit_memzero(&sha, sizeof(sha));
}
