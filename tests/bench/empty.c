// Runs a command while empty eBPF programs (return 0) are attached: what attaching costs before a probe does anything.
//
//   empty tp:kvm/kvm_exit raw:kvm_entry -- COMMAND ARGS...
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what, const char *of)
{
    fprintf(stderr, "empty: %s of %s: %s\n", what, of, strerror(errno));
    exit(1);
}

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }

static int load(enum bpf_prog_type type, const char *of)
{
    static const struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = type;
    attr.insns = (unsigned long)program;
    attr.insn_cnt = sizeof program / sizeof *program;
    attr.license = (unsigned long)"GPL";
    int fd = bpf(BPF_PROG_LOAD, &attr);
    if (fd < 0)
        fail("load", of);
    return fd;
}

static void attach_raw(const char *event)
{
    union bpf_attr attr;
    int program = load(BPF_PROG_TYPE_RAW_TRACEPOINT, event);
    memset(&attr, 0, sizeof attr);
    attr.raw_tracepoint.name = (unsigned long)event;
    attr.raw_tracepoint.prog_fd = program;
    if (bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) < 0)
        fail("attaching", event);
}

// One perf event on one processor is enough: a program is attached to the tracepoint, not to the event.
static void attach_tracepoint(const char *event)
{
    char path[200], text[20] = "";
    snprintf(path, sizeof path, "/sys/kernel/tracing/events/%s/id", event);
    int file = open(path, O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        fail("number", event);
    struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT, .size = sizeof attr, .config = atol(text)};
    int fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0 || ioctl(fd, PERF_EVENT_IOC_SET_BPF, load(BPF_PROG_TYPE_TRACEPOINT, event)))
        fail("attaching", event);
    if (ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
        fail("enabling", event);
}

int main(int argc, char **argv)
{
    int i, status;
    for (i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strncmp(argv[i], "tp:", 3))
            attach_tracepoint(argv[i] + 3);
        else if (!strncmp(argv[i], "raw:", 4))
            attach_raw(argv[i] + 4);
        else
            break;
    }
    if (i + 1 >= argc || strcmp(argv[i], "--")) {
        fprintf(stderr, "usage: empty [tp:SYSTEM/EVENT | raw:EVENT]... -- COMMAND ARGS...\n");
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[i + 1], argv + i + 1);
        fail("start", argv[i + 1]);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("wait", argv[i + 1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
