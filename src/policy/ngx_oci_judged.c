
/*
 * Copyright (C) The nginx-oci authors
 *
 * Two tables of a fixed size in shared memory.  A place in them is found by a
 * hash with a random salt; where there is no room the one that was used least
 * recently goes.  Nothing in here is needed: what is forgotten is judged anew.
 */


#include "ngx_oci_judged.h"

#include <openssl/rand.h>


#define NGX_OCI_JUDGED_KEY      16
#define NGX_OCI_JUDGED_WAYS     8
#define NGX_OCI_JUDGED_MIN      (128 * 1024)        /* bytes of the zone */
#define NGX_OCI_JUDGED_MAX      (16 * 1024 * 1024)
#define NGX_OCI_JUDGED_BATCH    32      /* names written under one lock */


typedef struct {
    u_char                      key[NGX_OCI_JUDGED_KEY];
    uint32_t                    used;       /* ngx_time(); 0: free */
    uint32_t                    expires;    /* likewise; 0: never */
    uint32_t                    found;
    uint32_t                    rule;
    char                        why[NGX_OCI_JUDGED_WHY];
} ngx_oci_judged_record_t;


typedef struct {
    u_char                      key[NGX_OCI_JUDGED_KEY];
    uint32_t                    used;
    ngx_oci_judged_blob_t       blob;
} ngx_oci_judged_blob_record_t;


/* in shared memory, for as long as the zone; under its mutex but for what is
   constant */

struct ngx_oci_judged_sh_s {
    u_char                          salt[NGX_OCI_JUDGED_KEY];   /* constant */
    ngx_oci_judged_record_t        *records;                    /* constant */
    ngx_oci_judged_blob_record_t   *blobs;                      /* constant */
    uint32_t                        nrecords;                   /* constant */
    uint32_t                        nblobs;                     /* constant */
};


static ngx_int_t ngx_oci_judged_init_zone(ngx_shm_zone_t *zone, void *data);
static void ngx_oci_judged_key(ngx_oci_judged_sh_t *sh,
    ngx_oci_judged_place_t *place, ngx_oci_digest_t *digest, u_char *rules,
    u_char *key);
static ngx_slab_pool_t *ngx_oci_judged_lock(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, u_char *rules, u_char *key);
static uint32_t ngx_oci_judged_set(u_char *key, uint32_t n);
static ngx_oci_judged_record_t *ngx_oci_judged_record(
    ngx_oci_judged_sh_t *sh, u_char *key);
static ngx_oci_judged_blob_record_t *ngx_oci_judged_blob_record(
    ngx_oci_judged_sh_t *sh, u_char *key, ngx_uint_t create);
static void ngx_oci_judged_name(ngx_oci_judged_blob_t *blob,
    ngx_oci_judged_namer_t *namer, ngx_uint_t weight);


