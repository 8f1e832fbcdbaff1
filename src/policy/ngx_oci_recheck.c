
/*
 * Copyright (C) The nginx-oci authors
 *
 * Transfers that were allowed are decided again while they run, by the
 * document that is in force by then: who lost a right is cut off.  Who it is
 * was shown when it began: a token, or a certificate, that expires meanwhile
 * cuts nothing.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_RECHECK_MIN     100         /* ms */
#define NGX_OCI_RECHECK_MAX     3600000
#define NGX_OCI_RECHECK_TURN    256         /* transfers of one event, */
#define NGX_OCI_RECHECK_TIME    1000        /* for so many us at most */


/* Owner: the request's pool; in the queue until the request's cleanup */

typedef struct {
    ngx_queue_t              queue;
    ngx_http_request_t      *request;
    ngx_oci_policy_ctx_t    *ctx;
    ngx_oci_caller_t         caller;
    ngx_uint_t               round;     /* it was decided in, or begun */
} ngx_oci_transfer_t;


/* Owner: the worker, for as long as it lives */

struct ngx_oci_recheck_s {
    ngx_queue_t              transfers; /* decided longest ago: first */
    ngx_uint_t               round;
    ngx_msec_t               interval;
    ngx_event_t              timer;
    ngx_connection_t         dummy;
    unsigned                 running:1; /* a round, with pauses */
};


static void ngx_oci_recheck_leave(void *data);
static void ngx_oci_recheck_timer(ngx_event_t *ev);
static uint64_t ngx_oci_recheck_now(void);
static void ngx_oci_recheck_transfer(ngx_oci_transfer_t *tr);
static void ngx_oci_recheck_cut(ngx_oci_transfer_t *tr, const char *reason);


char *
ngx_oci_recheck_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms < NGX_OCI_RECHECK_MIN
        || ms > NGX_OCI_RECHECK_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid recheck \"%V\", it must be a time from "
                           "100ms to 1h", value);
        return NGX_CONF_ERROR;
    }

    pcf->recheck_interval = (ngx_msec_t) ms;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_oci_recheck_init(ngx_oci_policy_conf_t *pcf, ngx_cycle_t *cycle)
{
    ngx_oci_recheck_t  *re;

    re = ngx_pcalloc(cycle->pool, sizeof(ngx_oci_recheck_t));
    if (re == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&re->transfers);

    re->interval = pcf->recheck_interval;

    re->dummy.fd = (ngx_socket_t) -1;
    re->dummy.data = re;

    re->timer.handler = ngx_oci_recheck_timer;
    re->timer.data = &re->dummy;
    re->timer.log = cycle->log;
    re->timer.cancelable = 1;

    pcf->recheck = re;

    return NGX_OK;
}


ngx_int_t
ngx_oci_recheck_add(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_caller_t *caller)
{
    ngx_oci_recheck_t   *re;
    ngx_oci_transfer_t  *tr;
    ngx_http_cleanup_t  *cln;

    re = ctx->policy->recheck;

    cln = ngx_http_cleanup_add(r, sizeof(ngx_oci_transfer_t));
    if (cln == NULL) {
        ngx_oci_jwt_free(&caller->jwt);
        return NGX_ERROR;
    }

    tr = cln->data;

    tr->request = r;
    tr->ctx = ctx;
    tr->caller = *caller;
    tr->caller.known = NULL;
    ctx->caller = &tr->caller;
    tr->round = re->round;

    cln->handler = ngx_oci_recheck_leave;

    ngx_queue_insert_tail(&re->transfers, &tr->queue);

    if (!re->running && !re->timer.timer_set) {
        ngx_add_timer(&re->timer, re->interval);
    }

    return NGX_OK;
}


static void
ngx_oci_recheck_leave(void *data)
{
    ngx_oci_transfer_t *tr = data;

    ngx_queue_remove(&tr->queue);
    ngx_oci_jwt_free(&tr->caller.jwt);
}


/*
 * A part of a round.  Whoever is decided goes to the end of the queue before
 * anything is done about it: that may end other requests, too.
 */

