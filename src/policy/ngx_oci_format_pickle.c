
/*
 * Copyright (C) The nginx-oci authors
 *
 * Pickles, of all protocols.  From 2 on they begin with an opcode that tells;
 * before that with any other: what does not go on as a pickle has to is none.
 * Opcodes are walked through as an unpickler does, which runs what it has got
 * so far even where the rest makes no sense.
 */


#include "ngx_oci_format_look.h"


#define NGX_OCI_PICKLE_MARKS   64
#define NGX_OCI_PICKLE_FEW     4        /* opcodes that prove nothing */
#define NGX_OCI_PICKLE_DEPTH   0x40000000   /* of the stack, never so high */


/* an opcode's argument */

typedef enum {
    NGX_OCI_PICKLE_NONE = 0,
    NGX_OCI_PICKLE_1,                   /* so many bytes */
    NGX_OCI_PICKLE_2,
    NGX_OCI_PICKLE_4,
    NGX_OCI_PICKLE_8,
    NGX_OCI_PICKLE_LEN1,                /* bytes with a length before them */
    NGX_OCI_PICKLE_LEN4,
    NGX_OCI_PICKLE_LEN8,
    NGX_OCI_PICKLE_LINE,                /* up to a line feed */
    NGX_OCI_PICKLE_NUMBER,              /* likewise, a number */
    NGX_OCI_PICKLE_QUOTED,              /* likewise, a quoted string */
    NGX_OCI_PICKLE_NAMES                /* two lines, names */
} ngx_oci_pickle_arg_e;


#define NGX_OCI_PICKLE_MARK    1        /* sets a mark */
#define NGX_OCI_PICKLE_TO_MARK 2        /* takes all down to the last one */
#define NGX_OCI_PICKLE_GLOBAL  4        /* gets something by its name */
#define NGX_OCI_PICKLE_CALL    8        /* calls it */
#define NGX_OCI_PICKLE_STOP    16


typedef struct {
    u_char        code;
    u_char        arg;                  /* ngx_oci_pickle_arg_e */
    u_char        pops;
    u_char        pushes;
    u_char        flags;
} ngx_oci_pickle_op_t;


