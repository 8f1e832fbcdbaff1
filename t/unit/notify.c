
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "ngx_oci_notify_record.h"
#include "tap.h"

#include <jansson.h>


#define T_DIGEST  "sha256:11111111111111111111111111111111"                   \
                  "11111111111111111111111111111111"


typedef struct {
    ngx_uint_t   format;
    ngx_uint_t   event;
    const char  *text;
} t_case_t;


/* whole texts: a receiver parses them */

static t_case_t  t_cases[] = {

    { NGX_OCI_NOTE_HARBOR, NGX_OCI_NOTE_PULL,
      "{\"type\":\"PULL_ARTIFACT\",\"occur_at\":1755756001,"
      "\"operator\":\"robot$p+ci\",\"event_data\":{\"resources\":[{"
      "\"digest\":\"" T_DIGEST "\",\"tag\":\"v1\","
      "\"resource_url\":\"edge:8443/p/a/b:v1\"}],\"repository\":{"
      "\"name\":\"a/b\",\"namespace\":\"p\",\"repo_full_name\":\"p/a/b\","
      "\"repo_type\":\"\"}}}" },

    { NGX_OCI_NOTE_HARBOR, NGX_OCI_NOTE_REFUSAL,
      "{\"type\":\"REFUSAL\",\"occur_at\":1755756001,"
      "\"operator\":\"robot$p+ci\",\"event_data\":{\"resources\":[{"
      "\"digest\":\"" T_DIGEST "\",\"tag\":\"v1\","
      "\"resource_url\":\"edge:8443/p/a/b:v1\"}],\"repository\":{"
      "\"name\":\"a/b\",\"namespace\":\"p\",\"repo_full_name\":\"p/a/b\","
      "\"repo_type\":\"\"},\"custom_attributes\":{\"Details\":\"why\"}}}" },

    { NGX_OCI_NOTE_CLOUDEVENTS, NGX_OCI_NOTE_PUSH,
      "{\"specversion\":\"1.0\","
      "\"id\":\"00000000-0000-4000-8000-000000000000\","
      "\"source\":\"/nginx-oci/edge-1\","
      "\"type\":\"harbor.artifact.pushed\",\"time\":\"2025-08-21T06:00:01Z\","
      "\"datacontenttype\":\"application/json\",\"requestid\":\"r1\","
      "\"operator\":\"robot$p+ci\",\"data\":{\"resources\":[{"
      "\"digest\":\"" T_DIGEST "\",\"tag\":\"v1\","
      "\"resource_url\":\"edge:8443/p/a/b:v1\"}],\"repository\":{"
      "\"name\":\"a/b\",\"namespace\":\"p\",\"repo_full_name\":\"p/a/b\","
      "\"repo_type\":\"\"}}}" },

    { NGX_OCI_NOTE_DISTRIBUTION, NGX_OCI_NOTE_PULL,
      "{\"events\":[{\"id\":\"00000000-0000-4000-8000-000000000000\","
      "\"timestamp\":\"2025-08-21T06:00:01.042Z\",\"action\":\"pull\","
      "\"target\":{\"mediaType\":\"m/t\",\"digest\":\"" T_DIGEST "\","
      "\"repository\":\"p/a/b\",\"tag\":\"v1\",\"size\":7,\"length\":7,"
      "\"url\":\"https://edge:8443/v2/p/a/b/manifests/" T_DIGEST "\"},"
      "\"request\":{\"id\":\"r1\",\"addr\":\"10.0.0.1\","
      "\"host\":\"edge:8443\",\"method\":\"GET\",\"useragent\":\"ua\"},"
      "\"actor\":{\"name\":\"robot$p+ci\"},"
      "\"source\":{\"addr\":\"edge-1\"}}]}" },
};


static void
t_ok(int ok, const char *fmt, ...)
{
    char     name[2048];
    va_list  args;

    va_start(args, fmt);
    (void) vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);

    tap_ok(ok, name);
}


