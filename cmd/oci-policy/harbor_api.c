
/*
 * Copyright (C) The nginx-oci authors
 *
 * Harbor's API, read with an account that needs to read only: projects, their
 * members and robots.  What can't be read as a whole is not used at all, as
 * what is missing would look like a right that was taken away.
 */


#include "op.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>


#define OP_HARBOR_PAGE    100                   /* entries, Harbor's most */
#define OP_HARBOR_PAGES   10000
#define OP_HARBOR_BODY    (16 * 1024 * 1024)    /* bytes of a page */
#define OP_HARBOR_TIME    60                    /* seconds for one */


typedef struct {
    CURL        *curl;
    char        *base;          /* without "/" at its end */
    char         password[OP_SECRET_MAX];
    char         error[CURL_ERROR_SIZE];

    /* of the answer */
    char        *body;
    size_t       len;
    size_t       size;
    long long    total;         /* of X-Total-Count; -1: none */
    int          next;          /* Link has one */
} op_api_t;


static int op_api_init(op_api_t *api, op_opts_t *o, const char *url);
static int op_api_url(op_api_t *api, op_opts_t *o, const char *url);
static int op_api_options(op_api_t *api, op_opts_t *o);
static void op_api_free(op_api_t *api);
static int op_api_list(op_api_t *api, const char *path, const char *what,
    json_t **list);
static int op_api_page(op_api_t *api, const char *path, unsigned page,
    const char *what, json_t **list);
static void op_api_status(op_api_t *api, long status, const char *what);
static size_t op_api_header(char *p, size_t one, size_t len, void *data);
static size_t op_api_body(char *p, size_t one, size_t len, void *data);
static int op_harbor_project(op_api_t *api, json_t *project);


int
op_harbor_fetch(op_opts_t *o, const char *url, op_harbor_t *harbor)
{
    int        rc;
    size_t     i;
    json_t    *project;
    op_api_t   api;

    memset(harbor, 0, sizeof(op_harbor_t));

    rc = op_api_init(&api, o, url);

    if (rc == OP_OK) {
        rc = op_api_list(&api, "/api/v2.0/projects?", "projects",
                         &harbor->projects);
    }

    if (rc == OP_OK) {
        rc = op_api_list(&api, "/api/v2.0/robots?",
                         "robots of the system", &harbor->robots);
    }

    if (rc == OP_OK) {

        json_array_foreach(harbor->projects, i, project) {

            rc = op_harbor_project(&api, project);

            if (rc != OP_OK) {
                break;
            }
        }
    }

    op_api_free(&api);

    return rc;
}


void
op_harbor_free(op_harbor_t *harbor)
{
    json_decref(harbor->projects);
    json_decref(harbor->robots);
}


static int
op_harbor_project(op_api_t *api, json_t *project)
{
    int          rc;
    char         path[128], what[400];
    json_t      *list, *id;
    const char  *name;

    id = json_object_get(project, "project_id");
    name = json_string_value(json_object_get(project, "name"));

    if (!json_is_integer(id) || name == NULL) {
        op_error("Harbor lists a project without \"project_id\" and "
                 "\"name\"");
        return OP_FAILED;
    }

    (void) snprintf(path, sizeof(path), "/api/v2.0/projects/%lld/members?",
                    (long long) json_integer_value(id));
    (void) snprintf(what, sizeof(what), "members of project \"%.255s\"",
                    name);

    rc = op_api_list(api, path, what, &list);
    if (rc != OP_OK) {
        return rc;
    }

    (void) json_object_set_new(project, "members", list);

    (void) snprintf(path, sizeof(path),
                    "/api/v2.0/robots?q=Level%%3Dproject%%2CProjectID%%3D"
                    "%lld&", (long long) json_integer_value(id));
    (void) snprintf(what, sizeof(what), "robots of project \"%.255s\"",
                    name);

    rc = op_api_list(api, path, what, &list);
    if (rc != OP_OK) {
        return rc;
    }

    (void) json_object_set_new(project, "robots", list);

    return OP_OK;
}


