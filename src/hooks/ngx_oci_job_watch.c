
/*
 * Copyright (C) The nginx-oci authors
 *
 * GET jobs/<id>?watch=1: a line of JSON whenever something of the job has
 * changed, one a second at most, until it has ended or the client has gone.
 */


#include "ngx_oci_hooks.h"


#define NGX_OCI_WATCH_MAX     64        /* of a worker */
#define NGX_OCI_WATCH_PERIOD  1000      /* ms */
#define NGX_OCI_WATCH_LINE    4096      /* bytes */
#define NGX_OCI_WATCH_IDLE    30        /* looks without news, then there is a
                                           line all the same: who does not read
                                           is noticed */
#define NGX_OCI_WATCH_NEWS    9


/* Owner: the request's pool, whose cleanup takes the timer away */

typedef struct {
    ngx_http_request_t   *request;
    ngx_oci_hook_conf_t  *conf;
    uint64_t              id;
    ngx_event_t           event;
    ngx_connection_t      dummy;
    ngx_buf_t             buf;          /* the line that is on its way */
    ngx_chain_t           chain;
    ngx_uint_t            same;         /* looks without news */
    uint64_t              news[NGX_OCI_WATCH_NEWS];     /* of the last line: */
    size_t                len;
    u_char                line[NGX_OCI_WATCH_LINE];
} ngx_oci_watch_t;


static ngx_int_t ngx_oci_watch_header(ngx_http_request_t *r);
static ngx_int_t ngx_oci_watch_more(ngx_oci_watch_t *watch);
static ngx_int_t ngx_oci_watch_look(ngx_oci_watch_t *watch,
    ngx_uint_t *changed);
static ngx_uint_t ngx_oci_watch_news(ngx_oci_watch_t *watch,
    ngx_oci_job_info_t *info);
static ngx_int_t ngx_oci_watch_line(ngx_oci_watch_t *watch,
    ngx_oci_job_info_t *info);
static void ngx_oci_watch_timer(ngx_event_t *ev);
static void ngx_oci_watch_writable(ngx_http_request_t *r);
static void ngx_oci_watch_rest(ngx_oci_watch_t *watch);
static void ngx_oci_watch_cleanup(void *data);


/* of this worker */

static ngx_uint_t  ngx_oci_watch_n;


