
/*
 * Copyright (C) The nginx-oci authors
 *
 * The policy document's rules of projects, and what is in quarantine.
 */


#include "ngx_oci_rules_manifest.h"
#include "tap.h"

#include <stdarg.h>


#define T_R(rules)  "{\"version\":1,\"projects\":{\"p\":{\"rules\":" rules "}}}"
#define T_Q(what)   "{\"version\":1,\"quarantine\":" what "}"
#define T_D256      "sha256:0123456789abcdef0123456789abcdef"                 \
                    "0123456789abcdef0123456789abcdef"
#define T_D512      "sha512:0123456789abcdef0123456789abcdef"                 \
                    "0123456789abcdef0123456789abcdef"                        \
                    "0123456789abcdef0123456789abcdef"                        \
                    "0123456789abcdef0123456789abcdef"
#define T_PEM(x)    "-----BEGIN PUBLIC KEY-----\\n" x                         \
                    "\\n-----END PUBLIC KEY-----\\n"
#define T_P256      T_PEM("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEH2ALjejlJ4Ruu8"\
                          "O4OHq3foskz9A8\\n73f25Mf2pUPuog9QvGWIGkZBqGm5ZdtRB"\
                          "sdZ6bv5asN3Sd5pmevhV7f3sw==")
#define T_P384      T_PEM("MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEYE10LBesh5XOOPl3jR"\
                          "uDCy9/z+iAX+fS\\nE+9D6F/o0uyc6+8IH7XstoDDSwFxKzpUm"\
                          "29y1YqFJ/KL8tLtd3VlOFbkS5zlHwxk\\nj7weXeyxvAx5fdst"\
                          "VgDqu6MIDawl98bI")
#define T_ED25519   T_PEM("MCowBQYDK2VwAyEABeux8VloXrB+4IfFb51tJ5DTwMIBkJBKUPN"\
                          "lc5ME4xg=")
#define T_RSA1024   T_PEM("MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDGQwO79zLuXq"\
                          "NGGPbMtsVtrzHZ\\nmZLqHFKeuEc5W0Hfai1WWfqreaQuZ/FzO"\
                          "bYEraND7lgTvp5FHZiJBM9Qtyw5hwf1\\nKoTOTrvbIBzS/pg5"\
                          "iJUCjeU9liJO+i/VuUcSXXBky80rgSbEl2nTcbk8t2G80KRE\\n"\
                          "p2Kqj2kPKwFnvYZBrwIDAQAB")


/* what is wrong, where; NULL: nothing */

