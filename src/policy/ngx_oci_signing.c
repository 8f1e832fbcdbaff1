
/*
 * Copyright (C) The nginx-oci authors
 *
 * The lines of an oci_policy{} about its own tokens: keys that sign them, and
 * the realm of challenges.
 */


#include "ngx_oci_policy.h"

#include <openssl/err.h>
#include <openssl/pem.h>


static EVP_PKEY *ngx_oci_signing_read(ngx_conf_t *cf, ngx_str_t *file);
static ssize_t ngx_oci_signing_text(ngx_conf_t *cf, ngx_str_t *file,
    u_char *text);
static EVP_PKEY *ngx_oci_signing_parse(u_char *text, size_t len);
static int ngx_oci_signing_password(char *buf, int size, int rwflag,
    void *data);
static ngx_int_t ngx_oci_signing_alg(EVP_PKEY *pkey, ngx_uint_t *alg);
static void ngx_oci_signing_free(void *data);


#define NGX_OCI_SIGNING_FILE  16384     /* bytes */


char *
ngx_oci_signing_key(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    char                 kid[64];
    EVP_PKEY            *pkey;
    ngx_str_t            file;
    ngx_oci_jwt_key_t   *key;
    ngx_pool_cleanup_t  *cln;

    file = *value;

    if (ngx_conf_full_name(cf->cycle, &file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (pcf->signing == NULL) {
        pcf->signing = ngx_array_create(cf->pool, 2,
                                        sizeof(ngx_oci_jwt_key_t));
        if (pcf->signing == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    key = ngx_array_push(pcf->signing);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (key == NULL || cln == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(key, sizeof(ngx_oci_jwt_key_t));

    pkey = ngx_oci_signing_read(cf, &file);
    if (pkey == NULL) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_oci_signing_free;
    cln->data = pkey;

    if (ngx_oci_signing_alg(pkey, &key->alg) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the key in \"%V\" is neither one of P-256 nor "
                           "Ed25519", &file);
        return NGX_CONF_ERROR;
    }

    if (ngx_oci_jwt_thumbprint(pkey, kid) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the key in \"%V\" has no thumbprint", &file);
        return NGX_CONF_ERROR;
    }

    key->pkey = pkey;
    key->signature = 64;
    key->kid.len = ngx_strlen(kid);
    key->kid.data = ngx_pnalloc(cf->pool, key->kid.len);

    if (key->kid.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memcpy(key->kid.data, kid, key->kid.len);
    ngx_str_set(&key->issuer, NGX_OCI_SCOPE_ISSUER);

    return NGX_CONF_OK;
}


static EVP_PKEY *
ngx_oci_signing_read(ngx_conf_t *cf, ngx_str_t *file)
{
    ssize_t    n;
    u_char     text[NGX_OCI_SIGNING_FILE];
    EVP_PKEY  *pkey;

    n = ngx_oci_signing_text(cf, file, text);

    if (n == NGX_ERROR) {
        return NULL;
    }

    pkey = ngx_oci_signing_parse(text, (size_t) n);

    ngx_explicit_memzero(text, n);

    if (pkey == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has no private key in PEM form, or one "
                           "with a password", file);
    }

    return pkey;
}


static ssize_t
ngx_oci_signing_text(ngx_conf_t *cf, ngx_str_t *file, u_char *text)
{
    int           fd;
    ssize_t       n;
    const char   *error;
    struct stat   st;

    fd = open((char *) file->data, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1 || fstat(fd, &st) == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "signing_key \"%V\" can't be read", file);

        if (fd != -1) {
            (void) close(fd);
        }

        return NGX_ERROR;
    }

    error = !S_ISREG(st.st_mode) ? "is no regular file"
            : (st.st_mode & S_IRWXO) ? "is open to everyone"
            : (st.st_size > NGX_OCI_SIGNING_FILE) ? "is too large" : NULL;

    n = error ? NGX_ERROR : read(fd, text, NGX_OCI_SIGNING_FILE);

    if (error == NULL && n == -1) {
        error = "can't be read";
    }

    if (error) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "signing_key \"%V\" %s",
                           file, error);
        n = NGX_ERROR;
    }

    (void) close(fd);

    return n;
}


/* what OpenSSL has to say of other forms that it tried is of no interest */

static EVP_PKEY *
ngx_oci_signing_parse(u_char *text, size_t len)
{
    BIO       *bio;
    EVP_PKEY  *pkey;

    bio = BIO_new_mem_buf(text, (int) len);

    pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, ngx_oci_signing_password,
                                         NULL)
               : NULL;

    BIO_free(bio);
    ERR_clear_error();

    return pkey;
}


/* nobody is asked */

static int
ngx_oci_signing_password(char *buf, int size, int rwflag, void *data)
{
    return -1;
}


static ngx_int_t
ngx_oci_signing_alg(EVP_PKEY *pkey, ngx_uint_t *alg)
{
    char    name[32];
    size_t  len;

    if (EVP_PKEY_is_a(pkey, "ED25519")) {
        *alg = NGX_OCI_JWT_EDDSA;
        return NGX_OK;
    }

    if (EVP_PKEY_is_a(pkey, "EC")
        && EVP_PKEY_get_group_name(pkey, name, sizeof(name), &len) == 1
        && ngx_strcmp(name, "prime256v1") == 0)
    {
        *alg = NGX_OCI_JWT_ES256;
        return NGX_OK;
    }

    return NGX_ERROR;
}


static void
ngx_oci_signing_free(void *data)
{
    EVP_PKEY_free(data);
}


char *
ngx_oci_signing_realm(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    size_t         i;
    ngx_oci_url_t  url;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] == '"') {
            break;
        }
    }

    if (i < value->len || ngx_oci_url_parse(value, &url) != NGX_OK
        || !url.absolute)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid realm \"%V\", it must be a URL", value);
        return NGX_CONF_ERROR;
    }

    pcf->realm = *value;

    return NGX_CONF_OK;
}


/*
 * The service that challenges name is the audience of tokens.  Names of
 * policies have nothing that would have to be escaped.
 */

char *
ngx_oci_signing_done(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf)
{
    pcf->service = pcf->policy.name;

    if (pcf->signing) {
        pcf->policy.token = ngx_oci_issue_handler;
    }

    return NGX_CONF_OK;
}
