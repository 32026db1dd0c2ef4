//! The configuration file as people write it: its keys, each with its default, its range and what it means.
//!
//! This is the only place that says so. [`super::reference`] makes docs/configuration.md from it, `check` holds every
//! value against the range that stands here, and a test compares the NixOS options.
//!
//! What stands at a key: its description; `default` for one that is a value, `x-default` in words for one that depends
//! on something else; `range`, or for durations and sizes `x-from` and `x-to`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnetwork::Ipv4Network;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};
use smart_default::SmartDefault;

use super::{
    ClassSize, Device, ForgeKind, Intake, Problem, Problems, docker::CANDIDATES, gpu::GpuWritten, settings::Sharing,
};

/// What a runner calls the processor of this host.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
/// Labels of the class `default` unless something else is written.
pub(super) const LABELS: [&str; 5] = ["self-hosted", "ci", "nix", ARCHITECTURE, "Linux"];
/// Longest run of a job unless something else is written: GitHub's own limit, …
pub(super) const JOB_TIMEOUT: Duration = seconds(6 * 3600);
/// … and where the environment alone says how things are.
pub(super) const JOB_TIMEOUT_WITHOUT_FILE: Duration = seconds(2 * 3600);
/// Subnets of containers unless something else is written.
pub(super) const POOL: &str = "192.168.100.0-192.168.199.0";
/// Where containers see caches that do not say where.
pub(super) const CACHES: &str = "/srv/gha-cache";
/// Where they see the runner's tool cache: where it lies on the forge's own machines, for which some tools were built.
pub(super) const TOOLS: &str = "/opt/hostedtoolcache";
/// The tree of a template that names neither a tree nor a system.
pub(super) const TREE: &str = "/var/lib/machines/gha-runner";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Durations are humantime (`90s`, `2h 30m`), sizes are bytes or `512M`, `4g`, `4GiB`.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsWritten {
    /// File with the token of every target that names neither a token nor a credential.
    pub token_file: Option<PathBuf>,
    /// Most containers at once.
    #[default = 7]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: usize,
    /// Time between two looks at a repository in which something is queued or running.
    #[default(seconds(10))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1s", "x-to" = "1h"))]
    pub poll_interval: Duration,
    /// Time between two looks at a repository in which nothing happens, at least: to use less of the limit than there is.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("x-from" = "1s", "x-to" = "1h"))]
    #[schemars(extend("x-default" = "`poll_interval`, or as often as the credential affords"))]
    pub idle_poll_interval: Option<Duration>,
    /// Longest run of a job whose class says nothing, from its start; kept in the container and by systemd, also when
    /// the controller is dead.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("x-from" = "10s", "x-to" = "5days"))]
    #[schemars(extend("x-default" = "6h; 2h where there is no file"))]
    pub job_timeout: Option<Duration>,
    /// Longest time that a container waits for a job before another takes its place.
    #[default(seconds(4 * 3600))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1m", "x-to" = "5days"))]
    pub idle_timeout: Duration,
    /// How long an idle container that nobody needs may live.
    #[default(seconds(60))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1s", "x-to" = "1day"))]
    pub idle_grace: Duration,
    /// Time from a unit's start to a listening runner.
    #[default(seconds(60))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1s", "x-to" = "1h"))]
    pub boot_timeout: Duration,
    /// How long the registration of a runner that had its job is left to go by itself.
    #[default(seconds(45))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1s", "x-to" = "1h"))]
    pub registration_linger: Duration,
    /// How long ended jobs are remembered, in `history.sqlite` in the state directory.
    #[default(seconds(90 * 86_400))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1h", "x-to" = "3650days"))]
    pub history_keep: Duration,
    /// Group of the host whose members may operate the controller over its local socket, besides root.
    #[default = "gha-runner-operators"]
    pub operators: String,
    /// Labels of the class `default`.
    #[schemars(extend("x-default" = "self-hosted, ci, nix, Linux, and x64 or arm64, as the host is"))]
    pub runner_labels: Option<Vec<String>>,
    /// Classes in a word each, `TYPE-SIZE` or `TYPE-SIZE-docker` with `cpu` or `gpu` and a `size`; see [Sizes](#sizes).
    pub runners: Vec<String>,
    /// The controller's records.
    #[default = "/var/lib/gha-runner-controller"]
    pub state_dir: PathBuf,
    /// This host's part of runner names; must differ between hosts that share a repository.
    #[schemars(extend("x-default" = "the kernel's"))]
    pub host_name: Option<String>,
    #[allow(missing_docs)]
    pub http: Http,
    #[allow(missing_docs)]
    pub network: NetworkWritten,
    #[allow(missing_docs)]
    pub limits: LimitsWritten,
    #[allow(missing_docs)]
    pub admission: AdmissionWritten,
    #[allow(missing_docs)]
    pub retry: Retry,
    #[allow(missing_docs)]
    pub ids: Ids,
    #[allow(missing_docs)]
    pub github: GithubApi,
    #[allow(missing_docs)]
    pub proxy: ProxyWritten,
    #[allow(missing_docs)]
    pub webhook: Option<Webhook>,
    /// By name.
    #[serde(rename = "service")]
    pub services: BTreeMap<String, ServiceWritten>,
    /// By name.
    #[serde(rename = "credential")]
    pub credentials: BTreeMap<String, CredentialWritten>,
    #[allow(missing_docs)]
    #[serde(rename = "target")]
    pub targets: Vec<TargetWritten>,
    /// By name.
    #[serde(rename = "class")]
    pub classes: BTreeMap<String, ClassWritten>,
    /// By name.
    #[serde(rename = "template")]
    pub templates: BTreeMap<String, TemplateWritten>,
}

