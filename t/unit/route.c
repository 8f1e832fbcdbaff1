
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_route.h"
#include "tap.h"


#define T_HEX64                                                               \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define T_SHA256   "sha256:" T_HEX64
#define T_SHA512   "sha512:" T_HEX64 T_HEX64
#define T_UPPER                                                               \
    "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"

#define T_16(s)   s s s s s s s s s s s s s s s s
#define T_64      T_16("abcd")
#define T_255     T_64 "/" T_64 "/" T_64 "/" T_16("abc") "abcdefghijkl"
#define T_128     T_64 T_64
#define T_1024    T_128 T_128 T_128 T_128 T_128 T_128 T_128 T_128

/* blake2b is not known here, its digest as long as one may be */
#define T_UNKNOWN135  "blake2:" T_128
#define T_UNKNOWN136  T_UNKNOWN135 "a"

#define OTHER      NGX_OCI_ROUTE_OTHER
#define PING       NGX_OCI_ROUTE_PING
#define BLOB       NGX_OCI_ROUTE_BLOB
#define MANIFEST   NGX_OCI_ROUTE_MANIFEST
#define TAG        NGX_OCI_ROUTE_TAG
#define REFERRERS  NGX_OCI_ROUTE_REFERRERS
#define TAGS       NGX_OCI_ROUTE_TAGS_LIST
#define UPLOAD     NGX_OCI_ROUTE_UPLOAD

#define NAME       NGX_OCI_ERR_NAME_INVALID
#define UNKNOWN    NGX_OCI_ERR_NAME_UNKNOWN
#define DIGEST     NGX_OCI_ERR_DIGEST_INVALID
#define BADTAG     NGX_OCI_ERR_TAG_INVALID


typedef struct {
    const char  *target;
    ngx_uint_t   route;
    const char  *repository;
    const char  *reference;
    const char  *args;
} t_good_t;


typedef struct {
    const char  *target;
    ngx_int_t    rc;
    ngx_uint_t   code;
} t_bad_t;


typedef struct {
    const char  *text;
    ngx_int_t    rc;
} t_text_t;


