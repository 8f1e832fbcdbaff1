
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_access: whether a location asks a policy, and what else has to be so
 * that it can't be passed by.
 */


#include "ngx_oci_core.h"


char *
ngx_oci_access_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_loc_conf_t *olcf = conf;

    ngx_str_t  *value;

    if (olcf->access != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    olcf->access_file = cf->conf_file->file.name.data;
    olcf->access_line = cf->conf_file->line;

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[1].data, "dry_run") != 0) {
            return "has an invalid number of arguments";
        }

        olcf->access = NGX_OCI_ACCESS_NAME;
        olcf->access_name = value[2];
        olcf->dry_run = 1;

    } else if (ngx_strcmp(value[1].data, "dry_run") == 0) {
        return "needs the name of an oci_policy with \"dry_run\"";

    } else if (ngx_strcmp(value[1].data, "off") == 0) {
        olcf->access = NGX_OCI_ACCESS_OFF;

    } else if (ngx_strcmp(value[1].data, "open") == 0) {
        olcf->access = NGX_OCI_ACCESS_OPEN;

    } else {
        olcf->access = NGX_OCI_ACCESS_NAME;
        olcf->access_name = value[1];
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_oci_access_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *conf)
{
    const char                *why;
    ngx_http_core_loc_conf_t  *clcf;

    if (conf->access == NGX_CONF_UNSET_UINT) {
        conf->access = prev->access;
        conf->access_name = prev->access_name;
        conf->dry_run = prev->dry_run;
        conf->access_file = prev->access_file;
        conf->access_line = prev->access_line;
    }

    if (conf->access == NGX_CONF_UNSET_UINT) {
        conf->access = NGX_OCI_ACCESS_OFF;
    }

    if (conf->access != NGX_OCI_ACCESS_NAME) {
        return NGX_OK;
    }

    conf->policy = ngx_oci_access_find(cf, &conf->access_name);

    if (conf->policy == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown oci_policy \"%V\" in %s:%ui",
                      &conf->access_name, conf->access_file,
                      conf->access_line);
        return NGX_ERROR;
    }

    /* the core module was merged before this one */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->satisfy == NGX_HTTP_SATISFY_ANY) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"satisfy any\" would let others past \"oci_access "
                      "%V\" in %s:%ui",
                      &conf->access_name, conf->access_file,
                      conf->access_line);
        return NGX_ERROR;
    }

    why = (conf->passes && conf->policy->check)
          ? conf->policy->check(cf, conf->policy) : NULL;

    if (why) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "oci_policy \"%V\" %s in the server of \"oci_pass\" "
                      "in %s:%ui", &conf->access_name, why, conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    if (conf->passes && conf->policy->mixed
        && !ngx_oci_realm_listed(cf, conf))
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "oci_policy \"%V\" has \"identity basic anonymous\", "
                      "by which docker could pull nothing without logging "
                      "in: \"oci_token policy=%V\" is required in the server "
                      "of \"oci_pass\", or \"realm\", in %s:%ui",
                      &conf->access_name, &conf->access_name, conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    if (conf->token) {

        /* it would get the secrets that the edge takes */

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_access %V\" is not for a location with "
                      "\"oci_token\" in %s:%ui",
                      &conf->access_name, conf->file, conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_oci_policy_t *
ngx_oci_access_find(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t             i;
    ngx_oci_policy_t     **policy;
    ngx_oci_main_conf_t   *omcf;

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    policy = omcf->policies.elts;

    for (i = 0; i < omcf->policies.nelts; i++) {

        if (policy[i]->name.len == name->len
            && ngx_memcmp(policy[i]->name.data, name->data, name->len) == 0)
        {
            return policy[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_oci_access_check(ngx_conf_t *cf, ngx_oci_loc_conf_t *conf,
    ngx_oci_registry_t *registry)
{
    if (conf->access == NGX_OCI_ACCESS_OFF) {

        if (registry->credentials != NGX_OCI_CREDENTIALS_STORED) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "oci_registry \"%V\" gives its own credentials to "
                      "every client: \"oci_access open\" is required "
                      "with \"oci_pass\", or one with an oci_policy, "
                      "in %s:%ui",
                      &registry->name, conf->file, conf->line);
        return NGX_ERROR;
    }

    if (conf->access != NGX_OCI_ACCESS_NAME) {
        return NGX_OK;
    }

    if (registry->credentials != NGX_OCI_CREDENTIALS_STORED) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_access %V\" passes no client's credentials on: "
                      "oci_registry \"%V\" needs \"credentials\" of its own "
                      "in %s:%ui",
                      &conf->access_name, &registry->name, conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    if (conf->policy->unmapped && registry->paths) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_access %V\" grants what tokens name: "
                      "oci_registry \"%V\" can't have \"path\" in %s:%ui",
                      &conf->access_name, &registry->name, conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_oci_policy_t *
ngx_oci_access_policy(ngx_http_request_t *r)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    return olcf->policy;
}


ngx_uint_t
ngx_oci_access_dry_run(ngx_http_request_t *r)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    return olcf->dry_run;
}


ngx_uint_t
ngx_oci_access_undecided(ngx_http_request_t *r)
{
    ngx_oci_ctx_t       *ctx;
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    if (olcf->policy == NULL || olcf->dry_run) {
        return 0;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    return ctx == NULL || ctx->allowed != olcf->policy;
}
