
/*
 * Copyright (C) The nginx-oci authors
 *
 * Events go out: from each queue by one worker, who has the lock of its
 * directory.  Those of one repository go one after the other, each until it
 * is taken; some repositories at once.  What the cursor says is behind what
 * was sent, never before it: after a crash an event may go out once more.
 */


#include "ngx_oci_notify.h"


#ifndef F_OFD_SETLK
#define F_OFD_SETLK              37
#endif

#define NGX_OCI_NOTIFY_TICK      100    /* ms, of whoever sends */
#define NGX_OCI_NOTIFY_LOOK      500    /* and of the others */
#define NGX_OCI_NOTIFY_ROUND     1000   /* ms, between two rounds at most */
#define NGX_OCI_NOTIFY_PAUSE     200    /* ms, the first one */
#define NGX_OCI_NOTIFY_ANSWER    16384  /* bytes of one's body */
#define NGX_OCI_NOTIFY_REFUSED   5      /* tries of an event that the receiver
                                           takes for malformed */


static void ngx_oci_notify_tick(ngx_event_t *ev);
static ngx_int_t ngx_oci_notify_elect(ngx_oci_notify_t *notify);
static void ngx_oci_notify_leave(ngx_oci_notify_t *notify);
static void ngx_oci_notify_go(ngx_oci_notify_t *notify);
static void ngx_oci_notify_place(ngx_oci_notify_t *notify,
    ngx_oci_notify_place_t *place);
static ngx_uint_t ngx_oci_notify_unsaved(ngx_oci_notify_t *notify);
static void ngx_oci_notify_begin(ngx_oci_notify_t *notify, ngx_uint_t begin);
static void ngx_oci_notify_rounded(ngx_event_t *ev);
static ngx_uint_t ngx_oci_notify_free(ngx_oci_notify_t *notify,
    ngx_uint_t i);
static ngx_int_t ngx_oci_notify_post(ngx_oci_notify_t *notify,
    ngx_oci_notify_event_t *e);
