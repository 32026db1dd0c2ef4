#!/bin/sh
# Installs what the tests need from Debian's own packages, and nothing else: nothing is started or configured.
# Does nothing, fast, when everything is there. Needs root.
set -eu

packages="mmdebstrap systemd-container dbus nftables iproute2 util-linux mount jq procps curl perl-base \
    e2fsprogs qemu-system-x86 nix-bin chromium chromium-driver"

fail() {
    echo "tests/setup.sh: $*" >&2
    exit 1
}

[ -r /etc/debian_version ] || fail "this machine is not Debian; install by hand what gives: $packages"

missing=""
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "not root, cannot install:$missing"
    # A package must not start a service on a machine that only wants to run tests.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || fail "apt-get update failed"
    # shellcheck disable=SC2086
    apt-get install -qq --yes --no-install-recommends $missing >/dev/null || fail "could not install:$missing"
fi

# Prometheus' checker of rules and metrics, out of a package that would start a service: unpacked, not installed.
tools="${GHA_TOOLS_CACHE:-/var/cache/gha-runner-controller-tools}"
if ! PATH="$tools/bin:$PATH" command -v promtool >/dev/null; then
    unpacked=$(mktemp --directory)
    (
        cd "$unpacked"
        download="apt-get download -qq -o APT::Sandbox::User=root prometheus"
        $download || { apt-get update -qq && $download; }
        dpkg-deb --extract prometheus_*.deb .
        install -D usr/bin/promtool "$tools/bin/promtool"
    ) || echo "tests/setup.sh: no promtool: tests that need it will be skipped" >&2
    rm -r "$unpacked"
fi

[ "$(id -u)" = 0 ] || echo "tests/setup.sh: not root: tests that need the lab will be skipped" >&2