static void
t_note(ngx_oci_note_t *note)
{
    memset(note, 0, sizeof(ngx_oci_note_t));

    memcpy(note->id, "00000000-0000-4000-8000-000000000000", NGX_OCI_NOTE_ID);
    note->msec = 1755756001042;
    note->size = 7;
    ngx_str_set(&note->node, "edge-1");
    ngx_str_set(&note->scheme, "https");
    ngx_str_set(&note->host, "edge:8443");
    ngx_str_set(&note->repository, "p/a/b");
    ngx_str_set(&note->tag, "v1");
    ngx_str_set(&note->digest, T_DIGEST);
    ngx_str_set(&note->media_type, "m/t");
    ngx_str_set(&note->subject, "robot$p+ci");
    ngx_str_set(&note->request, "r1");
    ngx_str_set(&note->address, "10.0.0.1");
    ngx_str_set(&note->method, "GET");
    ngx_str_set(&note->agent, "ua");
}


static void
t_bodies(void)
{
    char            *text;
    size_t           len;
    ngx_uint_t       i;
    ngx_oci_note_t   note;

    for (i = 0; i < sizeof(t_cases) / sizeof(t_cases[0]); i++) {

        t_note(&note);

        note.event = t_cases[i].event;

        if (note.event == NGX_OCI_NOTE_REFUSAL) {
            ngx_str_set(&note.details, "why");
        }

        text = ngx_oci_note_body(&note, t_cases[i].format, &len);

        t_ok(text && strcmp(text, t_cases[i].text) == 0
               && len == strlen(text), "%s: %s",
               ngx_oci_note_format(t_cases[i].format), text ? text : "none");

        free(text);
    }
}


/* whatever stands in it, each is JSON of printable ASCII, and bounded */

static void
t_strange(void)
{
    char            *text, *p;
    size_t           len;
    u_char           any[3000];
    json_t          *json;
    ngx_str_t        v;
    ngx_uint_t       i, k, n, bad;
    ngx_oci_note_t   note;

    ngx_str_t  *strings[] = {
        &note.node, &note.scheme, &note.host, &note.repository, &note.tag,
        &note.digest, &note.media_type, &note.subject, &note.details,
        &note.request, &note.address, &note.method, &note.agent
    };

    bad = 0;

    for (i = 0; i < sizeof(any); i++) {
        any[i] = (u_char) i;
    }

    for (n = 0; n < NGX_OCI_NOTE_N; n++) {
        for (i = 0; i < NGX_OCI_NOTE_FORMATS; i++) {
            for (k = 0; k < 13; k++) {

                t_note(&note);
                note.event = n;

                v.data = any + (k % 2 ? 0x80 : 0);
                v.len = 2500;

                *strings[k] = v;

                if (k == 12) {
                    note.size = -1;
                }

                text = ngx_oci_note_body(&note, i, &len);

                if (text == NULL) {
                    bad++;
                    continue;
                }

                for (p = text; *p; p++) {
                    bad += (*p < 0x20 || *p > 0x7e);
                }

                json = json_loads(text, 0, NULL);
                bad += (json == NULL || len > NGX_OCI_NOTE_BODY);

                json_decref(json);
                free(text);
            }
        }
    }

    t_ok(bad == 0, "strange strings: %u are bad", (unsigned) bad);
}


