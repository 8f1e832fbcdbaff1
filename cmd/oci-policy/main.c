
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci-policy: options and commands.
 */


#include "op.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>


#define OP_ARGS_ANY  99


typedef struct {
    const char   *name;
    int         (*run)(op_opts_t *o, int argc, char **argv);
    int           min;          /* arguments */
    int           max;
    const char   *usage;
} op_cmd_t;


enum {
    OP_OPT_SOURCE = 1,
    OP_OPT_USER,
    OP_OPT_PASSWORD_FILE,
    OP_OPT_CA_FILE,
    OP_OPT_PREFIX,
    OP_OPT_DB,
    OP_OPT_TIMEOUT,
    OP_OPT_HARBOR_USER,
    OP_OPT_HARBOR_PASSWORD_FILE,
    OP_OPT_HARBOR_CA_FILE,
    OP_OPT_PLAIN_HTTP,
    OP_OPT_REASON,
    OP_OPT_PBKDF2,
    OP_OPT_COST,
    OP_OPT_CREATE,
    OP_OPT_DRY_RUN,
    OP_OPT_SECRETS,
    OP_OPT_VERSION
};


static op_cmd_t  op_cmds[] = {
    { "import", op_cmd_import, 1, 1,
      "import FILE [--dry-run]" },
    { "import-harbor", op_cmd_import_harbor, 1, 1,
      "import-harbor URL --harbor-user NAME --harbor-password-file FILE\n"
      "                [--harbor-ca-file FILE] [--plain-http] [--dry-run]" },
    { "export", op_cmd_export, 0, 0,
      "export [--secrets]" },
    { "show", op_cmd_show, 0, OP_ARGS_ANY,
      "show [SUBJECT|FIELD ...] [--secrets]" },
    { "diff", op_cmd_diff, 1, 1,
      "diff FILE" },
    { "disable", op_cmd_disable, 1, 1,
      "disable SUBJECT [--create] [--dry-run]" },
    { "enable", op_cmd_enable, 1, 1,
      "enable SUBJECT [--dry-run]" },
    { "secret", op_cmd_secret, 1, 1,
      "secret SUBJECT [--create] [--pbkdf2] [--cost N] [--dry-run] < SECRET" },
    { "quarantine", op_cmd_quarantine, 1, 1,
      "quarantine DIGEST --reason TEXT [--dry-run]" },
    { "release", op_cmd_release, 1, 1,
      "release DIGEST [--dry-run]" },
    { "check", op_cmd_check, 3, 3,
      "check SUBJECT|- ACTION REPOSITORY[@DIGEST]" },
    { "hash", op_cmd_hash, 0, 0,
      "hash [--pbkdf2] [--cost N] < SECRET" },
    { "watch", op_cmd_watch, 0, 0,
      "watch" },
    { NULL, NULL, 0, 0, NULL }
};


static struct option  op_options[] = {
    { "source", required_argument, NULL, OP_OPT_SOURCE },
    { "user", required_argument, NULL, OP_OPT_USER },
    { "password-file", required_argument, NULL, OP_OPT_PASSWORD_FILE },
    { "ca-file", required_argument, NULL, OP_OPT_CA_FILE },
    { "prefix", required_argument, NULL, OP_OPT_PREFIX },
    { "db", required_argument, NULL, OP_OPT_DB },
    { "timeout", required_argument, NULL, OP_OPT_TIMEOUT },
    { "harbor-user", required_argument, NULL, OP_OPT_HARBOR_USER },
    { "harbor-password-file", required_argument, NULL,
      OP_OPT_HARBOR_PASSWORD_FILE },
    { "harbor-ca-file", required_argument, NULL, OP_OPT_HARBOR_CA_FILE },
    { "plain-http", no_argument, NULL, OP_OPT_PLAIN_HTTP },
    { "reason", required_argument, NULL, OP_OPT_REASON },
    { "pbkdf2", no_argument, NULL, OP_OPT_PBKDF2 },
    { "cost", required_argument, NULL, OP_OPT_COST },
    { "create", no_argument, NULL, OP_OPT_CREATE },
    { "dry-run", no_argument, NULL, OP_OPT_DRY_RUN },
    { "secrets", no_argument, NULL, OP_OPT_SECRETS },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OP_OPT_VERSION },
    { NULL, 0, NULL, 0 }
};


static void op_usage(FILE *out);
static void op_environment(op_opts_t *o);
static int op_option(op_opts_t *o, int opt, const char *value);
static int op_number(const char *text, const char *name, int max, int *n);


