//! From what is written to [`Settings`], or to everything that is wrong with it.

mod classes;
mod credentials;
mod found;
mod targets;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

pub(crate) use self::found::Found;
pub use self::found::is_name;
use super::{
    Github, Http, IDS, Ids, Network, Problems, Settings, Webhook,
    file::{IdsWritten, NetworkWritten, WebhookWritten, Written},
    limits,
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
/// Idle repositories are looked at this often.
const DEFAULT_IDLE_POLL: Duration = Duration::from_secs(60);
const DEFAULT_API: &str = "https://api.github.com";
const DEFAULT_DNS: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)];

/// Checks everything that can be known without looking at files.
pub fn check(written: Written) -> Result<Settings, Problems> {
    let mut found = Found::default();
    let job_timeout = found.duration("job_timeout", written.job_timeout, 7200, 10..=5 * 86_400);
    let max_concurrent = found.count("max_concurrent", written.max_concurrent, 7, 1..=1000);
    let poll_interval = found.duration("poll_interval", written.poll_interval, 10, 1..=3600);
    let api_url = found.api_url("github.api_url", written.github.api_url.as_deref().unwrap_or(DEFAULT_API));
    let mut credentials = credentials::written(&mut found, &written.credentials, &api_url);
    let network = network(&mut found, &written.network);
    let classes = classes::classes(&mut found, &written, &network, job_timeout, max_concurrent);
    let settings = Settings {
        targets: targets::targets(&mut found, &written, &mut credentials, &classes, max_concurrent),
        credentials: credentials.in_use(&mut found),
        templates: classes::templates(&mut found, &written.templates),
        classes,
        max_concurrent,
        poll_interval,
        idle_poll_interval: match written.idle_poll_interval {
            Some(written) => found.duration("idle_poll_interval", Some(written), 0, 1..=3600),
            None => poll_interval.max(DEFAULT_IDLE_POLL),
        },
        job_timeout,
        idle_grace: found.duration("idle_grace", written.idle_grace, 60, 1..=86_400),
        boot_timeout: found.duration("boot_timeout", written.boot_timeout, 60, 1..=3600),
        registration_linger: found.duration("registration_linger", written.registration_linger, 45, 1..=3600),
        history_keep: found.duration("history_keep", written.history_keep, 90 * 86_400, 3600..=3650 * 86_400),
        operators: operators(&mut found, written.operators),
        state_dir: found.absolute("state_dir", written.state_dir, "/var/lib/gha-runner-controller"),
        host_name: written.host_name.inspect(|name| {
            found.unless(is_host_name(name), "host_name", format!("{name:?} is no host name"), HOST_NAME_REMEDY);
        }),
        http: Http {
            address: written.http.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: written.http.port.unwrap_or(8080),
            token_file: written.http.token_file.inspect(|path| {
                found.problems.extend(token_file::check_path("http.token_file", path));
            }),
        },
        limits: limits::check(&mut found, &|field| format!("limits.{field}"), written.limits),
        ids: ids(&mut found, &written.ids, network.pool),
        network,
        github: Github { api_url },
        webhook: written.webhook.map(|written| webhook(&mut found, written)),
    };
    found.unless(
        settings.idle_poll_interval >= settings.poll_interval,
        "idle_poll_interval",
        format!("is shorter than poll_interval, {}", humantime::format_duration(settings.poll_interval)),
        "write a duration that is at least poll_interval, or leave it out",
    );
    if let Some(webhook) = &settings.webhook {
        let http = &settings.http;
        // Whoever listens on all addresses has the port on each.
        let same = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
        found.unless(
            webhook.port != http.port || !same(webhook.address, http.address),
            "webhook.port",
            format!("{} is http.port as well", webhook.port),
            "give each a port of its own",
        );
    }
    found.unless(
        settings.http.address.is_loopback() || settings.http.token_file.is_some(),
        "http.address",
        format!("{} can be reached from other machines, and whoever asks is answered", settings.http.address),
        "listen on 127.0.0.1 or ::1, or name a file with the token that readers must show: http.token_file",
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

/// Group of those who may operate, unless the file names another.
pub const OPERATORS: &str = "gha-runner-operators";

fn operators(found: &mut Found, written: Option<String>) -> String {
    let group = written.unwrap_or_else(|| OPERATORS.to_owned());
    found.unless(
        is_group_name(&group),
        "operators",
        format!("{group:?} is no name of a group"),
        "use 1 to 31 lower-case letters, digits, hyphens and underscores, starting with a letter",
    );
    group
}

/// What systemd-sysusers and systemd-tmpfiles take for a name, and nothing that means more to either.
fn is_group_name(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn webhook(found: &mut Found, written: WebhookWritten) -> Webhook {
    let key = "webhook.secret_file";
    match &written.secret_file {
        Some(path) => found.problems.extend(token_file::check_path(key, path)),
        None => found.push(
            key,
            "deliveries could come from anybody",
            "write the secret given to the forge into a file and name it here",
        ),
    }
    let port = written.port.unwrap_or(8081);
    found.unless(port != 0, "webhook.port", "0 is no port", "write a number from 1 to 65535, or leave [webhook] out");
    Webhook {
        address: written.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port,
        secret_file: written.secret_file.unwrap_or_default(),
    }
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

const HOST_NAME_REMEDY: &str = "use 1 to 20 lower-case letters, digits and hyphens, starting with a letter or digit";

/// Fits the host part of a runner's name.
pub fn is_host_name(name: &str) -> bool {
    (1..=20).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
