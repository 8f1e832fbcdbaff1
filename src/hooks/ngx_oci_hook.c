
/*
 * Copyright (C) The nginx-oci authors
 *
 * What locations that others call have in common: parameters, who may, the
 * body of a request, answers in JSON.
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_platform.h"

#include <openssl/crypto.h>


#define NGX_OCI_HOOK_SECRET   4096      /* bytes of a line */
#define NGX_OCI_HOOK_SECRETS  65536     /* and of the file */


typedef struct {
    ngx_uint_t            open;
    ngx_oci_hook_far_t    far;
} ngx_oci_hook_args_t;


static void ngx_oci_hook_location(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_http_core_loc_conf_t *clcf);
static char *ngx_oci_hook_argument(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *value, ngx_oci_hook_args_t *args);
static char *ngx_oci_hook_value(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_uint_t i, ngx_str_t *s, ngx_oci_hook_args_t *args);
static char *ngx_oci_hook_registry(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *name);
static char *ngx_oci_hook_lines(ngx_conf_t *cf, ngx_array_t **secrets,
    ngx_str_t *name, u_char *p, u_char *last);
static ngx_uint_t ngx_oci_hook_known(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf);
static ngx_str_t *ngx_oci_hook_header(ngx_http_request_t *r,
    ngx_str_t *name);
static ngx_int_t ngx_oci_hook_refuse(ngx_http_request_t *r,
    ngx_uint_t status, const char *message);
static void ngx_oci_hook_body(ngx_http_request_t *r);


static const ngx_oci_duty_t  ngx_oci_hook_preheat_duty = {
    NGX_OCI_DUTY_PREHEAT, ngx_oci_hook_handler, NULL
};


char *
ngx_oci_hook_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_hooks_loc_conf_t *hlcf = conf;

    char                       *rv;
    uint32_t                    place;
    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_oci_hook_args_t         args;
    ngx_oci_hook_conf_t        *ph, **p;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_oci_hooks_main_conf_t  *hmcf;

    if (hlcf->hook) {
        return "is duplicate";
    }

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_hooks_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "stands in a location that has another handler already";
    }

    ph = ngx_pcalloc(cf->pool, sizeof(ngx_oci_hook_conf_t));
    p = ngx_array_push(&hmcf->hooks);

    if (ph == NULL || p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = ph;
    hlcf->hook = ph;

    if (cmd->offset == NGX_OCI_HOOK_WEBHOOK) {
        ph->dispatch = ngx_oci_webhook;
        ph->max = NGX_OCI_WEBHOOK_BODY;

    } else {
        ph->dispatch = ngx_oci_preheat;
        ph->max = NGX_OCI_PREHEAT_BODY;
    }

    ph->webhook = (cmd->offset == NGX_OCI_HOOK_WEBHOOK);
    ph->warm = 1;
    ph->referrers = 1;
    ph->location = clcf;
    ph->name = clcf->name;
    ph->server = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    ph->jobs = 2;
    ph->file = cf->conf_file->file.name.data;
    ph->line = cf->conf_file->line;
    ngx_str_set(&ph->header, "Authorization");

    value = cf->args->elts;
    ngx_memzero(&args, sizeof(ngx_oci_hook_args_t));

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_oci_hook_argument(cf, ph, &value[i], &args);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (ph->registry == NULL) {
        return "needs \"registry=\"";
    }

    if (ph->secrets ? args.open : (!args.open && ph->webhook)) {
        return "needs either \"secret=\" or \"open\"";
    }

    ph->open = args.open;

    if (!ph->webhook
        && (clcf->regex || clcf->named || clcf->name.len == 0
            || clcf->name.data[clcf->name.len - 1] != '/'))
    {
        return "is for a location of a prefix that ends in \"/\"";
    }

    ngx_crc32_init(place);
    ngx_crc32_update(&place, ph->registry->name.data, ph->registry->name.len);
    ngx_crc32_update(&place, ph->name.data, ph->name.len);
    ngx_crc32_update(&place, ph->server->server_name.data,
                     ph->server->server_name.len);
    ngx_crc32_final(place);

    ph->place = place;

    ngx_oci_hook_location(cf, ph, clcf);

    return ngx_oci_hook_peers(cf, ph, &args.far);
}


