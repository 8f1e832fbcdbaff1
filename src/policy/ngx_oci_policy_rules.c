
/*
 * Copyright (C) The nginx-oci authors
 *
 * The policy document's rules of projects, and what is in quarantine.  Pure:
 * needs libc, jansson and OpenSSL only.
 */


#include "ngx_oci_policy_doc.h"
#include "ngx_oci_rules.h"
#include "ngx_oci_signature.h"

#include <openssl/sha.h>


#define NGX_OCI_DOC_PLACE      256      /* bytes of a JSON path */


/* what an element of a list has to be; NULL, or why it is none */
typedef const char *(*ngx_oci_doc_check_pt)(const char *p, size_t len);


static ngx_int_t ngx_oci_doc_quarantine(ngx_oci_doc_t *doc,
    json_t *quarantine);
static ngx_int_t ngx_oci_doc_quarantined(ngx_oci_doc_t *doc, const char *key,
    json_t *value, uint32_t place);
static ngx_int_t ngx_oci_doc_project(ngx_oci_doc_t *doc, const char *name,
    json_t *value, uint32_t *place);
static ngx_int_t ngx_oci_doc_types(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block, ngx_uint_t rule);
static ngx_int_t ngx_oci_doc_formats(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block);
static ngx_int_t ngx_oci_doc_format_list(ngx_oci_doc_t *doc,
    const char *place, const char *field, json_t *value, ngx_uint_t *bits);
static ngx_int_t ngx_oci_doc_immutable(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block);
static ngx_int_t ngx_oci_doc_exempt(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block);
static ngx_int_t ngx_oci_doc_signature(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block);
static ngx_int_t ngx_oci_doc_key(ngx_oci_doc_t *doc, json_t *value,
    const char **why);
static ngx_int_t ngx_oci_doc_dry_run(ngx_oci_doc_t *doc, const char *place,
    json_t *value, uint32_t block, ngx_uint_t rule);
static ngx_int_t ngx_oci_doc_list(ngx_oci_doc_t *doc, const char *place,
    const char *field, json_t *value, ngx_oci_doc_check_pt check,
    uint32_t block, size_t offset);
static uint32_t ngx_oci_doc_element(ngx_oci_doc_t *doc, const void *p,
    size_t len);
static const char *ngx_oci_doc_text_check(const char *p, size_t len);
static const char *ngx_oci_doc_tag_check(const char *p, size_t len);
static const char *ngx_oci_doc_digest_check(const char *p, size_t len);


