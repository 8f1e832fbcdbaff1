
/*
 * Copyright (C) The nginx-oci authors
 *
 * Formats by names and by bytes.
 */


#include "ngx_oci_format_look.h"
#include "ngx_oci_rules_manifest.h"
#include "tap.h"

#include <stdarg.h>


#define T_ST    NGX_OCI_FORMAT_SAFETENSORS
#define T_PKL   NGX_OCI_FORMAT_PICKLE
#define T_UNK   NGX_OCI_FORMAT_UNKNOWN
#define T_EXE   NGX_OCI_FORMAT_EXECUTABLE
#define T_ZIP   NGX_OCI_FORMAT_ZIP

#define T_B(s)  s, sizeof(s) - 1

#define T_SAFE  "\x10\0\0\0\0\0\0\0{\"a\":{\"x\":[1]}} " "0123456789abcdef"
#define T_OS    "cos\nsystem\n(S'id'\ntR."
#define T_TAR   0x10000


static struct {
    const char  *name;
    const char  *bytes;
    size_t       len;
    uint64_t     size;                  /* 0: len */
    ngx_uint_t   bits;
} t_heads[] = {
    { "nothing", T_B(""), 0, 0 },
    { "a text", T_B("# A model\n\nIt is good.\n"), 0, 0 },
    { "JSON", T_B("{\"a\":1}"), 0, 0 },
    { "an image", T_B("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), 0, 0 },
    { "requirements", T_B("certifi\nnumpy\ntorch==2.1\n"), 0, 0 },
    { "a license", T_B("Copyright 2026\nAll rights\n"), 0, 0 },
    { "a word list", T_B("cat\ndog\nelephant\n"), 0, 0 },
    { "a tokenizer", T_B("\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"), 0, 0 },

    { "safetensors", T_B(T_SAFE), 0, T_ST },
    { "a large header", T_B("\0\0\x10\0\0\0\0\0{\"a\":{\"x\":1"), 0x200000,
      T_ST },
    { "a header beyond the end", T_B("\0\0\x10\0\0\0\0\0{\"a\":{\"x\":1"),
      0x1000, 0 },
    { "a header that is too large",
      T_B("\0\0\0\x10\0\0\0\0{\"a\":{\"x\":1"), 0x100000000, 0 },
    { "a header that is no object",
      T_B("\x10\0\0\0\0\0\0\0[\"a\":{\"x\":[1]}} "), 0, 0 },
    { "a header that does not end",
      T_B("\x10\0\0\0\0\0\0\0{\"a\":{\"x\":[1]]] 0123456789"), 0, 0 },
    { "a header of 376 bytes, as zlib begins",
      T_B("\x78\x01\0\0\0\0\0\0{\"a\":{\"x\":1"), 0x10000, T_ST },
    { "one of 640, as a pickle begins",
      T_B("\x80\x02\0\0\0\0\0\0{\"a\":{\"x\":1"), 0x10000, T_ST },
    { "GGUF", T_B("GGUF\3\0\0\0\0\0\0\0\0\0\0\0"), 0, NGX_OCI_FORMAT_GGUF },
    { "GGML", T_B("tjgg\1\0\0\0"), 0, NGX_OCI_FORMAT_GGML },
    { "ONNX", T_B("\x08\x08\x12\x07pytorch\x1a\x03" "2.1"), 0,
      NGX_OCI_FORMAT_ONNX },
    { "ONNX with a graph at once", T_B("\x08\x03\x3a\x80\x80\x04xxxx"),
      0x20000, NGX_OCI_FORMAT_ONNX },
    { "ONNX whose graph is beyond the end", T_B("\x08\x03\x3a\x80\x80\x04xx"),
      0x1000, 0 },
    { "a saved model", T_B("\x08\x01\x12\x80\x80\x04xxxx"), 0x20000, 0 },
    { "TFLite", T_B("\x1c\0\0\0TFL3\0\0"), 0, NGX_OCI_FORMAT_TFLITE },
    { "npy", T_B("\x93NUMPY\1\0\x36\0{'descr': '<f4', 'fortran_order': "
                 "False, 'shape': (1,)} \n"), 0, NGX_OCI_FORMAT_NPY },
    { "npy of objects", T_B("\x93NUMPY\1\0\x36\0{'descr': '|O', "
                            "'fortran_order': False, 'shape': (1,)}  \n"), 0,
      NGX_OCI_FORMAT_NPY|T_PKL },
    { "HDF5", T_B("\x89HDF\r\n\x1a\n\0\0"), 0, NGX_OCI_FORMAT_HDF5 },
    { "ELF", T_B("\x7f" "ELF\2\1\1"), 0, T_EXE },
    { "a script", T_B("#!/bin/sh\n"), 0, T_EXE },
    { "a llamafile", T_B("MZqFpD='\n"), 0, T_EXE },
    { "gzip", T_B("\x1f\x8b\x08\0\0\0\0\0"), 0, T_UNK },
    { "zstd", T_B("\x28\xb5\x2f\xfd\x24\0"), 0, T_UNK },
    { "zstd's frame to skip", T_B("\x54\x2a\x4d\x18\0\0\0\0"), 0, T_UNK },
    { "xz", T_B("\xfd" "7zXZ\0\0\4"), 0, T_UNK },
    { "bzip2", T_B("BZh91AY&SY"), 0, T_UNK },
    { "7z", T_B("7z\xbc\xaf\x27\x1c\0\4"), 0, T_UNK },
    { "zlib", T_B("\x78\x9c\x4b\x04\0"), 0, T_UNK },

    { "a pickle of protocol 0", T_B(T_OS), 0, T_PKL },
    { "one that is cut", T_B("cos\nsystem\n(S'id'\ntR"), 0, T_PKL },
    { "one with junk behind it", T_B(T_OS "\0\0\0junk"), 0, T_PKL },
    { "one that ends badly after all",
      T_B("cos\nsystem\n(S'id'\ntR\xff"), 0, T_PKL },
    { "an instance", T_B("(S'id'\nios\nsystem\n."), 0, T_PKL },
    { "an instance of protocol 1", T_B("(cos\nsystem\nU\2ido."), 0, T_PKL },
    { "data only", T_B("(dp0\nS'a'\np1\nI1\ns."), 0, T_PKL },
    { "data of protocol 1", T_B("}q\0(U\1aK\1U\1bK\2u."), 0, T_PKL },
    { "none", T_B("N."), 0, 0 },
    { "a pickle of protocol 2", T_B("\x80\2]q\0."), 0, T_PKL },
    { "one of protocol 4",
      T_B("\x80\4\x95\x14\0\0\0\0\0\0\0\x8c\2os\x8c\6system\x93\x8c\2id\x85R."),
      0, T_PKL },
    { "torch's magic", T_B("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8"
                           "\x50\x19.\x80\2M\xe9\3."), 0, T_PKL },
    { "one behind marks", T_B("((((((((((((((((((((((((((((((((((((((((((((("
                              "((((((((((((((((((((((((((((((((((((((((((((("
                              "1111111111111111111111111111111111111111111"
                              "1111111111111111111111111111111111111111111"
                              "1111" T_OS), 0, T_PKL },
    { "one behind a mark that is popped", T_B("(0" T_OS), 0, T_PKL },
    { "one behind nothing", T_B("N0N0N0N0" T_OS), 0, T_PKL },
    { "one of unknown length", T_B("T\0\0\1\0abc"), 0x20000, T_UNK },
    { "one of a line without an end", T_B("Vabcdefgh"), 0x20000, T_UNK },
    { "as safetensors", T_B("\x80\2G\0\0\0\0\0{\"aNcos\nsystem\n(S'id'\ntR."),
      0x500000, T_ST|T_PKL },
    { "as a protocol that there is not yet", T_B("\x80\6]q\0."), 0, 0 }
};


static struct {
    const char  *name;
    ngx_uint_t   bits;
    ngx_uint_t   weight;
} t_names[] = {
    { "model.safetensors", T_ST, 1 },
    { "model-00001-of-00002.SafeTensors", T_ST, 1 },
    { "a/b.gguf", NGX_OCI_FORMAT_GGUF, 1 },
    { "model.bin", 0, 1 },
    { "pytorch_model.bin", T_PKL, 1 },
    { "x.pt", T_PKL, 1 },
    { "x.pt . ", T_PKL, 1 },
    { "pt", 0, 0 },
    { "README.md", 0, 0 },
    { "config.json", 0, 0 },
    { "tokenizer.model", 0, 0 },
    { "", 0, 0 }
};


static struct {
    const char  *type;
    ngx_uint_t   bits;
    ngx_uint_t   weight;
} t_types[] = {
    { "application/vnd.cncf.model.weight.v1.raw", 0, 1 },
    { "application/vnd.cnai.model.weight.v1.tar", 0, 1 },
    { "application/vnd.cncf.model.weight.v1.tar+gzip", T_UNK, 1 },
    { "application/vnd.cncf.model.weight.config.v1.raw", 0, 0 },
    { "application/vnd.cncf.model.doc.v1.raw", 0, 0 },
    { "application/vnd.docker.ai.gguf.v3", NGX_OCI_FORMAT_GGUF, 1 },
    { "application/vnd.docker.ai.safetensors", T_ST, 1 },
    { "application/vnd.ollama.image.model", 0, 1 },
    { "application/vnd.ollama.image.template", 0, 0 },
    { "application/vnd.kitops.modelkit.modelpart.v1.tar", 0, 1 },
    { "application/vnd.oci.image.layer.v1.tar+zstd", T_UNK, 0 },
    { "application/x-pytorch", T_PKL, 1 },
    { "application/json", 0, 0 }
};


/* a file that is put together, and looked at */

static u_char    t_file[0x100000];
static size_t    t_len;


static void
t_ok(int ok, const char *fmt, ...)
{
    char     name[512];
    va_list  args;

    va_start(args, fmt);
    (void) vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);

    tap_ok(ok, name);
}


static void
t_add(const void *p, size_t len)
{
    memcpy(t_file + t_len, p, len);
    t_len += len;
}


static void
t_fill(size_t len, int byte)
{
    memset(t_file + t_len, byte, len);
    t_len += len;
}


static void
t_le(uint64_t n, size_t len)
{
    while (len--) {
        t_file[t_len++] = (u_char) n;
        n >>= 8;
    }
}


/* a zip of files with these names; base: where the zip begins */

static void
t_zip(const char **names, size_t base, ngx_uint_t zip64)
{
    size_t  i, n, where[64], begin, end;

    for (n = 0; names[n]; n++) {
        where[n] = t_len - base;
        t_add("PK\3\4\24\0\0\0\0\0\0\0\0\0", 14);
        t_le(0, 4);
        t_le(4, 4);
        t_le(4, 4);
        t_le(strlen(names[n]), 2);
        t_le(0, 2);
        t_add(names[n], strlen(names[n]));
        t_add("data", 4);
    }

    begin = t_len;

    for (i = 0; i < n; i++) {
        t_add("PK\1\2\24\0\24\0\0\0\0\0\0\0\0\0", 16);
        t_le(0, 4);
        t_le(4, 4);
        t_le(4, 4);
        t_le(strlen(names[i]), 2);
        t_fill(12, 0);
        t_le(where[i], 4);
        t_add(names[i], strlen(names[i]));
    }

    end = t_len;

    if (zip64) {
        t_add("PK\6\6", 4);
        t_le(44, 8);
        t_fill(12, 0);
        t_le(n, 8);
        t_le(n, 8);
        t_le(end - begin, 8);
        t_le(begin - base, 8);
        t_add("PK\6\7", 4);
        t_le(0, 4);
        t_le(end - base, 8);
        t_le(1, 4);
    }

    t_add("PK\5\6\0\0\0\0", 8);
    t_le(zip64 ? 0xffff : n, 2);
    t_le(zip64 ? 0xffff : n, 2);
    t_le(zip64 ? 0xffffffff : end - begin, 4);
    t_le(zip64 ? 0xffffffff : begin - base, 4);
    t_le(0, 2);
}


static void
t_tar(const char *name, const void *p, size_t len, char type)
{
    size_t      i, begin;
    ngx_uint_t  sum;

    begin = t_len;
    t_fill(512, 0);
    memcpy(t_file + begin, name, strlen(name));
    memcpy(t_file + begin + 100, "0000644", 7);
    (void) sprintf((char *) t_file + begin + 124, "%011lo",
                   (unsigned long) len);
    t_file[begin + 156] = (u_char) type;
    memcpy(t_file + begin + 257, "ustar\00000", 8);
    memset(t_file + begin + 148, ' ', 8);

    for (i = 0, sum = 0; i < 512; i++) {
        sum += t_file[begin + i];
    }

    (void) sprintf((char *) t_file + begin + 148, "%06lo",
                   (unsigned long) sum);

    t_add(p, len);
    t_fill((512 - len % 512) % 512, 0);
}


/* exactly what is wanted is given, in memory of its own */

static ngx_uint_t
t_look(ngx_uint_t *looks)
{
    u_char          *p;
    ngx_int_t        rc;
    ngx_oci_look_t   look;

    ngx_oci_look_init(&look, t_len);

    *looks = 0;

    do {
        if (look.end < look.start || look.end > t_len
            || look.end - look.start > NGX_OCI_LOOK_MAX || *looks > 1000)
        {
            *looks = 0;
            return (ngx_uint_t) -1;
        }

        p = malloc(look.end - look.start + 1);
        memcpy(p, t_file + look.start, look.end - look.start);
        rc = ngx_oci_look(&look, p);
        free(p);
        (*looks)++;

    } while (rc == NGX_AGAIN);

    return look.bits;
}


static void
t_is(ngx_uint_t bits, const char *what)
{
    ngx_uint_t  got, looks;

    got = t_look(&looks);
    t_ok(got == bits, "%s: 0x%lx in %lu looks", what, (unsigned long) got,
         (unsigned long) looks);
    t_len = 0;
}


static void
t_zips(void)
{
    ngx_uint_t   z;

    static const char  *torch[] = { "m/data.pkl", "m/version", "m/data/0",
                                    NULL };
    static const char  *late[] = { "m/version", "m/data/0", "m/data.pkl",
                                   NULL };
    static const char  *npz[] = { "a.npy", "b.npy", NULL };
    static const char  *keras[] = { "metadata.json", "config.json",
                                    "model.weights.h5", NULL };
    static const char  *app[] = { "x.py", "__main__.py", NULL };
    static const char  *some[] = { "a.txt", NULL };
    static const char  *dduf[] = { "a.safetensors", "b.gguf", NULL };

    for (z = 0; z < 2; z++) {

        t_zip(torch, 0, z);
        t_is(T_PKL, "torch's zip");

        t_zip(late, 0, z);
        t_is(T_PKL, "with the pickle last");

        t_add(T_B(T_SAFE));
        t_fill(200000, 'x');
        t_zip(late, 0, z);
        t_is(T_ST|T_PKL, "behind safetensors, by the file's beginning");

        t_add(T_B(T_SAFE));
        t_fill(200000, 'x');
        t_zip(late, t_len, z);
        t_is(T_ST|T_PKL, "behind safetensors, by its own beginning");

        t_add(T_B("GGUF\3\0\0\0"));
        t_fill(300000, 0);
        t_zip(torch, t_len, z);
        t_fill(60000, 'c');
        t_is(NGX_OCI_FORMAT_GGUF|T_PKL, "behind GGUF, before a comment");
    }

    t_zip(npz, 0, 0);
    t_is(NGX_OCI_FORMAT_NPZ, "npz");
    t_zip(keras, 0, 0);
    t_is(NGX_OCI_FORMAT_KERAS, "keras");
    t_zip(app, 0, 0);
    t_is(T_EXE, "a zip that Python runs");
    t_zip(some, 0, 0);
    t_is(T_ZIP, "some zip");
    t_zip(dduf, 0, 0);
    t_is(T_ZIP, "a zip of others");

    t_zip(some, 0, 0);
    t_len -= 22;
    t_is(T_ZIP|T_UNK, "a zip without an end");

    t_add(T_B(T_SAFE));
    t_fill(100000, 'x');
    t_add("PK\5\6\0\0\0\0\1\0\1\0\0\1\0\0\0\1\0\0\0\0", 22);
    t_fill(1000, 'x');
    t_is(T_ST, "what looks like the end of one, by chance");
}


/* a directory that is longer than what is looked at, cut within any entry */

static void
t_cut(void)
{
    size_t         i, len;
    ngx_uint_t     bits, looks, bad;

    static char    text[0x10000];
    const char    *names[64];

    memset(text, 'a', sizeof(text) - 1);

    /* (a line that does not end may be a pickle's) */

    names[0] = "a\n.txt";

    for (i = 1; i < 55; i++) {
        names[i] = text;
    }

    names[i++] = "m/data.pkl";
    names[i] = NULL;

    for (bad = 0, len = 1200; len < 1500; len++) {

        text[len] = '\0';
        t_zip(names, 0, 0);
        bits = t_look(&looks);
        bad += (bits != (T_ZIP|T_UNK));
        t_len = 0;
        text[len] = 'a';
    }

    t_ok(bad == 0, "a long directory, cut: %lu are known", (unsigned long) bad);

    /* in the name of its first entry; and a harmless one elsewhere */

    names[0] = text;
    names[1] = "m/data.pkl";
    names[2] = NULL;

    t_add("PK\1\2", 4);
    t_fill(24, 0);
    t_le(6, 2);
    t_fill(16, 0);
    t_add("a\n.txt", 6);
    t_zip(names, 0, 0);
    memset(t_file + t_len - 6, 0, 4);
    t_is(T_ZIP|T_UNK, "a directory cut in its first name, and another one");
}


static void
t_tars(void)
{
    ngx_uint_t  i;
    u_char      big[70000];

    static const char  *late[] = { "m/version", "m/data.pkl", NULL };

    t_tar("a.json", T_B("{}"), '0');
    t_tar("m.safetensors", T_B(T_SAFE), '0');
    t_fill(1024, 0);
    t_is(T_ST, "a tar of safetensors");

    t_tar("m.safetensors", T_B(T_SAFE), '0');
    t_tar("dir/", "", 0, '5');
    t_tar("dir/README.md", T_B(T_OS), '0');
    t_fill(1024, 0);
    t_is(T_ST|T_PKL, "a tar with a pickle by another name");

    t_tar("m.safetensors", T_B(T_SAFE), '0');
    t_tar("m.pt", T_B(T_SAFE), '0');
    t_is(T_ST|T_PKL, "a tar with a name, without an end");

    t_tar("m.safetensors", T_B(T_SAFE), '0');
    t_tar("m.bin", T_B("x"), '0');
    t_is(T_ST|T_UNK, "a tar with weights of no known format");

    memset(big, 'x', sizeof(big));
    memcpy(big, T_SAFE, sizeof(T_SAFE) - 1);
    t_len = 0;
    t_add(big, sizeof(big));
    t_zip(late, 0, 0);
    i = t_len;
    t_tar("m.safetensors", t_file, i, '0');
    memmove(t_file, t_file + i, t_len - i);
    t_len -= i;
    t_fill(1024, 0);
    t_is(T_ST|T_PKL, "a tar with a polyglot");

    t_tar("a", big, 600, '0');
    t_len -= 512;
    t_is(T_UNK, "a tar that is cut");

    t_tar("x", T_B("20 path=some/name.x\n"), 'x');
    t_tar("a", T_B("x"), '0');
    t_is(0, "a tar with an extended header");

    t_tar("x", T_B("12 size=512\n"), 'x');
    t_tar("a", "", 0, '0');
    t_add(T_B(T_OS));
    t_fill(512 - sizeof(T_OS) + 1, 0);
    t_is(T_PKL, "and with a size in it");

    t_tar("x", T_B("99 size=512\n"), 'x');
    t_is(T_UNK, "one that is malformed");

    t_tar("a", T_B("x"), 'S');
    t_is(T_UNK, "a sparse file");

    for (i = 0; i < 70; i++) {
        t_tar("a", T_B("x"), '0');
    }

    t_is(T_UNK, "a tar of too many files");

    t_tar("a", T_B(T_SAFE), '0');
    i = t_len;
    t_tar("b.tar", t_file, i, '0');
    memmove(t_file, t_file + i, t_len - i);
    t_len -= i;
    t_is(T_UNK, "a tar in a tar");
}


int
main(void)
{
    ngx_str_t   s;
    ngx_uint_t  i, bits, zip, tar, weight;

    for (i = 0; i < sizeof(t_heads) / sizeof(t_heads[0]); i++) {

        s = tap_copy(t_heads[i].bytes, t_heads[i].len);
        bits = ngx_oci_format_head(s.data, s.len, t_heads[i].size
                                                  ? t_heads[i].size : s.len,
                                   &zip, &tar);
        t_ok(bits == t_heads[i].bits && !zip && !tar, "%s: 0x%lx",
             t_heads[i].name, (unsigned long) bits);
        free(s.data);
    }

    for (i = 0; i < sizeof(t_names) / sizeof(t_names[0]); i++) {
        weight = 0;
        bits = ngx_oci_format_of_name(t_names[i].name, &weight);
        t_ok(bits == t_names[i].bits && weight == t_names[i].weight,
             "\"%s\"", t_names[i].name);
    }

    for (i = 0; i < sizeof(t_types) / sizeof(t_types[0]); i++) {
        weight = 0;
        bits = ngx_oci_format_of_type(t_types[i].type, &weight);
        t_ok(bits == t_types[i].bits && weight == t_types[i].weight,
             "\"%s\"", t_types[i].type);
    }

    t_fill(2048, 'u');
    t_add(T_B("\x89HDF\r\n\x1a\n"));
    t_is(NGX_OCI_FORMAT_HDF5, "HDF5 behind a block of its user's");

    t_fill(70000, 'N');
    t_is(T_PKL, "nothing but opcodes");

    t_zips();
    t_cut();
    t_tars();

    /* what is allowed */

    t_ok(ngx_oci_format_refused(T_ST, T_ST, 0, 0) == 0
         && ngx_oci_format_refused(T_ST|T_PKL, T_ST, 0, 0) == T_PKL
         && ngx_oci_format_refused(T_UNK, T_ST, 0, 0) == T_UNK
         && ngx_oci_format_refused(T_UNK, T_ST, 0, 1) == 0
         && ngx_oci_format_refused(0, T_ST, 0, 0) == 0, "allowed ones");
    t_ok(ngx_oci_format_refused(T_ST, 0, T_PKL, 0) == 0
         && ngx_oci_format_refused(T_ST|T_PKL, 0, T_PKL, 0) == T_PKL
         && ngx_oci_format_refused(T_UNK, 0, T_PKL, 1) == 0, "refused ones");

    return tap_done();
}
