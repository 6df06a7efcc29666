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

static int calls;
static enum { NONE, KILL, AFTER, FAIL, FULL } kind;
static int number;

typedef int open_fn(const char *, int, ...);
typedef ssize_t write_fn(int, const void *, size_t);
typedef int path_fn(const char *);

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void start(void)
{
    static const char *const names[] = { "", "kill:", "after:", "fail:", "full:" };
    const char *fault = getenv("FAULT");
    int i;
    for (i = 1; fault && i < 5; i++) {
        if (strncmp(fault, names[i], strlen(names[i])) != 0) continue;
        kind = i;
        number = atoi(fault + strlen(names[i]));
    }
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAULT_COUNT");
    char text[32];
    int file = path ? ((open_fn *)real("open"))(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    if (file < 0) return;
    snprintf(text, sizeof text, "%d\n", calls);
    if (((write_fn *)real("write"))(file, text, strlen(text)) < 0) abort();
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
    if (kind == KILL && calls == number) die();
    return (kind == FAIL && calls == number) || (kind == FULL && calls >= number);
}

static void after(void)
{
    int reason = errno;
    if (kind == AFTER && calls == number) die();
    errno = reason;
}

static int failed(int reason)
{
    errno = reason;
    return -1;
}

static int open_by(const char *name, const char *path, int flags, int mode)
{
    int result;
    if (!(flags & O_CREAT)) return ((open_fn *)real(name))(path, flags, mode);
    if (before()) return failed(ENOSPC);
    result = ((open_fn *)real(name))(path, flags, mode);
    after();
    return result;
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
    write_fn *call = (write_fn *)real("write");
    struct stat info;
    ssize_t result;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) return call(file, bytes, size);
    if (kind == KILL && calls + 1 == number && call(file, bytes, size / 2) < 0) return -1;
    if (before()) {
        if (kind == FULL && calls == number && size > 1) return call(file, bytes, size / 2);
        return failed(ENOSPC);
    }
    result = call(file, bytes, size);
    after();
    return result;
}

int fsync(int file)
{
    int result;
    if (before()) return failed(EIO);
    result = ((int (*)(int))real("fsync"))(file);
    after();
    return result;
}

int rename(const char *from, const char *to)
{
    int result;
    if (before()) return failed(EIO);
    result = ((int (*)(const char *, const char *))real("rename"))(from, to);
    after();
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    int result;
    if (before()) return failed(ENOSPC);
    result = ((int (*)(const char *, mode_t))real("mkdir"))(path, mode);
    after();
    return result;
}

static int remove_by(const char *name, const char *path)
{
    int result;
    if (before()) return failed(EIO);
    result = ((path_fn *)real(name))(path);
    after();
    return result;
}

int unlink(const char *path)
{
    return remove_by("unlink", path);
}

int remove(const char *path)
{
    return remove_by("remove", path);
}
