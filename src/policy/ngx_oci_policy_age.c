
/*
 * Copyright (C) The nginx-oci authors
 *
 * How old is the document: one that a Redis has counts for so long after it
 * was last known to be current.
 */


#include "ngx_oci_policy_redis.h"


/* the zone is of this source's documents now */

void
ngx_oci_policy_own(ngx_oci_policy_conf_t *pcf)
{
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    /*
     * That another source is configured says that its document is right; what
     * was in force goes on to be until that is there.
     */

    if (ngx_memcmp(sh->source, pcf->redis->source, NGX_OCI_POLICY_DIGEST)
        != 0)
    {
        ngx_memcpy(sh->source, pcf->redis->source, NGX_OCI_POLICY_DIGEST);
        sh->epoch = 0;
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);
}


ngx_int_t
ngx_oci_policy_date(ngx_oci_policy_conf_t *pcf, ngx_oci_policy_text_t *text)
{
    ngx_int_t             rc;
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;
    rc = NGX_DECLINED;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    if (sh->generation && text->epoch >= sh->epoch
        && ngx_memcmp(sh->source, text->source, NGX_OCI_POLICY_DIGEST) == 0
        && ngx_memcmp(sh->digest, text->digest, NGX_OCI_POLICY_DIGEST) == 0)
    {
        sh->epoch = text->epoch;
        sh->current = ngx_max(sh->current, text->current);
        rc = NGX_OK;
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    return rc;
}


int64_t
ngx_oci_policy_age(ngx_oci_policy_conf_t *pcf)
{
    int64_t               age;
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    age = sh->generation ? (int64_t) ngx_current_msec - sh->current : -1;

    /* another worker's clock may be a moment ahead */

    if (sh->generation && age < 0) {
        age = 0;
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    return age;
}


int64_t
ngx_oci_policy_status_age(ngx_oci_policy_t *policy)
{
    return ngx_oci_policy_age(policy->data);
}


ngx_int_t
ngx_oci_policy_current(ngx_oci_policy_conf_t *pcf, ngx_str_t *source)
{
    int64_t                  age;
    ngx_oci_policy_redis_t  *prcf;

    prcf = pcf->redis;

    if (!prcf->used) {
        ngx_str_set(source, "file");
        return NGX_OK;
    }

    age = ngx_oci_policy_age(pcf);

    if (age < 0 || age > (int64_t) prcf->stale) {
        ngx_str_set(source, "stale");
        return NGX_DECLINED;
    }

    if (age > (int64_t) (prcf->poll + prcf->redis.timeout)) {
        ngx_str_set(source, "stale");

    } else {
        ngx_str_set(source, "redis");
    }

    return NGX_OK;
}
