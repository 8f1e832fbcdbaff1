
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a job consists of, as it becomes known.
 */


#include "ngx_oci_job_run.h"


static ngx_uint_t ngx_oci_job_by_tag(ngx_oci_job_piece_t *piece);
static ngx_int_t ngx_oci_job_known(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_uint_t role, off_t size);
static void ngx_oci_job_sum(uint64_t *sum, off_t size);
static void ngx_oci_job_left_out(ngx_oci_job_run_t *run,
    ngx_oci_job_found_t *found);


ngx_int_t
ngx_oci_job_piece(ngx_oci_job_run_t *run, ngx_uint_t role,
    ngx_oci_job_found_t *found)
{
    ngx_int_t            rc;
    ngx_str_t            digest;
    ngx_oci_job_name_t  *name;

    digest.data = found->digest;
    digest.len = found->len;

    name = (ngx_oci_job_name_t *) ngx_str_rbtree_lookup(&run->tree, &digest,
                                                        found->hash);
    if (name) {
        return ngx_oci_job_known(run, name->piece, role, found->size);
    }

    name = ngx_palloc(run->pool, sizeof(ngx_oci_job_name_t));
    if (name == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_oci_job_piece_push(run, role, found->kind, &digest, found->size);

    if (rc != NGX_OK) {
        return rc;
    }

    name->piece = run->pieces.nelts - 1;
    name->node.str = ((ngx_oci_job_piece_t *) run->pieces.elts)[name->piece]
                     .reference;
    name->node.node.key = found->hash;
    ngx_rbtree_insert(&run->tree, &name->node.node);

    return NGX_OK;
}


/* what a referrer names may be a part as well, which has to be there; its size
   is what those say that it is a part of */

static ngx_int_t
ngx_oci_job_known(ngx_oci_job_run_t *run, ngx_uint_t i, ngx_uint_t role,
    off_t size)
{
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;
    piece += i;

    if (role != NGX_OCI_JOB_PART || piece->role == NGX_OCI_JOB_PART) {
        return NGX_OK;
    }

    piece->role = NGX_OCI_JOB_PART;
    run->aside--;

    if (!piece->missing) {
        run->info.bytes -= piece->size;
    }

    piece->size = size;
    ngx_oci_job_sum(&run->parts, size);
    ngx_oci_job_sum(&run->info.bytes, size);

    if (!piece->done) {
        return NGX_OK;
    }

    /* once more, as what it is */

    piece->done = 0;
    piece->unchecked = 0;
    run->first = ngx_min(run->first, i);

    if (piece->missing) {
        piece->missing = 0;
        run->info.pieces++;

    } else {
        run->info.pieces_done--;
    }

    return NGX_OK;
}


/* descriptors may say anything */

static void
ngx_oci_job_sum(uint64_t *sum, off_t size)
{
    *sum = ngx_min(*sum + (uint64_t) size, (uint64_t) NGX_MAX_OFF_T_VALUE);
}


ngx_int_t
ngx_oci_job_piece_push(ngx_oci_job_run_t *run, ngx_uint_t role,
    ngx_uint_t kind, ngx_str_t *reference, off_t size)
{
    u_char               *p;
    ngx_oci_job_piece_t  *piece;

    if ((role == NGX_OCI_JOB_PART)
        ? run->pieces.nelts - run->aside >= NGX_OCI_JOB_PIECES
        : run->aside >= NGX_OCI_JOB_ASIDE)
    {
        return NGX_BUSY;
    }

    p = ngx_pstrdup(run->pool, reference);
    piece = p ? ngx_array_push(&run->pieces) : NULL;

    if (piece == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(piece, sizeof(ngx_oci_job_piece_t));

    piece->kind = kind;
    piece->role = role;
    piece->size = size;
    piece->reference.len = reference->len;
    piece->reference.data = p;

    if (role == NGX_OCI_JOB_PART) {
        ngx_oci_job_sum(&run->parts, size);

    } else {
        run->aside++;
    }

    /* that there is something by a tag, or of a list, is not known yet */

    if (role == NGX_OCI_JOB_PART || role == NGX_OCI_JOB_REFERRER) {
        run->info.pieces++;
        ngx_oci_job_sum(&run->info.bytes, size);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_job_by_tag(ngx_oci_job_piece_t *piece)
{
    return memchr(piece->reference.data, ':', piece->reference.len) == NULL;
}


ngx_int_t
ngx_oci_job_tagged(ngx_oci_job_run_t *run, ngx_uint_t i, ngx_str_t *digest)
{
    ngx_int_t             rc;
    ngx_uint_t            n, role;
    ngx_oci_digest_t      parsed;
    ngx_oci_job_piece_t  *piece;
    ngx_oci_job_found_t   found;

    piece = run->pieces.elts;
    piece += i;

    role = (piece->role == NGX_OCI_JOB_TAGGED) ? NGX_OCI_JOB_REFERRER
                                               : NGX_OCI_JOB_PART;

    if (!ngx_oci_job_by_tag(piece)
        || digest->len > NGX_OCI_DIGEST_LEN
        || ngx_oci_digest_parse(&parsed, digest->data, digest->len) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    found.kind = NGX_OCI_PIECE_MANIFEST;
    found.size = 0;
    found.len = digest->len;
    ngx_memcpy(found.digest, digest->data, digest->len);
    found.hash = ngx_crc32_short(found.digest, found.len);

    n = run->pieces.nelts;
    rc = ngx_oci_job_piece(run, role, &found);

    if (rc == NGX_OK) {
        piece = run->pieces.elts;

        /* it is being stored yet */

        if (n < run->pieces.nelts && run->fetched) {
            piece[n].due = ngx_current_msec + NGX_OCI_JOB_CHECK;
        }

        /* both are one, which a referrer's tag does not count for before it
           is done */

        if (role == NGX_OCI_JOB_PART) {
            run->info.pieces -= !piece[i].tag;
        }

        piece[i].tag = 1;
    }

    return rc;
}


ngx_int_t
ngx_oci_job_check(ngx_oci_job_run_t *run, const char **error)
{
    ngx_uint_t            i;
    ngx_msec_t            wait;
    ngx_oci_job_piece_t  *piece;

    if (!run->fetched && (run->pass || run->info.peers == 0)) {
        return NGX_OK;
    }

    run->lost += run->losing;
    run->losing = 0;
    run->fetched = 0;
    run->first = 0;

    if (run->lost == NGX_OCI_JOB_LOST) {
        *error = "what was stored does not stay: the cache is too small for "
                 "all that goes on";
        return NGX_DECLINED;
    }

    if (run->pass == NGX_OCI_JOB_PASSES) {
        *error = "manifests can't be stored here";
        return NGX_DECLINED;
    }

    /* a disk may be out of order for a while: each time it has longer */

    wait = (ngx_msec_t) NGX_OCI_JOB_CHECK << 2 * run->pass;
    wait = ngx_min(wait, NGX_OCI_JOB_LATER);
    piece = run->pieces.elts;

    for (i = 0; i < run->pieces.nelts; i++) {

        if (!ngx_oci_job_by_tag(&piece[i])
            && (piece[i].role == NGX_OCI_JOB_PART
                || piece[i].role == NGX_OCI_JOB_REFERRER)
            && !piece[i].missing)
        {
            piece[i].unchecked = 1;
            piece[i].tries = 0;
            piece[i].due = (run->pass
                            || piece[i].kind == NGX_OCI_PIECE_MANIFEST)
                           ? ngx_current_msec + wait : 0;
        }
    }

    run->pass++;

    return NGX_AGAIN;
}


ngx_int_t
ngx_oci_job_named(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_oci_job_parse_t *parse)
{
    ngx_int_t             rc;
    ngx_str_t             digest;
    ngx_uint_t            n;
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;

    /* that it has come to the disk is seen while the token is good */

    if (piece[i].role != NGX_OCI_JOB_LIST && !piece[i].hit
        && !ngx_oci_job_by_tag(&piece[i]))
    {
        piece[i].unchecked = 1;
        piece[i].due = ngx_current_msec + NGX_OCI_JOB_CHECK;
    }

    if (piece[i].role != NGX_OCI_JOB_PART) {

        /* what somebody called a signature may be anything, and there may be
           any number of them */

        return (parse->rc == NGX_OK || parse->rc == NGX_BUSY)
               ? ngx_oci_job_referred(run, i, parse)
               : (parse->rc == NGX_DECLINED) ? NGX_OK : parse->rc;
    }

    digest = piece[i].reference;

    for (n = 0; n < parse->n; n++) {

        if (parse->found[n].kind == NGX_OCI_PIECE_LEFT_OUT) {
            ngx_oci_job_left_out(run, &parse->found[n]);
            continue;
        }

        rc = ngx_oci_job_piece(run, NGX_OCI_JOB_PART, &parse->found[n]);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return (parse->rc == NGX_OK) ? ngx_oci_job_referrers(run, &digest)
                                 : parse->rc;
}


/* in the list, once; what has no room there is "..." */

static void
ngx_oci_job_left_out(ngx_oci_job_run_t *run, ngx_oci_job_found_t *found)
{
    u_char     *p, *last;
    ngx_str_t   list, platform;

    platform.data = found->digest;
    platform.len = found->len;

    list.data = (u_char *) run->left_out;
    list.len = ngx_strlen(run->left_out);

    if (ngx_oci_platforms_listed(&list, &platform)) {
        return;
    }

    p = list.data + list.len;
    last = list.data + NGX_OCI_JOB_ERROR - sizeof(",...");

    if (list.len > 3 && ngx_strncmp(p - 3, "...", 3) == 0) {
        return;
    }

    if (p + 1 + platform.len > last) {
        ngx_str_set(&platform, "...");
        last += sizeof(",...") - 1;
    }

    p = ngx_slprintf(p, last, "%s%V", list.len ? "," : "", &platform);
    *p = '\0';

    run->info.left_out.data = list.data;
    run->info.left_out.len = p - list.data;
}


/* a manifest that was on the disk once is small, and used just now */

ngx_uint_t
ngx_oci_job_kept(ngx_oci_job_piece_t *piece)
{
    ngx_oci_digest_t      digest;
    ngx_oci_main_conf_t  *omcf;
    ngx_oci_blob_info_t   info;

    if (!piece->unchecked) {
        return 0;
    }

    if (piece->kind == NGX_OCI_PIECE_MANIFEST) {
        return piece->hit;
    }

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);

    return ngx_oci_digest_parse(&digest, piece->reference.data,
                                piece->reference.len)
           == NGX_OK
           && omcf->blob_info(&digest, &info) == NGX_OK
           && info.slices && info.have == info.slices;
}


ngx_uint_t
ngx_oci_job_too_large(ngx_oci_job_run_t *run)
{
    return run->parts > ngx_oci_job_room();
}


/* caches may be more than one, and nobody knows yet which */

uint64_t
ngx_oci_job_room(void)
{
    uint64_t              room;
    ngx_uint_t            i;
    ngx_oci_main_conf_t  *omcf;
    ngx_oci_zone_info_t   zone;

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);
    room = 0;

    for (i = 0; omcf->zone_info(i, &zone) == NGX_OK; i++) {
        room = ngx_max(room, zone.room);
    }

    return room;
}


ngx_msec_t
ngx_oci_job_retry_after(ngx_str_t *value)
{
    time_t     time;
    ngx_int_t  n;

    if (value->len == 0) {
        return 0;
    }

    n = ngx_atoi(value->data, value->len);

    if (n == NGX_ERROR) {
        time = ngx_parse_http_time(value->data, value->len);
        n = (time == NGX_ERROR) ? 0 : ngx_max(time - ngx_time(), 0);
    }

    return ngx_min(n, NGX_OCI_JOB_WAIT / 1000) * 1000;
}
