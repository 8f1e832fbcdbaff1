
/*
 * Copyright (C) The nginx-oci authors
 *
 * A policy's document that a Redis has: what the files about it share.
 */


#ifndef _NGX_OCI_POLICY_REDIS_H_INCLUDED_
#define _NGX_OCI_POLICY_REDIS_H_INCLUDED_


#include "ngx_oci_policy.h"
#include "ngx_oci_policy_fields.h"
#include "ngx_oci_redis.h"

#include <ngx_thread_pool.h>


/* of an oci_policy{} block; lives as long as the cycle */

struct ngx_oci_policy_redis_s {
    ngx_oci_redis_conf_t        redis;
    ngx_uint_t                  used;       /* source is a Redis */
    ngx_str_t                   param;      /* that is for a Redis only, the
                                               first one */
    ngx_str_t                   prefix;
    ngx_str_t                   doc;        /* "{prefix}:doc" */
    ngx_str_t                   epoch;      /* "{prefix}:epoch" */
    ngx_str_t                   changed;    /* "{prefix}:changed" */
    u_char                      source[NGX_OCI_POLICY_DIGEST];  /* which one */
    ngx_msec_t                  poll;
    ngx_msec_t                  stale;
    ngx_str_t                   state_file; /* "": off */
    ngx_uint_t                  state_set;
    ngx_str_t                   trusted_certificate;
    ngx_str_t                   certificate;
    ngx_str_t                   certificate_key;
    ngx_str_t                   ssl_name;
    ngx_uint_t                  tls;        /* rediss:// */
    ngx_http_core_loc_conf_t   *clcf;       /* of http{}: its resolver */
    ngx_cycle_t                *cycle;
    u_char                     *file;       /* where the block stands */
    ngx_uint_t                  line;
};


/*
 * Writes the document to the state file, in threads.  Owner: the worker that
 * follows, as long as it lives.
 */

typedef struct {
    ngx_oci_policy_conf_t      *pcf;
    ngx_log_t                  *log;
    ngx_thread_task_t           task;
    ngx_event_t                 hold;       /* an exiting worker waits */
    ngx_connection_t            dummy;
    ngx_uint_t                  busy;       /* the thread has what follows */

    char                       *text;       /* NULL: the time only */
    size_t                      len;
    u_char                      digest[NGX_OCI_POLICY_DIGEST];
    uint64_t                    epoch;
    time_t                      time;       /* it was current at */
    ngx_int_t                   rc;
    ngx_err_t                   err;
    const char                 *what;       /* failed */

    char                       *next;       /* to be written after that */
    size_t                      next_len;
    u_char                      next_digest[NGX_OCI_POLICY_DIGEST];
    uint64_t                    next_epoch;
    time_t                      next_time;

    ngx_uint_t                  lost;       /* it has to be written anew */
    ngx_uint_t                  failing;    /* that was said */
    ngx_uint_t                  swept;      /* what was left was looked for */
} ngx_oci_keep_t;


typedef enum {
    NGX_OCI_FOLLOW_IDLE = 0,
    NGX_OCI_FOLLOW_LOADING,
    NGX_OCI_FOLLOW_FETCHING,
    NGX_OCI_FOLLOW_SETTLING                 /* waits for the channel */
} ngx_oci_follow_step_e;


/*
 * One worker follows a Redis.  Owner: the worker, for as long as it lives;
 * fields, and what stands under it, are the thread's while busy.
 *
 * What the fields are known to be: as they all were when the counter was
 * epoch, which was asked at a time.
 */

