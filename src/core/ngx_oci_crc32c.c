
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"


#define NGX_OCI_CRC32C_POLY  0x82f63b78     /* reflected */


static uint32_t ngx_oci_crc32c_table(uint32_t crc, const u_char *p,
    size_t len);


#if defined(__x86_64__)

__attribute__((target("sse4.2")))
static uint32_t
ngx_oci_crc32c_sse42(uint32_t crc, const u_char *p, size_t len)
{
    uint64_t  c, word;

    c = crc;

    while (len >= 8) {
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
        p += 8;
        len -= 8;
    }

    crc = (uint32_t) c;

    while (len--) {
        crc = __builtin_ia32_crc32qi(crc, *p++);
    }

    return crc;
}

#endif


uint32_t
ngx_oci_crc32c(uint32_t crc, const u_char *p, size_t len)
{
    crc = ~crc;

#if defined(__x86_64__)

    if (__builtin_cpu_supports("sse4.2")) {
        return ~ngx_oci_crc32c_sse42(crc, p, len);
    }

#endif

    return ~ngx_oci_crc32c_table(crc, p, len);
}


static uint32_t
ngx_oci_crc32c_table(uint32_t crc, const u_char *p, size_t len)
{
    uint32_t         c;
    ngx_uint_t       i, j;

    static uint32_t  table[256];
    static int       ready;

    /* threads may build it at once: they write the same */

    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {

        for (i = 0; i < 256; i++) {
            c = i;

            for (j = 0; j < 8; j++) {
                c = (c & 1) ? (c >> 1) ^ NGX_OCI_CRC32C_POLY : c >> 1;
            }

            table[i] = c;
        }

        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    }

    while (len--) {
        crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    }

    return crc;
}