static ngx_int_t ngx_oci_notify_headers(ngx_oci_notify_t *notify,
    ngx_oci_notify_event_t *e, ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_notify_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_notify_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_notify_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_notify_posted(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_notify_taken(ngx_oci_notify_t *notify,
    ngx_oci_notify_event_t *e);
static void ngx_oci_notify_failed(ngx_oci_notify_t *notify,
    ngx_oci_notify_event_t *e, ngx_int_t rc, ngx_uint_t status);
static ngx_uint_t ngx_oci_notify_malformed(ngx_uint_t status);
static void ngx_oci_notify_trim(ngx_oci_notify_t *notify);
static void ngx_oci_notify_gone(ngx_oci_notify_sh_t *sh, uint64_t n);


static ngx_str_t  ngx_oci_notify_pool = ngx_string("default");


ngx_int_t
ngx_oci_notify_init_process(ngx_cycle_t *cycle,
    ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_uint_t          i;
    ngx_oci_notify_t  **n;

    n = hmcf->notify.elts;

    for (i = 0; i < hmcf->notify.nelts; i++) {

        n[i]->fd = NGX_INVALID_FILE;
        n[i]->lock = NGX_INVALID_FILE;

        n[i]->dummy.fd = (ngx_socket_t) -1;
        n[i]->dummy.data = n[i];
        n[i]->timer.handler = ngx_oci_notify_tick;
        n[i]->timer.data = &n[i]->dummy;
        n[i]->timer.log = cycle->log;
        n[i]->timer.cancelable = 1;

        if (n[i]->receiver->ctx) {
            ngx_add_timer(&n[i]->timer, NGX_OCI_NOTIFY_TICK);
        }
    }

    return NGX_OK;
}


void
ngx_oci_notify_exit_process(ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_uint_t          i, k;
    ngx_oci_notify_t  **n;

    n = hmcf->notify.elts;

    for (i = 0; i < hmcf->notify.nelts; i++) {

        ngx_oci_notify_close(n[i]);

        /* threads have ended before.  Nobody is told once more what was
           taken */

        if (n[i]->sender && ngx_oci_notify_unsaved(n[i])) {
            n[i]->round.dir = (char *) n[i]->dir.data;
            ngx_oci_notify_place(n[i], &n[i]->round.done);
            (void) ngx_oci_notify_save(&n[i]->round);
        }

        if (n[i]->lock != NGX_INVALID_FILE) {
            (void) ngx_close_file(n[i]->lock);
        }

        for (k = 0; k < n[i]->n; k++) {
            free(n[i]->window[k].text);
        }

        for (k = 0; k < n[i]->round.n; k++) {
            free(n[i]->round.events[k].text);
        }
    }
}


static void
ngx_oci_notify_tick(ngx_event_t *ev)
{
    ngx_connection_t  *c;
    ngx_oci_notify_t  *notify;

    c = ev->data;
    notify = c->data;

    if (ngx_exiting) {

        ngx_oci_notify_leave(notify);

        if (notify->sender) {
            ngx_add_timer(ev, NGX_OCI_NOTIFY_TICK);
        }

        return;
    }

    if (notify->sender) {
        ngx_oci_notify_go(notify);

    } else if (ngx_oci_notify_elect(notify) == NGX_OK) {
        notify->sender = 1;
        ngx_oci_notify_begin(notify, 1);
    }

    ngx_add_timer(ev, notify->sender ? NGX_OCI_NOTIFY_TICK
                                     : NGX_OCI_NOTIFY_LOOK);
}


/* NGX_OK: it is this worker */

static ngx_int_t
ngx_oci_notify_elect(ngx_oci_notify_t *notify)
{
    struct flock  fl;

    if (notify->lock == NGX_INVALID_FILE) {

        notify->lock = ngx_oci_notify_open((char *) notify->dir.data, "lock",
                                           O_RDWR|O_CREAT);

        if (notify->lock == NGX_INVALID_FILE) {

            if (!notify->broken) {
                notify->broken = 1;
                ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                              "opening \"%V/lock\" failed, events wait",
                              &notify->dir);
            }

            return NGX_ERROR;
        }

        notify->broken = 0;
    }

    ngx_memzero(&fl, sizeof(struct flock));

    fl.l_type = F_WRLCK;
    fl.l_whence = SEEK_SET;

    return (fcntl(notify->lock, F_OFD_SETLK, &fl) == -1) ? NGX_DECLINED
                                                         : NGX_OK;
}


/* the worker is to exit: another one goes on */

static void
ngx_oci_notify_leave(ngx_oci_notify_t *notify)
{
    if (notify->posts || notify->round.running) {
        return;
    }

    if (notify->sender && ngx_oci_notify_unsaved(notify) && !notify->broken) {
        ngx_oci_notify_begin(notify, 0);

        if (notify->round.running) {
            return;
        }
    }

    /* it may have the lock, and not be the sender yet */

    if (notify->lock != NGX_INVALID_FILE) {
        (void) ngx_close_file(notify->lock);
        notify->lock = NGX_INVALID_FILE;
    }

    notify->sender = 0;
}


void
ngx_oci_notify_kick(ngx_oci_notify_t *notify)
{
    if (notify->sender && notify->n == 0 && !ngx_exiting) {
        ngx_oci_notify_go(notify);
    }
}


static void
ngx_oci_notify_go(ngx_oci_notify_t *notify)
{
    ngx_uint_t  i, max;
    ngx_msec_t  since;

    if (notify->round.running) {
        return;
    }

    since = ngx_current_msec - notify->rounded;

    if ((notify->n <= NGX_OCI_NOTIFY_WINDOW / 2
         && (notify->more
             || notify->seen != ngx_oci_notify_get(notify->sh->appended)))
        || (since >= NGX_OCI_NOTIFY_TICK
            && (notify->seen != ngx_oci_notify_get(notify->sh->appended)
                || ngx_oci_notify_unsaved(notify)))
        || since >= NGX_OCI_NOTIFY_ROUND)
    {
        ngx_oci_notify_begin(notify, 0);
    }

    if (notify->pause
        && (ngx_msec_int_t) (notify->due - ngx_current_msec) > 0)
    {
        return;
    }

    /* one will tell whether it is there again */

    max = notify->pause ? 1 : NGX_OCI_NOTIFY_POSTS;

    for (i = 0; i < notify->n && notify->posts < max; i++) {

        if (ngx_oci_notify_free(notify, i)
            && ngx_oci_notify_post(notify, &notify->window[i]) != NGX_OK)
        {
            return;
        }
    }
}


/* all before it is done */

static void
ngx_oci_notify_place(ngx_oci_notify_t *notify, ngx_oci_notify_place_t *place)
{
    *place = notify->n ? notify->window[0].place : notify->next;
}


static ngx_uint_t
ngx_oci_notify_unsaved(ngx_oci_notify_t *notify)
{
    ngx_oci_notify_place_t  place;

    ngx_oci_notify_place(notify, &place);

    return place.file != notify->saved.file || place.pos != notify->saved.pos;
}


static void
ngx_oci_notify_begin(ngx_oci_notify_t *notify, ngx_uint_t begin)
{
    ngx_thread_pool_t       *threads;
    ngx_oci_notify_round_t  *round;

    round = &notify->round;

    round->dir = (char *) notify->dir.data;
    round->size = notify->size;
    round->begin = begin;
    round->appended = &notify->sh->appended;
    round->room = begin ? 0 : NGX_OCI_NOTIFY_WINDOW - notify->n;
    round->next = notify->next;

    ngx_oci_notify_place(notify, &round->done);

    round->task.ctx = round;
    round->task.handler = ngx_oci_notify_round;
    round->task.event.data = notify;
    round->task.event.handler = ngx_oci_notify_rounded;
    round->task.event.log = ngx_cycle->log;

    notify->seen = ngx_oci_notify_get(notify->sh->appended);
    notify->rounded = ngx_current_msec;

    threads = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                                  &ngx_oci_notify_pool);

    if (threads == NULL
        || ngx_thread_task_post(threads, &round->task) != NGX_OK)
    {
        /* once more with the next tick */

        notify->sender = !begin;
        notify->more = 1;
        return;
    }

    round->running = 1;
}


