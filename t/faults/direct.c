
/*
 * Copyright (C) The nginx-oci authors
 *
 * A library to preload: a file system without O_DIRECT.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>


static int
direct_openat(int dir, const char *name, int flags, mode_t mode)
{
    if (flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }

    return syscall(SYS_openat, dir, name, flags, mode);
}


#define direct_function(function)                                             \
                                                                              \
int                                                                           \
function(int dir, const char *name, int flags, ...)                           \
{                                                                             \
    mode_t   mode;                                                            \
    va_list  args;                                                            \
                                                                              \
    va_start(args, flags);                                                    \
    mode = (flags & (O_CREAT|O_TMPFILE)) ? va_arg(args, mode_t) : 0;          \
    va_end(args);                                                             \
                                                                              \
    return direct_openat(dir, name, flags, mode);                             \
}


direct_function(openat)
direct_function(openat64)


int
__openat_2(int dir, const char *name, int flags)
{
    return direct_openat(dir, name, flags, 0);
}


int
__openat64_2(int dir, const char *name, int flags)
{
    return direct_openat(dir, name, flags, 0);
}
