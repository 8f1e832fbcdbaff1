
/*
 * Copyright (C) The nginx-oci authors
 *
 * The breaker of a registry: after some failures in a row it is not asked
 * any more, until a probe was answered.
 */


#include "ngx_oci_health.h"
#include <ngx_md5.h>


#define NGX_OCI_HEALTH_LAYOUT    4      /* of the zone: change it with that */

#define NGX_OCI_HEALTH_FAILURES  3      /* in a row, over all workers */
#define NGX_OCI_HEALTH_WINDOW    10000  /* ms: more between two of them, and
                                           they are not in a row */
#define NGX_OCI_HEALTH_INTERVAL  1000   /* ms to the first probe, doubled */
#define NGX_OCI_HEALTH_MAX       4000   /* to this */
#define NGX_OCI_HEALTH_UNSEEN    (2 * NGX_OCI_HEALTH_MAX)   /* ms that a probe
                                           is overdue */
#define NGX_OCI_HEALTH_LOOK      500    /* ms: how often fills look, that the
                                           readers that they wait for are
                                           there, too */


static ngx_int_t ngx_oci_health_init_zone(ngx_shm_zone_t *zone, void *data);
static void ngx_oci_health_assign(ngx_oci_health_zone_t *hz,
    ngx_oci_registry_t *registry, ngx_log_t *log);
static ngx_slab_pool_t *ngx_oci_health_pool(void);
static ngx_int_t ngx_oci_health_state(ngx_oci_registry_t *registry,
    ngx_uint_t pass);


ngx_int_t
ngx_oci_health_add_zone(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf)
{
    size_t           size;
    ngx_str_t        name;
    ngx_shm_zone_t  *zone;

    ngx_str_set(&name, "oci_health");

    size = ngx_align(sizeof(ngx_oci_health_zone_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    zone = ngx_shared_memory_add(cf, &name, size, &ngx_http_oci_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_oci_health_init_zone;
    zone->data = omcf;
    omcf->health_zone = zone;

    return NGX_OK;
}


/* in the master; workers of before a reload use the zone meanwhile */

static ngx_int_t
ngx_oci_health_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t              i;
    ngx_slab_pool_t        *shpool;
    ngx_oci_main_conf_t    *omcf;
    ngx_oci_registry_t    **registries;
    ngx_oci_health_zone_t  *hz;

    omcf = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (zone->shm.exists || data) {
        hz = shpool->data;

        if (hz == NULL || hz->layout != NGX_OCI_HEALTH_LAYOUT
            || hz->size != sizeof(ngx_oci_health_zone_t))
        {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "zone \"oci_health\" was made by another build of "
                          "the module, nginx has to be restarted");
            return NGX_ERROR;
        }

    } else {
        hz = ngx_slab_calloc(shpool, sizeof(ngx_oci_health_zone_t));
        if (hz == NULL) {
            return NGX_ERROR;
        }

        hz->layout = NGX_OCI_HEALTH_LAYOUT;
        hz->size = sizeof(ngx_oci_health_zone_t);
        shpool->data = hz;
    }

    ngx_shmtx_lock(&shpool->mutex);

    hz->generation++;
    registries = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {
        ngx_oci_health_assign(hz, registries[i], zone->shm.log);
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return NGX_OK;
}


/* its own record, a free one, or the one that has been out of use longest */

static void
ngx_oci_health_assign(ngx_oci_health_zone_t *hz,
    ngx_oci_registry_t *registry, ngx_log_t *log)
{
    ngx_md5_t          md5;
    ngx_uint_t         i;
    ngx_oci_health_t  *h, *found;

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, registry->name.data, registry->name.len);
    ngx_md5_update(&md5, " ", 1);
    ngx_md5_update(&md5, registry->scheme.data, registry->scheme.len);
    ngx_md5_update(&md5, " ", 1);
    ngx_md5_update(&md5, registry->authority.data, registry->authority.len);
    ngx_md5_final(registry->health_key, &md5);

    found = NULL;

    for (i = 0; i < NGX_OCI_HEALTH_RECORDS; i++) {
        h = &hz->records[i];

        if (h->used
            && ngx_memcmp(h->key, registry->health_key, sizeof(h->key)) == 0)
        {
            h->generation = hz->generation;
            registry->health = h;
            return;
        }

        if (h->used && h->generation == hz->generation) {
            continue;
        }

        if (found == NULL
            || (found->used && (!h->used
                                || h->generation < found->generation)))
        {
            found = h;
        }
    }

    if (found == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "the state of oci_registry \"%V\" is not watched: "
                      "there are more than %d", &registry->name,
                      NGX_OCI_HEALTH_RECORDS);
        registry->health = NULL;
        return;
    }

    ngx_memzero(found, sizeof(ngx_oci_health_t));
    ngx_memcpy(found->key, registry->health_key, sizeof(found->key));
    found->generation = hz->generation;
    found->used = 1;

    registry->health = found;
}


/* NULL: there are no registries */

static ngx_slab_pool_t *
ngx_oci_health_pool(void)
{
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);

    return (omcf && omcf->health_zone)
           ? (ngx_slab_pool_t *) omcf->health_zone->shm.addr : NULL;
}


ngx_oci_health_zone_t *
ngx_oci_health_zone(void)
{
    return ngx_oci_health_pool()->data;
}


ngx_oci_health_zone_t *
ngx_oci_health_lock_zone(void)
{
    ngx_slab_pool_t  *shpool;

    shpool = ngx_oci_health_pool();

    if (shpool == NULL || shpool->data == NULL) {
        return NULL;
    }

    ngx_shmtx_lock(&shpool->mutex);

    return shpool->data;
}


