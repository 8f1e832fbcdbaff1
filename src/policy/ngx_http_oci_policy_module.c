
/*
 * Copyright (C) The nginx-oci authors
 *
 * Directives of the policy module, its variables, and what happens when
 * processes begin.
 */


#include "ngx_oci_policy.h"
#include "ngx_oci_audit.h"
#include "ngx_oci_artifact.h"
#include "ngx_oci_signed.h"
#include <ngx_thread_pool.h>


typedef enum {
    NGX_OCI_POLICY_VAR_SUBJECT = 0,
    NGX_OCI_POLICY_VAR_DECISION,
    NGX_OCI_POLICY_VAR_SOURCE,
    NGX_OCI_POLICY_VAR_RULE
} ngx_oci_policy_var_e;


static ngx_int_t ngx_oci_policy_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_oci_policy_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_oci_policy_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_oci_policy_check(ngx_conf_t *cf,
    ngx_oci_policy_main_conf_t *pmcf);
static ngx_int_t ngx_oci_policy_directories(ngx_cycle_t *cycle,
    ngx_oci_policy_main_conf_t *pmcf);
static void *ngx_oci_policy_create_main_conf(ngx_conf_t *cf);
static ngx_int_t ngx_oci_policy_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_oci_policy_init_process(ngx_cycle_t *cycle);
static void ngx_oci_policy_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_oci_policy_module_commands[] = {

    { ngx_string("oci_policy"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_oci_policy_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_audit_log"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF
                        |NGX_CONF_TAKE1234,
      ngx_oci_audit_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_oci_policy_module_ctx = {
    ngx_oci_policy_preconfiguration,       /* preconfiguration */
    ngx_oci_policy_postconfiguration,      /* postconfiguration */

    ngx_oci_policy_create_main_conf,       /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_oci_audit_create_loc_conf,         /* create location configuration */
    ngx_oci_audit_merge_loc_conf           /* merge location configuration */
};


ngx_module_t  ngx_http_oci_policy_module = {
    NGX_MODULE_V1,
    &ngx_http_oci_policy_module_ctx,       /* module context */
    ngx_oci_policy_module_commands,        /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_oci_policy_init_module,            /* init module */
    ngx_oci_policy_init_process,           /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_oci_policy_exit_process,           /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_oci_policy_vars[] = {

    { ngx_string("oci_subject"), NULL, ngx_oci_policy_variable,
      NGX_OCI_POLICY_VAR_SUBJECT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_decision"), NULL, ngx_oci_policy_variable,
      NGX_OCI_POLICY_VAR_DECISION, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_decision_source"), NULL, ngx_oci_policy_variable,
      NGX_OCI_POLICY_VAR_SOURCE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_policy_rule"), NULL, ngx_oci_policy_variable,
      NGX_OCI_POLICY_VAR_RULE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_int_t
ngx_oci_policy_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t              text;
    ngx_oci_policy_ctx_t  *ctx;

    ngx_str_null(&text);

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_oci_policy_module);

    if (ctx) {
        switch (data) {

        case NGX_OCI_POLICY_VAR_SUBJECT:
            text = ctx->subject;
            break;

        case NGX_OCI_POLICY_VAR_DECISION:
            if (ctx->decision) {
                text.data = (u_char *) ctx->decision;
                text.len = ngx_strlen(ctx->decision);
            }

            break;

        case NGX_OCI_POLICY_VAR_SOURCE:
            if (ctx->decision && ctx->by_token) {
                ngx_str_set(&text, "token");

            } else if (ctx->decision) {
                text = ctx->source;
            }

            break;

        case NGX_OCI_POLICY_VAR_RULE:
            text = ctx->rule;
            break;
        }
    }

    if (text.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = text.data;
    v->len = text.len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* before any directive reaches into the core's structures */

static ngx_int_t
ngx_oci_policy_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    if (ngx_oci_core.abi != NGX_OCI_ABI
        || ngx_strcmp(ngx_oci_core.build, NGX_OCI_BUILD) != 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "ngx_http_oci_policy_module.so and "
                      "ngx_http_oci_module.so are of different builds");
        return NGX_ERROR;
    }

    for (v = ngx_oci_policy_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/*
 * Handlers of the phase run from the last one to the first: this one comes
 * after nginx's own, so that who is denied by address costs no check.
 */

static ngx_int_t
ngx_oci_policy_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_array_t                 *a;
    ngx_http_handler_pt         *h;
    ngx_http_core_main_conf_t   *cmcf;
    ngx_oci_policy_main_conf_t  *pmcf;

    pmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_policy_module);

    if (ngx_oci_audit_install(cf, pmcf->audit) != NGX_OK) {
        return NGX_ERROR;
    }

    if (pmcf->policies.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_oci_policy_check(cf, pmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    a = &cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers;

    if (ngx_array_push(a) == NULL) {
        return NGX_ERROR;
    }

    h = a->elts;

    for (i = a->nelts - 1; i; i--) {
        h[i] = h[i - 1];
    }

    h[0] = ngx_oci_policy_handler;

    return NGX_OK;
}


/* what could not be told before the configuration's end */

static ngx_int_t
ngx_oci_policy_check(ngx_conf_t *cf, ngx_oci_policy_main_conf_t *pmcf)
{
    ngx_uint_t               i;
    ngx_oci_policy_conf_t  **p;

    p = pmcf->policies.elts;

    for (i = 0; i < pmcf->policies.nelts; i++) {
        if (ngx_oci_policy_redis_check(cf, p, i) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void *
ngx_oci_policy_create_main_conf(ngx_conf_t *cf)
{
    ngx_oci_policy_main_conf_t  *pmcf;

    pmcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_policy_main_conf_t));
    if (pmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&pmcf->policies, cf->pool, 2,
                       sizeof(ngx_oci_policy_conf_t *))
        != NGX_OK
        || ngx_oci_audit_create(cf, pmcf) != NGX_OK)
    {
        return NULL;
    }

    return pmcf;
}


static ngx_int_t
ngx_oci_policy_init_module(ngx_cycle_t *cycle)
{
    ngx_oci_policy_main_conf_t  *pmcf;

    pmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_oci_policy_module);

    if (pmcf == NULL || pmcf->policies.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_oci_policy_directories(cycle, pmcf) != NGX_OK) {
        return NGX_ERROR;
    }

#if (NGX_HTTP_SSL)

    if (ngx_oci_certificate_init_module(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

#endif

    return ngx_oci_identity_init_module(cycle);
}


static ngx_int_t
ngx_oci_policy_directories(ngx_cycle_t *cycle,
    ngx_oci_policy_main_conf_t *pmcf)
{
    ngx_uint_t               i;
    ngx_oci_policy_conf_t  **p;

    p = pmcf->policies.elts;

    for (i = 0; i < pmcf->policies.nelts; i++) {
        if (ngx_oci_policy_redis_directory(p[i], cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_policy_init_process(ngx_cycle_t *cycle)
{
    ngx_str_t                     name;
    ngx_uint_t                    i;
    ngx_oci_policy_conf_t       **p;
    ngx_oci_policy_main_conf_t   *pmcf;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    pmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_oci_policy_module);

    if (pmcf && ngx_oci_audit_init_process(cycle, pmcf->audit) != NGX_OK) {
        return NGX_ERROR;
    }

    if (pmcf == NULL || pmcf->policies.nelts == 0) {
        return NGX_OK;
    }

    ngx_oci_identity_init_process(cycle);
    ngx_oci_artifact_init_process(cycle);
    ngx_oci_signed_init_process(cycle);

    p = pmcf->policies.elts;

    for (i = 0; i < pmcf->policies.nelts; i++) {
        if (ngx_oci_recheck_init(p[i], cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    /* a worker that died has a successor of the same number */

    if (ngx_worker != 0) {
        return NGX_OK;
    }

    ngx_str_set(&name, "default");

    for (i = 0; i < pmcf->policies.nelts; i++) {
        p[i]->threads = ngx_thread_pool_get(cycle, &name);

        if (ngx_oci_policy_redis_used(p[i])
            ? ngx_oci_policy_follow(p[i], cycle) != NGX_OK
            : ngx_oci_policy_watch(p[i], cycle) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_oci_policy_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_oci_policy_conf_t       **p;
    ngx_oci_policy_main_conf_t   *pmcf;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    pmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_oci_policy_module);

    if (pmcf) {
        ngx_oci_audit_exit_process(pmcf->audit);

        p = pmcf->policies.elts;

        for (i = 0; i < pmcf->policies.nelts; i++) {
            ngx_oci_policy_unfollow(p[i]);
        }
    }

    ngx_oci_bearer_forget();
}
