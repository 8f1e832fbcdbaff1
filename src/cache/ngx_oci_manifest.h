
/*
 * Copyright (C) The nginx-oci authors
 *
 * A client's request for a manifest, by digest or by tag:
 * ngx_oci_manifest.c (who asks, what is known, what the registry says),
 * ngx_oci_resolve.c (HEAD, equal ones are one), ngx_oci_manifest_fetch.c
 * (GET, verified), ngx_oci_manifest_file.c (bodies on disk) and
 * ngx_oci_manifest_send.c (the response) share it.
 */


#ifndef _NGX_OCI_MANIFEST_H_INCLUDED_
#define _NGX_OCI_MANIFEST_H_INCLUDED_


#include "ngx_oci_cache.h"
#include "ngx_oci_ranges.h"


#define NGX_OCI_MANIFEST_ROOM  (64 * 1024)  /* bytes, most are smaller */


typedef struct ngx_oci_manifest_body_s  ngx_oci_manifest_body_t;


/* what HEAD told; strings are good until the handler returns */

typedef struct {
    ngx_uint_t              status;     /* 0: no response, or one that can't
                                           be a registry's */
    ngx_uint_t              timedout;
    ngx_uint_t              known;      /* digest is */
    ngx_oci_digest_t        digest;
    off_t                   size;       /* bytes; -1: not told */
    ngx_str_t               type;
} ngx_oci_resolve_result_t;


/* one who waits for it; the place is the waiter's own */

typedef struct {
    ngx_queue_t             queue;
    ngx_uint_t              waiting;
    void                  (*handler)(void *data,
                                     ngx_oci_resolve_result_t *result);
    void                   *data;
} ngx_oci_resolve_waiter_t;


/*
 * Owner: its references: the request's cleanup, the request's pool, a
 * look-up, an exchange, a disk task.  The last one frees body and pool.  The
 * request's pool holds one because the log phase and a frame that HTTP/2 has
 * half sent come after the request's cleanup.
 */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_uint_t                  refs;
    ngx_http_request_t         *r;          /* NULL: the client has gone */
    ngx_oci_ctx_t              *ctx;
    ngx_oci_cache_loc_conf_t   *ocf;
    ngx_oci_cache_t            *cache;

    ngx_str_t                   accept;     /* all of the client's */
    ngx_oci_ref_t               ref;        /* of the tag or digest */
    ngx_oci_ref_t               target;     /* of the digest that a tag leads
                                               to */
    uint32_t                    since;      /* the repository's changes when
                                               this began */
    ngx_oci_digest_t            digest;     /* alg NONE: not known yet */
    ngx_str_t                   digest_text;
    ngx_str_t                   type;       /* media type */
    ngx_str_t                   warning;

    ngx_oci_resolve_waiter_t    resolve;
    ngx_oci_exchange_t         *ex;         /* GET; NULL: none */
    time_t                      started;    /* of ex */

    u_char                     *body;       /* malloc()ed, or shared's */
    size_t                      size;       /* bytes of it */
    size_t                      room;
    size_t                      reserved;   /* bytes of the budget */
    ngx_oci_manifest_body_t    *shared;     /* NULL: body is this one's own */
    ngx_oci_size_t             *sizes;      /* malloc()ed, of body's
                                               descriptors; shared has its
                                               own */
    ngx_uint_t                  nsizes;

    ngx_oci_judge_t             judge;      /* with ctx->judge */

    ngx_oci_ranges_t            ranges;
    void                       *absent;     /* ngx_oci_negative.c's: the
                                               registry's 404 so far */

    unsigned                    handling:1; /* in the content handler */
    unsigned                    tag:1;
    unsigned                    known:1;    /* ref is filled */
    unsigned                    fetched:1;  /* body came from upstream */
    unsigned                    sent:1;     /* or did so before */
    unsigned                    page:1;     /* GET's header is no manifest's */
    unsigned                    other:1;    /* it names another digest */
    unsigned                    judged:1;   /* it may be sent */
} ngx_oci_manifest_t;


/* ngx_oci_manifest.c; all of these may finalize the request */

void ngx_oci_manifest_unref(ngx_oci_manifest_t *mf);
/* hands the request to the pass-through */
void ngx_oci_manifest_pass(ngx_oci_manifest_t *mf);
/* continuations: the request may be gone, c is its connection or NULL */
void ngx_oci_manifest_run(ngx_oci_manifest_t *mf, ngx_connection_t *c);
/* records what is known of the reference, and the caller's right; size: -1 if
   it is unknown.  digest_text is there */
