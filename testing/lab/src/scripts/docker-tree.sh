# Continues job-tree.sh in a tree with Docker: it starts when a job first asks for it, and a job that does not pays for
# a socket alone.
chroot "$tree" usermod --append --groups docker runner
systemctl --quiet --root="$tree" disable docker.service containerd.service
systemctl --quiet --root="$tree" enable docker.socket
rm -rf "$tree/var/lib/docker" "$tree/var/lib/containerd"

# The registry is for the internet of the lab: `chroot TREE docker-registry serve …` there keeps all it has in memory.
systemctl --quiet --root="$tree" disable docker-registry.service
rm -f "$tree"/etc/rc?.d/*docker-registry "$tree/etc/init.d/docker-registry"
printf 'version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  addr: :5000\n' >"$tree/etc/docker/registry/config.yml"
