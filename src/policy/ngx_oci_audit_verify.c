
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines are looked at as they come; what they say about others, as soon as
 * these are known, or at the end.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                     /* tdestroy() */
#endif

#include "ngx_oci_audit_verifier.h"

#include <stdarg.h>


#define NGX_OCI_AUDIT_PIECES  1024      /* more are an error at once */


static ngx_oci_audit_verify_t  *ngx_oci_audit_walked;   /* by twalk() */


static ngx_int_t ngx_oci_audit_whole(ngx_oci_audit_verify_t *v, u_char *p,
    size_t len);
static ngx_int_t ngx_oci_audit_piece(ngx_oci_audit_verify_t *v, u_char *p,
    size_t len);
static ngx_oci_audit_vchain_t *ngx_oci_audit_vchain(
    ngx_oci_audit_verify_t *v, ngx_oci_audit_line_t *line, ngx_uint_t right);
static void ngx_oci_audit_first(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_line_t *line);
static void ngx_oci_audit_follows(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_vchain_t *chain, ngx_oci_audit_line_t *line,
    ngx_uint_t right);
static void ngx_oci_audit_torn(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_line_t *line);
static void ngx_oci_audit_walk_chain(const void *node, VISIT which,
    int depth);


ngx_oci_audit_verify_t *
ngx_oci_audit_verify_create(ngx_uint_t closed,
    void (*note)(void *data, ngx_oci_audit_place_t *place), void *data)
{
    ngx_oci_audit_verify_t  *v;

    v = calloc(1, sizeof(ngx_oci_audit_verify_t));
    if (v == NULL) {
        return NULL;
    }

    v->closed = closed;
    v->note = note;
    v->data = data;

    return v;
}


void
ngx_oci_audit_verify_free(ngx_oci_audit_verify_t *v)
{
    ngx_uint_t              i;
    ngx_oci_audit_piece_t  *next;

    tdestroy(v->chains, free);
    tdestroy(v->knots, free);
    tdestroy(v->files, free);

    for ( /* void */ ; v->pieces; v->pieces = next) {
        next = v->pieces->next;
        free(v->pieces);
    }

    for (i = 0; i < v->nkeys; i++) {
        EVP_PKEY_free(v->keys[i]);
    }

    free(v);
}


ngx_int_t
ngx_oci_audit_verify_key(ngx_oci_audit_verify_t *v, EVP_PKEY *key)
{
    if (v->nkeys == NGX_OCI_AUDIT_KEYS
        || ngx_oci_audit_key_id(key, v->key_ids[v->nkeys]) != NGX_OK)
    {
        return NGX_ERROR;
    }

    v->keys[v->nkeys++] = key;

    return NGX_OK;
}


ngx_int_t
ngx_oci_audit_verify_file(ngx_oci_audit_verify_t *v)
{
    if (v->nfiles == NGX_OCI_AUDIT_FILES) {
        return NGX_ERROR;
    }

    v->file = v->nfiles++;
    v->line = 0;
    v->headed = 0;

    return NGX_OK;
}


ngx_int_t
ngx_oci_audit_verify_line(ngx_oci_audit_verify_t *v, u_char *p, size_t len,
    ngx_uint_t torn)
{
    u_char  *q, *start;

    v->line++;

    if (len == 0) {
        return NGX_OK;
    }

    /* quotes in strings are escaped: this is the beginning of a line, and a
       piece stands before it */

    start = p;

    for (q = p + len; q > p; q--) {
        if ((size_t) (p + len - q) >= sizeof("{\"ts\":\"") - 1
            && ngx_memcmp(q, "{\"ts\":\"", sizeof("{\"ts\":\"") - 1) == 0)
        {
            start = q;
            break;
        }
    }

    if (start > p && ngx_oci_audit_piece(v, p, start - p) != NGX_OK) {
        return NGX_ERROR;
    }

    if (torn) {
        return ngx_oci_audit_piece(v, start, p + len - start);
    }

    return ngx_oci_audit_whole(v, start, p + len - start);
}


