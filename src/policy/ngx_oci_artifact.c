
/*
 * Copyright (C) The nginx-oci authors
 *
 * Manifests, judged by the rules of their repository's project, once: verdicts
 * are remembered by the rules that they were found by.
 */


#include "ngx_oci_artifact.h"
#include "ngx_oci_work.h"


#define NGX_OCI_ARTIFACT_INLINE  (32 * 1024)    /* bytes; more in a thread */
#define NGX_OCI_ARTIFACT_VALID   60     /* s, then what a manifest names is
                                           noted again, as it may be forgotten
                                           sooner than the manifest */


/* Owner: itself, until the thread has done; a is NULL where nobody waits */

struct ngx_oci_artifact_task_s {
    ngx_oci_work_t              work;
    ngx_oci_artifact_t         *a;
    ngx_oci_rules_t            *rules;
    ngx_oci_rules_verdict_t     verdict;
    ngx_str_t                   media_type;
    u_char                     *body;
    size_t                      size;
    ngx_int_t                   rc;
};


static void ngx_oci_artifact_cleanup(void *data);
static ngx_int_t ngx_oci_artifact_known(ngx_oci_artifact_t *a);
static void ngx_oci_artifact_moved(ngx_oci_artifact_t *a);
static ngx_int_t ngx_oci_artifact_read(ngx_oci_artifact_t *a);
static ngx_int_t ngx_oci_artifact_post(ngx_oci_artifact_t *a);
static void ngx_oci_artifact_thread(void *data);
static void ngx_oci_artifact_read_done(void *data);
static ngx_uint_t ngx_oci_artifact_unsigned(ngx_oci_artifact_t *a);
static ngx_int_t ngx_oci_artifact_signed(ngx_oci_artifact_t *a);
static ngx_int_t ngx_oci_artifact_done(ngx_oci_artifact_t *a);


static ngx_thread_pool_t  *ngx_oci_artifact_threads;    /* per process */


void
ngx_oci_artifact_init_process(ngx_cycle_t *cycle)
{
    ngx_str_t  name;

    ngx_str_set(&name, "oci_policy");

    ngx_oci_artifact_threads = ngx_thread_pool_get(cycle, &name);
}