static t_good_t  t_good[] = {

    /* end-1 */
    { "/v2", PING, "", "", "" },
    { "/v2/", PING, "", "", "" },
    { "/v2?", PING, "", "", "" },
    { "/v2/?ns=docker.io", PING, "", "", "ns=docker.io" },

    /* end-2, end-10 */
    { "/v2/a/blobs/" T_SHA256, BLOB, "a", T_SHA256, "" },
    { "/v2/a/b/c/blobs/" T_SHA256, BLOB, "a/b/c", T_SHA256, "" },
    { "/v2/a/blobs/" T_SHA512, BLOB, "a", T_SHA512, "" },
    { "/v2/a/blobs/" T_SHA256 "?ns=x&y", BLOB, "a", T_SHA256, "ns=x&y" },
    { "/v2/a/blobs/" T_SHA256 "?x?/..//%41", BLOB, "a", T_SHA256,
      "x?/..//%41" },

    /* end-3, end-7, end-9 */
    { "/v2/a/manifests/latest", TAG, "a", "latest", "" },
    { "/v2/a/manifests/_1.0-RC_x", TAG, "a", "_1.0-RC_x", "" },
    { "/v2/a/manifests/v..1", TAG, "a", "v..1", "" },
    { "/v2/a/manifests/" T_128, TAG, "a", T_128, "" },
    { "/v2/a/manifests/" T_SHA256, MANIFEST, "a", T_SHA256, "" },
    { "/v2/a/manifests/" T_SHA512, MANIFEST, "a", T_SHA512, "" },
    { "/v2/a/manifests/" T_SHA256 "?tag=x&tag=y", MANIFEST, "a", T_SHA256,
      "tag=x&tag=y" },
    { "/v2/a/manifests/sha256-" T_HEX64, TAG, "a", "sha256-" T_HEX64, "" },

    /* end-4a, 4b, 4c, 11 */
    { "/v2/a/blobs/uploads/", UPLOAD, "a", "", "" },
    { "/v2/a/blobs/uploads", UPLOAD, "a", "", "" },
    { "/v2/a/b/blobs/uploads/?digest=" T_SHA256, UPLOAD, "a/b", "",
      "digest=" T_SHA256 },
    { "/v2/a/blobs/uploads/?digest-algorithm=sha512", UPLOAD, "a", "",
      "digest-algorithm=sha512" },
    { "/v2/a/blobs/uploads/?mount=" T_SHA256 "&from=x/y", UPLOAD, "a", "",
      "mount=" T_SHA256 "&from=x/y" },

    /* end-5, 6, 13, 14 */
    { "/v2/a/blobs/uploads/5fd2-4a~b_c.d=+:", UPLOAD, "a",
      "5fd2-4a~b_c.d=+:", "" },
    { "/v2/a/blobs/uploads/AbC/d/", UPLOAD, "a", "AbC/d/", "" },
    { "/v2/a/blobs/uploads/x/_y", UPLOAD, "a", "x/_y", "" },
    { "/v2/a/blobs/uploads/.x/..y/...", UPLOAD, "a", ".x/..y/...", "" },
    { "/v2/a/blobs/uploads/x..y", UPLOAD, "a", "x..y", "" },
    { "/v2/a/blobs/uploads/x?_state=a%3D%3D", UPLOAD, "a", "x",
      "_state=a%3D%3D" },
    { "/v2/a/blobs/uploads/" T_1024, UPLOAD, "a", T_1024, "" },

    /* end-8a, 8b */
    { "/v2/a/tags/list", TAGS, "a", "", "" },
    { "/v2/a/b/tags/list?n=10&last=x", TAGS, "a/b", "", "n=10&last=x" },

    /* end-12a, 12b */
    { "/v2/a/referrers/" T_SHA256, REFERRERS, "a", T_SHA256, "" },
    { "/v2/a/referrers/" T_SHA512 "?artifactType=a/b", REFERRERS, "a",
      T_SHA512, "artifactType=a/b" },

    /* "%3A", any case */
    { "/v2/a/blobs/sha256%3A" T_HEX64, BLOB, "a", T_SHA256, "" },
    { "/v2/a/blobs/sha256%3a" T_HEX64, BLOB, "a", T_SHA256, "" },
    { "/v2/a/blobs/sha512%3A" T_HEX64 T_HEX64 "?x", BLOB, "a", T_SHA512,
      "x" },
    { "/v2/a/manifests/sha256%3A" T_HEX64, MANIFEST, "a", T_SHA256, "" },
    { "/v2/a/referrers/sha256%3a" T_HEX64, REFERRERS, "a", T_SHA256, "" },

    /* components called as the endpoints: the path is read from the right */
    { "/v2/a/manifests/b/manifests/latest", TAG, "a/manifests/b", "latest",
      "" },
    { "/v2/blobs/blobs/" T_SHA256, BLOB, "blobs", T_SHA256, "" },
    { "/v2/manifests/manifests/manifests", TAG, "manifests", "manifests",
      "" },
    { "/v2/referrers/referrers/" T_SHA256, REFERRERS, "referrers", T_SHA256,
      "" },
    { "/v2/tags/tags/list", TAGS, "tags", "", "" },
    { "/v2/a/tags/list/tags/list", TAGS, "a/tags/list", "", "" },
    { "/v2/a/tags/list/manifests/x", TAG, "a/tags/list", "x", "" },
    { "/v2/a/tags/manifests/list", TAG, "a/tags", "list", "" },
    { "/v2/uploads/blobs/uploads/x", UPLOAD, "uploads", "x", "" },
    { "/v2/blobs/uploads/blobs/uploads/x", UPLOAD, "blobs/uploads", "x",
      "" },
    { "/v2/blobs/blobs/uploads/", UPLOAD, "blobs", "", "" },
    { "/v2/a/blobs/uploads/b/blobs/uploads/x", UPLOAD, "a/blobs/uploads/b",
      "x", "" },
    { "/v2/blobs/uploads/manifests/x", TAG, "blobs/uploads", "x", "" },
    { "/v2/a/blobs/uploads/manifests/x", TAG, "a/blobs/uploads", "x", "" },
    { "/v2/a/blobs/uploads/b/manifests/x", TAG, "a/blobs/uploads/b", "x",
      "" },
    { "/v2/a/blobs/uploads/b/blobs/" T_SHA256, BLOB, "a/blobs/uploads/b",
      T_SHA256, "" },
    { "/v2/a/blobs/uploads/b/referrers/" T_SHA256, REFERRERS,
      "a/blobs/uploads/b", T_SHA256, "" },
    { "/v2/a/blobs/uploads/b/tags/list", TAGS, "a/blobs/uploads/b", "", "" },
    { "/v2/v2/v2/manifests/v2", TAG, "v2/v2", "v2", "" },

    /* names */
    { "/v2/a.b_c__d---e/f0/manifests/x", TAG, "a.b_c__d---e/f0", "x", "" },
    { "/v2/0/manifests/x", TAG, "0", "x", "" },
    { "/v2/" T_255 "/manifests/x", TAG, T_255, "x", "" },

    /* extensions */
    { "/v2/_catalog", OTHER, "", "", "" },
    { "/v2/_catalog?n=1&last=a%2Fb", OTHER, "", "", "n=1&last=a%2Fb" },
    { "/v2/_oci/ext/discover", OTHER, "", "", "" },
    { "/v2/a/b/_oci/ext/discover", OTHER, "a/b", "", "" },

    /* well-formed, of an algorithm that is not known */
    { "/v2/a/blobs/md5:" T_HEX64, OTHER, "a", "md5:" T_HEX64, "" },
    { "/v2/a/manifests/a+b.c_d-e:Az09=_-", OTHER, "a", "a+b.c_d-e:Az09=_-",
      "" },
    { "/v2/a/referrers/sha256+b64u%3Aabc", OTHER, "a", "sha256+b64u:abc",
      "" },
    { "/v2/a/blobs/blake2%3A" T_128, OTHER, "a", T_UNKNOWN135, "" }
};


