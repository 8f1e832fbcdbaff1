
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the verifier share.
 */


#ifndef _NGX_OCI_AUDIT_VERIFIER_H_INCLUDED_
#define _NGX_OCI_AUDIT_VERIFIER_H_INCLUDED_


#include "ngx_oci_audit_verify.h"

#include <search.h>


/* nodes of trees begin with what they are found by */

typedef struct {
    u_char                  id[NGX_OCI_AUDIT_ID];
    uint64_t                seq;
    u_char                  hash[NGX_OCI_AUDIT_HASH];
    ngx_uint_t              file;       /* of the last line */
    uint64_t                line;
    uint64_t                loose;
    unsigned                rotated:1;  /* an "open" must follow */
    unsigned                ended:1;
    unsigned                dead:1;
} ngx_oci_audit_vchain_t;


typedef struct {
    u_char                  hash[NGX_OCI_AUDIT_HASH];
    u_char                  prev[NGX_OCI_AUDIT_HASH];
    u_char                  prev_file[NGX_OCI_AUDIT_ID];
    u_char                  spine[NGX_OCI_AUDIT_ID];
    uint64_t                link;
    uint64_t                line;
    uint32_t                file;
    unsigned                restart:1;
    unsigned                followed:1;
    unsigned                dead:1;     /* nobody had to follow it */
} ngx_oci_audit_vknot_t;


typedef struct {
    u_char                  id[NGX_OCI_AUDIT_ID];
    ngx_uint_t              n;
} ngx_oci_audit_vfile_t;


/* what is no line: a piece of one that was not written to its end */

typedef struct ngx_oci_audit_piece_s  ngx_oci_audit_piece_t;

struct ngx_oci_audit_piece_s {
    ngx_oci_audit_piece_t  *next;
    ngx_uint_t              file;
    uint64_t                line;
    size_t                  len;
    u_char                  hash[NGX_OCI_AUDIT_HASH];
    u_char                  data[NGX_OCI_AUDIT_LINE];   /* if it fits */
};


struct ngx_oci_audit_verify_s {
    void                   *chains;     /* trees */
    void                   *knots;
    void                   *files;
    ngx_oci_audit_piece_t  *pieces;
    ngx_uint_t              npieces;

    EVP_PKEY               *keys[NGX_OCI_AUDIT_KEYS];
    u_char                  key_ids[NGX_OCI_AUDIT_KEYS][NGX_OCI_AUDIT_ID];
    ngx_uint_t              nkeys;

    ngx_uint_t              file;
    ngx_uint_t              nfiles;
    uint64_t                line;
    u_char                  file_id[NGX_OCI_AUDIT_ID];
    unsigned                headed:1;   /* the file's id is known */
    unsigned                closed:1;

    void                  (*note)(void *data, ngx_oci_audit_place_t *place);
    void                   *data;

    ngx_oci_audit_place_t   late;       /* broken too, somewhere after
                                           that; .says is "": nothing is */
    ngx_oci_audit_result_t  result;
};


/*
 * ngx_oci_audit_verify.c.  broken(): the first place in the order of files
 * and lines is kept; noted(): good to know.  forget(): a piece is accounted
 * for.  Orders of trees.
 */
void ngx_oci_audit_broken(ngx_oci_audit_verify_t *v, ngx_uint_t file,
    uint64_t line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void ngx_oci_audit_noted(ngx_oci_audit_verify_t *v, ngx_uint_t file,
    uint64_t line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void ngx_oci_audit_forget(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_piece_t **piece);
int ngx_oci_audit_by_id(const void *one, const void *two);
int ngx_oci_audit_by_hash(const void *one, const void *two);

/*
 * ngx_oci_audit_verify_knot.c.  signature(): may it be what the key's owner
 * wrote?  vknot(): it is kept for knots(), at the end; NGX_OK or NGX_ERROR: no
 * memory.  died(): a chain whose writer died ends.
 */
ngx_uint_t ngx_oci_audit_signature(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_line_t *line, u_char *p);
ngx_int_t ngx_oci_audit_vknot(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_line_t *line, u_char *hash);
void ngx_oci_audit_died(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_dead_t *dead);
void ngx_oci_audit_knots(ngx_oci_audit_verify_t *v);


#endif /* _NGX_OCI_AUDIT_VERIFIER_H_INCLUDED_ */
