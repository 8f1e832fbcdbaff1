
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "fuzz.h"


static void fuzz_text(ngx_str_t *text, ngx_str_t *value);
static void fuzz_again(ngx_oci_challenge_t *ch);
static void fuzz_param(ngx_str_t *s, const char *name, ngx_str_t *text);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_int_t             rc;
    ngx_str_t             value;
    ngx_oci_challenge_t   ch;

    value = fuzz_copy(data, size);

    rc = ngx_oci_challenge_parse(&value, &ch);

    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_ERROR);

    if (rc == NGX_OK) {
        fuzz_check((ch.scheme.len == 6
                    && strncasecmp((char *) ch.scheme.data, "Bearer", 6) == 0)
                   || (ch.scheme.len == 5
                       && strncasecmp((char *) ch.scheme.data, "Basic", 5)
                          == 0));

        fuzz_check(fuzz_inside(&ch.scheme, &value));

        fuzz_text(&ch.realm, &value);
        fuzz_text(&ch.service, &value);
        fuzz_text(&ch.scope, &value);
        fuzz_text(&ch.error, &value);

        fuzz_again(&ch);

    } else {
        fuzz_check(ch.scheme.len == 0 && ch.realm.len == 0
                   && ch.service.len == 0 && ch.scope.len == 0
                   && ch.error.len == 0);
    }

    free(value.data);

    return 0;
}


static void
fuzz_text(ngx_str_t *text, ngx_str_t *value)
{
    size_t  i;

    fuzz_check(fuzz_inside(text, value));

    for (i = 0; i < text->len; i++) {
        fuzz_check(text->data[i] >= 0x20 && text->data[i] != 0x7f
                   && text->data[i] != '"' && text->data[i] != '\\');
    }
}


/* the parts, written as a challenge, parse to the same */

static void
fuzz_again(ngx_oci_challenge_t *ch)
{
    ngx_str_t             s;
    ngx_oci_challenge_t   again;

    s.len = 0;
    s.data = malloc(ch->scheme.len + ch->realm.len + ch->service.len
                    + ch->scope.len + ch->error.len + 64);

    if (s.data == NULL) {
        abort();
    }

    fuzz_add_str(&s, &ch->scheme);
    fuzz_param(&s, " realm=\"", &ch->realm);
    fuzz_param(&s, ", service=\"", &ch->service);
    fuzz_param(&s, ", scope=\"", &ch->scope);
    fuzz_param(&s, ", error=\"", &ch->error);

    fuzz_check(ngx_oci_challenge_parse(&s, &again) == NGX_OK);
    fuzz_check(fuzz_equal(&again.scheme, &ch->scheme));
    fuzz_check(fuzz_equal(&again.realm, &ch->realm));
    fuzz_check(fuzz_equal(&again.service, &ch->service));
    fuzz_check(fuzz_equal(&again.scope, &ch->scope));
    fuzz_check(fuzz_equal(&again.error, &ch->error));

    free(s.data);
}


static void
fuzz_param(ngx_str_t *s, const char *name, ngx_str_t *text)
{
    fuzz_add_text(s, name);
    fuzz_add_str(s, text);
    fuzz_add_text(s, "\"");
}