static void
ngx_oci_notify_rounded(ngx_event_t *ev)
{
    ngx_uint_t               i;
    ngx_oci_notify_t        *notify;
    ngx_oci_notify_sh_t     *sh;
    ngx_oci_notify_round_t  *round;

    notify = ev->data;
    round = &notify->round;
    sh = notify->sh;

    round->running = 0;

    for (i = 0; i < round->n; i++) {
        notify->window[notify->n++] = round->events[i];
    }

    round->n = 0;

    notify->next = round->next;
    notify->more = round->more;

    if (round->failed) {

        if (!notify->broken) {
            notify->broken = 1;
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, round->err,
                          "events in \"%V\" can't be sent: %s failed",
                          &notify->dir, round->failed);
        }

        notify->more = 0;

    } else {
        notify->broken = 0;
        notify->saved = round->done;

        ngx_oci_notify_set(sh->bytes, round->bytes);
    }

    if (round->begin && round->failed) {

        /* neither its place nor what waits is known: once more */

        notify->sender = 0;

    } else if (round->begin) {

        /* it is below zero if some were appended before this memory was */

        ngx_oci_notify_set(sh->gone, round->since - round->counted);
        notify->saved = round->next;
        notify->more = 1;

    } else if (notify->n == 0 && !notify->more && !round->failed
               && notify->seen == ngx_oci_notify_get(sh->appended))
    {
        /* whatever killed workers left of it */

        ngx_oci_notify_set(sh->gone, notify->seen);
    }

    if (round->dropped) {
        ngx_oci_notify_add(sh->dropped, round->dropped);

        if (!round->begin) {
            ngx_oci_notify_gone(sh, round->dropped);
        }

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the queue \"%V\" is full, its oldest %uL events are "
                      "dropped", &notify->dir, round->dropped);
    }

    if (notify->sender && !ngx_exiting) {
        ngx_oci_notify_go(notify);
    }
}


