# Intel VMX: Bochs, which emulates it with EPT, VPID and unrestricted guest. Needs: fetch.sh, initramfs.sh, gcc.

# ensure_vmx: sets $bochs_root, the directory that holds what is not installed here.
ensure_vmx() {
    bochs_root=$cache/bochs
    # Any of its front ends satisfies the package; the terminal's brings the fewest libraries.
    [ -e "$bochs_root/ready" ] || locked fetch_bochs || die "cannot fetch Bochs and the tools for its boot disk"
    [ -x "$(e9_program)" ] || die "cannot build the output helper $here/e9.c (gcc and libc6-dev are needed)"
}

fetch_bochs() {
    [ ! -e "$bochs_root/ready" ] || return 0
    unpack_tool "$(own_suites)" "$bochs_root" bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso || return 1
    touch "$bochs_root/ready"
}

# e9_program: the tiny static program that writes to Bochs' port 0xE9, built once.
e9_program() {
    local program=$cache/e9
    if [ ! -x "$program" ] || [ "$here/e9.c" -nt "$program" ]; then
        gcc -O2 -static -o "$program.$$" "$here/e9.c" && mv "$program.$$" "$program"
    fi
    echo "$program"
}

bochs_file() { installed_or_unpacked "$bochs_root" "$1"; }

boot_vmx() {
    local iso=$work/iso libs=$bochs_root/usr/lib/x86_64-linux-gnu
    mkdir "$iso"
    cp "$(bochs_file /usr/lib/ISOLINUX/isolinux.bin)" "$(bochs_file /usr/lib/syslinux/modules/bios/ldlinux.c32)" "$iso/"
    cp "$kernel_dir/vmlinuz" "$work/initrd.gz" "$iso/"
    cat >"$iso/isolinux.cfg" <<CONF
default rig
prompt 0
label rig
  kernel vmlinuz
  initrd initrd.gz
  append console=ttyS0,115200 quiet mitigations=off nokaslr tsc=reliable tsc_early_khz=100000 no_timer_check nowatchdog cryptomgr.notests audit=0 rdinit=/init panic=-1 random.trust_cpu=on $append
CONF
    LD_LIBRARY_PATH=$libs "$(bochs_file /usr/bin/xorriso)" -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin \
        -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$iso" 2>"$work/xorriso.log" ||
        { cat "$work/xorriso.log" >&2; return 1; }
    cat >"$work/bochsrc" <<CONF
megs: $memory
cpu: model=corei7_skylake_x, count=$cpus, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file=$(bochs_file /usr/share/bochs/BIOS-bochs-latest)
vgaromimage: file=$(bochs_file /usr/share/bochs/VGABIOS-lgpl-latest)
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$out/console.log
port_e9_hack: enabled=1
clock: sync=none, time0=1700000000
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
display_library: rfb, options="timeout=0"
log: $work/bochs.log
panic: action=fatal
CONF
    # Debian's build has the debugger: it waits for this one command.
    echo c >"$work/debugger"
    : >"$out/console.log"
    local status=0 plugins
    plugins=$(bochs_file /usr/lib/x86_64-linux-gnu/bochs/plugins)
    LD_LIBRARY_PATH=$libs LTDL_LIBRARY_PATH=$plugins timeout --kill-after=5 "$limit" \
        "$(bochs_file /usr/bin/bochs-bin)" -q -f "$work/bochsrc" -rc "$work/debugger" \
        </dev/null >"$work/e9.out" 2>"$work/bochs.err" || status=$?
    # A normal power-off is status 1.
    case $status in
        0 | 1) ;;
        124) return 124 ;;
        *) tail -n 20 "$work/bochs.err" "$work/bochs.log" >&2 ;;
    esac
    sed -n '/^@@RIG-BEGIN@@/,/^@@RIG-END@@/p' "$work/e9.out" | grep -av '^@@' >"$work/out.b64" || true
    if [ -s "$work/out.b64" ]; then
        base64 -d "$work/out.b64" | tar -xz -C "$out" --no-same-owner
    else
        tail -n 20 "$work/e9.out" "$work/bochs.log" >&2
    fi
    return $status
}