/// Where the dashboard's data, `/health`, `/status`, `/metrics` and `/api/v1` are served, for reading alone.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address to listen on; one that other machines reach requires `token_file`.
    #[default(Ipv4Addr::LOCALHOST.into())]
    pub address: IpAddr,
    /// Port to listen on; 0 = not at all.
    #[default = 8080]
    pub port: u16,
    /// File with the token that readers must show (`Authorization: Bearer TOKEN`); required when `address` can be
    /// reached from other machines. A token over plain HTTP can be overheard: put TLS in front of it.
    pub token_file: Option<PathBuf>,
}

/// Subnets and resolvers of containers.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkWritten {
    /// `ADDRESS/PREFIX`, or `FIRST-LAST`: every subnet whose network address lies between. At most 20,000 are used, one
    /// for each container.
    #[default(POOL.to_owned())]
    pub pool: String,
    /// Size of a container's subnet.
    #[default = 24]
    #[schemars(range(min = 8, max = 30))]
    pub prefix: u8,
    /// Resolvers of containers; `[]` = the template's own `/etc/resolv.conf`.
    #[default([Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)].to_vec())]
    pub dns: Vec<Ipv4Addr>,
    /// Most connections of one container at once, so that it cannot fill the host's table of them.
    #[default = 8192]
    #[schemars(range(min = 64, max = 1_000_000))]
    pub connections: u32,
    /// Networks beyond the private and special ones that containers may not reach, e.g. a LAN with public addresses.
    #[schemars(with = "Vec<String>")]
    pub deny: Vec<Ipv4Network>,
    /// By name.
    pub shared: BTreeMap<String, SharedNetworkWritten>,
}

/// A network of services that jobs share, e.g. a test database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharedNetworkWritten {
    /// Where the services are: `ADDRESS[/PREFIX][:PORTS]`.
    #[schemars(extend("x-default" = ""))]
    pub destination: String,
    /// The host's link that leads there; on another one the destination stays out of reach.
    #[schemars(extend("x-default" = "any"))]
    pub interface: Option<String>,
}

