
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "tap.h"


#define T_MAX      4                /* ranges */
#define T_HUGE     "9223372036854775807"
#define T_ALMOST   "9223372036854775806"
#define T_OVER     "99999999999999999999999999"

#define T_10(s)    s s s s s s s s s s
#define T_HOST250  T_10("abcdefghijklmnopqrstuvwx.")


typedef struct {
    const char  *value;
    off_t        size;
    ngx_int_t    rc;
    off_t        ranges[2 * T_MAX];
} t_range_t;


typedef struct {
    const char  *value;
    ngx_int_t    rc;
    off_t        start;
    off_t        end;
    off_t        total;
} t_content_range_t;


typedef struct {
    const char  *value;
    ngx_int_t    rc;
    const char  *scheme;
    const char  *realm;
    const char  *service;
    const char  *scope;
    const char  *error;
} t_challenge_t;


typedef struct {
    const char  *value;
    const char  *target;            /* NULL: refused */
} t_link_t;


typedef struct {
    const char  *value;
    ngx_uint_t   page;
} t_page_t;


typedef struct {
    const char  *value;
    const char  *scheme;            /* NULL: refused; "": a path */
    const char  *host;
    in_port_t    port;
    const char  *uri;
} t_url_t;


static t_range_t  t_ranges[] = {

    /* one range */
    { "bytes=0-0", 1000, 1, { 0, 1 } },
    { "bytes=0-499", 1000, 1, { 0, 500 } },
    { "bytes=500-999", 1000, 1, { 500, 1000 } },
    { "bytes=999-999", 1000, 1, { 999, 1000 } },
    { "Bytes=1-2", 1000, 1, { 1, 3 } },
    { "BYTES=1-2", 1000, 1, { 1, 3 } },
    { "bytes=0000-0009", 1000, 1, { 0, 10 } },

    /* open ends */
    { "bytes=0-", 1000, 1, { 0, 1000 } },
    { "bytes=999-", 1000, 1, { 999, 1000 } },
    { "bytes=1000-", 1000, NGX_DECLINED, { 0 } },

    /* suffixes */
    { "bytes=-1", 1000, 1, { 999, 1000 } },
    { "bytes=-1000", 1000, 1, { 0, 1000 } },
    { "bytes=-1001", 1000, 1, { 0, 1000 } },
    { "bytes=-" T_OVER, 1000, 1, { 0, 1000 } },
    { "bytes=-0", 1000, NGX_DECLINED, { 0 } },

    /* clamped ends */
    { "bytes=990-1000", 1000, 1, { 990, 1000 } },
    { "bytes=990-" T_ALMOST, 1000, 1, { 990, 1000 } },
    { "bytes=990-" T_HUGE, 1000, 1, { 990, 1000 } },
    { "bytes=990-" T_OVER, 1000, 1, { 990, 1000 } },
    { "bytes=990-9223372036854775808", 1000, 1, { 990, 1000 } },
    { "bytes=0-18446744073709551616", 1000, 1, { 0, 1000 } },

    /* none satisfiable */
    { "bytes=1000-1000", 1000, NGX_DECLINED, { 0 } },
    { "bytes=" T_HUGE "-", 1000, NGX_DECLINED, { 0 } },
    { "bytes=" T_OVER "-", 1000, NGX_DECLINED, { 0 } },
    { "bytes=" T_OVER "-" T_OVER, 1000, NGX_DECLINED, { 0 } },
    { "bytes=18446744073709551616-", 1000, NGX_DECLINED, { 0 } },
    { "bytes=5-2", 1000, NGX_DECLINED, { 0 } },
    { "bytes=500-0", 2048, NGX_DECLINED, { 0 } },
    { "bytes=5000-2", 1000, NGX_DECLINED, { 0 } },
    { "bytes=2000-3000,-0,7-6", 1000, NGX_DECLINED, { 0 } },

    /* nothing to ask for */
    { "bytes=0-0", 0, NGX_DECLINED, { 0 } },
    { "bytes=0-", 0, NGX_DECLINED, { 0 } },
    { "bytes=-1", 0, NGX_DECLINED, { 0 } },
    { "bytes=-0", 0, NGX_DECLINED, { 0 } },
    { "bytes=x", 0, 0, { 0 } },

    /* several: the order and overlaps of the request are kept */
    { "bytes=0-1,4-5", 1000, 2, { 0, 2, 4, 6 } },
    { "bytes=4-5,0-1", 1000, 2, { 4, 6, 0, 2 } },
    { "bytes=0-9,5-7,0-9", 1000, 3, { 0, 10, 5, 8, 0, 10 } },
    { "bytes=0-,-1", 1000, 2, { 0, 1000, 999, 1000 } },
    { "bytes=-1,0-", 1000, 2, { 999, 1000, 0, 1000 } },
    { "bytes=5-2,7-8", 1000, 1, { 7, 9 } },
    { "bytes=0-0,1000-,2-2", 1000, 2, { 0, 1, 2, 3 } },
    { "bytes=0-0,1-1,2-2,3-3", 1000, 4, { 0, 1, 1, 2, 2, 3, 3, 4 } },

    /* too many, satisfiable or not */
    { "bytes=0-0,1-1,2-2,3-3,4-4", 1000, NGX_ERROR, { 0 } },
    { "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6", 1000, NGX_ERROR, { 0 } },
    { "bytes=0-0,1-1,2-2,3-3,1000-", 1000, NGX_ERROR, { 0 } },
    { "bytes=1000-,1000-,1000-,1000-,0-0", 1000, NGX_ERROR, { 0 } },
    { "bytes=0-0,1-1,2-2,3-3,4-4,x", 1000, 0, { 0 } },

    /* white space */
    { "bytes= 0-1", 1000, 1, { 0, 2 } },
    { "bytes=0-1 ,\t4-5 ", 1000, 2, { 0, 2, 4, 6 } },
    { "bytes=\t -5 , 0-", 1000, 2, { 995, 1000, 0, 1000 } },
    { "bytes=0 -1", 1000, 0, { 0 } },
    { "bytes=0- 1", 1000, 0, { 0 } },
    { "bytes=- 1", 1000, 0, { 0 } },
    { "bytes=0-1 4-5", 1000, 0, { 0 } },
    { "bytes =0-1", 1000, 0, { 0 } },
    { " bytes=0-1", 1000, 0, { 0 } },
    { "bytes=0-1\n", 1000, 0, { 0 } },

    /* empty members */
    { "bytes=0-1,", 1000, 0, { 0 } },
    { "bytes=,0-1", 1000, 0, { 0 } },
    { "bytes=0-1,,4-5", 1000, 0, { 0 } },
    { "bytes=0-1, ,4-5", 1000, 0, { 0 } },
    { "bytes=,", 1000, 0, { 0 } },

    /* malformed, other units */
    { "", 1000, 0, { 0 } },
    { "bytes", 1000, 0, { 0 } },
    { "bytes=", 1000, 0, { 0 } },
    { "bytes= ", 1000, 0, { 0 } },
    { "bytes=-", 1000, 0, { 0 } },
    { "bytes=--1", 1000, 0, { 0 } },
    { "bytes=0", 1000, 0, { 0 } },
    { "bytes=0--1", 1000, 0, { 0 } },
    { "bytes=0-1-2", 1000, 0, { 0 } },
    { "bytes=+0-1", 1000, 0, { 0 } },
    { "bytes=0x0-1", 1000, 0, { 0 } },
    { "bytes=0-1x", 1000, 0, { 0 } },
    { "bytes=0-1;2-3", 1000, 0, { 0 } },
    { "bytes=0-1,x", 1000, 0, { 0 } },
    { "bytes:0-1", 1000, 0, { 0 } },
    { "byte=0-1", 1000, 0, { 0 } },
    { "octets=0-1", 1000, 0, { 0 } },
    { "bytez=0-1", 1000, 0, { 0 } },
    { "zytes=0-1", 1000, 0, { 0 } },
    { "bxtes=0-1", 1000, 0, { 0 } },
    { "byxes=0-1", 1000, 0, { 0 } },
    { "bytxs=0-1", 1000, 0, { 0 } },
    { "seconds=0-1", 1000, 0, { 0 } },

    /* beyond 32 bits */
    { "bytes=4294967296-4294967297", 1LL << 40, 1,
      { 4294967296LL, 4294967298LL } },
    { "bytes=-1", 1LL << 60, 1, { (1LL << 60) - 1, 1LL << 60 } }
};


