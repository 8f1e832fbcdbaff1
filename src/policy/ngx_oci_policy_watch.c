
/*
 * Copyright (C) The nginx-oci authors
 *
 * One worker looks five times a second whether the policy's document changed,
 * and takes over what is right; all of that in a thread.
 */


#include "ngx_oci_policy.h"
#include <ngx_thread_pool.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif


#define NGX_OCI_WATCH_INTERVAL  200     /* ms */
#define NGX_OCI_WATCH_RACY      2       /* s: a file this young may change
                                           once more without looking so */
#define NGX_OCI_WATCH_LARGE     (1024 * 1024)
#define NGX_OCI_WATCH_HOLD      60000   /* ms; renewed while a task is out */


/* Owner: the worker, for as long as it lives; the thread while busy */

typedef struct {
    ngx_oci_policy_conf_t      *pcf;
    ngx_event_t                 timer;
    ngx_event_t                 hold;       /* an exiting worker waits */
    ngx_connection_t            dummy;
    ngx_thread_task_t           task;

    ngx_oci_policy_stat_t       last;       /* looked at */
    u_char                      seen[NGX_OCI_POLICY_DIGEST];    /* in the zone
                                               then */
    ngx_oci_policy_text_t       text;
    ngx_int_t                   rc;         /* of the last look */
    ngx_int_t                   published;
    int                         err;
    char                        said[sizeof(((ngx_oci_policy_text_t *) 0)
                                            ->error)];
    unsigned                    again:1;    /* whatever it looks like */
    unsigned                    gone:1;     /* that was said */
} ngx_oci_watch_t;


static void ngx_oci_watch_timer(ngx_event_t *ev);
static void ngx_oci_watch_hold(ngx_event_t *ev);
static void ngx_oci_watch_thread(void *data, ngx_log_t *log);
static void ngx_oci_watch_done(ngx_event_t *ev);


ngx_int_t
ngx_oci_policy_watch(ngx_oci_policy_conf_t *pcf, ngx_cycle_t *cycle)
{
    ngx_oci_watch_t  *w;

    w = ngx_pcalloc(cycle->pool, sizeof(ngx_oci_watch_t));
    if (w == NULL) {
        return NGX_ERROR;
    }

    w->pcf = pcf;
    w->again = 1;
    pcf->watch = w;

    w->dummy.fd = (ngx_socket_t) -1;
    w->dummy.data = w;

    w->timer.handler = ngx_oci_watch_timer;
    w->timer.data = &w->dummy;
    w->timer.log = cycle->log;
    w->timer.cancelable = 1;

    w->hold.handler = ngx_oci_watch_hold;
    w->hold.data = &w->dummy;
    w->hold.log = cycle->log;

    w->task.ctx = w;
    w->task.handler = ngx_oci_watch_thread;
    w->task.event.handler = ngx_oci_watch_done;
    w->task.event.data = w;
    w->task.event.log = cycle->log;

    ngx_add_timer(&w->timer, 1);

    return NGX_OK;
}


static void
ngx_oci_watch_timer(ngx_event_t *ev)
{
    ngx_oci_watch_t   *w;
    ngx_connection_t  *c;

    c = ev->data;
    w = c->data;

    /* the workers of the next configuration do */

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    if (ngx_thread_task_post(w->pcf->threads, &w->task) != NGX_OK) {
        ngx_add_timer(&w->timer, NGX_OCI_WATCH_INTERVAL);
        return;
    }

    ngx_add_timer(&w->hold, NGX_OCI_WATCH_HOLD);
}


static void
ngx_oci_watch_hold(ngx_event_t *ev)
{
    ngx_oci_watch_t   *w;
    ngx_connection_t  *c;

    c = ev->data;
    w = c->data;

    ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                  "reading \"%V\" takes longer than a minute, changes of "
                  "oci_policy \"%V\" wait for it",
                  &w->pcf->file, &w->pcf->policy.name);

    ngx_add_timer(ev, NGX_OCI_WATCH_HOLD);
}


