
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_webhook: what Harbor tells.  An event says nothing that is believed:
 * for what it names the registry is asked the next time, and what was pushed
 * is preheated.  So it doesn't matter how often it comes, when, in which
 * order, or who made it up.
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_event.h"


#define NGX_OCI_WEBHOOK_NAMES  32   /* of a repository, one after another */


typedef struct {
    ngx_http_request_t   *request;
    ngx_oci_hook_conf_t  *conf;
    ngx_oci_main_conf_t  *omcf;
    ngx_uint_t            warmed;
    ngx_uint_t            n;        /* names of that repository: */
    u_char                repository[NGX_OCI_NAME_MAX + 1];
} ngx_oci_webhook_ctx_t;


static ngx_int_t ngx_oci_webhook_name(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed);
static ngx_int_t ngx_oci_webhook_warm(ngx_oci_webhook_ctx_t *ctx,
    ngx_str_t *repository, ngx_str_t *reference);


ngx_int_t
ngx_oci_webhook(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text)
{
    ngx_int_t              rc;
    ngx_oci_webhook_ctx_t  ctx;

    ctx.request = r;
    ctx.conf = conf;
    ctx.omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);
    ctx.warmed = 0;
    ctx.n = 0;
    ctx.repository[0] = '\0';

    rc = ngx_oci_event((char *) text->data, text->len, ngx_oci_webhook_name,
                       &ctx);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, 422, "the body is no event");
    }

    /* Harbor tries again later */

    if (rc == NGX_BUSY) {
        return ngx_oci_hook_message(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many jobs");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_hook_send(r, NGX_HTTP_OK, "{}");
}


/* names are the registry's own */

static ngx_int_t
ngx_oci_webhook_name(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed)
{
    ngx_oci_webhook_ctx_t *ctx = data;

    ngx_oci_ctx_t  octx;

    ngx_memzero(&octx, sizeof(ngx_oci_ctx_t));

    octx.registry = ctx->conf->registry;
    octx.repository.data = (u_char *) repository;
    octx.repository.len = ngx_strlen(repository);
    octx.route.reference.data = (u_char *) reference;
    octx.route.reference.len = ngx_strlen(reference);
    octx.route.route = NGX_OCI_ROUTE_MANIFEST;

    if (ngx_strcmp(ctx->repository, repository) != 0) {
        (void) ngx_cpystrn(ctx->repository, (u_char *) repository,
                           sizeof(ctx->repository));
        ctx->n = 0;
    }

    /* each costs a task for the disk; all of the repository, just one */

    if (ctx->n < NGX_OCI_WEBHOOK_NAMES) {

        if (++ctx->n == NGX_OCI_WEBHOOK_NAMES) {
            octx.route.reference.len = 0;
        }

        ctx->omcf->changed(ctx->request, &octx);
    }

    octx.route.reference.len = ngx_strlen(reference);

    if (!pushed || !ctx->conf->warm || ctx->warmed) {
        return NGX_OK;
    }

    ctx->warmed = 1;

    return ngx_oci_webhook_warm(ctx, &octx.repository, &octx.route.reference);
}


static ngx_int_t
ngx_oci_webhook_warm(ngx_oci_webhook_ctx_t *ctx, ngx_str_t *repository,
    ngx_str_t *reference)
{
    uint64_t   id;
    ngx_int_t  rc;
    ngx_str_t  name, none;

    name = *repository;
    ngx_str_null(&none);

    rc = ngx_oci_preheat_unmap(ctx->conf->registry, ctx->request->pool,
                               &name);

    if (rc == NGX_DECLINED) {

        /* nobody can pull it here */

        return NGX_OK;
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_job_add(ctx->conf, &name, reference, &none, &id);
    }

    if (rc == NGX_OK) {
        ngx_oci_job_run_soon();
    }

    return rc;
}
