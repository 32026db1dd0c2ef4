# Continues host-tree.sh in a tree that has the peers' packages as well: what each of them starts, its own turn starts.
systemctl --quiet --root="$tree" disable docker.service docker.socket containerd.service podman.service podman.socket \
    podman-restart.service podman-auto-update.timer lxc.service lxc-net.service 2>/dev/null || true
mkdir -p "$tree/etc/containers"
printf '[containers]\nlog_driver = "none"\n[engine]\ncgroup_manager = "cgroupfs"\n' >"$tree/etc/containers/containers.conf"
rm -rf "$tree/var/lib/docker" "$tree/var/lib/containerd" "$tree/var/lib/containers"
chroot "$tree" useradd --uid 1001 --user-group --create-home --shell /bin/bash runner
