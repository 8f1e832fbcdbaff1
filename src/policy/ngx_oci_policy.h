
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the policy module share.
 */


#ifndef _NGX_OCI_POLICY_H_INCLUDED_
#define _NGX_OCI_POLICY_H_INCLUDED_


#define OPENSSL_SUPPRESS_DEPRECATED     /* hashes whose state is copied */

#include "ngx_oci.h"
#include "ngx_oci_phc.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_rules.h"
#include "ngx_oci_jwt.h"
#include "ngx_oci_scope.h"

#include <openssl/sha.h>


#define NGX_OCI_POLICY_MAC     32
#define NGX_OCI_POLICY_KEY     32
#define NGX_OCI_POLICY_DIGEST  32

#define NGX_OCI_POLICY_WAYS    4    /* places of one outcome */


/* what a token counts for */

typedef enum {
    NGX_OCI_GRANTS_UNSET = 0,
    NGX_OCI_GRANTS_STORE,           /* it names the subject */
    NGX_OCI_GRANTS_TOKEN,           /* its access decides */
    NGX_OCI_GRANTS_BOTH
} ngx_oci_grants_e;


/* a secret that was checked */

typedef struct {
    u_char                      mac[NGX_OCI_POLICY_MAC];
    uint64_t                    expires;    /* ngx_current_msec; 0: free */
} ngx_oci_outcome_t;


/*
 * In shared memory, for as long as the zone.  Everything but what is said to
 * be constant is read and written under the zone's mutex only.
 *
 * There are two areas for documents.  The active one is only read, the other
 * one is written in small pieces, by whoever took the place last: the one
 * before sees that, and stops.  So nobody is waited for, whoever dies leaves
 * nothing behind, and what a reader has is never written to.
 */

typedef struct {
    u_char                      key[NGX_OCI_POLICY_KEY];    /* constant */
    u_char                     *area[2];                    /* constant */
    size_t                      area_size;                  /* constant */
    ngx_oci_outcome_t          *good;                       /* constant */
    ngx_oci_outcome_t          *bad;                        /* constant */
    ngx_uint_t                  ngood;                      /* constant */
    ngx_uint_t                  nbad;                       /* constant */

    ngx_uint_t                  active;
    uint64_t                    generation; /* of documents; 0: none yet */
    uint64_t                    writer;     /* who took the place last */
    u_char                      digest[NGX_OCI_POLICY_DIGEST];  /* of the
                                               active document's text */
    u_char                      source[NGX_OCI_POLICY_DIGEST];  /* the Redis
                                               that it is from; 0: a file */
    uint64_t                    epoch;      /* there; 0: not known */
    int64_t                     current;    /* ngx_current_msec: the document
                                               was known to be what its source
                                               has */
} ngx_oci_policy_sh_t;


typedef struct ngx_oci_judged_sh_s  ngx_oci_judged_sh_t;


typedef struct {
    dev_t                       dev;
    ino_t                       ino;
    off_t                       size;
    struct timespec             mtime;
    struct timespec             ctime;
} ngx_oci_policy_stat_t;


/* a document that was read; doc is the owner's, to be freed with free() */

typedef struct {
    ngx_oci_rbac_t             *doc;
    u_char                      digest[NGX_OCI_POLICY_DIGEST];
    ngx_oci_policy_stat_t       stat;
    u_char                     *source;     /* a Redis; NULL: a file */
    uint64_t                    epoch;      /* there */
    int64_t                     current;    /* as in the zone */
    struct json_t              *json;       /* the owner's, too, to be
                                               released by parsed() */
    char                        error[NGX_OCI_POLICY_ERROR + 128];
} ngx_oci_policy_text_t;


/* ngx_oci_policy_redis.h's */

typedef struct ngx_oci_policy_redis_s  ngx_oci_policy_redis_t;


/* an oci_policy{} block; lives as long as the cycle */

typedef struct ngx_oci_recheck_s  ngx_oci_recheck_t;

