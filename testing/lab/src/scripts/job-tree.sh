#!/bin/sh
# Turns a fresh Debian tree ($1) into what a job runs in: a job user with passwordless sudo, a place for the forge's
# runner, and a systemd that reaches basic.target without starting anything that serves no job.
set -eu
tree=$1
units="$tree/etc/systemd/system"

chroot "$tree" useradd --uid 1001 --user-group --create-home --shell /bin/bash runner
install -d -m 755 -o 1001 -g 1001 "$tree/opt/actions-runner" "$tree/opt/actions-runner/bin"
printf 'runner ALL=(ALL) NOPASSWD: ALL\n' >"$tree/etc/sudoers.d/runner"
chmod 440 "$tree/etc/sudoers.d/runner"

printf 'job\n' >"$tree/etc/hostname"
printf '127.0.0.1 localhost job\n203.0.113.10 forge\n' >"$tree/etc/hosts"
: >"$tree/etc/resolv.conf"
: >"$tree/etc/fstab"
# Empty: every container takes the id that nspawn gives it, and no first-boot work is started for it.
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id"

# Not all of them are there in every release.
for unit in \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer \
    console-getty.service getty.target getty@.service serial-getty@.service container-getty@.service \
    modprobe@.service systemd-modules-load.service systemd-pstore.service kmod-static-nodes.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
    systemd-firstboot.service systemd-update-done.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service ldconfig.service systemd-hwdb-update.service systemd-binfmt.service \
    systemd-remount-fs.service systemd-random-seed.service systemd-logind.service systemd-logind-varlink.socket \
    systemd-journal-flush.service systemd-journalctl.socket run-lock.mount \
    systemd-journal-catalog-update.service systemd-boot-system-token.service systemd-machine-id-commit.service \
    systemd-sysctl.service systemd-sysusers.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup-dev-early.service \
    systemd-ask-password-wall.path systemd-ask-password-console.path systemd-networkd.service \
    systemd-resolved.service systemd-timesyncd.service systemd-initctl.socket remote-fs.target \
    systemd-tmpfiles-setup.service systemd-user-sessions.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service cryptsetup.target integritysetup.target veritysetup.target swap.target; do
    ln -sf /dev/null "$units/$unit"
done
# A dozen programs that look for disks, getties and init scripts: half of the time before the first unit starts.
mkdir -p "$tree/etc/systemd/system-generators"
for generator in "$tree"/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$tree/etc/systemd/system-generators/${generator##*/}"
done
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"

mkdir -p "$tree/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n' >"$tree/etc/systemd/journald.conf.d/job.conf"
rm -rf "$tree/var/log/journal"

rm -rf "$tree"/etc/apt/sources.list* "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/log/*.log \
    "$tree"/var/log/apt "$tree"/usr/share/doc "$tree"/usr/share/man "$tree"/usr/share/locale "$tree"/usr/share/info \
    "$tree"/usr/share/bash-completion "$tree"/usr/share/zsh
# Thousands of names that every copy of the tree would pay for.
if [ -d "$tree/usr/share/zoneinfo" ]; then
    find "$tree/usr/share/zoneinfo" -mindepth 1 -maxdepth 1 ! -name UTC ! -name Etc -exec rm -rf {} +
fi
