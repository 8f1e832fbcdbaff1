
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a token says, and whether it is right.  Pure: needs libc, OpenSSL and
 * jansson only.
 */


#include "ngx_oci_jwt.h"
#include "ngx_oci_rbac.h"


/* a token's parts; Owner: ngx_oci_jwt_verify() */

typedef struct {
    ngx_str_t    header;            /* decoded */
    ngx_str_t    claims;
    ngx_str_t    signature;
    ngx_str_t    input;             /* what is signed: of the token */
    u_char      *buf;
} ngx_oci_jwt_parts_t;


const char  ngx_oci_jwt_memory[] = "no memory";

static const char  *ngx_oci_jwt_algs[] = { "RS256", "ES256", "EdDSA" };


static const char *ngx_oci_jwt_split(ngx_oci_jwt_parts_t *parts,
    ngx_str_t *token);
static const char *ngx_oci_jwt_header(ngx_oci_jwt_t *jwt, ngx_str_t *text,
    ngx_uint_t *alg);
static const char *ngx_oci_jwt_claims(ngx_oci_jwt_t *jwt, ngx_str_t *text);
static const char *ngx_oci_jwt_access(json_t *access);
static ngx_int_t ngx_oci_jwt_time(json_t *claims, const char *name,
    int64_t *t);
static ngx_int_t ngx_oci_jwt_string(json_t *value, ngx_str_t *s, size_t max);
static ngx_uint_t ngx_oci_jwt_plain(ngx_str_t *s);
static const char *ngx_oci_jwt_wanted(ngx_oci_jwt_t *jwt,
    ngx_oci_jwt_check_t *check);
static ngx_uint_t ngx_oci_jwt_audience(json_t *aud, ngx_uint_t own,
    ngx_oci_jwt_check_t *check);
static ngx_uint_t ngx_oci_jwt_one_of(json_t *value, ngx_str_t *list,
    ngx_uint_t n);


const char *
ngx_oci_jwt_verify(ngx_oci_jwt_t *jwt, ngx_str_t *token,
    ngx_oci_jwt_check_t *check)
{
    ngx_uint_t            alg, wrong;
    const char           *why;
    ngx_oci_jwt_parts_t   parts;

    memset(jwt, 0, sizeof(ngx_oci_jwt_t));
    memset(&parts, 0, sizeof(ngx_oci_jwt_parts_t));

    why = ngx_oci_jwt_split(&parts, token);

    if (why == NULL) {
        why = ngx_oci_jwt_header(jwt, &parts.header, &alg);
    }

    if (why == NULL) {
        why = ngx_oci_jwt_claims(jwt, &parts.claims);
    }

    if (why == NULL) {
        why = ngx_oci_jwt_wanted(jwt, check);
    }

    if (why == NULL && !check->remembered) {
        why = ngx_oci_jwt_signed(jwt, &parts.input, &parts.signature, alg,
                                 check);
    }

    free(parts.buf);

    if (why) {
        wrong = jwt->wrong;
        ngx_oci_jwt_free(jwt);
        jwt->wrong = wrong;
    }

    return why;
}


void
ngx_oci_jwt_free(ngx_oci_jwt_t *jwt)
{
    json_decref(jwt->header);
    json_decref(jwt->claims);
    memset(jwt, 0, sizeof(ngx_oci_jwt_t));
}


void
ngx_oci_jwt_copy(ngx_oci_jwt_t *dst, ngx_oci_jwt_t *src)
{
    *dst = *src;

    (void) json_incref(dst->header);
    (void) json_incref(dst->claims);
}


/* header "." claims "." signature, and nothing else */

static const char *
ngx_oci_jwt_split(ngx_oci_jwt_parts_t *parts, ngx_str_t *token)
{
    size_t      i, n, begin[3], len[3];
    u_char     *p;
    ngx_str_t  *part[3];

    if (token->len > NGX_OCI_JWT_MAX) {
        return "the token is too long";
    }

    n = 0;
    begin[0] = 0;

    for (i = 0; i <= token->len; i++) {

        if (i < token->len && token->data[i] != '.') {
            continue;
        }

        len[n] = i - begin[n];

        if (len[n] == 0) {
            return "a part of the token is empty";
        }

        n++;

        if (i == token->len) {
            break;
        }

        if (n == 3) {
            return "the token has more than three parts";
        }

        begin[n] = i + 1;
    }

    if (n != 3) {
        return "the token has less than three parts";
    }

    parts->buf = malloc(token->len);
    if (parts->buf == NULL) {
        return ngx_oci_jwt_memory;
    }

    part[0] = &parts->header;
    part[1] = &parts->claims;
    part[2] = &parts->signature;

    p = parts->buf;

    for (i = 0; i < 3; i++) {
        part[i]->data = p;

        if (ngx_oci_jwt_base64(p, &part[i]->len, token->data + begin[i],
                               len[i])
            != NGX_OK)
        {
            return "a part of the token is not base64url";
        }

        p += part[i]->len;
    }

    parts->input.data = token->data;
    parts->input.len = begin[2] - 1;

    return NULL;
}