static void
ngx_oci_hook_location(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_http_core_loc_conf_t *clcf)
{
    if (conf->webhook) {
        clcf->handler = ngx_oci_hook_handler;

    } else {
        ngx_oci_core.duty_set(cf, &ngx_oci_hook_preheat_duty);
    }

    conf->handler = clcf->handler;

    /* what is longer is refused when it is known who asks, and what is not
       stays in memory */

    clcf->client_max_body_size = 0;
    clcf->client_body_buffer_size = conf->max;
    clcf->client_body_in_file_only = 0;
}


ngx_int_t
ngx_oci_hook_check(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf)
{
    if (conf->webhook) {
        return NGX_OK;
    }

    if (!ngx_oci_core.decided(cf)) {

        if (conf->open || conf->secrets) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_preheat\" needs either \"secret=\" or \"open\", "
                      "or \"oci_access\" with an oci_policy, in %s:%ui",
                      conf->file, conf->line);
        return NGX_ERROR;
    }

    /* one value can't be both */

    if (conf->secrets && conf->header.len == sizeof("Authorization") - 1
        && ngx_strncasecmp(conf->header.data, (u_char *) "Authorization",
                           conf->header.len)
           == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"oci_access\" looks at \"Authorization\": "
                      "\"secret=\" needs another \"header=\" in %s:%ui",
                      conf->file, conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_oci_hook_argument(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *value, ngx_oci_hook_args_t *args)
{
    char        *rv;
    ngx_str_t    s;
    ngx_uint_t   i;

    /* the last three are those of oci_preheat */

    static ngx_str_t  names[] = {
        ngx_string("registry="),
        ngx_string("secret="),
        ngx_string("header="),
        ngx_string("jobs="),
        ngx_string("platforms="),
        ngx_string("referrers="),
        ngx_string("peers="),
        ngx_string("peer_secret="),
        ngx_string("peer_trusted=")
    };

    if (ngx_strcmp(value->data, "open") == 0) {
        args->open = 1;
        return NGX_CONF_OK;
    }

    if (conf->webhook && ngx_strcmp(value->data, "warm=off") == 0) {
        conf->warm = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "state=", 6) == 0 && value->len > 6) {
        s.data = value->data + 6;
        s.len = value->len - 6;
        return ngx_oci_job_state_conf(cf, conf, &s);
    }

    rv = NGX_CONF_ERROR;

    for (i = 0; i < (conf->webhook ? 6 : 9); i++) {

        if (value->len > names[i].len
            && ngx_strncmp(value->data, names[i].data, names[i].len) == 0)
        {
            s.data = value->data + names[i].len;
            s.len = value->len - names[i].len;

            rv = ngx_oci_hook_value(cf, conf, i, &s, args);

            /* NULL and NGX_CONF_ERROR: all is said */

            if (rv == NGX_CONF_OK || rv == NGX_CONF_ERROR) {
                return rv;
            }

            break;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       value);

    return NGX_CONF_ERROR;
}


/* as in the names above; a text: it is invalid */

static char *
ngx_oci_hook_value(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf, ngx_uint_t i,
    ngx_str_t *s, ngx_oci_hook_args_t *args)
{
    ngx_int_t  n;

    switch (i) {

    case 0:
        return ngx_oci_hook_registry(cf, conf, s);

    case 1:
        return ngx_oci_hook_secrets(cf, &conf->secrets, s);

    case 2:
        conf->header = *s;
        return NGX_CONF_OK;

    case 3:
        n = ngx_atoi(s->data, s->len);

        if (n < 1 || n > 64) {
            return "number";
        }

        conf->jobs = n;
        return NGX_CONF_OK;

    case 4:
        if (ngx_strcmp(s->data, "all") == 0) {
            return NGX_CONF_OK;
        }

        if (ngx_oci_platforms_valid((char *) s->data, s->len) != NGX_OK) {
            return "platforms";
        }

        conf->platforms = *s;
        return NGX_CONF_OK;

    case 5:
        conf->referrers = (ngx_strcmp(s->data, "off") != 0);

        return (!conf->referrers || ngx_strcmp(s->data, "on") == 0)
               ? NGX_CONF_OK : "flag";

    case 6:
        args->far.urls = *s;
        return NGX_CONF_OK;

    case 7:
        return ngx_oci_hook_secrets(cf, &args->far.secrets, s);

    default:
        args->far.trusted = *s;
        return NGX_CONF_OK;
    }
}


static char *
ngx_oci_hook_registry(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *name)
{
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    conf->registry = ngx_oci_core.registry(omcf, name);

    if (conf->registry == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown oci_registry \"%V\" (it has to stand "
                           "before oci_%s)", name,
                           conf->webhook ? "webhook" : "preheat");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* a line each, so that one can follow another */

char *
ngx_oci_hook_secrets(ngx_conf_t *cf, ngx_array_t **secrets, ngx_str_t *name)
{
    u_char       *p;
    ssize_t       n;
    ngx_fd_t      fd;
    struct stat   st;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY|O_NONBLOCK|O_CLOEXEC,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_CONF_ERROR;
    }

    p = NULL;
    n = -1;

    if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)
        || st.st_size > NGX_OCI_HOOK_SECRETS)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is no regular file of 64k at most", name);

    } else if (st.st_mode & S_IRWXO) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is open to everyone", name);

    } else {
        p = ngx_pnalloc(cf->pool, st.st_size + 1);
        n = p ? read(fd, p, st.st_size) : -1;
    }

    (void) ngx_close_file(fd);

    return (n < 0) ? NGX_CONF_ERROR
                   : ngx_oci_hook_lines(cf, secrets, name, p, p + n);
}


