
/*
 * Copyright (C) The nginx-oci authors
 *
 * An exiting worker stays for as long as it has timers, and for nothing else:
 * each task that is out has one.
 */


#include "ngx_oci.h"
#include "ngx_oci_work.h"


#define NGX_OCI_WORK_HOLD  60000    /* ms; renewed while it is out */


static void ngx_oci_work_thread(void *data, ngx_log_t *log);
static void ngx_oci_work_completed(ngx_event_t *ev);
static void ngx_oci_work_hold(ngx_event_t *ev);


ngx_int_t
ngx_oci_work_post(ngx_thread_pool_t *threads, ngx_oci_work_t *work)
{
    work->dummy.fd = (ngx_socket_t) -1;
    work->dummy.data = work;

    work->hold.handler = ngx_oci_work_hold;
    work->hold.data = &work->dummy;
    work->hold.log = ngx_cycle->log;

    work->thread.ctx = work;
    work->thread.handler = ngx_oci_work_thread;
    work->thread.event.handler = ngx_oci_work_completed;
    work->thread.event.data = work;
    work->thread.event.log = ngx_cycle->log;

    if (ngx_thread_task_post(threads, &work->thread) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_add_timer(&work->hold, NGX_OCI_WORK_HOLD);

    return NGX_OK;
}


static void
ngx_oci_work_thread(void *data, ngx_log_t *log)
{
    ngx_oci_work_t *work = data;

    work->run(work->data);

    ngx_oci_thread_leave();
}


static void
ngx_oci_work_completed(ngx_event_t *ev)
{
    ngx_oci_work_t *work = ev->data;

    if (work->hold.timer_set) {
        ngx_del_timer(&work->hold);
    }

    work->done(work->data);
}


static void
ngx_oci_work_hold(ngx_event_t *ev)
{
    ngx_oci_work_t    *work;
    ngx_connection_t  *c;

    c = ev->data;
    work = c->data;

    ngx_log_error(NGX_LOG_WARN, ev->log, 0, "%s", work->slow);

    ngx_add_timer(ev, NGX_OCI_WORK_HOLD);
}
