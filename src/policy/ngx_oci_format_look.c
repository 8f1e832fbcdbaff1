
/*
 * Copyright (C) The nginx-oci authors
 *
 * A look at a blob: at its beginning and its end, and, in a tar, at those of
 * the files in it.
 */


#include "ngx_oci_format_look.h"
#include "ngx_oci_rules_manifest.h"

#include <strings.h>


#define ngx_oci_look_le2(p)  ((uint32_t) (p)[0] | (uint32_t) (p)[1] << 8)
#define ngx_oci_look_le4(p)                                                   \
    (ngx_oci_look_le2(p) | ngx_oci_look_le2((p) + 2) << 16)
#define ngx_oci_look_le8(p)                                                   \
    ((uint64_t) ngx_oci_look_le4(p) | (uint64_t) ngx_oci_look_le4((p) + 4)    \
                                      << 32)

#define NGX_OCI_LOOK_END       22       /* bytes of a zip's last record */
#define NGX_OCI_LOOK_END64     56
#define NGX_OCI_LOOK_LOCATOR   20
#define NGX_OCI_LOOK_LOCAL     30       /* of a file's header in it */
#define NGX_OCI_LOOK_ENTRY     46       /* of an entry of its directory */


static void ngx_oci_look_file(ngx_oci_look_t *look, uint64_t base,
    uint64_t file);
static ngx_int_t ngx_oci_look_head(ngx_oci_look_t *look, const u_char *p);
static void ngx_oci_look_tail(ngx_oci_look_t *look, const u_char *p,
    size_t n);
static void ngx_oci_look_end(ngx_oci_look_t *look, const u_char *p,
    uint64_t pos, size_t before);
static void ngx_oci_look_place(ngx_oci_look_t *look, uint64_t place);
static ngx_int_t ngx_oci_look_zips(ngx_oci_look_t *look);
static void ngx_oci_look_directory(ngx_oci_look_t *look, const u_char *p,
    size_t n);
static ngx_uint_t ngx_oci_look_entry(const u_char *name, size_t len);
static ngx_int_t ngx_oci_look_next(ngx_oci_look_t *look);
static ngx_int_t ngx_oci_look_member(ngx_oci_look_t *look, const u_char *p,
    size_t n);
static ngx_int_t ngx_oci_look_pax(ngx_oci_look_t *look, const u_char *p,
    size_t n);
static ngx_int_t ngx_oci_look_number(const u_char *p, size_t n,
    uint64_t *number);


void
ngx_oci_look_init(ngx_oci_look_t *look, uint64_t size)
{
    memset(look, 0, sizeof(ngx_oci_look_t));

    look->size = size;
    look->pax = (uint64_t) -1;

    ngx_oci_look_file(look, 0, size);
}


ngx_int_t
ngx_oci_look(ngx_oci_look_t *look, const u_char *p)
{
    size_t  n;

    n = (size_t) (look->end - look->start);

    switch (look->at) {

    case NGX_OCI_LOOK_AT_HEAD:
        return ngx_oci_look_head(look, p);

    case NGX_OCI_LOOK_AT_TAIL:
        ngx_oci_look_tail(look, p, n);
        return ngx_oci_look_zips(look);

    case NGX_OCI_LOOK_AT_ZIP:
        ngx_oci_look_directory(look, p, n);
        return ngx_oci_look_zips(look);

    case NGX_OCI_LOOK_AT_MEMBER:
        return ngx_oci_look_member(look, p, n);

    default:
        return ngx_oci_look_pax(look, p, n);
    }
}


static void
ngx_oci_look_file(ngx_oci_look_t *look, uint64_t base, uint64_t file)
{
    look->base = base;
    look->file = file;
    look->nzips = 0;
    look->zip = 0;
    look->zipped = 0;

    look->at = NGX_OCI_LOOK_AT_HEAD;
    look->start = base;
    look->end = base + ngx_min(file, NGX_OCI_LOOK_HEAD);
}


