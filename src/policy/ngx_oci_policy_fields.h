
/*
 * Copyright (C) The nginx-oci authors
 *
 * A policy document in pieces, as a Redis hash has it: fields by name, each
 * with the JSON of one member of the document.  Pure: needs libc and jansson
 * only.
 */


#ifndef _NGX_OCI_POLICY_FIELDS_H_INCLUDED_
#define _NGX_OCI_POLICY_FIELDS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_OCI_FIELDS_MAX    (64 * 1024 * 1024)    /* bytes, of all */
#define NGX_OCI_FIELDS_NAME   512       /* bytes of a name; enough for a kind,
                                           255 bytes or a digest */
#define NGX_OCI_FIELDS_ERROR  512


typedef struct ngx_oci_fields_s  ngx_oci_fields_t;

typedef struct {
    const char  *name;                  /* no zero follows */
    size_t       len;
} ngx_oci_fields_name_t;


/* NULL: no memory.  For one thread at a time */
ngx_oci_fields_t *ngx_oci_fields_create(void);
/* NULL does nothing */
void ngx_oci_fields_free(ngx_oci_fields_t *f);

/* NULL, or why a field has no place here: then they are not to be used */
const char *ngx_oci_fields_set(ngx_oci_fields_t *f, const char *name,
    size_t len, const char *value, size_t value_len);
void ngx_oci_fields_remove(ngx_oci_fields_t *f, const char *name, size_t len);

size_t ngx_oci_fields_count(ngx_oci_fields_t *f);

/* all of them, for free(); the names last as long as the fields.  NULL: no
   memory */
ngx_oci_fields_name_t *ngx_oci_fields_names(ngx_oci_fields_t *f);

/*
 * The JSON of the document, the same for the same fields, for free().  NULL:
 * error says which field is wrong, without its value.
 */
char *ngx_oci_fields_document(ngx_oci_fields_t *f, size_t *len, char *error);


#endif /* _NGX_OCI_POLICY_FIELDS_H_INCLUDED_ */
