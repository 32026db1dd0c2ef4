//! The checked settings: what the rest of the program works with.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::{
    pool::Pool,
    reach::{Reach, Shared},
};

/// Everything the operator decided. Free of secrets; printing it is safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where jobs come from, at least one.
    pub targets: Vec<Target>,
    /// Runner classes by name, at least one.
    pub classes: BTreeMap<String, Class>,
    /// Container templates by name.
    pub templates: BTreeMap<String, Template>,
    /// Most containers at once on this host.
    pub max_concurrent: usize,
    /// Time between two polls of one target.
    pub poll_interval: Duration,
    /// Longest life of a container whose class does not say otherwise.
    pub job_timeout: Duration,
    /// How long an idle container that nobody needs may live.
    pub idle_grace: Duration,
    /// How long a container may take from unit start to a listening runner.
    pub boot_timeout: Duration,
    /// How long the registration of a runner that had its job is left to go by itself before it is deleted.
    pub registration_linger: Duration,
    /// The controller's own state.
    pub state_dir: PathBuf,
    /// Name of this host in runner names at the forge: lower-case letters, digits, hyphens, at most 20 characters.
    /// None = derived from the kernel's host name when the controller starts.
    pub host_name: Option<String>,
    /// Status over HTTP.
    pub http: Http,
    /// Subnets and resolvers of containers.
    pub network: Network,
    /// What all containers together may use.
    pub limits: Limits,
    /// User and group ids of containers.
    pub ids: Ids,
    /// GitHub.
    pub github: Github,
}

/// What giving up the user namespace means, for everybody who is told that a class does.
pub const PRIVILEGED_COST: &str = "privileged: root in its containers is root of this host, held back by dropped \
     capabilities alone; a job that breaks out owns the host";

/// One repository to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `owner/repository`.
    pub repo: String,
    /// File with the token for it.
    pub token_file: PathBuf,
}

/// A kind of runner: what it can do and what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Its name: lower-case letters, digits, hyphens; starts with a letter; at most 24 characters.
    pub name: String,
    /// Labels it offers, as written; compared without case.
    pub labels: Vec<String>,
    /// Name of the template it boots.
    pub template: String,
    /// CPUs a container may use (1.5 = one and a half); none = all.
    pub cpus: Option<f64>,
    /// Memory a container may use, in bytes; none = all.
    pub memory: Option<u64>,
    /// Tasks (threads) a container may have; none = systemd's default.
    pub tasks: Option<u64>,
    /// A container's share of disk bandwidth against others, 1 to 10000; none = 100.
    pub io_weight: Option<u64>,
    /// Disk space a container may use, in bytes; none = all there is.
    pub disk: Option<u64>,
    /// Longest life of a container.
    pub timeout: Duration,
    /// Most containers of this class at once.
    pub max_concurrent: usize,
    /// Idle containers to keep ready for each target.
    pub min_idle: usize,
    /// What containers may reach.
    pub network: Reach,
    /// Whether containers have no user namespace: root inside is root of the host.
    pub privileged: bool,
    /// The host's graphics processors.
    pub gpu: bool,
    /// Directories that outlive containers.
    pub caches: Vec<Cache>,
    /// Docker inside, if jobs of this class may use it.
    pub docker: Option<Docker>,
}

impl Class {
    /// Whether something of it lies in a file system in a file, which takes a loop device.
    pub fn uses_loop_devices(&self) -> bool {
        let keeps_images = self.docker.as_ref().is_some_and(|docker| docker.keep.is_some());
        self.disk.is_some() || !self.caches.is_empty() || keeps_images
    }

    /// What the kernel lets one container use.
    pub fn limits(&self) -> Limits {
        Limits { cpus: self.cpus, memory: self.memory, tasks: self.tasks, io_weight: self.io_weight }
    }
}

/// What a control group may use; each is kept by the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// CPUs (1.5 = one and a half); none = all.
    pub cpus: Option<f64>,
    /// Memory in bytes, without swap; none = all.
    pub memory: Option<u64>,
    /// Tasks (threads); none = systemd's default.
    pub tasks: Option<u64>,
    /// Share of disk bandwidth against others, 1 to 10000; none = 100, as everybody.
    pub io_weight: Option<u64>,
}

/// A directory that outlives containers of a class, used by all that run at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Where containers see it.
    pub at: PathBuf,
    /// Most it holds, in bytes.
    pub size: u64,
    /// Whose jobs share it.
    pub per: Sharing,
}

/// Who shares something within a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The jobs of one target.
    Target,
    /// All jobs.
    Class,
}

/// Docker inside containers of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// Root of the registry that is asked before Docker Hub; none = Docker Hub itself.
    pub mirror: Option<String>,
    /// Where the networks of Docker inside get their subnets from. Never overlaps the containers' own pool.
    pub pool: Ipv4Network,
    /// Size in bytes of each image store that outlives its container; none = every container begins with an empty
    /// one, which goes with it.
    pub keep: Option<u64>,
}

/// What a container boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What its root file system starts from.
    pub root: Root,
    /// Nix store on the host that a tree sees at [`NIX_STORE`] through an overlay of its own; a system always has one.
    pub nix_store: Option<PathBuf>,
    /// Path inside the container of the forge's runner program.
    pub runner: PathBuf,
    /// User inside the container who runs the job.
    pub user: String,
}

/// What a container's root file system starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// A directory tree, seen through an overlay.
    Tree(PathBuf),
    /// An empty root, the host's Nix store seen through an overlay, and a NixOS system in it.
    System {
        /// The system's store path: `init` in it is what boots.
        closure: PathBuf,
        /// Directory on the host with an unpacked release of the runner, seen through an overlay at [`RUNNER_MOUNT`].
        runner_dir: Option<PathBuf>,
    },
}

/// Where a container sees the directory of an unpacked runner.
pub const RUNNER_MOUNT: &str = "/opt/actions-runner";
/// The Nix store, on the host and in containers.
pub const NIX_STORE: &str = "/nix/store";

/// Whether a path is an entry of the Nix store itself, and nothing below one.
pub fn is_store_path(path: &Path) -> bool {
    path.parent() == Some(Path::new(NIX_STORE))
}

/// Where status is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// Address to listen on.
    pub address: IpAddr,
    /// Port to listen on; 0 = none.
    pub port: u16,
}

/// Subnets and resolvers of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// One subnet of this pool for each container.
    pub pool: Pool,
    /// Resolvers written into the container's `/etc/resolv.conf`; none = the template's own file is left alone. A class
    /// may name others.
    pub dns: Vec<Ipv4Addr>,
    /// Most connections a container may have at once, so that it cannot fill the host's table of them.
    pub connections: u32,
    /// Further networks no container may reach unless its class allows it.
    pub deny: Vec<Ipv4Network>,
    /// Networks of services that jobs share, by name.
    pub shared: BTreeMap<String, Shared>,
}

/// How many user and group ids a container has.
pub const IDS: u32 = 65_536;

/// User and group ids of containers: [`IDS`] for each subnet of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The lowest.
    pub first: u32,
}

/// GitHub's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Github {
    /// API root: `https://api.github.com`, or `https://HOST/api/v3`.
    pub api_url: String,
}
