
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines of an audit log: how they are written, and what they say about each
 * other.  Pure: needs libc and OpenSSL only.
 *
 * A line is one JSON object of printable ASCII, whose members stand in this
 * order:
 *
 *   {"ts":"...","node":"...","chain":"<id>","seq":<n>,"prev":"<hash>",
 *   "event":"<word>",...}
 *
 * A chain is what one worker writes into one log: seq counts from 1, prev is
 * the SHA-256 of the chain's line before, without its newline, zeros for the
 * first.  Without "chain" there is no prev.
 *
 * The knots tie the chains of all workers together: they begin a chain, end
 * it, or say how far it came, and are signed.  Their members go on with
 *
 *   "file":"<id>","header":<bool>,"spine":"<id>","link":<n>,
 *   "link_prev":"<hash>","link_file":"<id>","restart":<bool>
 *
 * and end with "key":"<id>","sig":"<base64>".  link_prev is the SHA-256 of the
 * knot before, whoever wrote it, and link_file the file that has it.  The
 * first line of a file is a knot with header.  A spine is all knots while
 * nginx runs; with restart a knot goes on where another spine was.
 */


#ifndef _NGX_OCI_AUDIT_CHAIN_H_INCLUDED_
#define _NGX_OCI_AUDIT_CHAIN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/evp.h>


#define NGX_OCI_AUDIT_LINE    6144  /* bytes of a line, with its newline */
#define NGX_OCI_AUDIT_GAP     9216  /* of one that carries another one */
#define NGX_OCI_AUDIT_HASH    32
#define NGX_OCI_AUDIT_ID      16    /* hex digits */
#define NGX_OCI_AUDIT_TORN    16    /* pieces that a line may speak of */
#define NGX_OCI_AUDIT_SIG     64    /* bytes of a signature */


/* what is written; nothing is ever written in part */

typedef struct {
    u_char          *pos;
    u_char          *last;          /* the end of the memory */
} ngx_oci_audit_out_t;


typedef struct {
    u_char           id[NGX_OCI_AUDIT_ID];
    uint64_t         seq;                       /* of the last line */
    u_char           hash[NGX_OCI_AUDIT_HASH];  /* of the last line */
} ngx_oci_audit_chain_t;


typedef enum {
    NGX_OCI_AUDIT_PLAIN = 0,
    NGX_OCI_AUDIT_LOST,             /* lines that could not be written */

    /* knots */
    NGX_OCI_AUDIT_START,            /* a chain begins */
    NGX_OCI_AUDIT_OPEN,             /* it goes on in another file */
    NGX_OCI_AUDIT_CHECKPOINT,
    NGX_OCI_AUDIT_DIED,             /* another chain's writer, "gap" */
    NGX_OCI_AUDIT_ROTATE,           /* the chain's last line in this file */
    NGX_OCI_AUDIT_CLOSE             /* the chain's last line */
} ngx_oci_audit_event_e;


typedef struct {
    u_char           file[NGX_OCI_AUDIT_ID];
    u_char           spine[NGX_OCI_AUDIT_ID];
    uint64_t         link;
    u_char           prev[NGX_OCI_AUDIT_HASH];
    u_char           prev_file[NGX_OCI_AUDIT_ID];
    unsigned         header:1;
    unsigned         restart:1;
} ngx_oci_audit_knot_t;


/* a chain whose writer died, or what an "open" follows */

typedef struct {
    u_char           of[NGX_OCI_AUDIT_ID];
    u_char           file[NGX_OCI_AUDIT_ID];
    uint64_t         seq;
    u_char           hash[NGX_OCI_AUDIT_HASH];
    u_char           next_hash[NGX_OCI_AUDIT_HASH];
    ngx_str_t        next_line;     /* base64, without its newline, or "" */
    unsigned         next:1;        /* one more line was to be written */
} ngx_oci_audit_dead_t;


/* a line that was read; points into it */

