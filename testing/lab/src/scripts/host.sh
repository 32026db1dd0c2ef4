# Boots the lab's host, as a fresh machine on the same disk. Runs in the lab's namespaces.
# $1: the lab's directory, $2: a control group of its own, $3: the directory of job templates, $4: a Nix store, if any.
set -eu
directory=$1
group=$2
# What a host that lost its power left behind.
find "$group" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
echo 0 >"$group/cgroup.procs"
ip link delete host 2>/dev/null || true
ip -batch - <<'EOF'
link add host type veth peer name eth0
link set host master br-lan
link set host up
EOF
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
# As on any host, /proc/sys and /sys can be written. If /sys cannot, udev does not run and nspawn does not wait for it.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes
store=${4:+--bind-ro=$4:/nix/store}
export NOTIFY_SOCKET="$directory/notify"
exec systemd-nspawn --quiet --register=no --keep-unit --settings=no --machine=lab-host --directory="$directory/host/root" \
    --private-network --network-interface=eth0 --capability=all --system-call-filter='@keyring bpf @mount' \
    --bind="$directory/host/var:/var" --bind-ro="$3:/srv/templates" ${store:+"$store"} \
    --resolv-conf=off --timezone=off --link-journal=no --notify-ready=yes --console=read-only --boot
