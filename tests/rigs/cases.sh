# What tests/tests/rig.rs runs in a rig; each case leaves NAME.report.json, NAME.guest.json and NAME.log in /out.
# $count (exits of each kind) is put before this text. The checks are in Rust, on the host.
events=/sys/kernel/tracing/events/kvm

# The kernel's own counts, as a witness that knows nothing of kvmscope: histograms, or where the kernel is built
# without them (5.10) every single event.
tracing=/sys/kernel/tracing
has_hist() { [ -e $events/kvm_exit/hist ]; }
witness() {
    if has_hist; then
        echo 'hist:keys=exit_reason,vcpu_id:size=4096' >$events/kvm_exit/trigger
        echo 'hist:keys=reason:size=256' >$events/kvm_userspace_exit/trigger
    else
        echo 32768 >$tracing/buffer_size_kb
        echo 1 >$events/kvm_exit/enable
        echo 1 >$events/kvm_userspace_exit/enable
    fi
}
testify() {
    if has_hist; then
        cat $events/kvm_exit/hist >"/out/$1.exit.hist"
        cat $events/kvm_userspace_exit/hist >"/out/$1.userspace.hist"
        echo '!hist:keys=exit_reason,vcpu_id:size=4096' >$events/kvm_exit/trigger
        echo '!hist:keys=reason:size=256' >$events/kvm_userspace_exit/trigger
    else
        echo 0 >$events/kvm_exit/enable
        echo 0 >$events/kvm_userspace_exit/enable
        cat $tracing/trace >"/out/$1.trace"
        echo >$tracing/trace
    fi
}

# lost FILE: whether a guest said there that the emulator lost it: a fault it cannot make, or an address of the host.
lost() { grep -q 'triple fault\|internal error\|RIP 0xffff' "$1"; }

# watched NAME GUEST-ARGS...: the guest as the command of a report with $options. QEMU's emulation of SVM now and then loses a guest, on 6.1
# above all (docs/guest.md): where the guest says that it was lost, and only then, the case is repeated.
options=
watched() {
    name=$1
    shift
    for try in 1 2 3 4 5; do
        [ "$name" != all ] || witness
        # shellcheck disable=SC2086 # options are words
        kvmscope report $options --format json -o "/out/$name.report.json" -- \
            kvmscope guest --format json "$@" >"/out/$name.guest.json" 2>"/out/$name.log"
        status=$?
        [ "$name" != all ] || testify all
        lost "/out/$name.log" || break
        echo "case $name: the emulator lost the guest in try $try: $(cat "/out/$name.log")"
    done
    echo $status >"/out/$name.status"
    echo "case $name: status $status"
}

# soon SECONDS COMMAND...: waits until the command succeeds.
soon() {
    tries=$(($1 * 10))
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "never came: $*"; return 1; }
        usleep 100000
    done
}

kvmscope doctor --format json >/out/doctor.json 2>/out/doctor.log
echo $? >/out/doctor.status

watched all --vcpus 2 --all "$count"
watched vms --vms 3 --vcpus 2 --all $((count / 5))
watched move --vcpus 2 --all $((count / 2)) --move-thread
watched die --vcpus 2 --all $((count / 2)) --die
watched sleep --out 50 --mmio-write 50 --vmm-sleep-us 2000
watched brief --out 1

# Attach in the middle of a guest's life, and leave before its end: it goes on until it is told to end, as attaching takes
# a second in one emulator and ten in another.
for try in 1 2 3; do
    kvmscope guest --vcpus 2 --out 30000 --cpuid 30000 --rate 100 --deadline 300 >/out/middle.guest.log 2>&1 &
    guest=$!
    usleep 1500000
    kvmscope report --format json -o /out/middle.report.json --duration 2 >/out/middle.log 2>&1
    echo $? >/out/middle.status
    echo $guest >/out/middle.pid
    kill $guest
    wait $guest
    echo "case middle: status $(cat /out/middle.status), guest $?"
    lost /out/middle.guest.log || break
done

# KVM's modules go and come back while it watches. Attached probes hold the module kvm, once per event.
kvmscope report --format json -o /out/reload.report.json --duration 3600 >/out/reload.log 2>&1 &
report=$!
attached() { [ "$(cat /sys/module/kvm/refcnt)" -ge 5 ]; }
part() {
    for try in 1 2 3; do
        kvmscope guest --format json --all "$((count / 5))" >"/out/reload.$1.json" 2>/out/reload.guest.log && return 0
        lost /out/reload.guest.log || { cat /out/reload.guest.log >>/out/reload.log; return 1; }
    done
    return 1
}
{
    soon 20 attached && part before && kvm-modules unload && kvm-modules load && soon 20 attached && part after
    echo "reload: status $?"
} 2>&1 | tee -a /out/reload.log
kill -INT $report
wait $report
echo $? >/out/reload.status
echo "case reload: status $(cat /out/reload.status)"
