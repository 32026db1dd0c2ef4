#!/bin/bash
# What style is beside rustfmt and clippy: spelling, columns of Markdown, licences and sources of what is linked.
# What a machine lacks is one line `skipped: …`. With the argument `quick` nothing is asked of crates.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${GHA_TOOLS_CACHE:-/var/cache/gha-runner-controller-tools}/bin:$PATH"
export LC_ALL=C.UTF-8

if command -v typos >/dev/null; then
    typos
    echo "ok: spelling"
else
    echo "skipped: spelling: no typos (tests/setup.sh tools)"
fi

# docs/options.md is written from the options.
mapfile -t documents < <(git ls-files '*.md' ':!docs/options.md')
! grep -HnE '^.{121,}' "${documents[@]}" | grep -v '^docs/configuration.md:[0-9]*:|' ||
    { echo "longer than 120 columns" >&2; exit 1; }
echo "ok: columns of Markdown"

[ "${1:-}" != quick ] || exit 0
if ! command -v cargo-deny >/dev/null; then
    echo "skipped: licences, duplicate crates, sources, advisories: no cargo-deny (tests/setup.sh tools)"
elif ! said=$("${CARGO:-cargo}" metadata --locked --format-version 1 2>&1 >/dev/null); then
    echo "skipped: licences, duplicate crates, sources, advisories: a crate cannot be downloaded: $(tail -n 1 <<<"$said")"
else
    cargo-deny --workspace --locked check --hide-inclusion-graph bans licenses sources
    if timeout 20 cargo-deny fetch db 2>/dev/null; then
        cargo-deny --workspace --frozen check --hide-inclusion-graph advisories
    else
        echo "skipped: advisories: the database (https://github.com/RustSec/advisory-db) cannot be had"
    fi
fi
