
/*
 * Copyright (C) The nginx-oci authors
 *
 * A walk through a manifest's JSON, without a tree: a text of 4 MiB may have
 * two million values, whose tree would take a hundred times that.  What it
 * yields is believed by nobody before a digest has proven it, so that this is
 * less strict than a parser: commas may be missing, names may be there twice
 * (the last one counts), and a name with an escape is not known.
 */


#include "ngx_oci_descriptor.h"


#define NGX_OCI_DESCRIPTOR_DIGITS  18   /* of a size: fits an int64_t */


typedef enum {
    NGX_OCI_DESCRIPTOR_NAME = 0,        /* none yet: one has to come */
    NGX_OCI_DESCRIPTOR_DIGEST,
    NGX_OCI_DESCRIPTOR_SIZE,
    NGX_OCI_DESCRIPTOR_OTHER            /* and in arrays */
} ngx_oci_descriptor_name_e;


/* an object or an array that is open */

typedef struct {
    ngx_uint_t    array;
    ngx_uint_t    name;                 /* ..._name_e: of the value to come */
    ngx_str_t     digest;               /* points into the text */
    off_t         size;                 /* 0: none */
} ngx_oci_descriptor_level_t;


typedef struct {
    ngx_oci_descriptor_level_t   levels[NGX_OCI_DESCRIPTOR_DEPTH];
    ngx_uint_t                   depth;
    u_char                      *p;
    u_char                      *last;
    ngx_oci_descriptor_pt        handler;
    void                        *data;
} ngx_oci_descriptor_walk_t;


static ngx_int_t ngx_oci_descriptor_open(ngx_oci_descriptor_walk_t *w,
    ngx_uint_t array);
static ngx_int_t ngx_oci_descriptor_close(ngx_oci_descriptor_walk_t *w,
    ngx_uint_t array);
static ngx_int_t ngx_oci_descriptor_string(ngx_oci_descriptor_walk_t *w);
static ngx_int_t ngx_oci_descriptor_name(ngx_oci_descriptor_walk_t *w,
    ngx_oci_descriptor_level_t *level, ngx_str_t *s);
static ngx_int_t ngx_oci_descriptor_scalar(ngx_oci_descriptor_walk_t *w);
static void ngx_oci_descriptor_space(ngx_oci_descriptor_walk_t *w);


