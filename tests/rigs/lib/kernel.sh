# The kernels of the rigs: the newest package that a suite offers of each series. Nothing is pinned: Debian removes
# old versions. Needs: $cache and fetch.sh.

# Series, suites to look in (first hit wins) and the pattern of the package that holds the image. The cloud flavour:
# its KVM needs three modules and it boots fast. Where modules are a package of their own, kernel_packages adds it.
kernel_table() {
    cat <<'TABLE'
5.10 bullseye-security,bullseye ^linux-image-5\.10\.0-[0-9]+-cloud-amd64$
6.1 bookworm-security,bookworm ^linux-image-6\.1\.0-[0-9]+-cloud-amd64$
6.12 trixie-security,trixie ^linux-image-6\.12\.[0-9]+\+deb13-cloud-amd64$
6.18 trixie-backports ^linux-image-6\.18\.[0-9]+\+deb13-cloud-amd64$
newest sid ^linux-binary-([7-9]|[1-9][0-9])\.[0-9]+(\.[0-9]+)?\+deb[0-9]+-cloud-amd64$
TABLE
}

kernel_names() { kernel_table | awk '{ printf "%s%s", sep, $1; sep = " " }'; }

kernel_known() { [ -n "$1" ] && kernel_table | awk -v k="$1" '$1 == k { found = 1 } END { exit !found }'; }

# ensure_kernel SERIES: sets $kernel_dir, which holds vmlinuz, package and modules/*.ko.
ensure_kernel() {
    kernel_dir=$cache/kernel/$1
    ensure_busybox
    [ -e "$kernel_dir/package" ] || locked fetch_kernel "$1" || die "cannot fetch the kernel $1"
}

fetch_kernel() {
    [ ! -e "$kernel_dir/package" ] || return 0
    local series=$1 suites suite pattern package='' unpacked=$cache/kernel/$1.unpacked
    read -r suites pattern < <(kernel_table | awk -v k="$series" '$1 == k { print $2, $3 }')
    for suite in ${suites//,/ }; do
        apt_ready "$suite" || continue
        package=$(apt_in "$suite" EMPTY apt-cache search --names-only "$pattern" |
            cut -d' ' -f1 | sort -t- -k3V | tail -n 1)
        [ -z "$package" ] || break
    done
    [ -n "$package" ] || { say "none of $suites offers a package like $pattern"; return 1; }
    mkdir -p "$cache/kernel"
    local packages=("$package")
    case $package in linux-binary-*) packages+=("linux-modules-${package#linux-binary-}") ;; esac
    unpack_packages "$suite" "$unpacked" "${packages[@]}" || return 1

    local image new=$kernel_dir.new name found
    image=$(find "$unpacked" -type f -name 'vmlinuz*' | head -n 1)
    [ -n "$image" ] || { say "$package holds no kernel image"; return 1; }
    rm -rf "$new"
    mkdir -p "$new/modules"
    cp "$image" "$new/vmlinuz"
    for name in irqbypass kvm kvm-amd kvm-intel; do
        found=$(find "$unpacked" -type f \( -name "$name.ko" -o -name "$name.ko.xz" \) | head -n 1)
        case $found in
            *.xz) "$busybox" xzcat "$found" >"$new/modules/$name.ko" || return 1 ;;
            *.ko) cp "$found" "$new/modules/$name.ko" ;;
            *) say "$package holds no module $name"; return 1 ;;
        esac
    done
    echo "$package" >"$new/package"
    rm -rf "$kernel_dir" "$unpacked"
    mv "$new" "$kernel_dir"
    say "kernel $series is $package"
}
