//! The checked settings: what the rest of the program works with.

use std::{collections::BTreeMap, net::IpAddr, net::Ipv4Addr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::pool::Pool;

/// Everything the operator decided. Free of secrets; printing it is safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What opens forges, by name; every one is used by a target.
    pub credentials: BTreeMap<String, Credential>,
    /// Where jobs come from, at least one.
    pub targets: Vec<Target>,
    /// Runner classes by name, at least one.
    pub classes: BTreeMap<String, Class>,
    /// Container templates by name.
    pub templates: BTreeMap<String, Template>,
    /// Most containers at once on this host.
    pub max_concurrent: usize,
    /// Time between two looks at a repository in which something is queued or running.
    pub poll_interval: Duration,
    /// Time between two looks at a repository in which nothing has been queued for a while; at least `poll_interval`.
    pub idle_poll_interval: Duration,
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
    /// GitHub.
    pub github: Github,
    /// Webhook deliveries that hasten looks; none = not listened for.
    pub webhook: Option<Webhook>,
}

/// Where webhook deliveries arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Address to listen on.
    pub address: IpAddr,
    /// Port to listen on.
    pub port: u16,
    /// File that holds the secret shared with the forge.
    pub secret_file: PathBuf,
}

/// What opens a forge.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// Its name: as a class's.
    pub name: String,
    /// What it is.
    pub kind: CredentialKind,
    /// API root it is for: `https://api.github.com`, `https://HOST/api/v3`, `https://api.NAME.ghe.com`.
    pub api_url: String,
    /// Share of its rate limit the controller uses at most; more than 0, at most 1.
    pub share: f64,
}

/// Kinds of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name: `owner/repository`, `organisation`, `account`, `enterprises/name`.
    pub name: String,
    /// What it is.
    pub kind: TargetKind,
    /// Name of the credential for it.
    pub credential: String,
    /// Runners are registered with each repository even where the organisation could have them.
    pub register_per_repository: bool,
    /// Runner group its runners join; none = the default group. Only where runners are the organisation's or enterprise's.
    pub runner_group: Option<String>,
    /// Repositories served, by patterns of their name with `*` and `?`; empty = all.
    pub include: Vec<String>,
    /// Repositories not served though included.
    pub exclude: Vec<String>,
    /// Serve only repositories pushed to within this time.
    pub pushed_within: Option<Duration>,
    /// Time between two discoveries of its repositories.
    pub rediscover: Duration,
    /// Classes that serve it; empty = all.
    pub classes: Vec<String>,
    /// Jobs of a target with a higher priority are served first.
    pub priority: i32,
    /// Its share of the host against the other targets of the same priority; at least 1.
    pub weight: u32,
    /// Most containers for it at once.
    pub max_concurrent: usize,
    /// Jobs of public repositories triggered from forks are run as well.
    pub allow_forks: bool,
}

impl Target {
    /// Its runners are registered with each of its repositories, not with its organisation or enterprise.
    pub fn registers_with_repositories(&self) -> bool {
        match self.kind {
            TargetKind::Repository | TargetKind::User => true,
            TargetKind::Organisation => self.register_per_repository,
            TargetKind::Enterprise => false,
        }
    }
}

/// Kinds of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// One repository.
    Repository,
    /// An organisation's repositories.
    Organisation,
    /// A personal account's repositories.
    User,
    /// An enterprise: through scale sets only, since its repositories cannot be listed.
    Enterprise,
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
    /// Longest life of a container.
    pub timeout: Duration,
    /// Most containers of this class at once.
    pub max_concurrent: usize,
    /// Idle containers to keep ready for each scope.
    pub min_idle: usize,
    /// How its jobs are found.
    pub intake: Intake,
}

/// How a class's jobs are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intake {
    /// By a scale set where the credential allows it, by polling elsewhere.
    #[default]
    Auto,
    /// By polling repositories.
    Polling,
    /// By a runner scale set of each scope.
    ScaleSet,
}

/// What a container boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Root directory of the tree.
    pub path: PathBuf,
    /// Path inside the container of the forge's runner program.
    pub runner: PathBuf,
    /// Version of that program, where it cannot be read from the tree.
    pub runner_version: Option<String>,
    /// User inside the container who runs the job.
    pub user: String,
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
    /// Resolvers written into the container's `/etc/resolv.conf`; none = the template's own file is left alone.
    pub dns: Vec<Ipv4Addr>,
}

/// GitHub's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Github {
    /// API root of every credential that names none: `https://api.github.com`, or `https://HOST/api/v3`.
    pub api_url: String,
}
