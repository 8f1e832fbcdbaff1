
/*
 * Copyright (C) The nginx-oci authors
 *
 * Directives of the hooks module, and what happens when processes begin.
 */


#include "ngx_oci_notify.h"


static ngx_int_t ngx_oci_hooks_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_oci_hooks_postconfiguration(ngx_conf_t *cf);
static void ngx_oci_hooks_places(ngx_oci_hooks_main_conf_t *hmcf);
static ngx_uint_t ngx_oci_hooks_ssl(ngx_conf_t *cf,
    ngx_http_core_srv_conf_t *server);
static ngx_uint_t ngx_oci_hooks_listens(ngx_http_conf_addr_t *addr,
    ngx_http_core_srv_conf_t *server);
static void *ngx_oci_hooks_create_main_conf(ngx_conf_t *cf);
static void *ngx_oci_hooks_create_srv_conf(ngx_conf_t *cf);
static char *ngx_oci_hooks_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void *ngx_oci_hooks_create_loc_conf(ngx_conf_t *cf);
static char *ngx_oci_hooks_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_oci_hooks_init_process(ngx_cycle_t *cycle);
static void ngx_oci_hooks_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_oci_hooks_module_commands[] = {

    { ngx_string("oci_preheat"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_oci_hook_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_OCI_HOOK_PREHEAT,
      NULL },

    { ngx_string("oci_webhook"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_oci_hook_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_OCI_HOOK_WEBHOOK,
      NULL },

    { ngx_string("oci_pull_accounting"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_accounting_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_notify"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_2MORE,
      ngx_oci_notify_directive,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_oci_hooks_module_ctx = {
    ngx_oci_hooks_preconfiguration,        /* preconfiguration */
    ngx_oci_hooks_postconfiguration,       /* postconfiguration */

    ngx_oci_hooks_create_main_conf,        /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_oci_hooks_create_srv_conf,         /* create server configuration */
    ngx_oci_hooks_merge_srv_conf,          /* merge server configuration */

    ngx_oci_hooks_create_loc_conf,         /* create location configuration */
    ngx_oci_hooks_merge_loc_conf           /* merge location configuration */
};


ngx_module_t  ngx_http_oci_hooks_module = {
    NGX_MODULE_V1,
    &ngx_http_oci_hooks_module_ctx,        /* module context */
    ngx_oci_hooks_module_commands,         /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_oci_hooks_init_process,            /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_oci_hooks_exit_process,            /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* before any directive reaches into the core's structures */

static ngx_int_t
ngx_oci_hooks_preconfiguration(ngx_conf_t *cf)
{
    if (ngx_oci_core.abi != NGX_OCI_ABI
        || ngx_strcmp(ngx_oci_core.build, NGX_OCI_BUILD) != 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "ngx_http_oci_hooks_module.so and "
                      "ngx_http_oci_module.so are of different builds");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_hooks_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_oci_main_conf_t        *omcf;
    ngx_oci_hook_conf_t       **conf;
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_hooks_module);

    if (hmcf->accounting && ngx_oci_accounting_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (hmcf->notify.nelts && ngx_oci_notify_init(cf, hmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (hmcf->hooks.nelts == 0) {
        return NGX_OK;
    }

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    conf = hmcf->hooks.elts;

    for (i = 0; i < hmcf->hooks.nelts; i++) {

        if (omcf->content == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%s\" needs "
                          "ngx_http_oci_cache_module.so in %s:%ui",
                          conf[i]->webhook ? "oci_webhook" : "oci_preheat",
                          conf[i]->file, conf[i]->line);
            return NGX_ERROR;
        }

        if (conf[i]->location->handler != conf[i]->handler) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%s\" stands in a location that has another "
                          "handler, too, in %s:%ui",
                          conf[i]->webhook ? "oci_webhook" : "oci_preheat",
                          conf[i]->file, conf[i]->line);
            return NGX_ERROR;
        }

        conf[i]->ssl = ngx_oci_hooks_ssl(cf, conf[i]->server);
    }

    ngx_oci_hooks_places(hmcf);
    ngx_oci_hook_body_init();

    return ngx_oci_job_add_zone(cf, hmcf);
}


/* is there an address where it is to be had by TLS? */

static ngx_uint_t
ngx_oci_hooks_ssl(ngx_conf_t *cf, ngx_http_core_srv_conf_t *server)
{
#if (NGX_HTTP_SSL)

    ngx_uint_t                  i, k;
    ngx_http_conf_addr_t       *addr;
    ngx_http_conf_port_t       *port;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    port = cmcf->ports ? cmcf->ports->elts : NULL;

    for (i = 0; port && i < cmcf->ports->nelts; i++) {

        addr = port[i].addrs.elts;

        for (k = 0; k < port[i].addrs.nelts; k++) {
            if (addr[k].opt.ssl && ngx_oci_hooks_listens(&addr[k], server)) {
                return 1;
            }
        }
    }

#endif

    return 0;
}


static ngx_uint_t
ngx_oci_hooks_listens(ngx_http_conf_addr_t *addr,
    ngx_http_core_srv_conf_t *server)
{
    ngx_uint_t                  i;
    ngx_http_core_srv_conf_t  **p;

    p = addr->servers.elts;

    for (i = 0; i < addr->servers.nelts; i++) {
        if (p[i] == server) {
            return 1;
        }
    }

    return 0;
}


/* servers without a name, or with the same one at other addresses, may have
   the same location: their jobs are not each other's */

static void
ngx_oci_hooks_places(ngx_oci_hooks_main_conf_t *hmcf)
{
    uint32_t               n;
    ngx_uint_t             i, k;
    ngx_oci_hook_conf_t  **conf;

    conf = hmcf->hooks.elts;

    for (i = hmcf->hooks.nelts; i-- > 1; /* void */) {

        n = 0;

        for (k = 0; k < i; k++) {
            n += (conf[k]->place == conf[i]->place);
        }

        if (n) {
            ngx_crc32_update(&conf[i]->place, (u_char *) &n, sizeof(n));
        }
    }
}


static void *
ngx_oci_hooks_create_main_conf(ngx_conf_t *cf)
{
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_hooks_main_conf_t));
    if (hmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&hmcf->hooks, cf->pool, 2,
                       sizeof(ngx_oci_hook_conf_t *))
        != NGX_OK
        || ngx_array_init(&hmcf->notify, cf->pool, 2,
                          sizeof(ngx_oci_notify_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return hmcf;
}


static void *
ngx_oci_hooks_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_oci_hooks_srv_conf_t));
}


static char *
ngx_oci_hooks_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_oci_hooks_srv_conf_t *prev = parent;
    ngx_oci_hooks_srv_conf_t *conf = child;

    if (conf->notify == NULL) {
        conf->notify = prev->notify;
    }

    return NGX_CONF_OK;
}


static void *
ngx_oci_hooks_create_loc_conf(ngx_conf_t *cf)
{
    ngx_oci_hooks_loc_conf_t  *hlcf;

    hlcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_hooks_loc_conf_t));

    if (hlcf) {
        hlcf->accounting = NGX_CONF_UNSET;
    }

    return hlcf;
}


static char *
ngx_oci_hooks_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_oci_hooks_loc_conf_t *prev = parent;
    ngx_oci_hooks_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_sec_value(conf->accounting, prev->accounting, 0);

    if (conf->hook && ngx_oci_hook_check(cf, conf->hook) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" in such a location are still that location */

    if (clcf->noname && conf->hook == NULL && prev->hook) {
        conf->hook = prev->hook;

        if (clcf->handler == NULL) {
            clcf->handler = ngx_oci_hook_handler;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_hooks_init_process(ngx_cycle_t *cycle)
{
    ngx_oci_hooks_main_conf_t  *hmcf;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    hmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_oci_hooks_module);

    if (hmcf == NULL) {
        return NGX_OK;
    }

    if (hmcf->notify.nelts
        && ngx_oci_notify_init_process(cycle, hmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return hmcf->hooks.nelts ? ngx_oci_job_run_init(cycle, hmcf) : NGX_OK;
}


static void
ngx_oci_hooks_exit_process(ngx_cycle_t *cycle)
{
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_oci_hooks_module);

    if (hmcf) {
        ngx_oci_notify_exit_process(hmcf);
    }
}
