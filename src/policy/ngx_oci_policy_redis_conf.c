
/*
 * Copyright (C) The nginx-oci authors
 *
 * The parameters of an oci_policy{} block whose document a Redis has.
 */


#include "ngx_oci_policy_redis.h"


#define NGX_OCI_REDIS_PORT      6379
#define NGX_OCI_REDIS_SECRET    512     /* bytes of a password */
#define NGX_OCI_REDIS_PREFIX    64
#define NGX_OCI_REDIS_DB_MAX    999999

#define NGX_OCI_REDIS_CA        "/etc/ssl/certs/ca-certificates.crt"


static char *ngx_oci_policy_redis_url(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, ngx_str_t url);
static char *ngx_oci_policy_redis_password(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, ngx_str_t *value);
static char *ngx_oci_policy_redis_name(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, ngx_str_t *param, ngx_str_t *value);
static char *ngx_oci_policy_redis_time(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, ngx_str_t *param, ngx_str_t *value);
static char *ngx_oci_policy_redis_path(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, ngx_str_t *param, ngx_str_t *value);
static char *ngx_oci_policy_redis_ssl(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf);
static ngx_int_t ngx_oci_policy_redis_key(ngx_conf_t *cf,
    ngx_oci_policy_redis_t *prcf, const char *suffix, ngx_str_t *key);


ngx_int_t
ngx_oci_policy_redis_create(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    ngx_oci_policy_redis_t  *prcf;

    prcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_policy_redis_t));
    if (prcf == NULL) {
        return NGX_ERROR;
    }

    pcf->redis = prcf;

    ngx_str_set(&prcf->prefix, "oci");
    prcf->poll = 1000;
    prcf->stale = 3600000;
    prcf->redis.connect_timeout = 2000;
    prcf->redis.timeout = 2000;
#if (NGX_SSL)
    prcf->redis.ssl_verify = 1;
#endif

    prcf->cycle = cf->cycle;
    prcf->file = cf->conf_file->file.name.data;
    prcf->line = cf->conf_file->line;

    /* what stands in http{} has not been read to its end */

    prcf->clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    return NGX_OK;
}


ngx_uint_t
ngx_oci_policy_redis_used(ngx_oci_policy_conf_t *pcf)
{
    return pcf->redis->used;
}


/* "redis://host:port/db", "rediss://…" or "unix:path" */

char *
ngx_oci_policy_redis_source(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value)
{
    ngx_str_t                url;
    ngx_oci_policy_redis_t  *prcf;

    prcf = pcf->redis;
    url = *value;

    /* a password may stand there: it is not to be said */

    if (ngx_strlchr(url.data, url.data + url.len, '@')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"source\" has no user and no password, see "
                           "\"user\" and \"password_file\"");
        return NGX_CONF_ERROR;
    }

    prcf->used = 1;
    prcf->redis.source = *value;

    if (ngx_strncmp(url.data, "rediss://", 9) == 0) {
        prcf->tls = 1;
        url.data += 9;
        url.len -= 9;

    } else if (ngx_strncmp(url.data, "redis://", 8) == 0) {
        url.data += 8;
        url.len -= 8;
    }

#if !(NGX_SSL)
    if (prcf->tls) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs nginx with SSL", value);
        return NGX_CONF_ERROR;
    }
#endif

    return ngx_oci_policy_redis_url(cf, prcf, url);
}


