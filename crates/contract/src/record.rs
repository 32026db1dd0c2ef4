//! What the controller hands to the sandbox: a record of what to boot, and beside it the one-job grant.
//!
//! Both lie in `/run/gha-runner-controller/containers/<name>/`, written by the unprivileged controller and read by root.
//! The reader therefore treats them as hostile; the types here refuse unknown fields and foreign names, and the sandbox
//! opens the files without following links.

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::ContainerName;

/// Where the controller writes one directory a container. On a tmpfs: a reboot forgets it.
pub const HANDOVER_DIR: &str = "/run/gha-runner-controller/containers";
/// File name of the [`ContainerRecord`] in a container's hand-over directory.
pub const RECORD_FILE: &str = "container.json";
/// File name of the [`Grant`] in a container's hand-over directory (mode 0600).
pub const GRANT_FILE: &str = "grant.json";
/// Largest record the sandbox reads, in bytes.
pub const RECORD_LIMIT: u64 = 16 * 1024;
/// Largest grant the sandbox reads, in bytes. A GitHub JIT configuration is about 4 KiB
/// (docs/github.md#contents-of-a-jit-configuration).
pub const GRANT_LIMIT: u64 = 128 * 1024;
/// The only version of both files there is.
pub const VERSION: u32 = 1;

/// What to boot. Class, template, limits and pool are looked up by the sandbox in its own settings, never taken from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRecord {
    /// Always [`VERSION`].
    pub version: u32,
    /// Must equal the directory's name and the unit's instance.
    pub name: ContainerName,
    /// Must equal the class in the unit's name.
    pub class: String,
    /// The container's subnet: must be one of the pool's, and free.
    pub subnet: Ipv4Network,
    /// Where the runner is registered: `owner/repository`, an organisation or an enterprise. The sandbox authorises by it:
    /// a target of its own settings must serve this scope with this class; and what outlives the container is kept under
    /// its name (docs/security.md#the-hand-over). An earlier version wrote it as `target`.
    #[serde(alias = "target")]
    pub scope: String,
    /// The job whose arrival asked for this container; a hint only, the forge may give the runner another.
    pub job_id: Option<u64>,
    /// The runner's name at the forge; shown, never acted on.
    pub runner_name: String,
    /// Jobs that come from forks of public repositories may run in it; otherwise, and when absent, the guest refuses
    /// them. The operator's decision for the target, passed on to the guest: a rule for jobs, no wall of the container.
    #[serde(default)]
    pub allow_forks: bool,
    /// The runner is a scale set's, when so; for a controller that lost its own record. Shown, never acted on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_that_an_earlier_version_wrote_is_read_and_no_field_is_given_twice() {
        let written = r#"{"version":1,"name":"j1234567","class":"medium","subnet":"192.168.100.0/24",
            "target":"octo-org/hello","job_id":null,"runner_name":"host-j1234567"}"#;
        let record: ContainerRecord = serde_json::from_str(written).unwrap();
        assert_eq!(record.scope, "octo-org/hello");
        assert!(serde_json::to_string(&record).unwrap().contains(r#""scope":"octo-org/hello""#));
        let twice = written.replace(r#""target""#, r#""scope":"o/r","target""#);
        assert!(serde_json::from_str::<ContainerRecord>(&twice).is_err());
    }
}
