
/*
 * Copyright (C) The nginx-oci authors
 *
 * Is a manifest signed: ngx_oci_signed.c (who asks, what is remembered, what
 * is kept on disk, the check in a thread), ngx_oci_signed_find.c (what is to
 * be fetched next) and ngx_oci_signed_fetch.c (fetches it).
 */


#ifndef _NGX_OCI_SIGNED_H_INCLUDED_
#define _NGX_OCI_SIGNED_H_INCLUDED_


#include "ngx_oci_policy.h"
#include "ngx_oci_evidence.h"
#include "ngx_oci_work.h"


#define NGX_OCI_SIGNED_TIME     30      /* s for all that is fetched */


/* whose key it has to be, DER */

typedef struct {
    ngx_uint_t                  n;
    ngx_str_t                   der[NGX_OCI_SIGNATURE_KEYS];
} ngx_oci_signed_keys_t;


typedef struct ngx_oci_signed_s  ngx_oci_signed_t;


/* one who waits; the place is the waiter's own */

typedef struct {
    ngx_queue_t                 queue;
    ngx_uint_t                  waiting;
    /* NGX_OK: it is signed; NGX_DECLINED: it is not; NGX_ERROR: that can't be
       found out now.  why: good until it returns; NULL: there is none */
    void                      (*handler)(void *data, ngx_int_t rc,
                                         const char *why);
    void                       *data;
} ngx_oci_signed_waiter_t;


typedef enum {
    NGX_OCI_SIGNED_TAG = 0,         /* the manifest under cosign's tag */
    NGX_OCI_SIGNED_PAYLOAD,         /* what one of its signatures is of */
    NGX_OCI_SIGNED_REFERRERS,       /* the list of the API */
    NGX_OCI_SIGNED_FALLBACK,        /* or that under a tag */
    NGX_OCI_SIGNED_REFERRER,        /* a referrer's manifest */
    NGX_OCI_SIGNED_BUNDLE           /* and its bundle */
} ngx_oci_signed_step_e;


/*
 * One digest that is looked into, for all requests of the worker that wait
 * for it.  Owner: what it waits for, an exchange, a disk task or a thread;
 * freed by ngx_oci_signed_end(), whether anybody still waits or not.
 */

struct ngx_oci_signed_s {
    ngx_queue_t                 queue;
    ngx_queue_t                 waiters;    /* of ngx_oci_signed_waiter_t */

    ngx_oci_registry_t         *registry;
    void                       *place;      /* for evidence, or NULL */
    ngx_pool_t                 *pool;
    ngx_str_t                   repository; /* at the upstream */
    ngx_str_t                   authorization;  /* wiped */
    ngx_oci_digest_t            digest;
    ngx_str_t                   subject;    /* its text */
    ngx_oci_signed_keys_t       keys;

    ngx_oci_evidence_t          evidence;   /* found so far */
    ngx_oci_evidence_t          older;      /* kept so far, and no good; no
                                               root: none */
    ngx_uint_t                  added;      /* to it, since it was judged */

    /* what is fetched */
    ngx_uint_t                  step;       /* ..._step_e */
    ngx_uint_t                  i;          /* which of refs */
    ngx_uint_t                  failed;     /* something could not be */
    time_t                      started;
    ngx_oci_evidence_refs_t     refs;
    ngx_oci_evidence_refs_t     bundle;     /* one */
    u_char                     *body;       /* malloc()ed */
    size_t                      size;
    size_t                      room;
    size_t                      max;
    ngx_str_t                   payload;    /* malloc()ed, the last one, */
    ngx_oci_digest_t            of;         /* of this digest */
    const char                 *why;        /* what was found does not count;
                                               NULL: nothing was found */

    /* the check */
    ngx_event_t                 event;      /* begins, where nothing is kept */
    ngx_oci_work_t              work;
    ngx_int_t                   rc;
    const char                 *reason;
    ngx_uint_t                  key;
    u_char                     *kept;       /* malloc()ed: the text that is
                                               read or written */
    size_t                      kept_len;
    unsigned                    reading:1;  /* kept is to be judged */
    unsigned                    large:1;    /* what was fetched is */
    unsigned                    told:1;     /* nobody joins any more */
};


typedef struct {
    ngx_oci_registry_t         *registry;
    void                       *place;      /* ..., beside_place()'s */
    ngx_str_t                   repository; /* at the upstream */
    ngx_str_t                   authorization;  /* the caller's */
    ngx_oci_digest_t            digest;
    ngx_oci_signed_keys_t      *keys;
} ngx_oci_signed_ask_t;


/*
 * ngx_oci_signed.c.  NGX_AGAIN: the waiter's handler follows from the event
 * loop; NGX_BUSY: too many are looked into; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_signed(ngx_oci_signed_ask_t *ask,
    ngx_oci_signed_waiter_t *waiter);
void ngx_oci_signed_leave(ngx_oci_signed_waiter_t *waiter);
void ngx_oci_signed_init_process(ngx_cycle_t *cycle);

/* the evidence so far is judged in a thread; ngx_oci_signed_judged() */
void ngx_oci_signed_judge(ngx_oci_signed_t *s);
/* NGX_DECLINED: all was looked at; NGX_ERROR: not all could be */
void ngx_oci_signed_end(ngx_oci_signed_t *s, ngx_int_t rc, const char *why);

/* ngx_oci_signed_find.c: begins; what was fetched (status 0: nothing was);
   what was found is no good */
void ngx_oci_signed_find(ngx_oci_signed_t *s);
void ngx_oci_signed_fetched(ngx_oci_signed_t *s, ngx_uint_t status);
void ngx_oci_signed_judged(ngx_oci_signed_t *s);

/*
 * ngx_oci_signed_fetch.c: GET of what is below "/v2/<repository>/", at most
 * max bytes; ngx_oci_signed_fetched() follows.  NGX_OK or NGX_ERROR (nothing
 * follows).
 */
ngx_int_t ngx_oci_signed_fetch(ngx_oci_signed_t *s, const char *what,
    ngx_str_t *name, const char *accept, size_t max);


#endif /* _NGX_OCI_SIGNED_H_INCLUDED_ */
