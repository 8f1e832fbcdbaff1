
/*
 * Copyright (C) The nginx-oci authors
 *
 * What all workers know of a registry's state, in a shared zone: a record a
 * registry, found by its name and URL, so that neither a reload nor another
 * order in nginx.conf mixes them up.
 */


#ifndef _NGX_OCI_HEALTH_H_INCLUDED_
#define _NGX_OCI_HEALTH_H_INCLUDED_


#include "ngx_oci_core.h"


#define NGX_OCI_HEALTH_RECORDS   128
#define NGX_OCI_HEALTH_KEY       16     /* bytes */
#define NGX_OCI_HEALTH_LIMITS    32     /* a registry */
#define NGX_OCI_HEALTH_WAITERS   64     /* likewise */
#define NGX_OCI_HEALTH_WORKERS   128    /* those of before a reload included */
#define NGX_OCI_HEALTH_CHALLENGE 496    /* bytes */
#define NGX_OCI_HEALTH_RETRY_AFTER  5   /* s, told while a breaker is open */


/* an account of the registry's has to wait */

typedef struct {
    uint64_t               account;     /* 0: a free place */
    uint64_t               repository;  /* 0: for all of them */
    ngx_msec_t             until;
    uint32_t               status;      /* of the answer: 429, or 503 */
} ngx_oci_health_limit_t;


/* one who waits for a place among the registry's max_connections */

typedef struct {
    uint64_t               ticket;      /* 0: nobody; the lowest is next */
    ngx_msec_t             seen;        /* when he asked last */
} ngx_oci_health_waiter_t;


/* the registry's last answer to GET /v2/ without credentials */

typedef struct {
    uint32_t               status;      /* 200 or 401; 0: none is known */
    uint32_t               len;
    time_t                 when;
    u_char                 challenge[NGX_OCI_HEALTH_CHALLENGE];
} ngx_oci_health_ping_t;


/*
 * Owner: the zone.  Everything is read and written under its mutex, but for
 * "open", "failures", "answered" and "limited", which are also looked at
 * without.  Each field stands for itself: a process may die between two of
 * them.
 */

typedef struct {
    u_char                 key[NGX_OCI_HEALTH_KEY];
    uint32_t               used;        /* 0: a free record */
    uint32_t               generation;  /* of the configuration that named it
                                           last */

    /* the breaker; times are of the boot's monotonic clock, ms */

    uint32_t               open;
    uint32_t               failures;    /* since the last answer */
    uint32_t               timedout;    /* the last one */
    ngx_msec_t             failed;      /* when */
    ngx_msec_t             answered;    /* the last answer */
    ngx_msec_t             probe;       /* the next one, not before */
    ngx_msec_t             interval;    /* of probes */

    ngx_msec_t             limited;     /* the latest end of limits */
    ngx_oci_health_limit_t limits[NGX_OCI_HEALTH_LIMITS];

    uint16_t               places[NGX_OCI_HEALTH_WORKERS]; /* taken, by
                                                              worker */
    uint64_t               ticket;      /* the last one given */
    ngx_oci_health_waiter_t  waiters[NGX_OCI_HEALTH_WAITERS];

    int64_t                bucket;      /* bytes that may come; below 0: that
                                           should not have come yet */
    ngx_msec_t             filled;      /* the bucket was, at */

    ngx_oci_health_ping_t  ping;
} ngx_oci_health_t;


typedef struct {
    uint32_t               layout;
    uint32_t               size;        /* of this struct, bytes */
    uint32_t               generation;  /* of configurations */
    int32_t                pids[NGX_OCI_HEALTH_WORKERS];    /* 0: free */
    ngx_oci_health_t       records[NGX_OCI_HEALTH_RECORDS];
} ngx_oci_health_zone_t;


/* ngx_oci_health.c */

/* adds the zone; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_health_add_zone(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf);

/*
 * May a request go to the registry?  NGX_OK, or how the last one failed while
 * the breaker is open: NGX_ERROR, or NGX_BUSY (timed out).  NGX_OK also while
 * it is open and nobody has probed for a while: the request is the probe.
 */
