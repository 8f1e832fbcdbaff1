
/*
 * Copyright (C) The nginx-oci authors
 *
 * What runs of a job in this worker: ngx_oci_job_run.c (its manifests and
 * blobs), ngx_oci_job_referrers.c (what refers to these) and
 * ngx_oci_job_peers.c (the same job at other edges).
 */


#ifndef _NGX_OCI_JOB_RUN_H_INCLUDED_
#define _NGX_OCI_JOB_RUN_H_INCLUDED_


#include "ngx_oci_hooks.h"
#include "ngx_oci_pieces.h"


#define NGX_OCI_JOB_PULLS    4          /* at once, of a job */
#define NGX_OCI_JOB_PIECES   8192       /* that are parts, */
#define NGX_OCI_JOB_ASIDE    4096       /* and that are not */
#define NGX_OCI_JOB_TRIES    5          /* of a piece, or a peer */
#define NGX_OCI_JOB_CHECK    300        /* ms, then a manifest is on disk, */
#define NGX_OCI_JOB_LATER    120000     /* or that long after, at most */
#define NGX_OCI_JOB_UNSTORED 2000       /* ms, the first wait for a disk; a
                                           cache leaves one that fails alone
                                           for 10 s */
#define NGX_OCI_JOB_WAIT     3600000    /* ms, what a Retry-After is heeded
                                           for */
#define NGX_OCI_JOB_PASSES   7          /* until all of it stays, */
#define NGX_OCI_JOB_LOST     2          /* in which blobs had gone again */


typedef struct ngx_oci_job_run_s  ngx_oci_job_run_t;
typedef struct ngx_oci_job_far_s  ngx_oci_job_far_t;


typedef enum {
    NGX_OCI_JOB_PART = 0,       /* of what was asked for */
    NGX_OCI_JOB_LIST,           /* of referrers, by the API: reference is the
                                   digest of what they refer to */
    NGX_OCI_JOB_TAGGED,         /* the same, or one, by a tag */
    NGX_OCI_JOB_REFERRER        /* or a blob of one */
} ngx_oci_job_role_e;


typedef struct {
    ngx_uint_t              kind;       /* ngx_oci_piece_e */
    ngx_uint_t              role;       /* ngx_oci_job_role_e */
    ngx_str_t               reference;
    off_t                   size;       /* bytes; 0: not known */
    ngx_uint_t              tries;
    ngx_msec_t              due;        /* ms; 0: at once */
    unsigned                pulled:1;   /* is being */
    unsigned                tag:1;      /* its manifest is another piece */
    unsigned                done:1;
    unsigned                missing:1;  /* with done: there is none */
    unsigned                unchecked:1;    /* with done: is it still there? */
    unsigned                hit:1;      /* it was there, on the disk */
} ngx_oci_job_piece_t;


/* one of the run's digests; in its pool */

typedef struct {
    ngx_str_node_t          node;
    ngx_uint_t              piece;
} ngx_oci_job_name_t;


typedef struct {
    ngx_oci_job_run_t      *run;
    ngx_oci_pull_t         *pull;       /* NULL: free */
    ngx_uint_t              piece;
} ngx_oci_job_pull_t;


/* Owner: the worker's queue, until nothing is active of one that ends */

struct ngx_oci_job_run_s {
    ngx_queue_t             queue;
    ngx_pool_t             *pool;
    ngx_oci_hook_conf_t    *conf;
    ngx_oci_job_task_t      task;
    ngx_array_t             pieces;     /* of ngx_oci_job_piece_t */
    ngx_rbtree_t            tree;       /* of ngx_oci_job_name_t */
    ngx_rbtree_node_t       sentinel;
    ngx_oci_job_pull_t      pulls[NGX_OCI_JOB_PULLS];
    ngx_uint_t              active;     /* pulls, exchanges, and texts that a
                                           thread has */
    ngx_uint_t              asking;     /* exchanges, of them */
    ngx_uint_t              first;      /* neither done nor checked */
    ngx_uint_t              aside;      /* pieces that are no parts */
    uint64_t                parts;      /* bytes of those that are */
    ngx_uint_t              subjects;   /* whose referrers are looked for */
    ngx_uint_t              fetched;    /* in this pass, what had not been
                                           there */
    ngx_uint_t              lost;       /* passes in which blobs had gone */
    ngx_uint_t              pass;
    ngx_oci_job_far_t      *far;        /* info.peers of them */
    ngx_oci_job_info_t      info;
    uint64_t                slice;      /* bytes; 0: not known yet */
    uint64_t                measured;   /* bytes, */
    ngx_msec_t              measured_at;    /* then; 0: never */
    ngx_uint_t              state;      /* once it ends */
    char                    left_out[NGX_OCI_JOB_ERROR];
    char                    error[NGX_OCI_JOB_ERROR];
    char                    peer_error[NGX_OCI_JOB_ERROR];
    unsigned                waiting:1;  /* for peers only */
    unsigned                losing:1;   /* in this pass blobs had gone */
    unsigned                behind:1;   /* peers would have been asked by now,
                                           if others' were not */
    unsigned                ending:1;
    unsigned                released:1; /* it is not this worker's any more */
};


