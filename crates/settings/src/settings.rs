//! The checked settings: what the rest of the program works with, and what [`super::resolved`] writes and reads.
//!
//! A field without a description means what the key of the same name means ([`super::file`]).

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use contract::Labels;
use ipnetwork::Ipv4Network;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    class_network::{ClassNetwork, SharedNetwork},
    file::{GithubApi, Http, Ids, Retry, Webhook},
    gpu::Gpu,
    hours::Hours,
    pattern,
    pool::Pool,
    proxy::Proxy,
    service::Service,
};

/// Everything the operator decided. Free of secrets; printing it is safe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Settings {
    /// What opens forges, by name; every one is used by a target.
    pub credentials: BTreeMap<String, Credential>,
    /// Where jobs come from, at least one.
    pub targets: Vec<Target>,
    /// Runner classes by name, at least one.
    pub classes: BTreeMap<String, Class>,
    /// Container templates by name.
    pub templates: BTreeMap<String, Template>,
    pub max_concurrent: usize,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_poll_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub job_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_grace: Duration,
    #[serde(with = "humantime_serde")]
    pub boot_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub registration_linger: Duration,
    #[serde(with = "humantime_serde")]
    pub history_keep: Duration,
    pub operators: String,
    pub state_dir: PathBuf,
    /// Name of this host in runner names at the forge: lower-case letters, digits, hyphens, at most 20 characters.
    /// None = derived from the kernel's host name when the controller starts.
    pub host_name: Option<String>,
    pub http: Http,
    pub network: Network,
    pub limits: Limits,
    pub admission: Admission,
    pub ids: Ids,
    /// Jobs that the host cost, run again.
    pub retry: Retry,
    pub github: GithubApi,
    /// The proxy by which this host and its containers reach what is outside; none = directly.
    pub proxy: Option<Proxy>,
    /// Webhook deliveries that hasten looks; none = not listened for.
    pub webhook: Option<Webhook>,
    /// What listens on the host or beside it, for classes that name it.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
}

/// When the host is too busy or too full for one container more; None = not watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// Least free bytes of each file system that is written to.
    pub min_free_disk: Option<u64>,
    /// Least free inodes of each.
    pub min_free_inodes: Option<u64>,
    /// Most percent of the time in which every process waits for memory.
    pub max_memory_pressure: Option<u8>,
    /// The same for disks and file systems.
    pub max_io_pressure: Option<u8>,
    /// Most percent of the time in which some process waits for a processor.
    pub max_cpu_pressure: Option<u8>,
}

impl Settings {
    /// By API root, the first target of each GitHub: what it says of a runner version does not depend on who asks, and two
    /// may say different things. Other forges say nothing of it.
    pub fn one_target_of_each_forge(&self) -> BTreeMap<&str, &Target> {
        let mut found = BTreeMap::new();
        for target in self.targets.iter().filter(|target| target.forge == ForgeKind::Github) {
            if let Some(credential) = self.credentials.get(&target.credential) {
                found.entry(credential.api_url.as_str()).or_insert(target);
            }
        }
        found
    }
}

/// What giving up the user namespace means, for everybody who is told that a class does.
pub const PRIVILEGED_COST: &str = "privileged: root in its containers is root of this host, held back by dropped \
     capabilities alone; a job that breaks out owns the host";

/// Kinds of forges, and so of runner programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForgeKind {
    /// GitHub, also a server of one's own.
    #[default]
    Github,
    /// Gitea.
    Gitea,
    /// Forgejo.
    Forgejo,
}

impl ForgeKind {
    /// As it is written in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
        }
    }

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitea => "Gitea",
            Self::Forgejo => "Forgejo",
        }
    }

    /// Upper and lower case are different letters in its labels.
    pub fn labels_have_case(self) -> bool {
        self != Self::Github
    }

    /// Its runner program, unless the template names another.
    pub fn runner(self) -> &'static str {
        match self {
            Self::Github => "/opt/actions-runner/bin/Runner.Listener",
            Self::Gitea => "/usr/local/bin/gitea-runner",
            Self::Forgejo => "/usr/local/bin/forgejo-runner",
        }
    }
}

/// What opens a forge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Credential {
    /// Its name: as a class's.
    pub name: String,
    /// What it is.
    pub kind: CredentialKind,
    /// The kind of forge it opens.
    pub forge: ForgeKind,
    /// API root it is for: `https://api.github.com`, `https://HOST/api/v3`, `https://api.NAME.ghe.com`; of other forges
    /// than GitHub their own root.
    pub api_url: String,
    pub ca_file: Option<PathBuf>,
    pub webhook_secret_file: Option<PathBuf>,
    pub share: f64,
}

