//! How a container ended, written by *teardown* (root) where the controller can read it even if it was away.

use serde::{Deserialize, Serialize};

use super::ContainerName;

/// Directory of `<name>.json` files: owned by root, readable by all, on a tmpfs.
pub const ENDINGS_DIR: &str = "/run/gha-runner-endings";
/// Most endings kept; *teardown* removes the oldest beyond this.
pub const ENDINGS_KEPT: usize = 512;

/// The facts systemd gave *teardown* (systemd.exec(5), `$SERVICE_RESULT`), and what teardown saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// The container.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, `watchdog`, `resources`, `protocol`, …
    pub service_result: String,
    /// `exited`, `killed` or `dumped`; absent when the main process never ran.
    pub exit_code: Option<String>,
    /// The exit status or signal name; absent when the main process never ran.
    pub exit_status: Option<String>,
    /// Why *prepare*, *run* or systemd-nspawn refused or failed before the container's init ran, if one did.
    pub error: Option<String>,
    /// What the unit's processes wrote last, where its end explains itself in no other way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
    /// Somebody asked systemd to stop it; only looked for where its end explains itself in no other way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_to_stop: bool,
    /// Peak memory of the unit's cgroup in bytes, where the kernel counts it.
    pub memory_peak: Option<u64>,
    /// Processes of the unit that the kernel killed because its memory was used up, where it counts them.
    #[serde(default)]
    pub oom_kills: Option<u64>,
    /// Processor time of the unit's cgroup in microseconds, where the kernel counts it.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// When teardown finished, milliseconds since the Unix epoch.
    pub ended_at_ms: u64,
    /// How long teardown took, in microseconds.
    pub teardown_us: u64,
    /// What teardown could not remove, one line each; empty when nothing is left.
    pub left_behind: Vec<String>,
}

impl Ending {
    /// Somebody on the host killed systemd-nspawn: nothing inside can.
    pub fn was_killed(&self) -> bool {
        self.service_result == "signal" && self.exit_code.as_deref() == Some("killed")
    }

    /// It ran, and ended without anybody on the host having had a part in it.
    pub fn is_from_inside(&self) -> bool {
        let by_itself = matches!(self.service_result.as_str(), "success" | "exit-code");
        by_itself && self.error.is_none() && !self.asked_to_stop && self.exit_code.as_deref() == Some("exited")
    }
}