int
main(int argc, char **argv)
{
    int        opt, rc;
    op_cmd_t  *cmd;
    op_opts_t  o;

    memset(&o, 0, sizeof(op_opts_t));
    op_environment(&o);

    (void) signal(SIGPIPE, SIG_IGN);
    (void) umask(077);

    while ((opt = getopt_long(argc, argv, "h", op_options, NULL)) != -1) {

        if (opt == 'h') {
            op_usage(stdout);
            return op_flush();
        }

        if (opt == OP_OPT_VERSION) {
            printf("oci-policy (nginx-oci) %s\n", OP_VERSION);
            return op_flush();
        }

        if (op_option(&o, opt, optarg) != OP_OK) {
            return OP_USAGE;
        }
    }

    argc -= optind;
    argv += optind;

    if (argc == 0) {
        op_usage(stderr);
        return OP_USAGE;
    }

    for (cmd = op_cmds; cmd->name; cmd++) {
        if (strcmp(cmd->name, argv[0]) == 0) {
            break;
        }
    }

    if (cmd->name == NULL) {
        op_error("unknown command \"%s\", see \"oci-policy --help\"",
                 argv[0]);
        return OP_USAGE;
    }

    if (argc - 1 < cmd->min || argc - 1 > cmd->max) {
        op_error("usage: oci-policy %s", cmd->usage);
        return OP_USAGE;
    }

    rc = cmd->run(&o, argc - 1, argv + 1);

    if (op_flush() != OP_OK && rc <= OP_NO) {
        return OP_FAILED;
    }

    return rc;
}


static void
op_usage(FILE *out)
{
    op_cmd_t  *cmd;

    fputs("usage: oci-policy --source SOURCE COMMAND ...\n\n"
          "  SOURCE is file:PATH, redis://[USER@]HOST[:PORT][/DB], "
          "rediss://... (TLS) or\n"
          "  unix:PATH, with --user, --db, --password-file, --ca-file, "
          "--prefix and\n"
          "  --timeout for Redis; it may stand in OCI_POLICY_SOURCE.\n\n",
          out);

    for (cmd = op_cmds; cmd->name; cmd++) {
        fprintf(out, "  %s\n", cmd->usage);
    }

    fputs("\nExit status: 0 done, or allowed; 1 denied, or there are "
          "differences; 2 usage;\n"
          "3 the document is refused; 4 it can't be reached, read or "
          "written; 5 others\nchanged it at every try.  "
          "See oci-policy(1).\n", out);
}


static void
op_environment(op_opts_t *o)
{
    o->source = getenv("OCI_POLICY_SOURCE");
    o->user = getenv("OCI_POLICY_USER");
    o->password_file = getenv("OCI_POLICY_PASSWORD_FILE");
    o->ca_file = getenv("OCI_POLICY_CA_FILE");
    o->prefix = getenv("OCI_POLICY_PREFIX");
    o->harbor_user = getenv("OCI_POLICY_HARBOR_USER");
    o->harbor_password_file = getenv("OCI_POLICY_HARBOR_PASSWORD_FILE");
    o->harbor_ca_file = getenv("OCI_POLICY_HARBOR_CA_FILE");
    o->timeout = 10;
}


static int
op_option(op_opts_t *o, int opt, const char *value)
{
    switch (opt) {

    case OP_OPT_SOURCE:
        o->source = value;
        return OP_OK;

    case OP_OPT_USER:
        o->user = value;
        return OP_OK;

    case OP_OPT_PASSWORD_FILE:
        o->password_file = value;
        return OP_OK;

    case OP_OPT_CA_FILE:
        o->ca_file = value;
        return OP_OK;

    case OP_OPT_PREFIX:
        o->prefix = value;
        return OP_OK;

    case OP_OPT_DB:
        o->db = value;
        return OP_OK;

    case OP_OPT_TIMEOUT:
        return op_number(value, "timeout", 3600, &o->timeout);

    case OP_OPT_HARBOR_USER:
        o->harbor_user = value;
        return OP_OK;

    case OP_OPT_HARBOR_PASSWORD_FILE:
        o->harbor_password_file = value;
        return OP_OK;

    case OP_OPT_HARBOR_CA_FILE:
        o->harbor_ca_file = value;
        return OP_OK;

    case OP_OPT_PLAIN_HTTP:
        o->plain_http = 1;
        return OP_OK;

    case OP_OPT_REASON:
        o->reason = value;
        return OP_OK;

    case OP_OPT_PBKDF2:
        o->pbkdf2 = 1;
        return OP_OK;

    case OP_OPT_COST:
        return op_number(value, "cost", 100000000, &o->cost);

    case OP_OPT_CREATE:
        o->create = 1;
        return OP_OK;

    case OP_OPT_DRY_RUN:
        o->dry_run = 1;
        return OP_OK;

    case OP_OPT_SECRETS:
        o->secrets = 1;
        return OP_OK;
    }

    return OP_USAGE;            /* getopt_long() has said why */
}


static int
op_number(const char *text, const char *name, int max, int *n)
{
    long   v;
    char  *end;

    v = strtol(text, &end, 10);

    if (end == text || *end || v < 1 || v > max) {
        op_error("--%s \"%s\" is no number from 1 to %d", name, text, max);
        return OP_USAGE;
    }

    *n = (int) v;

    return OP_OK;
}
