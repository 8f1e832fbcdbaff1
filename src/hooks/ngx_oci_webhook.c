
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
#define NGX_OCI_WEBHOOK_TURN   64   /* names, then others have their turn */
#define NGX_OCI_WEBHOOK_PAUSE  1    /* ms */


typedef struct {
    ngx_str_t             repository;
    ngx_str_t             reference;
    ngx_uint_t            pushed;
} ngx_oci_webhook_name_t;


/* Owner: the request's pool, whose cleanup takes the timer away */

typedef struct {
    ngx_http_request_t   *request;
    ngx_oci_hook_conf_t  *conf;
    ngx_oci_main_conf_t  *omcf;
    ngx_array_t           names;    /* of ngx_oci_webhook_name_t */
    ngx_uint_t            next;     /* of them */
    ngx_int_t             rc;       /* of the job */
    ngx_uint_t            warmed;
    ngx_uint_t            n;        /* names of the same repository */
    ngx_event_t           event;    /* the next turn */
    ngx_connection_t      dummy;
} ngx_oci_webhook_ctx_t;


static ngx_int_t ngx_oci_webhook_name(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed);
static ngx_int_t ngx_oci_webhook_copy(ngx_oci_webhook_ctx_t *ctx,
    ngx_str_t *dst, ngx_str_t *last, const char *text);
static ngx_int_t ngx_oci_webhook_turn(ngx_oci_webhook_ctx_t *ctx);
static void ngx_oci_webhook_changed(ngx_oci_webhook_ctx_t *ctx,
    ngx_uint_t i);
static ngx_int_t ngx_oci_webhook_answer(ngx_oci_webhook_ctx_t *ctx);
static void ngx_oci_webhook_event(ngx_event_t *ev);
static void ngx_oci_webhook_cleanup(void *data);
static ngx_int_t ngx_oci_webhook_warm(ngx_oci_webhook_ctx_t *ctx,
    ngx_str_t *repository, ngx_str_t *reference);


ngx_int_t
ngx_oci_webhook(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text)
{
    ngx_int_t               rc;
    ngx_http_cleanup_t     *cln;
    ngx_oci_webhook_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_webhook_ctx_t));

    if (ctx == NULL
        || ngx_array_init(&ctx->names, r->pool, 4,
                          sizeof(ngx_oci_webhook_name_t))
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->conf = conf;
    ctx->omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    rc = ngx_oci_event((char *) text->data, text->len, ngx_oci_webhook_name,
                       ctx);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, 422, "the body is no event");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_oci_webhook_turn(ctx) == NGX_OK) {
        return ngx_oci_webhook_answer(ctx);
    }

    /* the others wait: clients have their turn between */

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_oci_webhook_cleanup;
    cln->data = ctx;

    ctx->dummy.fd = (ngx_socket_t) -1;
    ctx->dummy.data = ctx;

    ctx->event.handler = ngx_oci_webhook_event;
    ctx->event.data = &ctx->dummy;
    ctx->event.log = ngx_cycle->log;

    r->main->count++;

    ngx_add_timer(&ctx->event, NGX_OCI_WEBHOOK_PAUSE);

    return NGX_DONE;
}


/* names are the registry's own */

