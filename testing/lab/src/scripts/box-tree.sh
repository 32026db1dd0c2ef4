# Continues host-tree.sh in a tree that boots in the lab, on the machine's own kernel: what the host sets there, it sets
# for the machine.

# Events of network links come to the udev of the network they are in. Those of all other devices come to every udev, and
# the devices are the machine's: Debian's rules would load modules, set what is in /sys, read disks and change modes of
# device nodes. What names and describes links stays, and what systemd makes of devices.
for rules in "$tree"/usr/lib/udev/rules.d/*.rules; do
    case "${rules##*/}" in
        *-net-*.rules | 99-systemd.rules) ;;
        50-udev-default.rules) sed -i '/^SUBSYSTEM=="net"/!d' "$rules" ;;
        *) rm "$rules" ;;
    esac
done
# At boot, udev asks the kernel to report what is there already: every udev on the machine would receive that.
mkdir -p "$units/systemd-udev-trigger.service.d"
cat >"$units/systemd-udev-trigger.service.d/lab.conf" <<'CONF'
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=net
CONF

# The product's settings are the machine's until the lab ends (settings.sh). No test needs Debian's.
rm -f "$tree"/usr/lib/sysctl.d/*.conf "$tree"/etc/sysctl.d/*.conf "$tree/etc/sysctl.conf"
# Interpreters of program formats are the machine's, too.
for unit in proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount; do
    ln -sf /dev/null "$units/$unit"
done

# The machine's devices in nodes of the host's own: what modes and groups it gives them does not change the machine's.
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