static char *
ngx_oci_policy_redis_url(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    ngx_str_t url)
{
    u_char     *p, *last;
    ngx_int_t   n;
    ngx_url_t   u;

    last = url.data + url.len;

    if (url.len > 5 && ngx_strncmp(url.data, "unix:", 5) == 0) {
        p = last;

    } else {
        p = ngx_strlchr(url.data, last, '/');
        p = p ? p : last;
    }

    if (p < last) {
        prcf->redis.database.data = p + 1;
        prcf->redis.database.len = last - p - 1;

        n = ngx_atoi(p + 1, last - p - 1);

        if (n == NGX_ERROR || n > NGX_OCI_REDIS_DB_MAX) {
            goto invalid;
        }

        url.len = p - url.data;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = url;
    u.default_port = NGX_OCI_REDIS_PORT;
    u.no_resolve = 1;

    if (url.len == 0 || ngx_parse_url(cf->pool, &u) != NGX_OK || u.uri.len
        || u.host.len == 0)
    {
        goto invalid;
    }

    if (u.naddrs) {
        prcf->redis.addrs = u.addrs;
        prcf->redis.naddrs = u.naddrs;

    } else {
        prcf->redis.host = u.host;
        prcf->redis.port = u.port;
    }

#if (NGX_SSL)

    prcf->redis.ssl_address = (u.naddrs != 0);

    /* without the brackets of an address of IPv6 */

    if (u.host.len > 2 && u.host.data[0] == '[') {
        u.host.data++;
        u.host.len -= 2;
    }

    p = ngx_pnalloc(cf->pool, u.host.len + 1);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn(p, u.host.data, u.host.len + 1);

    prcf->redis.ssl_name.data = p;
    prcf->redis.ssl_name.len = u.host.len;

#endif

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid source \"%V\", it must be \"file:path\", "
                       "\"redis://host:port/db\", \"rediss://host:port/db\" "
                       "or \"unix:path\"", &prcf->redis.source);

    return NGX_CONF_ERROR;
}


/* value[-1] is the parameter's name */

char *
ngx_oci_policy_redis_param(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_str_t               *param;
    ngx_oci_policy_redis_t  *prcf;

    prcf = pcf->redis;
    param = value - 1;

    if (prcf->param.len == 0) {
        prcf->param = *param;
    }

    switch (param->data[0]) {

    case 'p':
        if (ngx_strcmp(param->data, "password_file") == 0) {
            return ngx_oci_policy_redis_password(cf, prcf, value);
        }

        if (ngx_strcmp(param->data, "prefix") == 0) {
            return ngx_oci_policy_redis_name(cf, prcf, param, value);
        }

        return ngx_oci_policy_redis_time(cf, prcf, param, value);

    case 'u':
        return ngx_oci_policy_redis_name(cf, prcf, param, value);

    case 't':
        if (ngx_strcmp(param->data, "timeout") == 0) {
            return ngx_oci_policy_redis_time(cf, prcf, param, value);
        }

        return ngx_oci_policy_redis_path(cf, prcf, param, value);

    case 's':
        if (ngx_strcmp(param->data, "stale") == 0) {
            return ngx_oci_policy_redis_time(cf, prcf, param, value);
        }

        if (ngx_strcmp(param->data, "state_file") == 0) {
            return ngx_oci_policy_redis_path(cf, prcf, param, value);
        }

        return ngx_oci_policy_redis_name(cf, prcf, param, value);

    default:
        if (ngx_strcmp(param->data, "connect_timeout") == 0) {
            return ngx_oci_policy_redis_time(cf, prcf, param, value);
        }

        return ngx_oci_policy_redis_path(cf, prcf, param, value);
    }
}


static char *
ngx_oci_policy_redis_name(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    ngx_str_t *param, ngx_str_t *value)
{
    size_t  i;

    if (value->len == 0 || value->len > NGX_OCI_REDIS_PREFIX) {
        goto invalid;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] <= 0x20 || value->data[i] >= 0x7f
            || value->data[i] == '{' || value->data[i] == '}')
        {
            goto invalid;
        }
    }

    if (param->data[0] == 'u') {
        prcf->redis.user = *value;
        return NGX_CONF_OK;
    }

    if (param->data[0] == 'p') {
        prcf->prefix = *value;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(param->data, "ssl_name") == 0) {
        prcf->ssl_name = *value;
        return NGX_CONF_OK;
    }

#if (NGX_SSL)

    if (ngx_strcmp(value->data, "on") == 0) {
        prcf->redis.ssl_verify = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value->data, "off") == 0) {
        prcf->redis.ssl_verify = 0;
        return NGX_CONF_OK;
    }

#endif

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %V \"%V\"", param,
                       value);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_policy_redis_time(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    ngx_str_t *param, ngx_str_t *value)
{
    ngx_int_t    ms, min, max;
    ngx_msec_t  *place;

    min = 10;
    max = 60000;

    switch (param->data[0]) {

    case 'c':
        place = &prcf->redis.connect_timeout;
        break;

    case 't':
        place = &prcf->redis.timeout;
        break;

    case 'p':
        place = &prcf->poll;
        min = 100;
        break;

    default:
        place = &prcf->stale;
        min = 0;
        max = (ngx_int_t) 30 * 86400 * 1000;
    }

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms < min || ms > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %V \"%V\", it must be a time from %ims "
                           "to %is", param, value, min, max / 1000);
        return NGX_CONF_ERROR;
    }

    *place = (ngx_msec_t) ms;

    return NGX_CONF_OK;
}