ngx_int_t
ngx_oci_judged_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    size_t      size;
    ngx_str_t   name;

    name.len = sizeof("oci_policy/") - 1 + pcf->policy.name.len;
    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(name.data, "oci_policy/%V", &pcf->policy.name);

    size = ngx_align(pcf->zone->shm.size / 2, ngx_pagesize);
    size = ngx_max(size, NGX_OCI_JUDGED_MIN);
    size = ngx_min(size, NGX_OCI_JUDGED_MAX);

    pcf->judged_zone = ngx_shared_memory_add(cf, &name, size,
                                             &ngx_http_oci_policy_module);

    if (pcf->judged_zone == NULL) {
        return NGX_ERROR;
    }

    pcf->judged_zone->init = ngx_oci_judged_init_zone;
    pcf->judged_zone->data = pcf;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_judged_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_policy_conf_t *old = data;

    size_t                  size;
    uint32_t                n;
    ngx_slab_pool_t        *shpool;
    ngx_oci_judged_sh_t    *sh;
    ngx_oci_policy_conf_t  *pcf;

    pcf = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {
        pcf->judged = old->judged;
        return NGX_OK;
    }

    if (zone->shm.exists) {
        pcf->judged = shpool->data;
        return NGX_OK;
    }

    sh = ngx_slab_calloc(shpool, sizeof(ngx_oci_judged_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    /* half for each; powers of two */

    size = shpool->pfree / 2 * ngx_pagesize;

    for (n = NGX_OCI_JUDGED_WAYS;
         2 * n * sizeof(ngx_oci_judged_record_t) <= size;
         n *= 2)
    {
        /* void */
    }

    sh->nrecords = n;

    for (n = NGX_OCI_JUDGED_WAYS;
         2 * n * sizeof(ngx_oci_judged_blob_record_t) <= size;
         n *= 2)
    {
        /* void */
    }

    sh->nblobs = n;

    sh->records = ngx_slab_calloc(shpool, sh->nrecords
                                          * sizeof(ngx_oci_judged_record_t));
    sh->blobs = ngx_slab_calloc(shpool,
                                sh->nblobs
                                * sizeof(ngx_oci_judged_blob_record_t));

    if (sh->records == NULL || sh->blobs == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(sh->salt, NGX_OCI_JUDGED_KEY) != 1) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "no random bytes for a key");
        return NGX_ERROR;
    }

    shpool->data = sh;
    pcf->judged = sh;

    return NGX_OK;
}


static void
ngx_oci_judged_key(ngx_oci_judged_sh_t *sh, ngx_oci_judged_place_t *place,
    ngx_oci_digest_t *digest, u_char *rules, u_char *key)
{
    u_char      hash[SHA256_DIGEST_LENGTH];
    uint32_t    len[3];
    SHA256_CTX  sha;

    len[0] = (uint32_t) place->registry->name.len;
    len[1] = (uint32_t) place->repository->len;
    len[2] = (uint32_t) digest->alg;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, sh->salt, NGX_OCI_JUDGED_KEY);
    (void) SHA256_Update(&sha, len, sizeof(len));
    (void) SHA256_Update(&sha, place->registry->name.data, len[0]);
    (void) SHA256_Update(&sha, place->repository->data, len[1]);
    (void) SHA256_Update(&sha, digest->bytes, digest->size);

    if (rules) {
        (void) SHA256_Update(&sha, rules, NGX_OCI_RULES_ID);
    }

    (void) SHA256_Final(hash, &sha);

    ngx_memcpy(key, hash, NGX_OCI_JUDGED_KEY);
}


/* the place's key, and the mutex, which the caller unlocks */

static ngx_slab_pool_t *
ngx_oci_judged_lock(ngx_oci_policy_conf_t *pcf, ngx_oci_judged_place_t *place,
    u_char *rules, u_char *key)
{
    ngx_slab_pool_t  *shpool;

    ngx_oci_judged_key(pcf->judged, place, place->digest, rules, key);

    shpool = (ngx_slab_pool_t *) pcf->judged_zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    return shpool;
}


static uint32_t
ngx_oci_judged_set(u_char *key, uint32_t n)
{
    uint32_t  h;

    ngx_memcpy(&h, key, sizeof(uint32_t));

    return (h & (n / NGX_OCI_JUDGED_WAYS - 1)) * NGX_OCI_JUDGED_WAYS;
}


/* the record of a key, or the one to use for it */

static ngx_oci_judged_record_t *
ngx_oci_judged_record(ngx_oci_judged_sh_t *sh, u_char *key)
{
    ngx_uint_t                i;
    ngx_oci_judged_record_t  *set, *oldest;

    set = sh->records + ngx_oci_judged_set(key, sh->nrecords);
    oldest = set;

    for (i = 0; i < NGX_OCI_JUDGED_WAYS; i++) {

        if (set[i].used
            && ngx_memcmp(set[i].key, key, NGX_OCI_JUDGED_KEY) == 0)
        {
            return &set[i];
        }

        if (set[i].used < oldest->used) {
            oldest = &set[i];
        }
    }

    return oldest;
}


