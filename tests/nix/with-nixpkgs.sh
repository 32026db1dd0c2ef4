#!/bin/bash
# What takes a nixpkgs to say of the Nix code. $1: the tree; $2: the program, for what evaluates to its configuration;
# $3: a stable release's tree, with which everything but docs/options.md is evaluated again.
set -euo pipefail
nixpkgs=${1-}
program=${2-}
stable=${3-}
cd "$(dirname "$0")/../.."

[ -n "$nixpkgs" ] || {
    echo "not checked: module, template, scenarios, flake, option reference, the documents' snippets: no nixpkgs is given" \
        "(make test-nix NIXPKGS=PATH)"
    exit 0
}
cannot() { echo "$1" >&2; exit 1; }
[ -e "$nixpkgs/nixos/lib/eval-config.nix" ] || cannot "$nixpkgs is no nixpkgs"
for program_of in nix-instantiate nix jq python3; do
    command -v $program_of >/dev/null || cannot "there is no $program_of; install it"
done
version=$(nix-instantiate --version | grep -oE '[0-9]+\.[0-9]+' | head -1)
[ "$(printf '%s\n' 2.18 "$version" | sort -V | head -1)" = 2.18 ] || cannot "Nix $version is older than 2.18"
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
systems() { evaluate systems >"$place/systems" && jq -e 'length >= 5 and all(.[]; endswith(".drv"))' "$place/systems" >/dev/null; }
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

# Commands of flakes, which ask no registry.
flakes() {
    NIX_CONFIG="experimental-features = nix-command flakes
flake-registry =" nix "$@" 2>"$place/stderr" || { tail -25 "$place/stderr" >&2; return 1; }
}

# Puts into the store what flakes are evaluated from: the nixpkgs, once, and of this tree what git knows.
sources() {
    tree="path:$(flakes flake prefetch --json "path:$nixpkgs" | jq -r .storePath)"
    [ "$tree" != path: ] || return 1
    mkdir "$place/source"
    # One that is deleted is still known.
    git ls-files -z --cached --others --exclude-standard |
        xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' sh |
        tar -c --null --files-from=- | tar -x -C "$place/source"
}

# Every output but the checks, each of which takes a gigabyte: they are evaluated one by one.
outputs() {
    mkdir "$place/outputs"
    cat >"$place/outputs/flake.nix" <<END
{
  inputs.project.url = "path:$place/source";
  inputs.project.inputs.nixpkgs.url = "$tree";
  outputs = { project, ... }: builtins.removeAttrs project.outputs [ "checks" ];
}
END
    flakes flake check --no-build --all-systems "path:$place/outputs"
}

# $1: place in the flake; $2: what is to be known of it
known() {
    flakes eval --json --read-only --no-write-lock-file --override-input nixpkgs "$tree" --apply "$2" \
        "path:$place/source#$1"
}

checks() {
    local system name names facts of
    for system in x86_64 aarch64; do
        names=$(known checks.$system-linux builtins.attrNames | jq -r '.[]') || return 1
        grep -qx nixos-job <<<"$names" || return 1
        for name in $names; do
            facts='check: { drv = check.drvPath; }' of=checks.$system-linux.$name
            # What is in a script is the same for both.
            [[ $system-$name != x86_64-nixos-* || $name = nixos-wrong ]] || of=packages.$system-linux.default.tests.$name facts='check: {
                drv = check.drvPath;
                driver = check.driver.drvPath;
                script = builtins.unsafeDiscardStringContext check.config.testScriptString;
                machines = builtins.attrNames check.nodes;
            }'
            known $of "$facts" >"$place/$name.json" &&
                jq -e '.drv | endswith(".drv")' "$place/$name.json" >/dev/null ||
                { echo "$name for $system does not evaluate" >&2; return 1; }
            jq -e .script "$place/$name.json" >/dev/null || continue
            {
                # What the test driver defines for every script.
                echo 'start_all = retry = driver = subtest = None'
                jq -r '.machines[] | "\(.) = None"' "$place/$name.json"
                jq -r .script "$place/$name.json"
            } >"$place/$name.py"
        done
    done
    ls "$place"/nixos-*.py >/dev/null
}

scripts() { python3 -m pyflakes "$place"/nixos-*.py; }

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
        jq ".[\"$block\"].settings | if .target == [] then .target = [{repo: \"octo-org/hello\"}] else . end" "$place/evaluated" >"$place/config.json"
        "$program" units --static --config "$place/config.json" --output "$place/units" >/dev/null ||
            { echo "$block is refused by the program" >&2; return 1; }
    done
}

# The tables' new names are options of this module, and the old ones of NixOS'.
migration() {
    python3 tests/nix/migration.py docs/nixos.md >"$place/migration.json" || return 1
    no_problems renamed --arg migration "builtins.fromJSON (builtins.readFile $place/migration.json)"
}

judge "the module: each assertion's own words, the program's units and nothing in their place" no_problems module
judge "systems and containers evaluate" systems
if [ -x "$program" ]; then
    judge "the program accepts what the module writes" accepted
    judge "a host with a wrong setting is refused in the program's own words" refused
else
    echo "skipped: whether the program accepts what the module writes: it is not built"
fi
# What one release says of a type, another says in other words.
[ -n "${IS_STABLE-}" ] || judge "docs/options.md is current (make nix-options)" is_current
judge "what the documents show evaluates" documents
judge "the host template evaluates and is what the walk-through says" no_problems template
judge "the names in the migration tables are options, on both sides" migration
if sources; then
    judge "the flake's outputs, for x86_64-linux and aarch64-linux" outputs
    judge "its checks, each by itself" checks
else
    echo "FAILED: no flake can be evaluated" >&2
    failed=1
fi
if python3 -m pyflakes --version >/dev/null 2>&1; then
    judge "the scenarios' scripts" scripts
else
    echo "skipped: the scenarios' scripts: no pyflakes (Debian: pyflakes3)"
fi
if [ -n "$stable" ]; then
    echo "with the stable nixpkgs $stable ($(cat "$stable/.version" 2>/dev/null)):"
    IS_STABLE=1 tests/nix/with-nixpkgs.sh "$stable" "$program" || failed=1
elif [ -z "${IS_STABLE-}" ]; then
    echo "not checked: a stable nixpkgs: none is given (make test-nix NIXPKGS=PATH NIXPKGS_STABLE=PATH)"
fi
exit $failed