typedef struct {
    ngx_oci_policy_t            policy;     /* what the core knows */
    ngx_str_t                   file;
    ngx_str_t                   challenge;
    ngx_shm_zone_t             *zone;
    ngx_slab_pool_t            *shpool;
    ngx_oci_policy_sh_t        *sh;
    ngx_shm_zone_t             *judged_zone;    /* see ngx_oci_judged.h */
    ngx_oci_judged_sh_t        *judged;
    ngx_oci_policy_text_t       first;      /* read with the configuration;
                                               .doc is NULL once it is in the
                                               zone */
    SHA256_CTX                  inner;      /* of the zone's key */
    SHA256_CTX                  outer;
    time_t                      valid;
    ngx_msec_t                  recheck_interval;   /* of running transfers */
    ngx_uint_t                  certificate_subject;    /* what of it */
    ngx_http_complex_value_t   *certificate_value;      /* NULL: that */
    unsigned                    basic:1;
    unsigned                    anonymous:1;
    unsigned                    certificate:1;
    unsigned                    certificate_subject_set:1;
    unsigned                    bearer:1;
    unsigned                    foreign:1;  /* there are keys of others */

    /* of tokens */
    ngx_oci_jwt_keys_t         *keys;       /* also its own; NULL: no bearer */
    ngx_array_t                *issuers;    /* of ngx_str_t, or NULL */
    ngx_array_t                *audiences;  /* likewise */
    ngx_uint_t                  grants;     /* ngx_oci_grants_e */
    u_char                      tokens[NGX_OCI_POLICY_DIGEST];  /* of keys,
                                               issuers and audiences */

    /* of its own tokens */
    ngx_array_t                *signing;    /* of ngx_oci_jwt_key_t, the first
                                               signs; NULL: it issues none */
    ngx_str_t                   service;    /* their audience */
    ngx_str_t                   realm;      /* of challenges; "": the server's
                                               oci_token location */

    /* of a worker */
    ngx_thread_pool_t          *threads;    /* for the file */
    void                       *watch;      /* ngx_oci_policy_watch.c's, or
                                               ngx_oci_policy_redis.c's */
    ngx_oci_policy_redis_t     *redis;      /* constant */
    ngx_oci_recheck_t          *recheck;    /* ngx_oci_recheck.c's */
} ngx_oci_policy_conf_t;


/* can a client answer a 401? */

#define ngx_oci_policy_challenges(pcf)  ((pcf)->basic || (pcf)->bearer)


typedef struct ngx_oci_audit_main_conf_s  ngx_oci_audit_main_conf_t;

typedef struct {
    ngx_array_t                 policies;   /* of ngx_oci_policy_conf_t * */
    ngx_oci_audit_main_conf_t  *audit;      /* ngx_oci_audit.h */
} ngx_oci_policy_main_conf_t;


typedef struct ngx_oci_check_s  ngx_oci_check_t;
typedef struct ngx_oci_known_s  ngx_oci_known_t;

typedef enum {
    NGX_OCI_CHECKED_NOT = 0,
    NGX_OCI_CHECKED_GOOD,
    NGX_OCI_CHECKED_BAD,
    NGX_OCI_CHECKED_BUSY,
    NGX_OCI_CHECKED_FAILED
} ngx_oci_checked_e;


/* the request context, r->ctx of ngx_http_oci_policy_module */

typedef struct {
    ngx_http_request_t         *request;
    ngx_oci_policy_conf_t      *policy;
    ngx_str_t                   subject;    /* who it is, known by a secret */
    ngx_str_t                   rule;
    ngx_str_t                   source;     /* of the decision */
    const char                 *decision;   /* of $oci_decision; NULL: none
                                               yet */
    const char                 *reason;     /* of a denial, or NULL */
    const char                 *how;        /* what showed who it is: "basic",
                                               "bearer", "certificate", NULL */
    uint64_t                    epoch;      /* of the document that decided:
                                               Redis', or the generation */
    const char                 *message;    /* what a client is told, or NULL:
                                               the code's own text */
    ngx_uint_t                  judged;     /* by its project's rules */
    struct ngx_oci_caller_s    *caller;     /* whom it was allowed, or NULL;
                                               ngx_oci_recheck.c's */

    ngx_queue_t                 queue;      /* of the check, with waiting */
    ngx_uint_t                  checked;    /* ..._checked_e, of this: */
    u_char                      mac[NGX_OCI_POLICY_MAC];
    uint64_t                    generation; /* of the document with that
                                               secret, */
    uint32_t                    place;      /* of whose it is, there; 0: it
                                               has no such subject */
    unsigned                    waiting:1;
    unsigned                    dry_run:1;

    const char                 *error;      /* of a challenge, or NULL */
    const char                 *why;        /* a token is wrong, for the log */
    unsigned                    by_token:1; /* decided, not by the document */
    void                      (*resume)(ngx_http_request_t *r);
                                            /* after a check; NULL: the phases
                                               go on */
    void                       *issue;      /* ngx_oci_issue.c's */
} ngx_oci_policy_ctx_t;


