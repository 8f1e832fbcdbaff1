
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines of an audit log: escaping, and that every change of them is found.
 */


#include "ngx_oci_audit_verify.h"
#include "tap.h"


#define T_LINES   4096
#define T_CHAINS  4
#define T_EDITS   60            /* of each kind; EDITS=n: so many */


/* a log as workers write it, line by line */

typedef struct {
    char        *text;
    size_t       len;
    ngx_uint_t   file;
    ngx_uint_t   chain;
    ngx_uint_t   vouched;       /* by a knot */
} t_line_t;


typedef struct {
    ngx_oci_audit_chain_t  chain;
    u_char                 file[NGX_OCI_AUDIT_ID];
    ngx_uint_t             nfile;
    ngx_uint_t             used;
    ngx_uint_t             opened;
} t_worker_t;


static t_line_t    t_lines[T_LINES];
static ngx_uint_t  t_n;
static t_worker_t  t_workers[T_CHAINS];
static EVP_PKEY   *t_key;
static u_char      t_key_id[NGX_OCI_AUDIT_ID];

static u_char      t_spine[NGX_OCI_AUDIT_ID];
static u_char      t_file[NGX_OCI_AUDIT_ID];
static ngx_uint_t  t_nfile;
static ngx_uint_t  t_headless = 1;
static uint64_t    t_link;
static u_char      t_link_hash[NGX_OCI_AUDIT_HASH];
static u_char      t_link_file[NGX_OCI_AUDIT_ID];

static uint64_t    t_seed = 42;
static char        t_says[NGX_OCI_AUDIT_SAYS];
static uint64_t    t_at;
static ngx_uint_t  t_at_file;


static void
ok(ngx_uint_t passed, const char *name)
{
    tap_ok(passed != 0, name);
}


static void
is(const char *got, const char *wanted, const char *name)
{
    tap_ok(strcmp(got, wanted) == 0, name);

    if (strcmp(got, wanted) != 0) {
        printf("# %s instead of %s\n", got, wanted);
    }
}


static uint32_t
t_random(uint32_t n)
{
    t_seed = t_seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (uint32_t) (t_seed >> 33) % n;
}


static const char *
t_escape(const char *src, size_t len, size_t max)
{
    static u_char        buf[4096];
    ngx_str_t            s;
    ngx_oci_audit_out_t  out;

    out.pos = buf;
    out.last = buf + sizeof(buf) - 1;
    s.data = (u_char *) src;
    s.len = len;

    ngx_oci_audit_string(&out, "a", &s, max);
    *out.pos = '\0';

    return (char *) buf;
}


