
/*
 * Copyright (C) The nginx-oci authors
 *
 * The oci_notify directive, and what workers share of queues.
 */


#include "ngx_oci_notify.h"

#include <openssl/sha.h>


#define NGX_OCI_NOTIFY_ZONE    (256 * 1024)
#define NGX_OCI_NOTIFY_SEEN    4096     /* events */
#define NGX_OCI_NOTIFY_AGAIN   60       /* s */


typedef struct {
    uint64_t                    key;
    time_t                      due;
} ngx_oci_notify_seen_t;


/* in shared memory; seen under the mutex */

typedef struct {
    ngx_oci_notify_sh_t         queues[NGX_OCI_NOTIFY_MAX];
    ngx_oci_notify_seen_t       seen[NGX_OCI_NOTIFY_SEEN];
} ngx_oci_notify_zone_t;


typedef char *(*ngx_oci_notify_set_pt)(ngx_conf_t *cf,
    ngx_oci_notify_t *notify, ngx_str_t *value);


static char *ngx_oci_notify_enter(ngx_conf_t *cf, ngx_oci_notify_t *notify);
static char *ngx_oci_notify_argument(ngx_conf_t *cf,
    ngx_oci_notify_t *notify, ngx_str_t *value);
static char *ngx_oci_notify_add_event(ngx_conf_t *cf,
    ngx_oci_notify_t *notify, ngx_str_t *value);