void ngx_oci_manifest_remember(ngx_oci_manifest_t *mf, off_t size);
/* the registry can't be relied on now: 1: what is known is served stale, as
   that may be; status: of its answer, 0: none */
ngx_uint_t ngx_oci_manifest_use_stale(ngx_oci_manifest_t *mf,
    ngx_uint_t status, ngx_uint_t timedout);
/* takes back what a refusal of this status disproves */
void ngx_oci_manifest_forget(ngx_oci_manifest_t *mf, ngx_uint_t status);
/* digest_text from digest; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_manifest_text(ngx_oci_manifest_t *mf);


/*
 * ngx_oci_resolve.c: HEAD of the reference with the caller's credentials.
 * NGX_OK: the handler follows from the event loop; NGX_ERROR.
 */
ngx_int_t ngx_oci_resolve(ngx_oci_manifest_t *mf);
void ngx_oci_resolve_leave(ngx_oci_resolve_waiter_t *waiter);
/* of a string that may be null; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_resolve_copy(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);

/*
 * ngx_oci_judge.c.  NGX_OK: it may be sent; NGX_AGAIN:
 * ngx_oci_manifest_send() follows; NGX_DONE: the request was finalized.
 */
ngx_int_t ngx_oci_judge_manifest(ngx_oci_manifest_t *mf);

/* ngx_oci_manifest_send.c: body, digest and type are there and right; may
   finalize the request */
void ngx_oci_manifest_send(ngx_oci_manifest_t *mf);
/* the second half of it */
void ngx_oci_manifest_respond(ngx_oci_manifest_t *mf);

/* ngx_oci_pin.c: what the edge's own pull has to pin.  NGX_OK: nothing;
   NGX_AGAIN: ngx_oci_manifest_respond() follows */
ngx_int_t ngx_oci_pin_manifest(ngx_oci_manifest_t *mf);

/*
 * ngx_oci_manifest_fetch.c: GET by digest if it is known, else by tag;
 * verifies, stores and sends it.  NGX_OK or NGX_ERROR (nothing follows).
 */
ngx_int_t ngx_oci_manifest_fetch(ngx_oci_manifest_t *mf);

/*
 * ngx_oci_manifest_file.c: reads the body of mf->digest and verifies it;
 * handler(mf, NGX_OK, NGX_DECLINED or NGX_BUSY: the budget is spent) follows
 * from the event loop, also if the client has gone.  NGX_OK or NGX_ERROR
 * (nothing follows).
 */
ngx_int_t ngx_oci_manifest_read(ngx_oci_manifest_t *mf,
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc));
/*
 * Compares the body with mf->digest in a thread, or sets mf->digest if it is
 * not known; handler(mf, NGX_OK, NGX_DECLINED: it differs, or NGX_ERROR)
 * follows as above.
 */
ngx_int_t ngx_oci_manifest_check(ngx_oci_manifest_t *mf,
    void (*handler)(ngx_oci_manifest_t *mf, ngx_int_t rc));
/* keeps the verified body on disk, it must not change any more; failures are
   logged */
void ngx_oci_manifest_write(ngx_oci_manifest_t *mf);


/* ngx_oci_manifest_body.c */

void ngx_oci_manifest_init_process(void);
/* room for size bytes that mf has or is about to have; NGX_ERROR: the budget
   is spent, logged */
ngx_int_t ngx_oci_manifest_reserve(ngx_oci_manifest_t *mf, size_t size);
/* room in mf->body, which keeps its bytes; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_manifest_alloc(ngx_oci_manifest_t *mf, size_t size);
/* uses the body of mf->digest if a request of this worker has it: 1 */
ngx_uint_t ngx_oci_manifest_find(ngx_oci_manifest_t *mf);
/* offers the verified body to others, or takes theirs */
void ngx_oci_manifest_share(ngx_oci_manifest_t *mf);
void ngx_oci_manifest_free(ngx_oci_manifest_t *mf);
/* the body is served: remembers what it says of others' sizes */
void ngx_oci_manifest_learn(ngx_oci_manifest_t *mf);


#endif /* _NGX_OCI_MANIFEST_H_INCLUDED_ */
