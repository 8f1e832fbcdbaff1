
/*
 * Copyright (C) The nginx-oci authors
 *
 * Common to the libFuzzer targets; one file each includes it.
 */


#ifndef _T_FUZZ_H_INCLUDED_
#define _T_FUZZ_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define fuzz_check(cond)                                                      \
    if (!(cond)) {                                                            \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);            \
        abort();                                                              \
    }


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* exactly len bytes of the heap, so that a read past them is seen */

static inline ngx_str_t
fuzz_copy(const uint8_t *data, size_t len)
{
    ngx_str_t  s;

    s.len = len;
    s.data = malloc(len ? len : 1);

    if (s.data == NULL) {
        abort();
    }

    if (len) {
        memcpy(s.data, data, len);
    }

    return s;
}


static inline int
fuzz_inside(ngx_str_t *s, ngx_str_t *input)
{
    return s->len == 0
           || (s->data >= input->data
               && s->data + s->len <= input->data + input->len);
}


static inline int
fuzz_equal(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


/* appends len bytes of text to s, whose data has the room */

static inline void
fuzz_add(ngx_str_t *s, const void *text, size_t len)
{
    if (len) {
        memcpy(s->data + s->len, text, len);
        s->len += len;
    }
}


#define fuzz_add_text(s, text)  fuzz_add(s, text, strlen(text))
#define fuzz_add_str(s, str)    fuzz_add(s, (str)->data, (str)->len)


#endif /* _T_FUZZ_H_INCLUDED_ */