static char *ngx_oci_notify_url(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_queue(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_format(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_repositories(ngx_conf_t *cf,
    ngx_oci_notify_t *notify, ngx_str_t *value);
static char *ngx_oci_notify_secret(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_size(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_timeout(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_retry(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value);
static char *ngx_oci_notify_certificate(ngx_conf_t *cf,
    ngx_oci_notify_t *notify, ngx_str_t *value);
static char *ngx_oci_notify_invalid(ngx_conf_t *cf, const char *why,
    ngx_str_t *value);
static ngx_int_t ngx_oci_notify_servers(ngx_conf_t *cf,
    ngx_oci_hooks_main_conf_t *hmcf);
static ngx_int_t ngx_oci_notify_init_zone(ngx_shm_zone_t *zone, void *data);
static ngx_oci_notify_sh_t *ngx_oci_notify_slot(ngx_oci_notify_zone_t *z,
    ngx_oci_hooks_main_conf_t *hmcf, uint64_t key);
static uint64_t ngx_oci_notify_key(ngx_str_t *dir);
static ngx_int_t ngx_oci_notify_info(ngx_uint_t i,
    ngx_oci_queue_info_t *info);


static struct {
    ngx_str_t               name;
    ngx_oci_notify_set_pt   set;
} ngx_oci_notify_arguments[] = {
    { ngx_string("queue="), ngx_oci_notify_queue },
    { ngx_string("format="), ngx_oci_notify_format },
    { ngx_string("repositories="), ngx_oci_notify_repositories },
    { ngx_string("secret="), ngx_oci_notify_secret },
    { ngx_string("size="), ngx_oci_notify_size },
    { ngx_string("timeout="), ngx_oci_notify_timeout },
    { ngx_string("retry="), ngx_oci_notify_retry },
    { ngx_string("trusted_certificate="), ngx_oci_notify_certificate },
    { ngx_null_string, NULL }
};


/* of this cycle's zone */

static ngx_slab_pool_t        *ngx_oci_notify_shpool;
static ngx_oci_notify_zone_t  *ngx_oci_notify_shared;


char *
ngx_oci_notify_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_hooks_srv_conf_t *hscf = conf;

    char              *rv;
    ngx_str_t         *value;
    ngx_uint_t         i;
    ngx_oci_notify_t  *notify, **n;

    notify = ngx_pcalloc(cf->pool, sizeof(ngx_oci_notify_t));

    if (hscf->notify == NULL) {
        hscf->notify = ngx_array_create(cf->pool, 2,
                                        sizeof(ngx_oci_notify_t *));
    }

    if (notify == NULL || hscf->notify == NULL) {
        return NGX_CONF_ERROR;
    }

    notify->timeout = 5000;
    notify->retry = 60000;
    notify->size = 64 * 1024 * 1024;
    notify->fd = NGX_INVALID_FILE;
    notify->lock = NGX_INVALID_FILE;
    notify->file = cf->conf_file->file.name.data;
    notify->line = cf->conf_file->line;
    notify->server = (cf->cmd_type == NGX_HTTP_SRV_CONF) ? cf->ctx : NULL;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_oci_notify_argument(cf, notify, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (notify->url.len == 0) {
        return "needs an \"http://\" or \"https://\" URL";
    }

    if (notify->events == 0) {
        return "needs an event";
    }

    if (notify->dir.len == 0) {
        return "needs \"queue=\"";
    }

    n = ngx_array_push(hscf->notify);
    if (n == NULL) {
        return NGX_CONF_ERROR;
    }

    *n = notify;

    return ngx_oci_notify_enter(cf, notify);
}


/* among all of them */

static char *
ngx_oci_notify_enter(ngx_conf_t *cf, ngx_oci_notify_t *notify)
{
    ngx_path_t                 *path;
    ngx_uint_t                  i;
    ngx_oci_notify_t          **all;
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_hooks_module);

    all = hmcf->notify.elts;

    for (i = 0; i < hmcf->notify.nelts; i++) {
        if (all[i]->dir.len == notify->dir.len
            && ngx_memcmp(all[i]->dir.data, notify->dir.data, notify->dir.len)
               == 0)
        {
            return "has the queue of another one";
        }
    }

    if (i == NGX_OCI_NOTIFY_MAX) {
        return "is there more than 64 times";
    }

    /* whoever sends has a thread, where there is no cache, too */

    if (ngx_thread_pool_add(cf, NULL) == NULL) {
        return NGX_CONF_ERROR;
    }

    /* the core makes the directory, for the workers' user */

    path = &notify->path;

    path->name = notify->dir;
    path->data = notify;
    path->conf_file = notify->file;
    path->line = notify->line;

    if (ngx_add_path(cf, &path) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    notify->receiver = ngx_oci_core.receiver(cf, &notify->dir, &notify->to,
                                             &notify->certificate,
                                             notify->timeout);
    if (notify->receiver == NULL) {
        return NGX_CONF_ERROR;
    }

    all = ngx_array_push(&hmcf->notify);
    if (all == NULL) {
        return NGX_CONF_ERROR;
    }

    *all = notify;

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_argument(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    ngx_str_t   s, *name;
    ngx_uint_t  i;

    if (ngx_oci_path_begins(value, "http://")
        || ngx_oci_path_begins(value, "https://"))
    {
        return ngx_oci_notify_url(cf, notify, value);
    }

    for (i = 0; ngx_oci_notify_arguments[i].set; i++) {

        name = &ngx_oci_notify_arguments[i].name;

        if (value->len > name->len
            && ngx_strncmp(value->data, name->data, name->len) == 0)
        {
            s.data = value->data + name->len;
            s.len = value->len - name->len;

            return ngx_oci_notify_arguments[i].set(cf, notify, &s);
        }
    }

    return ngx_oci_notify_add_event(cf, notify, value);
}


static char *
ngx_oci_notify_add_event(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    ngx_uint_t   i, bit;
    const char  *name;

    for (i = 0; (name = ngx_oci_note_name(i)) != NULL; i++) {

        if (ngx_strcmp(value->data, name) != 0) {
            continue;
        }

        bit = (ngx_uint_t) 1 << i;

        if (notify->events & bit) {
            return ngx_oci_notify_invalid(cf, "duplicate event", value);
        }

        notify->events |= bit;

        return NGX_CONF_OK;
    }

    return ngx_oci_notify_invalid(cf, "invalid event or parameter", value);
}


/* what follows the host may be a secret: it is in no message */

static char *
ngx_oci_notify_url(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    if (notify->url.len) {
        return "has more than one URL";
    }

    if (ngx_oci_url_parse(value, &notify->to) != NGX_OK
        || !notify->to.absolute)
    {
        return "has an invalid URL";
    }

    notify->url = *value;

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_queue(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    if (notify->dir.len) {
        return ngx_oci_notify_invalid(cf, "duplicate queue", value);
    }

    notify->dir = *value;

    if (notify->dir.data[notify->dir.len - 1] == '/') {
        notify->dir.data[--notify->dir.len] = '\0';
    }

    if (notify->dir.len == 0
        || ngx_conf_full_name(cf->cycle, &notify->dir, 0) != NGX_OK)
    {
        return ngx_oci_notify_invalid(cf, "invalid queue", value);
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_format(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    ngx_uint_t   i;
    const char  *name;

    for (i = 0; (name = ngx_oci_note_format(i)) != NULL; i++) {
        if (ngx_strcmp(value->data, name) == 0) {
            notify->format = i;
            return NGX_CONF_OK;
        }
    }

    return ngx_oci_notify_invalid(cf, "invalid format", value);
}


/* patterns, with a comma between two */

static char *
ngx_oci_notify_repositories(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    u_char      *p, *end, *last;
    ngx_str_t   *pattern;
    const char  *why;

    if (notify->patterns) {
        return ngx_oci_notify_invalid(cf, "duplicate repositories", value);
    }

    notify->patterns = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
    if (notify->patterns == NULL) {
        return NGX_CONF_ERROR;
    }

    last = value->data + value->len;

    for (p = value->data; p <= last; p = end + 1) {

        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        pattern = ngx_array_push(notify->patterns);
        if (pattern == NULL) {
            return NGX_CONF_ERROR;
        }

        pattern->data = p;
        pattern->len = end - p;

        why = ngx_oci_pattern_check((char *) p, end - p);

        if (why) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid repositories \"%V\": %s", pattern,
                               why);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_secret(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    char        *rv;
    u_char       id[NGX_OCI_NOTE_ID], signature[NGX_OCI_SIGNATURE_LEN];
    ngx_str_t   *key, body, name;
    ngx_uint_t   i;

    if (notify->keys) {
        return ngx_oci_notify_invalid(cf, "duplicate secret", value);
    }

    name = *value;

    rv = ngx_oci_hook_secrets(cf, &notify->keys, &name);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (notify->keys->nelts > 4) {
        return ngx_oci_notify_invalid(cf, "more than 4 secrets in", &name);
    }

    /* one that can't sign is found now */

    ngx_memzero(id, sizeof(id));
    ngx_str_set(&body, "");

    key = notify->keys->elts;

    for (i = 0; i < notify->keys->nelts; i++) {
        if (ngx_oci_note_sign(&key[i], id, 0, &body, signature) != NGX_OK) {
            return ngx_oci_notify_invalid(cf, "no base64, or too much of "
                                          "it, behind \"whsec_\" in", &name);
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_size(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    notify->size = ngx_parse_offset(value);

    if (notify->size == NGX_ERROR || notify->size < 4 * NGX_OCI_NOTIFY_FILE) {
        return ngx_oci_notify_invalid(cf, "invalid size (512k at least)",
                                      value);
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_timeout(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms == 0) {
        return ngx_oci_notify_invalid(cf, "invalid timeout", value);
    }

    notify->timeout = ms;

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_retry(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms == 0 || ms > 86400000) {
        return ngx_oci_notify_invalid(cf, "invalid retry", value);
    }

    notify->retry = ms;

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_certificate(ngx_conf_t *cf, ngx_oci_notify_t *notify,
    ngx_str_t *value)
{
    notify->certificate = *value;

    return NGX_CONF_OK;
}


static char *
ngx_oci_notify_invalid(ngx_conf_t *cf, const char *why, ngx_str_t *value)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s \"%V\" of \"oci_notify\"",
                       why, value);

    return NGX_CONF_ERROR;
}


ngx_int_t
ngx_oci_notify_init(ngx_conf_t *cf, ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_str_t                   name;
    ngx_shm_zone_t             *zone;
    ngx_oci_main_conf_t        *omcf;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    if (ngx_oci_notify_servers(cf, hmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_oci_notify_log;

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    omcf->queue_info = ngx_oci_notify_info;

    ngx_str_set(&name, "nginx_oci_notify");

    zone = ngx_shared_memory_add(cf, &name, NGX_OCI_NOTIFY_ZONE,
                                 &ngx_http_oci_hooks_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    zone->init = ngx_oci_notify_init_zone;
    zone->data = hmcf;

    return NGX_OK;
}


/* of http: any server's resolver, for each has that of http but its own */

static ngx_int_t
ngx_oci_notify_servers(ngx_conf_t *cf, ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_uint_t                   i;
    ngx_oci_notify_t           **n;
    ngx_http_conf_ctx_t         *server;
    ngx_http_core_srv_conf_t   **cscf;
    ngx_http_core_main_conf_t   *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    cscf = cmcf->servers.elts;
    n = hmcf->notify.elts;

    for (i = 0; i < hmcf->notify.nelts; i++) {

        server = n[i]->server ? n[i]->server
                 : cmcf->servers.nelts ? cscf[0]->ctx : NULL;

        if (server == NULL) {
            continue;
        }

        if (ngx_oci_core.receiver_server(n[i]->receiver, server) != NGX_OK) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"resolver\" is required for the host \"%V\" of "
                          "\"oci_notify\" in %s:%ui", &n[i]->to.host,
                          n[i]->file, n[i]->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_notify_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                  i;
    ngx_oci_notify_t          **n;
    ngx_oci_notify_zone_t      *z;
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = zone->data;
    ngx_oci_notify_shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data || zone->shm.exists) {
        z = ngx_oci_notify_shpool->data;

    } else {
        z = ngx_slab_calloc(ngx_oci_notify_shpool,
                            sizeof(ngx_oci_notify_zone_t));
        if (z == NULL) {
            return NGX_ERROR;
        }

        ngx_oci_notify_shpool->data = z;
    }

    ngx_oci_notify_shared = z;

    n = hmcf->notify.elts;

    for (i = 0; i < hmcf->notify.nelts; i++) {
        n[i]->sh = ngx_oci_notify_slot(z, hmcf,
                                       ngx_oci_notify_key(&n[i]->dir));
    }

    return NGX_OK;
}


/*
 * The queue's own, or one that no directive has any more: workers of before
 * may count there once or twice.  There are as many as directives at most.
 */

static ngx_oci_notify_sh_t *
ngx_oci_notify_slot(ngx_oci_notify_zone_t *z,
    ngx_oci_hooks_main_conf_t *hmcf, uint64_t key)
{
    ngx_uint_t            i, k;
    ngx_oci_notify_t    **n;
    ngx_oci_notify_sh_t  *sh;

    for (i = 0; i < NGX_OCI_NOTIFY_MAX; i++) {
        if (z->queues[i].key == key) {
            return &z->queues[i];
        }
    }

    for (i = 0; i < NGX_OCI_NOTIFY_MAX && z->queues[i].key; i++) {
        /* void */
    }

    n = hmcf->notify.elts;

    if (i == NGX_OCI_NOTIFY_MAX) {

        for (i = 0; i < NGX_OCI_NOTIFY_MAX - 1; i++) {

            for (k = 0; k < hmcf->notify.nelts; k++) {
                if (ngx_oci_notify_key(&n[k]->dir) == z->queues[i].key) {
                    break;
                }
            }

            if (k == hmcf->notify.nelts) {
                break;
            }
        }
    }

    sh = &z->queues[i];

    ngx_memzero(sh, sizeof(ngx_oci_notify_sh_t));
    sh->key = key;

    return sh;
}


/* not 0 */

static uint64_t
ngx_oci_notify_key(ngx_str_t *dir)
{
    u_char    md[SHA256_DIGEST_LENGTH];
    uint64_t  key;

    (void) SHA256(dir->data, dir->len, md);

    ngx_memcpy(&key, md, sizeof(uint64_t));

    return key ? key : 1;
}


ngx_uint_t
ngx_oci_notify_seen(uint64_t key)
{
    ngx_uint_t              seen;
    ngx_oci_notify_seen_t  *s;

    s = &ngx_oci_notify_shared->seen[key % NGX_OCI_NOTIFY_SEEN];

    ngx_shmtx_lock(&ngx_oci_notify_shpool->mutex);

    seen = (s->key == key && s->due > ngx_time());

    if (!seen) {
        s->key = key;
        s->due = ngx_time() + NGX_OCI_NOTIFY_AGAIN;
    }

    ngx_shmtx_unlock(&ngx_oci_notify_shpool->mutex);

    return seen;
}


static ngx_int_t
ngx_oci_notify_info(ngx_uint_t i, ngx_oci_queue_info_t *info)
{
    ngx_oci_notify_t           *n;
    ngx_oci_hooks_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_hooks_module);

    if (hmcf == NULL || i >= hmcf->notify.nelts) {
        return NGX_DECLINED;
    }

    n = ((ngx_oci_notify_t **) hmcf->notify.elts)[i];

    info->name = n->dir;
    info->events = ngx_oci_notify_waiting(n->sh);
    info->bytes = ngx_oci_notify_get(n->sh->bytes);
    info->sent = ngx_oci_notify_get(n->sh->sent);
    info->failed = ngx_oci_notify_get(n->sh->failed);
    info->dropped = ngx_oci_notify_get(n->sh->dropped);

    return NGX_OK;
}
