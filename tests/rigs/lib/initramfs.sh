# The rig's whole system: busybox, KVM's modules, the programs under test with their libraries, the script.
# Needs: $busybox, $kernel_dir, $vendor, $mode, $script, $bins, $here, die.

# with_libraries PROGRAM ROOT: copies it to ROOT/bin and what ldd names (loader included) to where it is expected.
with_libraries() {
    local program=$1 root=$2 library
    cp -L "$program" "$root/bin/$(basename "$program")"
    ldd "$program" >/dev/null 2>&1 || return 0
    if ldd "$program" | grep 'not found' >&2; then
        die "$program needs libraries that this machine lacks"
    fi
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library"
    done
}

# build_initramfs FILE
build_initramfs() {
    local root=$work/root applet module bin
    mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,out,etc,modules,root,var}
    cp "$busybox" "$root/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
    done
    for module in irqbypass kvm "kvm-$(vendor_module)"; do
        cp "$kernel_dir/modules/$module.ko" "$root/modules/"
        echo "$module"
    done >"$root/modules/order"
    cp "$here/init" "$root/init"
    cp "$here/kvm-modules" "$root/bin/kvm-modules"
    cp "$script" "$root/script"
    chmod 755 "$root/init" "$root/script" "$root/bin/kvm-modules"
    for bin in "${bins[@]}"; do
        with_libraries "$bin" "$root"
    done
    [ "$vendor" = svm ] || cp "$(e9_program)" "$root/bin/e9"
    {
        echo "vendor=$vendor"
        echo "mode=$mode"
        [ -z "$script_given" ] || echo script=yes
        if [ "$mode" = console ]; then
            terminal_settings
        fi
    } >"$root/etc/rig.conf"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    (cd "$root" && find . | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null | gzip -1) >"$1"
}

vendor_module() { if [ "$vendor" = svm ]; then echo amd; else echo intel; fi; }

# terminal_settings: this terminal's size and kind, for the rig's console.
terminal_settings() {
    local size
    size=$(stty size 2>/dev/null </dev/tty || echo '24 80')
    echo "rows=${size% *}"
    echo "columns=${size#* }"
    echo "term=${TERM:-xterm-256color}"
    echo "colorterm=${COLORTERM:-}"
}
