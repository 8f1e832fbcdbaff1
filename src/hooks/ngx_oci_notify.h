
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of oci_notify share: receivers, their queues on disk, and
 * what is known of these in shared memory.
 */


#ifndef _NGX_OCI_NOTIFY_H_INCLUDED_
#define _NGX_OCI_NOTIFY_H_INCLUDED_


#include "ngx_oci_hooks.h"
#include "ngx_oci_notify_record.h"


#define NGX_OCI_NOTIFY_MAX      64      /* directives */

/*
 * Bytes of a file, the same in all versions that may use a queue at once: a
 * record that begins beyond them counts for nobody, and is written once more,
 * into the next file.
 */
#define NGX_OCI_NOTIFY_FILE     131072

#define NGX_OCI_NOTIFY_WINDOW   64      /* events read ahead */
#define NGX_OCI_NOTIFY_POSTS    4       /* at once, of as many repositories */


/* a queue's record in shared memory; numbers are changed atomically */

typedef struct {
    uint64_t                    key;        /* of the directory; 0: free */
    uint64_t                    appended;   /* events, ever */
    uint64_t                    gone;       /* of these, as whoever sends
                                               knows: all others wait */
    uint64_t                    bytes;
    uint64_t                    sent;
    uint64_t                    failed;
    uint64_t                    dropped;
} ngx_oci_notify_sh_t;


/* a place in a queue */

typedef struct {
    uint64_t                    file;       /* its number, from 1; 0: none */
    size_t                      pos;
} ngx_oci_notify_place_t;


/* an event that was read.  Owner: the window of the worker that sends */

typedef struct {
    ngx_oci_notify_place_t      place;
    ngx_oci_record_t            record;     /* its strings are in text */
    u_char                     *text;       /* malloc()ed */
    ngx_oci_exchange_t         *exchange;   /* NULL: it isn't under way */
    ngx_uint_t                  tries;
    unsigned                    done:1;
} ngx_oci_notify_event_t;


/*
 * What a thread does for the sender: it moves what is done away, makes room,
 * and reads on.  Owner: the directive's conf; nobody else touches it while
 * running is set.
 */

typedef struct {
    ngx_thread_task_t           task;

    /* in */
    const char                 *dir;
    uint64_t                    size;       /* bytes, of all files */
    ngx_uint_t                  begin;      /* with the file "cursor", and all
                                               that waits is counted */
    uint64_t                   *appended;   /* in shared memory */
    ngx_uint_t                  room;       /* events that may be read */
    ngx_oci_notify_place_t      done;       /* all before is done */

    /* in and out */
    ngx_oci_notify_place_t      next;       /* to be read */

    /* out */
    ngx_oci_notify_event_t      events[NGX_OCI_NOTIFY_WINDOW];
    ngx_uint_t                  n;
    uint64_t                    bytes;
    uint64_t                    counted;    /* that wait, with begin, */
    uint64_t                    since;      /* when so many were appended */
    uint64_t                    dropped;    /* events that were not read */
    ngx_uint_t                  more;       /* there is more to be read */
    ngx_err_t                   err;
    const char                 *failed;     /* what did; NULL */

    unsigned                    running:1;
} ngx_oci_notify_round_t;


/* a directive; lives as long as the cycle */

