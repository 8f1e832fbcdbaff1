
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the hooks module share.
 */


#ifndef _NGX_OCI_HOOKS_H_INCLUDED_
#define _NGX_OCI_HOOKS_H_INCLUDED_


#include "ngx_oci.h"
#include <ngx_thread_pool.h>

#include <jansson.h>


#define NGX_OCI_PREHEAT_BODY    65536   /* bytes */
#define NGX_OCI_WEBHOOK_BODY    262144

#define NGX_OCI_JOB_ERROR       200     /* bytes of an error's text */
#define NGX_OCI_JOB_TOKEN_MAX   8192    /* of a credential that came along */

/* why a job could not go on after a restart: whose peer it is reads it */

#define NGX_OCI_JOB_NO_TOKEN    "nginx was restarted, and its token is not "  \
                                "kept"

/* what a manifest may be, for those who take any */

#define NGX_OCI_HOOK_ACCEPT                                                   \
    "application/vnd.oci.image.index.v1+json, "                               \
    "application/vnd.oci.image.manifest.v1+json, "                            \
    "application/vnd.docker.distribution.manifest.list.v2+json, "             \
    "application/vnd.docker.distribution.manifest.v2+json, "                  \
    "application/vnd.oci.artifact.manifest.v1+json, */*"


/* of a path, an ngx_str_t *, and a literal */

#define ngx_oci_path_is(path, text)                                           \
    ((path)->len == sizeof(text) - 1                                          \
     && ngx_memcmp((path)->data, text, sizeof(text) - 1) == 0)

#define ngx_oci_path_begins(path, text)                                       \
    ((path)->len > sizeof(text) - 1                                           \
     && ngx_memcmp((path)->data, text, sizeof(text) - 1) == 0)


typedef struct ngx_oci_hook_conf_s  ngx_oci_hook_conf_t;


typedef enum {
    NGX_OCI_JOB_PENDING = 0,
    NGX_OCI_JOB_RUNNING,
    NGX_OCI_JOB_SUCCESS,
    NGX_OCI_JOB_FAILURE
} ngx_oci_job_state_e;


/* what can be told of a job */

typedef struct {
    uint64_t                    id;
    ngx_uint_t                  state;      /* ngx_oci_job_state_e */
    time_t                      created;
    time_t                      updated;
    ngx_uint_t                  pieces;     /* manifests and blobs */
    ngx_uint_t                  pieces_done;
    uint64_t                    bytes;      /* of them, as their descriptors
                                               say */
    uint64_t                    bytes_done;
    uint64_t                    rate;       /* bytes/s, of late */
    ngx_uint_t                  slices;     /* of blobs that were begun */
    ngx_uint_t                  slices_done;
    ngx_uint_t                  errors;     /* tries that failed */
    time_t                      pin;        /* until then; 0: none */
    ngx_uint_t                  token;      /* one came along */
    ngx_uint_t                  alone;      /* it is not the peers' */
    ngx_uint_t                  peers;      /* that have to be warm, too */
    ngx_uint_t                  peers_done;
    ngx_str_t                   repository; /* at the edge */
    ngx_str_t                   reference;
    ngx_str_t                   platforms;  /* "": all */
    ngx_str_t                   left_out;   /* platforms, a list that may end
                                               in "..." */
    ngx_str_t                   error;
} ngx_oci_job_info_t;


/* what somebody asks for */

typedef struct {
    ngx_str_t                   repository; /* at the edge */
    ngx_str_t                   reference;
    ngx_str_t                   authorization;  /* "": none came along */
    ngx_str_t                   platforms;  /* a list, or "all"; "": those of
                                               the location */
    unsigned                    alone:1;    /* of this edge's, not of its
                                               peers' */
} ngx_oci_job_ask_t;


/* one that a worker took, with all that is needed to run it */

