
/*
 * Copyright (C) The nginx-oci authors
 *
 * The lines of an oci_policy{} about tokens: whose are taken, by which keys,
 * and what they count for.
 */


#include "ngx_oci_policy.h"


static ngx_int_t ngx_oci_bearer_keys(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf);
static void ngx_oci_bearer_cleanup(void *data);
static char *ngx_oci_bearer_text(ngx_conf_t *cf, ngx_str_t *file,
    size_t *len);
static char *ngx_oci_bearer_add(ngx_conf_t *cf, ngx_array_t **list,
    ngx_str_t *value, const char *name);
static ngx_int_t ngx_oci_bearer_own(ngx_conf_t *cf,
    ngx_oci_policy_conf_t *pcf);
static const char *ngx_oci_bearer_missing(ngx_oci_policy_conf_t *pcf);
static void ngx_oci_bearer_digest(ngx_oci_policy_conf_t *pcf);


char *
ngx_oci_bearer_issuer(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_oci_bearer_add(cf, &pcf->issuers, value, "issuer");
}


char *
ngx_oci_bearer_audience(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_oci_bearer_add(cf, &pcf->audiences, value, "audience");
}


/* what stands in a challenge needs no escape */

static char *
ngx_oci_bearer_add(ngx_conf_t *cf, ngx_array_t **list, ngx_str_t *value,
    const char *name)
{
    size_t      i;
    ngx_str_t  *s;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] <= ' ' || value->data[i] >= 0x7f
            || value->data[i] == '"' || value->data[i] == '\\')
        {
            break;
        }
    }

    if (value->len == 0 || i < value->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %s \"%V\"", name,
                           value);
        return NGX_CONF_ERROR;
    }

    if (*list == NULL) {
        *list = ngx_array_create(cf->pool, 2, sizeof(ngx_str_t));
        if (*list == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    s = (*list)->elts;

    for (i = 0; i < (*list)->nelts; i++) {
        if (s[i].len == value->len
            && ngx_memcmp(s[i].data, value->data, value->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate %s \"%V\"",
                               name, value);
            return NGX_CONF_ERROR;
        }
    }

    s = ngx_array_push(*list);
    if (s == NULL) {
        return NGX_CONF_ERROR;
    }

    *s = *value;

    return NGX_CONF_OK;
}


char *
ngx_oci_bearer_key(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    char       *text, error[NGX_OCI_JWT_ERROR];
    size_t      len;
    ngx_int_t   rc;
    ngx_str_t   file;

    file = *value;

    if (ngx_conf_full_name(cf->cycle, &file, 1) != NGX_OK
        || ngx_oci_bearer_keys(cf, pcf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    text = ngx_oci_bearer_text(cf, &file, &len);
    if (text == NULL) {
        return NGX_CONF_ERROR;
    }

    rc = ngx_oci_jwt_keys_text(pcf->keys, text, len, error);

    ngx_explicit_memzero(text, len);
    free(text);

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "key \"%V\": %s", &file,
                           error);
        return NGX_CONF_ERROR;
    }

    pcf->foreign = 1;

    return NGX_CONF_OK;
}


/* they are freed with the cycle, whether its configuration is right or not */

static ngx_int_t
ngx_oci_bearer_keys(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    ngx_pool_cleanup_t  *cln;

    if (pcf->keys) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    pcf->keys = ngx_pcalloc(cf->pool, sizeof(ngx_oci_jwt_keys_t));
    if (pcf->keys == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_oci_bearer_cleanup;
    cln->data = pcf->keys;

    return NGX_OK;
}


static void
ngx_oci_bearer_cleanup(void *data)
{
    ngx_oci_jwt_keys_free(data);
}


/* to be freed with free(); NULL: it was logged */

static char *
ngx_oci_bearer_text(ngx_conf_t *cf, ngx_str_t *file, size_t *len)
{
    int          fd;
    char        *text;
    ssize_t      n;
    ngx_err_t    err;
    const char  *why;
    struct stat  st;

    err = 0;
    text = NULL;
    why = "can't be read";

    fd = open((char *) file->data, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1 || fstat(fd, &st) == -1) {
        err = ngx_errno;
        goto failed;
    }

    if (!S_ISREG(st.st_mode)) {
        why = "is no regular file";
        goto failed;
    }

    if (st.st_size > NGX_OCI_JWT_FILE_MAX) {
        why = "is larger than 256k";
        goto failed;
    }

    text = malloc(NGX_OCI_JWT_FILE_MAX);
    if (text == NULL) {
        err = ngx_errno;
        goto failed;
    }

    *len = 0;

    do {
        n = read(fd, text + *len, NGX_OCI_JWT_FILE_MAX - *len);

        if (n == -1) {
            err = ngx_errno;
            goto failed;
        }

        *len += n;

    } while (n && *len < NGX_OCI_JWT_FILE_MAX);

    (void) close(fd);

    return text;

failed:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, err, "key \"%V\" %s", file, why);

    if (fd != -1) {
        (void) close(fd);
    }

    free(text);

    return NULL;
}


char *
ngx_oci_bearer_grants(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ngx_strcmp(value->data, "store") == 0) {
        pcf->grants = NGX_OCI_GRANTS_STORE;

    } else if (ngx_strcmp(value->data, "token") == 0) {
        pcf->grants = NGX_OCI_GRANTS_TOKEN;

    } else if (ngx_strcmp(value->data, "both") == 0) {
        pcf->grants = NGX_OCI_GRANTS_BOTH;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid grants \"%V\"",
                           value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_oci_bearer_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    const char  *lacks;

    if (pcf->signing) {
        pcf->bearer = 1;
    }

    if (!pcf->bearer
        && (pcf->foreign || pcf->issuers || pcf->audiences
            || pcf->grants == NGX_OCI_GRANTS_TOKEN
            || pcf->grants == NGX_OCI_GRANTS_BOTH))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" without \"identity bearer\" in "
                           "oci_policy \"%V\"",
                           pcf->foreign ? "key"
                           : pcf->issuers ? "issuer"
                           : pcf->audiences ? "audience" : "grants",
                           &pcf->policy.name);
        return NGX_CONF_ERROR;
    }

    if (!pcf->bearer) {
        pcf->grants = NGX_OCI_GRANTS_STORE;
        return NGX_CONF_OK;
    }

    lacks = ngx_oci_bearer_missing(pcf);

    if (lacks) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"%s\" with \"identity bearer\" in "
                           "oci_policy \"%V\"", lacks, &pcf->policy.name);
        return NGX_CONF_ERROR;
    }

    if (pcf->grants == NGX_OCI_GRANTS_UNSET) {
        pcf->grants = pcf->foreign ? NGX_OCI_GRANTS_TOKEN
                                   : NGX_OCI_GRANTS_STORE;
    }

    /* an issuer that is asked for a service's token makes it the audience */

    if (pcf->signing == NULL) {
        pcf->service = *(ngx_str_t *) pcf->audiences->elts;
    }

    /* names in tokens are those that their issuer has */

    pcf->policy.unmapped = (pcf->foreign
                            && pcf->grants != NGX_OCI_GRANTS_STORE);

    if (ngx_oci_bearer_own(cf, pcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_oci_bearer_digest(pcf);

    return NGX_CONF_OK;
}


static void
ngx_oci_bearer_digest(ngx_oci_policy_conf_t *pcf)
{
    uint32_t      len;
    ngx_str_t    *s;
    ngx_uint_t    i, k;
    SHA256_CTX    sha;
    ngx_array_t  *list[2];

    list[0] = pcf->issuers;
    list[1] = pcf->audiences;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, pcf->keys->digest, NGX_OCI_JWT_DIGEST);

    for (i = 0; i < 2; i++) {

        s = list[i] ? list[i]->elts : NULL;
        len = list[i] ? (uint32_t) list[i]->nelts : 0;

        (void) SHA256_Update(&sha, &len, sizeof(uint32_t));

        for (k = 0; s && k < list[i]->nelts; k++) {
            len = (uint32_t) s[k].len;
            (void) SHA256_Update(&sha, &len, sizeof(uint32_t));
            (void) SHA256_Update(&sha, s[k].data, s[k].len);
        }
    }

    (void) SHA256_Update(&sha, pcf->service.data, pcf->service.len);
    (void) SHA256_Final(pcf->tokens, &sha);
}