/* who asks, and how that is known */

typedef enum {
    NGX_OCI_CALLER_NOBODY = 0,
    NGX_OCI_CALLER_BASIC,
    NGX_OCI_CALLER_CERTIFICATE,
    NGX_OCI_CALLER_BEARER
} ngx_oci_caller_e;


typedef struct ngx_oci_caller_s {
    ngx_uint_t                  how;        /* ngx_oci_caller_e */
    ngx_str_t                   subject;    /* "": nobody; in the request's
                                               pool */
    ngx_oci_jwt_t               jwt;        /* of a token; to be freed by
                                               ngx_oci_jwt_free() */
    ngx_uint_t                  pull_only;  /* another's token, of what a pull
                                               is about: it can't push there */
    ngx_uint_t                  lacking;    /* the token, of what it is about;
                                               of a decision */
    ngx_oci_known_t            *known;      /* ngx_oci_known.c's, or NULL; it
                                               may be another one's as soon as
                                               others have their turn */
} ngx_oci_caller_t;


typedef struct {
    ngx_uint_t                  status;     /* 0: allowed */
    ngx_uint_t                  code;       /* ngx_oci_error_e */
    const char                 *reason;     /* for the log */
    const char                 *error;      /* for the challenge, or NULL */
    ngx_uint_t                  insufficient;   /* a token lacks it */
} ngx_oci_verdict_t;


/* ngx_oci_policy_conf.c */
char *ngx_oci_policy_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * ngx_oci_policy_store.c.  read(): NGX_OK; NGX_DECLINED: it is the text of
 * that digest; NGX_ERROR, with error.  May run in a thread, as publish():
 * NGX_OK; NGX_DECLINED: there is no room; NGX_ABORT: another one came.
 */
ngx_int_t ngx_oci_policy_init_zone(ngx_shm_zone_t *zone, void *data);
ngx_int_t ngx_oci_policy_stat(const char *file, ngx_oci_policy_stat_t *st);
ngx_int_t ngx_oci_policy_read(const char *file, u_char *digest,
    ngx_oci_policy_text_t *text);
/*
 * NGX_OK or NGX_ERROR, as read(), of a text whose digest is known.  parsed(),
 * which follows both, may take long, and be called twice.
 */
ngx_int_t ngx_oci_policy_parse(const char *p, size_t len,
    ngx_oci_policy_text_t *text);
void ngx_oci_policy_parsed(ngx_oci_policy_text_t *text);
ngx_int_t ngx_oci_policy_publish(ngx_oci_policy_conf_t *pcf,
    ngx_oci_policy_text_t *text);
/* the active document; the caller holds the mutex.  NULL: none */
ngx_oci_rbac_t *ngx_oci_policy_doc(ngx_oci_policy_conf_t *pcf);

/* ngx_oci_policy_watch.c: one worker looks after the file */
ngx_int_t ngx_oci_policy_watch(ngx_oci_policy_conf_t *pcf,
    ngx_cycle_t *cycle);

/*
 * ngx_oci_policy_redis_conf.c: parameters of the block that are for a Redis.
 * source(): NGX_CONF_ERROR was said.
 */
ngx_int_t ngx_oci_policy_redis_create(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf);
char *ngx_oci_policy_redis_source(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value);
char *ngx_oci_policy_redis_param(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_policy_redis_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf);
ngx_uint_t ngx_oci_policy_redis_used(ngx_oci_policy_conf_t *pcf);
/* of policy n, after those before it */
ngx_int_t ngx_oci_policy_redis_check(ngx_conf_t *cf,
    ngx_oci_policy_conf_t **policy, ngx_uint_t n);
