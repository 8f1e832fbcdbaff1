
/*
 * Copyright (C) The nginx-oci authors
 *
 * A library to preload: a byte is appended to the file ENDED_LOG for each
 * thread that ends, other than the first one of a process, while a library
 * that ENDED_LIBRARY is a part of the name of still has something for it.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static const char  *ended_log;
static const char  *ended_library;
static void       (*ended_destructor)(void *);


/* nginx takes its environment away */

static void __attribute__((constructor))
ended_init(void)
{
    ended_log = getenv("ENDED_LOG");
    ended_library = getenv("ENDED_LIBRARY");

    ended_log = ended_log ? strdup(ended_log) : NULL;
    ended_library = ended_library ? strdup(ended_library) : NULL;
}


static void
ended(void *value)
{
    int  fd;

    if (ended_log && gettid() != getpid()) {
        fd = open(ended_log, O_WRONLY|O_APPEND|O_CLOEXEC);

        if (fd != -1) {
            (void) !write(fd, ".", 1);
            (void) close(fd);
        }
    }

    ended_destructor(value);
}


int
pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    Dl_info  info;

    static int  (*real)(pthread_key_t *, void (*)(void *));

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "pthread_key_create");
    }

    if (destructor && ended_destructor == NULL && ended_library
        && dladdr(__builtin_return_address(0), &info)
        && strstr(info.dli_fname, ended_library))
    {
        ended_destructor = destructor;
        destructor = ended;
    }

    return real(key, destructor);
}