/// User and group ids of containers: 65,536 for each subnet of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ids {
    /// The lowest, a multiple of 65,536. None may belong to a user or group of the host or to a range in `/etc/subuid`,
    /// `/etc/subgid`.
    // Above what login tools hand out for rootless containers.
    #[default(1 << 29)]
    pub first: u32,
}

/// Jobs that were lost because the host was restarted under them are run again at GitHub, within this budget. It takes a
/// credential that may write Actions; `check` tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often a job is run again at most, whoever asked for the attempts before; 0 = never.
    #[default = 0]
    #[schemars(range(max = 10))]
    pub per_job: u32,
    /// How many jobs are run again within an hour at most.
    #[default = 10]
    #[schemars(range(min = 1, max = 1000))]
    pub per_hour: u32,
}

/// The GitHub that jobs come from.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GithubApi {
    /// API of every credential that names none: `https://HOST/api/v3` for a server of your own,
    /// `https://api.NAME.ghe.com`.
    #[default = "https://api.github.com"]
    pub api_url: String,
}

/// The HTTP proxy by which this host and its containers reach what is outside; see [Behind a proxy](#behind-a-proxy).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyWritten {
    /// Its root, `http://HOST:PORT`, without user and password.
    pub url: Option<String>,
    /// Its IPv4 address; required where `url` has a name, which containers find by this.
    pub address: Option<Ipv4Addr>,
    /// What is reached without it: names with all below them, `.example.org` (those below it alone), addresses,
    /// networks, `*`.
    pub except: Vec<String>,
}

/// Something that listens on this host, or beside it, and is for jobs: a registry, a cache. Classes name those that their
/// containers reach; see [Services of the host](#services-of-the-host).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceWritten {
    /// Where it listens, `ADDRESS:PORT`, TCP: `127.0.0.1:5000`, or elsewhere `192.168.1.20:5432`.
    #[schemars(extend("x-default" = ""))]
    pub address: String,
}

/// Where webhook deliveries arrive; may be reached from elsewhere, that is its purpose.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Address to listen on.
    #[default(Ipv4Addr::LOCALHOST.into())]
    pub address: IpAddr,
    /// Port to listen on.
    #[default = 8081]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// File with the secret shared with GitHub, for deliveries to `/webhook`; those of other forges have a secret of
    /// their own (`webhook_secret_file` of the credential).
    #[schemars(extend("x-default" = ""))]
    pub secret_file: PathBuf,
}

/// What opens a forge's API: a token, or a GitHub App.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialWritten {
    /// The kind of forge: `github`, `gitea` or `forgejo` ([forges.md](forges.md)).
    pub kind: ForgeKind,
    /// Where a Gitea or Forgejo is: `https://HOST`.
    pub url: Option<String>,
    /// File with the certificate (PEM) of the authority that signed that forge's, where it is one of your own.
    #[schemars(extend("x-default" = "those the host trusts"))]
    pub ca_file: Option<PathBuf>,
    /// File with the secret shared with that forge, for deliveries to `/webhook/NAME`; see [`[webhook]`](#webhook).
    pub webhook_secret_file: Option<PathBuf>,
    /// File with a personal access token, fine-grained or classic.
    pub token_file: Option<PathBuf>,
    /// A GitHub App instead: the number its settings page calls App ID.
    pub app_id: Option<u64>,
    /// File with the App's private key, PEM.
    pub private_key_file: Option<PathBuf>,
    /// The App's installation.
    #[schemars(extend("x-default" = "looked up for each target"))]
    pub installation_id: Option<u64>,
    /// API of GitHub it is for.
    #[schemars(extend("x-default" = "`github.api_url`"))]
    pub api_url: Option<String>,
    /// Part of its hourly rate limit that is used at most.
    #[default = 0.5]
    #[serde(serialize_with = "number")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub share: f64,
}