ngx_int_t ngx_oci_policy_redis_directory(ngx_oci_policy_conf_t *pcf,
    ngx_cycle_t *cycle);

/* ngx_oci_policy_redis.c: one worker follows it; unfollow() when it ends */
ngx_int_t ngx_oci_policy_follow(ngx_oci_policy_conf_t *pcf,
    ngx_cycle_t *cycle);
void ngx_oci_policy_unfollow(ngx_oci_policy_conf_t *pcf);

/* ngx_oci_policy_keep.c: the state file's document, if there is one */
void ngx_oci_policy_keep_read(ngx_oci_policy_conf_t *pcf, ngx_log_t *log);

/*
 * ngx_oci_policy_age.c.  own(): the zone is of this source now; age(), in ms,
 * and -1: no document; date(): the document in force is text's, as of then, or
 * NGX_DECLINED.
 *
 * current(): does the document still count?  NGX_DECLINED: it is past
 * "stale", or not there: nobody gets anything.  *source is set to
 * $oci_decision_source.
 */
void ngx_oci_policy_own(ngx_oci_policy_conf_t *pcf);
ngx_int_t ngx_oci_policy_date(ngx_oci_policy_conf_t *pcf,
    ngx_oci_policy_text_t *text);
int64_t ngx_oci_policy_age(ngx_oci_policy_conf_t *pcf);
int64_t ngx_oci_policy_status_age(ngx_oci_policy_t *policy);
ngx_int_t ngx_oci_policy_current(ngx_oci_policy_conf_t *pcf,
    ngx_str_t *source);

/*
 * ngx_oci_remember.c: outcomes of checks, of all workers.  find(): one of
 * ..._checked_e; the caller holds the mutex, not so for put().
 */
ngx_uint_t ngx_oci_remember_find(ngx_oci_policy_conf_t *pcf, u_char *mac);
void ngx_oci_remember_put(ngx_oci_policy_conf_t *pcf, u_char *mac,
    ngx_uint_t good);
void ngx_oci_remember_key(ngx_oci_policy_conf_t *pcf);
void ngx_oci_remember_mac(ngx_oci_policy_conf_t *pcf, ngx_str_t *user,
    ngx_str_t *secret, ngx_str_t *phc, u_char *mac);

/*
 * ngx_oci_identity.c.  basic(): NGX_OK, user and secret are in the request's
 * pool, to be wiped; NGX_DECLINED: there are none, or empty ones; NGX_ERROR:
 * there is something else.
 *
 * check(): NGX_AGAIN, the phases, or ctx->resume, go on from the event loop
 * with ctx->checked;
 * NGX_BUSY: too many wait; NGX_ERROR.
 */
ngx_int_t ngx_oci_identity_basic(ngx_http_request_t *r, ngx_str_t *user,
    ngx_str_t *secret);
ngx_int_t ngx_oci_identity_check(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_phc_t *phc, ngx_str_t *secret);
ngx_int_t ngx_oci_identity_init_module(ngx_cycle_t *cycle);
void ngx_oci_identity_init_process(ngx_cycle_t *cycle);

/* ngx_oci_access_handler.c; ctx() makes the context, NULL: no memory */
ngx_int_t ngx_oci_policy_handler(ngx_http_request_t *r);
ngx_oci_policy_ctx_t *ngx_oci_policy_ctx(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf);

/*
 * ngx_oci_access_identify.c.  NGX_OK: caller is who asks; NGX_DECLINED: it is
 * not who it says; else as ngx_oci_identity_check().  secret(): is it that of
 * a subject?
 */
ngx_int_t ngx_oci_policy_secret(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_str_t *user, ngx_str_t *secret);
ngx_int_t ngx_oci_policy_identify(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_caller_t *caller);

/*
 * ngx_oci_certificate.c.  caller stays nobody where there is no certificate
 * that counts.  NGX_OK or NGX_ERROR.  conf() is of "certificate_subject";
 * check(): NULL, or why nobody could come in by the policy in the server of
 * cf.
 */
