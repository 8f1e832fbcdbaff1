
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
#define NGX_OCI_HEALTH_RETRY_AFTER  5   /* s, told while a breaker is open */


/*
 * Owner: the zone.  Everything is read and written under its mutex, but for
 * "open", "failures" and "answered", which are also looked at without.  Each
 * field stands for itself: a process may die between two of them.
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
} ngx_oci_health_t;


/* ngx_oci_health.c */

/* adds the zone; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_health_add_zone(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf);

/*
 * May a request go to the registry?  NGX_OK, or how the last one failed while
 * the breaker is open: NGX_ERROR, or NGX_BUSY (timed out).
 */
ngx_int_t ngx_oci_health_gate(ngx_oci_registry_t *registry);
/* a header came, of whatever status */
void ngx_oci_health_answered(ngx_oci_registry_t *registry);
/* a request that began at this time (ms) could not connect, or timed out
   before a header */
void ngx_oci_health_failed(ngx_oci_registry_t *registry, ngx_msec_t begun,
    ngx_uint_t timedout);

/* is the breaker open? */
ngx_uint_t ngx_oci_health_down(ngx_oci_registry_t *registry);
/* as wait() of ngx_oci_core_t */
ngx_msec_t ngx_oci_health_wait(ngx_oci_registry_t *registry,
    ngx_str_t *authorization, ngx_uint_t *down);
/* it is open, a probe is due, and it is the caller's, who has so many ms for
   it before it is somebody else's turn; else 0 */
ngx_msec_t ngx_oci_health_probe_due(ngx_oci_registry_t *registry);


/* ngx_oci_health_probe.c */

/* did the last try of a failed request end before it had a connection? */
ngx_uint_t ngx_oci_health_unconnected(ngx_http_upstream_t *u);

/* the worker has seen the breaker open: it helps to find out when the
   registry is back */
void ngx_oci_health_watch(ngx_oci_registry_t *registry);


#endif /* _NGX_OCI_HEALTH_H_INCLUDED_ */