static void
ngx_oci_watch_thread(void *data, ngx_log_t *log)
{
    ngx_oci_watch_t *w = data;

    time_t                  now;
    u_char                  digest[NGX_OCI_POLICY_DIGEST];
    const char             *file;
    ngx_oci_policy_stat_t   st;

    file = (const char *) w->pcf->file.data;

    w->rc = NGX_DECLINED;
    w->published = NGX_DONE;
    w->text.doc = NULL;

    if (ngx_oci_policy_stat(file, &st) == NGX_ERROR) {
        w->rc = NGX_ABORT;
        w->err = errno;
        w->again = 1;
        return;
    }

    ngx_shmtx_lock(&w->pcf->shpool->mutex);
    ngx_memcpy(digest, w->pcf->sh->digest, NGX_OCI_POLICY_DIGEST);
    ngx_shmtx_unlock(&w->pcf->shpool->mutex);

    /*
     * Somebody else may have put another one there: a configuration that
     * failed after it had come to its zones, or a worker before this one that
     * was at it for long.
     */

    if (!w->again
        && ngx_memcmp(&st, &w->last, sizeof(st)) == 0
        && ngx_memcmp(digest, w->seen, NGX_OCI_POLICY_DIGEST) == 0)
    {
        return;
    }

    w->rc = ngx_oci_policy_read(file, digest, &w->text);
    ngx_oci_thread_leave();

    w->last = w->text.stat;
    ngx_memcpy(w->seen, digest, NGX_OCI_POLICY_DIGEST);

    now = time(NULL);
    w->again = (w->last.ctime.tv_sec > now - NGX_OCI_WATCH_RACY);

    if (w->rc != NGX_OK) {
        ngx_oci_policy_parsed(&w->text);
        return;
    }

    w->published = ngx_oci_policy_publish(w->pcf, &w->text);

    ngx_oci_policy_parsed(&w->text);

    if (w->published == NGX_OK) {
        ngx_memcpy(w->seen, w->text.digest, NGX_OCI_POLICY_DIGEST);
    }

    if (w->published == NGX_ABORT) {
        w->again = 1;
    }

#ifdef __GLIBC__

    /* what a large document's JSON took would stay with the worker */

    if (w->last.size > NGX_OCI_WATCH_LARGE) {
        (void) malloc_trim(0);
    }

#endif
}


static void
ngx_oci_watch_done(ngx_event_t *ev)
{
    ngx_oci_watch_t *w = ev->data;

    ngx_str_t  *name, *file;
    ngx_log_t  *log;

    if (w->hold.timer_set) {
        ngx_del_timer(&w->hold);
    }

    name = &w->pcf->policy.name;
    file = &w->pcf->file;
    log = ev->log;

    if (w->rc == NGX_ABORT) {

        if (!w->gone) {
            ngx_log_error(NGX_LOG_ERR, log, w->err,
                          "\"%V\" of oci_policy \"%V\" is not there, the "
                          "document before it stays in force", file, name);
        }

        w->gone = 1;

    } else {
        w->gone = 0;
    }

    if (w->rc == NGX_ERROR && ngx_strcmp(w->said, w->text.error) != 0) {

        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "\"%V\" of oci_policy \"%V\" is refused, the document "
                      "before it stays in force: %s",
                      file, name, w->text.error);

        ngx_memcpy(w->said, w->text.error, sizeof(w->said));
    }

    if (w->rc == NGX_OK) {

        if (w->published == NGX_OK) {
            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "\"%V\" of oci_policy \"%V\" is in force: "
                          "%uD subjects, %uD rules, %uD bytes",
                          file, name, w->text.doc->nsubjects,
                          w->text.doc->nrules, w->text.doc->size);

        } else if (w->published == NGX_DECLINED) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "\"%V\" of oci_policy \"%V\" has %uD bytes when "
                          "compiled, its zone holds %uz: the document before "
                          "it stays in force",
                          file, name, w->text.doc->size,
                          w->pcf->sh->area_size);
        }

        free(w->text.doc);
        w->text.doc = NULL;
        w->said[0] = '\0';
    }

    if (w->rc == NGX_DECLINED && !w->again) {
        w->said[0] = '\0';
    }

    ngx_add_timer(&w->timer, NGX_OCI_WATCH_INTERVAL);
}
