# Continues job-tree.sh in a tree with Docker: it starts when a job first asks for it, and a job that does not pays for
# a socket alone.
chroot "$tree" usermod --append --groups docker runner
systemctl --quiet --root="$tree" disable docker.service containerd.service
systemctl --quiet --root="$tree" enable docker.socket
rm -rf "$tree/var/lib/docker" "$tree/var/lib/containerd"
