# What tests/bench/run runs in the rig. The text before this sets: rounds, exits, switches, syscalls, subjects,
# of_events (those of them that are also measured with what single families look at), peer_libraries.
# Each subject leaves in /out: SUBJECT.KIND.N (one line of load, or a guest's JSON) and what it counted itself.

# once SUBJECT KIND N GUEST-ARGS...: a guest that makes events of one kind.
once() {
    name=$1.$2.$3
    shift 3
    kvmscope guest --format json "$@" >"/out/$name"
}

# measure SUBJECT: the loads, with whatever is attached now.
measure() {
    n=1
    while [ $n -le "$rounds" ]; do
        once "$1" cpuid $n --cpuid "$exits" || return 1
        once "$1" out $n --out "$exits" || return 1
        load switch "$switches" >"/out/$1.switch.$n" || return 1
        load syscall "$syscalls" >"/out/$1.syscall.$n" || return 1
        case " $of_events " in
            *" $1 "*)
                few=$((exits / 2))
                once "$1" touch $n --touch $few || return 1
                once "$1" dirty $n --dirty $few --dirty-pages 1024 || return 1
                once "$1" mmio_write $n --mmio-write $few || return 1
                once "$1" mmio_kernel $n --mmio-kernel $few || return 1
                once "$1" hypercall $n --hypercall $few || return 1
                once "$1" ipi $n --ipi $few || return 1
                once "$1" gp $n --gp $few || return 1
                once "$1" timer_disarm $n --timer-disarm $few || return 1
                once "$1" line_masked $n --line-masked $few || return 1
                ;;
        esac
        n=$((n + 1))
    done
    echo "measured $1"
}
if [ "$1" = measure ]; then
    measure "$2"
    exit
fi

# under SUBJECT COMMAND...: the loads as the last argument of COMMAND.
under() {
    name=$1
    shift
    "$@" sh /script measure "$name" >"/out/$name.log" 2>&1 || echo "$name failed: $(tail -n 3 "/out/$name.log")" | tee -a /out/failed
}

# watched SUBJECT OPTIONS...: the loads under kvmscope, whose first tick would come after an hour.
watched() {
    name=$1
    shift
    under "$name" kvmscope report "$@" --interval 60 --format json -o "/out/$name.report" --
}

# traced SUBJECT HOOKS PROGRAM: under bpftrace, once so many more hooks hold the module kvm; its maps come at its end.
traced() {
    before=$(cat /sys/module/kvm/refcnt)
    LD_LIBRARY_PATH=$peer_libraries bpftrace -e "$3" >"/out/$1.counts" 2>"/out/$1.log" &
    tracer=$!
    tries=600
    until [ "$(cat /sys/module/kvm/refcnt)" -ge $((before + $2)) ]; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $tracer 2>/dev/null; then
            kill -9 $tracer
            echo "$1 failed: $(tail -n 3 "/out/$1.log")" | tee -a /out/failed
            return
        fi
        usleep 100000
    done
    sleep 2
    measure "$1" >>"/out/$1.log" 2>&1 || echo "$1 failed: the loads" | tee -a /out/failed
    kill -INT $tracer
    wait $tracer
}

count='tracepoint:kvm:kvm_exit { @exits[args->exit_reason] = count(); }'
timing='tracepoint:kvm:kvm_exit { @at[tid] = nsecs; @why[tid] = args->exit_reason; @exits[args->exit_reason] = count(); }
tracepoint:kvm:kvm_entry /@at[tid]/ { @ns[@why[tid]] = hist(nsecs - @at[tid]); delete(@at[tid]); delete(@why[tid]); }'

families=exit,userspace,sched,halt-poll,mmu,mmio,hypercall,dirty,roots

uname -r >/out/kernel
for subject in $subjects; do
    echo "$subject"
    case $subject in
        bare) under bare env ;;
        empty-raw-raw) under "$subject" empty raw:kvm_exit raw:kvm_entry -- ;;
        empty-tp-raw) under "$subject" empty tp:kvm/kvm_exit raw:kvm_entry -- ;;
        empty-tp-tp) under "$subject" empty tp:kvm/kvm_exit tp:kvm/kvm_entry -- ;;
        empty-all) under "$subject" empty raw:kvm_exit raw:kvm_entry raw:kvm_fpu raw:kvm_userspace_exit raw:sched_switch -- ;;
        # What family ioctl hooks, which the row above leaves out: it is off by default.
        empty-syscalls) under "$subject" empty raw:sys_enter raw:sys_exit -- ;;
        # What the screen attaches before someone looks at details, and what a report attaches.
        defaults) watched defaults --probes exit,userspace,sched,halt-poll ;;
        report) watched report ;;
        # The same with the families of memory and calls.
        families) watched families --probes "$families" ;;
        families-ioctl) watched families-ioctl --probes "$families,ioctl" ;;
        family-*) watched "$subject" --probes "${subject#family-}" ;;
        everything) watched everything --probes all ;;
        bpftrace-count) traced "$subject" 1 "$count" ;;
        bpftrace-histogram) traced "$subject" 2 "$timing" ;;
        perf-kvm-stat)
            # perf waits in poll and reads the buffers of its one processor, whose time is in the figures.
            under "$subject" env LD_LIBRARY_PATH="$peer_libraries" perf kvm stat record -a -o /tmp/perf.data --
            LD_LIBRARY_PATH=$peer_libraries perf kvm -i /tmp/perf.data stat report --event=vmexit >"/out/$subject.counts" 2>&1
            rm -f /tmp/perf.data
            ;;
        *) echo "no subject is called $subject" | tee -a /out/failed ;;
    esac
done
[ ! -e /out/failed ]
