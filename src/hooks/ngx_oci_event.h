
/*
 * Copyright (C) The nginx-oci authors
 *
 * Harbor's webhooks: what an event names.  Pure: needs libc and jansson only.
 */


#ifndef _NGX_OCI_EVENT_H_INCLUDED_
#define _NGX_OCI_EVENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_oci_route.h"


#define NGX_OCI_EVENT_NAMES  4096   /* of one event, at most */


/*
 * Calls name() for each repository and tag or digest that an event of
 * Harbor's names, in its default format or as a CloudEvent; all of the
 * grammar.  pushed: it was pushed just now, else it may have changed or gone.
 *
 * NGX_OK; NGX_DECLINED: it is no event; or what name() returned, which was not
 * NGX_OK.
 */
ngx_int_t ngx_oci_event(const char *text, size_t len,
    ngx_int_t (*name)(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed), void *data);


#endif /* _NGX_OCI_EVENT_H_INCLUDED_ */
