# Continues host-tree.sh in a tree that boots in the lab, on the machine's own kernel: what a host sets there, it would
# set for the machine.

# Events of network links come to the network they are in. Those of all other devices come to every udev on the machine,
# and theirs are the machine's: Debian's rules would load modules, set what is in /sys, read disks and give device nodes
# to groups. What names and describes links stays, and what systemd makes of devices.
for rules in "$tree"/usr/lib/udev/rules.d/*.rules; do
    case "${rules##*/}" in
        *-net-*.rules | 99-systemd.rules) ;;
        50-udev-default.rules) sed -i '/^SUBSYSTEM=="net"/!d' "$rules" ;;
        *) rm "$rules" ;;
    esac
done
# For the same reason, what was there before udev is of the network only: the rest would be told to every udev again.
mkdir -p "$units/systemd-udev-trigger.service.d"
cat >"$units/systemd-udev-trigger.service.d/lab.conf" <<'CONF'
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=net
CONF

# The product's settings are set back when the lab ends (settings.sh). Debian's would be the machine's for as long, for no
# test's sake.
rm -f "$tree"/usr/lib/sysctl.d/*.conf "$tree"/etc/sysctl.d/*.conf "$tree/etc/sysctl.conf"
# Interpreters of program formats are the machine's, too.
for unit in proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount; do
    ln -sf /dev/null "$units/$unit"
done

# The same devices as the machine's, in nodes of the host's own: modes and groups that it gives them are not the machine's.
{
    echo 'c! /dev/fuse 0666 root root - 10:229'
    echo 'd! /dev/net 0755 root root -'
    echo 'c! /dev/net/tun 0666 root root - 10:200'
    echo 'c! /dev/loop-control 0660 root disk - 10:237'
    # For file systems in files. There is only one set of them for the whole machine.
    for number in $(seq 0 63); do
        echo "b! /dev/loop$number 0660 root disk - 7:$number"
    done
} >"$tree/etc/tmpfiles.d/lab.conf"
