# What tests/rigs/sample records: VMs of different characters, one of which comes and goes. $seconds is put before this text.

guests=''
# vm NAME ARGS...: a guest that goes on until it is ended. Each is told to make more than it can meanwhile.
vm() {
    name=$1
    shift
    kvmscope guest --name "$name" --deadline 3600 "$@" >"/tmp/$name.log" 2>&1 &
    guests="$guests $!"
}

# Few exits a second: the processor is emulated, and what is recorded is to be small.
# Interrupts come by message, by eventfd, from the other vCPU and from its own timer, and it sleeps between them.
vm web-7 --vcpus 2 --rate 2 --msi 100000 --irqfd 100000 --ipi 100000 --timer-deadline 100000 --halt-us 2000
# A device that takes its time.
vm db-1 --vcpus 2 --rate 4 --in 100000 --in-port 0x608 --mmio-write 100000 --doorbell 100000 --vmm-sleep-us 4000
# Something of everything.
vm build --rate 2 --all 100000 --touch-pages 64 --kick-cpu 100000 --send-ipi 100000 --gp 100000
# Two that compute on one CPU.
vm batch --vcpus 2 --rate 4 --pin 0 --spin-us 40000 --cpuid 100000

# Notes are lines on standard input.
mkfifo /tmp/notes
kvmscope record --probes all --duration "$seconds" --marks -o /out/sample.kvmscope </tmp/notes 2>/out/record.log &
record=$!
exec 4>/tmp/notes
until grep -q ' [1-9][0-9]* tick' /out/record.log; do
    kill -0 $record || { cat /out/record.log; exit 1; }
    usleep 200000
done

sleep $((seconds / 3))
echo "backup begins" >&4
vm backup --rate 4 --touch 100000 --touch-pages 64 --dirty 100000 --dirty-pages 32 --out 100000
backup=$!
sleep $((seconds / 3))
kill $backup
echo "backup ends" >&4
wait $record
status=$?
cat /out/record.log
grep . /tmp/*.log
# shellcheck disable=SC2086 # they are several
kill $guests 2>/dev/null
exit $status