typedef struct {
    uint64_t                    id;
    uint64_t                    run;        /* changes with each taker */
    ngx_str_t                   repository;
    ngx_str_t                   reference;
    ngx_str_t                   authorization;  /* "": none came along */
    time_t                      pin;            /* 0: none */
    ngx_str_t                   platforms;  /* "": all */
    ngx_uint_t                  alone;
} ngx_oci_job_task_t;


/* another edge, whose jobs are to succeed, too; lives as long as the cycle */

typedef struct {
    ngx_str_t                   url;        /* of its location */
    ngx_str_t                   uri;        /* the path of it */
    ngx_str_t                   header;     /* "Name: secret" CRLF, or "" */
    ngx_oci_registry_t         *endpoint;
} ngx_oci_job_peer_t;


/* a location with oci_preheat or oci_webhook; lives as long as the cycle */

struct ngx_oci_hook_conf_s {
    uint32_t                    place;      /* the same after a reload */
    ngx_str_t                   name;       /* of the location */
    ngx_http_core_loc_conf_t   *location;
    ngx_http_handler_pt         handler;    /* of the location, by this */
    ngx_oci_registry_t         *registry;
    ngx_http_core_srv_conf_t   *server;
    ngx_array_t                *secrets;    /* of ngx_str_t: what the header
                                               may be; NULL: open */
    ngx_str_t                   header;     /* its name */
    ngx_uint_t                  jobs;       /* that a worker runs at once */
    size_t                      max;        /* bytes of a body */
    ngx_str_t                   platforms;  /* "": all */
    ngx_array_t                *peers;      /* of ngx_oci_job_peer_t, or
                                               NULL */
    ngx_int_t                 (*dispatch)(ngx_http_request_t *r,
                                  ngx_oci_hook_conf_t *conf,
                                  ngx_str_t *text);
    ngx_path_t                 *state;      /* where jobs outlive a restart;
                                               NULL: they don't */
    u_char                     *file;       /* of the configuration */
    ngx_uint_t                  line;

    unsigned                    webhook:1;
    unsigned                    open:1;     /* to everybody who gets there */
    unsigned                    warm:1;     /* what was pushed */
    unsigned                    referrers:1;    /* are preheated, too */
    unsigned                    ssl:1;      /* clients come by https */
};


typedef struct {
    ngx_array_t                 hooks;      /* of ngx_oci_hook_conf_t * */
    ngx_shm_zone_t             *zone;       /* of jobs */
    ngx_uint_t                  accounting; /* some location has it */
    ngx_array_t                 notify;     /* of ngx_oci_notify_t * */
} ngx_oci_hooks_main_conf_t;


typedef struct {
    ngx_array_t                *notify;     /* of ngx_oci_notify_t *; NULL:
                                               nobody is told */
} ngx_oci_hooks_srv_conf_t;


typedef struct {
    ngx_oci_hook_conf_t        *hook;
    time_t                      accounting; /* s; 0: off */
} ngx_oci_hooks_loc_conf_t;


/*
 * ngx_oci_job.c: jobs in shared memory, of all workers.
 *
 * add(): NGX_OK, *id; an unfinished one for the same is found instead, and
 * gets the credential; NGX_BUSY: there are too many.
 * get(): NGX_OK, info's strings are in pool; NGX_DECLINED: there is none;
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_job_add_zone(ngx_conf_t *cf,
    ngx_oci_hooks_main_conf_t *hmcf);
ngx_int_t ngx_oci_job_add(ngx_oci_hook_conf_t *conf, ngx_oci_job_ask_t *ask,
    uint64_t *id);
ngx_int_t ngx_oci_job_get(ngx_oci_hook_conf_t *conf, uint64_t id,
    ngx_pool_t *pool, ngx_oci_job_info_t *info);

/*
 * Up to *n of a location's jobs with an id below before, the last ones first;
 * *n: how many.  NGX_OK; NGX_AGAIN: there are more; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_job_list(ngx_oci_hook_conf_t *conf, uint64_t before,
    ngx_pool_t *pool, ngx_oci_job_info_t *info, ngx_uint_t *n);
/* what an unfinished one warms is kept until then, never shorter than
   before */