ngx_int_t
ngx_oci_descriptors(u_char *p, size_t len, ngx_oci_descriptor_pt handler,
    void *data)
{
    ngx_int_t                  rc;
    ngx_oci_descriptor_walk_t  w;

    w.depth = 0;
    w.p = p;
    w.last = p + len;
    w.handler = handler;
    w.data = data;

    for ( ;; ) {

        ngx_oci_descriptor_space(&w);

        if (w.p == w.last) {
            return w.depth ? NGX_ERROR : NGX_OK;
        }

        switch (*w.p) {

        case '{':
        case '[':
            rc = ngx_oci_descriptor_open(&w, *w.p == '[');
            break;

        case '}':
        case ']':
            rc = ngx_oci_descriptor_close(&w, *w.p == ']');
            break;

        case '"':
            rc = ngx_oci_descriptor_string(&w);
            break;

        case ',':
            w.p++;
            rc = NGX_OK;
            break;

        default:
            rc = ngx_oci_descriptor_scalar(&w);
        }

        if (rc != NGX_OK) {
            return (rc == NGX_DONE) ? NGX_OK : NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_oci_descriptor_open(ngx_oci_descriptor_walk_t *w, ngx_uint_t array)
{
    ngx_oci_descriptor_level_t  *level;

    if (w->depth == NGX_OCI_DESCRIPTOR_DEPTH) {
        return NGX_ERROR;
    }

    if (w->depth) {
        level = &w->levels[w->depth - 1];

        if (level->name == NGX_OCI_DESCRIPTOR_NAME) {
            return NGX_ERROR;
        }

        if (!level->array) {
            level->name = NGX_OCI_DESCRIPTOR_NAME;
        }
    }

    level = &w->levels[w->depth++];

    level->array = array;
    level->name = array ? NGX_OCI_DESCRIPTOR_OTHER : NGX_OCI_DESCRIPTOR_NAME;
    level->digest.len = 0;
    level->digest.data = NULL;
    level->size = 0;

    w->p++;

    return NGX_OK;
}


/* NGX_DONE: the handler has enough */

static ngx_int_t
ngx_oci_descriptor_close(ngx_oci_descriptor_walk_t *w, ngx_uint_t array)
{
    ngx_oci_digest_t             digest;
    ngx_oci_descriptor_level_t  *level;

    if (w->depth == 0) {
        return NGX_ERROR;
    }

    level = &w->levels[--w->depth];

    if (level->array != array
        || (!array && level->name != NGX_OCI_DESCRIPTOR_NAME))
    {
        return NGX_ERROR;
    }

    w->p++;

    if (level->digest.len && level->size
        && ngx_oci_digest_parse(&digest, level->digest.data,
                                level->digest.len)
           == NGX_OK
        && w->handler(w->data, &digest, level->size) != NGX_OK)
    {
        return NGX_DONE;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_descriptor_string(ngx_oci_descriptor_walk_t *w)
{
    u_char                      *p;
    ngx_str_t                    s;
    ngx_oci_descriptor_level_t  *level;

    s.data = ++w->p;

    for (p = w->p; p < w->last && *p != '"'; p++) {
        if (*p == '\\' && ++p == w->last) {
            return NGX_ERROR;
        }
    }

    if (p == w->last) {
        return NGX_ERROR;
    }

    s.len = p - s.data;
    w->p = p + 1;

    if (w->depth == 0) {
        return NGX_OK;
    }

    level = &w->levels[w->depth - 1];

    if (level->array) {
        return NGX_OK;
    }

    if (level->name == NGX_OCI_DESCRIPTOR_NAME) {
        return ngx_oci_descriptor_name(w, level, &s);
    }

    if (level->name == NGX_OCI_DESCRIPTOR_DIGEST) {
        level->digest = s;
    }

    level->name = NGX_OCI_DESCRIPTOR_NAME;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_descriptor_name(ngx_oci_descriptor_walk_t *w,
    ngx_oci_descriptor_level_t *level, ngx_str_t *s)
{
    ngx_oci_descriptor_space(w);

    if (w->p == w->last || *w->p != ':') {
        return NGX_ERROR;
    }

    w->p++;

    if (s->len == 6 && memcmp(s->data, "digest", 6) == 0) {
        level->name = NGX_OCI_DESCRIPTOR_DIGEST;
        level->digest.len = 0;

    } else if (s->len == 4 && memcmp(s->data, "size", 4) == 0) {
        level->name = NGX_OCI_DESCRIPTOR_SIZE;
        level->size = 0;

    } else {
        level->name = NGX_OCI_DESCRIPTOR_OTHER;
    }

    return NGX_OK;
}


/* a number, or "true" and the like; only a size is of interest, and only one
   that is an integer */

static ngx_int_t
ngx_oci_descriptor_scalar(ngx_oci_descriptor_walk_t *w)
{
    off_t                        size;
    u_char                      *p, c;
    ngx_uint_t                   digits;
    ngx_oci_descriptor_level_t  *level;

    size = 0;
    digits = 1;

    for (p = w->p; p < w->last; p++) {
        c = *p;

        if (c >= '0' && c <= '9') {
            if (p - w->p < NGX_OCI_DESCRIPTOR_DIGITS) {
                size = size * 10 + (c - '0');

            } else {
                digits = 0;
            }

            continue;
        }

        if ((c < 'a' || c > 'z') && c != 'E'
            && c != '-' && c != '+' && c != '.')
        {
            break;
        }

        digits = 0;
    }

    if (p == w->p) {
        return NGX_ERROR;
    }

    w->p = p;

    if (w->depth == 0) {
        return NGX_OK;
    }

    level = &w->levels[w->depth - 1];

    if (level->array) {
        return NGX_OK;
    }

    if (level->name == NGX_OCI_DESCRIPTOR_NAME) {
        return NGX_ERROR;
    }

    if (level->name == NGX_OCI_DESCRIPTOR_SIZE && digits) {
        level->size = size;
    }

    level->name = NGX_OCI_DESCRIPTOR_NAME;

    return NGX_OK;
}


static void
ngx_oci_descriptor_space(ngx_oci_descriptor_walk_t *w)
{
    while (w->p < w->last
           && (*w->p == ' ' || *w->p == '\t' || *w->p == '\r'
               || *w->p == '\n'))
    {
        w->p++;
    }
}
