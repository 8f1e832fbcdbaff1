
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the core module share.
 */


#ifndef _NGX_OCI_CORE_H_INCLUDED_
#define _NGX_OCI_CORE_H_INCLUDED_


#include "ngx_oci.h"


#define NGX_OCI_NAMES_ADDRS  16     /* of a registry's host, remembered */

#define NGX_OCI_ACCESS_OFF   0
#define NGX_OCI_ACCESS_OPEN  1
#define NGX_OCI_ACCESS_NAME  2      /* of a policy */


/*
 * A registry's host that is resolved at run time.  Lives as long as the
 * registry; each worker has its own copy.
 */

struct ngx_oci_names_s {
    ngx_oci_url_t               target;     /* what url says */

    ngx_resolver_addr_t         addrs[NGX_OCI_NAMES_ADDRS];     /* the last */
    ngx_sockaddr_t              sockaddrs[NGX_OCI_NAMES_ADDRS];
    ngx_uint_t                  naddrs;     /* 0: never resolved */

    time_t                      hold;       /* they are used without asking
                                               until then */
    unsigned                    failing:1;  /* that was said */
};


/* where a request is passed: a location's own, or a nameless child's */

typedef struct {
    ngx_oci_registry_t         *registry;
    ngx_http_handler_pt         proxy;      /* the proxy module's handler */
    void                      **loc_conf;   /* of the child; NULL: own */
} ngx_oci_pass_t;


/* an oci_token location */

typedef struct {
    ngx_oci_registry_t         *registry;   /* NULL: of a policy */
    ngx_http_handler_pt         proxy;      /* the proxy module's handler */
    ngx_str_t                   policy_name;
    ngx_oci_policy_t           *policy;     /* that issues, or NULL */
    ngx_str_t                   name;       /* of the location */
} ngx_oci_token_t;


typedef struct {
    ngx_array_t                *passes;     /* of ngx_oci_pass_t; NULL: no
                                               oci_pass here */
    ngx_http_complex_value_t   *name;       /* NULL: the first of passes */
    ngx_uint_t                  access;     /* NGX_OCI_ACCESS_... */
    ngx_str_t                   access_name;
    u_char                     *access_file;    /* of oci_access, for errors */
    ngx_uint_t                  access_line;
    ngx_uint_t                  dry_run;    /* with ..._NAME: nobody is
                                               refused */
    ngx_oci_policy_t           *policy;     /* with ..._NAME, else NULL */
    const ngx_oci_duty_t       *duty;       /* NULL: it has none */
    ngx_uint_t                  prometheus; /* of oci_status */
    u_char                     *file;       /* of oci_pass or oci_token, for
                                               errors */
    ngx_uint_t                  line;
    ngx_oci_token_t            *token;      /* NULL: no oci_token here */
    ngx_array_t                *tokens;     /* of ngx_oci_token_t *: of a
                                               server, or NULL */
} ngx_oci_loc_conf_t;


/* ngx_oci_registry.c */
char *ngx_oci_registry_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_oci_registry_t *ngx_oci_registry_find(ngx_oci_main_conf_t *omcf,
    ngx_str_t *name);

/* the upstream{} of that name; NULL: there is none */
ngx_http_upstream_srv_conf_t *ngx_oci_registry_upstream(ngx_conf_t *cf,
    ngx_str_t *name);

/* ngx_oci_endpoint.c: see ngx_oci.h */
ngx_oci_registry_t *ngx_oci_endpoint(ngx_conf_t *cf, ngx_str_t *url,
    ngx_str_t *trusted, ngx_str_t *uri);
ngx_oci_registry_t *ngx_oci_receiver(ngx_conf_t *cf, ngx_str_t *name,
    ngx_oci_url_t *url, ngx_str_t *trusted, ngx_msec_t timeout);
ngx_int_t ngx_oci_receiver_server(ngx_oci_registry_t *receiver,
    ngx_http_conf_ctx_t *server);

/* parses directives from memory in the context of cf; text ends with ";" */
char *ngx_oci_conf_text(ngx_conf_t *cf, ngx_str_t *text);

/*
 * ngx_oci_names.c: a host that is resolved at run time.  init() sets
 * registry->names and group, or logs why not; check(), from a location's
 * merging: NGX_ERROR, which was logged, if it has no resolver.
 */
char *ngx_oci_names_init(ngx_conf_t *cf, ngx_oci_registry_t *registry);
ngx_int_t ngx_oci_names_check(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_loc_conf_t *olcf);
/* the last addresses are to be used now: the resolver just failed */
ngx_uint_t ngx_oci_names_held(ngx_oci_names_t *names);
/* how long to wait for the resolver */
void ngx_oci_names_timeout(ngx_oci_names_t *names, ngx_resolver_ctx_t *ctx);
/* remembers the addresses */
void ngx_oci_names_resolved(ngx_oci_registry_t *registry,
    ngx_resolver_ctx_t *ctx, ngx_log_t *log);
