# Process 1 of the lab: makes the world the host lives in, says that it stands, and waits for the end.
# $1: the lab's directory.
set -eu
# Before the new /proc is mounted this is the number that the machine outside knows us by.
read -r pid _ </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
# No udev runs in this world, which is not the host. The nspawn that moves the host's link in would wait for one if /sys
# could be written. The host has a /sys of its own.
mount -o remount,bind,ro /sys

# The root network namespace is the router between all places. It has no way out, and no route to any container.
echo 1 >/proc/sys/net/ipv4/ip_forward
for place in lan forge internet metadata; do
    ip netns add "$place"
done
ip -batch - <<'EOF'
link set lo up
link add br-lan type bridge
address add 192.168.50.1/24 dev br-lan
link set br-lan up
link add lan type veth peer name eth0 netns lan
link set lan master br-lan
link set lan up
link add forge type veth peer name eth0 netns forge
address add 203.0.113.1/24 dev forge
link set forge up
link add internet type veth peer name eth0 netns internet
address add 198.51.100.1/24 dev internet
link set internet up
link add metadata type veth peer name eth0 netns metadata
address add 169.254.169.253/30 dev metadata
link set metadata up
EOF
# $1: place, $2: its address, $3: its router
settle() {
    ip -netns "$1" -batch - <<EOF
link set lo up
address add $2 dev eth0
link set eth0 up
route add default via $3
EOF
}
settle lan 192.168.50.10/24 192.168.50.1
settle forge 203.0.113.10/24 203.0.113.1
settle internet 198.51.100.7/24 198.51.100.1
settle metadata 169.254.169.254/30 169.254.169.253

# Over a throw-away layer: the cached tree stays as it was built.
mount -t overlay -o "lowerdir=$1/host/tree,upperdir=$1/host/upper,workdir=$1/host/work" overlay "$1/host/root"

echo "ready $pid"
exec cat >/dev/null
