
/*
 * Copyright (C) The nginx-oci authors
 *
 * max_connections and rate of a registry, over all workers: places of fills'
 * exchanges, handed out in order, and a bucket of bytes.
 */


#include "ngx_oci_health.h"


#define NGX_OCI_HEALTH_UNSEEN  1000     /* ms: who has not asked for so long
                                           loses his turn */
#define NGX_OCI_HEALTH_GRAIN   65536    /* bytes that are worth a read */


static ngx_uint_t ngx_oci_health_dead(int32_t pid);
static void ngx_oci_health_clear(ngx_oci_health_zone_t *hz, ngx_uint_t slot);
static ngx_uint_t ngx_oci_health_taken(ngx_oci_health_t *h, ngx_uint_t max);
static ngx_uint_t ngx_oci_health_rank(ngx_oci_health_t *h, uint64_t ticket);
static void ngx_oci_health_queue(ngx_oci_health_t *h, uint64_t *ticket);
static void ngx_oci_health_unqueue(ngx_oci_health_t *h, uint64_t ticket);


static ngx_int_t  ngx_oci_health_slot = -1;     /* of this process */


void
ngx_oci_health_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t              i;
    ngx_oci_health_zone_t  *hz;

    if (ngx_process == NGX_PROCESS_HELPER) {
        return;
    }

    hz = ngx_oci_health_lock_zone();
    if (hz == NULL) {
        return;
    }

    for (i = 0; i < NGX_OCI_HEALTH_WORKERS; i++) {

        /* of a process that had the same number, too */

        if (hz->pids[i] == 0 || hz->pids[i] == ngx_pid
            || ngx_oci_health_dead(hz->pids[i]))
        {
            ngx_oci_health_clear(hz, i);
            hz->pids[i] = 0;

            if (ngx_oci_health_slot == -1) {
                hz->pids[i] = ngx_pid;
                ngx_oci_health_slot = i;
            }
        }
    }

    ngx_oci_health_unlock();

    if (ngx_oci_health_slot == -1) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "more than %d workers: max_connections does not hold "
                      "for this one", NGX_OCI_HEALTH_WORKERS);
    }
}


void
ngx_oci_health_exit_process(void)
{
    ngx_oci_health_zone_t  *hz;

    if (ngx_oci_health_slot == -1) {
        return;
    }

    hz = ngx_oci_health_lock_zone();
    if (hz == NULL) {
        return;
    }

    ngx_oci_health_clear(hz, ngx_oci_health_slot);
    hz->pids[ngx_oci_health_slot] = 0;

    ngx_oci_health_unlock();

    ngx_oci_health_slot = -1;
}


static ngx_uint_t
ngx_oci_health_dead(int32_t pid)
{
    return kill(pid, 0) == -1 && ngx_errno == ESRCH;
}


static void
ngx_oci_health_clear(ngx_oci_health_zone_t *hz, ngx_uint_t slot)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_HEALTH_RECORDS; i++) {
        hz->records[i].places[slot] = 0;
    }
}


ngx_int_t
ngx_oci_health_place(ngx_oci_registry_t *registry, uint64_t *ticket)
{
    ngx_int_t          rc;
    ngx_uint_t         taken;
    ngx_oci_health_t  *h;

    if (ngx_oci_health_slot == -1) {
        return NGX_OK;
    }

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return NGX_OK;
    }

    taken = ngx_oci_health_taken(h, registry->max_connections);

    if (taken + ngx_oci_health_rank(h, *ticket) < registry->max_connections) {
        ngx_oci_health_unqueue(h, *ticket);
        *ticket = 0;
        h->places[ngx_oci_health_slot]++;
        rc = NGX_OK;

    } else {
        ngx_oci_health_queue(h, ticket);
        rc = NGX_AGAIN;
    }

    ngx_oci_health_unlock();

    return rc;
}


/* how many are; if none is left, those of processes that are gone are free */

static ngx_uint_t
ngx_oci_health_taken(ngx_oci_health_t *h, ngx_uint_t max)
{
    ngx_uint_t              i, n;
    ngx_oci_health_zone_t  *hz;

    n = 0;
    hz = ngx_oci_health_zone();

    for (i = 0; i < NGX_OCI_HEALTH_WORKERS; i++) {
        n += h->places[i];
    }

    if (n < max) {
        return n;
    }

    for (i = 0; i < NGX_OCI_HEALTH_WORKERS; i++) {

        if (h->places[i]
            && (hz->pids[i] == 0 || ngx_oci_health_dead(hz->pids[i])))
        {
            n -= h->places[i];
            h->places[i] = 0;
        }
    }

    return n;
}


