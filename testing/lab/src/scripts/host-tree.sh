#!/bin/sh
# Turns a fresh Debian tree ($1) into the lab's host: a plain systemd machine without what only slows its boot
# (kernel modules, debugfs).
set -eu
tree=$1
units="$tree/etc/systemd/system"

printf 'lab-host\n' >"$tree/etc/hostname"
: >"$tree/etc/resolv.conf"
: >"$tree/etc/machine-id"
: >"$tree/etc/fstab"
printf '127.0.0.1 localhost lab-host\n203.0.113.10 forge\n' >"$tree/etc/hosts"

# Not all of them are there in every release. What waits for var-lib-machines.mount waits up to a second: systemd starts no
# mount unit after a handful of mounts in the same second, and each credential of a service is one.
for unit in \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer \
    console-getty.service getty.target getty@.service serial-getty@.service container-getty@.service \
    modprobe@.service systemd-modules-load.service systemd-pstore.service kmod-static-nodes.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount \
    systemd-firstboot.service systemd-update-done.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service ldconfig.service systemd-hwdb-update.service systemd-binfmt.service \
    systemd-remount-fs.service systemd-random-seed.service systemd-logind.service systemd-logind-varlink.socket \
    systemd-journal-catalog-update.service systemd-boot-system-token.service systemd-udev-load-credentials.service \
    var-lib-machines.mount; do
    ln -sf /dev/null "$units/$unit"
done
mkdir -p "$tree/etc/systemd/system-generators"
for generator in "$tree"/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$tree/etc/systemd/system-generators/${generator##*/}"
done
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"

# The host's only way out: its side of the link that the lab moves in before boot.
cat >"$tree/etc/lab-uplink" <<'EOF'
address add 192.168.50.2/24 dev eth0
link set eth0 up
route add default via 192.168.50.1
EOF
cat >"$units/lab-uplink.service" <<'EOF'
[Unit]
Description=Address of the lab's uplink
DefaultDependencies=no
Before=network.target sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip -batch /etc/lab-uplink
EOF
mkdir -p "$units/sysinit.target.wants"
ln -sf ../lab-uplink.service "$units/sysinit.target.wants/lab-uplink.service"

# Kept on disk, so that a test can read what happened before a reboot.
mkdir -p "$tree/etc/systemd/journald.conf.d" "$tree/var/log/journal" "$tree/srv/templates"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n' \
    >"$tree/etc/systemd/journald.conf.d/lab.conf"

rm -rf "$tree"/etc/apt/sources.list* "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* \
    "$tree"/var/lib/dpkg/info/* "$tree"/var/log/*.log "$tree"/var/log/apt "$tree"/usr/share/doc "$tree"/usr/share/man \
    "$tree"/usr/share/locale "$tree"/usr/share/info \
    "$tree"/usr/share/bash-completion "$tree"/usr/share/zsh
# Thousands of names that every copy of the tree would pay for.
if [ -d "$tree/usr/share/zoneinfo" ]; then
    find "$tree/usr/share/zoneinfo" -mindepth 1 -maxdepth 1 ! -name UTC ! -name Etc -exec rm -rf {} +
fi