char *ngx_oci_certificate_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
#if (NGX_HTTP_SSL)
ngx_int_t ngx_oci_certificate_init_module(ngx_cycle_t *cycle);
const char *ngx_oci_certificate_check(ngx_conf_t *cf,
    ngx_oci_policy_t *policy);
ngx_int_t ngx_oci_certificate(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller);
#else
#define ngx_oci_certificate(r, pcf, caller)  NGX_OK
#endif

/*
 * ngx_oci_known.c.  mac(): of the request's Authorization; NGX_DECLINED: none
 * is to be kept.  find(): NGX_OK, caller is who it is of; NGX_DECLINED: not
 * known; NGX_ERROR.  keep(): whom ngx_oci_policy_secret() has let in.
 *
 * The others are of a decision, by the document in force; the caller holds the
 * mutex.  subject(): NGX_DECLINED: another document knew them.  rule(): by
 * which they may do this, or NULL: it has to be found.
 */
ngx_int_t ngx_oci_known_mac(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf, u_char *mac);
ngx_int_t ngx_oci_known_find(ngx_http_request_t *r, u_char *mac,
    ngx_oci_caller_t *caller);
void ngx_oci_known_keep(ngx_oci_policy_ctx_t *ctx, u_char *mac,
    ngx_oci_caller_t *caller);
ngx_int_t ngx_oci_known_subject(ngx_oci_known_t *known,
    ngx_oci_policy_conf_t *pcf, ngx_oci_rbac_subject_t **subject);
ngx_oci_rbac_rule_t *ngx_oci_known_rule(ngx_oci_known_t *known,
    ngx_oci_rbac_t *doc, ngx_str_t *repository, ngx_uint_t action);
void ngx_oci_known_allowed(ngx_oci_known_t *known, ngx_oci_rbac_t *doc,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t *rule);

/*
 * ngx_oci_access_decide.c.  Under the mutex; nothing in there takes long.
 * NGX_ERROR: no memory, or no document; NGX_AGAIN: who the caller is has to be
 * found out anew, by the document that is in force now.
 */
ngx_int_t ngx_oci_policy_decide(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx,
    ngx_oci_caller_t *caller, ngx_oci_verdict_t *verdict);

/*
 * ngx_oci_recheck.c: a transfer that was allowed is decided again every
 * pcf->recheck_interval until the request ends.  conf() is of "recheck".
 * add() takes over caller, whatever it returns.
 */
char *ngx_oci_recheck_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
ngx_int_t ngx_oci_recheck_init(ngx_oci_policy_conf_t *pcf,
    ngx_cycle_t *cycle);
ngx_int_t ngx_oci_recheck_add(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_caller_t *caller);

/*
 * ngx_oci_access_duty.c: locations that are for a right of their own.  duty():
 * 1: it is one; then the route is none of the API's, with the repository that
 * the request is about, if its URI tells.  action(): of any request.
 * may_do(): of ngx_oci_policy_t.
 */
ngx_uint_t ngx_oci_policy_duty(ngx_http_request_t *r, ngx_oci_ctx_t *octx);
ngx_uint_t ngx_oci_policy_action(ngx_http_request_t *r, ngx_oci_ctx_t *octx);
ngx_int_t ngx_oci_policy_may_do(ngx_http_request_t *r,
    ngx_oci_policy_t *policy, ngx_str_t *repository, ngx_uint_t quiet);

/* is it the catalog that a request is for, in a form that all read alike? */
ngx_uint_t ngx_oci_policy_catalog(ngx_http_request_t *r);

/*
 * ngx_oci_access_upload.c; the caller holds the mutex.  unescape(), into
 * NGX_OCI_NAME_MAX bytes: NGX_ERROR: that is too few, or it is no escape.
 */
ngx_int_t ngx_oci_policy_unescape(u_char *dst, size_t *len, u_char *p,
    u_char *last);
void ngx_oci_policy_upload(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict);

/*
 * ngx_oci_access_artifact.c: a pull that is allowed so far: is it of something
 * in quarantine?  Has something to be judged?  The caller holds the mutex.
 */
