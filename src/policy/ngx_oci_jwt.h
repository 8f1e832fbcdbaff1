
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens: JSON Web Tokens (RFC 7519) as compact JWS (RFC 7515) with the claims
 * of the distribution project's token specification, and the keys by which
 * they are checked.  Pure: needs libc, OpenSSL and jansson only.
 *
 * The algorithm is the key's own.  Nothing that a token's header has is a key
 * or leads to one: "kid" only picks among those that are configured.
 */


#ifndef _NGX_OCI_JWT_H_INCLUDED_
#define _NGX_OCI_JWT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <jansson.h>
#include <openssl/evp.h>


#define NGX_OCI_JWT_MAX        8192     /* bytes of a token */
#define NGX_OCI_JWT_DEPTH      8        /* of its JSON */
#define NGX_OCI_JWT_KEYS       16       /* of a policy */
#define NGX_OCI_JWT_KID        255      /* bytes of a key's name */
#define NGX_OCI_JWT_FILE_MAX   (256 * 1024)
#define NGX_OCI_JWT_SIGNATURE  512      /* bytes, of RSA with 4096 bits */
#define NGX_OCI_JWT_SKEW       60       /* s that clocks may differ */
#define NGX_OCI_JWT_ERROR      256
#define NGX_OCI_JWT_DIGEST     32


typedef enum {
    NGX_OCI_JWT_RS256 = 0,
    NGX_OCI_JWT_ES256,
    NGX_OCI_JWT_EDDSA                   /* Ed25519 */
} ngx_oci_jwt_alg_e;


/*
 * One key.  issuer: the edge's own, whose tokens it signs, and no others; "":
 * those of any issuer that is configured.
 */

typedef struct {
    ngx_uint_t             alg;         /* ngx_oci_jwt_alg_e */
    EVP_PKEY              *pkey;        /* public, or a pair */
    ngx_str_t              kid;         /* "": it has none */
    ngx_str_t              issuer;
    size_t                 signature;   /* bytes */
} ngx_oci_jwt_key_t;


/*
 * Keys, read with the configuration.  Owner: the policy, by
 * ngx_oci_jwt_keys_free().  digest: of all of them, with their names; what is
 * remembered of a token is void with other keys.
 */

typedef struct {
    ngx_oci_jwt_key_t      keys[NGX_OCI_JWT_KEYS];
    ngx_uint_t             nkeys;
    u_char                 digest[NGX_OCI_JWT_DIGEST];
} ngx_oci_jwt_keys_t;


/*
 * What a token says.  Texts are that of header and claims.  Owner: the
 * caller, by ngx_oci_jwt_free().
 */

typedef struct {
    json_t                *header;
    json_t                *claims;
    json_t                *access;      /* an array, or NULL */
    ngx_str_t              kid;         /* "": none */
    ngx_str_t              issuer;
    ngx_str_t              subject;     /* "": nobody */
    int64_t                expires;     /* seconds since the epoch; */
    int64_t                not_before;  /* 0: it doesn't say */
    int64_t                issued;
    unsigned               own:1;       /* the edge's: its issuer is a key's */
    unsigned               wrong:1;     /* all is right but the signature */
} ngx_oci_jwt_t;


/* what the caller of a token wants of it */

typedef struct {
    ngx_oci_jwt_keys_t    *keys;
    ngx_str_t             *issuers;
    ngx_uint_t             nissuers;
    ngx_str_t             *audiences;
    ngx_uint_t             naudiences;
    ngx_str_t             *own;         /* the audience of the edge's tokens */
    int64_t                now;         /* seconds since the epoch */
    ngx_uint_t             remembered;  /* the signature of this very token
                                           was found right by these keys */
} ngx_oci_jwt_check_t;


/*
 * ngx_oci_jwt.c.  NULL: it is right, jwt has what it says, and is to be freed.
 * Else why it is not, and jwt is empty but for "wrong"; nothing of the token
 * is in that text; ngx_oci_jwt_memory: there was no memory to tell.  The
 * signature is looked at last.
 */
const char *ngx_oci_jwt_verify(ngx_oci_jwt_t *jwt, ngx_str_t *token,
    ngx_oci_jwt_check_t *check);
extern const char  ngx_oci_jwt_memory[];

void ngx_oci_jwt_free(ngx_oci_jwt_t *jwt);

/* another reference, to be freed likewise */
void ngx_oci_jwt_copy(ngx_oci_jwt_t *dst, ngx_oci_jwt_t *src);

/* does it count at this time?  NULL, or why it does not */
const char *ngx_oci_jwt_timely(ngx_oci_jwt_t *jwt, int64_t now);

/*
 * The actions that "access" has on this: bits of ngx_oci_rbac.h.  type:
 * "repository" or "registry"; all of what is a repository's ("*") are
 * NGX_OCI_PULL, _PUSH and _DELETE, of registry:catalog NGX_OCI_CATALOG.
 */
ngx_uint_t ngx_oci_jwt_rights(ngx_oci_jwt_t *jwt, const char *type,
    ngx_str_t *name);

/*
 * ngx_oci_jwt_signature.c: is input signed by one of the keys that are for
 * it?  NULL, or why it is not, with jwt->wrong where one was tried.
 */
const char *ngx_oci_jwt_signed(ngx_oci_jwt_t *jwt, ngx_str_t *input,
    ngx_str_t *signature, ngx_uint_t alg, ngx_oci_jwt_check_t *check);


/*
 * ngx_oci_jwt_json.c.  Strict base64url: no padding, no blanks, one way to
 * write it.  dst has room for 3 bytes for each 4 of src.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_jwt_base64(u_char *dst, size_t *len, const u_char *src,
    size_t n);

/* JSON of bounded depth, without duplicate members; NULL: it is not that, or
   there was no memory, which jansson can't tell */
json_t *ngx_oci_jwt_json(const char *text, size_t len);

/* the same, and not empty */
ngx_uint_t ngx_oci_jwt_is(ngx_str_t *s, ngx_str_t *to);


/*
 * ngx_oci_jwt_key.c.  NGX_OK or NGX_ERROR, with error; nothing of a secret is
 * in that text.
 *
 * add(): one key, whose reference the set takes over if that is NGX_OK; kid
 * and issuer are copied.  It may be a pair: its public part is what counts.
 *
 * text(): of a PEM file with public keys or certificates, or of a JWKS.
 */
ngx_int_t ngx_oci_jwt_keys_add(ngx_oci_jwt_keys_t *keys, EVP_PKEY *pkey,
    ngx_str_t *kid, ngx_str_t *issuer, char *error);
ngx_int_t ngx_oci_jwt_keys_text(ngx_oci_jwt_keys_t *keys, const char *text,
    size_t len, char *error);
void ngx_oci_jwt_keys_free(ngx_oci_jwt_keys_t *keys);

/*
 * ngx_oci_jwk.c.  set(): as text().  thumbprint() of a key that may be added
 * (RFC 7638): 43 characters of base64url, and a zero; NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_jwk_set(ngx_oci_jwt_keys_t *keys, const char *text,
    size_t len, char *error);
ngx_int_t ngx_oci_jwt_thumbprint(EVP_PKEY *pkey, char *kid);


/*
 * ngx_oci_jwt_sign.c.  A token with these claims (JSON) by a key that is a
 * pair; its "kid" stands in the header.  To be freed with free(); NULL: no
 * memory, or OpenSSL can't.
 */
char *ngx_oci_jwt_sign(ngx_oci_jwt_key_t *key, const char *claims,
    size_t len, size_t *token_len);


#endif /* _NGX_OCI_JWT_H_INCLUDED_ */
