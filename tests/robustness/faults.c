/* Makes a system call on files below a folder fail, or ends the process there. Preloaded.

   arm(folder, at, how, number) counts the calls on files of the folder from now on. From the call
   `at` on, `how` decides: 0 it fails once with errno `number`, 1 it and all later ones fail,
   2 the process gets signal `number` before the call, 3 a write writes half of its bytes.
   calls() returns the number of calls so far, first_failed() the function that failed first. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at = -1, count;
static int how, number;
static const char *failed = "";

void arm(const char *path, long first, int way, int value) {
    strncpy(folder, path, sizeof folder - 1);
    at = first, how = way, number = value, count = 0, failed = "";
}

long calls(void) { return count; }

const char *first_failed(void) { return failed; }

/* Returns 1 if this call has to fail, 2 if it has to be short. */
static int due(const char *name) {
    if (at < 0) return 0;
    long now = count++;
    if (now < at || (now > at && how != 1)) return 0;
    if (now == at) failed = name;
    if (how == 2) {
        kill(getpid(), number);
        return 0;
    }
    if (how == 3) return 2;
    errno = number;
    return 1;
}

static int below(const char *path) {
    return at >= 0 && path && !strncmp(path, folder, strlen(folder));
}

static int of(int fd) {
    if (at < 0) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

static int beside(int fd, const char *path) { return path && path[0] == '/' ? below(path) : of(fd); }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, #name)

#define BY_FD(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        return of(fd) && due(__func__) == 1 ? -1 : real(fd); \
    }
BY_FD(fsync)
BY_FD(fdatasync)

int close(int fd) {
    REAL(int, close, int);
    int fails = of(fd) && due(__func__) == 1; /* the descriptor is closed all the same, as Linux does */
    int error = errno, result = real(fd);
    if (!fails) return result;
    errno = error;
    return -1;
}

#define WRITING(name, head, tail, names) \
    ssize_t name(int fd, const void *data, size_t size tail) { \
        REAL(ssize_t, name, int, const void *, size_t head); \
        int found = of(fd) ? due(__func__) : 0; \
        if (found == 1) return -1; \
        if (found == 2 && size > 1) size /= 2; \
        return real(fd, data, size names); \
    }
#define COMMA ,
WRITING(write, , , )
WRITING(pwrite, COMMA off_t, COMMA off_t where, COMMA where)
WRITING(pwrite64, COMMA off64_t, COMMA off64_t where, COMMA where)

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return below(path) && flags & (O_CREAT | O_WRONLY | O_RDWR) && due(__func__) == 1 \
            ? -1 : real(path, flags, mode); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name) \
    int name(int fd, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return beside(fd, path) && flags & (O_CREAT | O_WRONLY | O_RDWR) && due(__func__) == 1 \
            ? -1 : real(fd, path, flags, mode); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

#define BY_PATH(name, more, with, names) \
    int name(const char *path more) { \
        REAL(int, name, const char * with); \
        return below(path) && due(__func__) == 1 ? -1 : real(path names); \
    }
BY_PATH(unlink, , , )
BY_PATH(chmod, COMMA mode_t mode, COMMA mode_t, COMMA mode)
BY_PATH(truncate, COMMA off_t size, COMMA off_t, COMMA size)
BY_PATH(rename, COMMA const char *to, COMMA const char *, COMMA to)
BY_PATH(link, COMMA const char *to, COMMA const char *, COMMA to)

int unlinkat(int fd, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return beside(fd, path) && due(__func__) == 1 ? -1 : real(fd, path, flags);
}

int renameat(int fd, const char *path, int into, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return beside(fd, path) && due(__func__) == 1 ? -1 : real(fd, path, into, to);
}

int linkat(int fd, const char *path, int into, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    return beside(fd, path) && due(__func__) == 1 ? -1 : real(fd, path, into, to, flags);
}

#define BY_SIZE(name, type, argument) \
    int name(int fd, type argument) { \
        REAL(int, name, int, type); \
        return of(fd) && due(__func__) == 1 ? -1 : real(fd, argument); \
    }
BY_SIZE(ftruncate, off_t, size)
BY_SIZE(ftruncate64, off64_t, size)
BY_SIZE(fchmod, mode_t, mode)