static void
ngx_oci_recheck_timer(ngx_event_t *ev)
{
    uint64_t             begin;
    ngx_uint_t           n;
    ngx_queue_t         *q;
    ngx_connection_t    *c;
    ngx_oci_recheck_t   *re;
    ngx_oci_transfer_t  *tr;

    c = ev->data;
    re = c->data;

    if (!re->running) {
        re->running = 1;
        re->round++;
    }

    begin = ngx_oci_recheck_now();

    for (n = 0; !ngx_queue_empty(&re->transfers); n++) {

        q = ngx_queue_head(&re->transfers);
        tr = ngx_queue_data(q, ngx_oci_transfer_t, queue);

        if (tr->round == re->round) {
            break;
        }

        /* others have their turn, too */

        if (n == NGX_OCI_RECHECK_TURN
            || ngx_oci_recheck_now() - begin >= NGX_OCI_RECHECK_TIME)
        {
            ngx_post_event(ev, &ngx_posted_next_events);
            return;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&re->transfers, q);
        tr->round = re->round;

        ngx_oci_recheck_transfer(tr);
    }

    re->running = 0;

    if (!ngx_queue_empty(&re->transfers)) {
        ngx_add_timer(ev, re->interval);
    }
}


/* us */

static uint64_t
ngx_oci_recheck_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


/*
 * All that ngx_oci_policy_decide() knows counts.  Where it can't say (there
 * is no document, or no memory) nothing is cut: nobody denied it.
 */

static void
ngx_oci_recheck_transfer(ngx_oci_transfer_t *tr)
{
    ngx_str_t              rule;
    ngx_oci_ctx_t         *octx;
    ngx_oci_verdict_t      verdict;
    ngx_http_request_t    *r;
    ngx_oci_policy_ctx_t  *ctx;

    r = tr->request;
    ctx = tr->ctx;

    /* it is something else by now, as with "error_page" or "post_action" */

    if (ngx_http_get_module_ctx(r, ngx_http_oci_policy_module) != ctx) {
        return;
    }

    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    /* done: all of it went out, and the rest of the request is read */

    if (octx == NULL || r->done) {
        return;
    }

    rule = ctx->rule;

    if (ngx_oci_policy_decide(r, ctx, octx, &tr->caller, &verdict) != NGX_OK
        || verdict.status == NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        ctx->rule = rule;
        return;
    }

    if (verdict.status) {
        ctx->rule = rule;
        ngx_oci_recheck_cut(tr, verdict.reason);
    }
}


/*
 * The response may be one that ends with the connection: only a reset, and no
 * "close notify" of TLS, tells that this is not its end.  It also takes back
 * what the kernel has not sent yet.  A stream of HTTP/2 is reset by nginx.
 */

static void
ngx_oci_recheck_cut(ngx_oci_transfer_t *tr, const char *reason)
{
    ngx_str_t             *subject;
    struct linger          linger;
    ngx_connection_t      *c;
    ngx_oci_ctx_t         *octx;
    ngx_http_request_t    *r;

    r = tr->request;
    c = r->connection;
    subject = &tr->caller.subject;
    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    ngx_http_set_log_request(c->log, r);

    ngx_log_error(NGX_LOG_WARN, c->log, 0,
                  "oci_policy \"%V\" cut off a transfer of \"%V\"%s%V%s "
                  "after %O bytes: %s",
                  &tr->ctx->policy->policy.name, &octx->route.repository,
                  subject->len ? " of \"" : "", subject,
                  subject->len ? "\"" : "", c->sent, reason);

    tr->ctx->decision = "cut";

    if (r->http_version < NGX_HTTP_VERSION_20) {
        linger.l_onoff = 1;
        linger.l_linger = 0;

        if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, (const void *) &linger,
                       sizeof(struct linger))
            == -1)
        {
            ngx_log_error(NGX_LOG_ALERT, c->log, ngx_socket_errno,
                          "setsockopt(SO_LINGER) failed");
        }
    }

    c->error = 1;
    r->keepalive = 0;

    /* "post_action" would go on with the request, and what runs for it */

    r->post_action = 1;
    r->uri_changes = 0;

    /* as of an event: the cleanup of an upstream takes one */

    r->main->count++;

    ngx_http_finalize_request(r, NGX_ERROR);

    ngx_http_run_posted_requests(c);
}