static ngx_int_t
ngx_oci_audit_whole(ngx_oci_audit_verify_t *v, u_char *p, size_t len)
{
    u_char                   hash[NGX_OCI_AUDIT_HASH];
    ngx_uint_t               right;
    ngx_oci_audit_line_t     line;
    ngx_oci_audit_vchain_t  *chain;

    if (ngx_oci_audit_parse(&line, p, len) != NGX_OK) {
        return ngx_oci_audit_piece(v, p, len);
    }

    v->result.lines++;
    ngx_oci_audit_hash(p, len, hash);

    if (!v->headed) {
        v->headed = 1;

        if (!ngx_oci_audit_is_knot(line.event) || !line.knot.header) {
            ngx_oci_audit_broken(v, v->file, v->line,
                                 "lines before it are missing: it is not "
                                 "what a file begins with");
        }

        if (ngx_oci_audit_is_knot(line.event)) {
            ngx_memcpy(v->file_id, line.knot.file, NGX_OCI_AUDIT_ID);
        }

    } else if (ngx_oci_audit_is_knot(line.event)
               && (line.knot.header
                   || ngx_memcmp(v->file_id, line.knot.file,
                                 NGX_OCI_AUDIT_ID)
                      != 0))
    {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "it belongs in another file");
    }

    right = !ngx_oci_audit_is_knot(line.event)
            || ngx_oci_audit_signature(v, &line, p);

    chain = ngx_oci_audit_vchain(v, &line, right);
    if (chain == NULL) {
        return NGX_ERROR;
    }

    chain->seq = line.seq;
    ngx_memcpy(chain->hash, hash, NGX_OCI_AUDIT_HASH);
    chain->file = v->file;
    chain->line = v->line;
    chain->rotated = (line.event == NGX_OCI_AUDIT_ROTATE);
    chain->ended = (line.event == NGX_OCI_AUDIT_CLOSE);
    chain->loose++;

    if (line.event == NGX_OCI_AUDIT_LOST) {
        ngx_oci_audit_torn(v, &line);
    }

    if (!ngx_oci_audit_is_knot(line.event)) {
        return NGX_OK;
    }

    chain->loose = 0;

    ngx_memcpy(v->result.last_ts, p + sizeof("{\"ts\":\"") - 1, 27);
    v->result.last = line.knot.link;

    if (ngx_oci_audit_vknot(v, &line, hash) != NGX_OK) {
        return NGX_ERROR;
    }

    if (line.event == NGX_OCI_AUDIT_DIED) {
        ngx_oci_audit_died(v, &line.dead);
    }

    return NGX_OK;
}


/* it is wrong until a line accounts for it */

static ngx_int_t
ngx_oci_audit_piece(ngx_oci_audit_verify_t *v, u_char *p, size_t len)
{
    ngx_oci_audit_piece_t  *piece;

    if (v->npieces == NGX_OCI_AUDIT_PIECES) {
        ngx_oci_audit_broken(v, v->file, v->line, "it is not a line");
        return NGX_OK;
    }

    piece = malloc(sizeof(ngx_oci_audit_piece_t));
    if (piece == NULL) {
        return NGX_ERROR;
    }

    piece->file = v->file;
    piece->line = v->line;
    piece->len = len;
    ngx_oci_audit_hash(p, len, piece->hash);

    if (len <= sizeof(piece->data)) {
        ngx_memcpy(piece->data, p, len);
    }

    piece->next = v->pieces;
    v->pieces = piece;
    v->npieces++;

    return NGX_OK;
}


/* the chain that a line belongs to; made if there is none yet */

static ngx_oci_audit_vchain_t *
ngx_oci_audit_vchain(ngx_oci_audit_verify_t *v, ngx_oci_audit_line_t *line,
    ngx_uint_t right)
{
    void                    *found;
    ngx_oci_audit_vchain_t  *chain;

    found = tfind(line->chain, &v->chains, ngx_oci_audit_by_id);

    if (found) {
        chain = *(ngx_oci_audit_vchain_t **) found;
        ngx_oci_audit_follows(v, chain, line, right);
        return chain;
    }

    chain = calloc(1, sizeof(ngx_oci_audit_vchain_t));
    if (chain == NULL) {
        return NULL;
    }

    ngx_memcpy(chain->id, line->chain, NGX_OCI_AUDIT_ID);

    if (tsearch(chain, &v->chains, ngx_oci_audit_by_id) == NULL) {
        free(chain);
        return NULL;
    }

    v->result.chains++;
    ngx_oci_audit_first(v, line);

    return chain;
}


static void
ngx_oci_audit_first(ngx_oci_audit_verify_t *v, ngx_oci_audit_line_t *line)
{
    static const u_char  zeros[NGX_OCI_AUDIT_HASH];

    if (line->event == NGX_OCI_AUDIT_START && line->seq == 1
        && ngx_memcmp(line->prev, zeros, NGX_OCI_AUDIT_HASH) == 0)
    {
        return;
    }

    if (line->event == NGX_OCI_AUDIT_OPEN && line->seq > 1
        && tfind(line->dead.file, &v->files, ngx_oci_audit_by_id) == NULL)
    {
        ngx_oci_audit_noted(v, v->file, v->line,
                            "its chain goes on from a file that was not "
                            "given");
        return;
    }

    ngx_oci_audit_broken(v, v->file, v->line,
                         "lines before it are missing: it is not what a "
                         "chain begins with");
}