ngx_int_t ngx_oci_health_gate(ngx_oci_registry_t *registry);
/* a header came, of whatever status */
void ngx_oci_health_answered(ngx_oci_registry_t *registry);
/* a request that began at this time (ms) could not connect, or timed out
   before a header */
void ngx_oci_health_failed(ngx_oci_registry_t *registry, ngx_msec_t begun,
    ngx_uint_t timedout);

/* its record, with the zone locked until unlock(); NULL: it has none, or that
   was given to another one while this worker of an old configuration still
   serves; not locked then */
ngx_oci_health_t *ngx_oci_health_lock(ngx_oci_registry_t *registry);
void ngx_oci_health_unlock(void);

/* locks the zone; NULL: there is none, not locked then */
ngx_oci_health_zone_t *ngx_oci_health_lock_zone(void);
/* of who has it locked */
ngx_oci_health_zone_t *ngx_oci_health_zone(void);

#define ngx_oci_health_get(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define ngx_oci_health_set(p, v)  __atomic_store_n(p, v, __ATOMIC_RELAXED)

/* is time a before b? */
#define ngx_oci_health_before(a, b)  ((ngx_msec_int_t) ((a) - (b)) < 0)

/* is the breaker open? */
ngx_uint_t ngx_oci_health_down(ngx_oci_registry_t *registry);
/* as wait() of ngx_oci_core_t */
ngx_msec_t ngx_oci_health_wait(ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization, ngx_uint_t *down);
/* it is open, a probe is due, and it is the caller's, who has so many ms for
   it before it is somebody else's turn; else 0 */
ngx_msec_t ngx_oci_health_probe_due(ngx_oci_registry_t *registry);


/* ngx_oci_health_limit.c: 429, and 503 with Retry-After */

/*
 * Whose limit it is: all requests with a registry's own credentials share
 * one, as do those with its fill_credentials; of callers' credentials each
 * has its own.  stored: as in ngx_oci_exchange_t.
 */
uint64_t ngx_oci_health_account(ngx_oci_registry_t *registry,
    ngx_uint_t credentials, ngx_oci_credentials_t *stored,
    ngx_str_t *authorization);
/* an answer of the registry about a repository: may tell the account to wait,
   with it or with all of them */
void ngx_oci_health_answer(ngx_oci_registry_t *registry, uint64_t account,
    ngx_str_t *repository, ngx_uint_t status, ngx_str_t *retry_after);
/* ms that the account has still to wait; 0: it has not.  *status: of the
   answer that told so */
ngx_msec_t ngx_oci_health_limited(ngx_oci_registry_t *registry,
    uint64_t account, ngx_str_t *repository, ngx_uint_t *status);


/* ngx_oci_health_quota.c: max_connections and rate, over all workers */

/* a worker begins and ends */
void ngx_oci_health_init_process(ngx_cycle_t *cycle);
void ngx_oci_health_exit_process(void);

/* as place(), place_free(), place_leave() and place_wanted() of
   ngx_oci_core_t */
ngx_int_t ngx_oci_health_place(ngx_oci_registry_t *registry,
    uint64_t *ticket);
void ngx_oci_health_place_free(ngx_oci_registry_t *registry);
void ngx_oci_health_place_leave(ngx_oci_registry_t *registry,
    uint64_t *ticket);
ngx_uint_t ngx_oci_health_place_wanted(ngx_oci_registry_t *registry);

/* bytes that may be read now from a registry that has a rate; 0: none before
   *delay ms are over */
size_t ngx_oci_health_room(ngx_oci_registry_t *registry, ngx_msec_t *delay);
/* so many were */
void ngx_oci_health_spend(ngx_oci_registry_t *registry, size_t bytes);


/* ngx_oci_health_probe.c */

/* did the last try of a failed request end before it had a connection? */
ngx_uint_t ngx_oci_health_unconnected(ngx_http_upstream_t *u);

/* the worker has seen the breaker open: it helps to find out when the
   registry is back */
void ngx_oci_health_watch(ngx_oci_registry_t *registry);


#endif /* _NGX_OCI_HEALTH_H_INCLUDED_ */