void ngx_oci_job_pin(ngx_oci_hook_conf_t *conf, uint64_t id, time_t until);
/* an unfinished one ends, and fails; its runner finds out */
void ngx_oci_job_cancel(ngx_oci_hook_conf_t *conf, uint64_t id);
/* those of locations that this configuration has no more end, and fail */
void ngx_oci_job_orphans(ngx_oci_hooks_main_conf_t *hmcf, ngx_log_t *log);

/*
 * The next one that nobody runs, or whose runner has not been seen for long.
 * NGX_OK, task's strings are in pool, the credential is to be wiped;
 * NGX_DECLINED: there is none; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_job_take(ngx_oci_hook_conf_t *conf, ngx_pool_t *pool,
    ngx_oci_job_task_t *task);
/* the runner is there.  NGX_DECLINED: it is somebody else's now */
ngx_int_t ngx_oci_job_progress(ngx_oci_job_task_t *task,
    ngx_oci_job_info_t *info);
/* gives it back, for somebody else to run */
void ngx_oci_job_release(ngx_oci_job_task_t *task);
void ngx_oci_job_end(ngx_oci_job_task_t *task, ngx_uint_t state,
    const char *error);

/* ngx_oci_job_api.c: ngx_oci_job_get() for r's caller: to whoever may not have
   it, it is not there */
ngx_int_t ngx_oci_job_api_get(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, uint64_t id, ngx_oci_job_info_t *info);
/* as the JSON that people see; NULL: no memory */
json_t *ngx_oci_job_api_json(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info);
/* ngx_oci_job_watch.c: answers with its changes; what a content handler
   returns */
ngx_int_t ngx_oci_job_watch(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    uint64_t id);

/* of before a restart, if it isn't there; error: why it is a failure, or
   NULL.  1: it is there now, and was not before */
ngx_uint_t ngx_oci_job_restore(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info, const char *error);
/* were those of this location? */
ngx_uint_t ngx_oci_job_restored(ngx_oci_hook_conf_t *conf);
void ngx_oci_job_set_restored(ngx_oci_hook_conf_t *conf);

/* ngx_oci_job_state.c: files of jobs that are not over; value: a directory */
char *ngx_oci_job_state_conf(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *value);
/* it was made, or changed, or has ended: so its file is, or goes */
void ngx_oci_job_state_sync(ngx_oci_hook_conf_t *conf, uint64_t id);
/* a worker begins: what there was before a restart is brought back */
void ngx_oci_job_state_init(ngx_oci_hooks_main_conf_t *hmcf);

/* ngx_oci_job_run.c: what runs in this worker */
ngx_int_t ngx_oci_job_run_init(ngx_cycle_t *cycle,
    ngx_oci_hooks_main_conf_t *hmcf);
/* there is a new one */
void ngx_oci_job_run_soon(void);

/*
 * ngx_oci_job_parse.c: what a manifest names, as ngx_oci_pieces();
 * takes the pull's body; platforms stay until done(), which follows from the
 * event loop, and what that is given is gone after it.  NGX_ERROR: no memory.
 */

typedef struct {
    ngx_uint_t                  kind;       /* ngx_oci_piece_e */
    off_t                       size;
    uint32_t                    hash;
    size_t                      len;
    u_char                      digest[NGX_OCI_DIGEST_LEN];
} ngx_oci_job_found_t;

typedef struct ngx_oci_job_parse_s  ngx_oci_job_parse_t;

struct ngx_oci_job_parse_s {
    ngx_int_t                   rc;
    const char                 *error;
    ngx_oci_job_found_t        *found;
    ngx_uint_t                  n;          /* of them */

