
/*
 * Copyright (C) The nginx-oci authors
 *
 * What an upload mounts has to be what may be pulled.
 */


#include "ngx_oci_policy.h"


static ngx_uint_t ngx_oci_policy_form(ngx_http_request_t *r);
static ngx_int_t ngx_oci_policy_mounts(ngx_str_t *args, ngx_str_t *from,
    ngx_uint_t *nowhere);
static ngx_uint_t ngx_oci_policy_may_mount(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *from);


/* a push may be a mount */

void
ngx_oci_policy_upload(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict)
{
    u_char      name[NGX_OCI_NAME_MAX];
    ngx_str_t   from;
    ngx_uint_t  nowhere;

    from.data = name;
    from.len = 0;

    if (ngx_oci_policy_form(r)) {
        verdict->reason = "a form may name what is mounted";

    } else if (ngx_oci_policy_mounts(&octx->route.args, &from, &nowhere)
               != NGX_OK)
    {
        verdict->reason = "no right to mount from there";

    } else if (from.len && ngx_oci_bearer_store(pcf, caller)
               && !ngx_oci_policy_may_mount(doc, subject, &from))
    {
        verdict->reason = "no right to mount from there";

    } else if (from.len
               && ngx_oci_bearer_lacks(pcf, caller, &from, NGX_OCI_PULL))
    {
        ngx_oci_bearer_insufficient(verdict);
        return;

    } else {

        /*
         * Without "from" a registry may mount from wherever the edge's own
         * credentials reach.  The client gets an upload instead, as from a
         * registry that doesn't have the blob.
         */

        octx->bare = (nowhere && r->method == NGX_HTTP_POST);
        return;
    }

    verdict->status = NGX_HTTP_FORBIDDEN;
    verdict->code = NGX_OCI_ERR_DENIED;
}


/*
 * Registries, as distribution does, take a form in the body for arguments,
 * and before those of the URI.
 */

static ngx_uint_t
ngx_oci_policy_form(ngx_http_request_t *r)
{
    ngx_table_elt_t      *h;
    ngx_oci_header_at_t   at;

    if (r->method != NGX_HTTP_POST || r->headers_in.content_length_n == 0
        || (r->headers_in.content_length_n < 0 && !r->headers_in.chunked
            && r->http_version < NGX_HTTP_VERSION_20))
    {
        return 0;
    }

    ngx_memzero(&at, sizeof(ngx_oci_header_at_t));

    for ( ;; ) {
        h = ngx_oci_header_find(&r->headers_in.headers, &at, "Content-Type");

        if (h == NULL) {
            return 0;
        }

        /* "application/x-www-form-urlencoded", "multipart/form-data" */

        if (ngx_strlcasestrn(h->value.data, h->value.data + h->value.len,
                             (u_char *) "form-", sizeof("form-") - 2)
            != NULL)
        {
            return 1;
        }
    }
}


/*
 * A blob is mounted from another repository, which has to be one that may be
 * pulled from.  The registry reads the arguments in its own way: there may be
 * one "from" only, in the way that all read alike.  from: its name, or empty;
 * nowhere: there is a "mount", and no "from".
 */

static ngx_int_t
ngx_oci_policy_mounts(ngx_str_t *args, ngx_str_t *from, ngx_uint_t *nowhere)
{
    size_t       len;
    u_char      *p, *last, *end, *eq, buf[NGX_OCI_NAME_MAX];
    ngx_uint_t   seen, mount;

    seen = 0;
    mount = 0;
    last = args->data + args->len;

    for (p = args->data; p < last; p = end + 1) {

        for (end = p; end < last && *end != '&' && *end != ';'; end++) {
            /* void */
        }

        for (eq = p; eq < end && *eq != '='; eq++) { /* void */ }

        if (ngx_oci_policy_unescape(buf, &len, p, eq) != NGX_OK) {
            continue;
        }

        if (len == 5 && ngx_strncasecmp(buf, (u_char *) "mount", 5) == 0) {
            mount = 1;
        }

        if (len != 4 || ngx_strncasecmp(buf, (u_char *) "from", 4) != 0) {
            continue;
        }

        if (seen++ || eq == end || ngx_memcmp(p, "from", 4) != 0
            || (p > args->data && p[-1] == ';')
            || (end < last && *end == ';')
            || ngx_oci_policy_unescape(from->data, &from->len, eq + 1, end)
               != NGX_OK
            || ngx_oci_name_valid(from->data, from->len) != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    *nowhere = (mount && !seen);

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_policy_may_mount(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *from)
{
    ngx_oci_rbac_rule_t  *rule;

    (void) ngx_oci_rbac_rights(doc, subject, from, NGX_OCI_PULL, &rule);

    return rule != NULL;
}


ngx_int_t
ngx_oci_policy_unescape(u_char *dst, size_t *len, u_char *p, u_char *last)
{
    ngx_int_t  ch;

    *len = 0;

    while (p < last) {

        if (*len == NGX_OCI_NAME_MAX) {
            return NGX_ERROR;
        }

        ch = *p++;

        if (ch == '%') {

            if (last - p < 2) {
                return NGX_ERROR;
            }

            ch = ngx_hextoi(p, 2);

            if (ch == NGX_ERROR) {
                return NGX_ERROR;
            }

            p += 2;
        }

        dst[(*len)++] = (u_char) ch;
    }

    return NGX_OK;
}
