# Downloading Debian packages without installing any, through a private apt configuration.
# Needs: $cache, die, say. The archive's address is taken from this machine's own apt sources; only the suite differs.

# again COMMAND...: up to four tries, with a growing pause: an archive may hiccup.
again() {
    local try
    for try in 1 2 3 4; do
        "$@" && return 0
        [ "$try" = 4 ] || sleep $((try * 3))
    done
    return 1
}

# archive_of SUITE: the address of the archive that holds it: the security one or the main one.
archive_of() {
    local security=no
    case $1 in *-security) security=yes ;; esac
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk -v security=$security '
            $2 !~ /debian/ { next }
            ($1 ~ /-security$/ ? "yes" : "no") == security { print $2; exit }'
}

# apt_in SUITES EMPTY|SYSTEM COMMAND ARGS...: an apt command that knows these suites (joined by commas) only, and as
# installed packages either none or those of this machine.
apt_in() {
    local dir=$cache/apt/$1 installed=$2 command=$3
    local status=/var/lib/dpkg/status
    shift 3
    [ "$installed" = SYSTEM ] || status=$dir/status
    "$command" -qq -c "$dir/apt.conf" -o Dir::State::status="$status" "$@"
}

# apt_configuration DIR: own lists and cache; what this machine sets about proxies and the like stays in force, what it
# does after a command (to its own cache) does not.
apt_configuration() {
    cat <<CONF
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "$1/empty";
Dir::Etc::preferencesparts "$1/empty";
Dir::State::lists "$1/lists";
Dir::Cache "$1/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
APT::Sandbox::User "root";
Debug::NoLocking "true";
CONF
}

# apt_ready SUITES: the package lists of the suites (joined by commas), downloaded if they are an hour old.
apt_ready() {
    local suites=$1 suite uri
    local dir=$cache/apt/$suites keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -z "$(find "$dir/ready" -mmin -60 2>/dev/null)" ] || return 0
    mkdir -p "$dir/empty" "$dir/lists/partial" "$dir/cache/archives/partial"
    : >"$dir/status"
    apt_configuration "$dir" >"$dir/apt.conf"
    : >"$dir/sources.list"
    for suite in ${suites//,/ }; do
        uri=$(archive_of "$suite")
        [ -n "$uri" ] || die "this machine's apt sources name no Debian archive to take $suite from (apt-get indextargets)"
        if [ -r $keyring ]; then
            echo "deb [signed-by=$keyring] $uri $suite main" >>"$dir/sources.list"
        else
            echo "deb $uri $suite main" >>"$dir/sources.list"
        fi
    done
    say "package lists of ${suites//,/, }"
    again apt_in "$suites" EMPTY apt-get update >&2 || return 1
    touch "$dir/ready"
}

# unpack_packages SUITES DIR PACKAGE...: downloads the packages and unpacks them into DIR.
unpack_packages() {
    local suites=$1 dir=$2 package deb
    shift 2
    local debs=$dir.debs
    rm -rf "$debs" "$dir.new"
    mkdir -p "$debs" "$dir.new"
    for package in "$@"; do
        say "download of $package"
        (cd "$debs" && again apt_in "$suites" EMPTY apt-get download "$package" >&2) || return 1
    done
    for deb in "$debs"/*.deb; do
        dpkg-deb -x "$deb" "$dir.new" || return 1
    done
    rm -rf "$dir" "$debs"
    mv "$dir.new" "$dir"
}

# unpack_tool SUITES DIR APT-ARGS...: what `apt-get install APT-ARGS` would have to download on this machine, unpacked
# into DIR instead of installed, so that the tool and the libraries that it misses can be used from there.
unpack_tool() {
    local suites=$1 dir=$2 deb debs
    shift 2
    apt_ready "$suites" || return 1
    debs=$cache/apt/$suites/cache/archives
    rm -rf "$dir.new" "$debs"
    mkdir -p "$dir.new" "$debs/partial"
    say "download of $*"
    again apt_in "$suites" SYSTEM apt-get install --download-only --no-install-recommends --yes "$@" >&2 || return 1
    for deb in "$debs"/*.deb; do
        [ -e "$deb" ] || continue
        dpkg-deb -x "$deb" "$dir.new" || return 1
    done
    rm -rf "$debs" "$dir"
    mv "$dir.new" "$dir"
}

# own_suites: the suites of this machine's Debian, for ordinary tools.
own_suites() {
    local VERSION_CODENAME=
    # shellcheck source=/dev/null
    . /etc/os-release
    [ -n "$VERSION_CODENAME" ] || die "/etc/os-release names no Debian release"
    echo "$VERSION_CODENAME"
}

# locked COMMAND...: one at a time on this cache; rigs may be started side by side.
locked() {
    (
        flock 9
        "$@"
    ) 9>"$cache/lock"
}

# installed_or_unpacked DIR PATH: the file on this machine, or else under DIR.
installed_or_unpacked() {
    if [ -e "$2" ]; then echo "$2"; else echo "$1$2"; fi
}

# busybox: a static one, from the machine or from the cache.
ensure_busybox() {
    busybox=$(installed_or_unpacked "$cache/busybox" /bin/busybox)
    if ! "$busybox" --list >/dev/null 2>&1 || ldd "$busybox" >/dev/null 2>&1; then
        busybox=$cache/busybox/bin/busybox
        [ -x "$busybox" ] || locked fetch_busybox || die "cannot fetch busybox-static"
        [ -x "$busybox" ] || busybox=$cache/busybox/usr/bin/busybox
    fi
}

fetch_busybox() {
    local suites
    suites=$(own_suites)
    apt_ready "$suites" && unpack_packages "$suites" "$cache/busybox" busybox-static
}
