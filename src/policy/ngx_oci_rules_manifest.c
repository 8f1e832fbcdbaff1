
/*
 * Copyright (C) The nginx-oci authors
 *
 * A manifest, judged by its project's rules.  It is read as strictly as
 * possible: what one client may read in another way than this does is refused
 * by whatever rule would have needed it.
 */


#include "ngx_oci_rules_manifest.h"

#include <jansson.h>
#include <stdarg.h>
#include <strings.h>


#define NGX_OCI_RULES_SIGNATURE_MAX  1048576    /* bytes of a signature */

/* what cosign's own lists of signatures say, where a registry keeps none */
#define NGX_OCI_RULES_EMPTY  "application/vnd.oci.empty.v1+json"
#define NGX_OCI_RULES_DATA_MAX       64         /* within a descriptor */


/* Owner: ngx_oci_rules_manifest() */

typedef struct {
    ngx_oci_rules_t          *rules;
    ngx_oci_rules_verdict_t  *verdict;
    size_t                    size;         /* of verdict->named */
} ngx_oci_rules_walk_t;


static ngx_int_t ngx_oci_rules_root(ngx_oci_rules_walk_t *w, json_t *root,
    ngx_str_t *media_type);
static void ngx_oci_rules_strict(ngx_oci_rules_walk_t *w, json_t *object,
    const char **names);
static void ngx_oci_rules_artifact(ngx_oci_rules_walk_t *w, json_t *root);
static ngx_int_t ngx_oci_rules_list(ngx_oci_rules_walk_t *w, json_t *list,
    ngx_uint_t layers);
static ngx_int_t ngx_oci_rules_descriptor(ngx_oci_rules_walk_t *w,
    json_t *value, ngx_uint_t layer);
static ngx_uint_t ngx_oci_rules_layer(ngx_oci_rules_walk_t *w, json_t *value);
static ngx_uint_t ngx_oci_rules_names(ngx_oci_rules_walk_t *w,
    json_t *annotations, ngx_uint_t *weight);
static ngx_int_t ngx_oci_rules_name_it(ngx_oci_rules_walk_t *w,
    json_t *digest, ngx_uint_t weight);
static void ngx_oci_rules_media(ngx_oci_rules_walk_t *w, const char *type);
static void ngx_oci_rules_format(ngx_oci_rules_walk_t *w, ngx_uint_t bits,
    const char *what);
static ngx_uint_t ngx_oci_rules_signed(json_t *root);
static ngx_uint_t ngx_oci_rules_signs(const char *type);
static void ngx_oci_rules_break(ngx_oci_rules_walk_t *w, ngx_uint_t rules,
    const char *fmt, ...)
    __attribute__ ((format (printf, 3, 4)));
static const char *ngx_oci_rules_string(json_t *object, const char *name);


static const char  *ngx_oci_rules_root_names[] = {
    "schemaVersion", "mediaType", "artifactType", "config", "layers",
    "manifests", "subject", "annotations", "blobs", "fsLayers", NULL
};

static const char  *ngx_oci_rules_descriptor_names[] = {
    "mediaType", "digest", "size", "urls", "annotations", "data",
    "artifactType", "platform", NULL
};


ngx_int_t
ngx_oci_rules_manifest(ngx_oci_rules_t *rules, ngx_str_t *media_type,
    u_char *body, size_t size, ngx_oci_rules_verdict_t *verdict)
{
    json_t                *root;
    ngx_int_t              rc;
    json_error_t           error;
    ngx_oci_rules_walk_t   w;

    memset(verdict, 0, sizeof(ngx_oci_rules_verdict_t));
    memset(&w, 0, sizeof(ngx_oci_rules_walk_t));

    w.rules = rules;
    w.verdict = verdict;

    /* a tree takes a hundred times the text: its size is looked at first */

    if (ngx_oci_json_values(body, size) > NGX_OCI_JSON_VALUES) {
        ngx_oci_rules_break(&w, NGX_OCI_RULES_MANIFEST,
                            "the manifest has too many values");
        return NGX_OK;
    }

    root = json_loadb((char *) body, size, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL && json_error_code(&error) == json_error_out_of_memory) {
        return NGX_ERROR;
    }

    if (!json_is_object(root)) {
        ngx_oci_rules_break(&w, NGX_OCI_RULES_MANIFEST,
                            "the manifest is no JSON object that all read "
                            "alike");
        json_decref(root);
        return NGX_OK;
    }

    rc = ngx_oci_rules_root(&w, root, media_type);

    json_decref(root);

    if (rc != NGX_OK) {
        ngx_oci_rules_verdict_free(verdict);
    }

    return rc;
}


