
/*
 * Copyright (C) The nginx-oci authors
 *
 * Realms: the URL of a server's oci_token location, as the client addresses
 * the server.
 */


#include "ngx_oci_core.h"


/* only names that are URIs as they stand */

char *
ngx_oci_realm_list(ngx_conf_t *cf, ngx_oci_token_t *token,
    ngx_http_core_loc_conf_t *clcf)
{
    size_t                     i;
    u_char                     ch;
    ngx_oci_token_t          **p;
    ngx_oci_loc_conf_t        *olcf;
    ngx_http_core_srv_conf_t  *cscf;

    if (clcf->named || clcf->noname
#if (NGX_PCRE)
        || clcf->regex
#endif
       )
    {
        return NGX_CONF_OK;
    }

    for (i = 0; i < token->name.len; i++) {
        ch = token->name.data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9')
              || (ch && ngx_strchr("/._~-", ch) != NULL)))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the name \"%V\" of a location with oci_token "
                               "may have only letters, digits and \"/._~-\"",
                               &token->name);
            return NGX_CONF_ERROR;
        }
    }

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    olcf = cscf->ctx->loc_conf[ngx_http_oci_module.ctx_index];

    if (olcf->tokens == NULL) {
        olcf->tokens = ngx_array_create(cf->pool, 2,
                                        sizeof(ngx_oci_token_t *));
        if (olcf->tokens == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    p = ngx_array_push(olcf->tokens);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = token;

    return NGX_CONF_OK;
}


/* of the policy, or of the registry; NULL: there is none */

ngx_oci_token_t *
ngx_oci_realm_find(ngx_http_request_t *r, ngx_oci_policy_t *policy,
    ngx_oci_registry_t *registry)
{
    ngx_uint_t                  i;
    ngx_oci_token_t           **token;
    ngx_oci_loc_conf_t         *olcf;
    ngx_http_core_srv_conf_t   *cscf;

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
    olcf = cscf->ctx->loc_conf[ngx_http_oci_module.ctx_index];

    if (olcf->tokens == NULL) {
        return NULL;
    }

    token = olcf->tokens->elts;

    for (i = 0; i < olcf->tokens->nelts; i++) {
        if (token[i]->policy == policy && token[i]->registry == registry) {
            return token[i];
        }
    }

    return NULL;
}


/* (a location of the server may be merged later: policies have names) */

ngx_uint_t
ngx_oci_realm_listed(ngx_conf_t *cf, ngx_oci_loc_conf_t *olcf)
{
    ngx_uint_t                  i, k;
    ngx_str_t                  *name;
    ngx_oci_pass_t             *pass;
    ngx_oci_token_t           **token;
    ngx_oci_loc_conf_t         *server;
    ngx_http_core_srv_conf_t   *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    server = cscf->ctx->loc_conf[ngx_http_oci_module.ctx_index];

    if (server->tokens == NULL) {
        return 0;
    }

    name = &olcf->access_name;
    token = server->tokens->elts;

    for (i = 0; i < server->tokens->nelts; i++) {
        if (token[i]->registry == NULL
            && token[i]->policy_name.len == name->len
            && ngx_memcmp(token[i]->policy_name.data, name->data, name->len)
               == 0)
        {
            return 1;
        }
    }

    if (!olcf->policy->foreign) {
        return 0;
    }

    pass = olcf->passes->elts;

    for (k = 0; k < olcf->passes->nelts; k++) {

        for (i = 0; i < server->tokens->nelts; i++) {
            if (token[i]->registry == pass[k].registry) {
                break;
            }
        }

        if (i == server->tokens->nelts) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_oci_realm_url(ngx_http_request_t *r, ngx_oci_token_t *token,
    ngx_str_t *realm)
{
    ngx_str_t       value;
    const char     *scheme;
    ngx_oci_url_t   url;

    if (r->headers_in.host == NULL) {
        return NGX_DECLINED;
    }

    scheme = "http";

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        scheme = "https";
    }
#endif

    value = r->headers_in.host->value;

    realm->data = ngx_pnalloc(r->pool, sizeof("https://") - 1 + value.len
                                       + token->name.len);
    if (realm->data == NULL) {
        return NGX_ERROR;
    }

    realm->len = ngx_sprintf(realm->data, "%s://%V", scheme, &value)
                 - realm->data;

    if (ngx_oci_url_parse(realm, &url) != NGX_OK
        || url.authority.len != value.len)
    {
        return NGX_DECLINED;
    }

    realm->len = ngx_cpymem(realm->data + realm->len, token->name.data,
                            token->name.len)
                 - realm->data;

    return NGX_OK;
}


ngx_int_t
ngx_oci_realm(ngx_http_request_t *r, ngx_oci_policy_t *policy,
    ngx_str_t *realm)
{
    ngx_oci_pass_t      *pass;
    ngx_oci_token_t     *token;
    ngx_oci_loc_conf_t  *olcf;

    if (policy) {
        token = ngx_oci_realm_find(r, policy, NULL);

    } else {
        olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);
        pass = ngx_oci_pass_find(r, olcf);

        token = pass ? ngx_oci_realm_find(r, NULL, pass->registry) : NULL;
    }

    return token ? ngx_oci_realm_url(r, token, realm) : NGX_DECLINED;
}
