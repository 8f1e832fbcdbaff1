
/*
 * Copyright (C) The nginx-oci authors
 *
 * The oci_registry{} block.
 */


#include "ngx_oci_core.h"


#define NGX_OCI_CREDENTIALS_MAX  4096       /* bytes of such a file */


typedef char *(*ngx_oci_registry_set_pt)(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);


typedef struct {
    ngx_str_t                  name;
    ngx_uint_t                 min;         /* arguments */
    ngx_uint_t                 max;
    ngx_uint_t                 repeated;
    ngx_oci_registry_set_pt    set;
} ngx_oci_registry_command_t;


static char *ngx_oci_registry_line(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf);
static char *ngx_oci_registry_url(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_public_url(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_host(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_credentials(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_fill_credentials(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_path(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_realm_allow(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_redirect_allow(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_certificate(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_ssl_verify(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_connect_timeout(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_stall_timeout(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_max_connections(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_rate(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_breaker(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_hosts(ngx_conf_t *cf, ngx_array_t **hosts,
    ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_registry_read_credentials(ngx_conf_t *cf,
    ngx_str_t *name, ngx_oci_credentials_t **credentials);
static char *ngx_oci_registry_done(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);
static char *ngx_oci_registry_group(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);


static ngx_oci_registry_command_t  ngx_oci_registry_commands[] = {
    { ngx_string("url"), 1, 2, 0, ngx_oci_registry_url },
    { ngx_string("public_url"), 1, 1, 0, ngx_oci_registry_public_url },
    { ngx_string("host"), 1, 1, 0, ngx_oci_registry_host },
    { ngx_string("credentials"), 1, 2, 0, ngx_oci_registry_credentials },
    { ngx_string("fill_credentials"), 1, 2, 0,
      ngx_oci_registry_fill_credentials },
    { ngx_string("path"), 2, 2, 1, ngx_oci_registry_path },
    { ngx_string("realm_allow"), 1, 16, 1, ngx_oci_registry_realm_allow },
    { ngx_string("redirect_allow"), 1, 16, 1,
      ngx_oci_registry_redirect_allow },
    { ngx_string("address_allow"), 1, 16, 1, ngx_oci_private_allow },
    { ngx_string("trusted_certificate"), 1, 1, 0,
      ngx_oci_registry_certificate },
    { ngx_string("ssl_verify"), 1, 1, 0, ngx_oci_registry_ssl_verify },
    { ngx_string("connect_timeout"), 1, 1, 0,
      ngx_oci_registry_connect_timeout },
    { ngx_string("stall_timeout"), 1, 1, 0,
      ngx_oci_registry_stall_timeout },
    { ngx_string("max_connections"), 1, 1, 0,
      ngx_oci_registry_max_connections },
    { ngx_string("rate"), 1, 1, 0, ngx_oci_registry_rate },
    { ngx_string("breaker"), 1, 1, 0, ngx_oci_registry_breaker },
    { ngx_null_string, 0, 0, 0, NULL }
};


extern ngx_module_t  ngx_http_proxy_module;


/* the block that is being read; configurations are read one at a time */

static struct {
    ngx_oci_registry_t  *registry;
    uint32_t             seen;          /* a bit a command */
    ngx_uint_t           resolve;       /* of url */
} ngx_oci_registry_state;


char *
ngx_oci_registry_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_main_conf_t *omcf = conf;

    char                 *rv;
    u_char                ch;
    ngx_str_t            *value;
    ngx_uint_t            i;
    ngx_conf_t            save;
    ngx_oci_registry_t   *registry, **p;

    value = cf->args->elts;

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if ((ch | 0x20) < 'a' || (ch | 0x20) > 'z') {
            if ((ch < '0' || ch > '9') && ch != '-' && ch != '_'
                && ch != '.')
            {
                break;
            }
        }
    }

    if (value[1].len == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid oci_registry name \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_registry_find(omcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate oci_registry \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    registry = ngx_pcalloc(cf->pool, sizeof(ngx_oci_registry_t));
    p = ngx_array_push(&omcf->registries);

    if (registry == NULL || p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = registry;

    registry->name = value[1];
    registry->index = omcf->registries.nelts - 1;
    registry->connect_timeout = 10000;
    registry->stall_timeout = 60000;
    registry->max_connections = 64;
    registry->ssl_verify = 1;
    registry->breaker = 1;

    ngx_oci_registry_state.registry = registry;
    ngx_oci_registry_state.seen = 0;
    ngx_oci_registry_state.resolve = 0;

    save = *cf;
    cf->handler = ngx_oci_registry_line;
    cf->handler_conf = NULL;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_oci_registry_done(cf, registry);
}


/* a line of nginx's own proxy module, for the expansion of oci_pass */

static char *
ngx_oci_registry_proxy(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    ngx_str_t       *value, *copy;
    ngx_uint_t       n;
    ngx_array_t    **line;
    ngx_command_t   *proxy;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    for (proxy = ngx_http_proxy_module.commands;
         proxy->name.len;
         proxy++)
    {
        if (proxy->name.len == value[0].len
            && ngx_strncmp(proxy->name.data, value[0].data,
                           value[0].len)
               == 0)
        {
            break;
        }
    }

    if (ngx_strcmp(value[0].data, "proxy_pass") == 0
        || ngx_strncmp(value[0].data, "proxy_cache", 11) == 0
        || ngx_strncmp(value[0].data, "proxy_store", 11) == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not for an oci_registry",
                           &value[0]);
        return NGX_CONF_ERROR;
    }

    if (proxy->name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown directive \"%V\"", &value[0]);
        return NGX_CONF_ERROR;
    }

    if (registry->proxy == NULL) {
        registry->proxy = ngx_array_create(cf->pool, 4,
                                           sizeof(ngx_array_t *));
        if (registry->proxy == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    line = ngx_array_push(registry->proxy);
    if (line == NULL) {
        return NGX_CONF_ERROR;
    }

    *line = ngx_array_create(cf->pool, n + 1, sizeof(ngx_str_t));
    if (*line == NULL) {
        return NGX_CONF_ERROR;
    }

    copy = ngx_array_push_n(*line, n + 1);
    ngx_memcpy(copy, value, (n + 1) * sizeof(ngx_str_t));

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    ngx_str_t                   *value;
    ngx_uint_t                   i, n;
    ngx_oci_registry_t          *registry;
    ngx_oci_registry_command_t  *cmd;

    registry = ngx_oci_registry_state.registry;
    value = cf->args->elts;
    n = cf->args->nelts - 1;

    if (value[0].len > 6 && ngx_strncmp(value[0].data, "proxy_", 6) == 0) {

        return ngx_oci_registry_proxy(cf, registry);
    }

    for (i = 0; ngx_oci_registry_commands[i].name.len; i++) {
        cmd = &ngx_oci_registry_commands[i];

        if (cmd->name.len != value[0].len
            || ngx_strncmp(cmd->name.data, value[0].data, value[0].len) != 0)
        {
            continue;
        }

        if (n < cmd->min || n > cmd->max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of arguments in \"%V\" parameter",
                           &value[0]);
            return NGX_CONF_ERROR;
        }

        if (!cmd->repeated
            && (ngx_oci_registry_state.seen & ((uint32_t) 1 << i)))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" parameter is duplicate", &value[0]);
            return NGX_CONF_ERROR;
        }

        ngx_oci_registry_state.seen |= (uint32_t) 1 << i;

        return cmd->set(cf, registry, value + 1, n);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown oci_registry parameter \"%V\"", &value[0]);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_registry_invalid(ngx_conf_t *cf, const char *what, ngx_str_t *value)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %s \"%V\"", what,
                       value);
    return NGX_CONF_ERROR;
}


static char *
ngx_oci_registry_url(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_oci_url_t  url;

    if (ngx_oci_url_parse(value, &url) != NGX_OK || !url.absolute
        || url.uri.len != 1)
    {
        return ngx_oci_registry_invalid(cf, "registry url", value);
    }

    if (n == 2) {
        if (ngx_strcmp(value[1].data, "resolve") != 0) {
            return ngx_oci_registry_invalid(cf, "parameter", &value[1]);
        }

        ngx_oci_registry_state.resolve = 1;
    }

    registry->scheme = url.scheme;
    registry->ssl = (url.scheme.len == 5);

    /* the authority as written, without the path */

    registry->group.data = url.host.data;
    registry->group.len = value->data + value->len - url.host.data;

    if (registry->group.data[registry->group.len - 1] == '/') {
        registry->group.len--;
    }

    registry->authority = registry->group;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_public_url(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_oci_url_t  url;

    if (ngx_oci_url_parse(value, &url) != NGX_OK || !url.absolute
        || url.uri.len != 1)
    {
        return ngx_oci_registry_invalid(cf, "public_url", value);
    }

    registry->public_url = *value;

    if (value->data[value->len - 1] == '/') {
        registry->public_url.len--;
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_host(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_str_t      text;
    ngx_oci_url_t  url;

    text.len = sizeof("http://") - 1 + value->len;
    text.data = ngx_pnalloc(cf->pool, text.len);
    if (text.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memcpy(ngx_cpymem(text.data, "http://", 7), value->data, value->len);

    if (ngx_oci_url_parse(&text, &url) != NGX_OK
        || ngx_strlchr(value->data, value->data + value->len, '/'))
    {
        return ngx_oci_registry_invalid(cf, "host", value);
    }

    registry->host = *value;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_credentials(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    if (n == 1 && ngx_strcmp(value[0].data, "client") == 0) {
        return NGX_CONF_OK;
    }

    registry->credentials = NGX_OCI_CREDENTIALS_STORED;

    if (n == 1 && ngx_strcmp(value[0].data, "anonymous") == 0) {
        return NGX_CONF_OK;
    }

    if (n == 2 && ngx_strcmp(value[0].data, "file") == 0) {
        return ngx_oci_registry_read_credentials(cf, &value[1],
                                                 &registry->stored);
    }

    return ngx_oci_registry_invalid(cf, "credentials", value);
}


static char *
ngx_oci_registry_fill_credentials(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n)
{
    if (n == 2 && ngx_strcmp(value[0].data, "file") == 0) {
        return ngx_oci_registry_read_credentials(cf, &value[1],
                                                 &registry->fill);
    }

    return ngx_oci_registry_invalid(cf, "fill_credentials", value);
}


/* "user:password" on the first line of a file that others can't read */

static char *
ngx_oci_registry_read_credentials(ngx_conf_t *cf, ngx_str_t *name,
    ngx_oci_credentials_t **credentials)
{
    int                     fd;
    u_char                 *buf, *p, *last;
    ssize_t                 n;
    ngx_str_t               text;
    struct stat             sb;
    ngx_oci_credentials_t  *c;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    fd = open((char *) name->data, O_RDONLY|O_CLOEXEC);
    if (fd == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "open() \"%V\" failed", name);
        return NGX_CONF_ERROR;
    }

    buf = ngx_pnalloc(cf->pool, NGX_OCI_CREDENTIALS_MAX);
    c = ngx_pcalloc(cf->pool, sizeof(ngx_oci_credentials_t));

    if (buf == NULL || c == NULL || fstat(fd, &sb) == -1) {
        close(fd);
        return NGX_CONF_ERROR;
    }

    n = read(fd, buf, NGX_OCI_CREDENTIALS_MAX);
    close(fd);

    if (sb.st_mode & (S_IROTH|S_IWOTH)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "credentials file \"%V\" is open to everyone",
                           name);
        return NGX_CONF_ERROR;
    }

    last = buf + ngx_max(n, 0);

    for (p = buf; p < last && *p != '\n' && *p != '\r'; p++) {
        if (*p < 0x20) {
            break;
        }
    }

    text.data = buf;
    text.len = p - buf;

    p = ngx_strlchr(buf, p, ':');

    if (p == NULL || p == buf || n == NGX_OCI_CREDENTIALS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"user:password\" in \"%V\"", name);
        return NGX_CONF_ERROR;
    }

    c->user.data = buf;
    c->user.len = p - buf;
    c->password.data = p + 1;
    c->password.len = text.data + text.len - p - 1;

    c->basic.data = ngx_pnalloc(cf->pool, sizeof("Basic ") - 1
                                          + ngx_base64_encoded_length(
                                                               text.len));
    if (c->basic.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memcpy(c->basic.data, "Basic ", 6);
    c->basic.data += 6;
    ngx_encode_base64(&c->basic, &text);
    c->basic.data -= 6;
    c->basic.len += 6;

    *credentials = c;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_path(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_uint_t           i;
    ngx_oci_path_map_t  *map;

    for (i = 0; i < 2; i++) {
        if (value[i].len
            && ngx_oci_name_valid(value[i].data, value[i].len) != NGX_OK)
        {
            return ngx_oci_registry_invalid(cf, "path", &value[i]);
        }
    }

    if (registry->paths == NULL) {
        registry->paths = ngx_array_create(cf->pool, 2,
                                           sizeof(ngx_oci_path_map_t));
        if (registry->paths == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    map = ngx_array_push(registry->paths);
    if (map == NULL) {
        return NGX_CONF_ERROR;
    }

    map->from = value[0];
    map->to = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_realm_allow(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_oci_registry_hosts(cf, &registry->realm_allow, value, n);
}


static char *
ngx_oci_registry_redirect_allow(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_oci_registry_hosts(cf, &registry->redirect_allow, value, n);
}


static char *
ngx_oci_registry_hosts(ngx_conf_t *cf, ngx_array_t **hosts,
    ngx_str_t *value, ngx_uint_t n)
{
    u_char           *p;
    ngx_uint_t        i;
    ngx_str_t         text;
    ngx_oci_url_t     url;
    ngx_oci_host_t   *host;

    if (*hosts == NULL) {
        *hosts = ngx_array_create(cf->pool, 4, sizeof(ngx_oci_host_t));
        if (*hosts == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 0; i < n; i++) {

        text.len = sizeof("http://") - 1 + value[i].len;
        text.data = ngx_pnalloc(cf->pool, text.len);
        host = ngx_array_push(*hosts);

        if (text.data == NULL || host == NULL) {
            return NGX_CONF_ERROR;
        }

        p = ngx_cpymem(text.data, "http://", 7);
        ngx_strlow(p, value[i].data, value[i].len);

        if (ngx_oci_url_parse(&text, &url) != NGX_OK
            || ngx_strlchr(value[i].data, value[i].data + value[i].len, '/'))
        {
            return ngx_oci_registry_invalid(cf, "host", &value[i]);
        }

        host->host = url.host;
        host->port = (url.host.len == value[i].len) ? 0 : url.port;
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_certificate(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    registry->trusted_certificate = *value;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_ssl_verify(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ngx_strcmp(value->data, "on") == 0) {
        registry->ssl_verify = 1;

    } else if (ngx_strcmp(value->data, "off") == 0) {
        registry->ssl_verify = 0;

    } else {
        return ngx_oci_registry_invalid(cf, "ssl_verify", value);
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_connect_timeout(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms == 0) {
        return ngx_oci_registry_invalid(cf, "connect_timeout", value);
    }

    registry->connect_timeout = ms;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_stall_timeout(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms == 0) {
        return ngx_oci_registry_invalid(cf, "stall_timeout", value);
    }

    registry->stall_timeout = ms;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_max_connections(ngx_conf_t *cf,
    ngx_oci_registry_t *registry, ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t  v;

    v = ngx_atoi(value->data, value->len);

    if (v == NGX_ERROR || v == 0 || v > 65535) {
        return ngx_oci_registry_invalid(cf, "max_connections", value);
    }

    registry->max_connections = v;

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_rate(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    registry->rate = ngx_parse_offset(value);

    /* less than that would come in drops */

    if (registry->rate == NGX_ERROR
        || (registry->rate && registry->rate < 1024))
    {
        return ngx_oci_registry_invalid(cf, "rate", value);
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_breaker(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ngx_strcmp(value->data, "on") == 0) {
        registry->breaker = 1;

    } else if (ngx_strcmp(value->data, "off") == 0) {
        registry->breaker = 0;

    } else {
        return ngx_oci_registry_invalid(cf, "breaker", value);
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_registry_done(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    if (registry->scheme.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"url\" in oci_registry \"%V\"",
                           &registry->name);
        return NGX_CONF_ERROR;
    }

    if (registry->host.len == 0) {
        registry->host = registry->group;
    }

    if (ngx_oci_exchange_trusted(cf, registry, "oci_registry") != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* what the core says of these has no place in the file */

    if (ngx_oci_registry_group(cf, registry) != NGX_CONF_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"url\" of oci_registry \"%V\"",
                           &registry->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_exchange_init_registry(cf, registry) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid TLS parameters of oci_registry \"%V\"",
                           &registry->name);
        return NGX_CONF_ERROR;
    }

    return ngx_oci_group_check(cf, registry);
}


/*
 * The upstream{} that the url names, or one made for its host, with
 * keep-alive: what an operator would write.  With "resolve" there is none.
 */

static char *
ngx_oci_registry_group(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    char               *rv;
    u_char             *p;
    ngx_str_t           text, name, *args;
    ngx_buf_t           b;
    ngx_conf_t          save;
    ngx_array_t        *array;
    ngx_command_t      *cmd;
    ngx_conf_file_t     conf_file;

    registry->upstream = ngx_oci_registry_upstream(cf, &registry->group);

    if (registry->upstream) {

        if (ngx_oci_registry_state.resolve) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "upstream \"%V\" is a group of servers, it "
                               "has nothing to \"resolve\"",
                               &registry->group);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if (ngx_oci_registry_state.resolve) {
        return ngx_oci_names_init(cf, registry);
    }

    text.data = ngx_pnalloc(cf->pool, registry->group.len + 128);
    array = ngx_array_create(cf->pool, 2, sizeof(ngx_str_t));

    if (text.data == NULL || array == NULL) {
        return NGX_CONF_ERROR;
    }

    p = ngx_sprintf(text.data, "server %V%s; keepalive %ui;",
                    &registry->group,
                    (ngx_strlchr(registry->group.data, registry->group.data
                                 + registry->group.len, ':')
                     == NULL && registry->ssl) ? ":443" : "",
                    ngx_min(registry->max_connections, 64));
    text.len = p - text.data;

    args = ngx_array_push_n(array, 2);
    ngx_str_set(&args[0], "upstream");

    name.data = ngx_pnalloc(cf->pool, registry->name.len + 14);
    if (name.data == NULL) {
        return NGX_CONF_ERROR;
    }

    name.len = ngx_sprintf(name.data, "oci_registry_%V%Z", &registry->name)
               - name.data - 1;

    /* the block's own lines take the array over */

    args[1] = name;

    for (cmd = ngx_http_upstream_module.commands; cmd->name.len; cmd++) {
        if (cmd->name.len == 8
            && ngx_strncmp(cmd->name.data, "upstream", 8) == 0)
        {
            break;
        }
    }

    save = *cf;

    ngx_memzero(&b, sizeof(ngx_buf_t));
    b.start = text.data;
    b.pos = text.data;
    b.last = text.data + text.len;
    b.end = b.last;
    b.temporary = 1;

    ngx_memzero(&conf_file, sizeof(ngx_conf_file_t));
    conf_file.file.fd = NGX_INVALID_FILE;
    conf_file.file.name = cf->conf_file->file.name;
    conf_file.line = cf->conf_file->line;
    conf_file.buffer = &b;

    cf->args = array;
    cf->conf_file = &conf_file;

    rv = cmd->set(cf, cmd, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    registry->group = name;
    registry->upstream = ngx_oci_registry_upstream(cf, &registry->group);

    return registry->upstream ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_http_upstream_srv_conf_t *
ngx_oci_registry_upstream(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (uscfp[i]->host.len == name->len
            && (uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && ngx_strncasecmp(uscfp[i]->host.data, name->data, name->len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


ngx_oci_registry_t *
ngx_oci_registry_find(ngx_oci_main_conf_t *omcf, ngx_str_t *name)
{
    ngx_uint_t            i;
    ngx_oci_registry_t  **p;

    p = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {
        if (p[i]->name.len == name->len
            && ngx_strncmp(p[i]->name.data, name->data, name->len) == 0)
        {
            return p[i];
        }
    }

    return NULL;
}


char *
ngx_oci_conf_text(ngx_conf_t *cf, ngx_str_t *text)
{
    char             *rv;
    ngx_buf_t         b;
    ngx_conf_t        save;
    ngx_conf_file_t   conf_file;

    save = *cf;

    ngx_memzero(&b, sizeof(ngx_buf_t));
    b.start = text->data;
    b.pos = text->data;
    b.last = text->data + text->len;
    b.end = b.last;
    b.temporary = 1;

    ngx_memzero(&conf_file, sizeof(ngx_conf_file_t));
    conf_file.file.fd = NGX_INVALID_FILE;
    conf_file.file.name = save.conf_file->file.name;
    conf_file.line = save.conf_file->line;
    conf_file.buffer = &b;

    cf->conf_file = &conf_file;
    cf->args = ngx_array_create(cf->pool, 8, sizeof(ngx_str_t));

    if (cf->args == NULL) {
        *cf = save;
        return NGX_CONF_ERROR;
    }

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"proxy_*\" parameters of an "
                           "oci_registry");
    }

    return rv;
}