static void
t_records(void)
{
    u_char            *p, *last, buf[8192];
    size_t             i, skip, size, n;
    ngx_uint_t         bad;
    ngx_oci_record_t   in, out;

    memset(&in, 0, sizeof(ngx_oci_record_t));

    t_ok(ngx_oci_note_id(in.id) == NGX_OK && in.id[14] == '4'
           && in.id[8] == '-' && in.id[23] == '-', "an id: %.36s", in.id);

    in.format = NGX_OCI_NOTE_CLOUDEVENTS;
    in.msec = 1755756001042;
    ngx_str_set(&in.repository, "p/a");
    ngx_str_set(&in.body, "{\"a\":1}");

    n = ngx_oci_record_size(in.repository.len, in.body.len);
    last = ngx_oci_record_write(buf, &in);

    t_ok((size_t) (last - buf) == n, "size");

    t_ok(ngx_oci_record_read(buf, n, &skip, &out, &size) == NGX_OK
           && skip == 0 && size == n && out.format == in.format
           && out.msec == in.msec && memcmp(out.id, in.id, 36) == 0
           && out.repository.len == 3
           && memcmp(out.repository.data, "p/a", 3) == 0
           && out.body.len == 7 && memcmp(out.body.data, "{\"a\":1}", 7) == 0,
           "read again");

    /* cut anywhere: it is waited for, from its beginning */

    bad = 0;

    for (i = 0; i < n; i++) {
        bad += (ngx_oci_record_read(buf, i, &skip, &out, &size) != NGX_AGAIN
                || skip != 0);
    }

    t_ok(bad == 0, "cut: %u are bad", (unsigned) bad);

    /* cut anywhere, and another one follows */

    bad = 0;

    for (i = 0; i <= n; i++) {
        p = buf + 1000;
        memcpy(p, buf, i);
        memcpy(p + i, buf, n);

        bad += (ngx_oci_record_read(p, i + n, &skip, &out, &size) != NGX_OK
                || skip != (i == n ? 0 : i) || size != n);
    }

    t_ok(bad == 0, "cut, and followed: %u are bad", (unsigned) bad);

    /* a byte is wrong */

    bad = 0;

    for (i = 0; i < n; i++) {
        p = buf + 1000;
        memcpy(p, buf, n);
        memcpy(p + n, buf, n);
        p[i] ^= 0x40;

        bad += (ngx_oci_record_read(p, 2 * n, &skip, &out, &size) != NGX_OK
                || skip != n);
    }

    t_ok(bad == 0, "wrong, and followed: %u are bad", (unsigned) bad);

    memset(buf, 0x01, sizeof(buf));

    t_ok(ngx_oci_record_read(buf, sizeof(buf), &skip, &out, &size)
           == NGX_AGAIN && skip == sizeof(buf) - 1, "garbage");
    t_ok(ngx_oci_record_read(buf, 0, &skip, &out, &size) == NGX_AGAIN
           && skip == 0, "nothing");
}


static void
t_signatures(void)
{
    u_char       s[NGX_OCI_SIGNATURE_LEN + 1], *id;
    ngx_str_t    key, body;
    ngx_uint_t   i;

    static u_char  t_id[NGX_OCI_NOTE_ID + 1] =
                       "00000000-0000-4000-8000-000000000000";

    static struct {
        const char  *key;
        const char  *signature;
    } t[] = {
        { "secret",
          "v1,Gove99DqHNvc4dMvcfpnbrHE2CQ9EY3R00vmXE31LWs=" },
        { "whsec_c2VjcmV0",
          "v1,Gove99DqHNvc4dMvcfpnbrHE2CQ9EY3R00vmXE31LWs=" },
        { "whsec_c2VjcmV0cw==",
          "v1,eIJ6Ga/hsqAIyVfCLftRjQDZ6r0D8ri+N+q7xOhCR6I=" },
        { "whsec_",
          "v1,2Tjh1Htnqbrqww6GZAOFd5tTS+Uj7IGkyyYdMV7xADo=" },
        { "whsec_a", NULL },
        { "whsec_c2Vj!mV0", NULL },
    };

    id = t_id;
    ngx_str_set(&body, "{\"a\":1}");

    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {

        key.data = (u_char *) t[i].key;
        key.len = strlen(t[i].key);

        memset(s, 0, sizeof(s));

        if (ngx_oci_note_sign(&key, id, 1755756001, &body, s) != NGX_OK) {
            t_ok(t[i].signature == NULL, "no key: %s", t[i].key);
            continue;
        }

        t_ok(t[i].signature && strcmp((char *) s, t[i].signature) == 0,
               "%s: %s", t[i].key, s);
    }
}


int
main(void)
{
    t_bodies();
    t_strange();
    t_records();
    t_signatures();

    return tap_done();
}