static int
op_api_init(op_api_t *api, op_opts_t *o, const char *url)
{
    int  rc;

    memset(api, 0, sizeof(op_api_t));

    rc = op_api_url(api, o, url);
    if (rc != OP_OK) {
        return rc;
    }

    if (o->harbor_user == NULL || o->harbor_password_file == NULL) {
        op_error("Harbor lists members to accounts only: --harbor-user and "
                 "--harbor-password-file are required");
        return OP_USAGE;
    }

    rc = op_secret_file(o->harbor_password_file, api->password,
                        sizeof(api->password));
    if (rc != OP_OK) {
        return rc;
    }

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        op_error("libcurl can't be used");
        return OP_FAILED;
    }

    api->curl = op_memory(curl_easy_init());

    return op_api_options(api, o);
}


static int
op_api_url(op_api_t *api, op_opts_t *o, const char *url)
{
    size_t       len;
    const char  *host;

    if (strncmp(url, "https://", 8) == 0) {
        host = url + 8;

    } else if (strncmp(url, "http://", 7) == 0) {
        host = url + 7;
        len = strcspn(host, ":/");

        if (!o->plain_http
            && !(len == 9 && strncmp(host, "localhost", 9) == 0)
            && !(len == 9 && strncmp(host, "127.0.0.1", 9) == 0)
            && strncmp(host, "[::1]", 5) != 0)
        {
            op_error("without TLS everybody on the way sees the password: "
                     "--plain-http does it anyway");
            return OP_USAGE;
        }

    } else {
        op_error("Harbor's URL begins with https://");
        return OP_USAGE;
    }

    if (*host == '\0' || strpbrk(host, "@?#") || strpbrk(url, " \t\r\n")) {
        op_error("Harbor's URL has a host, maybe a port and a path, and "
                 "neither user nor arguments");
        return OP_USAGE;
    }

    len = strlen(url);

    while (len && url[len - 1] == '/') {
        len--;
    }

    api->base = op_memory(strndup(url, len));

    return OP_OK;
}


/* no redirect is followed: credentials stay with this host */

static int
op_api_options(op_api_t *api, op_opts_t *o)
{
    CURL      *curl;
    CURLcode   rc;

    curl = api->curl;

#if (LIBCURL_VERSION_NUM >= 0x075500)
    rc = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    rc = curl_easy_setopt(curl, CURLOPT_PROTOCOLS,
                          (long) (CURLPROTO_HTTP|CURLPROTO_HTTPS));
#endif

    if (rc == CURLE_OK && o->harbor_ca_file) {
        rc = curl_easy_setopt(curl, CURLOPT_CAINFO, o->harbor_ca_file);
    }

    if (rc != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_USERNAME, o->harbor_user)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_PASSWORD, api->password)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long) o->timeout)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long) OP_HARBOR_TIME)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_USERAGENT,
                            "oci-policy/" OP_VERSION)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, api->error)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, op_api_header)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_HEADERDATA, api) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, op_api_body)
           != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_WRITEDATA, api) != CURLE_OK)
    {
        op_error("libcurl can't be used (%s)", api->error);
        return OP_FAILED;
    }

    return OP_OK;
}


static void
op_api_free(op_api_t *api)
{
    if (api->curl) {
        curl_easy_cleanup(api->curl);
        curl_global_cleanup();
    }

    explicit_bzero(api->password, sizeof(api->password));

    free(api->base);
    free(api->body);
}


/*
 * All pages.  Harbor says how many entries there are; should it not, Link
 * says whether there is one more page.  Which one that is it can't choose.
 */

static int
op_api_list(op_api_t *api, const char *path, const char *what,
    json_t **list)
{
    int        rc;
    size_t     n;
    json_t    *page;
    unsigned   i;

    *list = op_memory(json_array());

    for (i = 1; i <= OP_HARBOR_PAGES; i++) {

        rc = op_api_page(api, path, i, what, &page);

        if (rc != OP_OK) {
            goto failed;
        }

        n = json_array_size(page);
        rc = json_array_extend(*list, page);
        json_decref(page);

        if (rc != 0) {
            (void) op_memory(NULL);
        }

        if (api->total >= 0
            ? json_array_size(*list) >= (size_t) api->total : !api->next)
        {
            break;
        }

        if (n == 0) {
            op_error("Harbor has %lld %s, and lists %zu: were they changed "
                     "meanwhile? Try again", api->total, what,
                     json_array_size(*list));
            rc = OP_FAILED;
            goto failed;
        }
    }

    if (i <= OP_HARBOR_PAGES
        && (api->total < 0
            || json_array_size(*list) == (size_t) api->total))
    {
        return OP_OK;
    }

    op_error("Harbor lists more %s than it has", what);
    rc = OP_FAILED;

failed:

    json_decref(*list);
    *list = NULL;

    return rc;
}


