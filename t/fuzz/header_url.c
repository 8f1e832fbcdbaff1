
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "fuzz.h"


static void fuzz_host(ngx_str_t *host);
static void fuzz_again(ngx_oci_url_t *url);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          i;
    ngx_int_t       rc;
    ngx_str_t       value;
    ngx_oci_url_t   url;

    value = fuzz_copy(data, size);

    rc = ngx_oci_url_parse(&value, &url);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);

    if (rc != NGX_OK) {
        free(value.data);
        return 0;
    }

    fuzz_check(url.uri.len > 0 && url.uri.data[0] == '/');

    for (i = 0; i < value.len; i++) {
        fuzz_check(value.data[i] > 0x20 && value.data[i] < 0x7f
                   && value.data[i] != '\\' && value.data[i] != '#');
    }

    if (!url.absolute) {
        fuzz_check(url.scheme.len == 0 && url.host.len == 0);
        fuzz_check(url.port == 0);
        fuzz_check(fuzz_equal(&url.uri, &value));
        fuzz_check(url.uri.len == 1 || url.uri.data[1] != '/');

    } else {
        fuzz_check(strncasecmp((char *) value.data,
                               (char *) url.scheme.data, url.scheme.len)
                   == 0);
        fuzz_check(url.port != 0);
        fuzz_check(fuzz_inside(&url.host, &value));
        fuzz_check(fuzz_inside(&url.uri, &value)
                   || (url.uri.len == 1 && value.data[value.len - 1] != '/'));

        fuzz_host(&url.host);
        fuzz_again(&url);
    }

    free(value.data);

    return 0;
}


/* libc must not see an address where the parser saw a name */

static void
fuzz_host(ngx_str_t *host)
{
    char              text[256];
    size_t            i;
    u_char            c;
    struct in_addr    addr;
    struct in6_addr   addr6;

    fuzz_check(host->len > 0 && host->len < sizeof(text));

    if (host->data[0] == '[') {
        fuzz_check(host->data[host->len - 1] == ']');

        memcpy(text, host->data + 1, host->len - 2);
        text[host->len - 2] = '\0';

        fuzz_check(inet_pton(AF_INET6, text, &addr6) == 1);

        return;
    }

    memcpy(text, host->data, host->len);
    text[host->len] = '\0';

    for (i = 0; i < host->len; i++) {
        c = host->data[i];

        fuzz_check((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
                   || (c >= 'A' && c <= 'Z') || c == '-' || c == '.'
                   || c == '_');
    }

    fuzz_check(inet_aton(text, &addr) == 0
               || inet_pton(AF_INET, text, &addr) == 1);
}


static void
fuzz_again(ngx_oci_url_t *url)
{
    char            port[16];
    ngx_str_t       s;
    ngx_oci_url_t   again;

    s.len = 0;
    s.data = malloc(url->host.len + url->uri.len + 32);

    if (s.data == NULL) {
        abort();
    }

    snprintf(port, sizeof(port), ":%u", (unsigned) url->port);

    fuzz_add_str(&s, &url->scheme);
    fuzz_add_text(&s, "://");
    fuzz_add_str(&s, &url->host);
    fuzz_add_text(&s, port);
    fuzz_add_str(&s, &url->uri);

    fuzz_check(ngx_oci_url_parse(&s, &again) == NGX_OK);
    fuzz_check(again.absolute);
    fuzz_check(again.port == url->port);
    fuzz_check(fuzz_equal(&again.scheme, &url->scheme));
    fuzz_check(fuzz_equal(&again.host, &url->host));
    fuzz_check(fuzz_equal(&again.uri, &url->uri));

    free(s.data);
}
