
/*
 * Copyright (C) The nginx-oci authors
 *
 * Thread pools that the modules have for themselves, unless the operator
 * wrote a "thread_pool" of that name.
 */


#include "ngx_oci_core.h"
#include <ngx_thread_pool.h>


ngx_int_t
ngx_oci_thread_pool(ngx_cycle_t *cycle, ngx_str_t *name, ngx_int_t n)
{
    void            *conf;
    u_char           number[sizeof("threads=") + NGX_INT_T_LEN];
    ngx_str_t       *arg;
    ngx_conf_t       cf;
    ngx_array_t      args;
    ngx_command_t   *cmd;
    ngx_conf_file_t  file;

    if (ngx_thread_pool_get(cycle, name)) {
        return NGX_OK;
    }

    if (ngx_array_init(&args, cycle->pool, 3, sizeof(ngx_str_t)) != NGX_OK) {
        return NGX_ERROR;
    }

    cmd = ngx_thread_pool_module.commands;
    conf = ngx_get_conf(cycle->conf_ctx, ngx_thread_pool_module);

    arg = ngx_array_push_n(&args, 3);

    arg[0] = cmd->name;
    arg[1] = *name;
    arg[2].data = number;
    arg[2].len = ngx_sprintf(number, "threads=%i", n) - number;

    ngx_memzero(&file, sizeof(ngx_conf_file_t));

    file.file.fd = NGX_INVALID_FILE;
    file.file.name = cycle->conf_file;

    ngx_memzero(&cf, sizeof(ngx_conf_t));

    cf.conf_file = &file;
    cf.args = &args;
    cf.cycle = cycle;
    cf.pool = cycle->pool;
    cf.temp_pool = cycle->pool;
    cf.log = cycle->log;
    cf.module_type = NGX_CORE_MODULE;
    cf.cmd_type = NGX_MAIN_CONF;

    return (cmd->set(&cf, cmd, conf) == NGX_CONF_OK) ? NGX_OK : NGX_ERROR;
}
