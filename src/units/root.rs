//! What root does besides containers: the firewall, the sweep, the directories.

use contract::{ENDINGS_DIR, ROOM_WANTED, event::EVENTS_DIR, paths::CONTROL_DIR};
use sandbox::paths::{DISKS_DIR, RECORDS_DIR, ROOTS_DIR, STORES_DIR};
use settings::{Settings, renewable::RENEWED_DIR};

use super::{MARKER, Places, USER};

/// Loads the firewall's table once. Stopping the unit leaves the table: containers may be running.
pub fn firewall(places: &Places) -> String {
    let load = format!("{} sandbox firewall --settings {}", places.binary.display(), places.settings.display());
    format!(
        "{MARKER}

[Unit]
Description=Firewall of job containers
Before=gha-runner-controller.service
After=nftables.service firewall.service firewalld.service ufw.service

[Service]
# Loading replaces the table in one transaction; without a moment between stop and start (NixOS).
X-ReloadIfChanged=true
Type=oneshot
RemainAfterExit=yes
ExecStart={load}
ExecReload={load}
TimeoutStartSec=60
ProtectHome=yes
ProtectSystem=strict
PrivateTmp=yes
NoNewPrivileges=yes
# ip_forward is a sysctl.
ProtectKernelTunables=no
ProtectControlGroups=yes
# The lock of the records; the containers there are stay admitted.
ReadWritePaths=-{RECORDS_DIR}
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_MODULE
RestrictAddressFamilies=AF_NETLINK AF_UNIX

[Install]
WantedBy=multi-user.target
"
    )
}

/// Removes what a crash left, before anything new is made.
pub fn sweep(places: &Places) -> String {
    let binary = places.binary.display();
    format!(
        "{MARKER}

[Unit]
Description=Removal of what job containers left behind
After=local-fs.target dbus.socket
Before=gha-runner-controller.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={binary} sandbox sweep
ExecReload={binary} sandbox sweep
TimeoutStartSec=300

[Install]
WantedBy=multi-user.target
"
    )
}

/// Starts [`prune`] when the controller asks for room.
pub fn prune_path() -> String {
    format!(
        "{MARKER}

[Unit]
Description=Requests for room on a disk that is short of it

[Path]
PathChanged={ROOM_WANTED}
"
    )
}

/// Makes room; whether and how is root's to decide.
pub fn prune(places: &Places) -> String {
    format!(
        "{MARKER}

[Unit]
Description=Removal of unused image stores and caches where the disk is short

[Service]
Type=oneshot
ExecStart={} sandbox prune --settings {}
TimeoutStartSec=300
Nice=10
IOSchedulingClass=idle
NoNewPrivileges=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
",
        places.binary.display(),
        places.settings.display()
    )
}

/// Directories on a tmpfs, and the one for root file systems.
pub fn tmpfiles(settings: &Settings) -> String {
    let operators = &settings.operators;
    format!(
        "{MARKER}
d {RECORDS_DIR} 0700 root root -
d {ROOTS_DIR} 0700 root root -
d {DISKS_DIR} 0700 root root -
d {STORES_DIR} 0700 root root -
d {EVENTS_DIR} 0755 root root -
d {ENDINGS_DIR} 0755 root root -
# What is made in them belongs to their group: secrets that were renewed; the controller's socket, for those who may operate.
d {RENEWED_DIR} 2750 root {USER} -
d {CONTROL_DIR} 2750 {USER} {operators} -
d /var/lib/{USER} 0700 {USER} {USER} -
"
    )
}