    /* its own */
    ngx_thread_task_t           thread;
    char                       *text;
    size_t                      size;
    ngx_str_t                  *platforms;
    ngx_uint_t                  max;
    ngx_uint_t                  room;
    void                      (*done)(ngx_oci_job_parse_t *parse, void *data,
                                    ngx_uint_t i);
    void                       *data;
    ngx_uint_t                  i;
};

ngx_int_t ngx_oci_job_parse(ngx_oci_pull_t *pull, ngx_str_t *platforms,
    ngx_uint_t max,
    void (*done)(ngx_oci_job_parse_t *parse, void *data, ngx_uint_t i),
    void *data, ngx_uint_t i);

/* ngx_oci_hook.c: a directive, its offset is one of these */

typedef enum {
    NGX_OCI_HOOK_PREHEAT = 0,
    NGX_OCI_HOOK_WEBHOOK
} ngx_oci_hook_e;

/* of oci_preheat's peers */

typedef struct {
    ngx_str_t                   urls;
    ngx_array_t                *secrets;    /* of ngx_str_t; NULL: none */
    ngx_str_t                   trusted;    /* "": what the system trusts */
} ngx_oci_hook_far_t;


char *ngx_oci_hook_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* of a location that has one of its own, when it is known whether a policy
   decides there.  NGX_OK, or NGX_ERROR, which was logged */
ngx_int_t ngx_oci_hook_check(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf);
/* ngx_oci_hook_peers.c */
char *ngx_oci_hook_peers(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_oci_hook_far_t *far);

/* ngx_oci_hook.c */
ngx_int_t ngx_oci_hook_handler(ngx_http_request_t *r);
/* a file's lines, of which there is one at least: name is made a full one */
char *ngx_oci_hook_secrets(ngx_conf_t *cf, ngx_array_t **secrets,
    ngx_str_t *name);
/* answers with a text in JSON; returns what a content handler returns */
ngx_int_t ngx_oci_hook_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *json);
ngx_int_t ngx_oci_hook_message(ngx_http_request_t *r, ngx_uint_t status,
    const char *message);
/* with a value, which it takes; NULL: there was no memory for it */
ngx_int_t ngx_oci_hook_json(ngx_http_request_t *r, ngx_uint_t status,
    json_t *value);

/* ngx_oci_hook_body.c */
void ngx_oci_hook_body_init(void);

/* ngx_oci_preheat.c */
ngx_int_t ngx_oci_preheat(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text);
ngx_int_t ngx_oci_preheat_find(ngx_oci_hook_conf_t *conf, ngx_str_t *url,
    ngx_pool_t *pool, ngx_str_t *repository, ngx_str_t *reference);
/* a repository's name at the edge, in pool.  NGX_OK; NGX_DECLINED: it has
   none; NGX_ERROR */
ngx_int_t ngx_oci_preheat_unmap(ngx_oci_registry_t *registry,
    ngx_pool_t *pool, ngx_str_t *name);

/* ngx_oci_accounting.c */
char *ngx_oci_accounting_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_oci_accounting_init(ngx_conf_t *cf);

/* ngx_oci_notify.c: a job is over; error: NULL if it ended well */
void ngx_oci_notify_job(ngx_oci_hook_conf_t *hook, ngx_str_t *repository,
    ngx_str_t *reference, const char *error);

/* ngx_oci_webhook.c */
ngx_int_t ngx_oci_webhook(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text);

/*
 * The dialects: answers to r, whose body is text.  path is what follows the
 * location's name.  What a content handler returns; NGX_DECLINED: it is not
 * of this dialect.
 */
ngx_int_t ngx_oci_dragonfly(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *path, ngx_str_t *text);
ngx_int_t ngx_oci_job_api(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *path, ngx_str_t *text);
ngx_int_t ngx_oci_kraken(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *path, ngx_str_t *text);


extern ngx_module_t  ngx_http_oci_hooks_module;


#endif /* _NGX_OCI_HOOKS_H_INCLUDED_ */