/* NGX_OK: the last addresses are to be used instead; NGX_DECLINED: there
   are none, or there is no such name any more */
ngx_int_t ngx_oci_names_failed(ngx_oci_registry_t *registry,
    ngx_resolver_ctx_t *ctx, ngx_log_t *log);

/*
 * ngx_oci_group.c: upstream{} groups of registries.  init() is called when
 * the core has made their balancers; NGX_OK, or NGX_ERROR, which was logged.
 * check(): may the registry share its group with those that name it, too?
 */
char *ngx_oci_group_check(ngx_conf_t *cf, ngx_oci_registry_t *registry);
void *ngx_oci_group_create_conf(ngx_conf_t *cf);
ngx_int_t ngx_oci_group_init(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf);

/*
 * ngx_oci_private.c: may the host of a realm or a redirect be this address?
 * log() says that it may not.
 */
char *ngx_oci_private_allow(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n);
ngx_uint_t ngx_oci_private_allowed(ngx_oci_registry_t *registry,
    ngx_str_t *host, struct sockaddr *sa, socklen_t socklen);
void ngx_oci_private_log(ngx_oci_registry_t *registry, ngx_str_t *host,
    struct sockaddr *sa, socklen_t socklen, ngx_log_t *log);

/* ngx_oci_pass.c */
char *ngx_oci_pass_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_oci_pass_request(ngx_http_request_t *r);

/* ngx_oci_pull.c: see ngx_oci.h */
ngx_oci_pull_t *ngx_oci_pull_create(ngx_http_core_srv_conf_t *server,
    ngx_log_t *log);
ngx_int_t ngx_oci_pull_start(ngx_oci_pull_t *pull);
void ngx_oci_pull_abort(ngx_oci_pull_t *pull);
ngx_uint_t ngx_oci_pull_own(ngx_http_request_t *r);
time_t ngx_oci_pull_pin(ngx_http_request_t *r);
/* its handlers of phases; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_pull_init(ngx_conf_t *cf);

void ngx_oci_pass_async(ngx_http_request_t *r);
ngx_oci_pass_t *ngx_oci_pass_find(ngx_http_request_t *r,
    ngx_oci_loc_conf_t *olcf);
/* a line of an expansion, unless the registry has an own one */
u_char *ngx_oci_pass_line(u_char *p, ngx_oci_registry_t *registry,
    const char *name, const char *fmt, ...);
/* the registry's own proxy_* lines, and room for them */
u_char *ngx_oci_pass_own_lines(u_char *p, ngx_oci_registry_t *registry);
size_t ngx_oci_pass_own_size(ngx_oci_registry_t *registry);

/* ngx_oci_pass_filter.c */
void ngx_oci_pass_init_filter(void);
/* a request of cache status BYPASS has ended: what it tells of the registry */
void ngx_oci_pass_log(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);

/* ngx_oci_ping.c: the registry's answer to a request that may be GET /v2/; its
   challenge, as it came, or empty */
void ngx_oci_ping_remember(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *challenge);
/* instead of this status the header is made what is remembered, with no body;
   NGX_DECLINED: nothing is, or it is another request */
ngx_int_t ngx_oci_ping_stale(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_uint_t status);

/* ngx_oci_response.c: an answer that came before TLS was there: 1 */
ngx_uint_t ngx_oci_response_plain(ngx_http_upstream_t *u);
/* before the header of what the proxy module passes on goes out: NGX_OK, or
   NGX_ERROR: it is no answer of the registry */
ngx_int_t ngx_oci_response_passed(ngx_http_request_t *r);

/*
 * ngx_oci_unseen.c: may a registry's answer not be passed on?  Then nginx's
 * own error comes instead, which header() makes ours; NGX_OK or NGX_ERROR.
 */
ngx_uint_t ngx_oci_unseen(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
ngx_int_t ngx_oci_unseen_header(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
void ngx_oci_unseen_init_filter(void);

/* ngx_oci_error.c */
ngx_int_t ngx_oci_error(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t code, const char *message);
/* its body, with its headers in r; NULL: no memory */
ngx_buf_t *ngx_oci_error_body(ngx_http_request_t *r, ngx_uint_t code,
    const char *message);
/* the same with Retry-After, in s */
ngx_int_t ngx_oci_error_retry(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t code, const char *message, time_t after);

/* answers with a body, which is not copied */
ngx_int_t ngx_oci_answer(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *json);
/* see ngx_oci_core.send() */
ngx_int_t ngx_oci_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, ngx_buf_t *b);

/*
 * ngx_oci_access.c: oci_access.  merge() and check(), of a registry that a
 * location passes to: NGX_OK, or NGX_ERROR, which was logged.
 */
char *ngx_oci_access_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_oci_access_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *conf);
ngx_int_t ngx_oci_access_check(ngx_conf_t *cf, ngx_oci_loc_conf_t *conf,
    ngx_oci_registry_t *registry);
