
/*
 * Copyright (C) The nginx-oci authors
 *
 * A registry's 429, and its 503 with Retry-After: nobody asks it with that
 * account before the time is over.
 *
 * 503 tells of what was asked for, which a repository's owner may have in his
 * hands: it is heeded for that repository only.  So is what callers without
 * credentials are told, who are many.
 */


#include "ngx_oci_health.h"
#include <ngx_md5.h>


#define NGX_OCI_HEALTH_WAIT      5      /* s, of 429 without Retry-After */
#define NGX_OCI_HEALTH_WAIT_MAX  300    /* s */
#define NGX_OCI_HEALTH_WAIT_ALL  30     /* s, of an account that all share */

#define NGX_OCI_HEALTH_STORED    1      /* accounts */
#define NGX_OCI_HEALTH_FILL      2
#define NGX_OCI_HEALTH_NOBODY    3


static uint64_t ngx_oci_health_hash(ngx_str_t *text);
static time_t ngx_oci_health_seconds(ngx_str_t *retry_after, time_t max);


uint64_t
ngx_oci_health_account(ngx_oci_registry_t *registry, ngx_uint_t credentials,
    ngx_oci_credentials_t *stored, ngx_str_t *authorization)
{
    if (credentials == NGX_OCI_CREDENTIALS_STORED) {
        return (stored && stored == registry->fill) ? NGX_OCI_HEALTH_FILL
                                                    : NGX_OCI_HEALTH_STORED;
    }

    return authorization->len ? ngx_oci_health_hash(authorization)
                              : NGX_OCI_HEALTH_NOBODY;
}


/* none of those that stand for something */

static uint64_t
ngx_oci_health_hash(ngx_str_t *text)
{
    u_char     bytes[16];
    uint64_t   hash;
    ngx_md5_t  md5;

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, text->data, text->len);
    ngx_md5_final(bytes, &md5);

    ngx_memcpy(&hash, bytes, sizeof(hash));

    return hash > NGX_OCI_HEALTH_NOBODY ? hash : UINT64_MAX;
}


void
ngx_oci_health_answer(ngx_oci_registry_t *registry, uint64_t account,
    ngx_str_t *repository, ngx_uint_t status, ngx_str_t *retry_after)
{
    time_t                   max;
    uint64_t                 only;
    ngx_uint_t               i;
    ngx_msec_t               until;
    ngx_oci_health_t        *h;
    ngx_oci_health_limit_t  *l, *found;

    if (status != NGX_HTTP_TOO_MANY_REQUESTS
        && (status != NGX_HTTP_SERVICE_UNAVAILABLE || retry_after->len == 0))
    {
        return;
    }

    max = (account == NGX_OCI_HEALTH_STORED || account == NGX_OCI_HEALTH_FILL)
          ? NGX_OCI_HEALTH_WAIT_ALL : NGX_OCI_HEALTH_WAIT_MAX;

    until = ngx_current_msec
            + (ngx_msec_t) ngx_oci_health_seconds(retry_after, max) * 1000;

    only = (status == NGX_HTTP_SERVICE_UNAVAILABLE
            || account == NGX_OCI_HEALTH_NOBODY)
           ? ngx_oci_health_hash(repository) : 0;

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return;
    }

    /* its own place, a free one, or the one that will be free first */

    found = &h->limits[0];

    for (i = 0; i < NGX_OCI_HEALTH_LIMITS; i++) {
        l = &h->limits[i];

        if (l->account == account && l->repository == only) {
            found = l;
            break;
        }

        if (found->account
            && (l->account == 0
                || ngx_oci_health_before(l->until, found->until)))
        {
            found = l;
        }
    }

    found->until = until;
    found->repository = only;
    found->status = status;
    found->account = account;

    if (ngx_oci_health_before(h->limited, until)) {
        ngx_oci_health_set(&h->limited, until);
    }

    ngx_oci_health_unlock();
}


/* seconds, or a date, RFC 9110, section 10.2.3 */

static time_t
ngx_oci_health_seconds(ngx_str_t *retry_after, time_t max)
{
    time_t     time;
    ngx_int_t  n;

    if (retry_after->len == 0) {
        return NGX_OCI_HEALTH_WAIT;
    }

    n = ngx_atoi(retry_after->data, retry_after->len);

    if (n == NGX_ERROR) {
        time = ngx_parse_http_time(retry_after->data, retry_after->len);

        if (time == NGX_ERROR) {
            return NGX_OCI_HEALTH_WAIT;
        }

        n = ngx_max(time - ngx_time(), 0);
    }

    n = ngx_max(n, 1);

    return ngx_min(n, max);
}


ngx_msec_t
ngx_oci_health_limited(ngx_oci_registry_t *registry, uint64_t account,
    ngx_str_t *repository, ngx_uint_t *status)
{
    uint64_t                 only;
    ngx_uint_t               i;
    ngx_msec_t               ms, left;
    ngx_oci_health_t        *h;
    ngx_oci_health_limit_t  *l;

    h = registry->health;

    /* nearly always */

    if (h == NULL
        || !ngx_oci_health_before(ngx_current_msec,
                                  ngx_oci_health_get(&h->limited)))
    {
        return 0;
    }

    only = ngx_oci_health_hash(repository);

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return 0;
    }

    ms = 0;

    for (i = 0; i < NGX_OCI_HEALTH_LIMITS; i++) {
        l = &h->limits[i];

        if (l->account != account
            || (l->repository && l->repository != only)
            || !ngx_oci_health_before(ngx_current_msec, l->until))
        {
            continue;
        }

        left = l->until - ngx_current_msec;

        if (left > ms) {
            ms = left;
            *status = l->status;
        }
    }

    ngx_oci_health_unlock();

    return ms;
}