static char *
ngx_oci_hook_lines(ngx_conf_t *cf, ngx_array_t **secrets, ngx_str_t *name,
    u_char *p, u_char *last)
{
    u_char     *end;
    ngx_str_t  *secret;

    *secrets = ngx_array_create(cf->pool, 2, sizeof(ngx_str_t));
    if (*secrets == NULL) {
        return NGX_CONF_ERROR;
    }

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, LF);

        if (end == NULL) {
            end = last;
        }

        if (end == p) {
            continue;
        }

        secret = ngx_array_push(*secrets);
        if (secret == NULL) {
            return NGX_CONF_ERROR;
        }

        secret->data = p;
        secret->len = end - p;

        if (p[secret->len - 1] == CR) {
            secret->len--;
        }

        if (secret->len == 0 || secret->len > NGX_OCI_HOOK_SECRET) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "a line of \"%V\" is empty or too long", name);
            return NGX_CONF_ERROR;
        }
    }

    if ((*secrets)->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is empty", name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_oci_hook_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_str_t                  text;
    ngx_oci_hooks_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_hooks_module);

    if (!ngx_oci_hook_known(r, hlcf->hook)) {
        return ngx_oci_hook_refuse(r, NGX_HTTP_UNAUTHORIZED,
                                   "not authorized");
    }

    if (r->method & NGX_HTTP_POST) {

        if (r->headers_in.content_length_n > (off_t) hlcf->hook->max) {
            return ngx_oci_hook_refuse(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "the body is too large");
        }

        rc = ngx_http_read_client_request_body(r, ngx_oci_hook_body);

        return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
    }

    /* or what is in it would be the next request */

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (hlcf->hook->webhook
        || !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE)))
    {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    ngx_str_null(&text);

    return hlcf->hook->dispatch(r, hlcf->hook, &text);
}


/*
 * Whatever the body is: nobody is asked for it, and one that is none makes no
 * other answer.  Who waits for being asked may send it, or the next request.
 */

