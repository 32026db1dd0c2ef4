//! The configuration file as people write it: every key optional, unknown keys refused.

use std::{collections::BTreeMap, net::IpAddr, net::Ipv4Addr, path::Path, path::PathBuf, time::Duration};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::{
    Intake, Problem, Problems,
    reach::{ReachWritten, SharedWritten},
    settings::Sharing,
};

/// The whole file, before checking. Durations are humantime (`90s`, `2h 30m`); sizes are bytes or `4G`, `512M`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Written {
    pub token_file: Option<PathBuf>,
    pub max_concurrent: Option<usize>,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub idle_poll_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub job_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub idle_grace: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub boot_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub registration_linger: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub history_keep: Option<Duration>,
    pub operators: Option<String>,
    pub runner_labels: Option<Vec<String>>,
    pub state_dir: Option<PathBuf>,
    pub host_name: Option<String>,
    pub http: HttpWritten,
    pub network: NetworkWritten,
    pub limits: LimitsWritten,
    pub ids: IdsWritten,
    pub github: GithubWritten,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookWritten>,
    #[serde(rename = "credential", skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, CredentialWritten>,
    #[serde(rename = "target", skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetWritten>,
    #[serde(rename = "class", skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, ClassWritten>,
    #[serde(rename = "template", skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, TemplateWritten>,
}

/// `[http]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct HttpWritten {
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct NetworkWritten {
    pub pool: Option<String>,
    pub prefix: Option<u8>,
    pub dns: Option<Vec<Ipv4Addr>>,
    pub connections: Option<usize>,
    pub deny: Option<Vec<Ipv4Network>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<String, SharedWritten>,
}

/// `[ids]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct IdsWritten {
    pub first: Option<u32>,
}

/// `[github]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct GithubWritten {
    pub api_url: Option<String>,
}

/// `[webhook]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct WebhookWritten {
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub secret_file: Option<PathBuf>,
}

/// `[credential.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct CredentialWritten {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<PathBuf>,
    pub api_url: Option<String>,
    pub share: Option<f64>,
}

/// `[[target]]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TargetWritten {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub pushed_within: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub rediscover: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    pub priority: Option<i32>,
    pub weight: Option<u32>,
    pub max_concurrent: Option<usize>,
    pub forks: Option<Forks>,
}

/// `[[target]]` `register`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Register {
    Organisation,
    Repository,
}

/// `[[target]]` `forks`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Forks {
    Refuse,
    Allow,
}

/// `[class.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ClassWritten {
    pub labels: Option<Vec<String>>,
    pub template: Option<String>,
    pub cpus: Option<f64>,
    pub memory: Option<Size>,
    pub tasks: Option<u64>,
    #[serde(with = "humantime_serde")]
    pub timeout: Option<Duration>,
    pub max_concurrent: Option<usize>,
    pub min_idle: Option<usize>,
    pub intake: Option<Intake>,
    pub io_weight: Option<u64>,
    pub disk: Option<Size>,
    pub gpu: Option<bool>,
    #[serde(rename = "cache", skip_serializing_if = "BTreeMap::is_empty")]
    pub caches: BTreeMap<String, CacheWritten>,
    pub network: ReachWritten,
    pub privileged: Option<bool>,
    pub docker: DockerWritten,
}

/// `[class.NAME.cache.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct CacheWritten {
    pub at: Option<PathBuf>,
    pub size: Option<Size>,
    pub per: Option<Sharing>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LimitsWritten {
    pub cpus: Option<f64>,
    pub memory: Option<Size>,
    pub tasks: Option<u64>,
    pub io_weight: Option<u64>,
}

/// `[class.NAME.docker]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct DockerWritten {
    pub enable: Option<bool>,
    pub mirror: Option<String>,
    pub pool: Option<Ipv4Network>,
    pub keep: Option<bool>,
    pub keep_size: Option<Size>,
}

/// `[template.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TemplateWritten {
    pub path: Option<PathBuf>,
    pub system: Option<PathBuf>,
    pub runner_dir: Option<PathBuf>,
    pub nix_store: Option<PathBuf>,
    pub runner: Option<PathBuf>,
    pub runner_version: Option<String>,
    pub user: Option<String>,
}

/// Bytes, or text with a suffix K, M, G or T (powers of 1024), as systemd writes sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    /// In bytes; `None` if the text is no size.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Text(text) => {
                let text = text.trim();
                let shift = match text.chars().last()? {
                    'K' => 10,
                    'M' => 20,
                    'G' => 30,
                    'T' => 40,
                    _ => return text.parse().ok(),
                };
                let number: u64 = text[..text.len() - 1].trim().parse().ok()?;
                number.checked_mul(1 << shift)
            }
        }
    }
}

/// Largest file read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Reads a file: JSON when its name ends in `.json`, TOML otherwise.
pub fn read(path: &Path) -> Result<Written, Problems> {
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
    parsed.map_err(|error| {
        refused(error.trim_end().to_owned(), "correct the line; docs/configuration.md lists every key")
    })
}
