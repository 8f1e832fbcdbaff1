
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a reader misses, and with whose rights it may be fetched.
 */


#include "ngx_oci_room.h"


#define NGX_OCI_WANT_YIELD        1000          /* ms for others' rights */


static ngx_int_t ngx_oci_want_register(ngx_oci_reader_t *rd, uint64_t first,
    uint64_t end);
static void ngx_oci_want_source(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_want_claim(ngx_oci_reader_t *rd);


ngx_int_t
ngx_oci_want(ngx_oci_reader_t *rd)
{
    uint64_t          first, end;
    ngx_int_t         rc;
    ngx_uint_t        i, all, missing, absent, down;
    ngx_oci_blob_t   *blob;
    ngx_oci_part_t   *part;
    ngx_oci_entry_t  *entry;

    blob = rd->blob;
    entry = blob->entry;

    if (rd->want) {
        return NGX_OK;
    }

    rc = ngx_oci_want_claim(rd);
    if (rc != NGX_OK) {
        return rc;
    }

    absent = 0;
    missing = 0;
    part = rd->ranges.parts;
    first = part[0].pos;
    end = 0;

    for (i = 0; i < rd->ranges.nparts; i++) {
        first = ngx_min(first, part[i].pos);
        end = ngx_max(end, part[i].end);

        rc = ngx_oci_index_stored(blob->cache, entry, part[i].pos,
                                  part[i].end);

        absent |= (rc == NGX_DECLINED);
        missing |= (rc != NGX_OK);
    }

    /* a slice that has to be checked first may be fetched again */

    if (missing && rd->ctx->verify_status == NGX_OCI_VERIFY_VERIFIED) {
        rd->ctx->verify_status = NGX_OCI_VERIFY_PENDING;
    }

    if (rd->ocf->verify != NGX_OCI_VERIFY_MODE_OFF && !entry->verified
        && (rd->ranges.whole
            || rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT))
    {
        missing = 1;
    }

    if (!missing) {
        return NGX_OK;
    }

    all = rd->preheat || rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT;

    if (all && (rd->preheat || !entry->verified)) {
        first = 0;
        end = blob->size;
        absent = (entry->have != entry->slices);
    }

    /* nobody begins to wait for a registry that can't be asked now */

    if (absent
        && ngx_oci_core.wait(rd->ctx->registry, &rd->ctx->repository,
                             &rd->ctx->authorization, &down))
    {
        return NGX_DECLINED;
    }

    if (absent) {
        rc = ngx_oci_room(rd, first, end);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_oci_want_register(rd, first, end);
}


/* the want, with the caller's rights to fetch it; as ngx_oci_want() */

static ngx_int_t
ngx_oci_want_register(ngx_oci_reader_t *rd, uint64_t first, uint64_t end)
{
    ngx_int_t         rc;
    ngx_oci_entry_t  *entry;

    entry = rd->blob->entry;

    ngx_oci_want_source(rd);

    rd->want = ngx_oci_index_want(rd->cache, entry, first, end,
                                  rd->preheat || rd->ocf->verify
                                  == NGX_OCI_VERIFY_MODE_STRICT);
    if (rd->want == NULL) {
        return NGX_DECLINED;
    }

    /* another's last want may have taken it along; from here on it stays, and
       is this one's */

    ngx_oci_want_source(rd);

    if (entry->source == NULL) {

        /* no room for one: a fill would have nothing to fetch with */

        return NGX_DECLINED;
    }

    rd->kicked = first;

    rc = ngx_oci_fill_kick(rd->blob, rd->ocf);

    if (rc == NGX_DECLINED) {
        return NGX_BUSY;
    }

    /* somebody else fills it: strict waits, else what there is can be sent,
       the rest then comes past the file */

    if (rc == NGX_BUSY
        && (rd->preheat || rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT
            || (ngx_oci_tail_may(rd)
                && ngx_oci_index_readable(rd->cache, entry, first, end, 0)
                   > first)))
    {
        return NGX_OK;
    }

    /* a worker that has just created the files, or looks whether they can go,
       has the lock for a moment: nobody fetches all of it past the file for
       that */

    if (rc == NGX_BUSY && !ngx_oci_fill_locked(rd->blob)) {
        ngx_oci_index_unwant(rd->cache, rd->want);
        rd->want = NULL;

        ngx_oci_reader_sleep(rd);

        return NGX_AGAIN;
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_DECLINED;
}


static void
ngx_oci_want_source(ngx_oci_reader_t *rd)
{
    if (ngx_oci_index_source(rd->cache, rd->blob->entry, rd->ctx->registry,
                             &rd->ctx->repository, &rd->ctx->authorization,
                             rd->want)
        == NGX_OK)
    {
        rd->offered = 1;
        rd->yield = 0;
    }
}


/* a fill needs somebody's rights, or better ones than it has.  Who gave his
   before lets others come first: they were refused, it seems */

void
ngx_oci_want_offer(ngx_oci_reader_t *rd)
{
    ngx_uint_t        down;
    ngx_oci_entry_t  *entry;

    entry = rd->blob->entry;

    if (entry->source) {
        rd->yield = 0;

        if (entry->ask && rd->want && !rd->want->refused
            && ngx_oci_core.wait(rd->ctx->registry, &rd->ctx->repository,
                                 &rd->ctx->authorization, &down)
               == 0)
        {
            ngx_oci_want_source(rd);
        }

        return;
    }

    if (rd->offered) {

        if (rd->yield == 0) {
            rd->yield = ngx_current_msec + NGX_OCI_WANT_YIELD;
            rd->yield += (rd->yield == 0);
            return;
        }

        if ((ngx_msec_int_t) (rd->yield - ngx_current_msec) > 0) {
            return;
        }
    }

    ngx_oci_want_source(rd);
}


/*
 * Another registry's bytes are its word until they are verified, and then for
 * who has them too.  NGX_OK; NGX_AGAIN: the registry is asked to show that;
 * NGX_DECLINED: not from here.
 */

static ngx_int_t
ngx_oci_want_claim(ngx_oci_reader_t *rd)
{
    uint32_t   origin;
    ngx_int_t  rc;

    origin = ngx_oci_index_origin(rd->ctx->registry);

    rc = ngx_oci_index_claim(rd->cache, rd->blob->entry, origin);

    if (rc == NGX_DECLINED) {
        rd->blob->foreign = !rd->blob->entry->verified;
        return rc;
    }

    if (rc != NGX_AGAIN) {
        rd->proven = (rc == NGX_OK && rd->blob->entry->origin != origin);
        return rc;
    }

    /* out of reach it can't show anything; and it is asked only once */

    if (rd->stale || rd->asked
        || ngx_oci_prove(rd->blob, rd->ctx, &rd->prove) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    rd->asked = 1;

    return NGX_AGAIN;
}