/* may it go out now?  Not before those of its repository */

static ngx_uint_t
ngx_oci_notify_free(ngx_oci_notify_t *notify, ngx_uint_t i)
{
    ngx_str_t               *a, *b;
    ngx_uint_t               k;
    ngx_oci_notify_event_t  *e;

    e = notify->window;

    if (e[i].done || e[i].exchange) {
        return 0;
    }

    a = &e[i].record.repository;

    for (k = 0; k < i; k++) {

        b = &e[k].record.repository;

        if (!e[k].done && a->len == b->len
            && ngx_memcmp(a->data, b->data, a->len) == 0)
        {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_oci_notify_post(ngx_oci_notify_t *notify, ngx_oci_notify_event_t *e)
{
    ngx_oci_exchange_t  *ex;

    ex = ngx_oci_core.exchange_create(notify->receiver, ngx_cycle->log);

    if (ex == NULL) {
        ngx_oci_notify_failed(notify, e, NGX_DECLINED, 0);
        return NGX_ERROR;
    }

    /* the exchange wipes its own */

    ex->body.data = ngx_pstrdup(ex->pool, &e->record.body);

    if (ex->body.data == NULL
        || ngx_oci_notify_headers(notify, e, ex) != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        ngx_oci_notify_failed(notify, e, NGX_DECLINED, 0);
        return NGX_ERROR;
    }

    ex->body.len = e->record.body.len;
    ex->method = NGX_HTTP_POST;
    ex->uri = notify->to.uri;
    ex->timeout = notify->timeout;
    ex->quiet = notify->failing;
    ex->data = notify;
    ex->header = ngx_oci_notify_header;
    ex->buffer = ngx_oci_notify_buffer;
    ex->received = ngx_oci_notify_received;
    ex->done = ngx_oci_notify_posted;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        ngx_oci_notify_failed(notify, e, NGX_DECLINED, 0);
        return NGX_ERROR;
    }

    e->exchange = ex;
    notify->posts++;

    return NGX_OK;
}


/* signed anew with each try: the time is that of the try */

static ngx_int_t
ngx_oci_notify_headers(ngx_oci_notify_t *notify, ngx_oci_notify_event_t *e,
    ngx_oci_exchange_t *ex)
{
    u_char      *p;
    size_t       len;
    time_t       now;
    ngx_str_t   *key;
    ngx_uint_t   i, n;

    key = notify->keys ? notify->keys->elts : NULL;
    n = notify->keys ? notify->keys->nelts : 0;
    now = ngx_time();

    len = sizeof("Content-Type: " CRLF "Webhook-Id: " CRLF
                 "Webhook-Timestamp: " CRLF "Webhook-Signature: " CRLF)
          + 64 + NGX_OCI_NOTE_ID + NGX_TIME_T_LEN
          + n * (NGX_OCI_SIGNATURE_LEN + 1);

    p = ngx_pnalloc(ex->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ex->headers.data = p;

    p = ngx_sprintf(p, "Content-Type: %s" CRLF "Webhook-Id: %*s" CRLF
                    "Webhook-Timestamp: %T" CRLF,
                    ngx_oci_note_type(e->record.format),
                    (size_t) NGX_OCI_NOTE_ID, e->record.id, now);

    if (n) {
        p = ngx_cpymem(p, "Webhook-Signature:",
                       sizeof("Webhook-Signature:") - 1);

        for (i = 0; i < n; i++) {
            *p++ = ' ';

            if (ngx_oci_note_sign(&key[i], e->record.id, now,
                                  &e->record.body, p)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            p += NGX_OCI_SIGNATURE_LEN;
        }

        p = ngx_cpymem(p, CRLF, 2);
    }

    ex->headers.len = p - ex->headers.data;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_notify_header(ngx_oci_exchange_t *ex)
{
    return NGX_OK;
}


/* some of a body is taken, for the connection to stay */

static ngx_int_t
ngx_oci_notify_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_notify_t *notify = ex->data;

    *p = notify->answer;
    *size = sizeof(notify->answer);

    return (ex->received_bytes > NGX_OCI_NOTIFY_ANSWER) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_oci_notify_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    return NGX_OK;
}


/* its status is all that counts, whatever becomes of the body */

static void
ngx_oci_notify_posted(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_uint_t               i, status;
    ngx_oci_notify_t        *notify;
    ngx_oci_notify_event_t  *e;

    notify = ex->data;
    status = ex->in.status;

    for (i = 0; notify->window[i].exchange != ex; i++) { /* void */ }

    e = &notify->window[i];

    e->exchange = NULL;
    notify->posts--;

    if (status >= 200 && status < 300) {
        ngx_oci_notify_taken(notify, e);

    } else {
        ngx_oci_notify_failed(notify, e, status ? NGX_OK : rc, status);
    }

    ngx_oci_notify_trim(notify);

    if (!ngx_exiting) {
        ngx_oci_notify_go(notify);
    }
}


static void
ngx_oci_notify_taken(ngx_oci_notify_t *notify, ngx_oci_notify_event_t *e)
{
    e->done = 1;
    notify->pause = 0;

    ngx_oci_notify_add(notify->sh->sent, 1);
    ngx_oci_notify_gone(notify->sh, 1);

    if (notify->failing) {
        notify->failing = 0;
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "events in \"%V\" are taken again", &notify->dir);
    }
}


/* NGX_DECLINED: there was no memory */

static void
ngx_oci_notify_failed(ngx_oci_notify_t *notify, ngx_oci_notify_event_t *e,
    ngx_int_t rc, ngx_uint_t status)
{
    ngx_oci_notify_add(notify->sh->failed, 1);

    notify->pause = notify->pause ? 2 * notify->pause : NGX_OCI_NOTIFY_PAUSE;
    notify->pause = ngx_min(notify->pause, notify->retry);
    notify->due = ngx_current_msec + notify->pause;

    if (rc == NGX_OK && ngx_oci_notify_malformed(status)
        && ++e->tries == NGX_OCI_NOTIFY_REFUSED)
    {
        e->done = 1;

        ngx_oci_notify_add(notify->sh->dropped, 1);
        ngx_oci_notify_gone(notify->sh, 1);

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "an event in \"%V\" is dropped: its receiver answered "
                      "%ui", &notify->dir, status);
        return;
    }

    if (notify->failing) {
        return;
    }

    notify->failing = 1;

    if (rc == NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "events in \"%V\" are not taken, they wait: the "
                      "receiver answered %ui%s", &notify->dir, status,
                      (status >= 300 && status < 400)
                      ? ", which is not followed" : "");
        return;
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "events in \"%V\" are not taken, they wait: %s",
                  &notify->dir,
                  rc == NGX_DECLINED ? "no memory"
                  : rc == NGX_BUSY ? "the receiver did not answer in time"
                                   : "the receiver did not answer");
}


/* it would be so with any receiver that is well */

static ngx_uint_t
ngx_oci_notify_malformed(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_BAD_REQUEST:
    case 406:
    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
    case NGX_HTTP_UNSUPPORTED_MEDIA_TYPE:
    case 422:
        return 1;
    }

    return 0;
}


/* the first one of the window is not done */

static void
ngx_oci_notify_trim(ngx_oci_notify_t *notify)
{
    ngx_uint_t  n;

    for (n = 0; n < notify->n && notify->window[n].done; n++) {
        free(notify->window[n].text);
    }

    if (n) {
        notify->n -= n;
        ngx_memmove(notify->window, notify->window + n,
                    notify->n * sizeof(ngx_oci_notify_event_t));
    }
}


/* workers that were killed, and others' ones, have not counted all */

static void
ngx_oci_notify_gone(ngx_oci_notify_sh_t *sh, uint64_t n)
{
    ngx_oci_notify_add(sh->gone, ngx_min(n, ngx_oci_notify_waiting(sh)));
}