static const char *
ngx_oci_jwt_header(ngx_oci_jwt_t *jwt, ngx_str_t *text, ngx_uint_t *alg)
{
    json_t      *value;
    const char  *s;

    jwt->header = ngx_oci_jwt_json((char *) text->data, text->len);

    if (!json_is_object(jwt->header)) {
        return "the token's header is no JSON object";
    }

    s = json_string_value(json_object_get(jwt->header, "alg"));

    if (s == NULL) {
        return "the token's header has no algorithm";
    }

    for (*alg = 0; *alg <= NGX_OCI_JWT_EDDSA; (*alg)++) {
        if (strcmp(s, ngx_oci_jwt_algs[*alg]) == 0) {
            break;
        }
    }

    if (*alg > NGX_OCI_JWT_EDDSA) {
        return "the token's algorithm is none of RS256, ES256 and EdDSA";
    }

    /* what has to be understood: nothing of that kind is */

    if (json_object_get(jwt->header, "crit")) {
        return "the token's header has \"crit\"";
    }

    /* a token that is for something else */

    value = json_object_get(jwt->header, "typ");

    if (value) {
        s = json_string_value(value);

        if (s == NULL
            || (strcasecmp(s, "JWT") != 0 && strcasecmp(s, "at+jwt") != 0
                && strcasecmp(s, "application/at+jwt") != 0))
        {
            return "the token's type is neither \"JWT\" nor \"at+jwt\"";
        }
    }

    value = json_object_get(jwt->header, "kid");

    if (value
        && ngx_oci_jwt_string(value, &jwt->kid, NGX_OCI_JWT_KID) != NGX_OK)
    {
        return "the token's \"kid\" is no string of 255 bytes at most";
    }

    return NULL;
}


static const char *
ngx_oci_jwt_claims(ngx_oci_jwt_t *jwt, ngx_str_t *text)
{
    json_t  *value;

    jwt->claims = ngx_oci_jwt_json((char *) text->data, text->len);

    if (!json_is_object(jwt->claims)) {
        return "the token's claims are no JSON object";
    }

    if (ngx_oci_jwt_string(json_object_get(jwt->claims, "iss"), &jwt->issuer,
                           NGX_OCI_JWT_MAX)
        != NGX_OK
        || jwt->issuer.len == 0)
    {
        return "the token has no issuer";
    }

    value = json_object_get(jwt->claims, "sub");

    if (value && !json_is_null(value)
        && (ngx_oci_jwt_string(value, &jwt->subject, NGX_OCI_RBAC_NAME_MAX)
            != NGX_OK
            || !ngx_oci_jwt_plain(&jwt->subject)))
    {
        return "the token's subject is no name of 255 bytes at most";
    }

    if (ngx_oci_jwt_time(jwt->claims, "exp", &jwt->expires) != NGX_OK
        || ngx_oci_jwt_time(jwt->claims, "nbf", &jwt->not_before) != NGX_OK
        || ngx_oci_jwt_time(jwt->claims, "iat", &jwt->issued) != NGX_OK)
    {
        return "one of the token's times is none";
    }

    value = json_object_get(jwt->claims, "access");

    if (value == NULL || json_is_null(value)) {
        return NULL;
    }

    jwt->access = value;

    return ngx_oci_jwt_access(value);
}


static const char *
ngx_oci_jwt_access(json_t *access)
{
    size_t   i, k;
    json_t  *one, *actions, *action;

    if (!json_is_array(access)) {
        return "the token's \"access\" is no array";
    }

    json_array_foreach(access, i, one) {

        actions = json_object_get(one, "actions");

        if (!json_is_string(json_object_get(one, "type"))
            || !json_is_string(json_object_get(one, "name"))
            || !(json_is_array(actions) || json_is_null(actions)))
        {
            return "the token's \"access\" has no type, name and actions";
        }

        json_array_foreach(actions, k, action) {
            if (!json_is_string(action)) {
                return "the token's \"access\" has no type, name and actions";
            }
        }
    }

    return NULL;
}


/* a number, with a fraction or without one (RFC 7519, 2) */

