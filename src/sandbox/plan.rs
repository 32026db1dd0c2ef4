//! Everything that is decided about one container, in one root-owned file.

use std::{net::Ipv4Addr, path::PathBuf};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::{inbox::Accepted, link};
use crate::{
    config::{
        Docker, Root, Settings,
        docker::SUBNET_PREFIX,
        pool::{container_address, host_address},
    },
    guest::settings::{DockerSettings, GuestSettings},
    handover::ContainerName,
};

/// What *prepare* decided; *run* reads nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The container.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// Its subnet, one of the pool's.
    pub subnet: Ipv4Network,
    /// First of the [`crate::config::IDS`] user and group ids that are the container's own; 0 = it has none.
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
    /// Disk space it may use, in bytes; none = all there is.
    pub disk: Option<u64>,
    /// Docker inside.
    pub docker: Option<Docker>,
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

impl Plan {
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
            disk: class.disk,
            docker: class.docker.clone(),
            store: None,
        })
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
            docker: self.docker.as_ref().map(|docker| DockerSettings {
                mirror: docker.mirror.clone(),
                pool: docker.pool,
                subnet_prefix: SUBNET_PREFIX,
            }),
        }
    }
}