static ngx_oci_pickle_op_t  ngx_oci_pickle_ops[] = {
    { '(', NGX_OCI_PICKLE_NONE, 0, 0, NGX_OCI_PICKLE_MARK },
    { '.', NGX_OCI_PICKLE_NONE, 1, 0, NGX_OCI_PICKLE_STOP },
    { '0', NGX_OCI_PICKLE_NONE, 1, 0, 0 },
    { '1', NGX_OCI_PICKLE_NONE, 0, 0, NGX_OCI_PICKLE_TO_MARK },
    { '2', NGX_OCI_PICKLE_NONE, 1, 2, 0 },
    { 'F', NGX_OCI_PICKLE_NUMBER, 0, 1, 0 },
    { 'I', NGX_OCI_PICKLE_NUMBER, 0, 1, 0 },
    { 'J', NGX_OCI_PICKLE_4, 0, 1, 0 },
    { 'K', NGX_OCI_PICKLE_1, 0, 1, 0 },
    { 'L', NGX_OCI_PICKLE_NUMBER, 0, 1, 0 },
    { 'M', NGX_OCI_PICKLE_2, 0, 1, 0 },
    { 'N', NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 'P', NGX_OCI_PICKLE_LINE, 0, 1, 0 },
    { 'Q', NGX_OCI_PICKLE_NONE, 1, 1, 0 },
    { 'R', NGX_OCI_PICKLE_NONE, 2, 1, NGX_OCI_PICKLE_CALL },
    { 'S', NGX_OCI_PICKLE_QUOTED, 0, 1, 0 },
    { 'T', NGX_OCI_PICKLE_LEN4, 0, 1, 0 },
    { 'U', NGX_OCI_PICKLE_LEN1, 0, 1, 0 },
    { 'V', NGX_OCI_PICKLE_LINE, 0, 1, 0 },
    { 'X', NGX_OCI_PICKLE_LEN4, 0, 1, 0 },
    { 'a', NGX_OCI_PICKLE_NONE, 2, 1, 0 },
    { 'b', NGX_OCI_PICKLE_NONE, 2, 1, NGX_OCI_PICKLE_CALL },
    { 'c', NGX_OCI_PICKLE_NAMES, 0, 1, NGX_OCI_PICKLE_GLOBAL },
    { 'd', NGX_OCI_PICKLE_NONE, 0, 1, NGX_OCI_PICKLE_TO_MARK },
    { '}', NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 'e', NGX_OCI_PICKLE_NONE, 1, 1, NGX_OCI_PICKLE_TO_MARK },
    { 'g', NGX_OCI_PICKLE_NUMBER, 0, 1, 0 },
    { 'h', NGX_OCI_PICKLE_1, 0, 1, 0 },
    { 'i', NGX_OCI_PICKLE_NAMES, 0, 1,
           NGX_OCI_PICKLE_TO_MARK|NGX_OCI_PICKLE_GLOBAL|NGX_OCI_PICKLE_CALL },
    { 'j', NGX_OCI_PICKLE_4, 0, 1, 0 },
    { 'l', NGX_OCI_PICKLE_NONE, 0, 1, NGX_OCI_PICKLE_TO_MARK },
    { ']', NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 'o', NGX_OCI_PICKLE_NONE, 0, 1,
           NGX_OCI_PICKLE_TO_MARK|NGX_OCI_PICKLE_CALL },
    { 'p', NGX_OCI_PICKLE_NUMBER, 1, 1, 0 },
    { 'q', NGX_OCI_PICKLE_1, 1, 1, 0 },
    { 'r', NGX_OCI_PICKLE_4, 1, 1, 0 },
    { 's', NGX_OCI_PICKLE_NONE, 3, 1, 0 },
    { 't', NGX_OCI_PICKLE_NONE, 0, 1, NGX_OCI_PICKLE_TO_MARK },
    { ')', NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 'u', NGX_OCI_PICKLE_NONE, 1, 1, NGX_OCI_PICKLE_TO_MARK },
    { 'G', NGX_OCI_PICKLE_8, 0, 1, 0 },
    { 'B', NGX_OCI_PICKLE_LEN4, 0, 1, 0 },
    { 'C', NGX_OCI_PICKLE_LEN1, 0, 1, 0 },
    { 0x80, NGX_OCI_PICKLE_1, 0, 0, 0 },        /* PROTO */
    { 0x81, NGX_OCI_PICKLE_NONE, 2, 1, NGX_OCI_PICKLE_CALL },
    { 0x82, NGX_OCI_PICKLE_1, 0, 1, NGX_OCI_PICKLE_GLOBAL },
    { 0x83, NGX_OCI_PICKLE_2, 0, 1, NGX_OCI_PICKLE_GLOBAL },
    { 0x84, NGX_OCI_PICKLE_4, 0, 1, NGX_OCI_PICKLE_GLOBAL },
    { 0x85, NGX_OCI_PICKLE_NONE, 1, 1, 0 },
    { 0x86, NGX_OCI_PICKLE_NONE, 2, 1, 0 },
    { 0x87, NGX_OCI_PICKLE_NONE, 3, 1, 0 },
    { 0x88, NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 0x89, NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 0x8a, NGX_OCI_PICKLE_LEN1, 0, 1, 0 },
    { 0x8b, NGX_OCI_PICKLE_LEN4, 0, 1, 0 },
    { 0x8c, NGX_OCI_PICKLE_LEN1, 0, 1, 0 },
    { 0x8d, NGX_OCI_PICKLE_LEN8, 0, 1, 0 },
    { 0x8e, NGX_OCI_PICKLE_LEN8, 0, 1, 0 },
    { 0x8f, NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 0x90, NGX_OCI_PICKLE_NONE, 1, 1, NGX_OCI_PICKLE_TO_MARK },
    { 0x91, NGX_OCI_PICKLE_NONE, 0, 1, NGX_OCI_PICKLE_TO_MARK },
    { 0x92, NGX_OCI_PICKLE_NONE, 3, 1, NGX_OCI_PICKLE_CALL },
    { 0x93, NGX_OCI_PICKLE_NONE, 2, 1, NGX_OCI_PICKLE_GLOBAL },
    { 0x94, NGX_OCI_PICKLE_NONE, 1, 1, 0 },
    { 0x95, NGX_OCI_PICKLE_8, 0, 0, 0 },        /* FRAME */
    { 0x96, NGX_OCI_PICKLE_LEN8, 0, 1, 0 },
    { 0x97, NGX_OCI_PICKLE_NONE, 0, 1, 0 },
    { 0x98, NGX_OCI_PICKLE_NONE, 1, 1, 0 },
    { 0, 0, 0, 0, 0 }
};


