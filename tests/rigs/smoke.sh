# What the rig runs when no script is given: does KVM work here?
uname -r | tee /out/kernel
cat /proc/modules | tee /out/modules
ls -l /dev/kvm
ls /sys/kernel/tracing/events/kvm | wc -l
