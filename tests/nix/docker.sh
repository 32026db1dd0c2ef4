#!/bin/bash
# What jobs call Docker by (nix/docker.sh) leaves every command as it is but the one that makes a job's own container.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
printf '#!/bin/bash\nprintf "<%%s>" "$@"\n' >"$place/docker"
printf '/nix/store/1-node\n/nix/store/2-glibc\n' >"$place/closure"
chmod +x "$place/docker"

# $1: what is to become of it; the rest: a command
becomes() {
    local expected=$1 said
    shift
    said=$(docker="$place/docker" closure="$place/closure" node=/nix/store/3-nodes bash nix/docker.sh "$@")
    [ "$said" = "$expected" ] || { echo "docker $* became $said" >&2; exit 1; }
}
becomes '<run><--rm><-e><A=a b><alpine><sh><-c><echo /__e>' run --rm -e 'A=a b' alpine sh -c 'echo /__e'
# As the runner writes it.
becomes "<create><--workdir></__w/a/a><-v></run/docker.sock:/run/docker.sock><-v></nix/store/3-nodes:/__e:ro>$(
)<-v></nix/store/1-node:/nix/store/1-node:ro><-v></nix/store/2-glibc:/nix/store/2-glibc:ro>$(
)<-v></home/runner/_work:/__w><node:20>" \
    create --workdir /__w/a/a -v /run/docker.sock:/run/docker.sock -v /nix/store/4-runner/lib/externals:/__e:ro \
    -v /home/runner/_work:/__w node:20
echo "ok: Docker in a NixOS container is called with what the runner's Node.js needs"
