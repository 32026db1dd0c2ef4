#!/bin/sh
# How a person would run one job with each peer. $1: set-up, run, remove; $2: which; $3: a number.
set -eu
peers=/srv/peers
tree=$(cat "$peers/tree")
state=/var/lib/peers
forge=203.0.113.10
listener=/opt/actions-runner/bin/Runner.Listener

# A registration for one job with this label.
registration() {
    curl --silent --show-error --fail --request POST --header "authorization: Bearer $(cat "$peers/token")" \
        --data "{\"name\":\"peer-$1-$2-$$\",\"runner_group_id\":1,\"labels\":[\"self-hosted\",\"$1\"]}" \
        "http://$forge/repos/octo-org/hello/actions/runners/generate-jitconfig" | jq --raw-output .encoded_jit_config
}

# A directory with one, to bind.
directory() {
    mkdir -p "$state/$1-$2"
    registration "$1" "$2" >"$state/$1-$2/jit"
}

case $1-$2 in
    set-up-always)
        for number in 1 2 3 4; do
            mkdir -p "$state/always-$number"
            cp -r "$peers/runner/bin" "$state/always-$number/"
            chown -R runner: "$state/always-$number"
            systemd-run --quiet --unit="peer-always-$number" sh -c "while sleep 0.01; do sh $peers/peer.sh listen always $number; done"
        done
        ;;
    listen-always)
        jit=$(registration always "$3")
        exec setpriv --reuid=1001 --regid=1001 --init-groups "$state/always-$3/bin/Runner.Listener" run --jitconfig "$jit"
        ;;
    run-always) ;;
    remove-always) systemctl stop 'peer-always-*' ;;

    set-up-docker)
        systemctl start docker.service
        tar --directory "$tree" --create --numeric-owner . | docker import - peer >/dev/null
        ;;
    set-up-docker-systemd) docker image inspect peer >/dev/null ;;
    run-docker)
        docker run --rm --user runner --workdir / --env HOME=/home/runner peer "$listener" run --jitconfig "$(registration docker "$3")"
        ;;
    run-docker-systemd)
        directory docker-systemd "$3"
        docker run --rm --cap-add=SYS_ADMIN --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined \
            --cgroupns=host --volume /sys/fs/cgroup:/sys/fs/cgroup \
            --tmpfs /run --tmpfs /tmp --env container=docker \
            --volume "$state/docker-systemd-$3:/peer:ro" peer /sbin/init
        ;;
    remove-docker) docker image rm peer >/dev/null && systemctl stop docker.socket docker.service containerd.service ;;
    remove-docker-systemd) ;;

    set-up-podman | set-up-podman-systemd) podman info >/dev/null ;;
    run-podman)
        podman run --rm --ulimit=host --user runner --workdir / --env HOME=/home/runner --rootfs "$tree:O" \
            "$listener" run --jitconfig "$(registration podman "$3")"
        ;;
    run-podman-systemd)
        directory podman-systemd "$3"
        podman run --rm --ulimit=host --systemd=always --volume "$state/podman-systemd-$3:/peer:ro" --rootfs "$tree:O" /sbin/init
        ;;
    remove-podman | remove-podman-systemd) ;;

    set-up-lxc)
        systemctl start lxc-net.service
        ;;
    run-lxc)
        directory lxc "$3"
        name=peer-$3
        mkdir -p "/var/lib/lxc/$name/delta" "/var/lib/lxc/$name/rootfs"
        cat >"/var/lib/lxc/$name/config" <<CONFIG
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = overlay:$tree:/var/lib/lxc/$name/delta
lxc.uts.name = $name
lxc.apparmor.profile = unconfined
lxc.mount.entry = $state/lxc-$3 peer none bind,create=dir 0 0
lxc.net.0.type = veth
lxc.net.0.link = lxcbr0
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 10.0.3.$((100 + $3))/24
lxc.net.0.ipv4.gateway = auto
CONFIG
        lxc-start --foreground --name "$name"
        lxc-destroy --name "$name"
        ;;
    remove-lxc) systemctl stop lxc-net.service ;;

    set-up-nspawn-overlay)
        mkdir -p /var/lib/machines
        cp -a "$tree" /var/lib/machines/peer
        ;;
    set-up-nspawn) test -d /var/lib/machines/peer ;;
    run-nspawn-overlay)
        directory nspawn-overlay "$3"
        systemd-nspawn --quiet --volatile=overlay --directory=/var/lib/machines/peer --machine="peer-$3" \
            --bind-ro="$state/nspawn-overlay-$3:/peer" --boot
        ;;
    # Where the file system has no snapshots, it copies the tree each time.
    run-nspawn)
        directory nspawn "$3"
        systemd-nspawn --quiet --ephemeral --directory=/var/lib/machines/peer --machine="peer-$3" \
            --bind-ro="$state/nspawn-$3:/peer" --boot
        ;;
    remove-nspawn-overlay) rm -rf /var/lib/machines/peer ;;
    remove-nspawn) ;;
    *) echo "no such peer: $2" >&2; exit 1 ;;
esac