static ngx_int_t
ngx_oci_webhook_name(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed)
{
    ngx_oci_webhook_ctx_t *ctx = data;

    ngx_oci_webhook_name_t  *name;

    name = ngx_array_push(&ctx->names);
    if (name == NULL) {
        return NGX_ERROR;
    }

    name->pushed = pushed;

    if (ngx_oci_webhook_copy(ctx, &name->repository,
                             ctx->names.nelts > 1 ? &name[-1].repository
                                                  : NULL,
                             repository)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_webhook_copy(ctx, &name->reference, NULL, reference);
}


/* most have the repository of the last one */

static ngx_int_t
ngx_oci_webhook_copy(ngx_oci_webhook_ctx_t *ctx, ngx_str_t *dst,
    ngx_str_t *last, const char *text)
{
    dst->len = ngx_strlen(text);

    if (last && last->len == dst->len
        && ngx_memcmp(last->data, text, dst->len) == 0)
    {
        dst->data = last->data;
        return NGX_OK;
    }

    dst->data = ngx_pnalloc(ctx->request->pool, dst->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, text, dst->len);

    return NGX_OK;
}


/* NGX_OK: all is done; NGX_AGAIN */

static ngx_int_t
ngx_oci_webhook_turn(ngx_oci_webhook_ctx_t *ctx)
{
    ngx_uint_t               n;
    ngx_oci_webhook_name_t  *name;

    name = ctx->names.elts;

    for (n = 0; ctx->next < ctx->names.nelts; ctx->next++) {

        if (n++ == NGX_OCI_WEBHOOK_TURN) {
            return NGX_AGAIN;
        }

        ngx_oci_webhook_changed(ctx, ctx->next);

        if (name[ctx->next].pushed && ctx->conf->warm && !ctx->warmed) {
            ctx->warmed = 1;
            ctx->rc = ngx_oci_webhook_warm(ctx, &name[ctx->next].repository,
                                           &name[ctx->next].reference);
        }
    }

    return NGX_OK;
}


static void
ngx_oci_webhook_changed(ngx_oci_webhook_ctx_t *ctx, ngx_uint_t i)
{
    ngx_oci_ctx_t            octx;
    ngx_oci_webhook_name_t  *name;

    name = ctx->names.elts;
    name += i;

    if (i == 0 || name->repository.data != name[-1].repository.data) {
        ctx->n = 0;
    }

    /* each costs a task for the disk; all of the repository, just one */

    if (ctx->n == NGX_OCI_WEBHOOK_NAMES) {
        return;
    }

    ngx_memzero(&octx, sizeof(ngx_oci_ctx_t));

    octx.registry = ctx->conf->registry;
    octx.repository = name->repository;
    octx.route.reference = name->reference;
    octx.route.route = NGX_OCI_ROUTE_MANIFEST;

    if (++ctx->n == NGX_OCI_WEBHOOK_NAMES) {
        octx.route.reference.len = 0;
    }

    ctx->omcf->changed(ctx->request, &octx);
}


static ngx_int_t
ngx_oci_webhook_answer(ngx_oci_webhook_ctx_t *ctx)
{
    /* Harbor tries again later */

    if (ctx->rc == NGX_BUSY) {
        return ngx_oci_hook_message(ctx->request,
                                    NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many jobs");
    }

    if (ctx->rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_hook_send(ctx->request, NGX_HTTP_OK, "{}");
}


static void
ngx_oci_webhook_event(ngx_event_t *ev)
{
    ngx_connection_t       *c;
    ngx_http_request_t     *r;
    ngx_oci_webhook_ctx_t  *ctx;

    c = ev->data;
    ctx = c->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ngx_oci_webhook_turn(ctx) != NGX_OK) {
        ngx_add_timer(ev, NGX_OCI_WEBHOOK_PAUSE);
        return;
    }

    ngx_http_finalize_request(r, ngx_oci_webhook_answer(ctx));
    ngx_http_run_posted_requests(c);
}


static void
ngx_oci_webhook_cleanup(void *data)
{
    ngx_oci_webhook_ctx_t *ctx = data;

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }
}


static ngx_int_t
ngx_oci_webhook_warm(ngx_oci_webhook_ctx_t *ctx, ngx_str_t *repository,
    ngx_str_t *reference)
{
    uint64_t           id;
    ngx_int_t          rc;
    ngx_oci_job_ask_t  ask;

    ngx_memzero(&ask, sizeof(ngx_oci_job_ask_t));

    ask.repository = *repository;
    ask.reference = *reference;

    rc = ngx_oci_preheat_unmap(ctx->conf->registry, ctx->request->pool,
                               &ask.repository);

    if (rc == NGX_DECLINED) {

        /* nobody can pull it here */

        return NGX_OK;
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_job_add(ctx->conf, &ask, &id);
    }

    if (rc == NGX_OK) {
        ngx_oci_job_run_soon();
    }

    return rc;
}
