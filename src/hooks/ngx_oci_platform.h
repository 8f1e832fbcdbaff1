
/*
 * Copyright (C) The nginx-oci authors
 *
 * Platforms of an image index (OCI image-spec, "Image Index").  Pure: needs
 * libc only.
 */


#ifndef _NGX_OCI_PLATFORM_H_INCLUDED_
#define _NGX_OCI_PLATFORM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_OCI_PLATFORMS      512      /* bytes of a list */
#define NGX_OCI_PLATFORM_TEXT  96       /* of one, with its NUL */


/*
 * A list is "os/architecture[/variant]", separated by commas, in an index's
 * own words.  NGX_OK, or NGX_ERROR: it is none, or too long.
 */
ngx_int_t ngx_oci_platforms_valid(const char *list, size_t len);

/*
 * Is a platform among those of a list?  Without a variant one in the list is
 * any of them; "v8" of arm64 is what it is without one.  variant: NULL: none.
 */
ngx_uint_t ngx_oci_platforms_have(ngx_str_t *list, const char *os,
    const char *architecture, const char *variant);

/* is this text in a list? */
ngx_uint_t ngx_oci_platforms_listed(ngx_str_t *list, ngx_str_t *text);

/* as in a list, with "?" for what has no place there, cut where it is too
   long; its length */
size_t ngx_oci_platform_text(char *buf, const char *os,
    const char *architecture, const char *variant);


#endif /* _NGX_OCI_PLATFORM_H_INCLUDED_ */