/// Kinds of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CredentialKind {
    /// A personal access token, fine-grained or classic.
    Token {
        /// File that holds it.
        file: PathBuf,
    },
    /// A GitHub App.
    App {
        /// Its numeric id.
        id: u64,
        /// Its installation; none = looked up for each target.
        installation_id: Option<u64>,
        /// File that holds its private key, PEM.
        private_key_file: PathBuf,
    },
}

/// Something to serve: a repository, or all repositories of somebody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Target {
    /// Its name: `owner/repository`, `organisation`, `account`, `enterprises/name`; at another forge than GitHub after
    /// the credential's name and a colon, and there also `*`, the whole of it.
    pub name: String,
    /// What it is.
    pub kind: TargetKind,
    /// The kind of forge it is at.
    pub forge: ForgeKind,
    /// Name of the credential for it.
    pub credential: String,
    /// Runners are registered with each repository even where the organisation or account could have them.
    pub register_per_repository: bool,
    /// Runner group its runners join; none = the default group. Only where runners are the organisation's or enterprise's.
    pub runner_group: Option<String>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    #[serde(with = "humantime_serde")]
    pub pushed_within: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub rediscover: Duration,
    /// Classes that serve it; empty = all.
    pub classes: Vec<String>,
    pub priority: i32,
    pub weight: u32,
    pub max_concurrent: usize,
    /// Jobs of public repositories triggered from forks are run as well.
    pub allow_forks: bool,
}

impl Settings {
    /// Longest life of a container, which systemd keeps whatever becomes of the controller and of the guest: time to come
    /// up, to wait for a job, and for the job, each to its own limit; and an hour more, in which an idle container may
    /// not be ended since the forge does not answer.
    pub fn longest_life(&self, class: &Class) -> Duration {
        self.boot_timeout + self.idle_timeout + class.timeout + Duration::from_secs(3600)
    }
}

impl Target {
    /// The class serves it.
    pub fn has_class(&self, class: &str) -> bool {
        self.classes.is_empty() || self.classes.iter().any(|served| served == class)
    }

    /// Its runners are registered with each of its repositories, not with its organisation or enterprise.
    pub fn registers_with_repositories(&self) -> bool {
        match self.kind {
            TargetKind::Repository => true,
            TargetKind::Organisation | TargetKind::User => self.register_per_repository,
            TargetKind::Enterprise | TargetKind::Instance => false,
        }
    }

    /// The patterns let a repository of this name, without its owner, be served.
    pub fn selects(&self, name: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| pattern::matches(pattern, name));
        (self.include.is_empty() || named(&self.include)) && !named(&self.exclude)
    }

    /// Its runners may be registered with this scope: itself, or a repository of its that the patterns let be served.
    /// Upper and lower case are the same, as they are to the forge.
    pub fn may_register_with(&self, scope: &str) -> bool {
        if self.kind == TargetKind::Repository || !self.registers_with_repositories() {
            return self.name.eq_ignore_ascii_case(scope);
        }
        let own = scope.split_once('/').filter(|(owner, _)| owner.eq_ignore_ascii_case(&self.name));
        own.is_some_and(|(_, repository)| !repository.contains('/') && self.selects(repository))
    }
}

impl Settings {
    /// The target whose runners are registered with this scope; a repository that is named itself before its owner.
    pub fn target_of(&self, scope: &str) -> Option<&Target> {
        let of = |named: bool| {
            let mut targets = self.targets.iter().filter(move |t| (t.kind == TargetKind::Repository) == named);
            targets.find(|target| target.may_register_with(scope))
        };
        of(true).or_else(|| of(false))
    }
}

/// Kinds of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TargetKind {
    /// One repository.
    Repository,
    /// An organisation's repositories.
    Organisation,
    /// A personal account's repositories.
    User,
    /// An enterprise: through scale sets only, since its repositories cannot be listed.
    Enterprise,
    /// All repositories of a forge that is not GitHub.
    Instance,
}

