#!/bin/bash
# Builds the NixOS host that tests/root/nixos_host.rs boots, and prints where: two assignments for a shell. $1: a nixpkgs
# tree; $2: the directory of this workspace's programs. All of it is kept beside the lab's trees (GHA_LAB_CACHE).
set -euo pipefail
cannot() { echo "$1" >&2; exit 1; }
nixpkgs=$(realpath "$1")
programs=$(realpath "$2")
cd "$(dirname "$0")/../../.."
[ -e "$nixpkgs/nixos/lib/eval-config.nix" ] || cannot "$nixpkgs is no nixpkgs. Remedy: NIXPKGS=TREE, a checkout"
[ "$(id -u)" = 0 ] || cannot "the build mounts. Remedy: run it as root"
place=${GHA_LAB_CACHE:-/var/cache/gha-runner-controller-lab}/nixos-host
mkdir -p "$place"
exec 9>"$place/lock"
flock 9

# --- a Debian tree with Nix, a compiler and what a NixOS has
packages=$(sed '/^#/d' tests/nix/host/packages.txt | paste -sd,)
key=$(sha256sum <<<"$packages" | cut -c1-16)
tree=$place/debian-$key
if [ ! -e "$tree" ]; then
    echo "building a Debian tree (once, some minutes)" >&2
    rm -rf "$place"/debian-* "$place/new" "$place/store"
    mmdebstrap --quiet --mode=root --variant=minbase "--include=$packages" \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/{doc,locale,man,info}/'*' \
        sid "$place/new" "deb ${GHA_LAB_MIRROR:-http://deb.debian.org/debian} sid main" >"$place/log" 2>&1 ||
        cannot "no Debian tree: $(tail -5 "$place/log")"
    mv "$place/new" "$tree"
fi

# Runs a program in the tree, over a throw-away layer, with the store, nixpkgs and this project, and without a network.
inside() {
    unshare --mount --net --pid --fork --kill-child --propagation private bash -euc '
        tree=$1 place=$2 nixpkgs=$3 project=$4 programs=$5
        shift 5
        mkdir -p "$place"/{work,store,programs}
        mount -t tmpfs tmpfs "$place/work"
        mkdir "$place"/work/{upper,work,root}
        mount -t overlay -o "lowerdir=$tree,upperdir=$place/work/upper,workdir=$place/work/work" overlay "$place/work/root"
        cd "$place/work/root"
        mkdir -p nix mnt/nixpkgs mnt/project mnt/programs
        mount --bind "$place/store" nix
        for bound in "nixpkgs:$nixpkgs" "project:$project" "programs:$programs"; do
            mount --bind "${bound#*:}" "mnt/${bound%%:*}"
            mount -o remount,bind,ro "mnt/${bound%%:*}"
        done
        mount -t proc proc proc
        mount --rbind /dev dev
        # Not as process 1, which systemd takes for the host.
        chroot . env -i PATH=/usr/bin:/usr/sbin HOME=/root NIX_CONFIG="experimental-features = nix-command
substituters =
build-users-group =
sandbox = false" "$@" 9>&-
        ' inside "$tree" "$place" "$nixpkgs" "$PWD" "$place/programs" "$@"
}

# --- programs: ours, and nixpkgs' own that switches
mkdir -p "$place/programs"
install -C -t "$place/programs" "$programs"/{gha-runner-controller,gha-runner-guest,fakerunner,scenario}
source=$nixpkgs/pkgs/by-name/sw/switch-to-configuration-ng
key=$(find "$source" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
if [ "$(cat "$place/switch.key" 2>/dev/null)" != "$key" ]; then
    echo "building switch-to-configuration (once)" >&2
    rm -rf "$place/switch"
    mkdir -p "$place/switch/interfaces"
    cp -r "$source" "$place/switch/source"
    chmod -R u+w "$place/switch/source"
    # With features for the build's own libdbus, too: it is compiled along.
    sed -i 's/^edition = .*/&\nresolver = "1"/' "$place/switch/source/Cargo.toml"
    # $1: program, $2: object, $3: interface
    interface() {
        inside "/usr/lib/systemd/$1" "--bus-introspect=$2" |
            sed -n "1i <node>
                /<interface name=\"$3\">/,/<\/interface>/p
                \$a </node>" >"$place/switch/interfaces/$3.xml"
    }
    interface systemd /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager
    interface systemd-logind /org/freedesktop/login1 org.freedesktop.login1.Manager
    (cd "$place/switch/source" && SYSTEMD_DBUS_INTERFACE_DIR=$place/switch/interfaces \
        CARGO_TARGET_DIR=$place/switch/target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 "${CARGO:-cargo}" build --quiet --release --locked \
        --features dbus/vendored) >&2
    install -C -t "$place/programs" "$place/switch/target/release/switch-to-configuration"
    rm -rf "$place/switch"
    echo "$key" >"$place/switch.key"
fi

# --- the system: first what it is made of, because what wants a download would try for minutes
host='(import /mnt/project/tests/nix/host { nixpkgs = /mnt/nixpkgs; programs = /mnt/programs; }).config.system.build'
inside /usr/bin/time -f %M -o /nix/memory nix-instantiate --quiet --add-root /nix/host.drv -E "$host.toplevel" >"$place/log" 2>&1 ||
    cannot "the host does not evaluate: $(tail -20 "$place/log")"
inside sh -c 'nix derivation show --recursive "$(readlink /nix/host.drv)" 2>/dev/null' |
    jq -r '(.derivations // .)[] | select(any(.outputs[]; has("hash"))) | .name' >"$place/downloads"
[ ! -s "$place/downloads" ] ||
    cannot "Debian's programs do not stand in for: $(paste -sd' ' "$place/downloads"). Remedy: tests/nix/host/programs.nix"
inside nix-store --quiet --realise --add-root /nix/host /nix/host.drv >"$place/log" 2>&1 ||
    cannot "the host is not built: $(tail -20 "$place/log")"
inside nix-store --quiet --gc >/dev/null 2>&1
echo "ok: the host is built; its evaluation took $(($(cat "$place/store/memory") >> 10)) MiB of memory" >&2
echo "GHA_LAB_HOST_SYSTEM=$(readlink "$place/store/host") GHA_LAB_STORE=$place/store/store"