ngx_int_t
ngx_oci_doc_artifacts(ngx_oci_doc_t *doc, json_t *projects,
    json_t *quarantine)
{
    size_t                    n;
    json_t                   *value;
    uint32_t                  table, mask, place, text, rules, *head;
    const char               *key;
    ngx_oci_rules_project_t  *project;

    if (ngx_oci_doc_quarantine(doc, quarantine) != NGX_OK) {
        return NGX_ERROR;
    }

    n = 0;

    json_object_foreach(projects, key, value) {
        n += (json_object_get(value, "rules") != NULL);
    }

    mask = ngx_oci_doc_mask(n);
    table = ngx_oci_doc_alloc(doc, ((size_t) mask + 1) * sizeof(uint32_t));

    if (table == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ngx_oci_doc_head(doc)->nprojects = (uint32_t) n;
    ngx_oci_doc_head(doc)->projects = table;
    ngx_oci_doc_head(doc)->projects_mask = mask;

    json_object_foreach(projects, key, value) {

        value = json_object_get(value, "rules");

        if (value == NULL) {
            continue;
        }

        if (ngx_oci_doc_project(doc, key, value, &rules) != NGX_OK) {
            return NGX_ERROR;
        }

        text = ngx_oci_doc_text(doc, key, strlen(key));
        place = ngx_oci_doc_alloc(doc, sizeof(ngx_oci_rules_project_t));

        if (text == 0 || place == 0) {
            return ngx_oci_doc_memory(doc);
        }

        project = ngx_oci_doc_at(doc, ngx_oci_rules_project_t, place);
        project->name = text;
        project->name_len = (uint32_t) strlen(key);
        project->rules = rules;

        head = ngx_oci_doc_at(doc, uint32_t, table)
               + (ngx_oci_rbac_hash(0, (u_char *) key, strlen(key)) & mask);
        project->next = *head;
        *head = place;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_quarantine(ngx_oci_doc_t *doc, json_t *quarantine)
{
    size_t                       n;
    json_t                      *value;
    uint32_t                     table, mask, place, *head;
    const char                  *key;
    ngx_oci_rules_quarantine_t  *q;

    if (quarantine && !json_is_object(quarantine)) {
        return ngx_oci_doc_error(doc, "$.quarantine: not an object");
    }

    n = json_object_size(quarantine);
    mask = ngx_oci_doc_mask(n);
    table = ngx_oci_doc_alloc(doc, ((size_t) mask + 1) * sizeof(uint32_t));

    if (table == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ngx_oci_doc_head(doc)->nquarantine = (uint32_t) n;
    ngx_oci_doc_head(doc)->quarantine = table;
    ngx_oci_doc_head(doc)->quarantine_mask = mask;

    json_object_foreach(quarantine, key, value) {

        place = ngx_oci_doc_alloc(doc, sizeof(ngx_oci_rules_quarantine_t));

        if (place == 0) {
            return ngx_oci_doc_memory(doc);
        }

        if (ngx_oci_doc_quarantined(doc, key, value, place) != NGX_OK) {
            return NGX_ERROR;
        }

        q = ngx_oci_doc_at(doc, ngx_oci_rules_quarantine_t, place);

        head = ngx_oci_doc_at(doc, uint32_t, table)
               + (ngx_oci_rbac_hash(q->alg, q->digest,
                                    q->alg == NGX_OCI_SHA512 ? 64 : 32)
                  & mask);
        q->next = *head;
        *head = place;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_quarantined(ngx_oci_doc_t *doc, const char *key, json_t *value,
    uint32_t place)
{
    char                         name[NGX_OCI_DIGEST_LEN + 1];
    json_t                      *reason, *since;
    int64_t                      t;
    uint32_t                     text;
    const char                  *why;
    ngx_oci_digest_t             digest;
    ngx_oci_rules_quarantine_t  *q;

    static const char  *keys[] = { "reason", "since", NULL };

    /* all of a digest is told, or it would be hard to find */

    (void) snprintf(name, sizeof(name), "%s", key);

    why = ngx_oci_doc_digest_check(key, strlen(key));

    if (why) {
        return ngx_oci_doc_error(doc, "$.quarantine.%s: %s", name, why);
    }

    (void) ngx_oci_digest_parse(&digest, (u_char *) key, strlen(key));

    if (ngx_oci_doc_keys(doc, value, "$.quarantine.", key, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    reason = json_object_get(value, "reason");
    since = json_object_get(value, "since");
    t = 0;

    why = json_is_string(reason)
          ? ngx_oci_doc_text_check(json_string_value(reason),
                                   json_string_length(reason))
          : "a text is required";

    if (why) {
        return ngx_oci_doc_error(doc, "$.quarantine.%s.reason: %s", name,
                                 why);
    }

    if (since && ngx_oci_doc_time(since, &t) != NGX_OK) {
        return ngx_oci_doc_error(doc, "$.quarantine.%s.since: neither "
                                 "seconds since 1970 nor a time as "
                                 "\"2026-01-31T00:00:00Z\"", name);
    }

    text = ngx_oci_doc_text(doc, json_string_value(reason),
                            json_string_length(reason));
    if (text == 0) {
        return ngx_oci_doc_memory(doc);
    }

    q = ngx_oci_doc_at(doc, ngx_oci_rules_quarantine_t, place);
    q->reason = text;
    q->reason_len = (uint32_t) json_string_length(reason);
    q->alg = (uint32_t) digest.alg;
    q->since = t;
    memcpy(q->digest, digest.bytes, digest.size);

    return NGX_OK;
}


/* all that is compiled in here stands in one piece */

static ngx_int_t
ngx_oci_doc_project(ngx_oci_doc_t *doc, const char *name, json_t *value,
    uint32_t *place)
{
    char              path[NGX_OCI_DOC_PLACE];
    u_char            hash[SHA256_DIGEST_LENGTH];
    uint32_t          block;
    ngx_oci_rules_t  *rules;

    static const char  *keys[] = {
        "media_types", "artifact_types", "formats", "signature", "immutable",
        "exempt", NULL
    };

    (void) snprintf(path, sizeof(path), "$.projects.%.*s.rules",
                    NGX_OCI_DOC_NAME, name);

    if (ngx_oci_doc_keys(doc, value, path, NULL, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    block = ngx_oci_doc_alloc(doc, sizeof(ngx_oci_rules_t));
    if (block == 0) {
        return ngx_oci_doc_memory(doc);
    }

    if (ngx_oci_doc_types(doc, path, json_object_get(value, "media_types"),
                          block, NGX_OCI_RULE_MEDIA)
        != NGX_OK
        || ngx_oci_doc_types(doc, path,
                             json_object_get(value, "artifact_types"),
                             block, NGX_OCI_RULE_ARTIFACT)
           != NGX_OK
        || ngx_oci_doc_formats(doc, path, json_object_get(value, "formats"),
                               block)
           != NGX_OK
        || ngx_oci_doc_signature(doc, path,
                                 json_object_get(value, "signature"), block)
           != NGX_OK
        || ngx_oci_doc_immutable(doc, path,
                                 json_object_get(value, "immutable"), block)
           != NGX_OK
        || ngx_oci_doc_exempt(doc, path, json_object_get(value, "exempt"),
                              block)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (doc->len - block > NGX_OCI_RULES_MAX) {
        return ngx_oci_doc_error(doc, "%s: more than 64k", path);
    }

    rules = ngx_oci_doc_at(doc, ngx_oci_rules_t, block);
    rules->size = (uint32_t) (doc->len - block);

    (void) SHA256((u_char *) rules, rules->size, hash);
    memcpy(rules->id, hash, NGX_OCI_RULES_ID);

    *place = block;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_types(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block, ngx_uint_t rule)
{
    char        path[NGX_OCI_DOC_PLACE];
    json_t     *allow, *refuse;
    ngx_uint_t  media;

    static const char  *keys[] = { "allow", "refuse", "dry_run", NULL };

    if (value == NULL) {
        return NGX_OK;
    }

    media = (rule == NGX_OCI_RULE_MEDIA);

    (void) snprintf(path, sizeof(path), "%.160s.%s", place,
                    media ? "media_types" : "artifact_types");

    if (ngx_oci_doc_keys(doc, value, path, NULL, keys) != NGX_OK
        || ngx_oci_doc_dry_run(doc, path, value, block, rule) != NGX_OK)
    {
        return NGX_ERROR;
    }

    allow = json_object_get(value, "allow");
    refuse = json_object_get(value, "refuse");

    if (allow == NULL && refuse == NULL) {
        return ngx_oci_doc_error(doc, "%s: neither \"allow\" nor \"refuse\"",
                                 path);
    }

    if (ngx_oci_doc_list(doc, path, "allow", allow, ngx_oci_doc_text_check,
                         block,
                         media ? offsetof(ngx_oci_rules_t, media_allow)
                               : offsetof(ngx_oci_rules_t, artifact_allow))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_doc_list(doc, path, "refuse", refuse,
                            ngx_oci_doc_text_check, block,
                            media ? offsetof(ngx_oci_rules_t, media_refuse)
                                  : offsetof(ngx_oci_rules_t,
                                             artifact_refuse));
}


static ngx_int_t
ngx_oci_doc_formats(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block)
{
    char              path[NGX_OCI_DOC_PLACE];
    json_t           *unknown;
    ngx_uint_t        allow, refuse;
    const char       *text;
    ngx_oci_rules_t  *rules;

    static const char  *keys[] = {
        "allow", "refuse", "unknown", "dry_run", NULL
    };

    if (value == NULL) {
        return NGX_OK;
    }

    (void) snprintf(path, sizeof(path), "%.160s.formats", place);

    if (ngx_oci_doc_keys(doc, value, path, NULL, keys) != NGX_OK
        || ngx_oci_doc_dry_run(doc, path, value, block, NGX_OCI_RULE_FORMAT)
           != NGX_OK
        || ngx_oci_doc_format_list(doc, path, "allow",
                                   json_object_get(value, "allow"), &allow)
           != NGX_OK
        || ngx_oci_doc_format_list(doc, path, "refuse",
                                   json_object_get(value, "refuse"), &refuse)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (allow == 0 && refuse == 0) {
        return ngx_oci_doc_error(doc, "%s: neither \"allow\" nor \"refuse\"",
                                 path);
    }

    if (allow & refuse) {
        return ngx_oci_doc_error(doc, "%s: \"%s\" is allowed and refused",
                                 path, ngx_oci_format_name(allow & refuse));
    }

    /* all that may carry a pickle or code, but for what is allowed by name */

    if (refuse & NGX_OCI_FORMAT_PICKLE) {
        refuse |= NGX_OCI_FORMAT_UNSAFE & ~allow;
    }

    unknown = json_object_get(value, "unknown");
    text = json_is_string(unknown) ? json_string_value(unknown) : "";

    if (unknown && strcmp(text, "allow") != 0 && strcmp(text, "refuse") != 0)
    {
        return ngx_oci_doc_error(doc, "%s.unknown: neither \"allow\" nor "
                                 "\"refuse\"", path);
    }

    rules = ngx_oci_doc_at(doc, ngx_oci_rules_t, block);
    rules->allow = (uint32_t) allow;
    rules->refuse = (uint32_t) refuse;
    rules->opaque = (*text == 'a');

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_format_list(ngx_oci_doc_t *doc, const char *place,
    const char *field, json_t *value, ngx_uint_t *bits)
{
    size_t       i;
    json_t      *format;
    ngx_uint_t   bit;

    *bits = 0;

    if (value == NULL) {
        return NGX_OK;
    }

    if (!json_is_array(value) || json_array_size(value) == 0) {
        return ngx_oci_doc_error(doc, "%s.%s: not an array of formats",
                                 place, field);
    }

    json_array_foreach(value, i, format) {

        bit = json_is_string(format)
              ? ngx_oci_format_bit(json_string_value(format)) : 0;

        if (bit == 0) {
            return ngx_oci_doc_error(doc, "%s.%s[%zu]: none of safetensors, "
                                     "gguf, ggml, onnx, tflite, npy, npz, "
                                     "hdf5, keras, pickle, executable and "
                                     "zip", place, field, i);
        }

        *bits |= bit;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_immutable(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block)
{
    char     path[NGX_OCI_DOC_PLACE];
    json_t  *tags;

    static const char  *keys[] = { "tags", NULL };

    if (value == NULL) {
        return NGX_OK;
    }

    (void) snprintf(path, sizeof(path), "%.160s.immutable", place);

    if (ngx_oci_doc_keys(doc, value, path, NULL, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    tags = json_object_get(value, "tags");

    if (tags == NULL) {
        return ngx_oci_doc_error(doc, "%s.tags: an array of patterns is "
                                 "required", path);
    }

    ngx_oci_doc_at(doc, ngx_oci_rules_t, block)->rules |=
                                                      NGX_OCI_RULE_IMMUTABLE;

    return ngx_oci_doc_list(doc, path, "tags", tags, ngx_oci_doc_tag_check,
                            block, offsetof(ngx_oci_rules_t, immutable));
}


static ngx_int_t
ngx_oci_doc_exempt(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block)
{
    char  path[NGX_OCI_DOC_PLACE];

    static const char  *keys[] = { "repositories", "digests", NULL };

    if (value == NULL) {
        return NGX_OK;
    }

    (void) snprintf(path, sizeof(path), "%.160s.exempt", place);

    if (ngx_oci_doc_keys(doc, value, path, NULL, keys) != NGX_OK
        || ngx_oci_doc_list(doc, path, "repositories",
                            json_object_get(value, "repositories"),
                            ngx_oci_pattern_check, block,
                            offsetof(ngx_oci_rules_t, exempt))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_doc_list(doc, path, "digests",
                            json_object_get(value, "digests"),
                            ngx_oci_doc_digest_check, block,
                            offsetof(ngx_oci_rules_t, exempt_digests));
}


static ngx_int_t
ngx_oci_doc_signature(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block)
{
    char                   path[NGX_OCI_DOC_PLACE];
    size_t                 i, begin;
    json_t                *keys, *key;
    const char            *why;
    ngx_oci_rules_list_t  *list;

    static const char  *members[] = { "keys", "dry_run", NULL };

    if (value == NULL) {
        return NGX_OK;
    }

    (void) snprintf(path, sizeof(path), "%.160s.signature", place);

    if (ngx_oci_doc_keys(doc, value, path, NULL, members) != NGX_OK
        || ngx_oci_doc_dry_run(doc, path, value, block,
                               NGX_OCI_RULE_SIGNATURE)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    keys = json_object_get(value, "keys");

    if (!json_is_array(keys) || json_array_size(keys) == 0
        || json_array_size(keys) > NGX_OCI_RULES_KEYS)
    {
        return ngx_oci_doc_error(doc, "%s.keys: an array of 1 to 16 public "
                                 "keys is required", path);
    }

    begin = doc->len;

    json_array_foreach(keys, i, key) {

        if (ngx_oci_doc_key(doc, key, &why) != NGX_OK) {
            return why ? ngx_oci_doc_error(doc, "%s.keys[%zu]: %s", path, i,
                                           why)
                       : ngx_oci_doc_memory(doc);
        }
    }

    list = &ngx_oci_doc_at(doc, ngx_oci_rules_t, block)->keys;
    list->place = (uint32_t) (begin - block);
    list->n = (uint32_t) json_array_size(keys);

    return NGX_OK;
}


/* what can't be used is refused here, so that nobody has to look later */

static ngx_int_t
ngx_oci_doc_key(ngx_oci_doc_t *doc, json_t *value, const char **why)
{
    u_char  der[NGX_OCI_SIGNATURE_DER];
    size_t  len;

    len = 0;
    *why = json_is_string(value)
           ? ngx_oci_signature_pem(json_string_value(value),
                                   json_string_length(value), der, &len)
           : "not a string";

    if (*why || ngx_oci_doc_element(doc, der, len) == 0) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the rule is there, and is it only to be logged? */

static ngx_int_t
ngx_oci_doc_dry_run(ngx_oci_doc_t *doc, const char *place, json_t *value,
    uint32_t block, ngx_uint_t rule)
{
    json_t           *dry_run;
    ngx_oci_rules_t  *rules;

    dry_run = json_object_get(value, "dry_run");

    if (dry_run && !json_is_boolean(dry_run)) {
        return ngx_oci_doc_error(doc, "%s.dry_run: neither true nor false",
                                 place);
    }

    rules = ngx_oci_doc_at(doc, ngx_oci_rules_t, block);
    rules->rules |= (uint32_t) rule;

    if (json_is_true(dry_run)) {
        rules->dry_run |= (uint32_t) rule;
    }

    return NGX_OK;
}


/* offset: of the list in ngx_oci_rules_t */

static ngx_int_t
ngx_oci_doc_list(ngx_oci_doc_t *doc, const char *place, const char *field,
    json_t *value, ngx_oci_doc_check_pt check, uint32_t block, size_t offset)
{
    size_t                 i, begin;
    json_t                *text;
    const char            *why;
    ngx_oci_rules_list_t  *list;

    if (value == NULL) {
        return NGX_OK;
    }

    if (!json_is_array(value) || json_array_size(value) == 0
        || json_array_size(value) > NGX_OCI_RULES_LIST)
    {
        return ngx_oci_doc_error(doc, "%s.%s: not an array of 1 to 64 texts",
                                 place, field);
    }

    begin = doc->len;

    json_array_foreach(value, i, text) {

        why = json_is_string(text) ? check(json_string_value(text),
                                           json_string_length(text))
                                   : "not a string";

        if (why) {
            return ngx_oci_doc_error(doc, "%s.%s[%zu]: %s", place, field, i,
                                     why);
        }

        if (ngx_oci_doc_element(doc, json_string_value(text),
                                json_string_length(text))
            == 0)
        {
            return ngx_oci_doc_memory(doc);
        }
    }

    list = (ngx_oci_rules_list_t *) (doc->data + block + offset);
    list->place = (uint32_t) (begin - block);
    list->n = (uint32_t) json_array_size(value);

    return NGX_OK;
}


static uint32_t
ngx_oci_doc_element(ngx_oci_doc_t *doc, const void *p, size_t len)
{
    char  n[2];

    n[0] = (char) (len >> 8);
    n[1] = (char) len;

    if (ngx_oci_doc_text(doc, n, 2) == 0) {
        return 0;
    }

    return ngx_oci_doc_text(doc, p, len);
}


static const char *
ngx_oci_doc_text_check(const char *p, size_t len)
{
    size_t  i;

    if (len == 0 || len > NGX_OCI_RULES_TEXT) {
        return "a text has 1 to 255 bytes";
    }

    for (i = 0; i < len; i++) {
        if ((u_char) p[i] < 0x20 || p[i] == 0x7f) {
            return "a text has no control characters";
        }
    }

    return NULL;
}


/* what a tag is made of, and "*" */

static const char *
ngx_oci_doc_tag_check(const char *p, size_t len)
{
    size_t  i;

    if (len == 0 || len > 128) {
        return "a pattern of tags has 1 to 128 bytes";
    }

    for (i = 0; i < len; i++) {
        if ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z')
            || (p[i] >= '0' && p[i] <= '9')
            || p[i] == '.' || p[i] == '_' || p[i] == '-' || p[i] == '*')
        {
            continue;
        }

        return "a pattern of tags is made of letters, digits, \".\", \"_\", "
               "\"-\" and \"*\"";
    }

    return NULL;
}


static const char *
ngx_oci_doc_digest_check(const char *p, size_t len)
{
    ngx_oci_digest_t  digest;

    return (ngx_oci_digest_parse(&digest, (u_char *) p, len) == NGX_OK)
           ? NULL : "not a digest of sha256 or sha512";
}
