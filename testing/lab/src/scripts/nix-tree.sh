# Continues job-tree.sh in a tree with Nix: its own daemon, started on first use, and its own database, which knows a few
# paths that the tree does not hold: they are in the host's store. That one is made here as well, below /srv/host-nix.
chroot "$tree" usermod --append --groups nix-users runner
systemctl --quiet --root="$tree" disable nix-daemon.service 2>/dev/null || true
systemctl --quiet --root="$tree" enable nix-daemon.socket
cat >"$tree/etc/nix/nix.conf" <<'CONF'
experimental-features = nix-command flakes
build-users-group = nixbld
sandbox = true
sandbox-fallback = false
# Nothing here reaches a cache.
substituters =
CONF
host="$tree/srv/host-nix"
# The program wants to be called by its name.
mkdir -p "$host/tools"
cp "$tree/bin/busybox" "$host/tools/"
cat >"$host/paths.nix" <<'NIX'
let tools = builtins.path { name = "tools"; path = /srv/host-nix/tools; };
in builtins.toFile "greeting" "made for the host beside ${tools}\n"
NIX
# $1: the store. Newer ones want a /proc. No building: that needs more than a tree without /dev has.
nix() {
    store=$1
    shift
    unshare --mount sh -euc 'mount -t proc proc "$1/proc"; exec chroot "$@"' nix \
        "$tree" env HOME=/root NIX_REMOTE="$store" "$@"
}
nix local?root=/srv/host-nix nix-instantiate --eval --read-write-mode /srv/host-nix/paths.nix
nix local?root=/srv/host-nix nix-store --dump-db >"$tree/srv/host-nix/registration"
rm -rf "$tree/nix/store" "$tree/nix/var/nix/db"
mkdir -p "$tree/nix/store"
nix local nix-store --load-db <"$tree/srv/host-nix/registration"
rm -rf "$tree/root/.cache"
