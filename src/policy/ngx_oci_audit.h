
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the audit log share: the places that it is written to,
 * and what goes on there.
 */


#ifndef _NGX_OCI_AUDIT_H_INCLUDED_
#define _NGX_OCI_AUDIT_H_INCLUDED_


#include "ngx_oci_policy.h"
#include "ngx_oci_audit_chain.h"

#include <ngx_syslog.h>


#define NGX_OCI_AUDIT_SLOTS   128       /* workers that write a chained log at
                                           once, those of before a reload
                                           included */
#define NGX_OCI_AUDIT_FIELDS  5120      /* bytes of a line without what every
                                           line begins with */
#define NGX_OCI_AUDIT_NODE    128


/*
 * In shared memory: how far a worker's chain is, for whoever finds that it
 * died.  Only the worker writes it, until it is dead.
 */

typedef struct {
    ngx_oci_audit_chain_t   chain;
    u_char                  file[NGX_OCI_AUDIT_ID];
} ngx_oci_audit_at_t;


typedef struct {
    ngx_pid_t               pid;        /* 0: free; under the mutex */
    ngx_uint_t              now;        /* at[now] is how far it is, the other
                                           one may be written in part */
    ngx_oci_audit_at_t      at[2];
    size_t                  next_len;   /* of a line that is being written, 0:
                                           none */
    u_char                  next_hash[NGX_OCI_AUDIT_HASH];
    u_char                  next[NGX_OCI_AUDIT_LINE];   /* if it fits */
} ngx_oci_audit_slot_t;


/* the last knot */

typedef struct {
    uint64_t                link;
    u_char                  hash[NGX_OCI_AUDIT_HASH];
    u_char                  file[NGX_OCI_AUDIT_ID];
} ngx_oci_audit_last_t;


/* in shared memory, of a chained log; under the zone's mutex */

typedef struct {
    u_char                  spine[NGX_OCI_AUDIT_ID];
    ngx_uint_t              now;        /* as of a slot */
    ngx_oci_audit_last_t    last[2];

    u_char                  file[NGX_OCI_AUDIT_ID]; /* the newest one */
    dev_t                   dev;
    ino_t                   ino;

    ngx_uint_t              headless;   /* it has no header */
    ngx_uint_t              restart;    /* nothing was written yet */
    ngx_uint_t              torn;       /* it may not end with a newline; any
                                           worker, without the mutex */
    ngx_oci_audit_slot_t    slots[NGX_OCI_AUDIT_SLOTS];
} ngx_oci_audit_sh_t;


/* a place that is written to; lives as long as the cycle */

typedef struct {
    ngx_str_t               name;       /* as it is configured */
    ngx_open_file_t        *file;       /* NULL: syslog */
    ngx_syslog_peer_t      *syslog;
    ngx_str_t               key_file;
    EVP_PKEY               *key;        /* freed with the cycle's pool */
    u_char                  key_id[NGX_OCI_AUDIT_ID];
    ngx_shm_zone_t         *zone;
    ngx_slab_pool_t        *shpool;
    ngx_oci_audit_sh_t     *sh;
    unsigned                chained:1;

    /* of a worker */
    ngx_oci_audit_chain_t   chain;
    ngx_oci_audit_slot_t   *slot;       /* NULL: none was free */
    u_char                  file_id[NGX_OCI_AUDIT_ID];  /* of what it writes */
    uint64_t                said;       /* seq of the last record */
    ngx_uint_t              since;      /* lines after the last knot */
    ngx_event_t             timer;      /* for the next one */
    uint64_t                lost;       /* lines since a write failed */
    ngx_err_t               err;
    ngx_msec_t              again;      /* with ntorn: not before that */
    u_char                  torn[NGX_OCI_AUDIT_TORN][NGX_OCI_AUDIT_HASH];
    ngx_uint_t              ntorn;
    unsigned                started:1;  /* the chain has lines */
    unsigned                opened:1;   /* and in this file */
    unsigned                failed:1;
    unsigned                unended:1;  /* the last write was cut short */
} ngx_oci_audit_log_t;


struct ngx_oci_audit_main_conf_s {
    ngx_array_t             logs;       /* of ngx_oci_audit_log_t * */
};


typedef struct {
    ngx_oci_audit_log_t    *log;        /* NULL: off */
    ngx_flag_t              block;
} ngx_oci_audit_loc_conf_t;


/*
 * What goes on: requests of one caller for one thing, of which the first one
 * was recorded.  Owner: the worker's table; with single the request.
 */

typedef struct {
    ngx_rbtree_node_t       node;
    u_char                  key[16];
    ngx_queue_t             queue;      /* single, or while nothing is under
                                           way */
    ngx_oci_audit_log_t    *log;
    uint64_t                seq;        /* of the record, 0: it is lost */
    time_t                  sec;        /* when the first one came */
    ngx_uint_t              msec;
    ngx_msec_t              last;
    ngx_uint_t              active;     /* requests under way */
    ngx_uint_t              requests;
    ngx_uint_t              aborted;    /* of these, before their end */
    ngx_uint_t              failed;     /* answered with 5xx */
    uint64_t                bytes;      /* of bodies sent */
    ngx_uint_t              status;     /* of the last one, */
    ngx_msec_t              latency;
    const char             *cache;
    const char             *verify;
    unsigned                single:1;
    unsigned                denied:1;
    unsigned                revoked:1;  /* the policy cut one off */
    size_t                  len;        /* members that tell it from others */
    u_char                  data[1];
} ngx_oci_audit_event_t;


