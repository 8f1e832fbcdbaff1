
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who asks: the subject of a client certificate, which nginx itself verified
 * for the server that has the request.
 */


#include "ngx_oci_policy.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>


typedef enum {
    NGX_OCI_CERTIFICATE_CN = 0,
    NGX_OCI_CERTIFICATE_DN,
    NGX_OCI_CERTIFICATE_EMAIL,
    NGX_OCI_CERTIFICATE_DNS,
    NGX_OCI_CERTIFICATE_URI,
    NGX_OCI_CERTIFICATE_VALUE
} ngx_oci_certificate_e;


static char  *ngx_oci_certificate_names[] = {
    "cn", "dn", "san:email", "san:dns", "san:uri", NULL
};


char *
ngx_oci_certificate_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_uint_t                         i;
    ngx_http_compile_complex_value_t   ccv;

    pcf->certificate_subject_set = 1;

    for (i = 0; ngx_oci_certificate_names[i]; i++) {
        if (ngx_strcmp(value->data, ngx_oci_certificate_names[i]) == 0) {
            pcf->certificate_subject = i;
            return NGX_CONF_OK;
        }
    }

    if (ngx_http_script_variables_count(value) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid certificate_subject \"%V\", it must be "
                           "\"cn\", \"dn\", \"san:email\", \"san:dns\", "
                           "\"san:uri\" or have variables", value);
        return NGX_CONF_ERROR;
    }

    pcf->certificate_value = ngx_palloc(cf->pool,
                                        sizeof(ngx_http_complex_value_t));
    if (pcf->certificate_value == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = pcf->certificate_value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    pcf->certificate_subject = NGX_OCI_CERTIFICATE_VALUE;

    return NGX_CONF_OK;
}


#if (NGX_HTTP_SSL)

static ngx_int_t ngx_oci_certificate_verified(ngx_http_request_t *r,
    X509 *cert);
static ngx_uint_t ngx_oci_certificate_again(ngx_http_ssl_srv_conf_t *sscf,
    ngx_ssl_conn_t *ssl, X509 *cert, ngx_log_t *log);
static ngx_int_t ngx_oci_certificate_name(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf, X509 *cert, ngx_str_t *name);
static ngx_int_t ngx_oci_certificate_cn(ngx_http_request_t *r, X509 *cert,
    ngx_str_t *name);
static ngx_int_t ngx_oci_certificate_san(ngx_http_request_t *r, X509 *cert,
    int type, ngx_str_t *name);
static ngx_int_t ngx_oci_certificate_copy(ngx_http_request_t *r,
    const u_char *p, int len, ngx_str_t *name);


static int  ngx_oci_certificate_index = -1;     /* of what again() said */


ngx_int_t
ngx_oci_certificate_init_module(ngx_cycle_t *cycle)
{
    if (ngx_oci_certificate_index != -1) {
        return NGX_OK;
    }

    ngx_oci_certificate_index = SSL_get_ex_new_index(0, NULL, NULL, NULL,
                                                     NULL);
    if (ngx_oci_certificate_index == -1) {
        ngx_ssl_error(NGX_LOG_EMERG, cycle->log, 0,
                      "SSL_get_ex_new_index() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the servers were merged before the locations of the core */

const char *
ngx_oci_certificate_check(ngx_conf_t *cf, ngx_oci_policy_t *policy)
{
    ngx_oci_policy_conf_t    *pcf;
    ngx_http_ssl_srv_conf_t  *sscf;

    pcf = policy->data;

    if (!pcf->certificate || pcf->anonymous
        || ngx_oci_policy_challenges(pcf))
    {
        return NULL;
    }

    sscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);

    return sscf->verify ? NULL
           : "takes client certificates only, and \"ssl_verify_client\" is "
             "off";
}


ngx_int_t
ngx_oci_certificate(ngx_http_request_t *r, ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller)
{
    X509            *cert;
    ngx_int_t        rc;
    ngx_str_t        name;
    ngx_uint_t       known;
    ngx_oci_rbac_t  *doc;

    if (!pcf->certificate || r->connection->ssl == NULL) {
        return NGX_OK;
    }

    cert = SSL_get1_peer_certificate(r->connection->ssl->connection);
    if (cert == NULL) {
        return NGX_OK;
    }

    ngx_str_null(&name);

    rc = ngx_oci_certificate_verified(r, cert);

    if (rc == NGX_OK) {
        rc = ngx_oci_certificate_name(r, pcf, cert, &name);
    }

    X509_free(cert);

    if (rc == NGX_DECLINED) {
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);
    known = (doc && ngx_oci_rbac_subject(doc, &name) != NULL);

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    /* certificates are sent unasked: one of somebody else is none */

    if (!known) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "oci_policy \"%V\" has no subject of the client "
                      "certificate's name", &pcf->policy.name);
        return NGX_OK;
    }

    caller->how = NGX_OCI_CALLER_CERTIFICATE;
    caller->subject = name;

    return NGX_OK;
}