static t_content_range_t  t_content_ranges[] = {
    { "bytes 0-0/1", NGX_OK, 0, 1, 1 },
    { "bytes 0-499/1000", NGX_OK, 0, 500, 1000 },
    { "bytes 500-999/1000", NGX_OK, 500, 1000, 1000 },
    { "bytes 0-0/*", NGX_OK, 0, 1, -1 },
    { "bytes 7-9/*", NGX_OK, 7, 10, -1 },
    { "bytes */1000", NGX_OK, -1, -1, 1000 },
    { "bytes */0", NGX_OK, -1, -1, 0 },
    { "Bytes 0-0/1", NGX_OK, 0, 1, 1 },
    { "BYTES */1000", NGX_OK, -1, -1, 1000 },
    { "bytes 0-" T_ALMOST "/*", NGX_OK, 0, 0x7fffffffffffffffLL, -1 },
    { "bytes 0-9/" T_ALMOST, NGX_OK, 0, 10, 0x7ffffffffffffffeLL },

    { "", NGX_ERROR, 0, 0, 0 },
    { "bytes", NGX_ERROR, 0, 0, 0 },
    { "bytes ", NGX_ERROR, 0, 0, 0 },
    { "bytes */", NGX_ERROR, 0, 0, 0 },
    { "bytes */*", NGX_ERROR, 0, 0, 0 },
    { "bytes **/1", NGX_ERROR, 0, 0, 0 },
    { "bytes */x", NGX_ERROR, 0, 0, 0 },
    { "bytes */-1", NGX_ERROR, 0, 0, 0 },
    { "bytes */1x", NGX_ERROR, 0, 0, 0 },
    { "bytes */" T_HUGE, NGX_ERROR, 0, 0, 0 },
    { "bytes */" T_OVER, NGX_ERROR, 0, 0, 0 },
    { "bytes ***", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/0", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/**", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/*1", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/1 ", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/1x", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-0/x", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-10/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 5-4/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-500", NGX_ERROR, 0, 0, 0 },
    { "bytes 0123456", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-", NGX_ERROR, 0, 0, 0 },
    { "bytes 000-", NGX_ERROR, 0, 0, 0 },
    { "bytes -0/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 0/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-9,/10", NGX_ERROR, 0, 0, 0 },
    { "bytes x-9/10", NGX_ERROR, 0, 0, 0 },
    { "bytes  0-9/10", NGX_ERROR, 0, 0, 0 },
    { "bytes=0-9/10", NGX_ERROR, 0, 0, 0 },
    { "bytes:0-9/10", NGX_ERROR, 0, 0, 0 },
    { "octet 0-9/10", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-" T_HUGE "/*", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-" T_OVER "/*", NGX_ERROR, 0, 0, 0 },
    { "bytes 0-" T_OVER "/" T_OVER, NGX_ERROR, 0, 0, 0 },
    { "bytes 0-9/" T_HUGE, NGX_ERROR, 0, 0, 0 },
    { "bytes 0-9/" T_OVER, NGX_ERROR, 0, 0, 0 },
    { "bytes " T_OVER "-" T_OVER "/*", NGX_ERROR, 0, 0, 0 }
};


static t_challenge_t  t_challenges[] = {
    { "Bearer realm=\"https://a/t\",service=\"s\",scope=\"x:y:pull,push\"",
      NGX_OK, "Bearer", "https://a/t", "s", "x:y:pull,push", "" },
    { "bearer REALM=\"r\", Service=s , SCOPE=\"\"", NGX_OK,
      "bearer", "r", "s", "", "" },
    { "Bearer realm=\"r\",error=\"insufficient_scope\"", NGX_OK,
      "Bearer", "r", "", "", "insufficient_scope" },
    { "Bearer realm = \"r\"\t,  service\t=\ts", NGX_OK,
      "Bearer", "r", "s", "", "" },
    { "Bearer realm=token", NGX_OK, "Bearer", "token", "", "", "" },
    { "Bearer realm=azAZ09!#$%&'*+-.^_`|~", NGX_OK,
      "Bearer", "azAZ09!#$%&'*+-.^_`|~", "", "", "" },
    { "Bearer", NGX_OK, "Bearer", "", "", "", "" },
    { "  Bearer realm=\"r\"  ", NGX_OK, "Bearer", "r", "", "", "" },
    { ",, Bearer realm=\"r\" ,,", NGX_OK, "Bearer", "r", "", "", "" },
    { "Bearer realm=\"r\",,service=\"s\"", NGX_OK,
      "Bearer", "r", "s", "", "" },
    { "Bearer realm=\"a b=c, Basic realm=d\"", NGX_OK,
      "Bearer", "a b=c, Basic realm=d", "", "", "" },
    { "Bearer realm=\"\xc3\xa9\"", NGX_OK, "Bearer", "\xc3\xa9", "", "", "" },
    { "Bearer xrealm=\"a\",realmx=\"b\",realm=\"c\"", NGX_OK,
      "Bearer", "c", "", "", "" },
    { "Bearer services=\"a\",scopes=\"b\",errors=\"c\"", NGX_OK,
      "Bearer", "", "", "", "" },
    { "Basic realm=\"r\"", NGX_OK, "Basic", "r", "", "", "" },
    { "BASIC", NGX_OK, "BASIC", "", "", "", "" },

    /* several */
    { "Basic realm=\"a\", Bearer realm=\"b\"", NGX_OK,
      "Bearer", "b", "", "", "" },
    { "Bearer realm=\"b\", Basic realm=\"a\"", NGX_OK,
      "Bearer", "b", "", "", "" },
    { "Bearer realm=\"a\", Bearer realm=\"b\"", NGX_OK,
      "Bearer", "a", "", "", "" },
    { "Basic realm=\"a\", Basic realm=\"b\"", NGX_OK,
      "Basic", "a", "", "", "" },
    { "Basic realm=\"a\",charset=\"UTF-8\", Bearer realm=\"b\",service=s",
      NGX_OK, "Bearer", "b", "s", "", "" },
    { "Digest realm=\"a\",qop=\"auth,auth-int\",Basic realm=\"b\"", NGX_OK,
      "Basic", "b", "", "", "" },
    { "Negotiate, Basic realm=\"b\"", NGX_OK, "Basic", "b", "", "", "" },
    { "Basic, Bearer realm=\"b\"", NGX_OK, "Bearer", "b", "", "", "" },

    /* token68, which a Bearer or Basic challenge has not */
    { "Negotiate oYG+/0a=, Bearer realm=\"b\"", NGX_OK,
      "Bearer", "b", "", "", "" },
    { "NTLM TlRM==,Basic realm=\"b\"", NGX_OK, "Basic", "b", "", "", "" },
    { "NTLM TlRM== , Basic realm=\"b\"", NGX_OK, "Basic", "b", "", "", "" },
    { "Basic realm=\"b\", NTLM TlRM==", NGX_OK, "Basic", "b", "", "", "" },
    { "NTLM azAZ09-._~+/, Basic realm=\"b\"", NGX_OK,
      "Basic", "b", "", "", "" },
    { "NTLM a/b", NGX_DECLINED, "", "", "", "", "" },
    { "NTLM a/b=x, Bearer realm=\"b\"", NGX_ERROR, "", "", "", "", "" },
    { "NTLM ==, Bearer realm=\"b\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=", NGX_ERROR, "", "", "", "", "" },

    /* none of ours */
    { "", NGX_DECLINED, "", "", "", "", "" },
    { " ", NGX_DECLINED, "", "", "", "", "" },
    { " , \t,", NGX_DECLINED, "", "", "", "", "" },
    { "Negotiate", NGX_DECLINED, "", "", "", "", "" },
    { "Digest realm=\"Bearer\",nonce=\"x\"", NGX_DECLINED,
      "", "", "", "", "" },
    { "Bearers realm=\"r\"", NGX_DECLINED, "", "", "", "", "" },
    { "Basics realm=\"r\"", NGX_DECLINED, "", "", "", "", "" },
    { "Digest realm=\"x\", qop=\"Bearer realm=r\"", NGX_DECLINED,
      "", "", "", "", "" },

    /* quotes that are missing, escapes, control bytes */
    { "Bearer realm=\"r", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=r\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=https://a/t", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"r\"service=\"s\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"a\\\"b\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"a\\\\\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"a\nb\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=\"a\x7f\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer realm=,service=s", NGX_ERROR, "", "", "", "", "" },
    { "Bearer =r", NGX_ERROR, "", "", "", "", "" },
    { "Bearer (r)", NGX_ERROR, "", "", "", "", "" },
    { "Bearer=r", NGX_ERROR, "", "", "", "", "" },
    { "realm=\"r\"", NGX_ERROR, "", "", "", "", "" },
    { "\"Bearer\"", NGX_ERROR, "", "", "", "", "" },
    { "Bearer: realm=\"r\"", NGX_ERROR, "", "", "", "", "" },
    { "Basic realm=\"a\", Bearer realm=\"b", NGX_ERROR,
      "", "", "", "", "" }
};


static t_page_t  t_pages[] = {
    { "text/html", 1 },
    { "Text/HTML;charset=utf-8", 1 },
    { "text/html ; charset=utf-8", 1 },
    { "application/xhtml+xml", 1 },
    { "", 0 },
    { ";text/html", 0 },
    { "text/htm", 0 },
    { "text/htmlx", 0 },
    { "text/plain", 0 },
    { "application/octet-stream", 0 },
    { "application/vnd.oci.image.manifest.v1+json", 0 }
};


static t_link_t  t_links[] = {
    { "</v2/a/tags/list?n=1&last=b>; rel=\"next\"",
      "/v2/a/tags/list?n=1&last=b" },
    { " \t<http://h/x>;rel=next", "http://h/x" },
    { "</a>", "/a" },
    { "</a>, </b>; rel=\"next\"", "/a" },
    { "</a;b,c>", "/a;b,c" },

    { "", NULL },
    { " ", NULL },
    { "/a", NULL },
    { "<", NULL },
    { "<>", NULL },
    { "<>; rel=\"next\"", NULL },
    { "</a", NULL },
    { "</a b>", NULL },
    { "</a\tb>", NULL },
    { "</a\r\nb>", NULL },
    { "</a\x7f>", NULL },
    { "<</a>", NULL },
    { "</a\">", NULL },
    { "\"</a>\"", NULL },
    { "rel=\"next\"; </a>", NULL }
};


static t_url_t  t_urls[] = {

    { "/", "", NULL, 0, "/" },
    { "/v2/a?b=c", "", NULL, 0, "/v2/a?b=c" },
    { "/a//b", "", NULL, 0, "/a//b" },
    { "/http://h/", "", NULL, 0, "/http://h/" },
    { "/@", "", NULL, 0, "/@" },

    { "http://h", "http", "h", 80, "/" },
    { "https://h", "https", "h", 443, "/" },
    { "HTTPS://h/x", "https", "h", 443, "/x" },
    { "HtTp://h/x", "http", "h", 80, "/x" },
    { "https://Reg-1_x.Example.com:5000/v2/?a=b/c@d:e",
      "https", "Reg-1_x.Example.com", 5000, "/v2/?a=b/c@d:e" },
    { "https://h:443", "https", "h", 443, "/" },
    { "http://h:1/", "http", "h", 1, "/" },
    { "http://h:65535/", "http", "h", 65535, "/" },
    { "http://h:00080/", "http", "h", 80, "/" },
    { "http://example.com./x", "http", "example.com.", 80, "/x" },
    { "http://az.AZ.09.a-_z", "http", "az.AZ.09.a-_z", 80, "/" },
    { "http://h//x", "http", "h", 80, "//x" },
    { "http://" T_HOST250 "abc/", "http", T_HOST250 "abc", 80, "/" },

    /* userinfo */
    { "http://u@h/", NULL, NULL, 0, NULL },
    { "http://u:p@h/", NULL, NULL, 0, NULL },
    { "http://@h/", NULL, NULL, 0, NULL },
    { "http://h:80@evil/", NULL, NULL, 0, NULL },
    { "http://[::1]@h/", NULL, NULL, 0, NULL },

    /* IPv6 literals */
    { "http://[::1]", "http", "[::1]", 80, "/" },
    { "https://[2001:db8::A]:8443/x", "https", "[2001:db8::A]", 8443, "/x" },
    { "http://[::ffff:10.0.0.1]/", "http", "[::ffff:10.0.0.1]", 80, "/" },
    { "http://[1:2:3:4:5:6:7:8]/", "http", "[1:2:3:4:5:6:7:8]", 80, "/" },
    { "http://[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]/", "http",
      "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]", 80, "/" },
    { "http://[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555]/",
      NULL, NULL, 0, NULL },
    { "http://[/", NULL, NULL, 0, NULL },
    { "http://[]/", NULL, NULL, 0, NULL },
    { "http://[:]/", NULL, NULL, 0, NULL },
    { "http://[::1/", NULL, NULL, 0, NULL },
    { "http://[::1", NULL, NULL, 0, NULL },
    { "http://[::1]x/", NULL, NULL, 0, NULL },
    { "http://[::1]80/", NULL, NULL, 0, NULL },
    { "http://[::1]:/", NULL, NULL, 0, NULL },
    { "http://[::1]:0/", NULL, NULL, 0, NULL },
    { "http://[fe80::1%25eth0]/", NULL, NULL, 0, NULL },
    { "http://[::g]/", NULL, NULL, 0, NULL },
    { "http://[abc]/", NULL, NULL, 0, NULL },
    { "http://[127.0.0.1]/", NULL, NULL, 0, NULL },
    { "http://[1:2:3]/", NULL, NULL, 0, NULL },
    { "http://[1::2::3]/", NULL, NULL, 0, NULL },
    { "http://[::1:::]/", NULL, NULL, 0, NULL },
    { "http://[::12345]/", NULL, NULL, 0, NULL },
    { "http://[::127.1]/", NULL, NULL, 0, NULL },
    { "http://[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]/",
      NULL, NULL, 0, NULL },
    { "http://::1/", NULL, NULL, 0, NULL },

    /* IPv4: only the canonical form */
    { "http://127.0.0.1/", "http", "127.0.0.1", 80, "/" },
    { "http://255.255.255.255:8/", "http", "255.255.255.255", 8, "/" },
    { "http://0.0.0.0/", "http", "0.0.0.0", 80, "/" },
    { "http://2130706433/", NULL, NULL, 0, NULL },
    { "http://0/", NULL, NULL, 0, NULL },
    { "http://1/", NULL, NULL, 0, NULL },
    { "http://127.1/", NULL, NULL, 0, NULL },
    { "http://127.0.1/", NULL, NULL, 0, NULL },
    { "http://1.2.3.4.5/", NULL, NULL, 0, NULL },
    { "http://256.0.0.1/", NULL, NULL, 0, NULL },
    { "http://1.2.3.256/", NULL, NULL, 0, NULL },
    { "http://0177.0.0.1/", NULL, NULL, 0, NULL },
    { "http://127.0.0.01/", NULL, NULL, 0, NULL },
    { "http://127.00.0.1/", NULL, NULL, 0, NULL },
    { "http://0x7f.0.0.1/", NULL, NULL, 0, NULL },
    { "http://127.0.0.0x1/", NULL, NULL, 0, NULL },
    { "http://0x7f000001/", NULL, NULL, 0, NULL },
    { "http://0X7F000001/", NULL, NULL, 0, NULL },
    { "http://0x/", NULL, NULL, 0, NULL },
    { "http://017700000001/", NULL, NULL, 0, NULL },
    { "http://1.2.3.4./", NULL, NULL, 0, NULL },
    { "http://127.1./", NULL, NULL, 0, NULL },
    { "http://0x7f./", NULL, NULL, 0, NULL },
    { "http://1.2.3." T_OVER "/", NULL, NULL, 0, NULL },
    { "http://a.2.3.4/", NULL, NULL, 0, NULL },
    { "http://example.1/", NULL, NULL, 0, NULL },
    { "http://1.2.3.4a/", "http", "1.2.3.4a", 80, "/" },
    { "http://1.example/", "http", "1.example", 80, "/" },
    { "http://0x7f.example/", "http", "0x7f.example", 80, "/" },

    /* hosts */
    { "http:///x", NULL, NULL, 0, NULL },
    { "http://:80/", NULL, NULL, 0, NULL },
    { "http://./", NULL, NULL, 0, NULL },
    { "http://../", NULL, NULL, 0, NULL },
    { "http://.h/", NULL, NULL, 0, NULL },
    { "http://h../", NULL, NULL, 0, NULL },
    { "http://a..b/", NULL, NULL, 0, NULL },
    { "http://a%2eb/", NULL, NULL, 0, NULL },
    { "http://a,b/", NULL, NULL, 0, NULL },
    { "http://a;b/", NULL, NULL, 0, NULL },
    { "http://a+b/", NULL, NULL, 0, NULL },
    { "http://a[b/", NULL, NULL, 0, NULL },
    { "http://$host/", NULL, NULL, 0, NULL },
    { "http://h\xc3\xa9/", NULL, NULL, 0, NULL },
    { "http://" T_HOST250 "abcd/", NULL, NULL, 0, NULL },

    /* ports */
    { "http://h:/", NULL, NULL, 0, NULL },
    { "http://h:", NULL, NULL, 0, NULL },
    { "http://h:0/", NULL, NULL, 0, NULL },
    { "http://h:65536/", NULL, NULL, 0, NULL },
    { "http://h:99999/", NULL, NULL, 0, NULL },
    { "http://h:000080/", NULL, NULL, 0, NULL },
    { "http://h:80x/", NULL, NULL, 0, NULL },
    { "http://h:x/", NULL, NULL, 0, NULL },
    { "http://h:-1/", NULL, NULL, 0, NULL },
    { "http://h:+1/", NULL, NULL, 0, NULL },
    { "http://h:80:80/", NULL, NULL, 0, NULL },
    { "http://h:" T_OVER "/", NULL, NULL, 0, NULL },

    /* fragments, backslashes, spaces, control bytes */
    { "http://h/#", NULL, NULL, 0, NULL },
    { "http://h#@evil/", NULL, NULL, 0, NULL },
    { "/a#b", NULL, NULL, 0, NULL },
    { "http://h\\@evil/", NULL, NULL, 0, NULL },
    { "http:\\\\h/", NULL, NULL, 0, NULL },
    { "/\\h", NULL, NULL, 0, NULL },
    { "http://h/a\\b", NULL, NULL, 0, NULL },
    { "http://h/a b", NULL, NULL, 0, NULL },
    { "http://h/a\tb", NULL, NULL, 0, NULL },
    { "http://h/a\r\nb", NULL, NULL, 0, NULL },
    { "http://h/\x7f", NULL, NULL, 0, NULL },
    { "/\xc3\xa9", NULL, NULL, 0, NULL },
    { " http://h/", NULL, NULL, 0, NULL },
    { "http://h/ ", NULL, NULL, 0, NULL },
    { "http://h /", NULL, NULL, 0, NULL },

    /* no path, no scheme, others */
    { "http://h?a=b", NULL, NULL, 0, NULL },
    { "http://h:80?a=b", NULL, NULL, 0, NULL },
    { "", NULL, NULL, 0, NULL },
    { "//h/", NULL, NULL, 0, NULL },
    { "//", NULL, NULL, 0, NULL },
    { "?a", NULL, NULL, 0, NULL },
    { "a/b", NULL, NULL, 0, NULL },
    { "h:80/", NULL, NULL, 0, NULL },
    { "http:", NULL, NULL, 0, NULL },
    { "http:/h/", NULL, NULL, 0, NULL },
    { "http://", NULL, NULL, 0, NULL },
    { "https://", NULL, NULL, 0, NULL },
    { "https:/h/", NULL, NULL, 0, NULL },
    { "http:h/", NULL, NULL, 0, NULL },
    { "ftp://h/", NULL, NULL, 0, NULL },
    { "httpx://h/", NULL, NULL, 0, NULL },
    { "file:///etc/passwd", NULL, NULL, 0, NULL }
};


static void
t_range(t_range_t *t)
{
    int               ok;
    char              text[512];
    ngx_int_t         rc, i;
    ngx_str_t         value;
    ngx_oci_range_t  *ranges;

    value = tap_copy(t->value, strlen(t->value));
    ranges = malloc(T_MAX * sizeof(ngx_oci_range_t));

    if (ranges == NULL) {
        abort();
    }

    rc = ngx_oci_range_parse(&value, t->size, ranges, T_MAX);
    ok = (rc == t->rc);

    for (i = 0; ok && i < rc; i++) {
        ok = (ranges[i].start == t->ranges[2 * i]
              && ranges[i].end == t->ranges[2 * i + 1]);
    }

    snprintf(text, sizeof(text), "range \"%s\" of %lld", t->value,
             (long long) t->size);
    tap_ok(ok, text);

    free(ranges);
    free(value.data);
}


static void
t_content_range(t_content_range_t *t)
{
    int        ok;
    char       text[512];
    off_t      start, end, total;
    ngx_int_t  rc;
    ngx_str_t  value;

    value = tap_copy(t->value, strlen(t->value));

    rc = ngx_oci_content_range_parse(&value, &start, &end, &total);
    ok = (rc == t->rc
          && (rc != NGX_OK
              || (start == t->start && end == t->end && total == t->total)));

    snprintf(text, sizeof(text), "content-range \"%s\"", t->value);
    tap_ok(ok, text);

    free(value.data);
}


static void
t_challenge(t_challenge_t *t)
{
    int                   ok;
    char                  text[512];
    ngx_int_t             rc;
    ngx_str_t             value;
    ngx_oci_challenge_t   ch;

    value = tap_copy(t->value, strlen(t->value));
    memset(&ch, 0xa5, sizeof(ch));

    rc = ngx_oci_challenge_parse(&value, &ch);
    ok = (rc == t->rc && tap_eq(&ch.scheme, t->scheme)
          && tap_eq(&ch.realm, t->realm) && tap_eq(&ch.service, t->service)
          && tap_eq(&ch.scope, t->scope) && tap_eq(&ch.error, t->error));

    snprintf(text, sizeof(text), "challenge \"%s\"", t->value);
    tap_ok(ok, text);

    free(value.data);
}


static void
t_link(t_link_t *t)
{
    int        ok;
    char       text[512];
    ngx_int_t  rc;
    ngx_str_t  value, target;

    value = tap_copy(t->value, strlen(t->value));

    rc = ngx_oci_link_parse(&value, &target);
    ok = t->target ? (rc == NGX_OK && tap_eq(&target, t->target))
                   : (rc == NGX_ERROR);

    snprintf(text, sizeof(text), "link \"%s\"", t->value);
    tap_ok(ok, text);

    free(value.data);
}


static void
t_page(t_page_t *t)
{
    char       text[512];
    ngx_str_t  value;

    value = tap_copy(t->value, strlen(t->value));

    snprintf(text, sizeof(text), "type \"%s\"", t->value);
    tap_ok(ngx_oci_type_is_page(&value) == t->page, text);

    free(value.data);
}


static void
t_url(t_url_t *t)
{
    int             ok;
    char            text[512];
    ngx_int_t       rc;
    ngx_str_t       value;
    ngx_oci_url_t   url;

    value = tap_copy(t->value, strlen(t->value));
    memset(&url, 0xa5, sizeof(url));

    rc = ngx_oci_url_parse(&value, &url);

    ok = t->scheme ? (rc == NGX_OK && tap_eq(&url.scheme, t->scheme)
                      && tap_eq(&url.host, t->host) && url.port == t->port
                      && tap_eq(&url.uri, t->uri)
                      && url.absolute == (t->scheme[0] != '\0'))
                   : (rc == NGX_ERROR);

    snprintf(text, sizeof(text), "url \"%s\"", t->value);
    tap_ok(ok, text);

    free(value.data);
}


/* bytes that no C string holds */

static void
t_nul(void)
{
    ngx_str_t             s, target;
    ngx_oci_url_t         url;
    ngx_oci_challenge_t   ch;

    s = tap_copy("/a\0b", 4);
    tap_ok(ngx_oci_url_parse(&s, &url) == NGX_ERROR, "NUL in a url");
    free(s.data);

    s = tap_copy("http://h\0/", 10);
    tap_ok(ngx_oci_url_parse(&s, &url) == NGX_ERROR, "NUL in a host");
    free(s.data);

    s = tap_copy("</a\0>", 5);
    tap_ok(ngx_oci_link_parse(&s, &target) == NGX_ERROR, "NUL in a link");
    free(s.data);

    s = tap_copy("Bearer realm=\"\0\"", 16);
    tap_ok(ngx_oci_challenge_parse(&s, &ch) == NGX_ERROR, "NUL in a realm");
    free(s.data);

    s = tap_copy("NTLM \0/, Basic", 14);
    tap_ok(ngx_oci_challenge_parse(&s, &ch) == NGX_ERROR, "NUL in a token68");
    free(s.data);

    s = tap_copy("Bearer\0", 7);
    tap_ok(ngx_oci_challenge_parse(&s, &ch) == NGX_ERROR, "NUL in a scheme");
    free(s.data);
}


static void
t_log(const char *value, size_t len, const char *expected)
{
    u_char     *buf;
    ngx_str_t   s, text;

    s = tap_copy(value, len);
    buf = malloc(NGX_OCI_LOG_TEXT);

    if (buf == NULL) {
        abort();
    }

    ngx_oci_log_text(&text, buf, &s);
    tap_ok(tap_eq(&text, expected), "text for a log");

    free(buf);
    free(s.data);
}


static void
t_logs(void)
{
    char  value[NGX_OCI_LOG_TEXT + 1], text[NGX_OCI_LOG_TEXT + 1];

    t_log("", 0, "");
    t_log("gzip, br ~", 10, "gzip, br ~");
    t_log("a\0b\x1b\x7f\xff\"\\", 8, "a\\x00b\\x1B\\x7F\\xFF\\x22\\x5C");

    /* the longest that is whole, and one more */

    memset(value, 'x', sizeof(value));
    memset(text, 'x', sizeof(text));

    text[250] = '\0';
    t_log(value, 250, text);

    memcpy(text + 250, "...", sizeof("..."));
    t_log(value, 251, text);
    t_log(value, sizeof(value), text);

    /* nor does an escape run over the end */

    memset(value, 1, sizeof(value));

    for (text[0] = '\0'; strlen(text) < 248; /* void */) {
        strcat(text, "\\x01");
    }

    strcat(text, "\\x01...");
    t_log(value, sizeof(value), text);
}


#define t_each(t, table)                                                      \
    for (t = table; t < table + sizeof(table) / sizeof(table[0]); t++)

/* in two parts of a list, as nginx has them */

static void
t_find(void)
{
    ngx_list_t            list;
    ngx_table_elt_t       a[3], b[2];
    ngx_list_part_t       none, next;
    ngx_oci_header_at_t   at;

    memset(&list, 0, sizeof(ngx_list_t));
    memset(&none, 0, sizeof(ngx_list_part_t));
    memset(&next, 0, sizeof(ngx_list_part_t));
    memset(a, 0, sizeof(a));
    memset(b, 0, sizeof(b));

    tap_ok(ngx_oci_header_find(&list, NULL, "a") == NULL, "of no header");

    ngx_str_set(&a[0].key, "Accept");
    ngx_str_set(&a[1].key, "Accept-Encoding");
    ngx_str_set(&a[2].key, "x");
    ngx_str_set(&b[0].key, "aCCEPT");
    ngx_str_set(&b[1].key, "X");

    a[0].hash = a[1].hash = b[0].hash = b[1].hash = 1;

    list.part.elts = a;
    list.part.nelts = 3;
    list.part.next = &none;
    none.next = &next;
    next.elts = b;
    next.nelts = 2;

    memset(&at, 0, sizeof(ngx_oci_header_at_t));

    tap_ok(ngx_oci_header_find(&list, &at, "accept") == &a[0], "the first");
    tap_ok(ngx_oci_header_find(&list, &at, "accept") == &b[0], "the next");
    tap_ok(ngx_oci_header_find(&list, &at, "accept") == NULL, "no more");
    tap_ok(ngx_oci_header_find(&list, &at, "accept") == NULL, "nor again");

    tap_ok(ngx_oci_header_find(&list, NULL, "X") == &b[1],
           "one that was taken back is none");
    tap_ok(ngx_oci_header_find(&list, NULL, "Accept-") == NULL,
           "a part of a name is none");
}


int
main(void)
{
    t_url_t            *url;
    t_link_t           *link;
    t_range_t          *range;
    t_page_t           *page;
    t_challenge_t      *challenge;
    t_content_range_t  *content_range;

    t_each(range, t_ranges) {
        t_range(range);
    }

    t_each(content_range, t_content_ranges) {
        t_content_range(content_range);
    }

    t_each(challenge, t_challenges) {
        t_challenge(challenge);
    }

    t_each(link, t_links) {
        t_link(link);
    }

    t_each(url, t_urls) {
        t_url(url);
    }

    t_each(page, t_pages) {
        t_page(page);
    }

    t_nul();
    t_logs();
    t_find();

    return tap_done();
}
