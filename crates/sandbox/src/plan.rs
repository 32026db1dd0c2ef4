//! Everything that is decided about one container, in one root-owned file.

use std::{net::Ipv4Addr, path::PathBuf};

use contract::{
    ContainerName,
    guest_settings::{DockerSettings, GuestSettings, HostName, NixSettings, ProxySettings},
};
use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};
use settings::{
    Cache, Device, Docker, Nix, Root, Service, Settings, Sharing,
    docker::SUBNET_PREFIX,
    pool::{container_address, host_address},
};

use super::{gpu::Gpu, inbox::Accepted, link};

/// What *prepare* decided; *run* reads nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// The container.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// Its subnet, one of the pool's.
    pub subnet: Ipv4Network,
    /// First of the [`settings::IDS`] user and group ids that are the container's own; 0 = it has none.
    pub uid_base: u32,
    /// Whether it has no user namespace.
    pub privileged: bool,
    /// What its root file system starts from.
    pub root: Root,
    /// A Nix store that a tree sees as well.
    pub nix_store: Option<PathBuf>,
    /// The runner program inside the container.
    pub runner: PathBuf,
    /// The user inside the container who runs the job.
    pub user: String,
    /// Its resolvers; none = the template's own.
    pub dns: Vec<Ipv4Addr>,
    /// Its class's chain of the firewall: the class may leave the settings while it runs. Absent in what an earlier
    /// version of this program left.
    #[serde(default)]
    pub fence: Vec<serde_json::Value>,
    /// Jobs of forks may run in it. Absent in what an earlier version of this program left.
    #[serde(default)]
    pub allow_forks: bool,
    /// Longest run of its job, in seconds. Absent in what an earlier version of this program left.
    #[serde(default)]
    pub job_limit: Option<u64>,
    /// Graphics processors it has; found by *prepare*.
    #[serde(default)]
    pub graphics: Option<Gpu>,
    /// Devices beyond the usual ones.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Directories that outlive it and that it shares with others.
    #[serde(default)]
    pub caches: Vec<Cache>,
    /// Disk space it may use, in bytes; none = all there is.
    pub disk: Option<u64>,
    /// Docker inside.
    pub docker: Option<Docker>,
    /// What Nix inside is told. Absent in what an earlier version of this program left.
    #[serde(default)]
    pub nix: Nix,
    /// The proxy by which it reaches what is outside.
    #[serde(default)]
    pub proxy: Option<ProxySettings>,
    /// What it reaches of the host and beside it. Absent in what an earlier version of this program left.
    #[serde(default)]
    pub services: Vec<Service>,
    /// The target it was registered for, where it names what outlives the container: the controller's word, one that the
    /// settings serve with this class, and good for a file name. None where nothing is kept.
    #[serde(default)]
    pub target: Option<String>,
    /// The image store it continues, if one is kept; chosen when the container's resources are claimed.
    pub store: Option<Store>,
}

/// An image store that outlives its container: of all with this name, the one with this number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Says whose jobs use it.
    pub name: String,
    /// Two containers at once never use the same.
    pub slot: u32,
}

/// A class or template that root's settings do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such class.
    #[error("the settings have no class {0:?}")]
    Class(String),
    /// No such template.
    #[error("the settings have no template {0:?}")]
    Template(String),
}

impl ContainerPlan {
    /// Decides by what the record asks for and root's own settings.
    pub fn new(accepted: &Accepted, settings: &Settings) -> Result<Self, Unknown> {
        let record = &accepted.record;
        let class = settings.classes.get(&record.class).ok_or_else(|| Unknown::Class(record.class.clone()))?;
        let template =
            settings.templates.get(&class.template).ok_or_else(|| Unknown::Template(class.template.clone()))?;
        Ok(Self {
            name: record.name.clone(),
            class: class.name.clone(),
            subnet: record.subnet,
            // Which range is free is seen when it is claimed.
            uid_base: 0,
            privileged: class.privileged,
            root: template.root.clone(),
            nix_store: template.nix_store.clone(),
            runner: template.runner.clone(),
            user: template.user.clone(),
            dns: class.network.dns.clone(),
            // The controller may be stricter than the settings, not laxer: what forks could write to is not kept.
            allow_forks: record.allow_forks || settings.target_of(&record.scope).is_some_and(|its| its.allow_forks),
            job_limit: Some(class.timeout.as_secs()),
            devices: class.devices.clone(),
            caches: class.caches.clone(),
            disk: class.disk,
            docker: class.docker.clone(),
            nix: class.nix.clone(),
            proxy: settings.proxy.as_ref().map(|proxy| proxy.for_containers(settings.services_of(class))),
            services: settings.services_of(class).cloned().collect(),
            target: None,
            store: None,
            // Written by who looks at the host.
            graphics: None,
            // Written by who makes the fence.
            fence: Vec::new(),
        })
    }

    /// Whether something outlives the container under its target's name.
    pub fn keeps_for_target(&self) -> bool {
        self.caches.iter().any(|cache| cache.per == Sharing::Target)
            || self.docker.as_ref().is_some_and(|docker| docker.keep.is_some())
    }

    /// What the guest needs to know of it.
    pub fn guest(&self) -> GuestSettings {
        GuestSettings {
            name: self.name.clone(),
            interface: link::guest_end(&self.name),
            address: container_address(self.subnet),
            prefix: self.subnet.prefix(),
            gateway: host_address(self.subnet),
            dns: self.dns.clone(),
            runner: self.runner.clone(),
            user: self.user.clone(),
            allow_forks: self.allow_forks,
            job_limit: self.job_limit,
            tool_cache: self.caches.iter().find(|cache| cache.tool_cache).map(|cache| cache.at.clone()),
            docker: self.docker.as_ref().map(|docker| DockerSettings {
                mirror: docker.mirror.clone(),
                mirrors: docker.mirrors.clone(),
                pool: docker.pool,
                subnet_prefix: SUBNET_PREFIX,
            }),
            nix: Some(&self.nix).filter(|nix| **nix != Nix::default()).map(|nix| NixSettings {
                substituters: nix.substituters.clone(),
                trusted_public_keys: nix.trusted_public_keys.clone(),
            }),
            proxy: self.proxy.clone(),
            hosts: self
                .services
                .iter()
                .map(|service| HostName { name: service.host_name(), address: *service.reached_at().ip() })
                .collect(),
            gpu: self.graphics.as_ref().map(|gpu| gpu.guest.clone()),
        }
    }
}

/// A target's name as part of a file name: whatever the controller says, it leads nowhere else. Upper and lower case
/// are the same, as they are to the forge. No target has a plus sign or a tilde, so no two have the same name here.
pub fn file_name_of(target: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '*');
    let good = (1..=200).contains(&target.len())
        && target.chars().all(plain)
        && target.starts_with(|c: char| c.is_ascii_alphanumeric());
    // Neither may stand in an option of a mount or in a pattern.
    good.then(|| target.replace(['/', '*'], "+").replace(':', "~").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_lead_out_of_the_stores() {
        assert_eq!(file_name_of("Octo-Org/hello.rs").as_deref(), Some("octo-org+hello.rs"));
        assert_eq!(file_name_of("forge:acme/app").as_deref(), Some("forge~acme+app"));
        assert_eq!(file_name_of("forge:*").as_deref(), Some("forge~+"));
        for target in ["", ".", "..", "../x", "/etc", "a b", "a\0", "o/r+s", "o/r~", "ä", &"x".repeat(201)] {
            assert_eq!(file_name_of(target), None, "{target:?}");
        }
    }
}
