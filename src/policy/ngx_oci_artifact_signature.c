
/*
 * Copyright (C) The nginx-oci authors
 *
 * Signatures of manifests, by the keys that a project's rules name.
 */


#include "ngx_oci_artifact.h"
#include "ngx_oci_signed.h"


#define NGX_OCI_ARTIFACT_UNSIGNED  10   /* s: a signature may come shortly
                                           after what it signs */


/* Owner: the request's pool */

typedef struct {
    ngx_oci_artifact_t         *a;
    ngx_oci_signed_waiter_t     waiter;
    ngx_int_t                   rc;         /* NGX_AGAIN: not known yet */
} ngx_oci_artifact_asked_t;


static ngx_int_t ngx_oci_artifact_ask(ngx_oci_artifact_t *a);
static ngx_int_t ngx_oci_artifact_keys(ngx_oci_rules_t *rules,
    ngx_oci_signed_keys_t *keys);
static void ngx_oci_artifact_told(void *data, ngx_int_t rc, const char *why);
static void ngx_oci_artifact_why(ngx_oci_artifact_t *a, const char *why);
static void ngx_oci_artifact_leave(void *data);


ngx_int_t
ngx_oci_artifact_signature(ngx_oci_artifact_t *a)
{
    ngx_int_t                  rc;
    ngx_oci_artifact_asked_t  *asked;

    asked = a->signature;
    rc = asked ? asked->rc : ngx_oci_artifact_ask(a);

    if (rc == NGX_ERROR && (a->rules->dry_run & NGX_OCI_RULE_SIGNATURE)) {
        a->why = "whether it is signed can't be told now";
        a->valid = 1;
        return NGX_DECLINED;
    }

    return rc;
}


static ngx_int_t
ngx_oci_artifact_ask(ngx_oci_artifact_t *a)
{
    ngx_int_t                  rc;
    ngx_oci_judge_t           *j;
    ngx_http_cleanup_t        *cln;
    ngx_oci_main_conf_t       *omcf;
    ngx_oci_signed_ask_t       ask;
    ngx_oci_signed_keys_t      keys;
    ngx_oci_artifact_asked_t  *asked;

    j = a->judge;

    asked = ngx_pcalloc(j->request->pool, sizeof(ngx_oci_artifact_asked_t));
    cln = ngx_http_cleanup_add(j->request, 0);

    if (asked == NULL || cln == NULL
        || ngx_oci_artifact_keys(a->rules, &keys) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln->handler = ngx_oci_artifact_leave;
    cln->data = asked;

    asked->a = a;
    asked->rc = NGX_AGAIN;
    asked->waiter.handler = ngx_oci_artifact_told;
    asked->waiter.data = asked;

    omcf = ngx_http_get_module_main_conf(j->request, ngx_http_oci_module);

    ask.registry = j->ctx->registry;
    ask.place = omcf->beside ? omcf->beside_place(j->request) : NULL;
    ask.repository = j->ctx->repository;
    ask.authorization = j->ctx->authorization;
    ask.digest = j->digest;
    ask.keys = &keys;

    rc = ngx_oci_signed(&ask, &asked->waiter);

    if (rc == NGX_AGAIN) {
        a->signature = asked;
        return NGX_AGAIN;
    }

    if (rc == NGX_BUSY) {
        ngx_log_error(NGX_LOG_WARN, j->request->connection->log, 0,
                      "oci_policy \"%V\": signatures of too many manifests "
                      "are looked for at once", &a->policy->policy.name);
    }

    return NGX_ERROR;
}


/* they stay in the rules */

static ngx_int_t
ngx_oci_artifact_keys(ngx_oci_rules_t *rules, ngx_oci_signed_keys_t *keys)
{
    for (keys->n = 0; keys->n < NGX_OCI_SIGNATURE_KEYS; keys->n++) {

        if (ngx_oci_rules_element(rules, &rules->keys, keys->n,
                                  &keys->der[keys->n])
            != NGX_OK)
        {
            break;
        }
    }

    return (keys->n == rules->keys.n) ? NGX_OK : NGX_ERROR;
}


/* from the event loop; may end the request */

static void
ngx_oci_artifact_told(void *data, ngx_int_t rc, const char *why)
{
    ngx_oci_artifact_asked_t *asked = data;

    ngx_oci_artifact_t  *a;

    a = asked->a;
    asked->rc = rc;

    if (rc == NGX_DECLINED) {
        a->valid = NGX_OCI_ARTIFACT_UNSIGNED;
        ngx_oci_artifact_why(a, why);
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_WARN, a->judge->request->connection->log, 0,
                      "oci_policy \"%V\": whether \"%V\" of \"%V\" is signed "
                      "can't be told: %s", &a->policy->policy.name,
                      &a->judge->ctx->route.reference,
                      &a->judge->ctx->route.repository, why);
    }

    ngx_oci_artifact_resume(a);
}


static void
ngx_oci_artifact_why(ngx_oci_artifact_t *a, const char *why)
{
    u_char  *p;
    size_t   len;

    a->why = "it is not signed";

    if (why == NULL) {
        return;
    }

    len = ngx_strlen(why);

    p = ngx_pnalloc(a->judge->request->pool,
                    sizeof("its signature does not count: ") + len);
    if (p == NULL) {
        return;
    }

    a->why = (char *) p;

    p = ngx_cpymem(p, "its signature does not count: ",
                   sizeof("its signature does not count: ") - 1);
    ngx_memcpy(p, why, len + 1);
}


/* the request ends while it waits */

static void
ngx_oci_artifact_leave(void *data)
{
    ngx_oci_artifact_asked_t *asked = data;

    ngx_oci_signed_leave(&asked->waiter);
}
