/* What the load generator and the reference server share: time, giving up, reading options. */
#ifndef BENCHMARKS_COMMON_H
#define BENCHMARKS_COMMON_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds of the monotonic clock. A vDSO call: tens of nanoseconds, no system call. */
static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Say why on stderr, in one line, and end with code 1. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Die with the process that started us, however it ends: a benchmark leaves nothing behind. */
static inline void end_with_parent(void) {
    pid_t parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) die("prctl: %s", strerror(errno));
    if (getppid() != parent) die("the parent is gone");
}

/* The number in `text`, at least `least`; dies with a message that names the option. */
static inline double number(const char *option, const char *text, double least) {
    char *end;
    double value = text ? strtod(text, &end) : -1;
    if (!text || end == text || *end || value < least) die("%s needs a number of at least %g", option, least);
    return value;
}

#endif