void
ngx_oci_rules_verdict_free(ngx_oci_rules_verdict_t *verdict)
{
    free(verdict->named);

    verdict->named = NULL;
    verdict->nnamed = 0;
}


ngx_uint_t
ngx_oci_rules_place(ngx_uint_t rule)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_RULES_N - 1 && rule > 1; i++) {
        rule >>= 1;
    }

    return i;
}


static ngx_int_t
ngx_oci_rules_root(ngx_oci_rules_walk_t *w, json_t *root,
    ngx_str_t *media_type)
{
    char         type[NGX_OCI_RULES_TEXT + 1];
    ngx_uint_t   n;
    json_t      *config, *layers, *manifests, *blobs, *old;
    const char  *own;

    ngx_oci_rules_strict(w, root, ngx_oci_rules_root_names);

    w->verdict->signature = ngx_oci_rules_signed(root);

    config = json_object_get(root, "config");
    layers = json_object_get(root, "layers");
    manifests = json_object_get(root, "manifests");
    blobs = json_object_get(root, "blobs");
    old = json_object_get(root, "fsLayers");

    w->verdict->index = (manifests != NULL);

    /* what it is depends on who reads it */

    if (manifests && (layers || config || blobs || old)) {
        ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                            "the manifest is an index as well");
    }

    n = ngx_min(media_type->len, NGX_OCI_RULES_TEXT);
    memcpy(type, media_type->data, n);
    type[n] = '\0';

    own = ngx_oci_rules_string(root, "mediaType");

    if (own && strcasecmp(own, type) != 0) {
        ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                            "the manifest's media type is not the one that "
                            "the registry names");
    }

    ngx_oci_rules_media(w, type);
    ngx_oci_rules_artifact(w, root);

    if (config && ngx_oci_rules_descriptor(w, config, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_oci_rules_list(w, layers, 1) != NGX_OK
        || ngx_oci_rules_list(w, blobs, 1) != NGX_OK
        || ngx_oci_rules_list(w, old, 1) != NGX_OK
        || ngx_oci_rules_list(w, manifests, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* many clients take names in any case, and then the last one counts */

static void
ngx_oci_rules_strict(ngx_oci_rules_walk_t *w, json_t *object,
    const char **names)
{
    json_t      *value;
    ngx_uint_t   i;
    const char  *key;

    json_object_foreach(object, key, value) {

        for (i = 0; names[i]; i++) {

            if (strcasecmp(names[i], key) == 0 && strcmp(names[i], key) != 0)
            {
                ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                                    "the manifest has \"%s\" in other "
                                    "letters", names[i]);
            }
        }
    }
}


/* an index without a type of its own is what its manifests are */

static void
ngx_oci_rules_artifact(ngx_oci_rules_walk_t *w, json_t *root)
{
    ngx_str_t         text;
    const char       *type;
    ngx_oci_rules_t  *rules;

    rules = w->rules;

    if (!(rules->rules & NGX_OCI_RULE_ARTIFACT) || w->verdict->signature) {
        return;
    }

    type = ngx_oci_rules_string(root, "artifactType");

    if ((type == NULL || *type == '\0') && w->verdict->index) {
        return;
    }

    if (type == NULL || *type == '\0') {
        type = ngx_oci_rules_string(json_object_get(root, "config"),
                                    "mediaType");
    }

    type = type ? type : "";
    text.data = (u_char *) type;
    text.len = strlen(type);

    if (ngx_oci_rules_match(rules, &rules->artifact_refuse, &text, 1)
        || (rules->artifact_allow.n
            && !ngx_oci_rules_match(rules, &rules->artifact_allow, &text, 1)))
    {
        ngx_oci_rules_break(w, NGX_OCI_RULE_ARTIFACT,
                            "artifact type \"%.128s\" is not allowed", type);
    }
}


static ngx_int_t
ngx_oci_rules_list(ngx_oci_rules_walk_t *w, json_t *list, ngx_uint_t layers)
{
    size_t   i;
    json_t  *value;

    if (list == NULL || json_is_null(list)) {
        return NGX_OK;
    }

    if (!json_is_array(list)) {
        ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                            "the manifest is malformed");
        return NGX_OK;
    }

    json_array_foreach(list, i, value) {
        if (ngx_oci_rules_descriptor(w, value, layers) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_rules_descriptor(ngx_oci_rules_walk_t *w, json_t *value,
    ngx_uint_t layer)
{
    json_t      *digest;
    ngx_uint_t   weight;
    const char  *type;

    if (!json_is_object(value)) {
        ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                            "the manifest is malformed");
        return NGX_OK;
    }

    ngx_oci_rules_strict(w, value, ngx_oci_rules_descriptor_names);

    type = ngx_oci_rules_string(value, "mediaType");
    weight = 0;

    /* (docker's first form has no types) */

    if (type) {
        ngx_oci_rules_media(w, type);
    }

    if (layer) {
        weight = ngx_oci_rules_layer(w, value);
    }

    digest = json_object_get(value, "digest");

    if (digest == NULL) {
        digest = json_object_get(value, "blobSum");
    }

    return ngx_oci_rules_name_it(w, digest, weight);
}


/* what a layer is said to be; returns whether these are weights */

static ngx_uint_t
ngx_oci_rules_layer(ngx_oci_rules_walk_t *w, json_t *value)
{
    json_t      *urls, *data;
    ngx_uint_t   weight;
    const char  *type;

    weight = 0;
    type = ngx_oci_rules_string(value, "mediaType");

    if (type) {
        ngx_oci_rules_format(w, ngx_oci_format_of_type(type, &weight), type);
    }

    (void) ngx_oci_rules_names(w, json_object_get(value, "annotations"),
                               &weight);

    /* bytes that don't come by here can't be looked at */

    urls = json_object_get(value, "urls");
    data = json_object_get(value, "data");

    if ((json_is_array(urls) && json_array_size(urls))
        || (urls && !json_is_array(urls) && !json_is_null(urls)))
    {
        ngx_oci_rules_format(w, NGX_OCI_FORMAT_UNKNOWN,
                             "a layer that is elsewhere");
    }

    if (data && !json_is_null(data)
        && (!json_is_string(data)
            || json_string_length(data) > NGX_OCI_RULES_DATA_MAX))
    {
        ngx_oci_rules_format(w, NGX_OCI_FORMAT_UNKNOWN,
                             "a layer within the manifest");
    }

    return weight;
}


/* names of files: ModelPack's, also under its former name, and ORAS' */

static ngx_uint_t
ngx_oci_rules_names(ngx_oci_rules_walk_t *w, json_t *annotations,
    ngx_uint_t *weight)
{
    json_t       *meta, *member;
    ngx_uint_t    i;
    const char   *name, *text;

    static const char  *names[] = {
        "org.opencontainers.image.title", "org.cncf.model.filepath",
        "org.cnai.model.filepath", NULL
    };

    static const char  *metas[] = {
        "org.cncf.model.file.metadata+json",
        "org.cnai.model.file.metadata+json", NULL
    };

    for (i = 0; names[i]; i++) {

        name = ngx_oci_rules_string(annotations, names[i]);

        if (name) {
            ngx_oci_rules_format(w, ngx_oci_format_of_name(name, weight),
                                 name);
        }
    }

    for (i = 0; metas[i]; i++) {

        text = ngx_oci_rules_string(annotations, metas[i]);

        if (text == NULL || strlen(text) > 4096) {
            continue;
        }

        meta = json_loads(text, 0, NULL);
        member = json_object_get(meta, "name");

        if (json_is_string(member)) {
            name = json_string_value(member);
            ngx_oci_rules_format(w, ngx_oci_format_of_name(name, weight),
                                 name);
        }

        json_decref(meta);
    }

    return *weight;
}


/* blobs that are named are known by it */

static ngx_int_t
ngx_oci_rules_name_it(ngx_oci_rules_walk_t *w, json_t *digest,
    ngx_uint_t weight)
{
    size_t                    size;
    ngx_oci_digest_t          d;
    ngx_oci_rules_named_t    *named;
    ngx_oci_rules_verdict_t  *v;

    v = w->verdict;

    if (!json_is_string(digest)
        || ngx_oci_digest_parse(&d, (u_char *) json_string_value(digest),
                                json_string_length(digest))
           != NGX_OK)
    {
        /* nobody gets it from here */

        return NGX_OK;
    }

    if (v->nnamed == NGX_OCI_RULES_NAMED) {
        ngx_oci_rules_break(w, NGX_OCI_RULES_MANIFEST,
                            "the manifest names too many digests");
        return NGX_OK;
    }

    if (v->nnamed == w->size) {

        size = w->size ? 2 * w->size : 16;
        named = realloc(v->named, size * sizeof(ngx_oci_rules_named_t));

        if (named == NULL) {
            return NGX_ERROR;
        }

        v->named = named;
        w->size = size;
    }

    v->named[v->nnamed].digest = d;
    v->named[v->nnamed].weight = weight;
    v->nnamed++;

    return NGX_OK;
}


static void
ngx_oci_rules_media(ngx_oci_rules_walk_t *w, const char *type)
{
    ngx_str_t         text;
    ngx_oci_rules_t  *rules;

    rules = w->rules;

    if (!(rules->rules & NGX_OCI_RULE_MEDIA) || w->verdict->signature) {
        return;
    }

    text.data = (u_char *) type;
    text.len = strlen(type);

    if (ngx_oci_rules_match(rules, &rules->media_refuse, &text, 1)
        || (rules->media_allow.n
            && !ngx_oci_rules_match(rules, &rules->media_allow, &text, 1)))
    {
        ngx_oci_rules_break(w, NGX_OCI_RULE_MEDIA,
                            "media type \"%.128s\" is not allowed", type);
    }
}


static void
ngx_oci_rules_format(ngx_oci_rules_walk_t *w, ngx_uint_t bits,
    const char *what)
{
    ngx_uint_t  bad;

    if (!(w->rules->rules & NGX_OCI_RULE_FORMAT)) {
        return;
    }

    bad = ngx_oci_format_refused(bits, w->rules->allow, w->rules->refuse,
                                 w->rules->opaque);

    if (bad == 0) {
        return;
    }

    if (bad == NGX_OCI_FORMAT_UNKNOWN) {
        ngx_oci_rules_break(w, NGX_OCI_RULE_FORMAT,
                            "\"%.128s\" can't be looked into", what);
        return;
    }

    ngx_oci_rules_break(w, NGX_OCI_RULE_FORMAT,
                        "\"%.128s\" is %s, which is not allowed", what,
                        ngx_oci_format_name(bad));
}


/*
 * Signatures are made of small layers of their own types only, and lists of
 * them list nothing else.
 */

static ngx_uint_t
ngx_oci_rules_signed(json_t *root)
{
    size_t       i;
    json_t      *list, *value, *size;
    ngx_uint_t   index;
    const char  *type;

    list = json_object_get(root, "manifests");
    index = (list != NULL);

    if (!index) {
        list = json_object_get(root, "layers");
    }

    if (!json_is_array(list) || json_array_size(list) == 0
        || json_object_get(root, "blobs")
        || json_object_get(root, "fsLayers"))
    {
        return 0;
    }

    json_array_foreach(list, i, value) {

        type = ngx_oci_rules_string(value, index ? "artifactType"
                                                 : "mediaType");
        size = json_object_get(value, "size");

        if (type == NULL
            || !(ngx_oci_rules_signs(type)
                 || (index && strcmp(type, NGX_OCI_RULES_EMPTY) == 0))
            || !json_is_integer(size)
            || json_integer_value(size) > NGX_OCI_RULES_SIGNATURE_MAX)
        {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_oci_rules_signs(const char *type)
{
    ngx_uint_t  i;

    static const char  *types[] = {
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.cncf.notary.signature",
        "application/jose+json",
        "application/cose",
        NULL
    };

    for (i = 0; types[i]; i++) {
        if (strcasecmp(types[i], type) == 0) {
            return 1;
        }
    }

    return strncasecmp(type, "application/vnd.dev.sigstore.bundle",
                       sizeof("application/vnd.dev.sigstore.bundle") - 1)
           == 0;
}


/* the first reason stands */

static void
ngx_oci_rules_break(ngx_oci_rules_walk_t *w, ngx_uint_t rules,
    const char *fmt, ...)
{
    char        *p;
    va_list      args;
    ngx_uint_t   i;

    for (i = 0; i < NGX_OCI_RULES_N; i++) {

        if (!(rules & w->rules->rules & ((ngx_uint_t) 1 << i))
            || (w->verdict->broken & ((ngx_uint_t) 1 << i)))
        {
            continue;
        }

        w->verdict->broken |= (ngx_uint_t) 1 << i;

        va_start(args, fmt);
        (void) vsnprintf(w->verdict->why[i], NGX_OCI_RULES_WHY, fmt, args);
        va_end(args);

        for (p = w->verdict->why[i]; *p; p++) {
            if ((u_char) *p < 0x20 || (u_char) *p >= 0x7f) {
                *p = '?';
            }
        }
    }
}


static const char *
ngx_oci_rules_string(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}