static void
ngx_oci_audit_follows(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_vchain_t *chain, ngx_oci_audit_line_t *line,
    ngx_uint_t right)
{
    ngx_uint_t  opens;

    if (chain->ended || chain->dead) {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "it comes after the end of its chain");
        return;
    }

    if (line->seq <= chain->seq) {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "it is out of order, or there twice");
        return;
    }

    if (line->seq > chain->seq + 1) {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "lines before it are missing: %llu of its "
                             "chain",
                             (unsigned long long)
                             (line->seq - chain->seq - 1));
        return;
    }

    if (right
        && ngx_memcmp(line->prev, chain->hash, NGX_OCI_AUDIT_HASH) != 0)
    {
        ngx_oci_audit_broken(v, chain->file, chain->line,
                             "it was changed, as line %llu shows",
                             (unsigned long long) v->line);
        return;
    }

    opens = (line->event == NGX_OCI_AUDIT_OPEN);

    if (!opens && (chain->rotated || chain->file != v->file)) {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "it belongs in another file");
    }
}


/* pieces that its writer could not write to their end */

static void
ngx_oci_audit_torn(ngx_oci_audit_verify_t *v, ngx_oci_audit_line_t *line)
{
    ngx_uint_t               i;
    ngx_oci_audit_piece_t  **piece;

    for (i = 0; i < line->ntorn; i++) {

        for (piece = &v->pieces; *piece; piece = &(*piece)->next) {
            if (ngx_memcmp((*piece)->hash, line->torn[i], NGX_OCI_AUDIT_HASH)
                == 0)
            {
                ngx_oci_audit_forget(v, piece);
                break;
            }
        }
    }
}


void
ngx_oci_audit_forget(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_piece_t **piece)
{
    ngx_oci_audit_piece_t  *next;

    next = (*piece)->next;
    free(*piece);
    *piece = next;

    v->npieces--;
    v->result.lost++;
}


ngx_oci_audit_result_t *
ngx_oci_audit_verify_done(ngx_oci_audit_verify_t *v)
{
    ngx_oci_audit_piece_t  *piece;

    for (piece = v->pieces; piece; piece = piece->next) {
        ngx_oci_audit_broken(v, piece->file, piece->line,
                             "it is not a whole line");
    }

    ngx_oci_audit_knots(v);

    ngx_oci_audit_walked = v;
    twalk(v->chains, ngx_oci_audit_walk_chain);

    if (!v->result.broken && v->late.says[0]) {
        v->result.broken = 1;
        v->result.first = v->late;
    }

    return &v->result;
}


static void
ngx_oci_audit_walk_chain(const void *node, VISIT which, int depth)
{
    ngx_oci_audit_vchain_t  *chain;
    ngx_oci_audit_verify_t  *v;

    if (which != postorder && which != leaf) {
        return;
    }

    v = ngx_oci_audit_walked;
    chain = *(ngx_oci_audit_vchain_t **) node;

    if (chain->ended || chain->dead || chain->rotated) {
        return;
    }

    v->result.open++;
    v->result.loose += chain->loose;

    if (v->closed) {
        ngx_oci_audit_broken(v, chain->file, chain->line,
                             "its chain has no end: lines after it may be "
                             "missing");
    }
}


int
ngx_oci_audit_by_id(const void *one, const void *two)
{
    return memcmp(one, two, NGX_OCI_AUDIT_ID);
}


int
ngx_oci_audit_by_hash(const void *one, const void *two)
{
    return memcmp(one, two, NGX_OCI_AUDIT_HASH);
}


/* the first place in the order of files and lines is kept */

void
ngx_oci_audit_broken(ngx_oci_audit_verify_t *v, ngx_uint_t file,
    uint64_t line, const char *fmt, ...)
{
    va_list                 args;
    ngx_oci_audit_place_t  *first;

    first = &v->result.first;

    if (v->result.broken
        && (file > first->file
            || (file == first->file && line >= first->line)))
    {
        return;
    }

    v->result.broken = 1;
    first->file = file;
    first->line = line;

    va_start(args, fmt);
    vsnprintf(first->says, sizeof(first->says), fmt, args);
    va_end(args);
}


void
ngx_oci_audit_noted(ngx_oci_audit_verify_t *v, ngx_uint_t file,
    uint64_t line, const char *fmt, ...)
{
    va_list                args;
    ngx_oci_audit_place_t  place;

    if (v->note == NULL) {
        return;
    }

    place.file = file;
    place.line = line;

    va_start(args, fmt);
    vsnprintf(place.says, sizeof(place.says), fmt, args);
    va_end(args);

    v->note(v->data, &place);
}
