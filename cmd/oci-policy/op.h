
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci-policy: the one writer of policy documents, in files and in Redis.
 *
 * A document is JSON as "Policy document" of the README has it.  Each of its
 * entries has a field's name: "subject/NAME" is $.subjects.NAME, and so on,
 * as the fields of the hash in Redis are called.  Changes are an object: by
 * field, an array of the value before and the one after, null for none.
 */


#ifndef _OP_H_INCLUDED_
#define _OP_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>


#define OP_VERSION      "0.1.0"

#define OP_DOC_MAX      (64 * 1024 * 1024)  /* bytes of JSON, as of nginx */
#define OP_SECRET_MAX   4096                /* bytes of a password */
#define OP_TRIES        20                  /* to write, beside others */


/* exit codes, and what most functions return */

#define OP_OK           0
#define OP_NO           1       /* denied; there are differences */
#define OP_USAGE        2
#define OP_REFUSED      3       /* what is to be written is wrong */
#define OP_FAILED       4       /* it can't be reached, read or written */
#define OP_BUSY         5       /* others changed it at every try */

#define OP_AGAIN        (-1)    /* others did, this time */


typedef struct {
    const char  *source;
    const char  *user;
    const char  *password_file;
    const char  *ca_file;
    const char  *prefix;
    const char  *db;
    int          timeout;       /* seconds */

    const char  *harbor_user;
    const char  *harbor_password_file;
    const char  *harbor_ca_file;
    int          plain_http;

    const char  *reason;
    int          pbkdf2;
    int          cost;          /* 0: the default */
    int          create;
    int          dry_run;
    int          secrets;
} op_opts_t;


typedef struct op_store_s  op_store_t;

struct op_store_s {
    const char  *name;          /* of the source, for messages */
    json_t      *doc;           /* as it was loaded */
    json_t      *odd;           /* fields that are none of a document: why */
    int          found;         /* there is a document */
    int          whole;         /* OP_WHOLE, OP_CREATE, or neither */
    int64_t      epoch;         /* of Redis; -1: a file has none */

    /* write: nobody else is to write between this and commit() */
    int        (*load)(op_store_t *s, int write);

    /* OP_AGAIN: others changed it since load() */
    int        (*commit)(op_store_t *s, json_t *changes, json_t *doc);

    /* what load() took for writing is given back */
    void       (*unlock)(op_store_t *s);

    /*
     * Waits until something may have changed, and loads that.  OP_AGAIN:
     * nothing came for a while
     */
    int        (*wait)(op_store_t *s);

    void       (*close)(op_store_t *s);
};


/* say.c: nothing from outside reaches a terminal as it is */

void op_error(const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));
void op_note(const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));
void op_text(FILE *out, const char *text);
void *op_memory(void *p);                   /* exits if there is none */
char *op_json(json_t *value, size_t flags);     /* to be freed */
void op_print_json(json_t *value);
void op_print_changes(const char *before, json_t *changes);
int op_flush(void);


/* doc.c */

json_t *op_doc_new(void);
json_t *op_doc_get(json_t *doc, const char *field);
int op_doc_set(json_t *doc, const char *field, json_t *value);
int op_doc_is_field(const char *field);
const char *op_doc_section(size_t i, const char **kind);    /* NULL: no more */
json_t *op_doc_diff(json_t *from, json_t *to);
json_t *op_doc_hide(json_t *doc);
json_t *op_doc_hide_value(const char *field, json_t *value);
int op_doc_read(const char *file, int fd, json_t **doc);
int op_doc_check(json_t *doc, const char *what, void **rbac);


/* source.c */

int op_store_open(op_opts_t *o, op_store_t **store);
int op_secret_file(const char *file, char *buf, size_t size);

typedef int (*op_edit_pt)(json_t *doc, void *data);

#define OP_CREATE  1            /* it may not be there yet */
#define OP_WHOLE   2            /* and all of it is given anew */

/* edit.c: all of a document is given anew */
int op_import_edit(json_t *doc, void *data);

int op_update(op_opts_t *o, op_edit_pt edit, void *data, int whole);


/* file.c, redis.c */

op_store_t *op_file_open(op_opts_t *o, const char *path);
int op_redis_open(op_opts_t *o, op_store_t **store);


/* harbor_api.c: of the account, what Harbor has; to be freed */

typedef struct {
    json_t  *projects;          /* with "members" and "robots" each */
    json_t  *robots;            /* of the system */
} op_harbor_t;

int op_harbor_fetch(op_opts_t *o, const char *url, op_harbor_t *harbor);
void op_harbor_free(op_harbor_t *harbor);


/* hash.c: a PHC string of a secret that is read from standard input */

char *op_hash_stdin(op_opts_t *o, int *rc);


/* the commands */

int op_cmd_import(op_opts_t *o, int argc, char **argv);
int op_cmd_import_harbor(op_opts_t *o, int argc, char **argv);
int op_cmd_export(op_opts_t *o, int argc, char **argv);
int op_cmd_show(op_opts_t *o, int argc, char **argv);
int op_cmd_diff(op_opts_t *o, int argc, char **argv);
int op_cmd_disable(op_opts_t *o, int argc, char **argv);
int op_cmd_enable(op_opts_t *o, int argc, char **argv);
int op_cmd_secret(op_opts_t *o, int argc, char **argv);
int op_cmd_quarantine(op_opts_t *o, int argc, char **argv);
int op_cmd_release(op_opts_t *o, int argc, char **argv);
int op_cmd_check(op_opts_t *o, int argc, char **argv);
int op_cmd_hash(op_opts_t *o, int argc, char **argv);
int op_cmd_watch(op_opts_t *o, int argc, char **argv);


#endif /* _OP_H_INCLUDED_ */
