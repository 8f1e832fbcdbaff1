
/*
 * Copyright (C) The nginx-oci authors
 *
 * What knots of an audit log say: who wrote them, what they follow, and how
 * far chains came whose writers died.
 */


#include "ngx_oci_audit_verifier.h"


static ngx_oci_audit_verify_t  *ngx_oci_audit_walked;   /* by twalk() */


static ngx_uint_t ngx_oci_audit_begun(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_dead_t *dead);
static void ngx_oci_audit_walk_knot(const void *node, VISIT which, int depth);
static void ngx_oci_audit_missing(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_vknot_t *knot, ngx_uint_t n);


ngx_int_t
ngx_oci_audit_vknot(ngx_oci_audit_verify_t *v, ngx_oci_audit_line_t *line,
    u_char *hash)
{
    ngx_oci_audit_vfile_t  *file;
    ngx_oci_audit_vknot_t  *knot;

    v->result.knots++;

    if (line->knot.header
        && tfind(line->knot.file, &v->files, ngx_oci_audit_by_id) == NULL)
    {
        file = malloc(sizeof(ngx_oci_audit_vfile_t));
        if (file == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(file->id, line->knot.file, NGX_OCI_AUDIT_ID);
        file->n = v->file;

        if (tsearch(file, &v->files, ngx_oci_audit_by_id) == NULL) {
            free(file);
            return NGX_ERROR;
        }
    }

    if (tfind(hash, &v->knots, ngx_oci_audit_by_hash)) {
        return NGX_OK;                  /* twice, as its chain says */
    }

    knot = calloc(1, sizeof(ngx_oci_audit_vknot_t));
    if (knot == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(knot->hash, hash, NGX_OCI_AUDIT_HASH);
    ngx_memcpy(knot->prev, line->knot.prev, NGX_OCI_AUDIT_HASH);
    ngx_memcpy(knot->prev_file, line->knot.prev_file, NGX_OCI_AUDIT_ID);
    ngx_memcpy(knot->spine, line->knot.spine, NGX_OCI_AUDIT_ID);
    knot->link = line->knot.link;
    knot->restart = line->knot.restart;
    knot->file = v->file;
    knot->line = v->line;

    if (tsearch(knot, &v->knots, ngx_oci_audit_by_hash) == NULL) {
        free(knot);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* may it be what the key's owner wrote? */

ngx_uint_t
ngx_oci_audit_signature(ngx_oci_audit_verify_t *v,
    ngx_oci_audit_line_t *line, u_char *p)
{
    int          ok;
    ngx_uint_t   i;
    EVP_MD_CTX  *md;

    if (v->nkeys == 0) {
        return 1;
    }

    for (i = 0; i < v->nkeys; i++) {
        if (ngx_memcmp(v->key_ids[i], line->key, NGX_OCI_AUDIT_ID) == 0) {
            break;
        }
    }

    if (i == v->nkeys) {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "it is signed with another key, %.16s",
                             (char *) line->key);
        return 0;
    }

    md = EVP_MD_CTX_new();

    ok = md
         && EVP_DigestVerifyInit(md, NULL, NULL, NULL, v->keys[i]) == 1
         && EVP_DigestVerify(md, line->sig, NGX_OCI_AUDIT_SIG, p,
                             line->signed_len)
            == 1;

    EVP_MD_CTX_free(md);

    if (!ok) {
        ngx_oci_audit_broken(v, v->file, v->line, "its signature is wrong");
    }

    return ok;
}


/*
 * A writer died.  Its last line is known, or there is one more that was to be
 * written: as a whole, in part, or not at all.
 */

void
ngx_oci_audit_died(ngx_oci_audit_verify_t *v, ngx_oci_audit_dead_t *dead)
{
    void                    *found;
    ngx_uint_t               next;
    ngx_oci_audit_vknot_t   *knot;
    ngx_oci_audit_vchain_t  *chain;

    found = tfind(dead->of, &v->chains, ngx_oci_audit_by_id);
    chain = found ? *(ngx_oci_audit_vchain_t **) found : NULL;
    next = 0;

    if (chain) {
        next = dead->next && chain->seq == dead->seq + 1
               && ngx_memcmp(chain->hash, dead->next_hash,
                             NGX_OCI_AUDIT_HASH)
                  == 0;

        if (!next && chain->seq < dead->seq) {
            ngx_oci_audit_broken(v, chain->file, chain->line,
                                 "lines after it are missing: %llu of its "
                                 "chain, as line %llu shows",
                                 (unsigned long long)
                                 (dead->seq - chain->seq),
                                 (unsigned long long) v->line);

        } else if (!next
                   && (chain->seq != dead->seq
                       || ngx_memcmp(chain->hash, dead->hash,
                                     NGX_OCI_AUDIT_HASH)
                          != 0))
        {
            ngx_oci_audit_broken(v, chain->file, chain->line,
                                 "it was changed, as line %llu shows",
                                 (unsigned long long) v->line);
        }

        chain->dead = 1;

    } else if (dead->seq
               && tfind(dead->file, &v->files, ngx_oci_audit_by_id))
    {
        ngx_oci_audit_broken(v, v->file, v->line,
                             "the chain that it ends is missing");

    } else if (dead->seq) {
        ngx_oci_audit_noted(v, v->file, v->line,
                            "the chain that it ends stands in a file that "
                            "was not given");
    }

    if (!dead->next) {
        return;
    }

    if (!next && ngx_oci_audit_begun(v, dead)) {
        ngx_oci_audit_noted(v, v->file, v->line,
                            "a worker died while it wrote a line; the line "
                            "is \"next_line\"");
    }

    /* it may have been a knot that nobody else knew of */

    found = tfind(dead->next_hash, &v->knots, ngx_oci_audit_by_hash);

    if (found) {
        knot = *(ngx_oci_audit_vknot_t **) found;
        knot->dead = 1;
    }
}


/* is there a piece that is the beginning of the line? */

static ngx_uint_t
ngx_oci_audit_begun(ngx_oci_audit_verify_t *v, ngx_oci_audit_dead_t *dead)
{
    int                      len;
    u_char                   line[NGX_OCI_AUDIT_GAP];
    ngx_oci_audit_piece_t  **piece;

    if (dead->next_line.len == 0
        || dead->next_line.len / 4 * 3 > sizeof(line))
    {
        return 0;
    }

    len = EVP_DecodeBlock(line, dead->next_line.data, dead->next_line.len);

    for (piece = &v->pieces; *piece; piece = &(*piece)->next) {
        if ((*piece)->len <= sizeof((*piece)->data)
            && (int) (*piece)->len <= len
            && ngx_memcmp((*piece)->data, line, (*piece)->len) == 0)
        {
            ngx_oci_audit_forget(v, piece);
            return 1;
        }
    }

    return 0;
}


static void
ngx_oci_audit_walk_knot(const void *node, VISIT which, int depth)
{
    static const u_char  zeros[NGX_OCI_AUDIT_HASH];

    void                    *found;
    ngx_oci_audit_vknot_t   *knot, *prev;
    ngx_oci_audit_verify_t  *v;

    if (which != postorder && which != leaf) {
        return;
    }

    v = ngx_oci_audit_walked;
    knot = *(ngx_oci_audit_vknot_t **) node;

    if (ngx_memcmp(knot->prev, zeros, NGX_OCI_AUDIT_HASH) == 0) {
        if (knot->file || knot->line > 1) {
            ngx_oci_audit_noted(v, knot->file, knot->line,
                                "it knows of nothing before it: whether "
                                "anything is missing there can't be said");
        }

        return;
    }

    found = tfind(knot->prev, &v->knots, ngx_oci_audit_by_hash);

    if (found == NULL) {
        found = tfind(knot->prev_file, &v->files, ngx_oci_audit_by_id);

        if (found) {
            ngx_oci_audit_missing(v, knot,
                                  (*(ngx_oci_audit_vfile_t **) found)->n);

        } else if (knot->file || knot->line > 1) {
            ngx_oci_audit_noted(v, knot->file, knot->line,
                                "it follows what stands in a file that was "
                                "not given");
        }

        return;
    }

    prev = *(ngx_oci_audit_vknot_t **) found;

    if (prev->link + 1 != knot->link) {
        ngx_oci_audit_broken(v, knot->file, knot->line,
                             "its link's number is wrong");
    }

    if (knot->restart || knot->dead) {
        return;
    }

    if (prev->followed
        || ngx_memcmp(prev->spine, knot->spine, NGX_OCI_AUDIT_ID) != 0)
    {
        ngx_oci_audit_broken(v, knot->file, knot->line,
                             "another line stands in its place");
    }

    prev->followed = 1;
}


/* what a knot follows is not in the file n */

static void
ngx_oci_audit_missing(ngx_oci_audit_verify_t *v, ngx_oci_audit_vknot_t *knot,
    ngx_uint_t n)
{
    /* in a file after this one it is seen there, too, as a rule */

    if (n > knot->file) {
        v->late.file = knot->file;
        v->late.line = knot->line;
        snprintf(v->late.says, sizeof(v->late.says),
                 "lines of a later file are missing: link %llu, which this "
                 "one follows", (unsigned long long) knot->link - 1);
        return;
    }

    ngx_oci_audit_broken(v, knot->file, knot->line,
                         "lines are missing: link %llu, which this one "
                         "follows", (unsigned long long) knot->link - 1);
}


void
ngx_oci_audit_knots(ngx_oci_audit_verify_t *v)
{
    ngx_oci_audit_walked = v;
    twalk(v->knots, ngx_oci_audit_walk_knot);
}
