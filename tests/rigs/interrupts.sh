# What tests/tests/rig/interrupts.rs looks at: interrupts, timers, halts and CPUs, in the guest's own account, in the kernel's
# (histograms of tracing, which know nothing of kvmscope) and in a report. $few and $cases are put before this text.
tracing=/sys/kernel/tracing
kvm=$tracing/events/kvm
halt_poll=/sys/module/kvm/parameters/halt_poll_ns
mkdir -p /out

# event, keys of its histogram
histograms() {
    cat <<LIST
kvm_inj_virq vector,reinjected
kvm_inj_exception exception,has_error,reinjected
kvm_eoi vector
kvm_apic_ipi dest_id,icr_low
kvm_apic_accept_irq apicid,vec
kvm_apicv_accept_irq apicid,vec
kvm_pic_set_irq pin,imr,coalesced
kvm_ioapic_set_irq pin,e,coalesced
kvm_msi_set_irq address,data
kvm_set_irq gsi,level
kvm_apic rw,reg
kvm_msr write,ecx,exception
kvm_vcpu_wakeup waited,valid
kvm_hv_timer_state vcpu_id,hv_timer_in_use
kvm_wait_lapic_expire vcpu_id
LIST
}
start() {
    histograms | while read -r event keys; do
        [ -d "$kvm/$event" ] || continue
        echo "hist:keys=$keys:size=4096" >"$kvm/$event/trigger" || echo "no histogram of $event by $keys"
    done
}
stop() {
    histograms | while read -r event keys; do
        [ -d "$kvm/$event" ] || continue
        cat "$kvm/$event/hist" >"/out/$1.$event.hist"
        echo "!hist:keys=$keys:size=4096" >"$kvm/$event/trigger"
    done
}

# made NAME ARGS...: the guest, while the kernel counts and a report does. Repeated where the emulator lost it (see cases.sh).
options='--probes all'
made() {
    name=$1
    shift
    case " $cases " in
        *" $name "*) ;;
        *) return ;;
    esac
    for try in 1 2 3 4 5; do
        start
        # shellcheck disable=SC2086 # options are words
        kvmscope report $options --format json -o "/out/$name.report.json" -- \
            kvmscope guest --format json "$@" >"/out/$name.guest.json" 2>"/out/$name.log"
        status=$?
        stop "$name"
        # An interrupt that the emulator delivers twice may make one vCPU send before the next has taken the one before;
        # the two become one, and both wait for ever.
        grep -q 'triple fault\|internal error\|RIP 0xffff\|was not done after' "/out/$name.log" || break
        echo "case $name: the emulator lost the guest in try $try: $(cat "/out/$name.log")"
    done
    echo $status >"/out/$name.status"
    echo "case $name: status $status"
}

made one-shot --timer-one-shot "$few"
made periodic --timer-periodic "$few" --timer-us 20000
made deadline --timer-deadline "$few" --timer-disarm $((few + 3))
made ipi --vcpus 3 --ipi "$few"
made self-ipi --ipi "$few"
made message --msi "$few" --irqfd $((few + 1)) --vcpus 2
made pic --pic-line "$few"
made ioapic --ioapic-edge "$few" --ioapic-level $((few + 1)) --irqfd-line $((few + 2)) --line-masked $((few + 3))
made exceptions --gp "$few" --ud $((few + 1))
made split --split-irqchip --timer-deadline "$few" --msi "$few" --irqfd "$few" --ipi "$few"
made none --hlt "$few" --out "$few"
made moves --move-cpus "$few" --out $((few * 2))
made together --vms 2 --vcpus 2 --timer-one-shot 5 --timer-deadline 6 --ipi 7 --msi 8 --irqfd 9 --gp 3 --ud 4 --halt 5 --all 10

echo 0 >$halt_poll
made sleep --msi "$few" --halt-us 20000
echo 100000000 >$halt_poll
made poll --msi "$few" --halt-us 20000
echo 200000 >$halt_poll
