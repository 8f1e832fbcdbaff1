
/*
 * Copyright (C) The nginx-oci authors
 *
 * "oci_token policy=name": a location where a policy issues tokens of the
 * edge's own.
 */


#include "ngx_oci_core.h"


#define NGX_OCI_TOKEN_BODY  16384       /* bytes of a form */


static ngx_int_t ngx_oci_token_policy_handler(ngx_http_request_t *r);


char *
ngx_oci_token_policy(ngx_conf_t *cf, ngx_oci_loc_conf_t *olcf,
    ngx_str_t *name)
{
    ngx_oci_token_t           *token;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    token = ngx_pcalloc(cf->pool, sizeof(ngx_oci_token_t));
    if (token == NULL) {
        return NGX_CONF_ERROR;
    }

    token->policy_name = *name;
    token->name = clcf->name;

    olcf->file = cf->conf_file->file.name.data;
    olcf->line = cf->conf_file->line;
    olcf->token = token;

    clcf->handler = ngx_oci_token_policy_handler;
    clcf->auto_redirect = 0;

    return ngx_oci_realm_list(cf, token, clcf);
}


/*
 * The policy may stand behind the location.  oci_access of a server is not
 * for this location, which decides by itself.
 */

ngx_int_t
ngx_oci_token_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *olcf)
{
    ngx_oci_token_t           *token;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" keeps the handler of the location around it */

    if (olcf->token == NULL && clcf->noname) {
        olcf->token = prev->token;
        olcf->file = prev->file;
        olcf->line = prev->line;
    }

    token = olcf->token;

    if (token == NULL || token->registry) {
        return NGX_OK;
    }

    if (olcf->access != NGX_CONF_UNSET_UINT
        && olcf->access != NGX_OCI_ACCESS_OFF)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_access\" is not for a location with "
                      "\"oci_token\" in %s:%ui", olcf->file, olcf->line);
        return NGX_ERROR;
    }

    olcf->access = NGX_OCI_ACCESS_OFF;

    token->policy = ngx_oci_access_find(cf, &token->policy_name);

    if (token->policy == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown oci_policy \"%V\" in %s:%ui",
                      &token->policy_name, olcf->file, olcf->line);
        return NGX_ERROR;
    }

    if (token->policy->token == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "oci_policy \"%V\" has no \"signing_key\" for "
                      "\"oci_token\" in %s:%ui",
                      &token->policy_name, olcf->file, olcf->line);
        return NGX_ERROR;
    }

    /* a form has secrets: it is in memory only, whatever is inherited */

    clcf->client_body_in_file_only = 0;
    clcf->client_body_buffer_size = ngx_max(clcf->client_body_buffer_size,
                                            NGX_OCI_TOKEN_BODY);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_token_policy_handler(ngx_http_request_t *r)
{
    ngx_oci_loc_conf_t  *olcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST))) {
        return ngx_oci_token_not_allowed(r);
    }

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    return olcf->token->policy->token(r, olcf->token->policy);
}