ngx_oci_policy_t *ngx_oci_access_policy(ngx_http_request_t *r);
ngx_uint_t ngx_oci_access_dry_run(ngx_http_request_t *r);
/* a policy is to decide, and has not: it came here without the access phase,
   as subrequests do */
ngx_uint_t ngx_oci_access_undecided(ngx_http_request_t *r);
/* has the server of cf a token service that clients of a location are sent to,
   whatever registry theirs is? */
ngx_uint_t ngx_oci_realm_listed(ngx_conf_t *cf, ngx_oci_loc_conf_t *olcf);
/* NULL: there is none of that name */
ngx_oci_policy_t *ngx_oci_access_find(ngx_conf_t *cf, ngx_str_t *name);

/* ngx_oci_duty.c: see ngx_oci_core, and a location's merging */
void ngx_oci_duty_set(ngx_conf_t *cf, const ngx_oci_duty_t *duty);
const ngx_oci_duty_t *ngx_oci_duty(ngx_http_request_t *r);
ngx_uint_t ngx_oci_duty_decided(ngx_conf_t *cf);
ngx_int_t ngx_oci_duty_may(ngx_http_request_t *r, ngx_str_t *repository,
    ngx_uint_t quiet);
void ngx_oci_duty_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *conf);

/* ngx_oci_threads.c */
ngx_int_t ngx_oci_thread_pool(ngx_cycle_t *cycle, ngx_str_t *name,
    ngx_int_t n);

/* ngx_oci_stats.c */
ngx_int_t ngx_oci_stats_add_zone(ngx_conf_t *cf, ngx_oci_main_conf_t *omcf);
ngx_oci_stats_t *ngx_oci_stats(void);
ngx_int_t ngx_oci_stats_log(ngx_http_request_t *r);
/* body bytes that the proxy module has read for the request */
off_t ngx_oci_stats_passed(ngx_http_request_t *r);
/* body bytes that came from a registry */
void ngx_oci_stats_upstream(ngx_oci_registry_t *registry, off_t bytes);
ngx_str_t ngx_oci_code_name(ngx_uint_t i);
ngx_str_t ngx_oci_route_name(ngx_uint_t route);
ngx_str_t ngx_oci_cache_name(ngx_uint_t status);
ngx_str_t ngx_oci_verify_name(ngx_uint_t status);

/* ngx_oci_exchange.c */
ngx_oci_exchange_t *ngx_oci_exchange_create(ngx_oci_registry_t *registry,
    ngx_log_t *log);
ngx_int_t ngx_oci_exchange_start(ngx_oci_exchange_t *ex);
void ngx_oci_exchange_resume(ngx_oci_exchange_t *ex);
void ngx_oci_exchange_abort(ngx_oci_exchange_t *ex);
ngx_int_t ngx_oci_exchange_init_registry(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);
/* ngx_oci_hop_conf.c: the certificates that are trusted, by default the
   system's.  NGX_OK, or NGX_ERROR, which was logged; what: its directive */
ngx_int_t ngx_oci_exchange_trusted(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, const char *what);

/*
 * ngx_oci_upstream_auth.c: Authorization values for a registry's stored
 * credentials (NULL: the anonymous dance), remembered in the worker per
 * registry, credentials and scope (distribution-spec, token authentication).
 */

/* one who waits for a token; the place is the waiter's own */

typedef struct {
    ngx_queue_t                 queue;
    ngx_uint_t                  waiting;    /* in the queue */
    void                      (*handler)(void *data, ngx_int_t rc);
    void                       *data;
} ngx_oci_auth_waiter_t;

/*
 * The remembered value for "repository:<repository>:<actions>", or for
 * scope "registry:catalog:*" if repository is empty, copied into pool.
 * NGX_OK (an empty value: the registry asks for none); NGX_DECLINED: not
 * known, or about to expire; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_auth_lookup(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *repository,
    const char *actions, ngx_pool_t *pool, ngx_str_t *value);

/*
 * Gets a value and remembers it instead of a former one.  challenge: the
 * WWW-Authenticate value of a 401; empty: GET /v2/ is asked for one first.
 * Equal ones of a worker are one dance.  NGX_AGAIN: waiter->handler()
 * follows from the event loop with NGX_OK (lookup has it), NGX_ERROR or
 * NGX_BUSY (timed out); NGX_ERROR: no memory, or the challenge can't be
 * answered (logged).
 */