static t_bad_t  t_bad[] = {

    /* not an endpoint */
    { "", NGX_DECLINED, UNKNOWN },
    { "?", NGX_DECLINED, UNKNOWN },
    { "/", NGX_DECLINED, UNKNOWN },
    { "/v", NGX_DECLINED, UNKNOWN },
    { "/v1/", NGX_DECLINED, UNKNOWN },
    { "/V2/", NGX_DECLINED, UNKNOWN },
    { "/v22", NGX_DECLINED, UNKNOWN },
    { "/v2a/manifests/x", NGX_DECLINED, UNKNOWN },
    { "v2/a/manifests/x", NGX_DECLINED, UNKNOWN },
    { "http://h/v2/", NGX_DECLINED, UNKNOWN },
    { "/x/v2/", NGX_DECLINED, UNKNOWN },
    { "/v2/a", NGX_DECLINED, UNKNOWN },
    { "/v2/a/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/b", NGX_DECLINED, UNKNOWN },
    { "/v2/a/b/c", NGX_DECLINED, UNKNOWN },
    { "/v2/a/manifests", NGX_DECLINED, UNKNOWN },
    { "/v2/a/manifests/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/manifests/x/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/manifests/x/y", NGX_DECLINED, UNKNOWN },
    { "/v2/a/manifests/?x", NGX_DECLINED, UNKNOWN },
    { "/v2/a/blobs/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/blobs/" T_SHA256 "/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/blobs/" T_SHA256 "/x", NGX_DECLINED, UNKNOWN },
    { "/v2/a/referrers/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tags", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tags/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tags/list/", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tags/lists", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tags/list/x", NGX_DECLINED, UNKNOWN },
    { "/v2/a/tagstags/list", NGX_DECLINED, UNKNOWN },
    { "/v2/a/xmanifests/x", NGX_DECLINED, UNKNOWN },
    { "/v2/a/Manifests/x", NGX_DECLINED, UNKNOWN },
    { "/v2/A/_oci/ext/discover", NGX_DECLINED, UNKNOWN },

    /* no name */
    { "/v2/manifests/latest", NGX_DECLINED, UNKNOWN },
    { "/v2/blobs/" T_SHA256, NGX_DECLINED, UNKNOWN },
    { "/v2/referrers/" T_SHA256, NGX_DECLINED, UNKNOWN },
    { "/v2/tags/list", NGX_DECLINED, UNKNOWN },
    { "/v2/blobs/uploads", NGX_DECLINED, UNKNOWN },
    { "/v2/blobs/uploads/", NGX_DECLINED, UNKNOWN },
    { "/v2/blobs/uploads/x", NGX_DECLINED, UNKNOWN },

    /* double slashes */
    { "/v2//", NGX_ERROR, NAME },
    { "/v2//a/manifests/x", NGX_ERROR, NAME },
    { "/v2/a//manifests/x", NGX_ERROR, NAME },
    { "/v2/a/manifests//x", NGX_ERROR, NAME },
    { "/v2/a/manifests/x//", NGX_ERROR, NAME },
    { "/v2//manifests/x", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads//x", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads//", NGX_ERROR, NAME },
    { "/v2/_catalog//", NGX_ERROR, NAME },

    /* dot segments */
    { "/v2/.", NGX_ERROR, NAME },
    { "/v2/..", NGX_ERROR, NAME },
    { "/v2/./", NGX_ERROR, NAME },
    { "/v2/../", NGX_ERROR, NAME },
    { "/v2/../v2/", NGX_ERROR, NAME },
    { "/v2/a/./manifests/x", NGX_ERROR, NAME },
    { "/v2/a/../b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a/manifests/.", NGX_ERROR, NAME },
    { "/v2/a/manifests/..", NGX_ERROR, NAME },
    { "/v2/a/manifests/../x", NGX_ERROR, NAME },
    { "/v2/a/manifests/..?x", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/../x", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/.", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/x/..", NGX_ERROR, NAME },
    { "/v2/_catalog/../a", NGX_ERROR, NAME },

    /* control bytes and others that no target holds */
    { "/v2/a\x01/manifests/x", NGX_ERROR, NAME },
    { "/v2/a/manifests/x\n", NGX_ERROR, NAME },
    { "/v2/a/manifests/x\x7f", NGX_ERROR, NAME },
    { "/v2/a/manifests/x\x80", NGX_ERROR, NAME },
    { "/v2/a/manifests/x\xff", NGX_ERROR, NAME },
    { "/v2/a/manifests/x y", NGX_ERROR, NAME },
    { "/v2/a/manifests/x#y", NGX_ERROR, NAME },
    { "/v2/a\\b/manifests/x", NGX_ERROR, NAME },
    { " /v2/", NGX_ERROR, NAME },
    { "/v2/_catalog\t", NGX_ERROR, NAME },
    { "/v2/_catalog\\..\\a", NGX_ERROR, NAME },
    { "/v2/a/manifests/x?y z", NGX_ERROR, NAME },
    { "/v2/a/manifests/x?y\r\nz", NGX_ERROR, NAME },
    { "/v2/a/manifests/x?y\x7f", NGX_ERROR, NAME },
    { "/v2/a/manifests/x?y#z", NGX_ERROR, NAME },
    { "/v2/?\x01", NGX_ERROR, NAME },

    /* names */
    { "/v2/A/manifests/x", NGX_ERROR, NAME },
    { "/v2/aB/manifests/x", NGX_ERROR, NAME },
    { "/v2/-a/manifests/x", NGX_ERROR, NAME },
    { "/v2/a-/manifests/x", NGX_ERROR, NAME },
    { "/v2/.a/manifests/x", NGX_ERROR, NAME },
    { "/v2/a./manifests/x", NGX_ERROR, NAME },
    { "/v2/a/_b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a_/manifests/x", NGX_ERROR, NAME },
    { "/v2/a..b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a___b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a._b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a-_b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a:b/manifests/x", NGX_ERROR, NAME },
    { "/v2/a@b/manifests/x", NGX_ERROR, NAME },
    { "/v2/" T_255 "a/manifests/x", NGX_ERROR, NAME },
    { "/v2/A/blobs/" T_SHA256, NGX_ERROR, NAME },
    { "/v2/A/referrers/" T_SHA256, NGX_ERROR, NAME },
    { "/v2/A/tags/list", NGX_ERROR, NAME },
    { "/v2/A/blobs/uploads/", NGX_ERROR, NAME },
    { "/v2/A/blobs/uploads/x", NGX_ERROR, NAME },
    { "/v2/A/blobs/uploads", NGX_ERROR, NAME },

    /* escapes */
    { "/v2/a%2Fb/manifests/x", NGX_ERROR, NAME },
    { "/v2/a%2fb/tags/list", NGX_ERROR, NAME },
    { "/v2/%61/manifests/x", NGX_ERROR, NAME },
    { "/v2/%2e%2e/manifests/x", NGX_ERROR, NAME },
    { "/v2/a%3Ab/manifests/x", NGX_ERROR, NAME },
    { "/v2/_catalog%2F", NGX_ERROR, NAME },
    { "/v2/_catalog%3A", NGX_ERROR, NAME },
    { "/v2/a/_oci/%2e%2e", NGX_ERROR, NAME },
    { "/v2/a/_oci/x%3A", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/%2e%2e", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/x%3Ay", NGX_ERROR, NAME },
    { "/v2/a/manifests/%2e%2e", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/%", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/%3", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/%3A", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/x%00", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/x%2Fy", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/lates%74", NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256%253A" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256%3B" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256%4A" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256:%3A" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256%3A%3A" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/%73ha256%3A" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a%3Ablobs/sha256%3A" T_HEX64, NGX_DECLINED, UNKNOWN },
    { "/v2/a/blobs/blake2%3A" T_128 "a", NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256%3A" T_1024, NGX_ERROR, DIGEST },

    /* tags */
    { "/v2/a/manifests/.x", NGX_ERROR, BADTAG },
    { "/v2/a/manifests/-x", NGX_ERROR, BADTAG },
    { "/v2/a/manifests/x+y", NGX_ERROR, BADTAG },
    { "/v2/a/manifests/x@y", NGX_ERROR, BADTAG },
    { "/v2/a/manifests/" T_128 "a", NGX_ERROR, BADTAG },

    /* digests */
    { "/v2/a/blobs/latest", NGX_ERROR, DIGEST },
    { "/v2/a/blobs/" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256-" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/" T_UPPER, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/SHA256:" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256:", NGX_ERROR, DIGEST },
    { "/v2/a/blobs/" T_SHA256 "0", NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha512:" T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/sha256:" T_HEX64 T_HEX64, NGX_ERROR, DIGEST },
    { "/v2/a/manifests/" T_SHA256 "0", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/:x", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/x:", NGX_ERROR, DIGEST },
    { "/v2/a/manifests/x:y:z", NGX_ERROR, DIGEST },
    { "/v2/a/referrers/latest", NGX_ERROR, DIGEST },
    { "/v2/a/referrers/" T_UPPER, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/" T_UNKNOWN136, NGX_ERROR, DIGEST },
    { "/v2/a/blobs/uploads/b/blobs/x", NGX_ERROR, DIGEST },

    /* upload ids */
    { "/v2/a/blobs/uploads/x;y", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/x,y", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/x@y", NGX_ERROR, NAME },
    { "/v2/a/blobs/uploads/" T_1024 "a", NGX_ERROR, NAME }
};


static t_text_t  t_digests[] = {
    { "", NGX_ERROR },
    { ":", NGX_ERROR },
    { "a", NGX_ERROR },
    { "a:", NGX_ERROR },
    { ":a", NGX_ERROR },
    { T_SHA256, NGX_OK },
    { T_SHA512, NGX_OK },
    { T_UPPER, NGX_ERROR },
    { "sha256:" T_64 "g", NGX_ERROR },
    { "sha256:g123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcdef", NGX_ERROR },
    { "sha256:0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcde", NGX_ERROR },
    { "sha256:0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcde/", NGX_ERROR },
    { "sha256:0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcde`", NGX_ERROR },
    { "sha256", NGX_ERROR },
    { "sha384:" T_HEX64, NGX_DECLINED },
    { "a:b", NGX_DECLINED },
    { "a+b:c", NGX_DECLINED },
    { "a.b_c-d:c", NGX_DECLINED },
    { "a++b:c", NGX_ERROR },
    { "+b:c", NGX_ERROR },
    { "b+:c", NGX_ERROR },
    { "b+", NGX_ERROR },
    { "A:c", NGX_ERROR },
    { "a/b:c", NGX_ERROR },
    { "a:c/d", NGX_ERROR },
    { "a:c.d", NGX_ERROR },
    { "a:Zz09=_-", NGX_DECLINED },
    { "a:b%", NGX_ERROR },
    { T_UNKNOWN135, NGX_DECLINED },
    { T_UNKNOWN136, NGX_ERROR }
};


static t_text_t  t_names[] = {
    { "", NGX_ERROR }, { "/", NGX_ERROR }, { "a", NGX_OK },
    { "a/", NGX_ERROR }, { "/a", NGX_ERROR }, { "a//b", NGX_ERROR },
    { "a/b", NGX_OK },
    { "a.b", NGX_OK }, { "a..b", NGX_ERROR }, { "a_b", NGX_OK },
    { "a__b", NGX_OK }, { "a___b", NGX_ERROR }, { "a-b", NGX_OK },
    { "a----b", NGX_OK }, { "a.-b", NGX_ERROR }, { "a-.b", NGX_ERROR },
    { "a_.b", NGX_ERROR }, { "-", NGX_ERROR }, { "_a", NGX_ERROR },
    { "a_", NGX_ERROR }, { "a/b-", NGX_ERROR }, { "a/-b", NGX_ERROR },
    { "a+b", NGX_ERROR }, { "a/B", NGX_ERROR }, { "a%b", NGX_ERROR },
    { "a~b", NGX_ERROR }, { "z9/0a", NGX_OK }, { "a`b", NGX_ERROR },
    { "a{b", NGX_ERROR }, { "a:b", NGX_ERROR }, { T_255, NGX_OK },
    { T_255 "a", NGX_ERROR }
};


static t_text_t  t_tags[] = {
    { "", NGX_ERROR }, { "a", NGX_OK }, { "A", NGX_OK }, { "_", NGX_OK },
    { "0", NGX_OK }, { ".", NGX_ERROR }, { "-", NGX_ERROR },
    { "a.", NGX_OK }, { "a-", NGX_OK }, { "a.-_Z9", NGX_OK },
    { "a:b", NGX_ERROR }, { "a+b", NGX_ERROR }, { "a/b", NGX_ERROR },
    { "a b", NGX_ERROR }, { "a%", NGX_ERROR }, { "a@", NGX_ERROR },
    { "a[", NGX_ERROR }, { T_128, NGX_OK }, { T_128 "a", NGX_ERROR }
};


static void
t_parse_good(t_good_t *t)
{
    int              ok;
    u_char          *buf, print[NGX_OCI_DIGEST_LEN], *last;
    ngx_int_t        rc;
    ngx_str_t        target, s;
    ngx_uint_t       code;
    ngx_oci_route_t  route;

    target = tap_copy(t->target, strlen(t->target));
    buf = malloc(NGX_OCI_DIGEST_LEN);

    if (buf == NULL) {
        abort();
    }

    memset(&route, 0xa5, sizeof(route));

    rc = ngx_oci_route_parse(&route, &target, buf, &code);

    ok = (rc == NGX_OK && route.route == t->route
          && tap_eq(&route.repository, t->repository)
          && tap_eq(&route.reference, t->reference)
          && tap_eq(&route.args, t->args));

    if (ok && (t->route == BLOB || t->route == MANIFEST
               || t->route == REFERRERS))
    {
        last = ngx_oci_digest_print(print, &route.digest);
        s.data = print;
        s.len = last - print;

        ok = (tap_eq(&s, t->reference)
              && (route.reference.data == buf)
                 == (strstr(t->target, "%3") != NULL));

    } else if (ok) {
        ok = (route.digest.alg == NGX_OCI_DIGEST_NONE
              && route.digest.size == 0);
    }

    tap_ok(ok, t->target);

    free(buf);
    free(target.data);
}


static void
t_parse_bad(t_bad_t *t)
{
    ngx_int_t        rc;
    ngx_str_t        target, buf;
    ngx_uint_t       code;
    ngx_oci_route_t  route;

    target = tap_copy(t->target, strlen(t->target));
    buf = tap_copy(T_UNKNOWN135, NGX_OCI_DIGEST_LEN);
    code = NGX_OCI_ERR_UNKNOWN;

    rc = ngx_oci_route_parse(&route, &target, buf.data, &code);

    tap_ok(rc == t->rc && code == t->code, t->target);

    free(buf.data);
    free(target.data);
}


static void
t_digest(t_text_t *t)
{
    int               ok;
    char              text[512];
    u_char            print[NGX_OCI_DIGEST_LEN];
    ngx_int_t         rc;
    ngx_str_t         s, p;
    ngx_oci_digest_t  digest, again;

    s = tap_copy(t->text, strlen(t->text));

    rc = ngx_oci_digest_parse(&digest, s.data, s.len);
    ok = (rc == t->rc);

    if (ok && rc == NGX_OK) {
        p.data = print;
        p.len = ngx_oci_digest_print(print, &digest) - print;

        ok = (tap_eq(&p, t->text)
              && ngx_oci_digest_parse(&again, p.data, p.len) == NGX_OK
              && ngx_oci_digest_equal(&digest, &again)
              && digest.bytes[0] == 0x01 && digest.bytes[7] == 0xef
              && digest.bytes[digest.size - 1] == 0xef);

        again.bytes[again.size - 1] ^= 1;

        ok = ok && !ngx_oci_digest_equal(&digest, &again);

    } else if (ok) {
        ok = (digest.alg == NGX_OCI_DIGEST_NONE && digest.size == 0);
    }

    snprintf(text, sizeof(text), "digest \"%s\"", t->text);
    tap_ok(ok, text);

    free(s.data);
}


static void
t_valid(const char *what, ngx_int_t (*valid)(u_char *p, size_t len),
    t_text_t *t)
{
    char       text[512];
    ngx_str_t  s;

    s = tap_copy(t->text, strlen(t->text));

    snprintf(text, sizeof(text), "%s \"%s\"", what, t->text);
    tap_ok(valid(s.data, s.len) == t->rc, text);

    free(s.data);
}


/* bytes that no C string holds */

static void
t_nul(void)
{
    u_char            buf[NGX_OCI_DIGEST_LEN];
    ngx_str_t         s;
    ngx_uint_t        code;
    ngx_oci_route_t   route;
    ngx_oci_digest_t  digest;

    s = tap_copy("/v2/a/manifests/x\0", 18);
    tap_ok(ngx_oci_route_parse(&route, &s, buf, &code) == NGX_ERROR
           && code == NAME, "NUL in the path");
    free(s.data);

    s = tap_copy("/v2/a/manifests/x?\0", 19);
    tap_ok(ngx_oci_route_parse(&route, &s, buf, &code) == NGX_ERROR
           && code == NAME, "NUL in the query");
    free(s.data);

    s = tap_copy("a\0b:c", 5);
    tap_ok(ngx_oci_digest_parse(&digest, s.data, s.len) == NGX_ERROR,
           "NUL in an algorithm");
    free(s.data);

    s = tap_copy("a:b\0", 4);
    tap_ok(ngx_oci_digest_parse(&digest, s.data, s.len) == NGX_ERROR,
           "NUL in a digest");
    tap_ok(ngx_oci_tag_valid(s.data + 2, 2) == NGX_ERROR, "NUL in a tag");
    tap_ok(ngx_oci_name_valid(s.data + 2, 2) == NGX_ERROR, "NUL in a name");
    free(s.data);
}


#define t_each(t, table)                                                      \
    for (t = table; t < table + sizeof(table) / sizeof(table[0]); t++)


int
main(void)
{
    t_bad_t   *bad;
    t_good_t  *good;
    t_text_t  *text;

    t_each(good, t_good) {
        t_parse_good(good);
    }

    t_each(bad, t_bad) {
        t_parse_bad(bad);
    }

    t_each(text, t_digests) {
        t_digest(text);
    }

    t_each(text, t_names) {
        t_valid("name", ngx_oci_name_valid, text);
    }

    t_each(text, t_tags) {
        t_valid("tag", ngx_oci_tag_valid, text);
    }

    t_nul();

    return tap_done();
}
