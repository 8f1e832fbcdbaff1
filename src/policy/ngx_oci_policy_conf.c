
/*
 * Copyright (C) The nginx-oci authors
 *
 * The oci_policy{} block.
 */


#include "ngx_oci_judged.h"
#include <ngx_thread_pool.h>


#define NGX_OCI_POLICY_ZONE_MIN  (64 * ngx_pagesize)


typedef struct {
    ngx_str_t    name;
    ngx_uint_t   min;               /* arguments */
    ngx_uint_t   max;
    ngx_uint_t   many;              /* such lines are allowed */
    char      *(*set)(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
                      ngx_str_t *value, ngx_uint_t n);
} ngx_oci_policy_command_t;


static char *ngx_oci_policy_line(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf);
static char *ngx_oci_policy_source(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_policy_zone(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_policy_identity(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_policy_valid(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf, ngx_str_t *value, ngx_uint_t n);
static char *ngx_oci_policy_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf);
static void ngx_oci_policy_cleanup(void *data);
static ngx_uint_t ngx_oci_policy_kept(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf);


static ngx_oci_policy_command_t  ngx_oci_policy_commands[] = {
    { ngx_string("source"), 1, 1, 0, ngx_oci_policy_source },
    { ngx_string("zone"), 1, 1, 0, ngx_oci_policy_zone },
    { ngx_string("identity"), 1, 5, 0, ngx_oci_policy_identity },
    { ngx_string("certificate_subject"), 1, 1, 0, ngx_oci_certificate_conf },
    { ngx_string("grants"), 1, 1, 0, ngx_oci_bearer_grants },
    { ngx_string("issuer"), 1, 1, 1, ngx_oci_bearer_issuer },
    { ngx_string("audience"), 1, 1, 1, ngx_oci_bearer_audience },
    { ngx_string("key"), 1, 1, 1, ngx_oci_bearer_key },
    { ngx_string("valid"), 1, 1, 0, ngx_oci_policy_valid },
    { ngx_string("user"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("password_file"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("prefix"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("poll"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("stale"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("state_file"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("connect_timeout"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("timeout"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("trusted_certificate"), 1, 1, 0,
      ngx_oci_policy_redis_param },
    { ngx_string("certificate"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("certificate_key"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("ssl_name"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("ssl_verify"), 1, 1, 0, ngx_oci_policy_redis_param },
    { ngx_string("recheck"), 1, 1, 0, ngx_oci_recheck_conf },
    { ngx_string("signing_key"), 1, 1, 1, ngx_oci_signing_key },
    { ngx_string("realm"), 1, 1, 0, ngx_oci_signing_realm },
    { ngx_null_string, 0, 0, 0, NULL }
};


/* the block that is being read; configurations are read one at a time */

static struct {
    ngx_oci_policy_conf_t  *pcf;
    uint64_t                seen;       /* a bit a command */
} ngx_oci_policy_state;


char *
ngx_oci_policy_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_policy_main_conf_t *pmcf = conf;

    char                    *rv;
    u_char                   ch;
    ngx_str_t               *value;
    ngx_uint_t               i;
    ngx_conf_t               save;
    ngx_oci_policy_t       **policy;
    ngx_oci_main_conf_t     *omcf;
    ngx_oci_policy_conf_t   *pcf, **p;

    value = cf->args->elts;

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (((ch | 0x20) < 'a' || (ch | 0x20) > 'z')
            && (ch < '0' || ch > '9') && ch != '-' && ch != '_' && ch != '.')
        {
            break;
        }
    }

    if (value[1].len == 0 || i < value[1].len
        || ngx_strcmp(value[1].data, "off") == 0
        || ngx_strcmp(value[1].data, "dry_run") == 0
        || ngx_strcmp(value[1].data, "open") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid oci_policy name \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    p = pmcf->policies.elts;

    for (i = 0; i < pmcf->policies.nelts; i++) {
        if (p[i]->policy.name.len == value[1].len
            && ngx_memcmp(p[i]->policy.name.data, value[1].data,
                          value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate oci_policy \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);

    pcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_policy_conf_t));
    p = ngx_array_push(&pmcf->policies);
    policy = ngx_array_push(&omcf->policies);

    if (pcf == NULL || p == NULL || policy == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = pcf;
    *policy = &pcf->policy;

    pcf->policy.name = value[1];
    pcf->policy.data = pcf;
    pcf->policy.manifest = ngx_oci_artifact_manifest;
    pcf->policy.blob = ngx_oci_artifact_blob;
    pcf->policy.unseen = ngx_oci_artifact_unseen;
    pcf->policy.may = ngx_oci_policy_may_do;
    pcf->valid = 60;
    pcf->recheck_interval = 30000;

    if (ngx_oci_policy_redis_create(cf, pcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_thread_pool_add(cf, NULL) == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_oci_policy_state.pcf = pcf;
    ngx_oci_policy_state.seen = 0;

    save = *cf;
    cf->handler = ngx_oci_policy_line;
    cf->handler_conf = NULL;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_oci_policy_done(cf, pcf);
}


static char *
ngx_oci_policy_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    ngx_str_t                 *value;
    ngx_uint_t                 i, n;
    ngx_oci_policy_command_t  *cmd;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    for (i = 0; ngx_oci_policy_commands[i].name.len; i++) {

        cmd = &ngx_oci_policy_commands[i];

        if (cmd->name.len != value[0].len
            || ngx_strncmp(cmd->name.data, value[0].data, value[0].len) != 0)
        {
            continue;
        }

        if (n < cmd->min || n > cmd->max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"%V\"",
                               &value[0]);
            return NGX_CONF_ERROR;
        }

        if (!cmd->many && (ngx_oci_policy_state.seen & (1ull << i))) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" parameter is duplicate", &value[0]);
            return NGX_CONF_ERROR;
        }

        ngx_oci_policy_state.seen |= 1ull << i;

        return cmd->set(cf, ngx_oci_policy_state.pcf, &value[1], n);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown oci_policy parameter \"%V\"", &value[0]);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_policy_source(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ngx_strncmp(value->data, "file:", 5) != 0) {
        return ngx_oci_policy_redis_source(cf, pcf, value);
    }

    if (value->len == 5) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid source \"%V\", it must be "
                           "\"file:path\"", value);
        return NGX_CONF_ERROR;
    }

    pcf->file.data = value->data + 5;
    pcf->file.len = value->len - 5;

    if (ngx_conf_full_name(cf->cycle, &pcf->file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_policy_zone(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    u_char     *p;
    ssize_t     size;
    ngx_str_t   name, s;

    name.data = value->data;
    p = (u_char *) ngx_strchr(name.data, ':');

    if (p == NULL || p == name.data) {
        goto invalid;
    }

    name.len = p - name.data;

    s.data = p + 1;
    s.len = value->data + value->len - s.data;

    size = ngx_parse_size(&s);

    if (size < (ssize_t) NGX_OCI_POLICY_ZONE_MIN) {
        goto invalid;
    }

    pcf->zone = ngx_shared_memory_add(cf, &name, size,
                                      &ngx_http_oci_policy_module);
    if (pcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (pcf->zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate zone \"%V\"", &name);
        return NGX_CONF_ERROR;
    }

    pcf->zone->init = ngx_oci_policy_init_zone;
    pcf->zone->data = pcf;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid zone \"%V\", it must be \"name:size\" of "
                       "256k or more", value);

    return NGX_CONF_ERROR;
}


static char *
ngx_oci_policy_identity(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_strcmp(value[i].data, "basic") == 0 && !pcf->basic) {
            pcf->basic = 1;

        } else if (ngx_strcmp(value[i].data, "anonymous") == 0
                   && !pcf->anonymous)
        {
            pcf->anonymous = 1;

        } else if (ngx_strcmp(value[i].data, "bearer") == 0 && !pcf->bearer) {
            pcf->bearer = 1;

#if (NGX_HTTP_SSL)

        } else if (ngx_strcmp(value[i].data, "certificate") == 0
                   && !pcf->certificate)
        {
            pcf->certificate = 1;
            pcf->policy.check = ngx_oci_certificate_check;

#endif

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid identity \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_policy_valid(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    pcf->valid = ngx_parse_time(value, 1);

    if (pcf->valid == (time_t) NGX_ERROR || pcf->valid > 86400) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid valid \"%V\", it must be a time of a "
                           "day at most", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_oci_policy_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    u_char              *p;
    ngx_int_t            rc;
    const char          *lacks;
    ngx_pool_cleanup_t  *cln;

    lacks = (pcf->file.len == 0 && !ngx_oci_policy_redis_used(pcf))
            ? "source"
            : (pcf->zone == NULL) ? "zone"
            : (!pcf->basic && !pcf->anonymous && !pcf->bearer
               && !pcf->certificate)
            ? "identity"
            : (pcf->certificate_subject_set && !pcf->certificate)
            ? "identity certificate" : NULL;

    if (lacks) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"%s\" in oci_policy \"%V\"", lacks,
                           &pcf->policy.name);
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_judged_conf(cf, pcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    p = ngx_pnalloc(cf->pool, sizeof("Basic realm=\"\"")
                              + pcf->policy.name.len);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (p == NULL || cln == NULL) {
        return NGX_CONF_ERROR;
    }

    /* a configuration that fails never comes to its zones */

    cln->handler = ngx_oci_policy_cleanup;
    cln->data = pcf;

    pcf->challenge.data = p;
    pcf->challenge.len = ngx_sprintf(p, "Basic realm=\"%V\"",
                                     &pcf->policy.name)
                         - p;

    if (ngx_oci_signing_done(cf, pcf) != NGX_CONF_OK
        || ngx_oci_bearer_done(cf, pcf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* (a realm is for who takes tokens) */

    pcf->policy.mixed = (pcf->basic && pcf->anonymous
                         && (!pcf->bearer || pcf->realm.len == 0));
    pcf->policy.foreign = pcf->foreign;

    if (ngx_oci_policy_redis_done(cf, pcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_policy_redis_used(pcf)) {
        pcf->policy.age = ngx_oci_policy_status_age;
        return NGX_CONF_OK;
    }

    rc = ngx_oci_policy_read((char *) pcf->file.data, NULL, &pcf->first);

    ngx_oci_policy_parsed(&pcf->first);

    if (rc == NGX_OK) {
        return NGX_CONF_OK;
    }

    /* at a reload what is in force stays so */

    if (ngx_oci_policy_kept(cf, pcf)) {
        ngx_log_error(NGX_LOG_ERR, cf->log, 0,
                      "\"%V\" of oci_policy \"%V\" is refused, the document "
                      "before it stays in force: %s",
                      &pcf->file, &pcf->policy.name, pcf->first.error);
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" of oci_policy \"%V\" is refused: %s",
                       &pcf->file, &pcf->policy.name, pcf->first.error);

    return NGX_CONF_ERROR;
}


static void
ngx_oci_policy_cleanup(void *data)
{
    ngx_oci_policy_conf_t *pcf = data;

    free(pcf->first.doc);
    pcf->first.doc = NULL;
}


/* has the zone, which stays, a document that came from the same file? */

static ngx_uint_t
ngx_oci_policy_kept(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    ngx_uint_t              i;
    ngx_shm_zone_t         *old;
    ngx_list_part_t        *part;
    ngx_oci_policy_conf_t  *before;

    if (ngx_is_init_cycle(cf->cycle->old_cycle)) {
        return 0;
    }

    part = &cf->cycle->old_cycle->shared_memory.part;
    old = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            part = part->next;

            if (part == NULL) {
                return 0;
            }

            old = part->elts;
            i = 0;
        }

        if (old[i].tag != pcf->zone->tag
            || old[i].shm.size != pcf->zone->shm.size
            || old[i].shm.name.len != pcf->zone->shm.name.len
            || ngx_memcmp(old[i].shm.name.data, pcf->zone->shm.name.data,
                          pcf->zone->shm.name.len)
               != 0)
        {
            continue;
        }

        before = old[i].data;

        return before && before->sh && before->sh->generation
               && before->file.len == pcf->file.len
               && ngx_memcmp(before->file.data, pcf->file.data,
                             pcf->file.len)
                  == 0;
    }
}
