#!/bin/bash
# What can be said of the Nix code without nixpkgs: syntax, dead code, formatting, our pure functions, and that the
# units the module would install are those the program renders. What a machine lacks is one line `skipped: …`.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools="${GHA_TOOLS_CACHE:-/var/cache/gha-runner-controller-tools}"
export PATH="$tools/bin:$PATH"
# Nothing is built here, and no store is asked.
export NIX_REMOTE=dummy:// NIX_CONFIG="build-users-group ="
mapfile -t files < <(git ls-files '*.nix')
((${#files[@]} > 0)) || { echo "no .nix file is known to git" >&2; exit 1; }

# $1: program, $2: crate
from_crates() {
    command -v "$1" >/dev/null && return
    echo "installing $2 into $tools (once)"
    # In a place of its own: the workspace's profile and target directory are not meant for it.
    (cd / && env -u CARGO_TARGET_DIR "${CARGO:-cargo}" install --locked --quiet --root "$tools" "$2")
}

if command -v nix-instantiate >/dev/null; then
    for file in "${files[@]}"; do
        nix-instantiate --parse "$file" >/dev/null
    done
    echo "ok: syntax of ${#files[@]} files"
    said=$(nix-instantiate --eval --strict --json tests/nix/pure.nix)
    [ "$said" = '[]' ] || { echo "pure functions: $said" >&2; exit 1; }
    echo "ok: pure functions"
else
    echo "skipped: syntax and pure functions: no nix-instantiate (Debian: nix-bin)"
fi

if from_crates deadnix deadnix; then
    deadnix --fail "${files[@]}"
    echo "ok: no dead code"
else
    echo "skipped: dead code: deadnix cannot be installed"
fi

if from_crates nixfmt nixfmt_rs; then
    nixfmt --check "${files[@]}"
    echo "ok: formatting"
else
    echo "skipped: formatting: nixfmt (crate nixfmt_rs) cannot be installed"
fi