typedef struct {
    ngx_oci_policy_conf_t      *pcf;
    ngx_log_t                  *log;
    ngx_oci_redis_t             commands;
    ngx_oci_redis_t             channel;
    ngx_event_t                 commands_retry;
    ngx_event_t                 channel_retry;
    ngx_uint_t                  commands_tries;
    ngx_uint_t                  channel_tries;
    ngx_event_t                 poll;
    ngx_event_t                 hold;
    ngx_connection_t            dummy;

    char                        why[64];    /* it is down */
    ngx_msec_t                  why_at;

    ngx_uint_t                  step;       /* ngx_oci_follow_step_e */
    ngx_uint_t                  subscribed; /* the channel is */
    ngx_uint_t                  pinged;     /* it has to answer that */
    ngx_msec_t                  ping;       /* when */
    ngx_uint_t                  polled;     /* an answer is awaited */
    int64_t                     polled_at;

    ngx_oci_fields_t           *loading;    /* LOADING: what came so far */
    uint64_t                    loading_epoch;
    int64_t                     loading_at;
    ngx_uint_t                  loads;      /* in a row, in vain */

    ngx_oci_fields_t           *dirty;      /* names of changed ones */
    ngx_oci_fields_t           *fetching;   /* FETCHING: such */
    ngx_oci_fields_name_t      *names;      /* of fetching, as asked for */
    uint64_t                    fetching_epoch;
    int64_t                     fetching_at;
    int64_t                     settling_since; /* 0: not */
    ngx_uint_t                  messages;   /* since epoch */
    ngx_msec_t                  retry;      /* what was refused, at; 0: not */
    ngx_uint_t                  retry_load; /* from the beginning */

    uint64_t                    epoch;      /* of the fields */
    int64_t                     at;
    unsigned                    loaded:1;   /* by this connection */
    unsigned                    reload:1;   /* the fields don't count */
    unsigned                    fresh:1;    /* the fields are to be compiled */
    unsigned                    current:1;  /* they are what is in force */
    unsigned                    busy:1;
    unsigned                    down:1;     /* that was said */
    unsigned                    deaf:1;     /* likewise of the channel */
    unsigned                    over:1;     /* likewise: past stale */
    unsigned                    stopped:1;

    /* of the thread */
    ngx_oci_fields_t           *fields;
    ngx_oci_fields_t           *old;        /* to be freed there */
    ngx_thread_task_t           task;
    char                       *text;
    size_t                      len;
    ngx_oci_policy_text_t       compiled;
    ngx_int_t                   rc;
    ngx_uint_t                  outcome;    /* ngx_oci_follow_outcome_e */
    uint64_t                    before;     /* epoch of what is in force */
    ngx_uint_t                  count;
    char                        said[sizeof(((ngx_oci_policy_text_t *) 0)
                                            ->error)];

    int64_t                     kept_at;    /* the state file has that time */
    ngx_oci_keep_t              keep;
} ngx_oci_follow_t;


typedef enum {
    NGX_OCI_FOLLOW_TAKEN = 0,
    NGX_OCI_FOLLOW_SAME,                    /* it is in force already */
    NGX_OCI_FOLLOW_BROKEN,
    NGX_OCI_FOLLOW_BACK,                    /* its epoch is lower */
    NGX_OCI_FOLLOW_SILENT,                  /* it has changed, its epoch has
                                               not */
    NGX_OCI_FOLLOW_NONE,                    /* it has no epoch */
    NGX_OCI_FOLLOW_LARGE_DOC,
    NGX_OCI_FOLLOW_AGAIN                    /* somebody else came between */
} ngx_oci_follow_outcome_e;


#define ngx_oci_follow_now()  ((int64_t) ngx_current_msec)


/* ngx_oci_policy_redis.c: goes on with what is to be done next */
void ngx_oci_follow_next(ngx_oci_follow_t *fw);

/* ngx_oci_policy_redis_load.c */
void ngx_oci_follow_load(ngx_oci_follow_t *fw);
void ngx_oci_follow_fetch(ngx_oci_follow_t *fw);
void ngx_oci_follow_settle(ngx_oci_follow_t *fw);
void ngx_oci_follow_settled(ngx_oci_follow_t *fw);
/* what was under way is nothing any more */
void ngx_oci_follow_drop(ngx_oci_follow_t *fw);

/* ngx_oci_policy_redis_doc.c */
void ngx_oci_follow_doc_init(ngx_oci_follow_t *fw);
/* NGX_ERROR: no thread */
ngx_int_t ngx_oci_follow_compile(ngx_oci_follow_t *fw);
/* it is refused, which is said once, and tried again: memory may be there */
void ngx_oci_follow_say(ngx_oci_follow_t *fw, const char *why);
/* the counter is what it was: what is in force is current */
void ngx_oci_follow_confirm(ngx_oci_follow_t *fw, int64_t at);

/* ngx_oci_policy_keep.c; the text is taken over */
void ngx_oci_keep_init(ngx_oci_keep_t *keep, ngx_oci_policy_conf_t *pcf,
    ngx_log_t *log);
void ngx_oci_keep_put(ngx_oci_keep_t *keep, char *text, size_t len,
    u_char *digest, uint64_t epoch, time_t t);
void ngx_oci_keep_touch(ngx_oci_keep_t *keep, u_char *digest, uint64_t epoch,
    time_t t);
void ngx_oci_keep_free(ngx_oci_keep_t *keep);


#endif /* _NGX_OCI_POLICY_REDIS_H_INCLUDED_ */
