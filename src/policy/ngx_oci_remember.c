
/*
 * Copyright (C) The nginx-oci authors
 *
 * Outcomes of checked secrets, remembered by all workers under a keyed hash of
 * the subject, the secret and what the document has of it: a document with
 * another secret makes them void.  Wrong ones have places of their own, so
 * that guessing takes none away from those who know theirs.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_REMEMBER_BAD  5000      /* ms; less than what is good */


static ngx_oci_outcome_t *ngx_oci_remember_in(ngx_oci_outcome_t *set,
    ngx_uint_t n, u_char *mac);


ngx_uint_t
ngx_oci_remember_find(ngx_oci_policy_conf_t *pcf, u_char *mac)
{
    ngx_oci_outcome_t    *o;
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;

    o = ngx_oci_remember_in(sh->good, sh->ngood, mac);

    if (o) {

        /*
         * It stays right for as long as the document has the same: who goes
         * on needs no place among those who guess.
         */

        o->expires = ngx_max(o->expires,
                             ngx_current_msec + (uint64_t) pcf->valid * 1000);

        return NGX_OCI_CHECKED_GOOD;
    }

    if (ngx_oci_remember_in(sh->bad, sh->nbad, mac)) {
        return NGX_OCI_CHECKED_BAD;
    }

    return NGX_OCI_CHECKED_NOT;
}


/* the hash is keyed: what its comparison takes tells nothing */

static ngx_oci_outcome_t *
ngx_oci_remember_in(ngx_oci_outcome_t *set, ngx_uint_t n, u_char *mac)
{
    uint32_t            h;
    ngx_uint_t          i;
    ngx_oci_outcome_t  *o;

    ngx_memcpy(&h, mac, sizeof(uint32_t));

    o = set + (h & (n / NGX_OCI_POLICY_WAYS - 1)) * NGX_OCI_POLICY_WAYS;

    for (i = 0; i < NGX_OCI_POLICY_WAYS; i++) {

        if (o[i].expires > ngx_current_msec
            && ngx_memcmp(o[i].mac, mac, NGX_OCI_POLICY_MAC) == 0)
        {
            return &o[i];
        }
    }

    return NULL;
}


void
ngx_oci_remember_put(ngx_oci_policy_conf_t *pcf, u_char *mac, ngx_uint_t good)
{
    uint32_t              h;
    uint64_t              ms;
    ngx_uint_t            i, n;
    ngx_oci_outcome_t    *o, *old;
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;
    ms = (uint64_t) pcf->valid * 1000;

    if (!good) {
        ms = ngx_min(ms, NGX_OCI_REMEMBER_BAD);
    }

    if (ms == 0) {
        return;
    }

    o = good ? sh->good : sh->bad;
    n = good ? sh->ngood : sh->nbad;

    ngx_memcpy(&h, mac, sizeof(uint32_t));

    o += (h & (n / NGX_OCI_POLICY_WAYS - 1)) * NGX_OCI_POLICY_WAYS;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    old = o;

    for (i = 0; i < NGX_OCI_POLICY_WAYS; i++) {

        if (o[i].expires
            && ngx_memcmp(o[i].mac, mac, NGX_OCI_POLICY_MAC) == 0)
        {
            old = &o[i];
            break;
        }

        if (o[i].expires < old->expires) {
            old = &o[i];
        }
    }

    /* a worker that dies here leaves no outcome of another secret */

    old->expires = 0;
    ngx_memory_barrier();

    ngx_memcpy(old->mac, mac, NGX_OCI_POLICY_MAC);
    ngx_memory_barrier();

    old->expires = ngx_current_msec + ms;

    ngx_shmtx_unlock(&pcf->shpool->mutex);
}


/* HMAC-SHA256; what the key makes of both hashes is made once */

void
ngx_oci_remember_key(ngx_oci_policy_conf_t *pcf)
{
    u_char      pad[SHA256_CBLOCK];
    ngx_uint_t  i;

    ngx_memset(pad, 0x36, SHA256_CBLOCK);

    for (i = 0; i < NGX_OCI_POLICY_KEY; i++) {
        pad[i] ^= pcf->sh->key[i];
    }

    (void) SHA256_Init(&pcf->inner);
    (void) SHA256_Update(&pcf->inner, pad, SHA256_CBLOCK);

    for (i = 0; i < SHA256_CBLOCK; i++) {
        pad[i] ^= 0x36 ^ 0x5c;
    }

    (void) SHA256_Init(&pcf->outer);
    (void) SHA256_Update(&pcf->outer, pad, SHA256_CBLOCK);

    ngx_explicit_memzero(pad, SHA256_CBLOCK);
}


void
ngx_oci_remember_mac(ngx_oci_policy_conf_t *pcf, ngx_str_t *user,
    ngx_str_t *secret, ngx_str_t *phc, u_char *mac)
{
    uint32_t    len[2];
    SHA256_CTX  sha;

    len[0] = (uint32_t) user->len;
    len[1] = (uint32_t) secret->len;

    sha = pcf->inner;

    (void) SHA256_Update(&sha, len, sizeof(len));
    (void) SHA256_Update(&sha, user->data, user->len);
    (void) SHA256_Update(&sha, secret->data, secret->len);
    (void) SHA256_Update(&sha, phc->data, phc->len);
    (void) SHA256_Final(mac, &sha);

    sha = pcf->outer;

    (void) SHA256_Update(&sha, mac, NGX_OCI_POLICY_MAC);
    (void) SHA256_Final(mac, &sha);

    ngx_explicit_memzero(&sha, sizeof(SHA256_CTX));
}
