// Work that has nothing to do with KVM, to measure what watching KVM costs those who do not use it.
//
//   load switch N    two processes wake each other through pipes: N context switches
//   load syscall N   N times getppid
//
// Prints "KIND COUNT NANOSECONDS". With instruction counting one nanosecond is one instruction.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void swap(int in, int out)
{
    char byte = 0;
    if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
        fail("pipe");
}

static long switches(int who)
{
    struct rusage usage;
    if (getrusage(who, &usage))
        fail("getrusage");
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void make_switches(long count)
{
    int there[2], back[2], status;
    long rounds = count / 2;
    if (pipe(there) || pipe(back))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        char byte;
        for (long i = 0; i < rounds + 100; i++)
            if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < 100; i++)
        swap(back[0], there[1]);
    long before = switches(RUSAGE_SELF);
    long long began = now();
    for (long i = 0; i < rounds; i++)
        swap(back[0], there[1]);
    long long took = now() - began;
    long made = switches(RUSAGE_SELF) - before;
    if (waitpid(child, &status, 0) != child || status)
        fail("the other process");
    // This process leaves the CPU once a round, the other one too.
    printf("switch %ld %lld\n", 2 * made, took);
}

static void make_syscalls(long count)
{
    long long began = now();
    for (long i = 0; i < count; i++)
        syscall(SYS_getppid);
    printf("syscall %ld %lld\n", count, now() - began);
}

int main(int argc, char **argv)
{
    long count = argc == 3 ? atol(argv[2]) : 0;
    if (count > 0 && !strcmp(argv[1], "switch"))
        make_switches(count);
    else if (count > 0 && !strcmp(argv[1], "syscall"))
        make_syscalls(count);
    else {
        fprintf(stderr, "usage: load switch|syscall COUNT\n");
        return 2;
    }
    return 0;
}
