//! The journal of containers: an instance of systemd-journald for their units alone.

use contract::unit_name::JOURNAL_NAMESPACE;

use super::MARKER;

/// Its configuration (journald.conf(5)).
pub fn conf() -> String {
    format!(
        "{MARKER}

# What all jobs together may keep. The instance for the host's own journal has limits of its own. To have more, write it
# into a file below /etc/systemd/journald@{JOURNAL_NAMESPACE}.conf.d.
[Journal]
SystemMaxUse=1G
RuntimeMaxUse=128M
# The longest line of a job that stays in one piece.
LineMax=8K
"
    )
}

/// The file.
pub fn file() -> String {
    format!("systemd/journald@{JOURNAL_NAMESPACE}.conf")
}
