
/*
 * Copyright (C) The nginx-oci authors
 *
 * How many exchanges of one blob run at once: as many as make it come
 * faster, up to a limit.  Bytes that come far ahead of their readers cost
 * memory and processor caches, so that more exchanges than help do harm.
 *
 * The number is doubled as long as that brings a quarter more bytes a
 * second, taken back where it does not, and tried again later.
 */


#ifndef _NGX_OCI_PACE_H_INCLUDED_
#define _NGX_OCI_PACE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef enum {
    NGX_OCI_PACE_BASE = 0,          /* the rate of the present width */
    NGX_OCI_PACE_SETTLE,            /* waits for the new exchanges' bytes */
    NGX_OCI_PACE_TRIAL,             /* their rate */
    NGX_OCI_PACE_HOLD               /* until the next trial */
} ngx_oci_pace_state_e;


typedef struct {
    ngx_uint_t              width;  /* exchanges to have at once */
    ngx_uint_t              narrow; /* the width before the trial */
    ngx_oci_pace_state_e    state;
    ngx_msec_t              since;  /* the state's begin */
    ngx_msec_t              hold;   /* ms until the next trial */
    uint64_t                bytes;  /* since then */
    uint64_t                rate;   /* bytes a second, of the narrow width */
    unsigned                started:1;
} ngx_oci_pace_t;


/* begins with one exchange */
void ngx_oci_pace_init(ngx_oci_pace_t *pace);

/* what was measured is void: nothing was asked for meanwhile */
void ngx_oci_pace_pause(ngx_oci_pace_t *pace);

/*
 * bytes came at now (ms).  max: the limit of the width.  settled: all
 * exchanges that run have brought bytes.  Returns 1 if the width has grown.
 */
ngx_uint_t ngx_oci_pace(ngx_oci_pace_t *pace, ngx_msec_t now, uint64_t bytes,
    ngx_uint_t max, ngx_uint_t settled);

/* exchanges that are begun now may turn out to be too many: 1 */
ngx_uint_t ngx_oci_pace_trying(ngx_oci_pace_t *pace);


#endif /* _NGX_OCI_PACE_H_INCLUDED_ */
