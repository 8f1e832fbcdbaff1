
/*
 * Copyright (C) The nginx-oci authors
 *
 * Locations that are not for the registry's API, but for something that a
 * policy has a right for: the status, preheating, purging.
 */


#include "ngx_oci_core.h"


static ngx_int_t ngx_oci_duty_handler(ngx_http_request_t *r);


void
ngx_oci_duty_set(ngx_conf_t *cf, const ngx_oci_duty_t *duty)
{
    ngx_oci_loc_conf_t        *olcf;
    ngx_http_core_loc_conf_t  *clcf;

    olcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_oci_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    olcf->duty = duty;
    clcf->handler = ngx_oci_duty_handler;
}


static ngx_int_t
ngx_oci_duty_handler(ngx_http_request_t *r)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    if (ngx_oci_access_undecided(r)) {
        return ngx_oci_error(r, NGX_HTTP_FORBIDDEN, NGX_OCI_ERR_DENIED, NULL);
    }

    return olcf->duty->handler(r);
}


/* "if" and "limit_except" in such a location are still that location */

void
ngx_oci_duty_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && conf->duty == NULL && prev->duty) {
        conf->duty = prev->duty;
        conf->prometheus = prev->prometheus;

        if (clcf->handler == NULL) {
            clcf->handler = ngx_oci_duty_handler;
        }
    }
}


const ngx_oci_duty_t *
ngx_oci_duty(ngx_http_request_t *r)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    return olcf->duty;
}


ngx_uint_t
ngx_oci_duty_decided(ngx_conf_t *cf)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_oci_module);

    return olcf->policy && !olcf->dry_run;
}


ngx_int_t
ngx_oci_duty_may(ngx_http_request_t *r, ngx_str_t *repository,
    ngx_uint_t quiet)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    if (olcf->policy == NULL || olcf->dry_run) {
        return NGX_DECLINED;
    }

    return olcf->policy->may(r, olcf->policy, repository, quiet);
}
