#!/bin/bash
# The units NixOS installs are, byte for byte, those the laboratory's host runs for the same settings. $1: the program.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/../.."
command -v nix-instantiate >/dev/null || { echo "skipped: units: no nix-instantiate (Debian: nix-bin)"; exit 0; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
binary=/usr/local/bin/gha-runner-controller

NIX_REMOTE=dummy:// NIX_CONFIG="build-users-group =" \
    nix-instantiate --eval --strict --json tests/nix/lab.nix >"$place/config.json"
# As nix/units.nix calls it, and as testing/lab/src/product.rs does.
"$program" units --static --config "$place/config.json" --output "$place/nixos/lib" --binary $binary >/dev/null
"$program" units --static --config tests/nix/lab.toml --output "$place/lab/etc" --binary $binary >/dev/null
diff --recursive "$place/nixos/lib" "$place/lab/etc"
echo "ok: $(find "$place/lab" -type f | wc -l) rendered files are the same for NixOS and the lab"