static ngx_int_t
ngx_oci_look_head(ngx_oci_look_t *look, const u_char *p)
{
    size_t      n, len;
    ngx_uint_t  zip, tar;

    n = (size_t) (look->end - look->start);

    look->own |= ngx_oci_format_head(p, n, look->file, &zip, &tar);

    if (zip) {

        /* the directory tells what is in it; who reads it as a stream sees
           this name first */

        look->zipped = 1;
        len = (n >= NGX_OCI_LOOK_LOCAL) ? ngx_oci_look_le2(p + 26) : 0;

        if (len && len <= n - NGX_OCI_LOOK_LOCAL) {
            look->own |= ngx_oci_look_entry(p + NGX_OCI_LOOK_LOCAL, len)
                          & ~NGX_OCI_FORMAT_ZIP;
        }
    }

    if (tar) {

        if (look->tar) {
            look->own |= NGX_OCI_FORMAT_UNKNOWN;

        } else {
            look->tar = 1;
            look->next = 0;
        }
    }

    if (look->file <= NGX_OCI_LOOK_HEAD) {
        ngx_oci_look_tail(look, p, n);
        return ngx_oci_look_zips(look);
    }

    look->at = NGX_OCI_LOOK_AT_TAIL;
    look->start = look->base + look->file
                  - ngx_min(look->file, NGX_OCI_LOOK_TAIL);
    look->end = look->base + look->file;

    return NGX_AGAIN;
}


/* where may a zip's directory be?  Whatever stands before the zip, or, within
   bounds, behind it */

static void
ngx_oci_look_tail(ngx_oci_look_t *look, const u_char *p, size_t n)
{
    size_t    i;
    uint64_t  pos;

    if (n < NGX_OCI_LOOK_END) {
        return;
    }

    pos = look->file - n;

    for (i = n - NGX_OCI_LOOK_END + 1; i; i--) {

        if (p[i - 1] == 'P' && memcmp(p + i - 1, "PK\005\006", 4) == 0) {
            ngx_oci_look_end(look, p + i - 1, pos + i - 1, i - 1);
        }
    }
}


/* p: a zip's last record, at pos of the file; so many bytes before it are
   there */

static void
ngx_oci_look_end(ngx_oci_look_t *look, const u_char *p, uint64_t pos,
    size_t before)
{
    uint32_t       total;
    uint64_t       size, offset;
    const u_char  *q;

    total = ngx_oci_look_le2(p + 10);
    size = ngx_oci_look_le4(p + 12);
    offset = ngx_oci_look_le4(p + 16);

    /* from its end, as most do, or from the beginning of the file */

    if (total && size && size <= pos) {
        ngx_oci_look_place(look, pos - size);
    }

    if (total && offset < pos) {
        ngx_oci_look_place(look, offset);
    }

    if (before < NGX_OCI_LOOK_LOCATOR) {
        return;
    }

    q = p - NGX_OCI_LOOK_LOCATOR;

    if (memcmp(q, "PK\006\007", 4) != 0) {
        return;
    }

    if (before < NGX_OCI_LOOK_LOCATOR + NGX_OCI_LOOK_END64) {
        look->own |= NGX_OCI_FORMAT_UNKNOWN;
        return;
    }

    q -= NGX_OCI_LOOK_END64;
    pos -= NGX_OCI_LOOK_LOCATOR + NGX_OCI_LOOK_END64;

    if (memcmp(q, "PK\006\006", 4) != 0) {

        /* it is elsewhere, or it is longer */

        look->own |= NGX_OCI_FORMAT_UNKNOWN;
        return;
    }

    size = ngx_oci_look_le8(q + 40);
    offset = ngx_oci_look_le8(q + 48);

    if (size && size <= pos) {
        ngx_oci_look_place(look, pos - size);
    }

    if (offset < pos) {
        ngx_oci_look_place(look, offset);
    }
}


static void
ngx_oci_look_place(ngx_oci_look_t *look, uint64_t place)
{
    ngx_uint_t  i;

    for (i = 0; i < look->nzips; i++) {
        if (look->zips[i] == place) {
            return;
        }
    }

    if (look->nzips == NGX_OCI_LOOK_ZIPS) {
        look->own |= NGX_OCI_FORMAT_UNKNOWN;
        return;
    }

    look->zips[look->nzips++] = place;
}


/* the next place where a directory may be, then the next file */