static char *
ngx_oci_policy_redis_path(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    ngx_str_t *param, ngx_str_t *value)
{
    ngx_str_t  *place;

    if (value->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %V \"\"", param);
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(param->data, "state_file") == 0) {
        prcf->state_set = 1;
        place = &prcf->state_file;

        if (ngx_strcmp(value->data, "off") == 0) {
            return NGX_CONF_OK;
        }

        *place = *value;

        return (ngx_conf_full_name(cf->cycle, place, 0) == NGX_OK)
               ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    place = (param->data[0] == 't') ? &prcf->trusted_certificate
            : (ngx_strcmp(param->data, "certificate") == 0)
              ? &prcf->certificate : &prcf->certificate_key;

    *place = *value;

    return NGX_CONF_OK;
}


/* on the first line of a file that others can't read */

static char *
ngx_oci_policy_redis_password(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    ngx_str_t *value)
{
    int          fd;
    u_char      *p;
    ssize_t      n;
    ngx_str_t    name;
    struct stat  st;

    name = *value;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    fd = open((char *) name.data, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "open() \"%V\" failed", &name);
        return NGX_CONF_ERROR;
    }

    p = ngx_pcalloc(cf->pool, NGX_OCI_REDIS_SECRET + 2);

    if (p == NULL || fstat(fd, &st) == -1) {
        (void) close(fd);
        return NGX_CONF_ERROR;
    }

    n = read(fd, p, NGX_OCI_REDIS_SECRET + 1);

    (void) close(fd);

    if (st.st_mode & S_IRWXO) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "password_file \"%V\" is open to everyone", &name);
        return NGX_CONF_ERROR;
    }

    prcf->redis.password.data = p;
    prcf->redis.password.len = strcspn((char *) p, "\r\n");

    if (n <= 0 || prcf->redis.password.len == 0
        || prcf->redis.password.len > NGX_OCI_REDIS_SECRET)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no password in the first line of \"%V\"", &name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_oci_policy_redis_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    SHA256_CTX               sha;
    const char              *why;
    ngx_oci_policy_redis_t  *prcf;

    prcf = pcf->redis;

    if (!prcf->used) {

        if (prcf->param.len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in oci_policy \"%V\" is for a source "
                               "in Redis", &prcf->param, &pcf->policy.name);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    why = !prcf->state_set ? "no \"state_file\""
          : (prcf->redis.user.len && prcf->redis.password.len == 0)
            ? "\"user\" without \"password_file\""
          : (!prcf->tls && (prcf->trusted_certificate.len
                            || prcf->certificate.len
                            || prcf->certificate_key.len
                            || prcf->ssl_name.len))
            ? "TLS without \"rediss://\""
          : (prcf->certificate.len && prcf->certificate_key.len == 0)
            ? "\"certificate\" without \"certificate_key\""
          : (prcf->certificate.len == 0 && prcf->certificate_key.len)
            ? "\"certificate_key\" without \"certificate\""
          : NULL;

    if (why) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in oci_policy \"%V\"",
                           why, &pcf->policy.name);
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_policy_redis_key(cf, prcf, "}:doc", &prcf->doc) != NGX_OK
        || ngx_oci_policy_redis_key(cf, prcf, "}:epoch", &prcf->epoch)
           != NGX_OK
        || ngx_oci_policy_redis_key(cf, prcf, "}:changed", &prcf->changed)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* another one has another document */

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, prcf->redis.source.data,
                         prcf->redis.source.len);
    (void) SHA256_Update(&sha, "\0", 1);
    (void) SHA256_Update(&sha, prcf->prefix.data, prcf->prefix.len);
    (void) SHA256_Final(prcf->source, &sha);

    return prcf->tls ? ngx_oci_policy_redis_ssl(cf, pcf) : NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_policy_redis_key(ngx_conf_t *cf, ngx_oci_policy_redis_t *prcf,
    const char *suffix, ngx_str_t *key)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, prcf->prefix.len + ngx_strlen(suffix) + 2);
    if (p == NULL) {
        return NGX_ERROR;
    }

    key->data = p;
    key->len = ngx_sprintf(p, "{%V%s%Z", &prcf->prefix, suffix) - p - 1;

    return NGX_OK;
}