ngx_int_t
ngx_oci_job_watch(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    uint64_t id)
{
    ngx_int_t            rc;
    ngx_oci_watch_t     *watch;
    ngx_oci_job_info_t   info;
    ngx_http_cleanup_t  *cln;

    rc = ngx_oci_job_get(conf, id, r->pool, &info);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_oci_watch_n >= NGX_OCI_WATCH_MAX) {
        return ngx_oci_hook_message(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many who watch");
    }

    watch = ngx_pcalloc(r->pool, sizeof(ngx_oci_watch_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (watch == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    watch->request = r;
    watch->conf = conf;
    watch->id = id;

    rc = ngx_oci_watch_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    cln->handler = ngx_oci_watch_cleanup;
    cln->data = watch;
    ngx_oci_watch_n++;

    watch->dummy.fd = (ngx_socket_t) -1;
    watch->dummy.data = watch;

    watch->event.handler = ngx_oci_watch_timer;
    watch->event.data = &watch->dummy;
    watch->event.log = ngx_cycle->log;

    ngx_http_set_ctx(r, watch, ngx_http_oci_hooks_module);

    rc = ngx_oci_watch_more(watch);

    if (rc != NGX_AGAIN) {
        return rc;
    }

    r->main->count++;

    /* a client that leaves is noticed */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_oci_watch_writable;

    ngx_oci_watch_rest(watch);

    return NGX_DONE;
}


static ngx_int_t
ngx_oci_watch_header(ngx_http_request_t *r)
{
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = -1;

    ngx_str_set(&r->headers_out.content_type, "application/x-ndjson");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    return ngx_http_send_header(r);
}


/* NGX_AGAIN: goes on; NGX_OK: all is handed on; NGX_ERROR */

static ngx_int_t
ngx_oci_watch_more(ngx_oci_watch_t *watch)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_uint_t           changed;
    ngx_http_request_t  *r;

    r = watch->request;

    if (r->buffered || r->connection->buffered || r->postponed) {

        /* what is on its way stands in the same buffer */

        return NGX_AGAIN;
    }

    rc = ngx_oci_watch_look(watch, &changed);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (!changed && rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    b = &watch->buf;
    ngx_memzero(b, sizeof(ngx_buf_t));

    if (changed) {
        b->start = watch->line;
        b->pos = b->start;
        b->last = b->start + watch->len;
        b->end = b->last;
        b->memory = 1;
    }

    b->flush = 1;
    b->last_buf = (rc == NGX_OK && r == r->main);
    b->last_in_chain = 1;
    b->sync = (!changed && !b->last_buf);

    watch->chain.buf = b;
    watch->chain.next = NULL;

    if (ngx_http_output_filter(r, &watch->chain) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return rc;
}


/* the line of now.  NGX_AGAIN; NGX_OK: it is the last one; NGX_ERROR */

static ngx_int_t
ngx_oci_watch_look(ngx_oci_watch_t *watch, ngx_uint_t *changed)
{
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_oci_job_info_t   info;

    *changed = 0;

    /* not the request's: it may go on for days */

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_oci_job_get(watch->conf, watch->id, pool, &info);

    if (rc == NGX_OK && ngx_oci_watch_news(watch, &info)) {
        *changed = 1;
        rc = ngx_oci_watch_line(watch, &info);
    }

    ngx_destroy_pool(pool);

    if (rc == NGX_DECLINED) {
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    /* a worker that is to exit does not wait for the job */

    return (info.state > NGX_OCI_JOB_RUNNING || ngx_exiting) ? NGX_OK
                                                             : NGX_AGAIN;
}


/* but for the time, and the rate */

static ngx_uint_t
ngx_oci_watch_news(ngx_oci_watch_t *watch, ngx_oci_job_info_t *info)
{
    uint64_t  news[NGX_OCI_WATCH_NEWS];

    news[0] = info->state + 1;
    news[1] = info->pieces;
    news[2] = info->pieces_done;
    news[3] = info->bytes;
    news[4] = info->bytes_done;
    news[5] = info->slices_done;
    news[6] = info->errors;
    news[7] = info->pin;
    news[8] = info->peers_done;

    if (ngx_memcmp(news, watch->news, sizeof(news)) == 0
        && ++watch->same < NGX_OCI_WATCH_IDLE)
    {
        return 0;
    }

    ngx_memcpy(watch->news, news, sizeof(news));
    watch->same = 0;

    return 1;
}


static ngx_int_t
ngx_oci_watch_line(ngx_oci_watch_t *watch, ngx_oci_job_info_t *info)
{
    char    *text;
    size_t   len;
    json_t  *json;

    json = ngx_oci_job_api_json(watch->conf, info);
    text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);

    if (text == NULL) {
        return NGX_ERROR;
    }

    len = ngx_strlen(text);

    if (len >= NGX_OCI_WATCH_LINE) {
        free(text);
        return NGX_ERROR;
    }

    ngx_memcpy(watch->line, text, len);
    watch->line[len] = LF;
    watch->len = len + 1;

    free(text);

    return NGX_OK;
}


static void
ngx_oci_watch_timer(ngx_event_t *ev)
{
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_oci_watch_t     *watch;
    ngx_http_request_t  *r;

    c = ev->data;
    watch = c->data;
    r = watch->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_oci_watch_more(watch);

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);

    } else {
        ngx_oci_watch_rest(watch);
    }

    ngx_http_run_posted_requests(c);
}


/* the next look, and how long the client may take for what it has not taken */

static void
ngx_oci_watch_rest(ngx_oci_watch_t *watch)
{
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = watch->request;
    c = r->connection;
    wev = c->write;

    if (!watch->event.timer_set) {
        ngx_add_timer(&watch->event, NGX_OCI_WATCH_PERIOD);
    }

    if (!r->buffered && !c->buffered) {

        if (wev->timer_set && !wev->delayed) {
            ngx_del_timer(wev);
        }

        return;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


static void
ngx_oci_watch_writable(ngx_http_request_t *r)
{
    ngx_event_t       *wev;
    ngx_oci_watch_t   *watch;

    wev = r->connection->write;
    watch = ngx_http_get_module_ctx(r, ngx_http_oci_hooks_module);

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                      "client timed out");
        r->connection->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (wev->delayed) {
        return;
    }

    if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    ngx_oci_watch_rest(watch);
}


static void
ngx_oci_watch_cleanup(void *data)
{
    ngx_oci_watch_t *watch = data;

    ngx_oci_watch_n--;

    if (watch->event.timer_set) {
        ngx_del_timer(&watch->event);
    }
}
