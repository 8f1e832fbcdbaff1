
/*
 * Copyright (C) The nginx-oci authors
 *
 * Artifacts, judged before they are sent.
 */


#ifndef _NGX_OCI_ARTIFACT_H_INCLUDED_
#define _NGX_OCI_ARTIFACT_H_INCLUDED_


#include "ngx_oci_judged.h"
#include "ngx_oci_format_look.h"


typedef struct ngx_oci_artifact_s       ngx_oci_artifact_t;
typedef struct ngx_oci_artifact_task_s  ngx_oci_artifact_task_t;


typedef enum {
    NGX_OCI_ARTIFACT_BEGIN = 0,
    NGX_OCI_ARTIFACT_READ,
    NGX_OCI_ARTIFACT_READING,           /* in a thread */
    NGX_OCI_ARTIFACT_SIGNATURE,
    NGX_OCI_ARTIFACT_LOOK,
    NGX_OCI_ARTIFACT_DONE
} ngx_oci_artifact_step_e;


/* Owner: the request's pool; what it holds besides: the request's cleanup */

struct ngx_oci_artifact_s {
    ngx_oci_judge_t            *judge;
    ngx_oci_policy_conf_t      *policy;
    ngx_oci_policy_ctx_t       *ctx;
    ngx_oci_rules_t            *rules;      /* a copy */
    ngx_uint_t                  step;       /* ngx_oci_artifact_step_e */
    ngx_oci_rules_verdict_t     verdict;
    ngx_oci_artifact_task_t    *task;       /* NULL: none */
    ngx_int_t                   rc;         /* of the task */
    ngx_oci_look_t              look;
    ngx_uint_t                  weight;     /* of a blob */
    ngx_uint_t                  exempt;     /* the digest of a manifest */
    ngx_uint_t                  was_good;   /* by the same rules, before */

    /* what ngx_oci_artifact_signature() says */
    void                       *signature;  /* its own, NULL at first */
    time_t                      valid;      /* s: how long a bad one may be
                                               remembered */
    const char                 *why;        /* of a bad one; in the request's
                                               pool, or constant */
};


/* ngx_oci_artifact.c */
void ngx_oci_artifact_init_process(ngx_cycle_t *cycle);

/* something else may go on with it, from the event loop */
void ngx_oci_artifact_resume(ngx_oci_artifact_t *a);

/* NULL: no memory */
ngx_oci_artifact_t *ngx_oci_artifact_create(ngx_oci_judge_t *j);

/* NGX_OK, NGX_ERROR: no document, no memory; NGX_DECLINED: answered */
ngx_int_t ngx_oci_artifact_begin(ngx_oci_artifact_t *a);
void ngx_oci_artifact_place(ngx_oci_artifact_t *a,
    ngx_oci_judged_place_t *place);

/* ngx_oci_artifact_answer.c: answers, NGX_DECLINED; NGX_ERROR: no memory */
ngx_int_t ngx_oci_artifact_refuse(ngx_oci_artifact_t *a, ngx_uint_t rule,
    const char *why);
/* a rule that is only logged */
void ngx_oci_artifact_dry(ngx_oci_artifact_t *a, ngx_uint_t rule,
    const char *why);

/*
 * ngx_oci_artifact_signature.c: has the manifest, a->judge's, a signature by
 * one of the keys of a->rules?  NGX_OK; NGX_DECLINED: it has not, a->why, for
 * a->valid; NGX_AGAIN: ngx_oci_artifact_resume() follows, unless the request
 * ends first; NGX_ERROR: that can't be told now.
 */
ngx_int_t ngx_oci_artifact_signature(ngx_oci_artifact_t *a);


#endif /* _NGX_OCI_ARTIFACT_H_INCLUDED_ */
