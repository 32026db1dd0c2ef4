#!/bin/bash
# Prints docs/options.md. $1: a nixpkgs tree.
set -euo pipefail
nixpkgs=$(realpath "${1:?name a nixpkgs tree}")
cd "$(dirname "$0")/../.."
nix-instantiate --readonly-mode --eval --strict --json tests/nix/evaluate.nix --argstr part options --arg nixpkgs "$nixpkgs" |
    python3 -c 'import json, sys; print(json.load(sys.stdin).rstrip())'