ngx_int_t ngx_oci_auth_challenge(ngx_oci_registry_t *registry,
    ngx_oci_credentials_t *credentials, ngx_str_t *repository,
    const char *actions, ngx_str_t *challenge,
    ngx_oci_auth_waiter_t *waiter);
void ngx_oci_auth_leave(ngx_oci_auth_waiter_t *waiter);

/*
 * Gets the Authorization value of a registry's own credentials for a
 * request that is passed on, into ctx->upstream_authorization.  NGX_OK;
 * NGX_AGAIN: handler(r, rc) follows from the event loop unless the request
 * ends before; NGX_ERROR.
 */
ngx_int_t ngx_oci_auth_request(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    void (*handler)(ngx_http_request_t *r, ngx_int_t rc));
ngx_int_t ngx_oci_auth_init_process(ngx_cycle_t *cycle);
/* wipes and frees what is remembered */
void ngx_oci_auth_exit_process(ngx_cycle_t *cycle);

/* forgets a remembered value that the registry answered with a 401 */
void ngx_oci_auth_refused(ngx_oci_registry_t *registry, ngx_str_t *value);

/*
 * The realm of the registry's token service, which may be called.  NGX_OK;
 * NGX_DONE: the registry has none; NGX_DECLINED: not known, discover() finds
 * out, as challenge() does; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_auth_realm(ngx_oci_registry_t *registry, ngx_pool_t *pool,
    ngx_str_t *realm);
ngx_int_t ngx_oci_auth_discover(ngx_oci_registry_t *registry,
    ngx_oci_auth_waiter_t *waiter);
/* NGX_OK: a Bearer challenge whose realm may be called, is remembered;
   NGX_DECLINED: it is not one */
ngx_int_t ngx_oci_auth_learn(ngx_oci_registry_t *registry,
    ngx_str_t *challenge, ngx_oci_challenge_t *ch, ngx_log_t *log);

/* may a host of a realm, or of a redirect, be called? */
ngx_uint_t ngx_oci_auth_host_allowed(ngx_array_t *hosts, ngx_oci_url_t *url);
/* is it reached through the registry's group? */
ngx_uint_t ngx_oci_auth_own_origin(ngx_oci_registry_t *registry,
    ngx_oci_url_t *url);

/* ngx_oci_token.c: oci_token, and the realms that lead to it */
ngx_int_t ngx_oci_token_add_variables(ngx_conf_t *cf);
char *ngx_oci_token_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_oci_token_not_allowed(ngx_http_request_t *r);
/* points the realm of a challenge that is passed on at the server's
   oci_token location of the registry, if there is one */
ngx_int_t ngx_oci_token_rewrite(ngx_http_request_t *r,
    ngx_oci_registry_t *registry, ngx_str_t *challenge);

/*
 * ngx_oci_realm.c: where the oci_token locations of a server are.  list()
 * takes note of one; url(): of one of them, as ngx_oci_core.realm().
 */
char *ngx_oci_realm_list(ngx_conf_t *cf, ngx_oci_token_t *token,
    ngx_http_core_loc_conf_t *clcf);
ngx_oci_token_t *ngx_oci_realm_find(ngx_http_request_t *r,
    ngx_oci_policy_t *policy, ngx_oci_registry_t *registry);
ngx_int_t ngx_oci_realm_url(ngx_http_request_t *r, ngx_oci_token_t *token,
    ngx_str_t *realm);
ngx_int_t ngx_oci_realm(ngx_http_request_t *r, ngx_oci_policy_t *policy,
    ngx_str_t *realm);

/*
 * ngx_oci_token_policy.c: "oci_token policy=".  merge(): NGX_OK, or
 * NGX_ERROR, which was logged.
 */
char *ngx_oci_token_policy(ngx_conf_t *cf, ngx_oci_loc_conf_t *olcf,
    ngx_str_t *name);
ngx_int_t ngx_oci_token_merge(ngx_conf_t *cf, ngx_oci_loc_conf_t *prev,
    ngx_oci_loc_conf_t *olcf);

/* ngx_oci_status.c */
char *ngx_oci_status_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* ngx_http_oci_module.c */
ngx_oci_ctx_t *ngx_oci_request_ctx(ngx_http_request_t *r, ngx_uint_t *status,
    ngx_uint_t *code);
ngx_int_t ngx_oci_handler(ngx_http_request_t *r);
ngx_uint_t ngx_oci_path_match(ngx_str_t *name, ngx_str_t *prefix);
u_char *ngx_oci_path_replace(u_char *p, ngx_str_t *name, ngx_str_t *from,
    ngx_str_t *to);


#endif /* _NGX_OCI_CORE_H_INCLUDED_ */