static ngx_int_t
ngx_oci_hook_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *message)
{
    if (r->headers_in.expect) {
        r->keepalive = 0;
    }

    r->expect_tested = 1;

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    return ngx_oci_hook_message(r, status, message);
}


/* how long it takes tells the length of what is configured at most */

static ngx_uint_t
ngx_oci_hook_known(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf)
{
    ngx_str_t   *value, *secret;
    ngx_uint_t   i, known;

    if (conf->secrets == NULL) {
        return 1;
    }

    value = ngx_oci_hook_header(r, &conf->header);

    if (value == NULL) {
        return 0;
    }

    known = 0;
    secret = conf->secrets->elts;

    for (i = 0; i < conf->secrets->nelts; i++) {
        if (secret[i].len == value->len
            && CRYPTO_memcmp(secret[i].data, value->data, value->len) == 0)
        {
            known = 1;
        }
    }

    return known;
}


/* NULL: there is none, or more than one */

static ngx_str_t *
ngx_oci_hook_header(ngx_http_request_t *r, ngx_str_t *name)
{
    ngx_list_t           *headers;
    ngx_table_elt_t      *h;
    ngx_oci_header_at_t   at;

    headers = &r->headers_in.headers;
    ngx_memzero(&at, sizeof(ngx_oci_header_at_t));

    /* (a parameter, which ends in a NUL) */

    h = ngx_oci_header_find(headers, &at, (char *) name->data);

    if (h == NULL
        || ngx_oci_header_find(headers, &at, (char *) name->data) != NULL)
    {
        return NULL;
    }

    return &h->value;
}


static void
ngx_oci_hook_body(ngx_http_request_t *r)
{
    size_t                     len;
    u_char                    *p;
    ngx_str_t                  text;
    ngx_chain_t               *cl, *body;
    ngx_oci_hooks_loc_conf_t  *hlcf;

    if (r->request_body == NULL) {

        /* a subrequest of one that keeps its body for itself */

        ngx_http_finalize_request(r,
            ngx_oci_hook_message(r, NGX_HTTP_BAD_REQUEST, "no body"));
        return;
    }

    len = 0;

    /* that of a subrequest may never have been read */

    body = r->request_body ? r->request_body->bufs : NULL;

    for (cl = body; cl; cl = cl->next) {

        if (cl->buf->in_file) {
            ngx_http_finalize_request(r,
                ngx_oci_hook_message(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "the body is too large"));
            return;
        }

        len += cl->buf->last - cl->buf->pos;
    }

    p = ngx_pnalloc(r->pool, len + 1);
    if (p == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    text.data = p;

    for (cl = body; cl; cl = cl->next) {

        /* the last one of a chunked body has nothing */

        if (cl->buf->last != cl->buf->pos) {
            p = ngx_cpymem(p, cl->buf->pos, cl->buf->last - cl->buf->pos);
        }
    }

    *p = '\0';
    text.len = len;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_hooks_module);

    ngx_http_finalize_request(r, hlcf->hook->dispatch(r, hlcf->hook, &text));
}


ngx_int_t
ngx_oci_hook_message(ngx_http_request_t *r, ngx_uint_t status,
    const char *message)
{
    u_char  *p, buf[256];

    /* none of them has anything to be escaped */

    p = ngx_snprintf(buf, sizeof(buf) - 1, "{\"message\":\"%s\"}", message);
    *p = '\0';

    return ngx_oci_hook_send(r, status, (char *) buf);
}


ngx_int_t
ngx_oci_hook_json(ngx_http_request_t *r, ngx_uint_t status, json_t *value)
{
    char       *text;
    ngx_int_t   rc;

    text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);

    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_oci_hook_send(r, status, text);

    free(text);

    return rc;
}


ngx_int_t
ngx_oci_hook_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *json)
{
    size_t      len;
    ngx_buf_t  *b;

    len = ngx_strlen(json);

    b = ngx_create_temp_buf(r->pool, len + 1);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_cpymem(b->last, json, len);
    *b->last++ = LF;

    return ngx_oci_core.send(r, status, "application/json", b);
}
