
/*
 * Copyright (C) The nginx-oci authors
 *
 * Wake-ups across workers: an eventfd a slot, made once in the master and
 * inherited by every worker, without payload.  What there is to see stands
 * in the index.
 */


#include "ngx_oci_index.h"
#include <ngx_channel.h>
#include <sys/eventfd.h>


#define NGX_OCI_DOORBELL_DEAF  1000000      /* us until it seems so */


typedef struct {
    ngx_oci_cache_t    *cache;
    ngx_int_t           slot;
    ngx_connection_t   *connection;
    void              (*handler)(ngx_oci_cache_t *cache);
} ngx_oci_doorbell_t;


static ngx_uint_t ngx_oci_doorbell_alive(int fd);
static void ngx_oci_doorbell_event(ngx_event_t *ev);
static uint64_t ngx_oci_doorbell_now(void);


/* per process: this worker's slot in each cache; in the cycle's pool */

static ngx_array_t  ngx_oci_doorbells;      /* of ngx_oci_doorbell_t */


ngx_int_t
ngx_oci_doorbell_init(ngx_oci_cache_t *cache, ngx_uint_t existing)
{
    ngx_uint_t              i;
    ngx_oci_doorbell_sh_t  *sh;

    if (existing) {
        return NGX_OK;
    }

    sh = ngx_slab_calloc(cache->shpool, sizeof(ngx_oci_doorbell_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_OCI_SLOTS; i++) {
        sh->fds[i] = -1;
    }

    cache->doorbell = sh;

    return NGX_OK;
}


/* in the master, before any fork: a reload finds the descriptors of the
   cycle before, so that old and new workers ring each other */

ngx_int_t
ngx_oci_doorbell_open(ngx_oci_cache_t *cache, ngx_log_t *log)
{
    int                     fd;
    ngx_uint_t              i;
    ngx_oci_doorbell_sh_t  *sh;

    sh = cache->doorbell;

    for (i = 0; i < NGX_OCI_SLOTS; i++) {

        if (sh->fds[i] != -1 && ngx_oci_doorbell_alive(sh->fds[i])) {
            continue;
        }

        fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (fd == -1) {
            ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "eventfd() failed");
            return NGX_ERROR;
        }

        sh->fds[i] = fd;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_doorbell_alive(int fd)
{
    char     path[64], target[64];
    ssize_t  n;

    (void) ngx_sprintf((u_char *) path, "/proc/self/fd/%d%Z", fd);

    n = readlink(path, target, sizeof(target));

    return n > 0 && (size_t) n >= sizeof("anon_inode:[eventfd") - 1
           && ngx_strncmp(target, "anon_inode:[eventfd",
                          sizeof("anon_inode:[eventfd") - 1)
              == 0;
}


ngx_int_t
ngx_oci_doorbell_claim(ngx_oci_cache_t *cache, ngx_cycle_t *cycle,
    void (*handler)(ngx_oci_cache_t *cache))
{
    ngx_int_t               slot;
    ngx_uint_t              i;
    ngx_oci_doorbell_t     *db;
    ngx_oci_doorbell_sh_t  *sh;

    if (ngx_oci_doorbells.elts == NULL
        && ngx_array_init(&ngx_oci_doorbells, cycle->pool, 4,
                          sizeof(ngx_oci_doorbell_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_oci_doorbell_reap(cache);

    sh = cache->doorbell;
    slot = -1;

    ngx_shmtx_lock(&cache->shpool->mutex);

    for (i = 0; i < NGX_OCI_SLOTS; i++) {

        if (sh->pids[i] == 0 && sh->fds[i] != -1) {
            sh->pids[i] = ngx_pid;
            sh->rung[i] = 0;
            slot = i;
            break;
        }
    }

    ngx_shmtx_unlock(&cache->shpool->mutex);

    if (slot == -1) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "more than %d workers use oci cache zone \"%V\"",
                      NGX_OCI_SLOTS, &cache->zone->shm.name);
        return NGX_DECLINED;
    }

    db = ngx_array_push(&ngx_oci_doorbells);
    if (db == NULL) {
        return NGX_ERROR;
    }

    db->cache = cache;
    db->slot = slot;
    db->handler = handler;

    if (ngx_add_channel_event(cycle, sh->fds[slot], NGX_READ_EVENT,
                              ngx_oci_doorbell_event)
        == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_oci_doorbell_reap(ngx_oci_cache_t *cache)
{
    pid_t                   pid;
    uint64_t                dead;
    ngx_uint_t              i;
    ngx_oci_doorbell_sh_t  *sh;

    sh = cache->doorbell;
    dead = 0;

    ngx_shmtx_lock(&cache->shpool->mutex);

    for (i = 0; i < NGX_OCI_SLOTS; i++) {
        pid = sh->pids[i];

        if (pid && kill(pid, 0) == -1 && ngx_errno == ESRCH) {

            /* ours to sweep, and nobody else's */

            sh->pids[i] = ngx_pid;
            dead |= (uint64_t) 1 << i;
        }
    }

    ngx_shmtx_unlock(&cache->shpool->mutex);

    if (dead == 0) {
        return;
    }

    for (i = 0; i < NGX_OCI_SLOTS; i++) {
        if (dead & ((uint64_t) 1 << i)) {
            ngx_oci_index_sweep(cache, i);
        }
    }

    ngx_shmtx_lock(&cache->shpool->mutex);

    for (i = 0; i < NGX_OCI_SLOTS; i++) {
        if (dead & ((uint64_t) 1 << i)) {
            sh->pids[i] = 0;
            sh->rung[i] = 0;
        }
    }

    ngx_shmtx_unlock(&cache->shpool->mutex);
}


void
ngx_oci_doorbell_free(ngx_oci_cache_t *cache)
{
    ngx_int_t  slot;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {
        return;
    }

    ngx_oci_index_sweep(cache, slot);

    ngx_shmtx_lock(&cache->shpool->mutex);
    cache->doorbell->pids[slot] = 0;
    ngx_shmtx_unlock(&cache->shpool->mutex);
}


ngx_int_t
ngx_oci_doorbell_slot(ngx_oci_cache_t *cache)
{
    ngx_uint_t           i;
    ngx_oci_doorbell_t  *db;

    db = ngx_oci_doorbells.elts;

    for (i = 0; i < ngx_oci_doorbells.nelts; i++) {
        if (db[i].cache == cache) {
            return db[i].slot;
        }
    }

    return -1;
}


void
ngx_oci_doorbell_ring(ngx_oci_cache_t *cache, uint64_t slots)
{
    uint64_t                one, zero;
    ngx_uint_t              i;
    ngx_oci_doorbell_sh_t  *sh;

    sh = cache->doorbell;
    one = 1;

    for (i = 0; slots; i++, slots >>= 1) {

        if (!(slots & 1)) {
            continue;
        }

        zero = 0;
        (void) __atomic_compare_exchange_n(&sh->rung[i], &zero,
                                           ngx_oci_doorbell_now(), 0,
                                           __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);

        if (write(sh->fds[i], &one, sizeof(one)) == -1
            && ngx_errno != NGX_EAGAIN)
        {
            ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                          "write() to an eventfd failed");
        }
    }
}


void
ngx_oci_doorbell_ring_all(ngx_oci_cache_t *cache)
{
    uint64_t    slots;
    ngx_uint_t  i;

    slots = 0;

    for (i = 0; i < NGX_OCI_SLOTS; i++) {
        if (cache->doorbell->pids[i]) {
            slots |= (uint64_t) 1 << i;
        }
    }

    ngx_oci_doorbell_ring(cache, slots);
}


ngx_uint_t
ngx_oci_doorbell_pending(ngx_oci_cache_t *cache, ngx_int_t slot)
{
    return __atomic_load_n(&cache->doorbell->rung[slot], __ATOMIC_SEQ_CST)
           != 0;
}


ngx_uint_t
ngx_oci_doorbell_deaf(ngx_oci_cache_t *cache, ngx_int_t slot)
{
    uint64_t  now, rung;

    rung = __atomic_load_n(&cache->doorbell->rung[slot], __ATOMIC_SEQ_CST);
    now = ngx_oci_doorbell_now();

    return rung && now > rung && now - rung >= NGX_OCI_DOORBELL_DEAF;
}


static void
ngx_oci_doorbell_event(ngx_event_t *ev)
{
    int                  fd;
    uint64_t             n, rung, us;
    ngx_uint_t           i, bucket;
    ngx_connection_t    *c;
    ngx_oci_stats_t     *st;
    ngx_oci_doorbell_t  *db;

    c = ev->data;
    fd = c->fd;
    db = ngx_oci_doorbells.elts;

    for (i = 0; i < ngx_oci_doorbells.nelts; i++, db++) {
        if (db->cache->doorbell->fds[db->slot] == fd) {
            break;
        }
    }

    if (i == ngx_oci_doorbells.nelts) {
        return;
    }

    if (read(fd, &n, sizeof(n)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, ngx_errno,
                      "read() of an eventfd failed");
    }

    rung = __atomic_exchange_n(&db->cache->doorbell->rung[db->slot], 0,
                               __ATOMIC_SEQ_CST);

    st = ngx_oci_core.stats();

    if (rung && st) {
        us = ngx_oci_doorbell_now();
        us = (us > rung) ? us - rung : 0;

        /* bucket i: up to 2^i * 16 us */

        for (bucket = 0;
             bucket < NGX_OCI_STAT_BUCKETS - 1
             && us > ((uint64_t) 16 << bucket);
             bucket++)
        {
            /* void */
        }

        __atomic_fetch_add(&st->wakeup_buckets[bucket], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&st->wakeup_sum_us, us, __ATOMIC_RELAXED);
        __atomic_fetch_add(&st->wakeup_count, 1, __ATOMIC_RELAXED);
    }

    db->handler(db->cache);
}


static uint64_t
ngx_oci_doorbell_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