typedef struct {
    ngx_uint_t            event;    /* ngx_oci_audit_event_e */
    u_char                chain[NGX_OCI_AUDIT_ID];
    uint64_t              seq;
    u_char                prev[NGX_OCI_AUDIT_HASH];
    ngx_oci_audit_knot_t  knot;
    ngx_oci_audit_dead_t  dead;     /* of _DIED; .file also of _OPEN */
    u_char                torn[NGX_OCI_AUDIT_TORN][NGX_OCI_AUDIT_HASH];
    ngx_uint_t            ntorn;
    u_char                key[NGX_OCI_AUDIT_ID];
    u_char                sig[NGX_OCI_AUDIT_SIG];
    size_t                signed_len;   /* of the line's bytes */
} ngx_oci_audit_line_t;


/*
 * A string member, ',"name":"value"': control bytes, quotes, and whatever is
 * not ASCII are escaped, so that nothing reaches a terminal that moves it or
 * that looks like something else; what is not UTF-8 becomes U+FFFD.  At most
 * max bytes of value, escaped, "..." stands for the rest.  Nothing for an
 * empty value, and where the memory ends.
 */
void ngx_oci_audit_string(ngx_oci_audit_out_t *out, const char *name,
    ngx_str_t *value, size_t max);
void ngx_oci_audit_text(ngx_oci_audit_out_t *out, const char *name,
    const char *value);
void ngx_oci_audit_number(ngx_oci_audit_out_t *out, const char *name,
    uint64_t value);
void ngx_oci_audit_bool(ngx_oci_audit_out_t *out, const char *name,
    ngx_uint_t value);
void ngx_oci_audit_hex(ngx_oci_audit_out_t *out, const char *name,
    const u_char *hash);
/* an array of them; nothing for none */
void ngx_oci_audit_hexes(ngx_oci_audit_out_t *out, const char *name,
    u_char (*hashes)[NGX_OCI_AUDIT_HASH], ngx_uint_t n);
void ngx_oci_audit_id(ngx_oci_audit_out_t *out, const char *name,
    const u_char *id);
void ngx_oci_audit_base64(ngx_oci_audit_out_t *out, const char *name,
    const u_char *p, size_t len);
/* bytes as they are */
void ngx_oci_audit_raw(ngx_oci_audit_out_t *out, const u_char *p, size_t len);

/* RFC 3339 in UTC with microseconds, 27 bytes; returns the end */
u_char *ngx_oci_audit_time(u_char *p, time_t sec, ngx_uint_t usec);

/* the members that every line begins with; chained: with prev */
void ngx_oci_audit_begin(ngx_oci_audit_out_t *out, const u_char *ts,
    ngx_str_t *node, ngx_oci_audit_chain_t *chain, ngx_uint_t chained,
    const char *event);
void ngx_oci_audit_knot(ngx_oci_audit_out_t *out, ngx_oci_audit_knot_t *knot);

/*
 * Ends a line that began at start, without a newline.  With key it is signed.
 * NGX_OK; NGX_ERROR: no room, or OpenSSL failed.
 */
ngx_int_t ngx_oci_audit_end(ngx_oci_audit_out_t *out, u_char *start,
    EVP_PKEY *key, const u_char *key_id);

void ngx_oci_audit_hash(const u_char *p, size_t len, u_char *hash);

/* NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_audit_random_id(u_char *id);
ngx_int_t ngx_oci_audit_key_id(EVP_PKEY *key, u_char *id);

/* NGX_OK; NGX_DECLINED: it is no whole line of a chain */
ngx_int_t ngx_oci_audit_parse(ngx_oci_audit_line_t *line, u_char *p,
    size_t len);

#define ngx_oci_audit_is_knot(event)  ((event) >= NGX_OCI_AUDIT_START)


#endif /* _NGX_OCI_AUDIT_CHAIN_H_INCLUDED_ */
