/* A library that comes between a program and the system's calls, for tests/faults.sh (cc -shared -fPIC -ldl, then
   LD_PRELOAD). Counted are the calls that change files: of open those that make one, of write those to a file. FAULT
   says what happens at number K, from 1:
     kill:K      the process is killed before the call; of a write, when half of it is done
     after:K     the process is killed after it
     fail:K      the call fails: no space for writes, an I/O error for the rest
     full:K      so do this one and all later ones
   FAULT_COUNT names a file that gets the number of calls, when the process ends by itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int calls, number;
static char kind;       /* the first letter of FAULT, 'u' for full */

typedef int open_fn(const char *, int, ...);
typedef ssize_t write_fn(int, const void *, size_t);
typedef int path_fn(const char *);
typedef int paths_fn(const char *, const char *);
typedef int mkdir_fn(const char *, mode_t);
typedef int fsync_fn(int);

/* The system's function of that name, through a pointer to a pointer to it. */
static void find(const char *name, void *function)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    memcpy(function, &found, sizeof found);
}

__attribute__((constructor)) static void start(void)
{
    const char *fault = getenv("FAULT"), *colon = fault ? strchr(fault, ':') : NULL;
    if (!colon) return;
    kind = strncmp(fault, "full", 4) == 0 ? 'u' : *fault;
    number = atoi(colon + 1);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAULT_COUNT");
    char text[32];
    open_fn *call_open;
    write_fn *call_write;
    int file;
    if (!path) return;
    find("open", &call_open);
    find("write", &call_write);
    file = call_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    snprintf(text, sizeof text, "%d\n", calls);
    if (file < 0 || call_write(file, text, strlen(text)) < 0) abort();
    close(file);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Before a call: dies here, or tells whether the call is to fail. */
static int before(void)
{
    calls++;
    if (kind == 'k' && calls == number) die();
    return (kind == 'f' && calls == number) || (kind == 'u' && calls >= number);
}

/* After a call that gave this. */
static int after(int result)
{
    int reason = errno;
    if (kind == 'a' && calls == number) die();
    errno = reason;
    return result;
}

static int failed(int reason)
{
    errno = reason;
    return -1;
}

static int open_by(const char *name, const char *path, int flags, int mode)
{
    open_fn *call;
    find(name, &call);
    if (!(flags & O_CREAT)) return call(path, flags, mode);
    return before() ? failed(ENOSPC) : after(call(path, flags, mode));
}

int open(const char *path, int flags, ...)
{
    int mode = 0;
    va_list arguments;
    va_start(arguments, flags);
    if (flags & O_CREAT) mode = va_arg(arguments, int);
    va_end(arguments);
    return open_by("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    int mode = 0;
    va_list arguments;
    va_start(arguments, flags);
    if (flags & O_CREAT) mode = va_arg(arguments, int);
    va_end(arguments);
    return open_by("open64", path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t size)
{
    write_fn *call;
    struct stat info;
    ssize_t result;
    find("write", &call);
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) return call(file, bytes, size);
    if (kind == 'k' && calls + 1 == number && call(file, bytes, size / 2) < 0) return -1;
    if (before()) {
        if (kind == 'u' && calls == number && size > 1) return call(file, bytes, size / 2);
        return failed(ENOSPC);
    }
    result = call(file, bytes, size);
    after(0);
    return result;
}

int fsync(int file)
{
    fsync_fn *call;
    find("fsync", &call);
    return before() ? failed(EIO) : after(call(file));
}

int rename(const char *from, const char *to)
{
    paths_fn *call;
    find("rename", &call);
    return before() ? failed(EIO) : after(call(from, to));
}

int mkdir(const char *path, mode_t mode)
{
    mkdir_fn *call;
    find("mkdir", &call);
    return before() ? failed(ENOSPC) : after(call(path, mode));
}

static int remove_by(const char *name, const char *path)
{
    path_fn *call;
    find(name, &call);
    return before() ? failed(EIO) : after(call(path));
}

int unlink(const char *path)
{
    return remove_by("unlink", path);
}

int remove(const char *path)
{
    return remove_by("remove", path);
}