/// A kind of runner: what it can do and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Class {
    /// Its name: lower-case letters, digits, hyphens; starts with a letter; at most 24 characters.
    pub name: String,
    /// Labels it offers, as written; compared without case at GitHub, and as they are elsewhere.
    pub labels: Vec<String>,
    /// What its runner declares, where that is more than labels: each with how its jobs run (`nix:host`,
    /// `builder:docker://image`). Empty at GitHub.
    pub declared: Vec<String>,
    pub template: String,
    /// The kind of forge that its template's runner is for.
    pub forge: ForgeKind,
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
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub max_concurrent: usize,
    pub min_idle: usize,
    /// None = always.
    #[serde(default)]
    pub min_idle_hours: Vec<Hours>,
    pub intake: Intake,
    /// Names of services that its containers reach; each once.
    #[serde(default)]
    pub services: Vec<String>,
    pub network: ClassNetwork,
    pub privileged: bool,
    /// Graphics processors; none = no access to any.
    pub gpu: Vec<Gpu>,
    /// Devices beyond the usual ones; each once.
    pub devices: Vec<Device>,
    /// Directories that outlive containers.
    pub caches: Vec<Cache>,
    /// Docker inside, if jobs of this class may use it.
    pub docker: Option<Docker>,
    /// What Nix inside is told.
    #[serde(default)]
    pub nix: Nix,
}

/// A device of the host that containers of a class may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The processor's virtualisation: virtual machines that are not emulated.
    Kvm,
    /// File systems that a program serves.
    Fuse,
    /// Network links that a program serves.
    Tun,
    /// Block devices that are files.
    Loop,
}

/// How a class's jobs are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Intake {
    /// By a scale set where the credential allows it, by polling elsewhere.
    Auto,
    /// By polling repositories: works everywhere, and with nothing that GitHub calls a preview.
    #[default]
    Polling,
    /// By a runner scale set of each scope.
    ScaleSet,
}

impl Class {
    /// Idle containers kept ready when the host's clock shows `local` ([`Hours::contain`]).
    pub fn min_idle_at(&self, local: Duration) -> usize {
        let now = self.min_idle_hours.is_empty() || self.min_idle_hours.iter().any(|hours| hours.contain(local));
        if now { self.min_idle } else { 0 }
    }

    /// The labels it offers, to compare as its forge does.
    pub fn offers(&self) -> Labels {
        Labels::of(&self.labels, self.forge.labels_have_case())
    }

    /// What its runner is registered with.
    pub fn registered_labels(&self) -> &[String] {
        if self.declared.is_empty() { &self.labels } else { &self.declared }
    }

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

impl Settings {
    /// The services that containers of a class reach.
    pub fn services_of<'a>(&'a self, class: &'a Class) -> impl Iterator<Item = &'a Service> {
        class.services.iter().filter_map(|name| self.services.get(name))
    }
}

/// What a control group may use; each is kept by the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// It is the runner's tool cache. Absent in what an earlier version of this program left.
    #[serde(default)]
    pub tool_cache: bool,
}

/// Who shares something within a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The jobs of one target.
    Target,
    /// All jobs.
    Class,
}

/// Where Nix inside containers of a class gets what is built already: the keys of [`super::file::NixWritten`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Nix {
    pub substituters: Vec<String>,
    pub trusted_public_keys: Vec<String>,
}

/// Docker inside containers of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// Root of the registry that is asked before Docker Hub; none = Docker Hub itself.
    pub mirror: Option<String>,
    /// Roots of registries that are asked before others, by the names of these. Absent in what an earlier version of this
    /// program left.
    #[serde(default)]
    pub mirrors: BTreeMap<String, String>,
    /// Where the networks of Docker inside get their subnets from. Never overlaps the containers' own pool.
    pub pool: Ipv4Network,
    /// Size in bytes of each image store that outlives its container; none = every container begins with an empty
    /// one, which goes with it.
    pub keep: Option<u64>,
}

/// What a container boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Template {
    /// What its root file system starts from.
    pub root: Root,
    /// Nix store on the host that a tree sees at [`NIX_STORE`] through an overlay of its own; a system always has one.
    pub nix_store: Option<PathBuf>,
    pub kind: ForgeKind,
    pub runner: PathBuf,
    /// Version of that program, where it cannot be read from the tree.
    pub runner_version: Option<String>,
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

/// Subnets and resolvers of containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Network {
    /// One subnet of this pool for each container.
    pub pool: Pool,
    /// Resolvers written into the container's `/etc/resolv.conf`; none = the template's own file is left alone. A class
    /// may name others.
    pub dns: Vec<Ipv4Addr>,
    pub connections: u32,
    pub deny: Vec<Ipv4Network>,
    /// Networks of services that jobs share, by name.
    pub shared: BTreeMap<String, SharedNetwork>,
}

/// How many user and group ids a container has.
pub const IDS: u32 = 65_536;
