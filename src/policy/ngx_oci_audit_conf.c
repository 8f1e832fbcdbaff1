
/*
 * Copyright (C) The nginx-oci authors
 *
 * The oci_audit_log directive.
 */


#include "ngx_oci_audit.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>


typedef struct {
    ngx_uint_t  chained;
    ngx_uint_t  fail;                   /* was given */
    ngx_uint_t  block;
    ngx_str_t   key;
} ngx_oci_audit_args_t;


static ngx_int_t ngx_oci_audit_args(ngx_conf_t *cf,
    ngx_oci_audit_args_t *args);
static ngx_oci_audit_log_t *ngx_oci_audit_log(ngx_conf_t *cf,
    ngx_oci_audit_args_t *args);
static ngx_int_t ngx_oci_audit_open(ngx_conf_t *cf, ngx_oci_audit_log_t *log);
static ngx_int_t ngx_oci_audit_zone(ngx_conf_t *cf, ngx_oci_audit_log_t *log);
static ngx_int_t ngx_oci_audit_key(ngx_conf_t *cf, ngx_oci_audit_log_t *log);
static const char *ngx_oci_audit_key_read(ngx_oci_audit_log_t *log, int fd,
    ngx_err_t *err);
static int ngx_oci_audit_no_password(char *buf, int size, int rwflag,
    void *data);
static void ngx_oci_audit_key_free(void *data);


ngx_int_t
ngx_oci_audit_create(ngx_conf_t *cf, ngx_oci_policy_main_conf_t *pmcf)
{
    pmcf->audit = ngx_pcalloc(cf->pool, sizeof(ngx_oci_audit_main_conf_t));
    if (pmcf->audit == NULL) {
        return NGX_ERROR;
    }

    return ngx_array_init(&pmcf->audit->logs, cf->pool, 1,
                          sizeof(ngx_oci_audit_log_t *));
}


void *
ngx_oci_audit_create_loc_conf(ngx_conf_t *cf)
{
    ngx_oci_audit_loc_conf_t  *alcf;

    alcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_audit_loc_conf_t));
    if (alcf == NULL) {
        return NULL;
    }

    alcf->log = NGX_CONF_UNSET_PTR;

    return alcf;
}


char *
ngx_oci_audit_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_oci_audit_loc_conf_t *prev = parent;
    ngx_oci_audit_loc_conf_t *conf = child;

    if (conf->log == NGX_CONF_UNSET_PTR) {
        conf->log = (prev->log == NGX_CONF_UNSET_PTR) ? NULL : prev->log;
        conf->block = prev->block;
    }

    return NGX_CONF_OK;
}


char *
ngx_oci_audit_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_audit_loc_conf_t *alcf = conf;

    ngx_str_t             *value;
    ngx_oci_audit_args_t   args;

    if (alcf->log != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {

        if (cf->args->nelts > 2) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        alcf->log = NULL;

        return NGX_CONF_OK;
    }

    if (ngx_oci_audit_args(cf, &args) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    alcf->log = ngx_oci_audit_log(cf, &args);

    if (alcf->log == NULL) {
        return NGX_CONF_ERROR;
    }

    alcf->block = args.block;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_audit_args(ngx_conf_t *cf, ngx_oci_audit_args_t *args)
{
    ngx_str_t   *value;
    ngx_uint_t   i, fail;

    ngx_memzero(args, sizeof(ngx_oci_audit_args_t));

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        fail = ngx_strncmp(value[i].data, "fail=", 5) == 0;

        if (ngx_strcmp(value[i].data, "chain") == 0 && !args->chained) {
            args->chained = 1;
            continue;
        }

        if (fail && !args->fail
            && (ngx_strcmp(value[i].data + 5, "block") == 0
                || ngx_strcmp(value[i].data + 5, "drop") == 0))
        {
            args->fail = 1;
            args->block = (value[i].data[5] == 'b');
            continue;
        }

        if (ngx_strncmp(value[i].data, "key=", 4) == 0 && value[i].len > 4
            && args->key.len == 0)
        {
            args->key.data = value[i].data + 4;
            args->key.len = value[i].len - 4;

            if (ngx_conf_full_name(cf->cycle, &args->key, 1) != NGX_OK) {
                return NGX_ERROR;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[i]);
        return NGX_ERROR;
    }

    if (args->chained != (args->key.len != 0)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           args->chained
                           ? "\"chain\" needs \"key=file\""
                           : "\"key\" is for \"chain\"");
        return NGX_ERROR;
    }

    /* datagrams promise nothing */

    if (args->block && ngx_strncmp(value[1].data, "syslog:", 7) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"fail=block\" can't be had with syslog");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_oci_audit_log_t *
ngx_oci_audit_log(ngx_conf_t *cf, ngx_oci_audit_args_t *args)
{
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_oci_audit_log_t         *log, **logs;
    ngx_oci_policy_main_conf_t  *pmcf;

    pmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_policy_module);

    value = cf->args->elts;
    logs = pmcf->audit->logs.elts;

    for (i = 0; i < pmcf->audit->logs.nelts; i++) {

        log = logs[i];

        if (log->name.len != value[1].len
            || ngx_memcmp(log->name.data, value[1].data, value[1].len) != 0)
        {
            continue;
        }

        if (log->chained != args->chained
            || log->key_file.len != args->key.len
            || ngx_memcmp(log->key_file.data, args->key.data, args->key.len)
               != 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "oci_audit_log \"%V\" has another \"chain\" "
                               "or \"key\" elsewhere", &value[1]);
            return NULL;
        }

        return log;
    }

    log = ngx_pcalloc(cf->pool, sizeof(ngx_oci_audit_log_t));
    logs = ngx_array_push(&pmcf->audit->logs);

    if (log == NULL || logs == NULL) {
        return NULL;
    }

    *logs = log;

    log->name = value[1];
    log->chained = args->chained;
    log->key_file = args->key;

    if (ngx_oci_audit_open(cf, log) != NGX_OK) {
        return NULL;
    }

    if (log->chained
        && (ngx_oci_audit_key(cf, log) != NGX_OK
            || ngx_oci_audit_zone(cf, log) != NGX_OK))
    {
        return NULL;
    }

    return log;
}


