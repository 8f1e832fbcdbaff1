
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_cache.h"


#define NGX_OCI_IO_HOLD     60000   /* ms; renewed while a task is out */
#define NGX_OCI_IO_NICE     5       /* added to the worker's priority */
#define NGX_OCI_IO_THREADS  8       /* of the pool "oci", at most */


/* Owner: the task that is out; freed after its done() */

typedef struct {
    ngx_oci_task_t        task;
    ngx_thread_task_t     thread;
    ngx_event_t           event;    /* holds an exiting worker, or stands in
                                       for the pool */
    ngx_connection_t      dummy;
    ngx_log_t            *log;
} ngx_oci_io_t;


static void ngx_oci_io_thread(void *data, ngx_log_t *log);
static void ngx_oci_io_polite(void);
static void ngx_oci_io_completed(ngx_event_t *ev);
static void ngx_oci_io_hold(ngx_event_t *ev);
static void ngx_oci_io_inline(ngx_event_t *ev);


static ngx_str_t  ngx_oci_io_bulk = ngx_string("oci");
static ngx_str_t  ngx_oci_io_default = ngx_string("default");


ngx_int_t
ngx_oci_io_init(ngx_cycle_t *cycle)
{
    ngx_int_t  n;

    n = ngx_max(ngx_min(ngx_ncpu, NGX_OCI_IO_THREADS), 2);

    return ngx_oci_core.thread_pool(cycle, &ngx_oci_io_bulk, n);
}


void
ngx_oci_io_pools(ngx_oci_cache_t *cache, ngx_cycle_t *cycle)
{
    cache->threads = ngx_thread_pool_get(cycle, &ngx_oci_io_default);
    cache->bulk = ngx_thread_pool_get(cycle, &ngx_oci_io_bulk);
}


ngx_int_t
ngx_oci_io_post(ngx_oci_cache_t *cache, ngx_oci_task_t *task)
{
    ngx_oci_io_t       *io;
    ngx_thread_pool_t  *threads;

    threads = task->bulk ? cache->bulk : cache->threads;

    io = ngx_calloc(sizeof(ngx_oci_io_t), ngx_cycle->log);
    if (io == NULL) {
        return NGX_ERROR;
    }

    io->task = *task;
    io->log = ngx_cycle->log;

    io->dummy.fd = (ngx_socket_t) -1;
    io->dummy.data = io;

    io->event.data = &io->dummy;
    io->event.log = ngx_cycle->log;

    io->thread.ctx = io;
    io->thread.handler = ngx_oci_io_thread;
    io->thread.event.data = io;
    io->thread.event.handler = ngx_oci_io_completed;
    io->thread.event.log = ngx_cycle->log;

    if (threads && ngx_thread_task_post(threads, &io->thread) == NGX_OK)
    {
        io->event.handler = ngx_oci_io_hold;
        ngx_add_timer(&io->event, NGX_OCI_IO_HOLD);
        return NGX_OK;
    }

    /* the queue is full: slower, but it goes on */

    io->event.handler = ngx_oci_io_inline;
    ngx_post_event(&io->event, &ngx_posted_events);

    return NGX_OK;
}


static void
ngx_oci_io_thread(void *data, ngx_log_t *log)
{
    ngx_oci_io_t *io = data;

    static __thread ngx_uint_t  polite;

    if (io->task.bulk && !polite) {
        polite = 1;
        ngx_oci_io_polite();
    }

    io->task.run(io->task.data, log);

    ngx_oci_thread_leave();
}


/*
 * A fill competes with the requests that it is made for: the threads that
 * write and hash are nicer than the worker, each for itself, so that the event
 * loop runs first.  What fails leaves them as they are.
 */

static void
ngx_oci_io_polite(void)
{
    int  nice;

    ngx_set_errno(0);

    nice = getpriority(PRIO_PROCESS, 0);

    if (nice != -1 || ngx_errno == 0) {
        (void) setpriority(PRIO_PROCESS, 0, nice + NGX_OCI_IO_NICE);
    }
}


static void
ngx_oci_io_completed(ngx_event_t *ev)
{
    ngx_oci_io_t *io = ev->data;

    ngx_oci_task_t  task;

    if (io->event.timer_set) {
        ngx_del_timer(&io->event);
    }

    task = io->task;
    ngx_free(io);

    task.done(task.data);
}


static void
ngx_oci_io_hold(ngx_event_t *ev)
{
    ngx_log_error(NGX_LOG_WARN, ev->log, 0,
                  "a disk operation takes longer than a minute");

    ngx_add_timer(ev, NGX_OCI_IO_HOLD);
}


static void
ngx_oci_io_inline(ngx_event_t *ev)
{
    ngx_oci_io_t      *io;
    ngx_oci_task_t     task;
    ngx_connection_t  *c;

    c = ev->data;
    io = c->data;
    task = io->task;

    task.run(task.data, io->log);

    ngx_free(io);

    task.done(task.data);
}