/// Whom to serve: exactly one of `repo`, `org`, `user`, `enterprise`, `instance`.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetWritten {
    /// One repository, `owner/repository`.
    pub repo: Option<String>,
    /// An organisation: its repositories are discovered.
    pub org: Option<String>,
    /// A personal account: its repositories are discovered; its runners are each repository's at GitHub, the account's
    /// elsewhere.
    pub user: Option<String>,
    /// An enterprise: by scale sets only, since its repositories cannot be listed.
    pub enterprise: Option<String>,
    /// `true` = all repositories of a Gitea or Forgejo.
    pub instance: bool,
    /// Which credential.
    #[schemars(extend("x-default" = "see above"))]
    pub credential: Option<String>,
    /// Or a token of its own.
    #[schemars(extend("x-default" = "top-level `token_file`"))]
    pub token_file: Option<PathBuf>,
    /// `repository`: register an organisation's runners (elsewhere than at GitHub also an account's) with each
    /// repository, which needs no permission on the organisation.
    #[schemars(extend("x-default" = "organisation"))]
    pub register: Option<Register>,
    /// Group its runners join; organisation and enterprise only.
    #[schemars(extend("x-default" = "the default group"))]
    pub runner_group: Option<String>,
    /// Patterns of repository names, without owner, that are served; `*` any characters, `?` one; without case.
    #[schemars(extend("x-default" = "all"))]
    pub include: Vec<String>,
    /// Patterns of repository names that are not served though included.
    pub exclude: Vec<String>,
    /// Serve only repositories pushed to within this time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("x-from" = "1h", "x-to" = "3650days", "x-default" = "no limit"))]
    pub pushed_within: Option<Duration>,
    /// Time between two discoveries.
    #[default(seconds(600))]
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-from" = "1m", "x-to" = "1day"))]
    pub rediscover: Duration,
    /// Classes that serve it.
    #[schemars(extend("x-default" = "all"))]
    pub classes: Vec<String>,
    /// Jobs of a higher priority go first.
    #[schemars(range(min = -100, max = 100))]
    pub priority: i32,
    /// Share of the host against other targets of the same priority.
    #[default = 1]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Most containers for it at once.
    #[schemars(range(min = 1, max = 1000), extend("x-default" = "top-level `max_concurrent`"))]
    pub max_concurrent: Option<usize>,
    /// `allow`: run jobs of public repositories that were triggered from forks.
    pub forks: Forks,
}

/// `[[target]]` `register`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Register {
    Organisation,
    Repository,
}

/// `[[target]]` `forks`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Forks {
    #[default]
    Refuse,
    Allow,
}