/* NULL: there is none, and none was to be created */

static ngx_oci_judged_blob_record_t *
ngx_oci_judged_blob_record(ngx_oci_judged_sh_t *sh, u_char *key,
    ngx_uint_t create)
{
    ngx_uint_t                     i;
    ngx_oci_judged_blob_record_t  *set, *oldest;

    set = sh->blobs + ngx_oci_judged_set(key, sh->nblobs);
    oldest = set;

    for (i = 0; i < NGX_OCI_JUDGED_WAYS; i++) {

        if (set[i].used
            && ngx_memcmp(set[i].key, key, NGX_OCI_JUDGED_KEY) == 0)
        {
            set[i].used = (uint32_t) ngx_time();
            return &set[i];
        }

        if (set[i].used < oldest->used) {
            oldest = &set[i];
        }
    }

    if (!create) {
        return NULL;
    }

    /* whoever dies in between leaves nothing of another one */

    oldest->used = 0;
    ngx_memory_barrier();

    ngx_memcpy(oldest->key, key, NGX_OCI_JUDGED_KEY);
    ngx_memzero(&oldest->blob, sizeof(ngx_oci_judged_blob_t));
    ngx_memory_barrier();

    oldest->used = (uint32_t) ngx_time();

    return oldest;
}


void
ngx_oci_judged_find(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_verdict_t *verdict)
{
    u_char                    key[NGX_OCI_JUDGED_KEY];
    ngx_slab_pool_t          *shpool;
    ngx_oci_judged_record_t  *record;

    ngx_memzero(verdict, sizeof(ngx_oci_judged_verdict_t));

    shpool = ngx_oci_judged_lock(pcf, place, place->rules, key);
    record = ngx_oci_judged_record(pcf->judged, key);

    if (record->used
        && ngx_memcmp(record->key, key, NGX_OCI_JUDGED_KEY) == 0)
    {
        if (record->expires == 0
            || record->expires > (uint32_t) ngx_time())
        {
            record->used = (uint32_t) ngx_time();
            verdict->found = record->found;
        }

        verdict->was = record->found;
        verdict->rule = record->rule;
        ngx_memcpy(verdict->why, record->why, NGX_OCI_JUDGED_WHY);
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


void
ngx_oci_judged_put(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_verdict_t *verdict)
{
    u_char                    key[NGX_OCI_JUDGED_KEY];
    ngx_slab_pool_t          *shpool;
    ngx_oci_judged_record_t  *record;

    shpool = ngx_oci_judged_lock(pcf, place, place->rules, key);
    record = ngx_oci_judged_record(pcf->judged, key);

    record->used = 0;
    ngx_memory_barrier();

    ngx_memcpy(record->key, key, NGX_OCI_JUDGED_KEY);
    record->expires = verdict->valid
                      ? (uint32_t) (ngx_time() + verdict->valid) : 0;
    record->found = (uint32_t) verdict->found;
    record->rule = (uint32_t) verdict->rule;
    ngx_memcpy(record->why, verdict->why, NGX_OCI_JUDGED_WHY);
    ngx_memory_barrier();

    record->used = (uint32_t) ngx_time();

    ngx_shmtx_unlock(&shpool->mutex);
}


void
ngx_oci_judged_names(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_rules_named_t *named,
    ngx_uint_t n, ngx_uint_t good)
{
    u_char                         keys[NGX_OCI_JUDGED_BATCH]
                                       [NGX_OCI_JUDGED_KEY];
    ngx_uint_t                     i, k, batch;
    ngx_slab_pool_t               *shpool;
    ngx_oci_judged_sh_t           *sh;
    ngx_oci_judged_namer_t         namer;
    ngx_oci_judged_blob_record_t  *record;

    sh = pcf->judged;
    shpool = (ngx_slab_pool_t *) pcf->judged_zone->shm.addr;

    ngx_memzero(&namer, sizeof(ngx_oci_judged_namer_t));
    ngx_memcpy(namer.digest, place->digest->bytes, place->digest->size);
    namer.alg = (uint16_t) place->digest->alg;
    namer.size = (uint16_t) place->digest->size;
    ngx_memcpy(&namer.rules, place->rules, sizeof(uint32_t));
    namer.good = (uint32_t) good;

    for (i = 0; i < n; i += batch) {

        batch = ngx_min(n - i, NGX_OCI_JUDGED_BATCH);

        for (k = 0; k < batch; k++) {
            ngx_oci_judged_key(sh, place, &named[i + k].digest, NULL,
                               keys[k]);
        }

        ngx_shmtx_lock(&shpool->mutex);

        for (k = 0; k < batch; k++) {
            record = ngx_oci_judged_blob_record(sh, keys[k], 1);
            ngx_oci_judged_name(&record->blob, &namer, named[i + k].weight);
        }

        ngx_shmtx_unlock(&shpool->mutex);
    }
}


/*
 * Those that may be served have the places first: one of them is enough.  But
 * by the rules of now: what others found is of little use any more.
 */

static void
ngx_oci_judged_name(ngx_oci_judged_blob_t *blob,
    ngx_oci_judged_namer_t *namer, ngx_uint_t weight)
{
    ngx_uint_t  i, place, stale;

    blob->weight |= (uint32_t) weight;

    place = blob->n;
    stale = blob->n;

    for (i = 0; i < blob->n; i++) {

        if (blob->namers[i].alg == namer->alg
            && ngx_memcmp(blob->namers[i].digest, namer->digest,
                          sizeof(namer->digest))
               == 0)
        {
            blob->namers[i] = *namer;
            return;
        }

        if (blob->namers[i].good == NGX_OCI_NAMED_BAD
            || blob->namers[i].good == NGX_OCI_NAMED_SIGNATURE)
        {
            place = i;

        } else if (blob->namers[i].rules != namer->rules) {
            stale = i;
        }
    }

    if (blob->n < NGX_OCI_JUDGED_NAMERS) {
        blob->namers[blob->n++] = *namer;

    } else if (namer->good && place < NGX_OCI_JUDGED_NAMERS) {
        blob->namers[place] = *namer;

    } else if (namer->good && stale < NGX_OCI_JUDGED_NAMERS) {
        blob->namers[stale] = *namer;
        blob->many = 1;

    } else if (namer->good == NGX_OCI_NAMED_EXEMPT) {
        blob->namers[0] = *namer;
        blob->many = 1;

    } else if (namer->good) {
        blob->many = 1;
    }
}


ngx_int_t
ngx_oci_judged_blob(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_blob_t *blob)
{
    u_char                         key[NGX_OCI_JUDGED_KEY];
    ngx_slab_pool_t               *shpool;
    ngx_oci_judged_blob_record_t  *record;

    shpool = ngx_oci_judged_lock(pcf, place, NULL, key);
    record = ngx_oci_judged_blob_record(pcf->judged, key, 0);

    if (record) {
        *blob = record->blob;

    } else {
        ngx_memzero(blob, sizeof(ngx_oci_judged_blob_t));
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return record ? NGX_OK : NGX_DECLINED;
}


void
ngx_oci_judged_looked(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_uint_t formats)
{
    u_char                         key[NGX_OCI_JUDGED_KEY];
    ngx_slab_pool_t               *shpool;
    ngx_oci_judged_blob_record_t  *record;

    shpool = ngx_oci_judged_lock(pcf, place, NULL, key);
    record = ngx_oci_judged_blob_record(pcf->judged, key, 1);
    record->blob.formats = (uint32_t) formats;
    record->blob.looked = 1;

    ngx_shmtx_unlock(&shpool->mutex);
}