static int
op_api_page(op_api_t *api, const char *path, unsigned page, const char *what,
    json_t **list)
{
    char          *url;
    long           status;
    CURLcode       rc;
    json_error_t   err;

    if (asprintf(&url, "%s%spage=%u&page_size=%d", api->base, path, page,
                 OP_HARBOR_PAGE)
        == -1)
    {
        url = NULL;
    }

    (void) op_memory(url);

    api->len = 0;
    api->total = -1;
    api->next = 0;
    api->error[0] = '\0';

    rc = curl_easy_setopt(api->curl, CURLOPT_URL, url);

    if (rc == CURLE_OK) {
        rc = curl_easy_perform(api->curl);
    }

    free(url);

    if (rc != CURLE_OK) {
        op_error("Harbor's %s can't be read: %s", what,
                 api->error[0] ? api->error : curl_easy_strerror(rc));
        return OP_FAILED;
    }

    status = 0;
    (void) curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &status);

    if (status != 200) {
        op_api_status(api, status, what);
        return OP_FAILED;
    }

    *list = json_loadb(api->body ? api->body : "", api->len, 0, &err);

    if (!json_is_array(*list)) {
        op_error("Harbor's answer for %s is no array of JSON", what);
        json_decref(*list);
        return OP_FAILED;
    }

    return OP_OK;
}


static void
op_api_status(op_api_t *api, long status, const char *what)
{
    json_t      *body, *errors;
    const char  *text;

    body = json_loadb(api->body ? api->body : "", api->len, 0, NULL);
    errors = json_array_get(json_object_get(body, "errors"), 0);
    text = json_string_value(json_object_get(errors, "message"));

    op_error("Harbor answers %ld to a request for %s%s%.200s%s", status,
             what, text ? " (" : "", text ? text : "", text ? ")" : "");

    if (status == 401) {
        op_note("it does not take that user and password");

    } else if (status == 403) {
        op_note("the account needs \"list\" of projects, and of members and "
                "robots in each of them and in the system");
    }

    json_decref(body);
}


/* X-Total-Count, and whether Link has rel="next" */

static size_t
op_api_header(char *p, size_t one, size_t len, void *data)
{
    char      text[4096], *end;
    size_t    size;
    op_api_t *api = data;

    size = one * len;

    if (size >= sizeof(text)) {
        return size;
    }

    memcpy(text, p, size);
    text[size] = '\0';

    if (strncasecmp(text, "HTTP/", 5) == 0) {
        api->total = -1;
        api->next = 0;

    } else if (strncasecmp(text, "X-Total-Count:", 14) == 0) {

        api->total = strtoll(text + 14, &end, 10);

        if (end == text + 14 || api->total < 0 || api->total > 10000000) {
            api->total = -1;
        }

    } else if (strncasecmp(text, "Link:", 5) == 0) {
        api->next = (strstr(text, "rel=\"next\"") != NULL
                     || strstr(text, "rel=next") != NULL);
    }

    return size;
}


static size_t
op_api_body(char *p, size_t one, size_t len, void *data)
{
    char      *body;
    size_t     size;
    op_api_t  *api = data;

    size = one * len;

    if (size > OP_HARBOR_BODY - api->len) {
        return 0;
    }

    if (api->len + size > api->size) {

        api->size = (api->len + size) * 2;
        body = realloc(api->body, api->size);

        if (body == NULL) {
            return 0;
        }

        api->body = body;
    }

    memcpy(api->body + api->len, p, size);
    api->len += size;

    return size;
}