static char *
ngx_oci_policy_redis_ssl(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
#if (NGX_SSL)

    ngx_ssl_t               *ssl;
    ngx_pool_cleanup_t      *cln;
    ngx_oci_redis_conf_t    *rcf;
    ngx_oci_policy_redis_t  *prcf;

    prcf = pcf->redis;
    rcf = &prcf->redis;

    if (prcf->ssl_name.len) {
        rcf->ssl_name = prcf->ssl_name;
        rcf->ssl_address = 0;
    }

    if (rcf->ssl_verify && prcf->trusted_certificate.len == 0) {
        ngx_str_set(&prcf->trusted_certificate, NGX_OCI_REDIS_CA);
    }

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (ssl == NULL || cln == NULL) {
        return NGX_CONF_ERROR;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    rcf->ssl = ssl;

    if ((rcf->ssl_verify
         && ngx_ssl_trusted_certificate(cf, ssl, &prcf->trusted_certificate,
                                        4)
            != NGX_OK)
        || (prcf->certificate.len
            && ngx_ssl_certificate(cf, ssl, &prcf->certificate,
                                   &prcf->certificate_key, NULL)
               != NGX_OK))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid TLS parameters of oci_policy \"%V\"",
                           &pcf->policy.name);
        return NGX_CONF_ERROR;
    }

#endif

    return NGX_CONF_OK;
}


/* all of the configuration has been read */

ngx_int_t
ngx_oci_policy_redis_check(ngx_conf_t *cf, ngx_oci_policy_conf_t **policy,
    ngx_uint_t n)
{
    ngx_str_t               *file;
    ngx_uint_t               i;
    ngx_oci_policy_conf_t   *pcf;
    ngx_oci_policy_redis_t  *prcf;

    pcf = policy[n];
    prcf = pcf->redis;

    if (!prcf->used) {
        return NGX_OK;
    }

    for (i = 0; i < n && prcf->state_file.len; i++) {
        file = &policy[i]->redis->state_file;

        if (file->len == prcf->state_file.len
            && ngx_memcmp(file->data, prcf->state_file.data, file->len) == 0)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the state_file \"%V\" of oci_policy \"%V\" is "
                          "that of oci_policy \"%V\", too, in %s:%ui", file,
                          &policy[i]->policy.name, &pcf->policy.name,
                          prcf->file, prcf->line);
            return NGX_ERROR;
        }
    }

    if (prcf->redis.host.len == 0) {
        return NGX_OK;
    }

    prcf->redis.resolver = prcf->clcf->resolver;

    /* without one the core has made one without servers */

    if (prcf->redis.resolver == NULL
        || prcf->redis.resolver->connections.nelts == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the name of \"%V\" is resolved at run time: "
                      "\"resolver\" is required in \"http\", for oci_policy "
                      "\"%V\" in %s:%ui", &prcf->redis.source,
                      &pcf->policy.name, prcf->file, prcf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* of the state file; the workers write there */

ngx_int_t
ngx_oci_policy_redis_directory(ngx_oci_policy_conf_t *pcf,
    ngx_cycle_t *cycle)
{
    char             *slash, dir[NGX_MAX_PATH];
    ngx_str_t        *file;
    ngx_core_conf_t  *ccf;

    if (!pcf->redis->used || ngx_test_config) {
        return NGX_OK;
    }

    file = &pcf->redis->state_file;

    if (file->len == 0 || file->len >= sizeof(dir)) {
        return NGX_OK;
    }

    (void) ngx_cpystrn((u_char *) dir, file->data, sizeof(dir));

    slash = strrchr(dir, '/');

    if (slash == NULL || slash == dir) {
        return NGX_OK;
    }

    *slash = '\0';

    if (mkdir(dir, 0700) == -1) {

        if (errno == EEXIST) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "mkdir() \"%s\" failed", dir);
        return NGX_ERROR;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (geteuid() == 0 && chown(dir, ccf->user, ccf->group) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "chown() \"%s\" failed", dir);
        return NGX_ERROR;
    }

    return NGX_OK;
}
