
/*
 * Copyright (C) The nginx-oci authors
 *
 * HTTP headers, and parsers of their values.  Pure: needs ngx_string and libc
 * only.
 */


#ifndef _NGX_OCI_HEADER_H_INCLUDED_
#define _NGX_OCI_HEADER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* where a look at a list of headers goes on */

typedef struct {
    ngx_list_part_t  *part;
    ngx_uint_t        i;
} ngx_oci_header_at_t;

/*
 * The first header of that name of a request or an answer; with at, which is
 * zeroed before, the next one at each call.  NULL: there is none, or no more.
 */
ngx_table_elt_t *ngx_oci_header_find(ngx_list_t *headers,
    ngx_oci_header_at_t *at, const char *name);


typedef struct {
    off_t         start;            /* first byte */
    off_t         end;              /* one past the last byte */
} ngx_oci_range_t;


typedef struct {
    ngx_str_t     scheme;           /* "Bearer", "Basic", as sent */
    ngx_str_t     realm;            /* unquoted; may hold no escapes */
    ngx_str_t     service;
    ngx_str_t     scope;
    ngx_str_t     error;
} ngx_oci_challenge_t;


/*
 * Parses a Range header (RFC 9110, section 14.2) against a representation
 * of size bytes into ranges[max], in the order asked for, ends clamped.
 *
 * Returns the number of satisfiable ranges; 0 where the unit is not "bytes"
 * or the value is malformed (to be ignored: the answer is 200);
 * NGX_DECLINED where it is well-formed but no range is satisfiable (416);
 * NGX_ERROR where it names more than max ranges (400).
 * A malformed set is one with any syntax error or an empty member; "5-2"
 * counts as unsatisfiable (416), as the conformance suite and nginx have it.
 */
ngx_int_t ngx_oci_range_parse(ngx_str_t *value, off_t size,
    ngx_oci_range_t *ranges, ngx_uint_t max);

/*
 * Parses Content-Range (RFC 9110, section 14.4): "bytes a-b/total",
 * "bytes a-b/ *" (total -1), "bytes * /total" (start and end -1).
 * end is one past the last byte.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_content_range_parse(ngx_str_t *value, off_t *start,
    off_t *end, off_t *total);

/*
 * Parses the first challenge of a WWW-Authenticate value (RFC 9110, section
 * 11.6.1) whose scheme is Bearer, else the first Basic one.  Strings point
 * into value; a quoted string with a backslash escape is refused.
 * NGX_OK, NGX_DECLINED (no such challenge) or NGX_ERROR (malformed).
 */
ngx_int_t ngx_oci_challenge_parse(ngx_str_t *value, ngx_oci_challenge_t *ch);

/*
 * Finds the target of the first link of a Link value (RFC 8288), that is
 * the text between "<" and ">", in *target.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_link_parse(ngx_str_t *value, ngx_str_t *target);

/*
 * Is a Content-Type that of a page for people (RFC 9110, section 8.3)?  A
 * login page or a captive portal sends one with 200; no registry does for a
 * blob or a manifest.
 */
ngx_uint_t ngx_oci_type_is_page(ngx_str_t *value);


typedef struct {
    ngx_str_t     scheme;           /* "http" or "https" */
    ngx_str_t     host;             /* without port, IPv6 in brackets */
    ngx_str_t     authority;        /* host and port as written */
    in_port_t     port;             /* explicit or the scheme's default */
    ngx_str_t     uri;              /* from the path on, "/" if empty */
    unsigned      absolute:1;       /* had scheme and authority */
} ngx_oci_url_t;

/*
 * Parses an absolute http or https URL, or an absolute path ("/..."; then
 * only uri is set).  Refuses userinfo, control bytes, spaces, backslashes, a
 * fragment, a port out of range, hosts with bytes outside [A-Za-z0-9._-]
 * (or a bracketed IPv6 literal), and numeric-looking hosts that are not a
 * canonical dotted quad (decimal, octal and hexadecimal forms of IPv4).
 * Refuses "//..." and a query right after the authority, too.  A name may
 * end in the dot of the root, which is kept in host.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_url_parse(ngx_str_t *value, ngx_oci_url_t *url);


/*
 * What another said, for a log line: bytes that are not printable ASCII,
 * quotes and backslashes become "\xXX", as in nginx's own logs, and what is
 * longer ends in "...".  text points into buf[NGX_OCI_LOG_TEXT].
 */
#define NGX_OCI_LOG_TEXT  256       /* bytes */

void ngx_oci_log_text(ngx_str_t *text, u_char *buf, ngx_str_t *value);


/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4) of data, continued from crc
 * (0 to begin).  Uses the processor's instruction where it has one.
 */
uint32_t ngx_oci_crc32c(uint32_t crc, const u_char *p, size_t len);


#endif /* _NGX_OCI_HEADER_H_INCLUDED_ */