typedef struct {
    const u_char  *p;
    size_t         n;
    uint64_t       size;
    size_t         pos;
    ngx_uint_t     depth;               /* of the stack */
    ngx_uint_t     marks[NGX_OCI_PICKLE_MARKS];
    ngx_uint_t     nmarks;
    ngx_uint_t     more;                /* marks that have no place there */
} ngx_oci_pickle_t;


static ngx_oci_pickle_op_t *ngx_oci_pickle_op(u_char code);
static ngx_int_t ngx_oci_pickle_arg(ngx_oci_pickle_t *pk,
    ngx_oci_pickle_op_t *op);
static ngx_int_t ngx_oci_pickle_skip(ngx_oci_pickle_t *pk, uint64_t n);
static ngx_int_t ngx_oci_pickle_bytes(ngx_oci_pickle_t *pk, size_t n);
static ngx_int_t ngx_oci_pickle_line(ngx_oci_pickle_t *pk, ngx_uint_t kind);
static ngx_int_t ngx_oci_pickle_stack(ngx_oci_pickle_t *pk,
    ngx_oci_pickle_op_t *op);


ngx_uint_t
ngx_oci_format_pickle(const u_char *p, size_t n, uint64_t size)
{
    ngx_int_t             rc;
    ngx_uint_t            ops, proto, global;
    ngx_oci_pickle_t      pk;
    ngx_oci_pickle_op_t  *op;

    memset(&pk, 0, sizeof(ngx_oci_pickle_t));

    pk.p = p;
    pk.n = n;
    pk.size = size;

    proto = (n >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5);
    global = 0;

    for (ops = 0; pk.pos < n; ops++) {

        op = ngx_oci_pickle_op(p[pk.pos]);

        if (op == NULL
            || (p[pk.pos] == 0x80 && (pk.pos + 1 == n || p[pk.pos + 1] > 5)))
        {
            return 0;
        }

        pk.pos++;

        rc = ngx_oci_pickle_arg(&pk, op);

        if (rc == NGX_AGAIN) {
            return proto ? NGX_OCI_FORMAT_PICKLE : NGX_OCI_FORMAT_UNKNOWN;
        }

        if (rc != NGX_OK || ngx_oci_pickle_stack(&pk, op) != NGX_OK) {
            return 0;
        }

        global |= (op->flags & NGX_OCI_PICKLE_GLOBAL);

        if (global && (proto || (op->flags & NGX_OCI_PICKLE_CALL))) {
            return NGX_OCI_FORMAT_PICKLE;
        }

        if (op->flags & NGX_OCI_PICKLE_STOP) {

            /* "N." is one, too, but who would take a text for that */

            return (proto || ops >= NGX_OCI_PICKLE_FEW)
                   ? NGX_OCI_FORMAT_PICKLE : 0;
        }
    }

    /* it goes on, with nothing but opcodes so far; or it ends too soon */

    if (n < size) {
        return NGX_OCI_FORMAT_PICKLE;
    }

    return (proto && ops > 1) ? NGX_OCI_FORMAT_PICKLE : 0;
}


static ngx_oci_pickle_op_t *
ngx_oci_pickle_op(u_char code)
{
    ngx_oci_pickle_op_t  *op;

    for (op = ngx_oci_pickle_ops; op->code; op++) {
        if (op->code == code) {
            return op;
        }
    }

    return NULL;
}


/* NGX_OK; NGX_DECLINED: it is none; NGX_AGAIN: it goes beyond what is there */