ngx_oci_health_t *
ngx_oci_health_lock(ngx_oci_registry_t *registry)
{
    ngx_oci_health_t  *h;

    h = registry->health;

    if (h == NULL) {
        return NULL;
    }

    ngx_shmtx_lock(&ngx_oci_health_pool()->mutex);

    if (ngx_memcmp(h->key, registry->health_key, sizeof(h->key)) != 0) {
        ngx_oci_health_unlock();
        return NULL;
    }

    return h;
}


void
ngx_oci_health_unlock(void)
{
    ngx_shmtx_unlock(&ngx_oci_health_pool()->mutex);
}


ngx_int_t
ngx_oci_health_gate(ngx_oci_registry_t *registry)
{
    return ngx_oci_health_state(registry, 1);
}


ngx_uint_t
ngx_oci_health_down(ngx_oci_registry_t *registry)
{
    return ngx_oci_health_state(registry, 0) != NGX_OK;
}


/* pass: the caller will ask the registry if he may */

static ngx_int_t
ngx_oci_health_state(ngx_oci_registry_t *registry, ngx_uint_t pass)
{
    uint32_t           open;
    ngx_int_t          rc;
    ngx_oci_health_t  *h;

    h = registry->health;

    if (h == NULL || !registry->breaker || !ngx_oci_health_get(&h->open)) {
        return NGX_OK;
    }

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return NGX_OK;
    }

    open = h->open;
    rc = !open ? NGX_OK : h->timedout ? NGX_BUSY : NGX_ERROR;

    /* who watched it is gone, as after a reload: it may be back since long */

    if (open && pass
        && ngx_oci_health_before(h->probe + NGX_OCI_HEALTH_UNSEEN,
                                 ngx_current_msec))
    {
        h->probe = ngx_current_msec + h->interval;
        rc = NGX_OK;
    }

    ngx_oci_health_unlock();

    if (open) {
        ngx_oci_health_watch(registry);
    }

    return rc;
}


ngx_msec_t
ngx_oci_health_wait(ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization, ngx_uint_t *down)
{
    uint64_t    account;
    ngx_msec_t  ms;
    ngx_uint_t  status;

    *down = ngx_oci_health_down(registry);

    if (*down) {
        return NGX_OCI_HEALTH_LOOK;
    }

    account = ngx_oci_health_account(registry,
                                     registry->fill
                                     ? NGX_OCI_CREDENTIALS_STORED
                                     : registry->credentials,
                                     registry->fill, authorization);

    ms = ngx_oci_health_limited(registry, account, repository, &status);

    return ngx_min(ms, NGX_OCI_HEALTH_LOOK);
}


void
ngx_oci_health_answered(ngx_oci_registry_t *registry)
{
    ngx_uint_t         closed;
    ngx_oci_health_t  *h;

    h = registry->health;

    if (h == NULL) {
        return;
    }

    /* nearly always */

    if (!ngx_oci_health_get(&h->open) && !ngx_oci_health_get(&h->failures)) {
        ngx_oci_health_set(&h->answered, ngx_current_msec);
        return;
    }

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return;
    }

    closed = h->open;

    ngx_oci_health_set(&h->answered, ngx_current_msec);
    ngx_oci_health_set(&h->failures, 0);
    ngx_oci_health_set(&h->open, 0);

    ngx_oci_health_unlock();

    if (closed) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "oci_registry \"%V\" answers again", &registry->name);
    }
}


/*
 * Requests in a row are those that nothing else was answered since: one that
 * began before an answer to another says nothing of what is now.  How long
 * they took to fail does not count.
 */

void
ngx_oci_health_failed(ngx_oci_registry_t *registry, ngx_msec_t begun,
    ngx_uint_t timedout)
{
    ngx_uint_t         opened;
    ngx_oci_health_t  *h;

    if (!registry->breaker) {
        return;
    }

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return;
    }

    opened = 0;

    if (!h->open && !ngx_oci_health_before(begun, h->answered)) {

        if (ngx_oci_health_before(h->failed + NGX_OCI_HEALTH_WINDOW, begun)) {
            ngx_oci_health_set(&h->failures, 0);
        }

        ngx_oci_health_set(&h->failures, h->failures + 1);
        h->failed = ngx_current_msec;
        h->timedout = timedout;

        if (h->failures >= NGX_OCI_HEALTH_FAILURES) {
            opened = 1;
            h->interval = NGX_OCI_HEALTH_INTERVAL;
            h->probe = ngx_current_msec + h->interval;
            ngx_oci_health_set(&h->open, 1);
        }
    }

    ngx_oci_health_unlock();

    if (opened) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "oci_registry \"%V\" does not answer, it is not asked "
                      "until it does", &registry->name);

        ngx_oci_health_watch(registry);
    }
}


/* whoever gets it has until the next one is due: nothing is left to take back
   if he dies */

ngx_msec_t
ngx_oci_health_probe_due(ngx_oci_registry_t *registry)
{
    ngx_msec_t         due;
    ngx_oci_health_t  *h;

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return 0;
    }

    due = 0;

    if (h->open && !ngx_oci_health_before(ngx_current_msec, h->probe)) {
        h->interval = ngx_min(h->interval * 2, NGX_OCI_HEALTH_MAX);
        h->probe = ngx_current_msec + h->interval;
        due = h->interval;
    }

    ngx_oci_health_unlock();

    return due;
}
