//! From what is written to [`Settings`], or to everything that is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use ipnetwork::Ipv4Network;

use super::{
    Class, Github, Http, IDS, Ids, Network, Problem, Problems, Root, Settings, Target, Template, cache, docker,
    file::{ClassWritten, IdsWritten, LimitsWritten, NetworkWritten, TemplateWritten, Written},
    is_store_path, limits,
    pool::Pool,
    reach, token_file,
};

/// The class and the template there are when the file names none.
pub const DEFAULT: &str = "default";
const DEFAULT_LABELS: [&str; 5] = ["self-hosted", "ci", "nix", "x64", "Linux"];
/// An empty file system needs some of it.
const LEAST_DISK: u64 = 32 << 20;
const DEFAULT_POOL: &str = "192.168.100.0-192.168.199.0";
/// Where Docker makes networks unless told otherwise (moby, `default-address-pools`), on the host and in containers. Its
/// last resort, 192.168.0.0/16, is left out: what it made there shows as a route.
const DOCKERS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16),
    (Ipv4Addr::new(172, 18, 0, 0), 15),
    (Ipv4Addr::new(172, 20, 0, 0), 14),
    (Ipv4Addr::new(172, 24, 0, 0), 13),
];
const DEFAULT_DNS: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)];

/// Checks everything that can be known without looking at files.
pub fn check(written: Written) -> Result<Settings, Problems> {
    let mut found = Found::default();
    let job_timeout = found.duration("job_timeout", written.job_timeout, 7200, 10..=5 * 86_400);
    let max_concurrent = found.count("max_concurrent", written.max_concurrent, 7, 1..=1000);
    let network = network(&mut found, &written.network);
    let settings = Settings {
        targets: targets(&mut found, &written),
        templates: templates(&mut found, &written.templates),
        classes: classes(&mut found, &written, &network, job_timeout, max_concurrent),
        max_concurrent,
        poll_interval: found.duration("poll_interval", written.poll_interval, 10, 1..=3600),
        job_timeout,
        idle_grace: found.duration("idle_grace", written.idle_grace, 60, 1..=86_400),
        boot_timeout: found.duration("boot_timeout", written.boot_timeout, 60, 1..=3600),
        registration_linger: found.duration("registration_linger", written.registration_linger, 45, 1..=3600),
        state_dir: found.absolute("state_dir", written.state_dir, "/var/lib/gha-runner-controller"),
        host_name: written.host_name.inspect(|name| {
            found.unless(is_host_name(name), "host_name", format!("{name:?} is no host name"), HOST_NAME_REMEDY);
        }),
        http: Http {
            address: written.http.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: written.http.port.unwrap_or(8080),
        },
        limits: limits::check(&mut found, &|field| format!("limits.{field}"), written.limits),
        ids: ids(&mut found, &written.ids, network.pool),
        network,
        github: Github { api_url: found.api_url(written.github.api_url) },
    };
    found.unless(
        settings.http.address.is_loopback(),
        "http.address",
        format!("{} can be reached from other machines", settings.http.address),
        "listen on 127.0.0.1 or ::1 and put a proxy that checks who asks in front of it",
    );
    // A container of the pool's smallest size still needs a subnet of its own.
    let subnets = settings.network.pool.len() as usize;
    found.unless(
        subnets >= settings.max_concurrent,
        "network.pool",
        format!("holds {subnets} subnets for {} containers at once", settings.max_concurrent),
        "widen the pool, lengthen network.prefix, or lower max_concurrent",
    );
    for class in settings.classes.values() {
        found.unless(
            !(class.privileged && class.uses_loop_devices()),
            format!("class.{}.privileged", class.name),
            "root in such a container could write to loop devices, and the class has disk, cache or docker.keep",
            "remove them, or give the class a user namespace",
        );
        let key = format!("class.{}.template", class.name);
        found.unless(
            settings.templates.contains_key(&class.template),
            key,
            format!("there is no template {:?}", class.template),
            format!("define [template.{}], or name one of: {}", class.template, names(&settings.templates)),
        );
    }
    if found.problems.is_empty() { Ok(settings) } else { Err(Problems(found.problems)) }
}

