
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is done in a thread, and for which a worker that is to exit waits.
 */


#ifndef _NGX_OCI_WORK_H_INCLUDED_
#define _NGX_OCI_WORK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_thread_pool.h>


/*
 * Owner: whoever posts it, and may free or post it again from done() on, not
 * sooner.
 */

typedef struct {
    /* set by the owner */
    void                      (*run)(void *data);   /* in a thread */
    void                      (*done)(void *data);  /* from the event loop */
    void                       *data;
    const char                 *slow;       /* said after each minute */

    /* ngx_oci_work_post()'s own */
    ngx_thread_task_t           thread;
    ngx_event_t                 hold;
    ngx_connection_t            dummy;
} ngx_oci_work_t;


/* NGX_OK: done() follows; NGX_ERROR: the queue is full, nothing follows */
ngx_int_t ngx_oci_work_post(ngx_thread_pool_t *threads, ngx_oci_work_t *work);


#endif /* _NGX_OCI_WORK_H_INCLUDED_ */