static ngx_int_t
ngx_oci_look_zips(ngx_oci_look_t *look)
{
    uint64_t  place;

    if (look->zip < look->nzips) {

        place = look->zips[look->zip++];

        look->at = NGX_OCI_LOOK_AT_ZIP;
        look->start = look->base + place;
        look->end = look->start + ngx_min(look->file - place,
                                          NGX_OCI_LOOK_DIRECTORY);
        return NGX_AGAIN;
    }

    if (look->zipped) {
        look->own |= NGX_OCI_FORMAT_ZIP|NGX_OCI_FORMAT_UNKNOWN;
    }

    return ngx_oci_look_next(look);
}


static void
ngx_oci_look_directory(ngx_oci_look_t *look, const u_char *p, size_t n)
{
    size_t      i, len, skip;
    ngx_uint_t  bits, cut, entries;

    bits = 0;
    cut = 0;
    entries = 0;

    for (i = 0; i + NGX_OCI_LOOK_ENTRY <= n; i += skip) {

        if (memcmp(p + i, "PK\001\002", 4) != 0) {
            break;
        }

        len = ngx_oci_look_le2(p + i + 28);
        skip = NGX_OCI_LOOK_ENTRY + len + ngx_oci_look_le2(p + i + 30)
               + ngx_oci_look_le2(p + i + 32);

        entries++;

        if (len > n - i - NGX_OCI_LOOK_ENTRY) {
            bits |= NGX_OCI_FORMAT_ZIP;
            cut = 1;
            break;
        }

        bits |= ngx_oci_look_entry(p + i + NGX_OCI_LOOK_ENTRY, len);
    }

    if (entries == 0) {

        /* those bytes were there by chance */

        return;
    }

    look->zipped = 0;

    /* it goes on: there may be anything among the others */

    if (cut || (n == NGX_OCI_LOOK_DIRECTORY && i + NGX_OCI_LOOK_ENTRY > n)) {
        look->own |= NGX_OCI_FORMAT_UNKNOWN;
    }

    /* what is known by its names is that, and not just some zip */

    if (bits & ~NGX_OCI_FORMAT_ZIP) {
        bits &= ~NGX_OCI_FORMAT_ZIP;
    }

    look->own |= bits;
}


/* what a name within a zip says of that */

static ngx_uint_t
ngx_oci_look_entry(const u_char *name, size_t len)
{
    char         text[64];
    size_t       n;
    ngx_uint_t   bits, weight;

    /* its end is enough */

    n = ngx_min(len, sizeof(text) - 1);
    memcpy(text, name + len - n, n);
    text[n] = '\0';

    if (n >= 11 && strcasecmp(text + n - 11, "__main__.py") == 0) {
        return NGX_OCI_FORMAT_EXECUTABLE;
    }

    if (n >= 16 && strcasecmp(text + n - 16, "model.weights.h5") == 0) {
        return NGX_OCI_FORMAT_KERAS;
    }

    weight = 0;
    bits = ngx_oci_format_of_name(text, &weight);

    if (bits == NGX_OCI_FORMAT_NPY) {
        return NGX_OCI_FORMAT_NPZ;
    }

    return (bits & NGX_OCI_FORMAT_UNSAFE) ? bits : NGX_OCI_FORMAT_ZIP;
}