static struct {
    const char  *json;
    const char  *error;
} t_docs[] = {
    { T_Q("{}"), NULL },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"malware\"}}"), NULL },
    { T_Q("{\"" T_D512 "\":{\"reason\":\"x\",\"since\":1}}"), NULL },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"x\",\"since\":"
          "\"2026-01-31T00:00:00Z\"}}"), NULL },
    { T_Q("[]"), "$.quarantine: not an object" },
    { T_Q("{\"latest\":{\"reason\":\"x\"}}"),
      "$.quarantine.latest: not a digest" },
    { T_Q("{\"md5:00\":{\"reason\":\"x\"}}"), "not a digest of sha256" },
    { T_Q("{\"sha256:00\":{\"reason\":\"x\"}}"), "not a digest of sha256" },
    { T_Q("{\"" T_D256 "\":{}}"), "0123456789abcdef.reason: a text is" },
    { T_Q("{\"" T_D256 "\":[]}"), ": not an object" },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"\"}}"),
      ".reason: a text has 1 to 255" },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"a\\nb\"}}"),
      ".reason: a text has no control" },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"x\",\"since\":\"now\"}}"),
      ".since: neither seconds" },
    { T_Q("{\"" T_D256 "\":{\"reason\":\"x\",\"by\":\"me\"}}"),
      ".by: unknown member" },

    { T_R("{}"), NULL },
    { T_R("[]"), "$.projects.p.rules: not an object" },
    { T_R("{\"format\":{}}"), "$.projects.p.rules.format: unknown member" },

    { T_R("{\"media_types\":{\"allow\":[\"application/*\"]}}"), NULL },
    { T_R("{\"media_types\":{\"refuse\":[\"*.tar+gzip\"],\"dry_run\":true}}"),
      NULL },
    { T_R("{\"media_types\":{}}"),
      "$.projects.p.rules.media_types: neither \"allow\" nor" },
    { T_R("{\"media_types\":{\"allow\":[]}}"),
      "$.projects.p.rules.media_types.allow: not an array of 1 to 64" },
    { T_R("{\"media_types\":{\"allow\":[\"a\",1]}}"),
      "$.projects.p.rules.media_types.allow[1]: not a string" },
    { T_R("{\"media_types\":{\"allow\":[\"\"]}}"),
      "$.projects.p.rules.media_types.allow[0]: a text has 1 to 255" },
    { T_R("{\"media_types\":{\"deny\":[\"a\"]}}"),
      "$.projects.p.rules.media_types.deny: unknown member" },
    { T_R("{\"artifact_types\":{\"allow\":[\"a\"],\"dry_run\":1}}"),
      "$.projects.p.rules.artifact_types.dry_run: neither true nor" },

    { T_R("{\"formats\":{\"allow\":[\"safetensors\",\"gguf\"]}}"), NULL },
    { T_R("{\"formats\":{\"refuse\":[\"pickle\"],\"unknown\":\"allow\"}}"),
      NULL },
    { T_R("{\"formats\":{\"allow\":[\"npz\"],\"refuse\":[\"pickle\"]}}"),
      NULL },
    { T_R("{\"formats\":{}}"),
      "$.projects.p.rules.formats: neither \"allow\" nor" },
    { T_R("{\"formats\":{\"allow\":[]}}"),
      "$.projects.p.rules.formats.allow: not an array of formats" },
    { T_R("{\"formats\":{\"allow\":[\"safetensor\"]}}"),
      "$.projects.p.rules.formats.allow[0]: none of safetensors" },
    { T_R("{\"formats\":{\"allow\":[\"gguf\"],\"refuse\":[\"gguf\"]}}"),
      "$.projects.p.rules.formats: \"gguf\" is allowed and refused" },
    { T_R("{\"formats\":{\"allow\":[\"gguf\"],\"unknown\":true}}"),
      "$.projects.p.rules.formats.unknown: neither \"allow\" nor" },

    { T_R("{\"signature\":{\"keys\":[\"" T_P256 "\",\"" T_ED25519 "\"]}}"),
      NULL },
    { T_R("{\"signature\":{}}"),
      "$.projects.p.rules.signature.keys: an array of 1 to 16" },
    { T_R("{\"signature\":{\"keys\":[\"x\"]}}"),
      "$.projects.p.rules.signature.keys[0]: the key does not begin" },
    { T_R("{\"signature\":{\"keys\":[\"" T_P256 T_P256 "\"]}}"),
      "$.projects.p.rules.signature.keys[0]: there has to be one key" },
    { T_R("{\"signature\":{\"keys\":[\"" T_P384 "\"]}}"),
      "$.projects.p.rules.signature.keys[0]: the key's curve is not" },
    { T_R("{\"signature\":{\"keys\":[\"" T_P256 "\",\"" T_RSA1024 "\"]}}"),
      "$.projects.p.rules.signature.keys[1]: the key has not 2048" },

    { T_R("{\"immutable\":{\"tags\":[\"v*\",\"Release-1\"]}}"), NULL },
    { T_R("{\"immutable\":{}}"),
      "$.projects.p.rules.immutable.tags: an array of patterns" },
    { T_R("{\"immutable\":{\"tags\":[\"v1/x\"]}}"),
      "$.projects.p.rules.immutable.tags[0]: a pattern of tags is made" },

    { T_R("{\"exempt\":{\"repositories\":[\"p/scratch/**\"],"
          "\"digests\":[\"" T_D256 "\"]}}"), NULL },
    { T_R("{\"exempt\":{\"repositories\":[\"**/x\"]}}"),
      "$.projects.p.rules.exempt.repositories[0]: \"**\" is the last" },
    { T_R("{\"exempt\":{\"digests\":[\"latest\"]}}"),
      "$.projects.p.rules.exempt.digests[0]: not a digest" },
    { T_R("{\"exempt\":{\"subjects\":[\"x\"]}}"),
      "$.projects.p.rules.exempt.subjects: unknown member" }
};


