# What tests/tests/rig/situations.rs looks at, after cases.sh in the same boot: where time goes, and what exits are about.
# $few (a number that this rig makes in a second or two) is put before this text.
halt_poll=/sys/module/kvm/parameters/halt_poll_ns

# More keys than the kernel's table has places, and then one page again and again.
watched spread --out $((few * 100)) --spread-ports 300
watched page --same-page $((few * 10))

# Halts that sleep, because polling is off; then halts that are shorter than KVM polls.
echo 0 >$halt_poll
watched halt --halt "$few" --halt-us 20000
echo 100000000 >$halt_poll
watched poll --halt $((few * 2)) --halt-us 20000
echo 200000 >$halt_poll

# In the guest, in a VMM that sleeps, in a VMM that computes.
watched spin --cpuid 2 --spin-us 400000
watched asleep --out "$few" --vmm-sleep-us 30000
watched busy --out "$few" --vmm-spin-us 30000

# Pages of which KVM logs that they were written, and roots with those who load them.
options='--probes all --stacks load_mmu_pgd'
watched dirty --dirty $((few * 6)) --dirty-pages $((few * 2))
options=

# On one CPU with a busy neighbour; who that was; and beside an I/O thread.
options='--probes all'
watched starved --cpuid 2 --spin-us 400000 --pin 0 --neighbour 0
# VMs are looked at once a tick; this one has to see some.
options='--interval 0.1'
watched io --cpuid 4 --spin-us 400000 --rate 20 --io-thread-us 800000
options=

# Slow exits, and others that are not.
options='--outlier 2ms'
watched slow --out 20 --cpuid 200 --vmm-sleep-us 5000
options=
watched stuck --out 2 --stuck 3

# Memory and calls, each with what its probes cost.
options='--probes all'
watched memory --touch $((few * 6)) --touch-pages $((few * 2)) --walk "$few" --doorbell $((few * 3)) --mmio-read "$few" --mmio-write "$few"
watched calls --kick-cpu "$few" --send-ipi $((few + 1)) --sched-yield $((few + 2)) --clock-pairing $((few + 3)) --hypercall 7 --slots 6 --touch "$few"
options=

# All families as a recording: the tests read it where they run.
for try in 1 2 3 4 5; do
    kvmscope record --probes all --interval 0.2 --force -o /out/recorded.kvmscope -- \
        kvmscope guest --format json --vms 2 --vcpus 2 --all "$few" --touch-pages 5 --walk "$few" \
        --doorbell "$few" --kick-cpu 4 --send-ipi 3 --sched-yield 5 --clock-pairing 2 \
        >/out/recorded.guest.json 2>/out/recorded.log
    status=$?
    lost /out/recorded.log || break
    echo "case recorded: the emulator lost the guest in try $try: $(cat /out/recorded.log)"
done
echo $status >/out/recorded.status
echo "case recorded: status $status"
