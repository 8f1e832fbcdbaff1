
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is printed.  Names, reasons and servers' messages may hold anything,
 * so that only printable ASCII goes out; JSON escapes the rest by itself.
 */


#include "op.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>


static void op_say(const char *fmt, va_list args);
static void op_print_change(const char *field, json_t *from, json_t *to);
static void op_print_members(json_t *from, json_t *to);


void
op_error(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    op_say(fmt, args);
    va_end(args);
}


void
op_note(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    op_say(fmt, args);
    va_end(args);
}


static void
op_say(const char *fmt, va_list args)
{
    char  *text;

    if (vasprintf(&text, fmt, args) == -1) {
        text = NULL;
    }

    (void) op_memory(text);

    fputs("oci-policy: ", stderr);
    op_text(stderr, text);
    fputc('\n', stderr);

    free(text);
}


void
op_text(FILE *out, const char *text)
{
    for ( /* void */ ; *text; text++) {

        if ((unsigned char) *text < 0x20 || (unsigned char) *text >= 0x7f) {
            fprintf(out, "\\x%02x", (unsigned char) *text);

        } else {
            fputc(*text, out);
        }
    }
}


void *
op_memory(void *p)
{
    if (p == NULL) {
        fputs("oci-policy: no memory\n", stderr);
        exit(OP_FAILED);
    }

    return p;
}


/* a DEL is not among what jansson escapes */

char *
op_json(json_t *value, size_t flags)
{
    char    *text, *p, *q, *out;
    size_t   n;

    text = op_memory(json_dumps(value, flags|JSON_ENSURE_ASCII
                                       |JSON_ENCODE_ANY));
    n = 0;

    for (p = text; *p; p++) {
        n += (*p == 0x7f);
    }

    if (n == 0) {
        return text;
    }

    out = op_memory(malloc((size_t) (p - text) + n * 5 + 1));

    for (p = text, q = out; *p; p++) {

        if (*p == 0x7f) {
            memcpy(q, "\\u007f", 6);
            q += 6;

        } else {
            *q++ = *p;
        }
    }

    *q = '\0';
    free(text);

    return out;
}


void
op_print_json(json_t *value)
{
    char  *text;

    text = op_json(value, JSON_INDENT(2)|JSON_SORT_KEYS);
    puts(text);
    free(text);
}


/* before: stands at the beginning of each line */

void
op_print_changes(const char *before, json_t *changes)
{
    json_t      *pair;
    const char  *field;

    json_object_foreach(changes, field, pair) {
        fputs(before, stdout);
        op_print_change(field, json_array_get(pair, 0),
                        json_array_get(pair, 1));
    }
}


static void
op_print_change(const char *field, json_t *from, json_t *to)
{
    char    *text;
    json_t  *a, *b;

    a = op_doc_hide_value(field, from);
    b = op_doc_hide_value(field, to);

    fputs(json_is_null(from) ? "+ " : json_is_null(to) ? "- " : "~ ",
          stdout);
    op_text(stdout, field);

    if (json_is_object(from) && json_is_object(to)) {

        op_print_members(a, b);

        if (!json_equal(json_object_get(from, "secret"),
                        json_object_get(to, "secret"))
            && json_equal(json_object_get(a, "secret"),
                          json_object_get(b, "secret")))
        {
            fputs(" secret: another", stdout);
        }

    } else {

        if (!json_is_null(from)) {
            text = op_json(a, JSON_COMPACT|JSON_SORT_KEYS);
            printf(" %s", text);
            free(text);
        }

        if (!json_is_null(from) && !json_is_null(to)) {
            fputs(" ->", stdout);
        }

        if (!json_is_null(to)) {
            text = op_json(b, JSON_COMPACT|JSON_SORT_KEYS);
            printf(" %s", text);
            free(text);
        }
    }

    fputc('\n', stdout);

    json_decref(a);
    json_decref(b);
}


static void
op_print_members(json_t *from, json_t *to)
{
    char        *text;
    json_t      *value, *other;
    const char  *key, *separator;

    separator = " ";

    json_object_foreach(from, key, value) {

        other = json_object_get(to, key);

        if (other && json_equal(value, other)) {
            continue;
        }

        fputs(separator, stdout);
        op_text(stdout, key);

        text = op_json(value, JSON_COMPACT|JSON_SORT_KEYS);
        printf(": %s -> ", text);
        free(text);

        if (other) {
            text = op_json(other, JSON_COMPACT|JSON_SORT_KEYS);
            fputs(text, stdout);
            free(text);

        } else {
            fputs("none", stdout);
        }

        separator = ", ";
    }

    json_object_foreach(to, key, value) {

        if (json_object_get(from, key)) {
            continue;
        }

        fputs(separator, stdout);
        op_text(stdout, key);

        text = op_json(value, JSON_COMPACT|JSON_SORT_KEYS);
        printf(": none -> %s", text);
        free(text);

        separator = ", ";
    }
}


int
op_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return OP_OK;
    }

    op_error("writing to standard output failed (%s)", strerror(errno));

    return OP_FAILED;
}
