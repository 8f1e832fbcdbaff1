
/*
 * Copyright (C) The nginx-oci authors
 *
 * Test Anything Protocol for the unit tests; one file each includes it.
 */


#ifndef _T_TAP_H_INCLUDED_
#define _T_TAP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


static ngx_uint_t  tap_tests;
static ngx_uint_t  tap_failures;


static inline void
tap_ok(int ok, const char *name)
{
    const u_char  *p;

    printf("%s %lu - ", ok ? "ok" : "not ok", (unsigned long) ++tap_tests);

    for (p = (const u_char *) name; *p; p++) {

        /* "#" would begin a directive */

        if (*p < 0x20 || *p >= 0x7f || *p == '#') {
            printf("\\x%02x", *p);

        } else {
            putchar(*p);
        }
    }

    putchar('\n');

    tap_failures += !ok;
}


/* the plan comes last: a run that was cut short has none */

static inline int
tap_done(void)
{
    printf("1..%lu\n", (unsigned long) tap_tests);

    return tap_failures ? 1 : 0;
}


/* exactly len bytes of the heap, so that a read past them is seen */

static inline ngx_str_t
tap_copy(const char *text, size_t len)
{
    ngx_str_t  s;

    s.len = len;
    s.data = malloc(len ? len : 1);

    if (s.data == NULL) {
        abort();
    }

    memcpy(s.data, text, len);

    return s;
}


static inline int
tap_eq(ngx_str_t *s, const char *text)
{
    size_t  len;

    len = text ? strlen(text) : 0;

    return s->len == len && (len == 0 || memcmp(s->data, text, len) == 0);
}


#endif /* _T_TAP_H_INCLUDED_ */
