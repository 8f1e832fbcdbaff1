
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_pace.h"


#define NGX_OCI_PACE_INTERVAL  50       /* ms of one measurement */
#define NGX_OCI_PACE_SETTLED   1000     /* ms that a trial waits at most */
#define NGX_OCI_PACE_HOLD_MIN  1000     /* ms between trials, doubled */
#define NGX_OCI_PACE_HOLD_MAX  16000


static void ngx_oci_pace_enter(ngx_oci_pace_t *pace,
    ngx_oci_pace_state_e state, ngx_msec_t now);
static ngx_uint_t ngx_oci_pace_widen(ngx_oci_pace_t *pace, ngx_msec_t now,
    ngx_uint_t max);


void
ngx_oci_pace_init(ngx_oci_pace_t *pace)
{
    ngx_memzero(pace, sizeof(ngx_oci_pace_t));

    pace->width = 1;
    pace->narrow = 1;
    pace->hold = NGX_OCI_PACE_HOLD_MIN;
}


void
ngx_oci_pace_pause(ngx_oci_pace_t *pace)
{
    if (ngx_oci_pace_trying(pace)) {
        pace->width = pace->narrow;
    }

    pace->state = NGX_OCI_PACE_BASE;
    pace->started = 0;
}


ngx_uint_t
ngx_oci_pace(ngx_oci_pace_t *pace, ngx_msec_t now, uint64_t bytes,
    ngx_uint_t max, ngx_uint_t settled)
{
    uint64_t    rate;
    ngx_msec_t  passed;

    if (pace->width > max) {
        pace->width = max;
    }

    if (!pace->started) {

        /* the first bytes tell when, not how fast */

        pace->started = 1;
        ngx_oci_pace_enter(pace, NGX_OCI_PACE_BASE, now);
        return 0;
    }

    pace->bytes += bytes;
    passed = now - pace->since;

    switch (pace->state) {

    case NGX_OCI_PACE_HOLD:

        if (passed >= pace->hold && pace->width < max) {
            ngx_oci_pace_enter(pace, NGX_OCI_PACE_BASE, now);
        }

        return 0;

    case NGX_OCI_PACE_SETTLE:

        if (settled || passed >= NGX_OCI_PACE_SETTLED) {
            ngx_oci_pace_enter(pace, NGX_OCI_PACE_TRIAL, now);
        }

        return 0;

    default:
        break;
    }

    if (passed < NGX_OCI_PACE_INTERVAL) {
        return 0;
    }

    rate = pace->bytes * 1000 / passed;

    if (pace->state == NGX_OCI_PACE_TRIAL && rate < pace->rate / 4 * 5) {

        pace->width = pace->narrow;
        ngx_oci_pace_enter(pace, NGX_OCI_PACE_HOLD, now);
        pace->hold = ngx_min(pace->hold * 2, NGX_OCI_PACE_HOLD_MAX);

        return 0;
    }

    if (pace->state == NGX_OCI_PACE_TRIAL) {
        pace->hold = NGX_OCI_PACE_HOLD_MIN;
    }

    pace->rate = rate;

    return ngx_oci_pace_widen(pace, now, max);
}


static void
ngx_oci_pace_enter(ngx_oci_pace_t *pace, ngx_oci_pace_state_e state,
    ngx_msec_t now)
{
    pace->state = state;
    pace->since = now;
    pace->bytes = 0;
}


static ngx_uint_t
ngx_oci_pace_widen(ngx_oci_pace_t *pace, ngx_msec_t now, ngx_uint_t max)
{
    pace->narrow = pace->width;

    if (pace->width >= max) {
        ngx_oci_pace_enter(pace, NGX_OCI_PACE_HOLD, now);
        return 0;
    }

    pace->width = ngx_min(pace->width * 2, max);
    ngx_oci_pace_enter(pace, NGX_OCI_PACE_SETTLE, now);

    return 1;
}


ngx_uint_t
ngx_oci_pace_trying(ngx_oci_pace_t *pace)
{
    return pace->state == NGX_OCI_PACE_SETTLE
           || pace->state == NGX_OCI_PACE_TRIAL;
}
