# AMD SVM: QEMU's TCG, which emulates SVM with nested paging. Needs: fetch.sh, initramfs.sh.

# QEMU 10 or later: 7.2, which Debian 12 has, hangs with several emulation threads while probes attach.
readonly QEMU_MAJOR=10

qemu_major() { "$1" --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p;q'; }

# ensure_svm: sets $qemu (a command with its library path and data directory).
ensure_svm() {
    local candidate root=$cache/qemu
    for candidate in ${KVMSCOPE_RIG_QEMU:-} qemu-system-x86_64; do
        if [ "$(qemu_major "$candidate")" -ge $QEMU_MAJOR ] 2>/dev/null; then
            qemu=("$candidate")
            return
        fi
    done
    [ -x "$root/usr/bin/qemu-system-x86_64" ] || locked fetch_qemu || die "cannot fetch QEMU $QEMU_MAJOR"
    qemu=(env "LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu"
        "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
    "${qemu[@]}" --version >/dev/null || die "the unpacked QEMU in $root does not start"
}

fetch_qemu() {
    [ ! -x "$cache/qemu/usr/bin/qemu-system-x86_64" ] || return 0
    local own
    own=$(own_suites)
    unpack_tool "$own,$own-backports" "$cache/qemu" -t "$own-backports" --reinstall \
        qemu-system-x86 qemu-system-common qemu-system-data seabios ipxe-qemu
}

boot_svm() {
    # One emulation thread for all processors: with several, QEMU's SVM now and then leaves a guest at an address of
    # its host (3 of 40 runs of 6 vCPUs; none of 80 with one thread, which took no longer).
    local accel=(-accel tcg,thread=single,tb-size=512) console_device=(-chardev "file,id=con,path=$out/console.log")
    if [ -n "$icount" ]; then
        accel=(-accel tcg,thread=single -icount shift=0,sleep=off,align=off) # icount has no several threads
    fi
    local guard=(timeout --kill-after=5 "$limit") input=/dev/null
    if [ -n "$console" ]; then
        console_device=(-chardev "stdio,id=con,signal=off,logfile=$out/console.log")
        guard=() input=/dev/stdin
    fi
    "${guard[@]}" "${qemu[@]}" -machine q35 "${accel[@]}" -cpu EPYC-v1 -smp "$cpus" -m "$memory" \
        -display none -no-reboot -nodefaults -net none \
        "${console_device[@]}" -serial chardev:con -serial "file:$work/out.tar.gz" \
        -kernel "$kernel_dir/vmlinuz" -initrd "$work/initrd.gz" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off $append" <"$input" 2>"$work/qemu.log" || {
        local status=$?
        cat "$work/qemu.log" >&2
        return $status
    }
    [ ! -s "$work/out.tar.gz" ] || tar -xz -C "$out" -f "$work/out.tar.gz" --no-same-owner
}