/// A kind of runner; a job goes to the smallest class that has all its labels. Without any there is one, `default`.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassWritten {
    /// Labels it offers. Where its template is for Gitea or Forgejo each may say how its jobs run: `nix:host` or `nix` in
    /// the container, `builder:docker://IMAGE` in that image, by the container's own Docker.
    #[schemars(extend("x-default" = "as `runner_labels`"))]
    pub labels: Option<Vec<String>>,
    /// What it boots.
    #[default = "default"]
    pub template: String,
    /// `cpus`, `memory` and `tasks` in a word: `xs` (1, 2G), `small` (2, 4G, 2048), `medium` (6, 16G, 4096), `large`
    /// (12, 32G, 8192) or `max` (no limits); each of the three keys counts before it.
    #[schemars(extend("x-default" = "none"))]
    pub size: Option<ClassSize>,
    /// CPUs one container may use.
    #[serde(serialize_with = "number")]
    #[schemars(range(min = 0.01, max = 4096), extend("x-default" = "no limit"))]
    pub cpus: Option<f64>,
    /// Memory one container may use, without swap.
    #[schemars(extend("x-from" = "16M", "x-to" = "1024T", "x-default" = "no limit"))]
    pub memory: Option<Size>,
    /// Tasks (threads) one container may have.
    #[schemars(range(min = 32, max = 4_194_304), extend("x-default" = "16384"))]
    pub tasks: Option<u64>,
    /// Longest run of a job, from its start.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("x-from" = "10s", "x-to" = "5days", "x-default" = "`job_timeout`"))]
    pub timeout: Option<Duration>,
    /// Most containers of the class at once.
    #[schemars(range(min = 1, max = 1000), extend("x-default" = "`max_concurrent`"))]
    pub max_concurrent: Option<usize>,
    /// Idle containers kept ready for each place its runners are registered with.
    #[schemars(range(min = 0, max = 100))]
    pub min_idle: usize,
    /// When they are kept ready, in the host's time: `Mon..Fri 07:55..18:00`, one or more; at other times none are.
    #[schemars(extend("x-default" = "always"))]
    pub min_idle_hours: Vec<String>,
    /// How its jobs are found: `polling`; `scale-set`: at once, by [a runner scale set](scale-sets.md) of each scope,
    /// which is a preview of GitHub's; `auto`: a scale set where the credential allows it, else polling.
    pub intake: Intake,
    /// A container's share of disk bandwidth against others (needs a scheduler that knows weights, e.g. bfq, or
    /// io.cost).
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub io_weight: Option<u64>,
    /// Disk space and inodes one container may use for all it writes, Docker's images included; see [Limits](#limits).
    #[schemars(extend("x-from" = "32M", "x-to" = "1024T", "x-default" = "no limit"))]
    pub disk: Option<Size>,
    /// Graphics processors of the host that containers get: `true` (all), `nvidia`, `amd`, `intel`, a device of a CDI
    /// specification (`nvidia.com/gpu=0`), a render node (`/dev/dri/renderD128`), or a list of these; see
    /// [templates.md](templates.md#graphics-processors). Refused where the host has none.
    pub gpu: GpuWritten,
    /// Devices that containers get beyond the usual ones: `kvm`, `fuse`, `tun`, `loop`; what each costs is in
    /// [security.md](security.md#devices). Refused where the host has none.
    pub devices: Vec<Device>,
    /// By name.
    #[serde(rename = "cache")]
    pub caches: BTreeMap<String, CacheWritten>,
    /// Names of services (`[service.NAME]`) that its containers reach.
    pub services: Vec<String>,
    #[allow(missing_docs)]
    pub network: ClassNetworkWritten,
    /// `true` = no user namespace: root inside is root of the host. What that costs is in [security.md](security.md).
    pub privileged: bool,
    #[allow(missing_docs)]
    pub docker: DockerWritten,
    #[allow(missing_docs)]
    pub nix: NixWritten,
}

/// A directory that outlives containers; see [Caches](#caches).
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheWritten {
    /// Where containers see it.
    #[schemars(extend("x-default" = format!("{CACHES}/NAME, or {TOOLS} if it is the tool cache")))]
    pub at: Option<PathBuf>,
    /// `true` = it is the runner's tool cache, where actions such as `setup-node` keep what they unpack; one of a class.
    pub tool_cache: bool,
    /// The most it holds.
    #[default(Size::Text("10G".to_owned()))]
    // An empty file system needs some of it.
    #[schemars(extend("x-from" = "32M", "x-to" = "1024T"))]
    pub size: Size,
    /// Whether the jobs of each `target` or of the whole `class` share one.
    #[default(Sharing::Target)]
    pub per: Sharing,
}

/// What containers of a class may reach.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassNetworkWritten {
    /// Whether public addresses can be reached; `false` = only what the other keys name.
    #[default = true]
    pub internet: bool,
    /// Destinations that are reached beyond that, also on the host or in the LAN: `192.168.1.20:5432`,
    /// `10.8.0.0/16:80,8000-8010` (TCP and UDP), `10.9.0.1` (everything).
    pub allow: Vec<String>,
    /// Names of shared networks (`[network.shared.NAME]`) that are reached.
    pub shared: Vec<String>,
    /// Resolvers; ports 53 and 853 of any other address are refused; `[]` = the template's own, wherever they are.
    #[schemars(extend("x-default" = "`network.dns`"))]
    pub dns: Option<Vec<Ipv4Addr>>,
}