static ngx_int_t
ngx_oci_look_next(ngx_oci_look_t *look)
{
    if (look->own == 0 && look->weight) {
        look->own = NGX_OCI_FORMAT_UNKNOWN;
    }

    look->bits |= look->own;
    look->own = 0;
    look->weight = 0;

    if (!look->tar) {
        return NGX_OK;
    }

    /* (tars end with blocks of zeros, some without) */

    if (look->size - look->next < NGX_OCI_LOOK_BLOCK) {
        return NGX_OK;
    }

    if (look->members++ == NGX_OCI_LOOK_MEMBERS) {
        look->bits |= NGX_OCI_FORMAT_UNKNOWN;
        return NGX_OK;
    }

    look->at = NGX_OCI_LOOK_AT_MEMBER;
    look->start = look->next;
    look->end = look->start + NGX_OCI_LOOK_BLOCK;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_oci_look_member(ngx_oci_look_t *look, const u_char *p, size_t n)
{
    char         name[101];
    size_t       i;
    uint64_t     size, base;

    for (i = 0; i < n && p[i] == 0; i++) { /* void */ }

    if (i == n) {
        return NGX_OK;
    }

    if (!ngx_oci_format_tar(p, n)
        || ngx_oci_look_number(p + 124, 12, &size) != NGX_OK)
    {
        look->bits |= NGX_OCI_FORMAT_UNKNOWN;
        return NGX_OK;
    }

    if (look->pax != (uint64_t) -1 && p[156] != 'x' && p[156] != 'g'
        && p[156] != 'L' && p[156] != 'K')
    {
        size = look->pax;
        look->pax = (uint64_t) -1;
    }

    base = look->next + NGX_OCI_LOOK_BLOCK;

    if (size > look->size - base) {
        look->bits |= NGX_OCI_FORMAT_UNKNOWN;
        return NGX_OK;
    }

    look->next = base + size;
    look->next += (NGX_OCI_LOOK_BLOCK - size % NGX_OCI_LOOK_BLOCK)
                  % NGX_OCI_LOOK_BLOCK;
    look->next = ngx_min(look->next, look->size);

    switch (p[156]) {

    case '\0':
    case '0':
    case '7':
        memcpy(name, p, 100);
        name[100] = '\0';
        look->bits |= ngx_oci_format_of_name(name, &look->weight);

        if (size == 0) {
            look->weight = 0;
            return ngx_oci_look_next(look);
        }

        ngx_oci_look_file(look, base, size);
        return NGX_AGAIN;

    case 'x':
    case 'g':
        if (size == 0) {
            return ngx_oci_look_next(look);
        }

        if (size > NGX_OCI_LOOK_PAX) {
            look->bits |= NGX_OCI_FORMAT_UNKNOWN;
            return NGX_OK;
        }

        look->at = NGX_OCI_LOOK_AT_PAX;
        look->start = base;
        look->end = base + size;
        return NGX_AGAIN;

    case 'L':
    case 'K':
    case '1':
    case '2':
    case '5':

        /* names, links, directories; who gives a link a size does not say
           whether it counts */

        if (size && p[156] != 'L' && p[156] != 'K') {
            look->bits |= NGX_OCI_FORMAT_UNKNOWN;
            return NGX_OK;
        }

        return ngx_oci_look_next(look);
    }

    look->bits |= NGX_OCI_FORMAT_UNKNOWN;

    return NGX_OK;
}


/* "length key=value\n": the next file may have its size here */

static ngx_int_t
ngx_oci_look_pax(ngx_oci_look_t *look, const u_char *p, size_t n)
{
    size_t         i, len, begin;
    uint64_t       size;
    const u_char  *line;

    for (begin = 0; begin < n; begin += len) {

        line = p + begin;
        len = 0;

        for (i = 0; begin + i < n && i < 8 && line[i] >= '0' && line[i] <= '9';
             i++)
        {
            len = len * 10 + (line[i] - '0');
        }

        if (i == 0 || begin + i == n || line[i] != ' ' || len <= i + 2
            || len > n - begin || line[len - 1] != '\n')
        {
            look->bits |= NGX_OCI_FORMAT_UNKNOWN;
            return NGX_OK;
        }

        i++;

        if (len - i >= 4 && memcmp(line + i, "GNU.sparse",
                                   ngx_min(len - i, 10))
                            == 0)
        {
            look->bits |= NGX_OCI_FORMAT_UNKNOWN;
            return NGX_OK;
        }

        if (len - i < 7 || memcmp(line + i, "size=", 5) != 0) {
            continue;
        }

        size = 0;

        for (i += 5; i < len - 1; i++) {

            if (line[i] < '0' || line[i] > '9' || size > look->size) {
                look->bits |= NGX_OCI_FORMAT_UNKNOWN;
                return NGX_OK;
            }

            size = size * 10 + (line[i] - '0');
        }

        look->pax = size;
    }

    return ngx_oci_look_next(look);
}


/* octal digits, or, as GNU has it, a binary number of the highest bit set */

static ngx_int_t
ngx_oci_look_number(const u_char *p, size_t n, uint64_t *number)
{
    size_t  i;

    *number = 0;

    if (p[0] == 0x80) {

        for (i = 1; i < n; i++) {

            if (*number >> 55) {
                return NGX_ERROR;
            }

            *number = *number << 8 | p[i];
        }

        return NGX_OK;
    }

    for (i = 0; i < n && p[i] == ' '; i++) { /* void */ }

    for ( /* void */ ; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        *number = *number << 3 | (p[i] - '0');
    }

    for ( /* void */ ; i < n; i++) {
        if (p[i] != ' ' && p[i] != '\0') {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