/* ngx_oci_job_run.c */

/* begins what can begin; may end the run, which is gone then */
void ngx_oci_job_go(ngx_oci_job_run_t *run);
/* frees it, if it ends and nothing is active */
void ngx_oci_job_over(ngx_oci_job_run_t *run);


/* ngx_oci_job_piece.c */

/* one more piece, once.  NGX_OK; NGX_BUSY: there are too many; NGX_ERROR: no
   memory.  Pieces may be at another place then */
ngx_int_t ngx_oci_job_piece(ngx_oci_job_run_t *run, ngx_uint_t role,
    ngx_oci_job_found_t *found);
/* the same, whether there is one or not */
ngx_int_t ngx_oci_job_piece_push(ngx_oci_job_run_t *run, ngx_uint_t role,
    ngx_uint_t kind, ngx_str_t *reference, off_t size);
/* what was asked for by a tag, piece i, has this digest: its manifest is
   another piece.  The same, or NGX_DECLINED: it was asked for by its digest,
   or this is none */
ngx_int_t ngx_oci_job_tagged(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_str_t *digest);
/* what the text of piece i names.  The same, or NGX_DECLINED: it is no
   manifest, parse->error says why */
ngx_int_t ngx_oci_job_named(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_oci_job_parse_t *parse);
/* what was fetched may have taken the place of what there was before, or may
   not have come to the disk.  NGX_OK: it stays; NGX_AGAIN: all of it is looked
   at once more; NGX_DECLINED: often enough, error says why */
ngx_int_t ngx_oci_job_check(ngx_oci_job_run_t *run, const char **error);
/* with unchecked: is it there, as far as can be told without the registry? */
ngx_uint_t ngx_oci_job_kept(ngx_oci_job_piece_t *piece);
/* have its parts more bytes than can be stored, whatever is there now? */
ngx_uint_t ngx_oci_job_too_large(ngx_oci_job_run_t *run);
/* how many can be: the largest cache's */
uint64_t ngx_oci_job_room(void);
/* in ms, from now; 0: nothing that counts was said */
ngx_msec_t ngx_oci_job_retry_after(ngx_str_t *value);


/* ngx_oci_job_referrers.c */

/* of a manifest of that digest, which is a part: looks for what refers to it.
   NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_job_referrers(ngx_oci_job_run_t *run, ngx_str_t *digest);
/* a registry answered so for piece i: NGX_OK: there is none of it, and it is
   no failure; NGX_DECLINED; NGX_ERROR: no memory */
ngx_int_t ngx_oci_job_unreferred(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_uint_t status);
/* what the text of piece i names: NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_job_referred(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_oci_job_parse_t *parse);


/* ngx_oci_job_peers.c */

/* NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_job_peers_init(ngx_oci_job_run_t *run);
/* begins what can begin; how many peers have not ended */
ngx_uint_t ngx_oci_job_peers_go(ngx_oci_job_run_t *run);
/* of all runs, the first one that could not ask is the first to ask next */
void ngx_oci_job_peers_turn(ngx_queue_t *runs);
/* all is warm here: peers that were long ago are told once more.  How many */
ngx_uint_t ngx_oci_job_peers_again(ngx_oci_job_run_t *run);
void ngx_oci_job_peers_abort(ngx_oci_job_run_t *run);


#endif /* _NGX_OCI_JOB_RUN_H_INCLUDED_ */
