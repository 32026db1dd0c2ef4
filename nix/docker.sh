# Docker for jobs; nix/container.nix says what $docker, $node and $closure are. Into the container of a job (`container:`)
# the forge's runner binds its Node.js, as /__e, and starts it there. This one lies in the store: so what it needs of the
# store is bound beside it.
arguments=()
for argument in "$@"; do
    case $argument in
    *:/__e | *:/__e:ro)
        arguments+=("$node:/__e:ro")
        while read -r path; do arguments+=(-v "$path:$path:ro"); done <"$closure"
        ;;
    *) arguments+=("$argument") ;;
    esac
done
exec "$docker" "${arguments[@]}"
