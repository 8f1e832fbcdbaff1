
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_event.h"
#include "tap.h"


#define T_D   "sha256:1111111111111111111111111111111111111111111111111111"   \
              "111111111111"
#define T_EVENT(type, data)                                                   \
    "{\"type\":\"" type "\",\"occur_at\":1,\"event_data\":" data "}"
#define T_CLOUD(type, data)                                                   \
    "{\"specversion\":\"1.0\",\"type\":\"" type "\",\"data\":" data "}"
#define T_ONE(tag)                                                            \
    "{\"resources\":[{\"digest\":\"" T_D "\",\"tag\":\"" tag "\"}],"          \
    "\"repository\":{\"repo_full_name\":\"p/r\"}}"
#define T_REPLICATION(list, name, refs)                                       \
    "{\"replication\":{\"src_resource\":{\"namespace\":\"a\"},"               \
    "\"dest_resource\":{\"namespace\":\"b/c\"},\"" list "\":[{"               \
    "\"name_tag\":\"" name "\",\"references\":" refs "}]}}"
#define T_RETENTION(name)                                                     \
    "{\"retention\":{\"project_name\":\"p\",\"deleted_artifact\":[{"          \
    "\"name_tag\":\"" name "\",\"references\":null}]}}"


typedef struct {
    const char  *text;
    ngx_int_t    rc;
    const char  *found;
} t_case_t;


static char  t_found[1024];


static t_case_t  t_cases[] = {

    { "", NGX_DECLINED, "" },
    { "[]", NGX_DECLINED, "" },
    { "{}", NGX_DECLINED, "" },
    { "{\"type\":1}", NGX_DECLINED, "" },
    { "{\"type\":\"PUSH_ARTIFACT\"}", NGX_OK, "" },
    { "{\"type\":\"no such\"}", NGX_OK, "" },

    { T_EVENT("PUSH_ARTIFACT", T_ONE("v1")), NGX_OK,
      "+p/r v1;+p/r " T_D ";" },
    { T_EVENT("PUSH_ARTIFACT", T_ONE(T_D)), NGX_OK, "+p/r " T_D ";" },
    { T_EVENT("DELETE_ARTIFACT", T_ONE("v1")), NGX_OK,
      "p/r v1;p/r " T_D ";" },
    { T_EVENT("SCANNING_COMPLETED", T_ONE("v1")), NGX_OK,
      "p/r v1;p/r " T_D ";" },
    { T_EVENT("PULL_ARTIFACT", T_ONE("v1")), NGX_OK, "" },
    { T_EVENT("QUOTA_EXCEED", T_ONE("v1")), NGX_OK, "" },
    { T_CLOUD("harbor.artifact.pushed", T_ONE("v1")), NGX_OK,
      "+p/r v1;+p/r " T_D ";" },
    { T_CLOUD("harbor.artifact.deleted", T_ONE("v1")), NGX_OK,
      "p/r v1;p/r " T_D ";" },
    { T_CLOUD("harbor.artifact.pulled", T_ONE("v1")), NGX_OK, "" },

    { T_EVENT("PUSH_ARTIFACT", T_ONE("../v1")), NGX_OK, "+p/r " T_D ";" },
    { T_EVENT("PUSH_ARTIFACT", "{\"resources\":[{\"tag\":\"v1\"}],"
              "\"repository\":{\"repo_full_name\":\"p/../r\"}}"), NGX_OK,
      "" },
    { T_EVENT("PUSH_ARTIFACT", "{\"resources\":{},\"repository\":[]}"),
      NGX_OK, "" },
    { T_EVENT("PUSH_ARTIFACT", "1"), NGX_OK, "" },

    { T_EVENT("REPLICATION", T_REPLICATION("successful_artifact",
              "r [1 item(s) in total]", "[\"v1\",\"v2\"]")), NGX_OK,
      "a/r v1;a/r v2;b/c/r v1;b/c/r v2;" },
    { T_EVENT("REPLICATION", T_REPLICATION("failed_artifact", "r:v1",
              "[\"v1\"]")), NGX_OK, "a/r v1;b/c/r v1;" },
    { T_EVENT("REPLICATION", T_REPLICATION("successful_artifact", "R",
              "[\"v1\"]")), NGX_OK, "" },
    { T_EVENT("REPLICATION", T_REPLICATION("successful_artifact", "r",
              "[1,null,{}]")), NGX_OK, "" },
    { T_EVENT("REPLICATION", T_REPLICATION("successful_artifact", "r",
              "null")), NGX_OK, "" },

    { T_EVENT("TAG_RETENTION", T_RETENTION("r:v0")), NGX_OK, "p/r v0;" },
    { T_EVENT("TAG_RETENTION", T_RETENTION("r@" T_D)), NGX_OK,
      "p/r " T_D ";" },
    { T_EVENT("TAG_RETENTION", T_RETENTION("r")), NGX_OK, "" },
    { T_EVENT("TAG_RETENTION", T_RETENTION(":v0")), NGX_OK, "" },
    { T_CLOUD("harbor.tag_retention.finished", T_RETENTION("a/r:v0")),
      NGX_OK, "p/a/r v0;" },
    { NULL, 0, NULL }
};


static ngx_int_t
t_name(void *data, const char *repository, const char *reference,
    ngx_uint_t pushed)
{
    char  *p;

    p = t_found + strlen(t_found);

    (void) snprintf(p, t_found + sizeof(t_found) - p, "%s%s %s;",
                    pushed ? "+" : "", repository, reference);

    return data ? NGX_BUSY : NGX_OK;
}


int
main(void)
{
    ngx_int_t    rc;
    t_case_t    *c;
    const char  *text;

    for (c = t_cases; c->text; c++) {

        t_found[0] = '\0';

        rc = ngx_oci_event(c->text, strlen(c->text), t_name, NULL);

        tap_ok(rc == c->rc && strcmp(t_found, c->found) == 0, c->text);
    }

    text = T_EVENT("PUSH_ARTIFACT", T_ONE("v1"));
    t_found[0] = '\0';

    rc = ngx_oci_event(text, strlen(text), t_name, t_found);

    tap_ok(rc == NGX_BUSY && strcmp(t_found, "+p/r v1;") == 0,
           "the handler's end");

    return tap_done();
}