/// Docker inside containers; the template has it ([templates.md](templates.md#docker)).
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DockerWritten {
    /// Jobs may use Docker.
    pub enable: bool,
    /// Root of a registry that is asked before Docker Hub, `https://HOST` or `http://HOST:PORT`.
    pub mirror: Option<String>,
    /// Roots of registries that are asked before others than Docker Hub, `"ghcr.io" = "http://HOST:PORT"`; heeded by
    /// Docker 28 and newer with its containerd image store ([templates.md](templates.md#images-near-by)).
    #[schemars(extend("x-default" = "none"))]
    pub mirrors: BTreeMap<String, String>,
    /// Where Docker's networks inside get their /24 subnets; never overlaps `network.pool`.
    #[schemars(with = "Option<String>", extend("x-default" = CANDIDATES.map(|pool| pool.to_string()).join(", or ")))]
    pub pool: Option<Ipv4Network>,
    /// Whether image stores outlive containers.
    pub keep: bool,
    /// The most each image store holds.
    #[default(Size::Text("20G".to_owned()))]
    #[schemars(extend("x-from" = "64M", "x-to" = "1024T"))]
    pub keep_size: Size,
}

/// Where Nix inside gets what is built already; see [templates.md](templates.md#nix-paths-near-by).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NixWritten {
    /// Binary caches that are asked besides those of the template, `http://HOST:PORT`; the one with the lowest
    /// `Priority` first.
    pub substituters: Vec<String>,
    /// Keys whose signatures count besides those of the template, `NAME:KEY`.
    pub trusted_public_keys: Vec<String>,
}

/// What all containers may use together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsWritten {
    /// CPUs.
    #[serde(serialize_with = "number")]
    #[schemars(range(min = 0.01, max = 4096), extend("x-default" = "no limit"))]
    pub cpus: Option<f64>,
    /// Memory, without swap.
    // Below this not even an init runs.
    #[schemars(extend("x-from" = "16M", "x-to" = "1024T", "x-default" = "no limit"))]
    pub memory: Option<Size>,
    /// Tasks (threads).
    #[schemars(range(min = 32, max = 4_194_304), extend("x-default" = "no limit"))]
    pub tasks: Option<u64>,
    /// Share of disk bandwidth against everything else on the host.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub io_weight: Option<u64>,
}

/// When the host is too busy or too full for one container more. Running jobs go on. A threshold of 0 is not watched.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionWritten {
    /// Below this much free space, of the state directory's file system or the containers', nothing is started.
    #[default(Size::Text("1G".to_owned()))]
    #[schemars(extend("x-from" = "0", "x-to" = "1024T"))]
    pub min_free_disk: Size,
    /// The same for inodes, where the file system counts them.
    #[default = 10_000]
    pub min_free_inodes: u64,
    /// Above this percentage of time in which every process waits for memory, containers start one at a time.
    #[default = 40]
    #[schemars(range(max = 100))]
    pub max_memory_pressure: u8,
    /// The same for disks and file systems.
    #[default = 90]
    #[schemars(range(max = 100))]
    pub max_io_pressure: u8,
    /// The same where some process waits for a processor: usual on a host that is used well.
    #[default = 0]
    #[schemars(range(max = 100))]
    pub max_cpu_pressure: u8,
}

/// What a container boots; see [templates.md](templates.md). There is always one called `default`.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateWritten {
    /// A directory tree on the host.
    #[schemars(extend("x-default" = TREE))]
    pub path: Option<PathBuf>,
    /// In place of `path`: a NixOS system in the Nix store.
    pub system: Option<PathBuf>,
    /// A system's runner: directory on the host with an unpacked release of it.
    pub runner_dir: Option<PathBuf>,
    /// A Nix store of the host's that a tree sees at `/nix/store`, through a throw-away overlay; a system always does.
    pub nix_store: Option<PathBuf>,
    /// The kind of forge its runner program is for: `github`, `gitea` or `forgejo`.
    pub kind: ForgeKind,
    /// The runner program inside.
    #[schemars(extend("x-default" = runners()))]
    pub runner: Option<PathBuf>,
    /// Version of the runner program, e.g. `2.336.0`.
    #[schemars(extend("x-default" = "read from the template"))]
    pub runner_version: Option<String>,
    /// User inside who runs the job; not root.
    #[default = "runner"]
    pub user: String,
}

