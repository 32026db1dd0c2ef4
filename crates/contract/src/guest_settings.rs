//! What the sandbox tells the guest, besides the grant, and how it gets there.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::ContainerName;

/// Name of the nspawn credential, and of the guest unit's credential, with the [`crate::Grant`].
pub const GRANT_CREDENTIAL: &str = "gha-runner.grant";
/// Name of the credential with the [`GuestSettings`].
pub const SETTINGS_CREDENTIAL: &str = "gha-runner.guest";
/// Where the event directory is mounted in the container: directly in `/run`, which the container can write although
/// the mount point itself is made by the host's root (docs/nspawn.md#mount-points).
pub const EVENTS_MOUNT: &str = "/run/gha-runner-events";

/// The guest's program in a container that boots a tree.
pub const PROGRAM: &str = "/usr/lib/gha-runner-guest";
/// How long the runner may take to stop in good order: it cancels the job, uploads its log and ends its session
/// (docs/github.md#stopping-a-runner). The unit's own limit is longer.
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Decided by the host. The guest of a NixOS system may be older or newer than the host's program, so fields it does not
/// know are ignored, and new ones must be optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSettings {
    /// The container.
    pub name: ContainerName,
    /// The container's end of its link.
    pub interface: String,
    /// The address of that end.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// The host's end.
    pub gateway: Ipv4Addr,
    /// Resolvers for `/etc/resolv.conf`; none = the file is left alone.
    pub dns: Vec<Ipv4Addr>,
    /// The runner program.
    pub runner: PathBuf,
    /// The user who runs the job.
    pub user: String,
    /// Jobs that come from forks of public repositories may run here; see [`super::admit`].
    #[serde(default)]
    pub allow_forks: bool,
    /// Longest run of its job, in seconds; none = the host alone limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_limit: Option<u64>,
    /// Where the runner keeps tools that actions unpack, if that outlives the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_cache: Option<PathBuf>,
    /// How Docker is to be set up, if jobs may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerSettings>,
    /// Where Nix gets what is built already, if the class says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nix: Option<NixSettings>,
    /// The proxy by which programs reach what is outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
    /// What `/etc/hosts` must know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
    /// What goes with the graphics processors the container has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSettings>,
}

/// What is added to Nix's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NixSettings {
    /// Binary caches besides those of the template.
    pub substituters: Vec<String>,
    /// Public keys besides those of the template.
    pub trusted_public_keys: Vec<String>,
}

/// A name, and where what is called so is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostName {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What a CDI specification wants done in a container besides what is mounted: the guest does it with the container's own
/// rights, so that no hook runs as the host's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSettings {
    /// Variables for the job.
    pub environment: BTreeMap<String, String>,
    /// Symbolic links.
    pub links: Vec<SymbolicLink>,
    /// Directories of libraries for `ldconfig`.
    pub libraries: Vec<PathBuf>,
}

/// A link, and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SymbolicLink {
    /// The link itself, absolute.
    pub at: PathBuf,
    /// As it is written into it; may be relative to its directory.
    pub target: PathBuf,
}

/// What programs in a container need to know of a proxy. It has no password, so none of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// `http://HOST:PORT`.
    pub url: String,
    /// What is reached without it, in the words of `no_proxy`.
    pub except: String,
    /// The name in `url`, which `/etc/hosts` must know; none = it is an address.
    pub name: Option<String>,
    /// Where it is.
    pub address: Ipv4Addr,
}

impl ProxySettings {
    /// The variables by which programs know it, in both ways of writing them: some programs read only the one.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let (url, except) = (&self.url, &self.except);
        [
            ("http_proxy", url),
            ("https_proxy", url),
            ("no_proxy", except),
            ("HTTP_PROXY", url),
            ("HTTPS_PROXY", url),
            ("NO_PROXY", except),
        ]
        .map(|(name, value)| (name, value.clone()))
        .into_iter()
    }
}

/// What the Docker daemon of a container needs to know; [`super::docker`] writes it down for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerSettings {
    /// Root of the registry that is asked before Docker Hub.
    pub mirror: Option<String>,
    /// Roots of registries that are asked before others, by the names of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, String>,
    /// Where its networks get their subnets from.
    pub pool: Ipv4Network,
    /// How large each of those is.
    pub subnet_prefix: u8,
}

impl GuestSettings {
    /// The directory the runner keeps its files in: the parent of the program's `bin/`, unless the unit of the
    /// template sets `RUNNER_ROOT` (docs/github.md#runner-in-nixpkgs). `program` is where the program lies, links
    /// resolved: the runner looks beside itself, and not beside a link to it.
    pub fn runner_root(&self, variable: Option<PathBuf>, program: &Path) -> PathBuf {
        // nixpkgs' package cannot write beside itself, and goes by the variable.
        let program = if program.starts_with("/nix/store") { &self.runner } else { program };
        let beside = || program.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned();
        variable.unwrap_or_else(beside)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_runners_files_are_beside_the_program_itself_and_not_beside_a_link_to_it() {
        let settings: GuestSettings = serde_json::from_value(serde_json::json!({
            "name": "j0000001", "interface": "gj-1", "address": "10.0.0.2", "prefix": 24, "gateway": "10.0.0.1",
            "dns": [], "runner": "/usr/bin/Runner.Listener", "user": "runner",
        }))
        .unwrap();
        let root = |variable: Option<&str>, program: &str| {
            settings.runner_root(variable.map(PathBuf::from), Path::new(program)).display().to_string()
        };
        assert_eq!(root(None, "/opt/actions-runner/bin/Runner.Listener"), "/opt/actions-runner");
        assert_eq!(root(None, "/usr/bin/Runner.Listener"), "/usr");
        assert_eq!(root(Some("/srv/r"), "/opt/actions-runner/bin/Runner.Listener"), "/srv/r");
        assert_eq!(root(None, "/nix/store/h-github-runner/bin/Runner.Listener"), "/usr", "what cannot be written");
    }
}