/* of a request; in its pool */

typedef struct {
    ngx_oci_audit_event_t  *event;      /* NULL: it is over */
    unsigned                blocked:1;  /* it was refused, as no record can be
                                           written */
} ngx_oci_audit_ctx_t;


/* what a record is made from */

typedef struct {
    ngx_http_request_t     *request;
    u_char                  key[16];
    ngx_oci_audit_out_t     who;        /* members of all its records */
    ngx_oci_audit_out_t     what;       /* and of the first one */
    ngx_uint_t              denied;
    ngx_uint_t              single;
    u_char                  buf[2][NGX_OCI_AUDIT_FIELDS / 2];
} ngx_oci_audit_record_t;


/* ngx_oci_audit_conf.c */
void *ngx_oci_audit_create_loc_conf(ngx_conf_t *cf);
char *ngx_oci_audit_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);
char *ngx_oci_audit_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_oci_audit_create(ngx_conf_t *cf,
    ngx_oci_policy_main_conf_t *pmcf);

/* ngx_oci_audit.c */
ngx_int_t ngx_oci_audit_install(ngx_conf_t *cf,
    ngx_oci_audit_main_conf_t *amcf);
ngx_int_t ngx_oci_audit_init_process(ngx_cycle_t *cycle,
    ngx_oci_audit_main_conf_t *amcf);
void ngx_oci_audit_exit_process(ngx_oci_audit_main_conf_t *amcf);

/*
 * ngx_oci_audit_record.c: what a request's records say; record_more() adds
 * what only the first one has.
 */
void ngx_oci_audit_record(ngx_http_request_t *r, ngx_oci_audit_log_t *log,
    ngx_oci_audit_record_t *rec);
void ngx_oci_audit_record_more(ngx_oci_audit_record_t *rec);
ngx_uint_t ngx_oci_audit_denied(ngx_http_request_t *r);
const char *ngx_oci_audit_cache(ngx_http_request_t *r);
const char *ngx_oci_audit_verify(ngx_http_request_t *r);
ngx_uint_t ngx_oci_audit_status(ngx_http_request_t *r);
ngx_msec_t ngx_oci_audit_latency(ngx_http_request_t *r);

/*
 * ngx_oci_audit_table.c.  enter(): the event that a request belongs to, whose
 * record was written, or is lost; NULL: no memory.
 */
ngx_int_t ngx_oci_audit_table_init(ngx_cycle_t *cycle);
ngx_oci_audit_event_t *ngx_oci_audit_enter(ngx_oci_audit_log_t *log,
    ngx_oci_audit_record_t *rec);
void ngx_oci_audit_leave(ngx_oci_audit_event_t *e);
/* all of them end, the worker does too */
void ngx_oci_audit_leave_all(void);

/*
 * ngx_oci_audit_log.c.  write(): a line of the members, NGX_OK; NGX_ERROR: it
 * is lost.  miss(): one is, as there is no memory.  recover(): tries it again
 * where that failed, NGX_OK or NGX_ERROR.
 */
void ngx_oci_audit_log_init(ngx_oci_audit_log_t *log, ngx_cycle_t *cycle);
ngx_int_t ngx_oci_audit_write(ngx_oci_audit_log_t *log, const char *event,
    ngx_str_t *members, ngx_uint_t n);
void ngx_oci_audit_miss(ngx_oci_audit_log_t *log);
ngx_int_t ngx_oci_audit_recover(ngx_oci_audit_log_t *log);
void ngx_oci_audit_log_exit(ngx_oci_audit_log_t *log);
void ngx_oci_audit_flush(ngx_open_file_t *file, ngx_log_t *log);
/* a line that begins with a byte more, to be a newline if one is needed */
ngx_int_t ngx_oci_audit_emit(ngx_oci_audit_log_t *log, u_char *p,
    size_t len);
void ngx_oci_audit_head(ngx_oci_audit_log_t *log, ngx_oci_audit_out_t *out,
    const char *event);

/*
 * ngx_oci_audit_knot.c.  tie(): a knot, NGX_OK or NGX_ERROR: it could not be
 * written.  begin(): with the first line in a file.
 */
ngx_int_t ngx_oci_audit_init_zone(ngx_shm_zone_t *zone, void *data);
ngx_int_t ngx_oci_audit_knot_begin(ngx_oci_audit_log_t *log);
ngx_int_t ngx_oci_audit_knot_tie(ngx_oci_audit_log_t *log, ngx_uint_t event);
/* chains whose writers died get an end, in this one */
void ngx_oci_audit_knot_dead(ngx_oci_audit_log_t *log);
void ngx_oci_audit_knot_free(ngx_oci_audit_log_t *log);
ngx_uint_t ngx_oci_audit_knot_any_dead(ngx_oci_audit_log_t *log);


#endif /* _NGX_OCI_AUDIT_H_INCLUDED_ */