/*
 * NGX_DECLINED: it doesn't count.  The connection's certificate may be one
 * that another server took: by "Host", or as its session goes on here
 * (CVE-2025-23419).
 */

static ngx_int_t
ngx_oci_certificate_verified(ngx_http_request_t *r, X509 *cert)
{
    ngx_str_t                 verify;
    const char               *reason;
    ngx_ssl_conn_t           *ssl;
    ngx_connection_t         *c;
    ngx_http_ssl_srv_conf_t  *sscf;

    c = r->connection;
    ssl = c->ssl->connection;
    sscf = ngx_http_get_module_srv_conf(r, ngx_http_ssl_module);

    if (ngx_ssl_get_client_verify(c, r->pool, &verify) != NGX_OK) {
        return NGX_ERROR;
    }

    if (sscf->verify == 0) {
        reason = "\"ssl_verify_client\" is off";

    } else if (SSL_get_SSL_CTX(ssl) != sscf->ssl.ctx) {
        reason = "the connection is of another server";

    } else if (verify.len != sizeof("SUCCESS") - 1
               || ngx_memcmp(verify.data, "SUCCESS", verify.len) != 0)
    {
        reason = "it is not verified";

    } else if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        reason = "it has expired";

    } else if (SSL_session_reused(ssl)
               && !ngx_oci_certificate_again(sscf, ssl, cert, c->log))
    {
        reason = "the session may be of another server";

    } else {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "the client certificate does not count: %s", reason);

    return NGX_DECLINED;
}


/* once for a connection, by what this server takes now */

static ngx_uint_t
ngx_oci_certificate_again(ngx_http_ssl_srv_conf_t *sscf, ngx_ssl_conn_t *ssl,
    X509 *cert, ngx_log_t *log)
{
    int              err;
    void            *said;
    X509_STORE_CTX  *store;

    said = SSL_get_ex_data(ssl, ngx_oci_certificate_index);

    if (said) {
        return said == (void *) 1;
    }

    err = X509_V_ERR_OUT_OF_MEM;
    store = X509_STORE_CTX_new();

    if (store
        && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(sscf->ssl.ctx),
                               cert, SSL_get_peer_cert_chain(ssl))
           == 1)
    {
        (void) X509_STORE_CTX_set_default(store, "ssl_client");
        X509_STORE_CTX_set_depth(store, SSL_get_verify_depth(ssl));
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store),
                                         SSL_get_security_level(ssl));

        err = (X509_verify_cert(store) == 1)
              ? X509_V_OK : X509_STORE_CTX_get_error(store);

        if (err == X509_V_OK || err == X509_V_ERR_UNSPECIFIED) {
            err = X509_STORE_CTX_get_error(store);
        }
    }

    X509_STORE_CTX_free(store);
    ERR_clear_error();

    if (err != X509_V_OK) {
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "the client certificate of a resumed session: %s",
                      X509_verify_cert_error_string(err));
    }

    (void) SSL_set_ex_data(ssl, ngx_oci_certificate_index,
                           (err == X509_V_OK) ? (void *) 1 : (void *) 2);

    return err == X509_V_OK;
}