typedef struct {
    ngx_str_t                   dir;        /* zero-terminated */
    ngx_str_t                   url;
    ngx_oci_url_t               to;         /* url, parsed */
    ngx_uint_t                  events;     /* a bit each */
    ngx_uint_t                  format;
    ngx_array_t                *patterns;   /* of ngx_str_t; NULL: any */
    ngx_array_t                *keys;       /* of ngx_str_t; NULL: unsigned */
    off_t                       size;       /* bytes of the queue */
    ngx_msec_t                  timeout;
    ngx_msec_t                  retry;      /* ms, the longest pause */
    ngx_str_t                   certificate;
    ngx_path_t                  path;
    ngx_http_conf_ctx_t        *server;     /* NULL: of http */
    u_char                     *file;       /* of the configuration */
    ngx_uint_t                  line;
    ngx_oci_registry_t         *receiver;
    ngx_oci_notify_sh_t        *sh;

    /* of a worker that appends */
    ngx_fd_t                    fd;
    unsigned                    lost:1;     /* that it can't append was said */

    /* and of the one that sends */
    ngx_fd_t                    lock;
    ngx_event_t                 timer;
    ngx_connection_t            dummy;
    ngx_oci_notify_round_t      round;
    ngx_oci_notify_event_t      window[NGX_OCI_NOTIFY_WINDOW];
    ngx_uint_t                  n;          /* in it, oldest first */
    ngx_uint_t                  posts;      /* exchanges */
    u_char                      answer[512];    /* whose bodies nobody
                                                   wants */
    ngx_oci_notify_place_t      next;
    ngx_oci_notify_place_t      saved;      /* what the cursor says */
    uint64_t                    seen;       /* sh->appended at the round */
    ngx_msec_t                  rounded;    /* when that was */
    ngx_msec_t                  pause;      /* ms; 0: the last one was taken */
    ngx_msec_t                  due;        /* with it: not before that */
    unsigned                    sender:1;
    unsigned                    more:1;
    unsigned                    failing:1;  /* that was said */
    unsigned                    broken:1;   /* and that the disk does */
} ngx_oci_notify_t;


/* ngx_oci_notify_conf.c */
char *ngx_oci_notify_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_oci_notify_init(ngx_conf_t *cf,
    ngx_oci_hooks_main_conf_t *hmcf);
/* an event of this kind was seen not long ago: 1 */
ngx_uint_t ngx_oci_notify_seen(uint64_t key);

/* ngx_oci_notify.c: the handler of the log phase */
ngx_int_t ngx_oci_notify_log(ngx_http_request_t *r);

/*
 * ngx_oci_notify_queue.c.  append(): NGX_OK, or NGX_ERROR: it is lost, which
 * is counted.
 */
ngx_int_t ngx_oci_notify_append(ngx_oci_notify_t *notify,
    ngx_oci_record_t *record);
void ngx_oci_notify_close(ngx_oci_notify_t *notify);
/* events that wait */
uint64_t ngx_oci_notify_waiting(ngx_oci_notify_sh_t *sh);
/* numbers of the files, in their order, to be freed with free().  NGX_OK, *n
   of them; NGX_ERROR: errno says why */
ngx_int_t ngx_oci_notify_files(const char *dir, uint64_t **files,
    ngx_uint_t *n);
ngx_fd_t ngx_oci_notify_open(const char *dir, const char *name, int flags);
void ngx_oci_notify_file_name(char *name, uint64_t file);

#define NGX_OCI_NOTIFY_NAME  32         /* bytes of a file's name */

/* ngx_oci_notify_round.c: in a thread */
void ngx_oci_notify_round(void *data, ngx_log_t *log);
/* where it is done, in "cursor".  NGX_OK; NGX_ERROR: round->failed */
ngx_int_t ngx_oci_notify_save(ngx_oci_notify_round_t *round);

/* ngx_oci_notify_send.c */
ngx_int_t ngx_oci_notify_init_process(ngx_cycle_t *cycle,
    ngx_oci_hooks_main_conf_t *hmcf);
void ngx_oci_notify_exit_process(ngx_oci_hooks_main_conf_t *hmcf);
/* something was appended by this worker */
void ngx_oci_notify_kick(ngx_oci_notify_t *notify);


#define ngx_oci_notify_add(v, n)                                              \
    (void) __atomic_fetch_add(&(v), (uint64_t) (n), __ATOMIC_RELAXED)
#define ngx_oci_notify_get(v)                                                 \
    __atomic_load_n(&(v), __ATOMIC_RELAXED)
#define ngx_oci_notify_set(v, n)                                              \
    __atomic_store_n(&(v), (n), __ATOMIC_RELAXED)


#endif /* _NGX_OCI_NOTIFY_H_INCLUDED_ */