static void
t_escapes(void)
{
    size_t               i;
    u_char               small[8];
    ngx_str_t            s;
    const char          *p;
    ngx_oci_audit_out_t  out;

    is(t_escape("x", 1, 10), ",\"a\":\"x\"", "plain");
    is(t_escape("", 0, 10), "", "empty");
    is(t_escape("\"\\", 2, 10), ",\"a\":\"\\\"\\\\\"", "quotes");
    is(t_escape("\0\n\r\t\x7f", 5, 40),
       ",\"a\":\"\\u0000\\u000a\\u000d\\u0009\\u007f\"", "control bytes");
    is(t_escape("\x1b]0;x\x07", 6, 40), ",\"a\":\"\\u001b]0;x\\u0007\"",
       "terminal escape");
    is(t_escape("\xe2\x80\xae" "x", 4, 40), ",\"a\":\"\\u202ex\"", "bidi");
    is(t_escape("\xc2\x9b", 2, 40), ",\"a\":\"\\u009b\"", "c1");
    is(t_escape("\xf0\x9f\x98\x80", 4, 40), ",\"a\":\"\\ud83d\\ude00\"",
       "beyond the BMP");
    is(t_escape("\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80", 10, 100),
       ",\"a\":\"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd"
       "\\ufffd\\ufffd\"", "no UTF-8");
    is(t_escape("\xe2\x80", 2, 40), ",\"a\":\"\\ufffd\\ufffd\"", "cut");
    is(t_escape("0123456789", 10, 8), ",\"a\":\"0123...\"", "bounded");
    is(t_escape("\n\n\n", 3, 11), ",\"a\":\"\\u000a...\"",
       "bounded at an escape");

    p = t_escape("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10, 30);
    ok(strlen(p) <= 30 + 8, "the bound is one of escaped bytes");

    s.data = (u_char *) "0123456789";
    s.len = 10;

    for (i = 0; i <= sizeof(small); i++) {
        out.pos = small;
        out.last = small + i;
        ngx_oci_audit_string(&out, "a", &s, 100);

        if (out.pos != small) {
            break;
        }
    }

    ok(i > sizeof(small), "nothing where there is no room");
}


static void
t_add(t_worker_t *w, const char *event, ngx_uint_t knot)
{
    u_char                *start;
    u_char                 ts[32], buf[NGX_OCI_AUDIT_GAP];
    u_char                 from[NGX_OCI_AUDIT_ID];
    ngx_str_t              node;
    ngx_uint_t             i;
    t_line_t              *line;
    ngx_oci_audit_out_t    out;
    ngx_oci_audit_knot_t   k;

    ngx_str_set(&node, "edge");
    ngx_oci_audit_time(ts, 1764500000 + t_n, 123456);

    start = buf;
    out.pos = buf;
    out.last = buf + sizeof(buf);

    ngx_memcpy(from, w->file, NGX_OCI_AUDIT_ID);

    if (strcmp(event, "start") == 0 || strcmp(event, "open") == 0) {
        ngx_memcpy(w->file, t_file, NGX_OCI_AUDIT_ID);
        w->nfile = t_nfile;
    }

    ngx_oci_audit_begin(&out, ts, &node, &w->chain, 1, event);

    if (knot) {
        ngx_memzero(&k, sizeof(k));
        ngx_memcpy(k.file, w->file, NGX_OCI_AUDIT_ID);
        ngx_memcpy(k.spine, t_spine, NGX_OCI_AUDIT_ID);
        k.link = ++t_link;
        ngx_memcpy(k.prev, t_link_hash, NGX_OCI_AUDIT_HASH);
        ngx_memcpy(k.prev_file, t_link_file, NGX_OCI_AUDIT_ID);
        if (strcmp(event, "start") == 0 || strcmp(event, "open") == 0) {
            k.header = t_headless;
            t_headless = 0;
        }

        ngx_oci_audit_knot(&out, &k);

        if (strcmp(event, "open") == 0) {
            ngx_oci_audit_id(&out, "of_file", from);
        }
    } else {
        ngx_oci_audit_text(&out, "subject", "alice");
        ngx_oci_audit_number(&out, "n", t_n);
    }

    ngx_oci_audit_end(&out, start, knot ? t_key : NULL, t_key_id);

    w->chain.seq++;
    ngx_oci_audit_hash(start, out.pos - start, w->chain.hash);

    if (knot) {
        ngx_memcpy(t_link_hash, w->chain.hash, NGX_OCI_AUDIT_HASH);
        ngx_memcpy(t_link_file, w->file, NGX_OCI_AUDIT_ID);
    }

    line = &t_lines[t_n];
    line->len = out.pos - start;
    line->text = malloc(line->len);
    ngx_memcpy(line->text, start, line->len);
    line->file = w->nfile;
    line->chain = w->chain.id[0];
    line->vouched = knot;
    t_n++;

    for (i = t_n; knot && i-- > 0; /* void */ ) {
        if (t_lines[i].chain == line->chain) {
            t_lines[i].vouched = 1;
        }
    }
}


/* three files, four workers, one of which is late to change files */

static void
t_write(ngx_uint_t lines)
{
    ngx_uint_t   i;
    t_worker_t  *w;

    ngx_oci_audit_random_id(t_spine);
    ngx_oci_audit_random_id(t_file);
    ngx_memset(t_link_file, '0', NGX_OCI_AUDIT_ID);

    for (i = 0; i < T_CHAINS; i++) {
        ngx_oci_audit_random_id(t_workers[i].chain.id);
        t_workers[i].chain.id[0] = '0' + i;
    }

    for (i = 0; i < lines; i++) {

        if (i == lines / 3 || i == 2 * lines / 3) {
            t_nfile++;
            t_headless = 1;
            ngx_oci_audit_random_id(t_file);
        }

        w = &t_workers[t_random(T_CHAINS)];

        if (w->opened && w->nfile != t_nfile && t_random(3) == 0) {
            t_add(w, "rotate", 1);
            w->opened = 0;
        }

        if (!w->opened) {
            t_add(w, w->used ? "open" : "start", 1);
            w->used = w->opened = 1;
        }

        t_add(w, "intent", 0);

        if (t_random(8) == 0) {
            t_add(w, "checkpoint", 1);
        }
    }

    for (i = 0; i < T_CHAINS; i++) {
        if (t_workers[i].opened) {
            t_add(&t_workers[i], "close", 1);
        }
    }
}


/* the files from first on: is anything broken? */

static ngx_uint_t
t_verify(t_line_t *lines, ngx_uint_t n, ngx_uint_t first, ngx_uint_t nfiles,
    ngx_uint_t closed)
{
    ngx_uint_t               i, f, broken;
    ngx_oci_audit_verify_t  *v;
    ngx_oci_audit_result_t  *result;

    v = ngx_oci_audit_verify_create(closed, NULL, NULL);

    EVP_PKEY_up_ref(t_key);
    ngx_oci_audit_verify_key(v, t_key);

    for (f = first; f < first + nfiles; f++) {
        ngx_oci_audit_verify_file(v);

        for (i = 0; i < n; i++) {
            if (lines[i].file == f && lines[i].text) {
                ngx_oci_audit_verify_line(v, (u_char *) lines[i].text,
                                          lines[i].len, 0);
            }
        }
    }

    result = ngx_oci_audit_verify_done(v);

    broken = result->broken;
    t_at = result->first.line;
    t_at_file = result->first.file;
    ngx_memcpy(t_says, result->first.says, sizeof(t_says));

    ngx_oci_audit_verify_free(v);

    return broken;
}


/* its number in its file, from 1 */

static uint64_t
t_number(ngx_uint_t n)
{
    uint64_t    number;
    ngx_uint_t  i;

    for (i = 0, number = 0; i <= n; i++) {
        number += (t_lines[i].file == t_lines[n].file);
    }

    return number;
}


/* one random edit: is it found, and where? */

static ngx_uint_t
t_edit(ngx_uint_t kind)
{
    static t_line_t  lines[T_LINES];
    static char      buf[NGX_OCI_AUDIT_GAP];

    char         ch;
    t_line_t     tmp;
    ngx_uint_t   i, j, k, n, left;

    ngx_memcpy(lines, t_lines, t_n * sizeof(t_line_t));

    n = t_n;
    i = t_random(t_n);

    switch (kind) {

    case 0:
        /* a byte; of its end, where the newline is, no line is left */

        ngx_memcpy(buf, lines[i].text, lines[i].len);
        j = t_random(lines[i].len);

        do {
            ch = t_random(256);
        } while (ch == buf[j] || ch == '\n');

        buf[j] = ch;
        lines[i].text = buf;

        /* what it says of the line before may be what is wrong */

        for (j = i; j-- > 0; /* void */ ) {
            if (lines[j].chain == lines[i].chain) {
                break;
            }
        }

        return t_verify(lines, n, 0, 3, 1)
               && ((t_at_file == lines[i].file && t_at == t_number(i))
                   || (j < i && t_at_file == lines[j].file
                       && t_at == t_number(j)));

    case 1:
        lines[i].text = NULL;
        return t_verify(lines, n, 0, 3, 1);

    case 2:
        /* two lines of one worker */

        for (j = t_random(t_n); /* void */ ; j = (j + 1) % t_n) {
            if (j != i && lines[j].chain == lines[i].chain) {
                break;
            }
        }

        tmp = lines[i];
        lines[i].text = lines[j].text;
        lines[i].len = lines[j].len;
        lines[j].text = tmp.text;
        lines[j].len = tmp.len;

        return t_verify(lines, n, 0, 3, 1);

    case 3:
    case 4:
        /*
         * the end of a file, or its beginning; without any line the first
         * and the last file would be files not given
         */

        for (j = 0, left = 0; j < t_n; j++) {
            left += (lines[j].file == lines[i].file);
        }

        for (j = 0, k = 0; j < t_n; j++) {
            if (lines[j].file != lines[i].file) {
                continue;
            }

            if ((kind == 3) ? j >= i && k > 0 : j <= i && k < left - 1) {
                lines[j].text = NULL;
            }

            k++;
        }

        return t_verify(lines, n, 0, 3, 1);

    case 5:
        /* all of a worker, or from some line on */

        if (t_random(2)) {
            i = 0;
        }

        for (j = i; j < t_n; j++) {
            if (lines[j].chain == lines[i].chain) {
                lines[j].text = NULL;
            }
        }

        return t_verify(lines, n, 0, 3, 1);

    default:
        /* a line once more, anywhere */

        j = t_random(t_n);
        ngx_memmove(&lines[j + 1], &lines[j], (t_n - j) * sizeof(t_line_t));
        lines[j] = t_lines[i];
        lines[j].file = t_lines[j].file;

        return t_verify(lines, n + 1, 0, 3, 1);
    }
}


static void
t_edits(void)
{
    char       *env;
    ngx_uint_t  i, n, kind, missed;

    static const char  *names[] = {
        "a byte is changed", "a line is dropped",
        "two lines of a worker are swapped", "a file's end is cut off",
        "a file's beginning is cut off", "a worker's lines are dropped",
        "a line is there twice"
    };

    env = getenv("EDITS");
    n = env ? strtoul(env, NULL, 10) : T_EDITS;

    for (kind = 0; kind < sizeof(names) / sizeof(names[0]); kind++) {

        for (i = 0, missed = 0; i < n; i++) {
            missed += !t_edit(kind);
        }

        ok(missed == 0, names[kind]);
    }
}


static void
t_files(void)
{
    ngx_uint_t  i;
    t_line_t   *l;

    ok(!t_verify(t_lines, t_n, 0, 3, 1), "it is as it was written");
    is(t_says, "", "nothing is said");
    ok(!t_verify(t_lines, t_n, 0, 2, 0), "the first files alone");
    ok(!t_verify(t_lines, t_n, 1, 2, 0), "the last files alone");
    ok(!t_verify(t_lines, t_n, 1, 1, 0), "the one between them alone");

    for (i = 0; i < t_n; i++) {
        l = &t_lines[i];
        l->file = (l->file == 1) ? 5 : l->file;
    }

    ok(t_verify(t_lines, t_n, 0, 3, 0), "it is missing");

    for (i = 0; i < t_n; i++) {
        l = &t_lines[i];
        l->file = (l->file == 5) ? 1 : 2 - l->file;
    }

    ok(t_verify(t_lines, t_n, 0, 3, 0), "files in the wrong order");

    for (i = 0; i < t_n; i++) {
        l = &t_lines[i];
        l->file = 2 - l->file;
    }
}


static void
t_keys(void)
{
    EVP_PKEY                *other;
    ngx_uint_t               i, broken;
    ngx_oci_audit_verify_t  *v;

    other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    v = ngx_oci_audit_verify_create(0, NULL, NULL);
    ok(ngx_oci_audit_verify_key(v, other) == NGX_OK, "another key");

    ngx_oci_audit_verify_file(v);

    for (i = 0; i < t_n && t_lines[i].file == 0; i++) {
        ngx_oci_audit_verify_line(v, (u_char *) t_lines[i].text,
                                  t_lines[i].len, 0);
    }

    broken = ngx_oci_audit_verify_done(v)->broken;
    ok(broken, "signatures of another key");

    ngx_oci_audit_verify_free(v);

    other = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    v = ngx_oci_audit_verify_create(0, NULL, NULL);
    ok(ngx_oci_audit_verify_key(v, other) == NGX_ERROR, "no Ed25519");
    EVP_PKEY_free(other);
    ngx_oci_audit_verify_free(v);
}


int
main(void)
{
    ngx_uint_t  i;

    t_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    ngx_oci_audit_key_id(t_key, t_key_id);

    t_escapes();
    t_write(200);
    t_files();
    t_edits();
    t_keys();

    for (i = 0; i < t_n; i++) {
        free(t_lines[i].text);
    }

    EVP_PKEY_free(t_key);

    return tap_done();
}