/* NGX_DECLINED: it has none, or it isn't clear which */

static ngx_int_t
ngx_oci_certificate_name(ngx_http_request_t *r, ngx_oci_policy_conf_t *pcf,
    X509 *cert, ngx_str_t *name)
{
    size_t     i;
    ngx_int_t  rc;

    switch (pcf->certificate_subject) {

    case NGX_OCI_CERTIFICATE_CN:
        rc = ngx_oci_certificate_cn(r, cert, name);
        break;

    case NGX_OCI_CERTIFICATE_DN:
        rc = ngx_ssl_get_subject_dn(r->connection, r->pool, name);
        break;

    case NGX_OCI_CERTIFICATE_EMAIL:
        rc = ngx_oci_certificate_san(r, cert, GEN_EMAIL, name);
        break;

    case NGX_OCI_CERTIFICATE_DNS:
        rc = ngx_oci_certificate_san(r, cert, GEN_DNS, name);
        break;

    case NGX_OCI_CERTIFICATE_URI:
        rc = ngx_oci_certificate_san(r, cert, GEN_URI, name);
        break;

    default:
        rc = ngx_http_complex_value(r, pcf->certificate_value, name);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (name->len == 0 || name->len > NGX_OCI_RBAC_NAME_MAX) {
        return NGX_DECLINED;
    }

    for (i = 0; i < name->len; i++) {
        if (name->data[i] < 0x20 || name->data[i] == 0x7f) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_certificate_cn(ngx_http_request_t *r, X509 *cert, ngx_str_t *name)
{
    int         i, len;
    u_char     *p;
    ngx_int_t   rc;
    X509_NAME  *dn;

    dn = X509_get_subject_name(cert);

    if (dn == NULL) {
        return NGX_DECLINED;
    }

    i = X509_NAME_get_index_by_NID(dn, NID_commonName, -1);

    if (i < 0 || X509_NAME_get_index_by_NID(dn, NID_commonName, i) >= 0) {
        return NGX_DECLINED;
    }

    len = ASN1_STRING_to_UTF8(&p, X509_NAME_ENTRY_get_data(
                                                 X509_NAME_get_entry(dn, i)));
    if (len < 0) {
        ERR_clear_error();
        return NGX_DECLINED;
    }

    rc = ngx_oci_certificate_copy(r, p, len, name);

    OPENSSL_free(p);

    return rc;
}


static ngx_int_t
ngx_oci_certificate_san(ngx_http_request_t *r, X509 *cert, int type,
    ngx_str_t *name)
{
    int             i;
    ngx_int_t       rc;
    ngx_uint_t      n;
    ASN1_STRING    *value;
    GENERAL_NAME   *gn;
    GENERAL_NAMES  *names;

    names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    if (names == NULL) {
        ERR_clear_error();
        return NGX_DECLINED;
    }

    n = 0;
    value = NULL;

    for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        gn = sk_GENERAL_NAME_value(names, i);

        if (gn->type == type) {
            value = gn->d.ia5;
            n++;
        }
    }

    rc = NGX_DECLINED;

    if (n == 1) {
        rc = ngx_oci_certificate_copy(r, ASN1_STRING_get0_data(value),
                                      ASN1_STRING_length(value), name);
    }

    GENERAL_NAMES_free(names);

    return rc;
}


static ngx_int_t
ngx_oci_certificate_copy(ngx_http_request_t *r, const u_char *p, int len,
    ngx_str_t *name)
{
    if (len > NGX_OCI_RBAC_NAME_MAX) {
        return NGX_DECLINED;
    }

    name->len = len;
    name->data = ngx_pnalloc(r->pool, len + 1);

    if (name->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(name->data, p, len);

    return NGX_OK;
}

#endif