static struct {
    const char  *pattern;
    const char  *text;
    ngx_uint_t   nocase;
    ngx_uint_t   match;
} t_globs[] = {
    { "a/b", "a/b", 0, 1 },
    { "a/b", "A/B", 0, 0 },
    { "a/b", "A/B", 1, 1 },
    { "application/*", "application/vnd.x.v1+json", 1, 1 },
    { "*", "", 0, 1 },
    { "", "", 0, 1 },
    { "", "a", 0, 0 },
    { "*+json", "a/b+json", 1, 1 },
    { "*+json", "a/b+json; x", 1, 0 },
    { "v*.*.*", "v1.2.3", 0, 1 },
    { "v*.*.*", "v1.2", 0, 0 },
    { "a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0, 0 }
};


/* manifests, by the rules below, and which of these they don't keep */

#define T_DG    "\"digest\":\"" T_D256 "\",\"size\":2"
#define T_L(x)  "{\"artifactType\":\"y/a\",\"layers\":[{" x "}]}"
#define T_ALL   (NGX_OCI_RULE_MEDIA|NGX_OCI_RULE_ARTIFACT|NGX_OCI_RULE_FORMAT)
#define T_SIG   "application/vnd.dev.cosign.simplesigning.v1+json"

static struct {
    const char  *json;
    const char  *type;
    ngx_uint_t   broken;
    ngx_uint_t   signature;
    ngx_uint_t   named;
} t_manifests[] = {
    { T_L("\"mediaType\":\"x/a\"," T_DG), "x/a", 0, 0, 1 },
    { T_L("\"mediaType\":\"X/A\"," T_DG), "x/a", 0, 0, 1 },
    { T_L("\"mediaType\":\"x/a\"," T_DG), "x/z", NGX_OCI_RULE_MEDIA, 0, 1 },
    { T_L("\"mediaType\":\"x/bad\"," T_DG), "x/a", NGX_OCI_RULE_MEDIA, 0,
      1 },
    { "{\"layers\":[]}", "x/a", NGX_OCI_RULE_ARTIFACT, 0, 0 },
    { "{\"config\":{\"mediaType\":\"y/a\"}}", "x/a", NGX_OCI_RULE_MEDIA, 0,
      0 },
    { "{\"artifactType\":\"\",\"config\":{\"mediaType\":\"x/b\"}}", "x/a",
      NGX_OCI_RULE_ARTIFACT, 0, 0 },
    { "{\"manifests\":[]}", "x/a", 0, 0, 0 },
    { "{\"manifests\":[],\"artifactType\":\"z\"}", "x/a",
      NGX_OCI_RULE_ARTIFACT, 0, 0 },
    { "{\"manifests\":[],\"layers\":[]}", "x/a", T_ALL, 0, 0 },
    { "{\"fsLayers\":[{\"blobSum\":\"" T_D256 "\"}],"
      "\"artifactType\":\"y/a\"}", "x/a", 0, 0, 1 },
    { T_L("\"annotations\":{\"org.cncf.model.filepath\":\"a.pt\"}"), "x/a",
      NGX_OCI_RULE_FORMAT, 0, 0 },
    { T_L("\"annotations\":{\"org.cncf.model.filepath\":\"a.npz\"}"), "x/a",
      0, 0, 0 },
    { T_L("\"urls\":[]"), "x/a", 0, 0, 0 },
    { T_L("\"urls\":[\"http://x\"]"), "x/a", NGX_OCI_RULE_FORMAT, 0, 0 },
    { T_L("\"data\":\"e30=\""), "x/a", 0, 0, 0 },
    { T_L("\"data\":{}"), "x/a", NGX_OCI_RULE_FORMAT, 0, 0 },
    { T_L("\"DATA\":\"e30=\""), "x/a", T_ALL, 0, 0 },
    { "{\"artifacttype\":\"y/a\",\"artifactType\":\"y/a\"}", "x/a", T_ALL,
      0, 0 },
    { "{\"mediaType\":\"x/b\",\"artifactType\":\"y/a\"}", "x/a", T_ALL, 0,
      0 },
    { "{\"artifactType\":\"y/a\",\"layers\":{}}", "x/a", T_ALL, 0, 0 },
    { "{\"artifactType\":\"y/a\",\"layers\":null}", "x/a", 0, 0, 0 },
    { "{\"artifactType\":\"y/a\",\"layers\":[1]}", "x/a", T_ALL, 0, 0 },
    { "{\"a\":1,\"a\":2,\"artifactType\":\"y/a\"}", "x/a", T_ALL, 0, 0 },
    { "[]", "x/a", T_ALL, 0, 0 },
    { "", "x/a", T_ALL, 0, 0 },
    { "{\"layers\":[{\"mediaType\":\"" T_SIG "\"," T_DG "}]}", "z", 0, 1, 1 },
    { "{\"layers\":[{\"mediaType\":\"" T_SIG "\",\"size\":2000000}]}", "z",
      NGX_OCI_RULE_MEDIA|NGX_OCI_RULE_ARTIFACT, 0, 0 },
    { "{\"layers\":[{\"mediaType\":\"" T_SIG "\",\"size\":2},{}]}", "z",
      NGX_OCI_RULE_MEDIA|NGX_OCI_RULE_ARTIFACT, 0, 0 },
    { "{\"manifests\":[{\"artifactType\":"
      "\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"size\":9}]}", "z", 0,
      1, 0 }
};


static const char  t_doc[] =
    "{\"version\":1,\"projects\":{\"a\":{\"public\":true},"
    "\"llm\":{\"rules\":{"
    "\"media_types\":{\"allow\":[\"x/a\",\"x/b*\"],\"refuse\":[\"x/bad\"],"
    "\"dry_run\":true},"
    "\"artifact_types\":{\"allow\":[\"y/a\"]},"
    "\"formats\":{\"allow\":[\"safetensors\",\"npz\"],"
    "\"refuse\":[\"pickle\"]},"
    "\"signature\":{\"keys\":[\"" T_P256 "\",\"" T_ED25519 "\"]},"
    "\"immutable\":{\"tags\":[\"v*\"]},"
    "\"exempt\":{\"repositories\":[\"llm/scratch/**\"],"
    "\"digests\":[\"" T_D256 "\"]}}},"
    "\"open\":{\"rules\":{\"formats\":{\"refuse\":[\"pickle\"],"
    "\"unknown\":\"allow\"}}}},"
    "\"quarantine\":{\"" T_D256 "\":{\"reason\":\"malware\",\"since\":7},"
    "\"" T_D512 "\":{\"reason\":\"a leak\"}}}";


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


static ngx_str_t
t_str(const char *text)
{
    ngx_str_t  s;

    s.data = (u_char *) text;
    s.len = strlen(text);

    return s;
}


static void
t_errors(void)
{
    ngx_uint_t               i;
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_error_t   error;

    for (i = 0; i < sizeof(t_docs) / sizeof(t_docs[0]); i++) {

        doc = ngx_oci_policy_compile(t_docs[i].json, strlen(t_docs[i].json),
                                     &error);

        if (t_docs[i].error == NULL) {
            t_ok(doc != NULL, "%s: %s", t_docs[i].json, error.text);

        } else {
            t_ok(doc == NULL && strstr(error.text, t_docs[i].error),
                 "%s: \"%s\"", t_docs[i].json, error.text);
        }

        free(doc);
    }
}


static void
t_quarantine(ngx_oci_rbac_t *doc)
{
    char                         text[] = T_D256;
    ngx_oci_digest_t             digest;
    ngx_oci_rules_quarantine_t  *q;

    tap_ok(doc->nquarantine == 2, "two digests are in quarantine");

    (void) ngx_oci_digest_parse(&digest, (u_char *) text, strlen(text));
    q = ngx_oci_rules_quarantined(doc, &digest);

    tap_ok(q && q->since == 7 && q->reason_len == 7
           && memcmp(ngx_oci_rbac_at(doc, q->reason), "malware", 7) == 0,
           "a digest, with its reason");

    text[20] ^= 1;
    (void) ngx_oci_digest_parse(&digest, (u_char *) text, strlen(text));
    tap_ok(ngx_oci_rules_quarantined(doc, &digest) == NULL, "another one");

    (void) ngx_oci_digest_parse(&digest, (u_char *) T_D512, strlen(T_D512));
    q = ngx_oci_rules_quarantined(doc, &digest);
    tap_ok(q && q->since == 0, "one of sha512");

    digest.alg = NGX_OCI_DIGEST_NONE;
    tap_ok(ngx_oci_rules_quarantined(doc, &digest) == NULL, "none");
}


static void
t_rules(ngx_oci_rbac_t *doc)
{
    u_char           *copy;
    ngx_str_t         s;
    ngx_oci_rules_t  *rules, *open;

    s = t_str("a/b");
    tap_ok(ngx_oci_rules_find(doc, &s) == NULL, "a project without rules");
    s = t_str("x/b");
    tap_ok(ngx_oci_rules_find(doc, &s) == NULL, "an unknown project");
    s = t_str("open");
    open = ngx_oci_rules_find(doc, &s);
    s = t_str("llm/x/y");
    rules = ngx_oci_rules_find(doc, &s);
    tap_ok(rules && open, "projects with rules");

    if (rules == NULL || open == NULL) {
        return;
    }

    tap_ok(memcmp(rules->id, open->id, NGX_OCI_RULES_ID) != 0,
           "different rules have different ids");

    tap_ok(open->rules == NGX_OCI_RULE_FORMAT && open->opaque
           && open->allow == 0 && open->refuse == NGX_OCI_FORMAT_UNSAFE,
           "\"pickle\" is all that may carry one");

    /* they are of one piece */

    copy = malloc(rules->size);
    memcpy(copy, rules, rules->size);
    rules = (ngx_oci_rules_t *) copy;

    tap_ok(rules->rules == 0x1f && rules->dry_run == NGX_OCI_RULE_MEDIA
           && !rules->opaque, "which rules there are");
    tap_ok(rules->allow == (NGX_OCI_FORMAT_SAFETENSORS|NGX_OCI_FORMAT_NPZ)
           && rules->refuse == (NGX_OCI_FORMAT_UNSAFE & ~NGX_OCI_FORMAT_NPZ),
           "formats, and one that is allowed by name");

    s = t_str("x/bc");
    tap_ok(ngx_oci_rules_match(rules, &rules->media_allow, &s, 1),
           "a media type");
    s = t_str("x/c");
    tap_ok(!ngx_oci_rules_match(rules, &rules->media_allow, &s, 1),
           "another media type");
    tap_ok(ngx_oci_rules_element(rules, &rules->media_allow, 1, &s) == NGX_OK
           && tap_eq(&s, "x/b*")
           && ngx_oci_rules_element(rules, &rules->media_allow, 2, &s)
              == NGX_DECLINED, "elements of a list");
    s = t_str("llm/scratch/x");
    tap_ok(ngx_oci_rules_match_repository(rules, &rules->exempt, &s),
           "an exempt repository");
    s = t_str("llm/scratch");
    tap_ok(!ngx_oci_rules_match_repository(rules, &rules->exempt, &s),
           "no exempt repository");
    s = t_str(T_D256);
    tap_ok(ngx_oci_rules_match(rules, &rules->exempt_digests, &s, 0),
           "an exempt digest");
    tap_ok(ngx_oci_rules_element(rules, &rules->keys, 0, &s) == NGX_OK
           && s.len == 91 && s.data[0] == 0x30
           && ngx_oci_rules_element(rules, &rules->keys, 1, &s) == NGX_OK
           && s.len == 44 && rules->keys.n == 2, "keys in DER");

    free(copy);
}


static void
t_judge(ngx_oci_rbac_t *doc)
{
    char                      *text;
    size_t                     len;
    ngx_str_t                  s, type;
    ngx_uint_t                 i;
    ngx_oci_rules_t           *rules;
    ngx_oci_rules_verdict_t    v;

    s = t_str("llm/x");
    rules = ngx_oci_rules_find(doc, &s);

    for (i = 0; i < sizeof(t_manifests) / sizeof(t_manifests[0]); i++) {

        s = tap_copy(t_manifests[i].json, strlen(t_manifests[i].json));
        type = t_str(t_manifests[i].type);

        /* that of signatures is not judged here */

        t_ok(ngx_oci_rules_manifest(rules, &type, s.data, s.len, &v) == NGX_OK
             && (v.broken & T_ALL) == t_manifests[i].broken
             && v.signature == t_manifests[i].signature
             && v.nnamed == t_manifests[i].named,
             "%s: 0x%lx, %lu, %lu", t_manifests[i].json,
             (unsigned long) v.broken, (unsigned long) v.signature,
             (unsigned long) v.nnamed);

        ngx_oci_rules_verdict_free(&v);
        free(s.data);
    }

    /* a tree of these would take hundreds of MB */

    len = NGX_OCI_JSON_VALUES * 3 + 16;
    text = malloc(len);
    memset(text, '[', len);

    type = t_str("x/a");
    t_ok(ngx_oci_rules_manifest(rules, &type, (u_char *) text, len, &v)
         == NGX_OK && (v.broken & T_ALL) == T_ALL, "too many values");

    free(text);
}


int
main(void)
{
    ngx_uint_t               i;
    ngx_str_t                pattern, text;
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_error_t   error;

    t_errors();

    for (i = 0; i < sizeof(t_globs) / sizeof(t_globs[0]); i++) {
        pattern = t_str(t_globs[i].pattern);
        text = t_str(t_globs[i].text);

        t_ok(ngx_oci_rules_glob(&pattern, &text, t_globs[i].nocase)
             == t_globs[i].match, "\"%s\" and \"%s\"", t_globs[i].pattern,
             t_globs[i].text);
    }

    doc = ngx_oci_policy_compile(t_doc, sizeof(t_doc) - 1, &error);
    t_ok(doc != NULL, "a document: %s", error.text);

    if (doc) {
        t_quarantine(doc);
        t_rules(doc);
        t_judge(doc);
        free(doc);
    }

    return tap_done();
}
