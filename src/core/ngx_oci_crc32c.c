
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"


#define NGX_OCI_CRC32C_POLY  0x82f63b78     /* reflected */


static uint32_t ngx_oci_crc32c_table(uint32_t crc, const u_char *p,
    size_t len);


#if defined(__x86_64__)

/*
 * The instruction gives a result three cycles after it took its operands, and
 * takes others each cycle: three lanes are computed at once, then joined.
 */

#define NGX_OCI_CRC32C_LANE  4096           /* bytes */


static uint32_t ngx_oci_crc32c_sse42(uint32_t crc, const u_char *p,
    size_t len);
static void ngx_oci_crc32c_lanes(uint32_t (*shift)[256]);


/* what a state becomes by a lane of zeroes, by each of its bytes */

static uint32_t
ngx_oci_crc32c_shift(uint32_t crc)
{
    static uint32_t  shift[4][256];
    static int       ready;

    /* threads may build it at once: they write the same */

    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
        ngx_oci_crc32c_lanes(shift);
        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    }

    return shift[0][crc & 0xff] ^ shift[1][(crc >> 8) & 0xff]
           ^ shift[2][(crc >> 16) & 0xff] ^ shift[3][crc >> 24];
}


static void
ngx_oci_crc32c_lanes(uint32_t (*shift)[256])
{
    uint32_t             bit[32], n, value;
    ngx_uint_t           i, k;

    static const u_char  zeroes[512];

    for (k = 0; k < 32; k++) {
        bit[k] = (uint32_t) 1 << k;

        for (i = 0; i < NGX_OCI_CRC32C_LANE / sizeof(zeroes); i++) {
            bit[k] = ngx_oci_crc32c_sse42(bit[k], zeroes, sizeof(zeroes));
        }
    }

    for (i = 0; i < 4; i++) {
        for (n = 0; n < 256; n++) {
            value = 0;

            for (k = 0; k < 8; k++) {
                if (n & (1 << k)) {
                    value ^= bit[8 * i + k];
                }
            }

            /* whole at once: another thread may have built it, and use it */

            __atomic_store_n(&shift[i][n], value, __ATOMIC_RELAXED);
        }
    }
}


__attribute__((target("sse4.2")))
static uint32_t
ngx_oci_crc32c_sse42(uint32_t crc, const u_char *p, size_t len)
{
    size_t    i;
    uint64_t  a, b, c, word[3];

    while (len >= 3 * NGX_OCI_CRC32C_LANE) {
        a = crc;
        b = 0;
        c = 0;

        for (i = 0; i < NGX_OCI_CRC32C_LANE; i += 8) {
            memcpy(&word[0], p + i, 8);
            memcpy(&word[1], p + i + NGX_OCI_CRC32C_LANE, 8);
            memcpy(&word[2], p + i + 2 * NGX_OCI_CRC32C_LANE, 8);

            a = __builtin_ia32_crc32di(a, word[0]);
            b = __builtin_ia32_crc32di(b, word[1]);
            c = __builtin_ia32_crc32di(c, word[2]);
        }

        crc = ngx_oci_crc32c_shift((uint32_t) a) ^ (uint32_t) b;
        crc = ngx_oci_crc32c_shift(crc) ^ (uint32_t) c;

        p += 3 * NGX_OCI_CRC32C_LANE;
        len -= 3 * NGX_OCI_CRC32C_LANE;
    }

    a = crc;

    while (len >= 8) {
        memcpy(&word[0], p, 8);
        a = __builtin_ia32_crc32di(a, word[0]);
        p += 8;
        len -= 8;
    }

    crc = (uint32_t) a;

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

            __atomic_store_n(&table[i], c, __ATOMIC_RELAXED);
        }

        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    }

    while (len--) {
        crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    }

    return crc;
}
