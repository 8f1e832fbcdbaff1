
/*
 * Copyright (C) The nginx-oci authors
 *
 * How large a body may be that somebody sends to a hook.  nginx's own
 * client_max_body_size would answer before it is known who asks.
 */


#include "ngx_oci_hooks.h"


static ngx_int_t ngx_oci_hook_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);


static ngx_http_request_body_filter_pt  ngx_http_next_request_body_filter;


void
ngx_oci_hook_body_init(void)
{
    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_oci_hook_body_filter;
}


/* of a chunked body, and of one without a length in HTTP/2, what came so far
   counts: the first of both, or the other */

static ngx_int_t
ngx_oci_hook_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_oci_hooks_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_hooks_module);

    if (hlcf->hook
        && ngx_max(r->headers_in.content_length_n, r->request_body->received)
           > (off_t) hlcf->hook->max)
    {
        r->lingering_close = 1;
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    return ngx_http_next_request_body_filter(r, in);
}