/// The runner programs of all kinds of forges, in words.
fn runners() -> String {
    let [github, others @ ..] = [ForgeKind::Github, ForgeKind::Gitea, ForgeKind::Forgejo];
    let others = others.map(|kind| format!("`{}` for {}", kind.runner(), kind.word()));
    format!("`{}`, {}", github.runner(), others.join(", "))
}

/// Bytes, or text with a unit K, M, G or T (powers of 1024), in capitals as systemd writes sizes or not as Docker does,
/// with `B` or `iB` behind it or without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Size {
    Bytes(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size: bytes, or text such as \"512M\" or \"4G\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size::Bytes(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                bytes.try_into().map(Size::Bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Ok(Size::Text(text.to_owned()))
            }
        }

        from.deserialize_any(Written)
    }
}

impl Size {
    /// In bytes; `None` if the text is no size.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Text(text) => {
                let text = text.trim();
                let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
                let unit = match unit.to_ascii_lowercase().as_str() {
                    "" | "b" => 1,
                    "k" | "kb" | "kib" => 1 << 10,
                    "m" | "mb" | "mib" => 1 << 20,
                    "g" | "gb" | "gib" => 1 << 30,
                    "t" | "tb" | "tib" => 1 << 40,
                    _ => return None,
                };
                number.trim_end().parse::<u64>().ok()?.checked_mul(unit)
            }
        }
    }
}

/// TOML has numbers that JSON has not (`nan`, `inf`): as text, so that they are found to be out of range.
fn number<N: Copy + Into<Option<f64>>, S: Serializer>(number: &N, serializer: S) -> Result<S::Ok, S::Error> {
    match (*number).into() {
        Some(number) if !number.is_finite() => serializer.collect_str(&number),
        number => number.serialize(serializer),
    }
}

/// Largest file read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Reads a file: JSON when its name ends in `.json`, TOML otherwise.
pub fn read(path: &Path) -> Result<SettingsWritten, Problems> {
    let key = path.display().to_string();
    let refused = |problem: String, remedy: &str| Problems::from(Problem::new(&key, problem, remedy));
    let length = std::fs::metadata(path)
        .map_err(|error| refused(format!("cannot be read: {error}"), "name an existing configuration file"))?
        .len();
    if length > LIMIT {
        return Err(refused(format!("is {length} bytes long"), "a configuration is at most 1 MiB"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("cannot be read: {error}"), "make it a readable UTF-8 text file"))?;
    let parsed = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| refused(plain(error.trim_end()), "correct the line; docs/configuration.md lists every key"))
}

/// What serde expects, in place of Rust's words for it.
const EXPECTED: [(&str, &str); 9] = [
    ("usize", "a whole number, 0 or more"),
    ("u64", "a whole number, 0 or more"),
    ("u32", "a whole number, 0 or more"),
    ("u16", "a whole number from 0 to 65535"),
    ("u8", "a whole number from 0 to 255"),
    ("i32", "a whole number"),
    ("f64", "a number"),
    ("a sequence", "a list"),
    ("a map", "a table"),
];

/// An error of a parser, for people who do not know the program's types.
fn plain(error: &str) -> String {
    const MARK: &str = "expected ";
    let mut parts = error.split(MARK);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(MARK);
        let table = part.strip_prefix("struct ");
        let table = table.map(|rest| ("a table", rest.trim_start_matches(|c: char| c.is_alphanumeric())));
        let other = || EXPECTED.iter().find_map(|(rust, words)| Some((*words, part.strip_prefix(rust)?)));
        let (words, rest) = table.or_else(other).unwrap_or(("", part));
        plain.push_str(words);
        plain.push_str(rest);
    }
    plain
}
