# What tests/tests/rig/memory.rs looks at: the guest's own account of page faults, MMIO, hypercalls, dirty pages, roots
# and ioctls beside the kernel's (histograms of tracing, which know nothing of kvmscope). $few is put before this text.
tracing=/sys/kernel/tracing
kvm=$tracing/events/kvm

# Where the kernel has both vendors' modules, one of the two cannot be probed: there is nothing to be said about it.
for probe in 'dirty mark_page_dirty_in_slot gfn=%dx:u64' 'root svm_load_mmu_pgd' 'root vmx_load_mmu_pgd'; do
    echo "p:made/$probe" >>$tracing/kprobe_events 2>/dev/null
done

# event, keys of its histogram, name of the file
histograms() {
    cat <<LIST
$kvm/kvm_page_fault fault_address,error_code fault
$kvm/kvm_mmio type,gpa mmio
$kvm/kvm_fast_mmio gpa fast
$kvm/kvm_hypercall nr,a0,a2 hypercall
$tracing/events/syscalls/sys_enter_ioctl cmd ioctl
$tracing/events/made/dirty gfn dirty
$tracing/events/made/root common_pid root
LIST
}
start() {
    histograms | while read -r event keys _; do
        echo "hist:keys=$keys:size=8192" >"$event/trigger" || echo "no histogram of $event"
    done
}
stop() {
    histograms | while read -r event keys name; do
        cat "$event/hist" >"/out/$1.$name.hist"
        echo "!hist:keys=$keys:size=8192" >"$event/trigger"
    done
}

# made NAME ARGS...: the guest, while the kernel counts. Repeated where the emulator lost it (see cases.sh).
made() {
    name=$1
    shift
    for try in 1 2 3 4 5; do
        start
        kvmscope guest --format json "$@" >"/out/$name.guest.json" 2>"/out/$name.log"
        status=$?
        stop "$name"
        grep -q 'triple fault\|internal error\|RIP 0xffff' "/out/$name.log" || break
        echo "case $name: the emulator lost the guest in try $try: $(cat "/out/$name.log")"
    done
    echo $status >"/out/$name.status"
    echo "case $name: status $status"
}

made touch --touch $((few * 6)) --touch-pages $((few * 2)) --same-page "$few"
made dirty --dirty $((few * 6)) --dirty-pages $((few * 2))
made walk --walk $((few * 4)) --walk-tables "$few"
made slots --slots "$few" --touch "$few"
made doorbell --doorbell $((few * 3)) --mmio-read "$few" --mmio-write "$few"
made mmio-kernel --mmio-kernel "$few" --out 3
made hypercalls --kick-cpu "$few" --send-ipi $((few + 1)) --sched-yield $((few + 2)) --clock-pairing $((few + 3)) --hypercall 7
made together --vms 2 --vcpus 2 --all "$few" --touch-pages 5 --dirty $((few * 3)) --dirty-pages "$few" --walk "$few" --doorbell "$few" --send-ipi 3

# flooded NAME COMMAND: a report of every family while the command runs, whose guests leave /out/*.guest.json. Repeated as above.
flooded() {
    for try in 1 2 3 4 5; do
        kvmscope report --probes all --format json -o "/out/$1.report.json" -- sh -c "$2" 2>"/out/$1.log"
        status=$?
        grep -q 'triple fault\|internal error\|RIP 0xffff' "/out/$1.log" || break
        echo "case $1: the emulator lost the guest in try $try: $(cat "/out/$1.log")"
    done
    echo $status >"/out/$1.status"
    echo "case $1: status $status, at $(cut -d' ' -f1 /proc/uptime) s"
}

# A VM of 300 vCPUs, and page faults as fast as they can be made beside something of everything else: where the emulator
# is fast enough.
if [ -d /sys/module/kvm_amd ]; then
    guest='kvmscope guest --format json'
    echo "floods begin at $(cut -d' ' -f1 /proc/uptime) s"
    flooded many "$guest --vcpus 300 --cpuid 20 --out 20 --mmio-write 5 --hypercall 5 --touch 10 --touch-pages 5 >/out/many.guest.json"
    flooded flood "$guest --vcpus 4 --touch $((few * 100)) >/out/flood.guest.json & flood=\$!
        $guest --all $few --touch-pages 5 --dirty $((few * 3)) --dirty-pages $few --send-ipi 3 >/out/beside.guest.json && wait \$flood"
fi

# KVM maps huge pages without leave to execute only where it is told to.
nx=/sys/module/kvm/parameters/nx_huge_pages
was=$(cat $nx)
echo force >$nx
echo always >/sys/kernel/mm/transparent_hugepage/enabled
made exec --exec 2 --cpuid "$few"
[ "$was" = Y ] || echo off >$nx

# Without the processor's log of pages KVM protects them from writing instead.
if [ "$(cat /sys/module/kvm_intel/parameters/pml 2>/dev/null)" = Y ]; then
    rmmod kvm_intel && insmod "/modules/$(grep intel /modules/order).ko" pml=0 || echo "kvm_intel did not come back"
    made no-page-log --dirty $((few * 6)) --dirty-pages $((few * 2))
fi