static ngx_int_t
ngx_oci_jwt_time(json_t *claims, const char *name, int64_t *t)
{
    double   real;
    json_t  *value;

    value = json_object_get(claims, name);

    if (value == NULL) {
        return NGX_OK;
    }

    if (json_is_integer(value)) {
        *t = json_integer_value(value);

    } else {
        real = json_real_value(value);

        if (!json_is_real(value) || !(real >= 1 && real < 1e15)) {
            return NGX_ERROR;
        }

        *t = (int64_t) real;
    }

    /* so that nothing overflows, and 0 is "none" */

    return (*t > 0 && *t < (int64_t) 1e15) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_jwt_string(json_t *value, ngx_str_t *s, size_t max)
{
    if (!json_is_string(value) || json_string_length(value) > max) {
        return NGX_ERROR;
    }

    s->data = (u_char *) json_string_value(value);
    s->len = json_string_length(value);

    return NGX_OK;
}


/*
 * No control characters of ASCII and Unicode, nothing that ends a line or has
 * it read in another order: it comes to logs.
 */

static ngx_uint_t
ngx_oci_jwt_plain(ngx_str_t *s)
{
    size_t  i;
    u_char  ch;

    for (i = 0; i < s->len; i++) {

        if (s->data[i] < 0x20 || s->data[i] == 0x7f) {
            return 0;
        }

        if (s->data[i] == 0xc2 && i + 1 < s->len && s->data[i + 1] < 0xa0) {
            return 0;
        }

        if (s->data[i] != 0xe2 || i + 2 >= s->len) {
            continue;
        }

        ch = s->data[i + 2];

        /* U+2028 to U+202E, U+2066 to U+2069 */

        if ((s->data[i + 1] == 0x80 && ch >= 0xa8 && ch <= 0xae)
            || (s->data[i + 1] == 0x81 && ch >= 0xa6 && ch <= 0xa9))
        {
            return 0;
        }
    }

    return 1;
}


/* from whom, for whom, and when */

static const char *
ngx_oci_jwt_wanted(ngx_oci_jwt_t *jwt, ngx_oci_jwt_check_t *check)
{
    ngx_uint_t  i;

    for (i = 0; i < check->keys->nkeys; i++) {
        if (ngx_oci_jwt_is(&jwt->issuer, &check->keys->keys[i].issuer)) {
            jwt->own = 1;
        }
    }

    if (!jwt->own
        && !ngx_oci_jwt_one_of(json_object_get(jwt->claims, "iss"),
                               check->issuers, check->nissuers))
    {
        return "the token is of another issuer";
    }

    if (!ngx_oci_jwt_audience(json_object_get(jwt->claims, "aud"), jwt->own,
                              check))
    {
        return "the token is for another audience";
    }

    return ngx_oci_jwt_timely(jwt, check->now);
}


const char *
ngx_oci_jwt_timely(ngx_oci_jwt_t *jwt, int64_t now)
{
    if (jwt->expires == 0) {
        return "the token does not say when it expires";
    }

    if (now >= jwt->expires + NGX_OCI_JWT_SKEW) {
        return "the token is expired";
    }

    if (jwt->not_before > now + NGX_OCI_JWT_SKEW) {
        return "the token is not valid yet";
    }

    if (jwt->issued > now + NGX_OCI_JWT_SKEW) {
        return "the token is issued in the future";
    }

    return NULL;
}


/* a text, or an array of texts */

static ngx_uint_t
ngx_oci_jwt_audience(json_t *aud, ngx_uint_t own, ngx_oci_jwt_check_t *check)
{
    size_t       i;
    json_t      *one;
    ngx_str_t   *list;
    ngx_uint_t   n, found;

    list = own ? check->own : check->audiences;
    n = own ? 1 : check->naudiences;

    if (!json_is_array(aud)) {
        return ngx_oci_jwt_one_of(aud, list, n);
    }

    found = 0;

    json_array_foreach(aud, i, one) {

        if (!json_is_string(one)) {
            return 0;
        }

        found |= ngx_oci_jwt_one_of(one, list, n);
    }

    return found;
}


static ngx_uint_t
ngx_oci_jwt_one_of(json_t *value, ngx_str_t *list, ngx_uint_t n)
{
    ngx_str_t   s;
    ngx_uint_t  i;

    if (ngx_oci_jwt_string(value, &s, NGX_OCI_JWT_MAX) != NGX_OK) {
        return 0;
    }

    for (i = 0; i < n; i++) {
        if (ngx_oci_jwt_is(&s, &list[i])) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_oci_jwt_rights(ngx_oci_jwt_t *jwt, const char *type, ngx_str_t *name)
{
    size_t       i, k;
    json_t      *one, *action, *value;
    ngx_str_t    s;
    const char  *a;
    ngx_uint_t   rights, repository;

    rights = 0;
    repository = (strcmp(type, "repository") == 0);

    json_array_foreach(jwt->access, i, one) {

        value = json_object_get(one, "name");

        if (strcmp(json_string_value(json_object_get(one, "type")), type) != 0
            || ngx_oci_jwt_string(value, &s, NGX_OCI_JWT_MAX) != NGX_OK
            || !ngx_oci_jwt_is(&s, name))
        {
            continue;
        }

        json_array_foreach(json_object_get(one, "actions"), k, action) {

            a = json_string_value(action);

            if (strcmp(a, "*") == 0) {
                rights |= repository
                          ? NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE
                          : NGX_OCI_CATALOG;

            } else if (!repository) {
                continue;

            } else if (strcmp(a, "pull") == 0) {
                rights |= NGX_OCI_PULL;

            } else if (strcmp(a, "push") == 0) {
                rights |= NGX_OCI_PUSH;

            } else if (strcmp(a, "delete") == 0) {
                rights |= NGX_OCI_DELETE;
            }
        }
    }

    return rights;
}