static ngx_int_t
ngx_oci_audit_open(ngx_conf_t *cf, ngx_oci_audit_log_t *log)
{
    u_char  *p;

    if (ngx_strncmp(log->name.data, "syslog:", 7) == 0) {

        log->syslog = ngx_pcalloc(cf->pool, sizeof(ngx_syslog_peer_t));
        p = ngx_pstrdup(cf->pool, &log->name);

        if (log->syslog == NULL || p == NULL) {
            return NGX_ERROR;
        }

        /* nginx writes zeros into what it reads there */

        log->name.data = p;

        return (ngx_syslog_process_conf(cf, log->syslog) == NGX_CONF_OK)
               ? NGX_OK : NGX_ERROR;
    }

    if (log->name.len == 0 || ngx_strchr(log->name.data, '$')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid path \"%V\"",
                           &log->name);
        return NGX_ERROR;
    }

    log->file = ngx_conf_open_file(cf->cycle, &log->name);

    if (log->file == NULL) {
        return NGX_ERROR;
    }

    if (log->file->data || log->file->flush) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is the file of another log", &log->name);
        return NGX_ERROR;
    }

    log->file->data = log;
    log->file->flush = ngx_oci_audit_flush;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_audit_zone(ngx_conf_t *cf, ngx_oci_audit_log_t *log)
{
    size_t      size;
    ngx_str_t   name;

    name.len = sizeof("oci_audit_log:") - 1
               + (log->file ? log->file->name.len : log->name.len);
    name.data = ngx_pnalloc(cf->pool, name.len);

    if (name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(name.data, "oci_audit_log:%V",
                log->file ? &log->file->name : &log->name);

    size = ngx_align(sizeof(ngx_oci_audit_sh_t), ngx_pagesize)
           + 32 * ngx_pagesize;

    log->zone = ngx_shared_memory_add(cf, &name, size,
                                      &ngx_http_oci_policy_module);

    if (log->zone == NULL) {
        return NGX_ERROR;
    }

    log->zone->init = ngx_oci_audit_init_zone;
    log->zone->data = log;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_audit_key(ngx_conf_t *cf, ngx_oci_audit_log_t *log)
{
    int                  fd;
    ngx_err_t            err;
    const char          *error;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_oci_audit_key_free;
    cln->data = log;

    fd = open((char *) log->key_file.data, O_RDONLY|O_NONBLOCK|O_CLOEXEC);

    if (fd == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "open() \"%V\" failed", &log->key_file);
        return NGX_ERROR;
    }

    err = 0;
    error = ngx_oci_audit_key_read(log, fd, &err);

    (void) close(fd);
    ERR_clear_error();

    if (error) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, err, "key \"%V\" %s",
                           &log->key_file, error);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static const char *
ngx_oci_audit_key_read(ngx_oci_audit_log_t *log, int fd, ngx_err_t *err)
{
    BIO          *bio;
    u_char        buf[4096];
    ssize_t       n;
    struct stat   st;

    if (fstat(fd, &st) == -1) {
        *err = ngx_errno;
        return "can't be looked at";
    }

    if (!S_ISREG(st.st_mode)) {
        return "is not a regular file";
    }

    if (st.st_mode & (S_IRWXG|S_IRWXO)) {
        return "is accessible to others, its mode must be 0600";
    }

    n = read(fd, buf, sizeof(buf));

    if (n <= 0) {
        *err = (n == -1) ? ngx_errno : 0;
        return "can't be read";
    }

    bio = BIO_new_mem_buf(buf, n);

    if (bio) {
        log->key = PEM_read_bio_PrivateKey(bio, NULL,
                                           ngx_oci_audit_no_password, NULL);
        BIO_free(bio);
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    if (log->key == NULL
        || ngx_oci_audit_key_id(log->key, log->key_id) != NGX_OK)
    {
        return "is not an Ed25519 private key in PEM";
    }

    return NULL;
}


/* nobody is asked for one */

static int
ngx_oci_audit_no_password(char *buf, int size, int rwflag, void *data)
{
    return -1;
}


static void
ngx_oci_audit_key_free(void *data)
{
    ngx_oci_audit_log_t *log = data;

    EVP_PKEY_free(log->key);
    log->key = NULL;
}