/* all three are needed, or none, where the edge issues tokens itself */

static const char *
ngx_oci_bearer_missing(ngx_oci_policy_conf_t *pcf)
{
    if (pcf->signing && !pcf->foreign && pcf->issuers == NULL
        && pcf->audiences == NULL)
    {
        return NULL;
    }

    return !pcf->foreign ? "key"
           : (pcf->issuers == NULL) ? "issuer"
           : (pcf->audiences == NULL) ? "audience" : NULL;
}


/* nobody else's key signs what is the edge's */

static ngx_int_t
ngx_oci_bearer_own(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    char                error[NGX_OCI_JWT_ERROR];
    ngx_str_t          *issuer;
    ngx_uint_t          i;
    ngx_oci_jwt_key_t  *key;

    if (pcf->issuers) {
        issuer = pcf->issuers->elts;

        for (i = 0; i < pcf->issuers->nelts; i++) {
            if (ngx_strcmp(issuer[i].data, NGX_OCI_SCOPE_ISSUER) == 0) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "issuer \"%V\" is the edge itself",
                                   &issuer[i]);
                return NGX_ERROR;
            }
        }
    }

    if (ngx_oci_bearer_keys(cf, pcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (pcf->signing == NULL) {
        return NGX_OK;
    }

    key = pcf->signing->elts;

    for (i = 0; i < pcf->signing->nelts; i++) {

        if (EVP_PKEY_up_ref(key[i].pkey) != 1) {
            return NGX_ERROR;
        }

        if (ngx_oci_jwt_keys_add(pcf->keys, key[i].pkey, &key[i].kid,
                                 &key[i].issuer, error)
            != NGX_OK)
        {
            EVP_PKEY_free(key[i].pkey);
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "a signing_key of oci_policy \"%V\": %s",
                               &pcf->policy.name, error);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