void ngx_oci_policy_artifact(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx, ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict);
/* 1: it is, ctx->message says why; likewise */
ngx_uint_t ngx_oci_policy_quarantine(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_rbac_t *doc, ngx_oci_digest_t *digest);

/* ngx_oci_artifact.c, ngx_oci_artifact_blob.c: of ngx_oci_policy_t */
ngx_int_t ngx_oci_artifact_manifest(ngx_oci_judge_t *j);
ngx_int_t ngx_oci_artifact_blob(ngx_oci_judge_t *j);
const char *ngx_oci_artifact_unseen(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_digest_t *digest);

/*
 * ngx_oci_access_bearer.c.  is(): does the request have a token?  identify():
 * as ngx_oci_policy_identify(), never NGX_AGAIN; with NGX_DECLINED ctx->why.
 * The others are of a decision, and look at callers that have no token, too:
 * does the document grant rights; does a token lack an action on this?
 */
ngx_uint_t ngx_oci_bearer_is(ngx_http_request_t *r);
ngx_int_t ngx_oci_bearer_identify(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_caller_t *caller);
void ngx_oci_bearer_subject(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller, ngx_oci_rbac_subject_t *subject,
    ngx_oci_verdict_t *verdict);
ngx_uint_t ngx_oci_bearer_store(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller);
ngx_uint_t ngx_oci_bearer_lacks(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller, ngx_str_t *repository, ngx_uint_t action);
void ngx_oci_bearer_insufficient(ngx_oci_verdict_t *verdict);

/*
 * ngx_oci_bearer_cache.c: tokens of a worker that were right.  cached(): jwt
 * is one, and to be freed; 0: it is not known.  keep(): len bytes, by a
 * reference of its own.  forget(): all of them, as the worker ends.
 */
ngx_uint_t ngx_oci_bearer_cached(ngx_oci_policy_conf_t *pcf, u_char *mac,
    ngx_oci_jwt_t *jwt);
void ngx_oci_bearer_keep(ngx_oci_policy_conf_t *pcf, u_char *mac, size_t len,
    ngx_oci_jwt_t *jwt);
void ngx_oci_bearer_forget(void);

/*
 * ngx_oci_bearer.c: the lines of oci_policy{} about tokens; done() looks at
 * them together, and takes over the keys of its own ones.
 */
char *ngx_oci_bearer_issuer(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_bearer_audience(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_bearer_key(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_bearer_grants(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_bearer_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf);

/*
 * ngx_oci_access_answer.c: refuse() answers, and ends the request, or says
 * that it would, and returns NGX_DECLINED, with "dry_run"; deny() answers,
 * as a content handler, and lets the caller end it; denied() is what logs and
 * variables tell of it only; past() is deny() where there is no document that
 * counts; pong() answers GET /v2/, which asks whether credentials are right:
 * no registry knows better.
 */
ngx_int_t ngx_oci_policy_refuse(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_uint_t status, ngx_uint_t code,
    const char *reason);
ngx_int_t ngx_oci_policy_deny(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_uint_t status, ngx_uint_t code,
    const char *reason);
void ngx_oci_policy_denied(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    const char *reason);
ngx_int_t ngx_oci_policy_past(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx);
ngx_int_t ngx_oci_policy_pong(ngx_http_request_t *r);

/* ngx_oci_access_dry_run.c: NGX_DECLINED; reason NULL: it would be allowed */
ngx_int_t ngx_oci_policy_dry_run(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx, const char *reason);

/* ngx_oci_access_challenge.c: the WWW-Authenticate value of a 401 */
ngx_int_t ngx_oci_policy_challenge(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_str_t *value);

/*
 * ngx_oci_signing.c: the lines of oci_policy{} about its own tokens; done()
 * looks at them together.  NGX_CONF_OK, or NGX_CONF_ERROR, which was logged.
 */
char *ngx_oci_signing_key(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_signing_realm(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
char *ngx_oci_signing_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf);

/* ngx_oci_issue.c: the content handler of "oci_token policy=" */
ngx_int_t ngx_oci_issue_handler(ngx_http_request_t *r,
    ngx_oci_policy_t *policy);


extern ngx_module_t  ngx_http_oci_policy_module;


#endif /* _NGX_OCI_POLICY_H_INCLUDED_ */
