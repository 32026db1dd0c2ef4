//! What keeps udev, systemd-networkd and NetworkManager from the links of containers.
//!
//! Each container brings two links and takes them away again. What a host does for a new network interface (a name, an
//! address, a unit, a process that sets its tunables) is for interfaces that stay, and some of it undoes what *prepare* has
//! set.

use sandbox::link::{GUEST_PREFIX, HOST_PREFIX};

use super::MARKER;

/// The file of rules. It sorts behind `99-systemd.rules` and the administrator's `99-local.rules`: it takes back what
/// rules before it attach.
pub const UDEV_FILE: &str = "udev/rules.d/99-zz-gha-runner.rules";
/// The first `.link` file that matches is the only one that counts, so this one sorts before all others.
pub const LINK_FILE: &str = "systemd/network/00-gha-runner.link";
/// Likewise for `.network` files.
pub const NETWORK_FILE: &str = "systemd/network/00-gha-runner.network";

/// Both ends, as systemd.link(5) and systemd.network(5) list patterns.
fn patterns() -> String {
    format!("{HOST_PREFIX}* {GUEST_PREFIX}*")
}

/// Rules for udev. What they say is so in 252, 257 and 262:
///
/// - The tag is assigned and not removed (`TAG-=`): in 252 a device whose last tag was removed is still announced with it,
///   and PID 1 makes a unit.
/// - The list of programs is replaced by a builtin that does nothing for such a link. An empty list cannot be written: udev
///   takes `RUN=""` for a program without a name and logs an error for every link.
pub fn udev() -> String {
    format!(
        "{MARKER}

# Links of job containers come and go with them. What others attach to every network interface is taken back: the tag
# by which PID 1 makes units for it, and the programs to run, of which systemd-sysctl would write the host's
# net.ipv4.conf values over those the sandbox has set.
ACTION!=\"remove\", SUBSYSTEM==\"net\", KERNEL==\"{HOST_PREFIX}*|{GUEST_PREFIX}*\", TAG=\"gha-runner\", ENV{{SYSTEMD_ALIAS}}=\"\", \
         ENV{{NM_UNMANAGED}}=\"1\", RUN{{builtin}}=\"path_id\"
"
    )
}

/// For udev's `net_setup_link`, whether systemd-networkd runs or not: names and addresses stay as they were made.
pub fn link() -> String {
    let links = patterns();
    format!(
        "{MARKER}

[Match]
OriginalName={links}

[Link]
NamePolicy=
AlternativeNamesPolicy=
MACAddressPolicy=none
"
    )
}

/// For systemd-networkd, which otherwise configures them by whatever says `Type=ether` or `Name=*`.
pub fn network() -> String {
    let links = patterns();
    format!(
        "{MARKER}

[Match]
Name={links}

[Link]
Unmanaged=yes
"
    )
}
