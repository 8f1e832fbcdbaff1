
/*
 * Copyright (C) The nginx-oci authors
 *
 * How large a JSON text would become.  Pure: needs libc only.
 */


#include "ngx_oci_route.h"


ngx_uint_t
ngx_oci_json_values(const u_char *p, size_t len)
{
    size_t      i;
    ngx_uint_t  n, string;

    n = 1;
    string = 0;

    for (i = 0; i < len; i++) {

        switch (p[i]) {

        case '"':
            string = !string;
            break;

        case '\\':
            i += string;
            break;

        case ',':
        case ':':
        case '[':
        case '{':
            n += !string;
            break;
        }
    }

    return n;
}
