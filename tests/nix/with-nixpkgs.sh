#!/bin/bash
# What takes a nixpkgs to say of the Nix code. $1: the tree; $2: the program, for what evaluates to its configuration.
set -euo pipefail
nixpkgs=${1-}
program=${2-}
cd "$(dirname "$0")/../.."

not_checked() {
    echo "not checked: the module, the template, the scenarios, the flake, the option reference, the documents' snippets: $1"
    exit 0
}
[ -n "$nixpkgs" ] || not_checked "no nixpkgs is given (make test-nix NIXPKGS=PATH)"
[ -e "$nixpkgs/nixos/lib/eval-config.nix" ] || not_checked "$nixpkgs is no nixpkgs"
command -v nix-instantiate >/dev/null || not_checked "no nix-instantiate"
version=$(nix-instantiate --version | grep -oE '[0-9]+\.[0-9]+' | head -1)
[ "$(printf '%s\n' 2.18 "$version" | sort -V | head -1)" = 2.18 ] || not_checked "Nix $version is older than 2.18"
nixpkgs=$(realpath "$nixpkgs")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failed=0

# $1: part; the rest: further arguments. Prints JSON.
evaluate() {
    local part=$1
    shift
    nix-instantiate --readonly-mode --eval --strict --json tests/nix/evaluate.nix \
        --arg nixpkgs "$nixpkgs" --argstr part "$part" "$@" 2>"$place/stderr" || {
        tail -25 "$place/stderr" >&2
        echo "FAILED: $part does not evaluate" >&2
        return 1
    }
}

# $1: what; the rest: a command that judges it
judge() {
    local what=$1
    shift
    if "$@"; then echo "ok: $what"; else
        echo "FAILED: $what" >&2
        failed=1
    fi
}

no_problems() {
    evaluate "$@" >"$place/$1" || return 1
    jq -r '.[]' "$place/$1" >&2
    jq -e '. == []' "$place/$1" >/dev/null
}
derivations() { evaluate "$1" >"$place/$1" && jq -e "$2" "$place/$1" >/dev/null; }
is_current() { tests/nix/options.sh "$nixpkgs" | diff - docs/options.md; }

accepted() {
    evaluate settings >"$place/settings" || return 1
    local name
    for name in $(jq -r 'keys[]' "$place/settings"); do
        jq ".[\"$name\"]" "$place/settings" >"$place/config.json"
        "$program" units --static --config "$place/config.json" --output "$place/units/$name" >/dev/null ||
            { echo "$name is refused" >&2; return 1; }
    done
}

# A mistake is refused with the program's own words, which is what fails the build (nix/tests/wrong.nix).
refused() {
    evaluate wrong >"$place/wrong" || return 1
    local name said
    for name in $(jq -r 'keys[]' "$place/wrong"); do
        jq ".[\"$name\"].settings" "$place/wrong" >"$place/config.json"
        if said=$("$program" units --static --config "$place/config.json" --output "$place/units/$name" 2>&1); then
            echo "$name is accepted" >&2
            return 1
        elif ! grep -qF -- "$(jq -r ".[\"$name\"].says" "$place/wrong")" <<<"$said"; then
            echo "$name: $said" >&2
            return 1
        fi
    done
    [ -n "${said-}" ]
}

scripts() {
    evaluate drivers >"$place/drivers" || return 1
    local name ok=0
    for name in $(jq -r 'keys[]' "$place/drivers"); do
        {
            # What the test driver defines for every script.
            echo 'start_all = retry = driver = subtest = None'
            jq -r ".[\"$name\"].machines[] | \"\(.) = None\"" "$place/drivers"
            jq -r ".[\"$name\"].script" "$place/drivers"
        } >"$place/$name.py"
        python3 -m pyflakes "$place/$name.py" || ok=1
    done
    return $ok
}

documents() {
    # The reference has an example for each option, which is not a configuration.
    local written=(README.md docs/[!o]*.md)
    mkdir "$place/snippets"
    python3 tests/nix/snippets.py "$place/snippets" "${written[@]}" >"$place/snippets.nix"
    evaluate snippets --arg snippets "import $place/snippets.nix" >"$place/evaluated" || return 1
    jq -e 'length > 0 and all(.[]; .flake != null or .failed == [])' "$place/evaluated" >/dev/null || {
        jq -c 'map_values(.failed)' "$place/evaluated" >&2
        return 1
    }
    local block
    [ -x "$program" ] || return 0
    for block in $(jq -r 'to_entries[] | select(.value.settings) | .key' "$place/evaluated"); do
        # A block that shows one option is not a whole configuration: it has no target.
        jq ".[\"$block\"].settings | .target //= [{repo: \"octo-org/hello\"}]" "$place/evaluated" >"$place/config.json"
        "$program" units --static --config "$place/config.json" --output "$place/units" >/dev/null ||
            { echo "$block is refused by the program" >&2; return 1; }
    done
}

# The tables' new names are options of this module, and the old ones of NixOS'.
migration() {
    python3 tests/nix/migration.py docs/nixos.md >"$place/migration.json" || return 1
    no_problems renamed --arg migration "builtins.fromJSON (builtins.readFile $place/migration.json)"
}

flake() {
    NIX_CONFIG="experimental-features = nix-command flakes" nix flake check --no-build --all-systems "path:$PWD" \
        --override-input nixpkgs "path:$nixpkgs" >"$place/flake" 2>&1 || { tail -25 "$place/flake" >&2; return 1; }
    local system
    for system in x86_64 aarch64; do grep -q "checks.$system-linux.nixos-job" "$place/flake" || return 1; done
}

judge "the module: each assertion's own words, the program's units and nothing in their place" no_problems module
judge "systems and containers evaluate" derivations systems 'length >= 5 and all(.[]; endswith(".drv"))'
judge "checks evaluate" derivations checks 'length >= 11 and all(.[]; endswith(".drv"))'
if [ -x "$program" ]; then
    judge "the program accepts what the module writes" accepted
    judge "a host with a wrong setting is refused in the program's own words" refused
else
    echo "skipped: whether the program accepts what the module writes: it is not built"
fi
if python3 -m pyflakes --version >/dev/null 2>&1; then
    judge "test scripts and drivers" scripts
else
    echo "skipped: test scripts: no pyflakes (Debian: pyflakes3)"
fi
judge "docs/options.md is current (make nix-options)" is_current
judge "what the documents show evaluates" documents
judge "the host template evaluates and is what the walk-through says" no_problems template
judge "the names in the migration tables are options, on both sides" migration
judge "nix flake check --no-build, for x86_64-linux and aarch64-linux" flake
exit $failed