static ngx_int_t
ngx_oci_pickle_arg(ngx_oci_pickle_t *pk, ngx_oci_pickle_op_t *op)
{
    size_t         i, n;
    uint64_t       len;
    ngx_int_t      rc;
    const u_char  *p;

    n = 0;

    switch (op->arg) {

    case NGX_OCI_PICKLE_NONE:
        return NGX_OK;

    case NGX_OCI_PICKLE_1:
    case NGX_OCI_PICKLE_LEN1:
        n = 1;
        break;

    case NGX_OCI_PICKLE_2:
        n = 2;
        break;

    case NGX_OCI_PICKLE_4:
    case NGX_OCI_PICKLE_LEN4:
        n = 4;
        break;

    case NGX_OCI_PICKLE_8:
    case NGX_OCI_PICKLE_LEN8:
        n = 8;
        break;

    case NGX_OCI_PICKLE_NAMES:
        rc = ngx_oci_pickle_line(pk, NGX_OCI_PICKLE_NAMES);

        if (rc != NGX_OK) {
            return rc;
        }

        /* fall through */

    default:
        return ngx_oci_pickle_line(pk, op->arg);
    }

    p = pk->p + pk->pos;
    rc = ngx_oci_pickle_bytes(pk, n);

    if (rc != NGX_OK) {
        return rc;
    }

    len = 0;

    for (i = n; i; i--) {
        len = len << 8 | p[i - 1];
    }

    if (op->code == 0x95) {

        /* a frame has to be there as a whole */

        return (len > pk->size - pk->pos) ? NGX_DECLINED : NGX_OK;
    }

    if (op->arg == NGX_OCI_PICKLE_LEN1 || op->arg == NGX_OCI_PICKLE_LEN4
        || op->arg == NGX_OCI_PICKLE_LEN8)
    {
        return ngx_oci_pickle_skip(pk, len);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_pickle_skip(ngx_oci_pickle_t *pk, uint64_t n)
{
    if (n > pk->size - pk->pos) {
        return NGX_DECLINED;
    }

    return ngx_oci_pickle_bytes(pk, (size_t) n);
}


static ngx_int_t
ngx_oci_pickle_bytes(ngx_oci_pickle_t *pk, size_t n)
{
    if (n > pk->n - pk->pos) {
        return (pk->n < pk->size) ? NGX_AGAIN : NGX_DECLINED;
    }

    pk->pos += n;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_pickle_line(ngx_oci_pickle_t *pk, ngx_uint_t kind)
{
    size_t         i, len;
    const u_char  *p, *end;

    p = pk->p + pk->pos;
    end = memchr(p, '\n', pk->n - pk->pos);
    len = end ? (size_t) (end - p) : pk->n - pk->pos;

    switch (kind) {

    case NGX_OCI_PICKLE_NUMBER:
        for (i = 0; i < len; i++) {
            if (strchr("0123456789abcdefABCDEFxXLlinftyINTY+-._ \t\r", p[i])
                == NULL || p[i] == '\0')
            {
                return NGX_DECLINED;
            }
        }

        if (len == 0) {
            return NGX_DECLINED;
        }

        break;

    case NGX_OCI_PICKLE_QUOTED:
        if (len && p[0] != '\'' && p[0] != '"') {
            return NGX_DECLINED;
        }

        break;

    case NGX_OCI_PICKLE_NAMES:
        for (i = 0; i < len; i++) {
            if ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z')
                || (p[i] >= '0' && p[i] <= '9')
                || p[i] == '_' || p[i] == '.' || p[i] >= 0x80)
            {
                continue;
            }

            return NGX_DECLINED;
        }

        break;
    }

    if (end == NULL) {
        return (pk->n < pk->size) ? NGX_AGAIN : NGX_DECLINED;
    }

    pk->pos += len + 1;

    return NGX_OK;
}


/* NGX_OK; NGX_DECLINED: what it takes isn't there */

static ngx_int_t
ngx_oci_pickle_stack(ngx_oci_pickle_t *pk, ngx_oci_pickle_op_t *op)
{
    if (op->flags & NGX_OCI_PICKLE_MARK) {

        if (pk->nmarks < NGX_OCI_PICKLE_MARKS) {
            pk->marks[pk->nmarks++] = pk->depth;

        } else {
            pk->more++;
        }

        return NGX_OK;
    }

    if (op->code == '0' && (pk->more || (pk->nmarks
                                         && pk->marks[pk->nmarks - 1]
                                            == pk->depth)))
    {
        /* it takes a mark away, if that is on top; how deep the stack is
           under those without a place is not known, and need not be */

        pk->nmarks -= (pk->more == 0);
        pk->more -= (pk->more > 0);

        return NGX_OK;
    }

    if (op->flags & NGX_OCI_PICKLE_TO_MARK) {

        if (pk->more) {
            pk->more--;

        } else if (pk->nmarks) {
            pk->depth = pk->marks[--pk->nmarks];

        } else {
            return NGX_DECLINED;
        }
    }

    if (pk->depth < op->pops || pk->depth > NGX_OCI_PICKLE_DEPTH) {
        return NGX_DECLINED;
    }

    pk->depth += op->pushes;
    pk->depth -= op->pops;

    return NGX_OK;
}