/* how many are before it; ticket 0: has none yet */

static ngx_uint_t
ngx_oci_health_rank(ngx_oci_health_t *h, uint64_t ticket)
{
    ngx_uint_t                i, n;
    ngx_oci_health_waiter_t  *w;

    n = 0;

    for (i = 0; i < NGX_OCI_HEALTH_WAITERS; i++) {
        w = &h->waiters[i];

        if (w->ticket == 0 || w->ticket == ticket) {
            continue;
        }

        if (ngx_oci_health_before(w->seen + NGX_OCI_HEALTH_UNSEEN,
                                  ngx_current_msec))
        {
            w->ticket = 0;
            continue;
        }

        if (ticket == 0 || w->ticket < ticket) {
            n++;
        }
    }

    return n;
}


/* who finds no room here has no turn, and comes when nobody waits */

static void
ngx_oci_health_queue(ngx_oci_health_t *h, uint64_t *ticket)
{
    ngx_uint_t                i;
    ngx_oci_health_waiter_t  *w, *found;

    found = NULL;

    for (i = 0; i < NGX_OCI_HEALTH_WAITERS; i++) {
        w = &h->waiters[i];

        if (*ticket && w->ticket == *ticket) {
            found = w;
            break;
        }

        if (w->ticket == 0) {
            found = w;
        }
    }

    if (found == NULL) {
        return;
    }

    if (*ticket == 0) {
        *ticket = ++h->ticket;
    }

    found->ticket = *ticket;
    found->seen = ngx_current_msec;
}


static void
ngx_oci_health_unqueue(ngx_oci_health_t *h, uint64_t ticket)
{
    ngx_uint_t  i;

    if (ticket == 0) {
        return;
    }

    for (i = 0; i < NGX_OCI_HEALTH_WAITERS; i++) {
        if (h->waiters[i].ticket == ticket) {
            h->waiters[i].ticket = 0;
        }
    }
}


void
ngx_oci_health_place_free(ngx_oci_registry_t *registry)
{
    ngx_oci_health_t  *h;

    if (ngx_oci_health_slot == -1) {
        return;
    }

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return;
    }

    if (h->places[ngx_oci_health_slot]) {
        h->places[ngx_oci_health_slot]--;
    }

    ngx_oci_health_unlock();
}


void
ngx_oci_health_place_leave(ngx_oci_registry_t *registry, uint64_t *ticket)
{
    ngx_oci_health_t  *h;

    if (*ticket == 0) {
        return;
    }

    h = ngx_oci_health_lock(registry);

    if (h) {
        ngx_oci_health_unqueue(h, *ticket);
        ngx_oci_health_unlock();
    }

    *ticket = 0;
}


ngx_uint_t
ngx_oci_health_place_wanted(ngx_oci_registry_t *registry)
{
    ngx_uint_t         wanted;
    ngx_oci_health_t  *h;

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return 0;
    }

    wanted = ngx_oci_health_rank(h, 0) != 0;

    ngx_oci_health_unlock();

    return wanted;
}


/* half a second's bytes are the most that the bucket holds */

size_t
ngx_oci_health_room(ngx_oci_registry_t *registry, ngx_msec_t *delay)
{
    int64_t            grain, room, more;
    ngx_msec_t         passed;
    ngx_oci_health_t  *h;

    h = ngx_oci_health_lock(registry);
    if (h == NULL) {
        return NGX_MAX_SIZE_T_VALUE;
    }

    passed = ngx_min(ngx_current_msec - h->filled, 1000);

    /* another worker's clock may be ahead */

    more = ngx_oci_health_before(ngx_current_msec, h->filled)
           ? 0 : (int64_t) registry->rate * (int64_t) passed / 1000;

    if (more) {
        h->bucket = ngx_min(h->bucket + more, registry->rate / 2);
        h->filled = ngx_current_msec;
    }

    room = h->bucket;

    ngx_oci_health_unlock();

    grain = ngx_min(registry->rate / 20 + 1, NGX_OCI_HEALTH_GRAIN);

    if (room >= grain) {
        return (size_t) room;
    }

    *delay = (ngx_msec_t) ((grain - room) * 1000 / registry->rate + 1);

    return 0;
}


void
ngx_oci_health_spend(ngx_oci_registry_t *registry, size_t bytes)
{
    ngx_oci_health_t  *h;

    h = ngx_oci_health_lock(registry);

    if (h) {
        h->bucket -= bytes;
        ngx_oci_health_unlock();
    }
}