ngx_oci_artifact_t *
ngx_oci_artifact_create(ngx_oci_judge_t *j)
{
    ngx_oci_artifact_t  *a;
    ngx_http_cleanup_t  *cln;

    a = ngx_pcalloc(j->request->pool, sizeof(ngx_oci_artifact_t));
    cln = ngx_http_cleanup_add(j->request, 0);

    if (a == NULL || cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_oci_artifact_cleanup;
    cln->data = a;

    a->judge = j;
    a->policy = j->ctx->allowed->data;
    a->ctx = ngx_http_get_module_ctx(j->request, ngx_http_oci_policy_module);

    j->state = a;

    return a;
}


static void
ngx_oci_artifact_cleanup(void *data)
{
    ngx_oci_artifact_t *a = data;

    if (a->task) {
        a->task->a = NULL;
        a->task = NULL;
    }

    ngx_oci_rules_verdict_free(&a->verdict);
}


ngx_int_t
ngx_oci_artifact_manifest(ngx_oci_judge_t *j)
{
    ngx_int_t            rc;
    ngx_oci_artifact_t  *a;

    a = j->state ? j->state : ngx_oci_artifact_create(j);

    if (a == NULL || a->ctx == NULL) {
        return NGX_ERROR;
    }

    if (a->step == NGX_OCI_ARTIFACT_BEGIN) {

        rc = ngx_oci_artifact_begin(a);

        if (rc != NGX_OK) {
            return rc;
        }

        ngx_oci_artifact_moved(a);

        rc = ngx_oci_artifact_known(a);

        if (rc != NGX_AGAIN) {
            return rc;
        }

        a->step = NGX_OCI_ARTIFACT_READ;
    }

    if (a->step == NGX_OCI_ARTIFACT_READ) {

        rc = ngx_oci_artifact_read(a);

        if (rc != NGX_OK) {
            return rc;
        }

        a->step = NGX_OCI_ARTIFACT_SIGNATURE;
    }

    if (a->step == NGX_OCI_ARTIFACT_READING) {

        if (a->task) {
            return NGX_AGAIN;
        }

        if (a->rc != NGX_OK) {
            return NGX_ERROR;
        }

        a->step = NGX_OCI_ARTIFACT_SIGNATURE;
    }

    if (a->step == NGX_OCI_ARTIFACT_SIGNATURE) {

        rc = ngx_oci_artifact_signed(a);

        if (rc != NGX_OK) {
            return rc;
        }

        a->step = NGX_OCI_ARTIFACT_DONE;
    }

    return ngx_oci_artifact_done(a);
}


void
ngx_oci_artifact_resume(ngx_oci_artifact_t *a)
{
    a->judge->handler(a->judge);
}


/* what may have become of it since the access phase, and its rules */

ngx_int_t
ngx_oci_artifact_begin(ngx_oci_artifact_t *a)
{
    ngx_uint_t              quarantined;
    ngx_oci_rbac_t         *doc;
    ngx_oci_judge_t        *j;
    ngx_oci_rules_t        *rules;
    ngx_oci_policy_conf_t  *pcf;

    j = a->judge;
    pcf = a->policy;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);

    if (doc == NULL) {
        ngx_shmtx_unlock(&pcf->shpool->mutex);
        return NGX_ERROR;
    }

    quarantined = ngx_oci_policy_quarantine(j->request, a->ctx, doc,
                                            &j->digest);
    rules = quarantined ? NULL
                        : ngx_oci_rules_find(doc, &j->ctx->route.repository);

    if (rules) {
        a->rules = ngx_palloc(j->request->pool, rules->size);

        if (a->rules == NULL) {
            ngx_shmtx_unlock(&pcf->shpool->mutex);
            return NGX_ERROR;
        }

        ngx_memcpy(a->rules, rules, rules->size);
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    if (quarantined) {
        return ngx_oci_artifact_refuse(a, 0, a->ctx->message
                                             ? a->ctx->message
                                             : "it is in quarantine");
    }

    return NGX_OK;
}


void
ngx_oci_artifact_place(ngx_oci_artifact_t *a, ngx_oci_judged_place_t *place)
{
    place->registry = a->judge->ctx->registry;
    place->repository = &a->judge->ctx->route.repository;
    place->digest = &a->judge->digest;
    place->rules = a->rules->id;
}


/* a tag that is not to move, and did; who may push may move it, too */

static void
ngx_oci_artifact_moved(ngx_oci_artifact_t *a)
{
    u_char            from[NGX_OCI_DIGEST_LEN], to[NGX_OCI_DIGEST_LEN];
    ngx_str_t         was, is;
    ngx_oci_ctx_t    *octx;
    ngx_oci_judge_t  *j;

    j = a->judge;
    octx = j->ctx;

    if (a->rules == NULL || j->former == NULL
        || octx->route.route != NGX_OCI_ROUTE_TAG
        || ngx_oci_digest_equal(j->former, &j->digest)
        || !ngx_oci_rules_match(a->rules, &a->rules->immutable,
                                &octx->route.reference, 0))
    {
        return;
    }

    was.data = from;
    was.len = ngx_oci_digest_print(from, j->former) - from;
    is.data = to;
    is.len = ngx_oci_digest_print(to, &j->digest) - to;

    ngx_log_error(NGX_LOG_WARN, j->request->connection->log, 0,
                  "tag \"%V\" of \"%V\" moved from \"%V\" to \"%V\" at the "
                  "registry, in oci_policy \"%V\" it is immutable",
                  &octx->route.reference, &octx->route.repository, &was, &is,
                  &a->policy->policy.name);
}


/* NGX_AGAIN: it has to be judged; else as ngx_oci_artifact_manifest() */

static ngx_int_t
ngx_oci_artifact_known(ngx_oci_artifact_t *a)
{
    u_char                     buf[NGX_OCI_DIGEST_LEN];
    ngx_str_t                  text;
    ngx_oci_judge_t           *j;
    ngx_oci_judged_place_t     place;
    ngx_oci_judged_verdict_t   v;

    j = a->judge;

    if (a->rules == NULL || !a->ctx->judged
        || !(a->rules->rules & NGX_OCI_RULES_MANIFEST))
    {
        return NGX_OK;
    }

    text.data = buf;
    text.len = ngx_oci_digest_print(buf, &j->digest) - buf;

    a->exempt = ngx_oci_rules_match(a->rules, &a->rules->exempt_digests,
                                    &text, 0);

    ngx_oci_artifact_place(a, &place);
    ngx_oci_judged_find(a->policy, &place, &v);

    a->was_good = (v.was == NGX_OCI_JUDGED_GOOD);

    switch (v.found) {

    case NGX_OCI_JUDGED_DRY:
        ngx_oci_artifact_dry(a, v.rule, v.why);

        /* fall through */

    case NGX_OCI_JUDGED_GOOD:
        return NGX_OK;

    case NGX_OCI_JUDGED_BAD:
        return ngx_oci_artifact_refuse(a, v.rule, v.why);
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_oci_artifact_read(ngx_oci_artifact_t *a)
{
    ngx_oci_judge_t  *j;

    j = a->judge;

    if (j->size > NGX_OCI_ARTIFACT_INLINE && ngx_oci_artifact_threads) {
        return ngx_oci_artifact_post(a);
    }

    return ngx_oci_rules_manifest(a->rules, &j->media_type, j->body, j->size,
                                  &a->verdict);
}


/* the request may be gone before the thread has done: it has copies */

static ngx_int_t
ngx_oci_artifact_post(ngx_oci_artifact_t *a)
{
    u_char                   *p;
    ngx_oci_judge_t          *j;
    ngx_oci_artifact_task_t  *t;

    j = a->judge;

    t = ngx_calloc(sizeof(ngx_oci_artifact_task_t) + a->rules->size
                   + j->media_type.len + j->size, ngx_cycle->log);
    if (t == NULL) {
        return NGX_ERROR;
    }

    p = (u_char *) t + sizeof(ngx_oci_artifact_task_t);

    t->rules = (ngx_oci_rules_t *) p;
    p = ngx_cpymem(p, a->rules, a->rules->size);
    t->media_type.data = p;
    t->media_type.len = j->media_type.len;
    p = ngx_cpymem(p, j->media_type.data, j->media_type.len);
    t->body = p;
    t->size = j->size;
    ngx_memcpy(p, j->body, j->size);

    t->a = a;
    t->work.run = ngx_oci_artifact_thread;
    t->work.done = ngx_oci_artifact_read_done;
    t->work.data = t;
    t->work.slow = "judging a manifest takes longer than a minute";

    if (ngx_oci_work_post(ngx_oci_artifact_threads, &t->work) != NGX_OK) {
        ngx_free(t);
        return NGX_ERROR;
    }

    a->task = t;
    a->step = NGX_OCI_ARTIFACT_READING;

    return NGX_AGAIN;
}


static void
ngx_oci_artifact_thread(void *data)
{
    ngx_oci_artifact_task_t *t = data;

    t->rc = ngx_oci_rules_manifest(t->rules, &t->media_type, t->body, t->size,
                                   &t->verdict);
}


static void
ngx_oci_artifact_read_done(void *data)
{
    ngx_oci_artifact_task_t *t = data;

    ngx_oci_artifact_t  *a;

    a = t->a;

    if (a == NULL) {
        ngx_oci_rules_verdict_free(&t->verdict);

    } else {
        a->rc = t->rc;
        a->verdict = t->verdict;
        a->task = NULL;
    }

    ngx_free(t);

    if (a) {
        ngx_oci_artifact_resume(a);
    }
}


/*
 * Has it to have a signature?  Not what an index that has one lists, nor what
 * had one before: nothing takes that away but other rules.  What a signature
 * names is not signed by that: anybody may have pushed it.
 */

static ngx_uint_t
ngx_oci_artifact_unsigned(ngx_oci_artifact_t *a)
{
    uint32_t                rules;
    ngx_uint_t              i;
    ngx_oci_judged_blob_t   blob;
    ngx_oci_judged_place_t  place;

    if (!(a->rules->rules & NGX_OCI_RULE_SIGNATURE) || a->verdict.signature
        || a->exempt || a->was_good)
    {
        return 0;
    }

    ngx_oci_artifact_place(a, &place);
    ngx_memcpy(&rules, a->rules->id, sizeof(uint32_t));

    if (ngx_oci_judged_blob(a->policy, &place, &blob) != NGX_OK) {
        return 1;
    }

    for (i = 0; i < blob.n; i++) {
        if ((blob.namers[i].good == NGX_OCI_NAMED_GOOD
             || blob.namers[i].good == NGX_OCI_NAMED_EXEMPT)
            && blob.namers[i].rules == rules)
        {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_oci_artifact_signed(ngx_oci_artifact_t *a)
{
    ngx_int_t   rc;
    ngx_uint_t  place;

    /* nobody has to look for a signature of what is refused anyway */

    if ((a->verdict.broken & ~(ngx_uint_t) a->rules->dry_run)
        || !ngx_oci_artifact_unsigned(a))
    {
        return NGX_OK;
    }

    rc = ngx_oci_artifact_signature(a);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    place = ngx_oci_rules_place(NGX_OCI_RULE_SIGNATURE);

    a->verdict.broken |= NGX_OCI_RULE_SIGNATURE;
    (void) snprintf(a->verdict.why[place], NGX_OCI_RULES_WHY, "%.200s",
                    a->why ? a->why : "it is not signed");

    return NGX_OK;
}


static ngx_int_t
ngx_oci_artifact_done(ngx_oci_artifact_t *a)
{
    ngx_uint_t                 rule, broken;
    const char                *why;
    ngx_oci_judged_place_t     place;
    ngx_oci_judged_verdict_t   v;

    ngx_memzero(&v, sizeof(ngx_oci_judged_verdict_t));

    if (a->exempt) {
        a->verdict.broken = 0;
    }

    broken = a->verdict.broken & ~(ngx_uint_t) a->rules->dry_run;
    v.found = broken ? NGX_OCI_JUDGED_BAD
                     : a->verdict.broken ? NGX_OCI_JUDGED_DRY
                                         : NGX_OCI_JUDGED_GOOD;

    broken = broken ? broken : a->verdict.broken;
    v.valid = NGX_OCI_ARTIFACT_VALID;

    for (rule = 1; rule < broken && !(broken & rule); rule <<= 1) {
        /* void */
    }

    v.rule = broken ? rule : 0;

    if (a->verdict.broken & NGX_OCI_RULE_SIGNATURE) {

        /* one may come any time */

        v.valid = ngx_max(a->valid, 1);
    }

    why = broken ? a->verdict.why[ngx_oci_rules_place(rule)] : "";
    (void) snprintf(v.why, sizeof(v.why), "%.200s", why);

    ngx_oci_artifact_place(a, &place);

    ngx_oci_judged_names(a->policy, &place, a->verdict.named,
                         a->verdict.nnamed,
                         (v.found == NGX_OCI_JUDGED_BAD) ? NGX_OCI_NAMED_BAD
                         : a->exempt ? NGX_OCI_NAMED_EXEMPT
                         : a->verdict.signature ? NGX_OCI_NAMED_SIGNATURE
                                                : NGX_OCI_NAMED_GOOD);
    ngx_oci_judged_put(a->policy, &place, &v);

    if (v.found == NGX_OCI_JUDGED_BAD) {
        return ngx_oci_artifact_refuse(a, v.rule, v.why);
    }

    if (v.found == NGX_OCI_JUDGED_DRY) {
        ngx_oci_artifact_dry(a, v.rule, v.why);
    }

    return NGX_OK;
}