fn names<T>(map: &BTreeMap<String, T>) -> String {
    map.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn targets(found: &mut Found, written: &Written) -> Vec<Target> {
    found.unless(
        !written.targets.is_empty(),
        "target",
        "no repository is named",
        "set GITHUB_REPO=owner/repository, or write [[target]] with repo = \"owner/repository\"",
    );
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    for (i, target) in written.targets.iter().enumerate() {
        let key = format!("target[{i}].repo");
        found.unless(
            is_repo(&target.repo),
            &key,
            format!("{:?} is not owner/repository", target.repo),
            "write it as in the repository's address, e.g. octo-org/hello",
        );
        found.unless(
            seen.insert(target.repo.to_ascii_lowercase()),
            &key,
            format!("{} is named twice", target.repo),
            "name each repository once",
        );
        let key = format!("target[{i}].token_file");
        match target.token_file.as_ref().or(written.token_file.as_ref()) {
            None => found.push(
                key,
                "no token file",
                "set GITHUB_TOKEN_FILE, or token_file at the top or in the target, to a file holding the token",
            ),
            Some(path) => {
                found.problems.extend(token_file::check_path(&key, path));
                targets.push(Target { repo: target.repo.clone(), token_file: path.clone() });
            }
        }
    }
    targets
}

fn templates(found: &mut Found, written: &BTreeMap<String, TemplateWritten>) -> BTreeMap<String, Template> {
    let mut templates: BTreeMap<String, TemplateWritten> = written.clone();
    templates.entry(DEFAULT.to_owned()).or_default();
    templates
        .into_iter()
        .map(|(name, template)| {
            found.name(&format!("template.{name}"), &name);
            let key = |field: &str| format!("template.{name}.{field}");
            let user = template.user.unwrap_or_else(|| "runner".to_owned());
            found.unless(
                is_user(&user),
                key("user"),
                format!("{user:?} is not the name of an unprivileged user"),
                "name the user inside the container who runs jobs, e.g. runner; not root",
            );
            found.unless(
                template.nix_store.is_none() || template.system.is_none(),
                key("nix_store"),
                "there is a system, which brings the host's store with it",
                "remove it",
            );
            let nix_store = template.nix_store.map(|store| found.absolute(&key("nix_store"), Some(store), ""));
            let root = root(found, &key, template.path, template.system, template.runner_dir);
            let runner = found.absolute(&key("runner"), template.runner, "/opt/actions-runner/bin/Runner.Listener");
            (name, Template { root, nix_store, runner, user })
        })
        .collect()
}

fn root(
    found: &mut Found,
    key: &impl Fn(&str) -> String,
    path: Option<PathBuf>,
    system: Option<PathBuf>,
    runner_dir: Option<PathBuf>,
) -> Root {
    let Some(system) = system else {
        found.unless(
            runner_dir.is_none(),
            key("runner_dir"),
            "only a system has it",
            "put the runner into the tree, or name a system instead of a path",
        );
        return Root::Tree(found.absolute(&key("path"), path, "/var/lib/machines/gha-runner"));
    };
    found.unless(
        path.is_none(),
        key("path"),
        "there is a system as well",
        "name either the path of a directory tree or a NixOS system",
    );
    let closure = found.absolute(&key("system"), Some(system), "");
    found.unless(
        is_store_path(&closure),
        key("system"),
        format!("{} is not a path of the Nix store", closure.display()),
        "name what config.system.build.toplevel of a NixOS configuration was built to, \
         /nix/store/HASH-nixos-system-NAME",
    );
    let runner_dir = runner_dir.map(|directory| found.absolute(&key("runner_dir"), Some(directory), ""));
    Root::System { closure, runner_dir }
}

fn network(found: &mut Found, written: &NetworkWritten) -> Network {
    for denied in written.deny.iter().flatten().filter(|denied| denied.prefix() == 0) {
        let remedy = "write class.NAME.network.internet = false for classes without internet";
        found.push("network.deny", format!("{denied} is everything"), remedy);
    }
    let connections = found.count("network.connections", written.connections, 8192, 64..=1_000_000);
    Network {
        pool: found.pool(written.pool.as_deref().unwrap_or(DEFAULT_POOL), written.prefix),
        dns: written.dns.clone().unwrap_or_else(|| DEFAULT_DNS.to_vec()),
        connections: u32::try_from(connections).unwrap_or(u32::MAX),
        deny: written.deny.clone().unwrap_or_default(),
        shared: reach::shared(found, &written.shared),
    }
}

/// The range systemd keeps for containers (its UIDS-GIDS document): nothing of a host should have any of these.
const CONTAINER_IDS: std::ops::RangeInclusive<u32> = 524_288..=1_879_048_191;

fn ids(found: &mut Found, written: &IdsWritten, pool: Pool) -> Ids {
    // Above what login tools hand out for rootless containers.
    let first = written.first.unwrap_or(1 << 29);
    let last = u64::from(first) + u64::from(pool.len()) * u64::from(IDS) - 1;
    found.unless(
        first.is_multiple_of(IDS) && CONTAINER_IDS.contains(&first) && last <= u64::from(*CONTAINER_IDS.end()),
        "ids.first",
        format!("{first}-{last} are no ids for containers"),
        format!(
            "write a multiple of {IDS}, from {} to {}, that leaves room for {} ranges of as many",
            CONTAINER_IDS.start(),
            CONTAINER_IDS.end(),
            pool.len()
        ),
    );
    Ids { first }
}

fn classes(
    found: &mut Found,
    written: &Written,
    network: &Network,
    job_timeout: Duration,
    max_concurrent: usize,
) -> BTreeMap<String, Class> {
    let mut classes: BTreeMap<String, ClassWritten> = written.classes.clone();
    if classes.is_empty() {
        classes.insert(DEFAULT.to_owned(), ClassWritten::default());
    } else if written.runner_labels.is_some() && !classes.contains_key(DEFAULT) {
        found.push(
            "runner_labels",
            "there are classes, but none named default that it could apply to",
            "give each class its own labels, or name one class default",
        );
    }
    classes
        .into_iter()
        .map(|(name, class)| {
            found.name(&format!("class.{name}"), &name);
            let key = |field: &str| format!("class.{name}.{field}");
            let labels = if name == DEFAULT {
                // The environment's RUNNER_LABELS arrives as runner_labels and wins over the file.
                written.runner_labels.clone().or(class.labels)
            } else {
                class.labels
            };
            let labels = labels.unwrap_or_else(|| DEFAULT_LABELS.map(str::to_owned).to_vec());
            found.labels(&key("labels"), &labels);
            let limits = LimitsWritten {
                cpus: class.cpus,
                memory: class.memory,
                tasks: class.tasks,
                io_weight: class.io_weight,
            };
            let limits = limits::check(found, &key, limits);
            let caches = cache::check(found, &key, class.caches);
            let disk = limits::size(found, &key("disk"), class.disk, LEAST_DISK);
            let class = Class {
                labels,
                template: class.template.unwrap_or_else(|| DEFAULT.to_owned()),
                cpus: limits.cpus,
                memory: limits.memory,
                tasks: limits.tasks,
                io_weight: limits.io_weight,
                disk,
                caches,
                gpu: class.gpu.unwrap_or(false),
                timeout: match class.timeout {
                    Some(timeout) => found.duration(&key("timeout"), Some(timeout), 0, 10..=5 * 86_400),
                    None => job_timeout,
                },
                max_concurrent: found.count(&key("max_concurrent"), class.max_concurrent, max_concurrent, 1..=1000),
                min_idle: found.count(&key("min_idle"), class.min_idle, 0, 0..=100),
                privileged: class.privileged.unwrap_or(false),
                network: reach::reach(found, &name, class.network, &network.shared, &network.dns),
                docker: docker::check(found, &|field| key(&format!("docker.{field}")), class.docker, &network.pool),
                name: name.clone(),
            };
            (name, class)
        })
        .collect()
}

/// Collects problems while values are taken.
#[derive(Default)]
pub(super) struct Found {
    problems: Vec<Problem>,
}

impl Found {
    pub(super) fn push(&mut self, key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(key, problem, remedy));
    }

    pub(super) fn unless(
        &mut self,
        good: bool,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !good {
            self.push(key, problem, remedy);
        }
    }

    fn duration(
        &mut self,
        key: &str,
        written: Option<Duration>,
        default_secs: u64,
        seconds: std::ops::RangeInclusive<u64>,
    ) -> Duration {
        let value = written.unwrap_or(Duration::from_secs(default_secs));
        let (low, high) = (Duration::from_secs(*seconds.start()), Duration::from_secs(*seconds.end()));
        self.unless(
            (low..=high).contains(&value),
            key,
            format!("{} is out of range", humantime::format_duration(value)),
            format!(
                "write a duration from {} to {}",
                humantime::format_duration(low),
                humantime::format_duration(high)
            ),
        );
        value
    }

    pub(super) fn count(
        &mut self,
        key: &str,
        written: Option<usize>,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> usize {
        let value = written.unwrap_or(default);
        self.unless(
            range.contains(&value),
            key,
            format!("{value} is out of range"),
            format!("write a whole number from {} to {}", range.start(), range.end()),
        );
        value
    }

    pub(super) fn absolute(&mut self, key: &str, written: Option<PathBuf>, default: &str) -> PathBuf {
        let path = written.unwrap_or_else(|| PathBuf::from(default));
        self.unless(
            is_plain_absolute(&path),
            key,
            format!("{} is not an absolute path", path.display()),
            "write a path that starts with / and has no .., white space, colon, % or control character",
        );
        path
    }

    pub(super) fn name(&mut self, key: &str, name: &str) {
        let valid = (1..=24).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        self.unless(
            valid,
            key,
            format!("{name:?} is no valid name"),
            "use 1 to 24 lower-case letters, digits and hyphens, starting with a letter, not ending with a hyphen",
        );
    }

    fn labels(&mut self, key: &str, labels: &[String]) {
        self.unless((1..=100).contains(&labels.len()), key, format!("{} labels", labels.len()), "name 1 to 100 labels");
        let mut seen = BTreeSet::new();
        for label in labels {
            let plain = (1..=256).contains(&label.len())
                && !label.contains(',')
                && label.trim() == label
                && !label.contains(char::is_control);
            self.unless(
                plain,
                key,
                format!("{label:?} is no label"),
                "use 1 to 256 characters, no comma, no space around",
            );
            self.unless(
                seen.insert(label.to_ascii_lowercase()),
                key,
                format!("{label:?} is named twice"),
                "labels are compared without case; name each once",
            );
        }
    }

    fn pool(&mut self, span: &str, prefix: Option<u8>) -> Pool {
        let parsed = Pool::parse(span, prefix.unwrap_or(24));
        match parsed {
            Ok(pool) => {
                self.unless(
                    !DOCKERS.iter().any(|(address, prefix)| {
                        Ipv4Network::new(*address, *prefix).is_ok_and(|dockers| pool.touches(dockers))
                    }),
                    "network.pool",
                    format!("{pool} reaches into 172.17.0.0-172.31.255.255, where Docker makes its networks"),
                    "choose another private network, e.g. 10.213.0.0/16",
                );
                pool
            }
            Err(error) => {
                let remedy = "write a private network such as 10.77.0.0/16 or a range such as \
                              192.168.100.0-192.168.199.0, and network.prefix from 8 to 30";
                self.push("network.pool", error.to_string(), remedy);
                // Only to go on looking for problems; the settings are not returned.
                Pool::parse(DEFAULT_POOL, 24).unwrap_or_else(|_| unreachable!("the default pool is a pool"))
            }
        }
    }

    fn api_url(&mut self, written: Option<String>) -> String {
        let url = written.unwrap_or_else(|| "https://api.github.com".to_owned());
        let url = url.trim_end_matches('/').to_owned();
        let parsed = url.parse::<http::Uri>().ok();
        let good = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some() && uri.query().is_none()
        });
        self.unless(
            good && !url.contains('@'),
            "github.api_url",
            format!("{url:?} is not the root of an API"),
            "write https://api.github.com, https://HOST/api/v3 or https://api.NAME.ghe.com",
        );
        url
    }
}

const HOST_NAME_REMEDY: &str = "use 1 to 20 lower-case letters, digits and hyphens, starting with a letter or digit";

/// Fits the host part of a runner's name.
pub fn is_host_name(name: &str) -> bool {
    (1..=20).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_repo(repo: &str) -> bool {
    let part = |text: &str| {
        (1..=100).contains(&text.len())
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    repo.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

fn is_user(user: &str) -> bool {
    user != "root"
        && (1..=31).contains(&user.len())
        && user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// Absolute, without `..`, and without characters that mean something to unit files, mount options or nspawn.
fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && !path.components().any(|part| part == Component::ParentDir)
        && path.to_str().is_some_and(|text| {
            !text.contains(|c: char| c.is_control() || c.is_whitespace() || ":,%\\\"'$".contains(c))
        })
}
