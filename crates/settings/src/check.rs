//! From what is written to [`Settings`], or to everything that is wrong with it.

mod classes;
mod credentials;
mod ranges;
mod targets;

use std::{collections::BTreeMap, net::IpAddr};

pub use super::checker::is_name;
use super::{
    Admission, Device, GithubApi, Http, IDS, Ids, Limits, Network, Problems, Settings,
    checker::Checker,
    class_network,
    file::{AdmissionWritten, JOB_TIMEOUT, LimitsWritten, NetworkWritten, SettingsWritten, Size},
    pool::Pool,
    proxy, service,
    token_file::{self, SecretFile},
};

/// The class and the template there are when the file names none.
pub const DEFAULT: &str = "default";

/// Checks everything that can be known without looking at files.
pub fn check(written: SettingsWritten) -> Result<Settings, Problems> {
    let mut found = Checker::default();
    ranges::check(&mut found, &written);
    found.absolute("state_dir", &written.state_dir);
    let api_url = found.api_url("github.api_url", &written.github.api_url);
    let mut credentials = credentials::written(&mut found, &written.credentials, &api_url);
    let network = network(&mut found, &written.network);
    let services = service::services(&mut found, &written.services, &network.pool);
    let classes = classes::classes(&mut found, &written, &network, &services);
    let templates = classes::templates(&mut found, &written.templates);
    let settings = Settings {
        targets: targets::targets(&mut found, &written, &mut credentials, &classes),
        credentials: credentials.in_use(&mut found),
        templates,
        classes,
        max_concurrent: written.max_concurrent,
        poll_interval: written.poll_interval,
        idle_poll_interval: written.idle_poll_interval,
        job_timeout: written.job_timeout.unwrap_or(JOB_TIMEOUT),
        idle_timeout: written.idle_timeout,
        idle_grace: written.idle_grace,
        boot_timeout: written.boot_timeout,
        registration_linger: written.registration_linger,
        history_keep: written.history_keep,
        operators: operators(&mut found, written.operators),
        state_dir: written.state_dir,
        host_name: written.host_name.inspect(|name| {
            found.unless(is_host_name(name), "host_name", format!("invalid host name {name:?}"), HOST_NAME_REMEDY);
        }),
        http: http(&mut found, written.http),
        limits: limits(&written.limits),
        admission: admission(&written.admission),
        retry: written.retry,
        ids: ids(&mut found, written.ids, network.pool),
        network,
        github: GithubApi { api_url },
        proxy: proxy::check(&mut found, &written.proxy),
        webhook: written.webhook,
        services,
    };
    webhook(&mut found, &settings);
    found.unless(
        settings.idle_poll_interval.is_none_or(|idle| idle >= settings.poll_interval),
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
        let others = settings.classes.values().find(|other| other.uses_loop_devices());
        if let (true, Some(other)) = (class.devices.contains(&Device::Loop), others) {
            found.push(
                format!("class.{}.devices", class.name),
                format!("class {} has disk, cache or docker.keep, which lie on loop devices as well", other.name),
                "remove loop, or keep such jobs on a host of their own",
            );
        }
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

fn operators(found: &mut Checker, group: String) -> String {
    found.unless(
        is_group_name(&group),
        "operators",
        format!("invalid group name {group:?}"),
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

fn http(found: &mut Checker, http: Http) -> Http {
    if let Some(path) = &http.token_file {
        found.problems.extend(token_file::check_path("http.token_file", path));
    }
    http
}

fn webhook(found: &mut Checker, settings: &Settings) {
    let hooks: Vec<SecretFile<'_>> = settings.credentials.values().filter_map(SecretFile::of_hook).collect();
    let Some(webhook) = &settings.webhook else {
        for hook in hooks {
            found.push(hook.key, "nothing listens for its deliveries", "write a table [webhook], which may be empty");
        }
        return;
    };
    match SecretFile::of_webhook(webhook) {
        Some(file) => found.problems.extend(token_file::check_path(&file.key, file.path)),
        None => found.unless(
            !hooks.is_empty(),
            "webhook.secret_file",
            "deliveries could come from anybody",
            "write the secret given to the forge into a file and name it here",
        ),
    }
}

fn network(found: &mut Checker, written: &NetworkWritten) -> Network {
    for denied in written.deny.iter().filter(|denied| denied.prefix() == 0) {
        let remedy = "write class.NAME.network.internet = false for classes without internet";
        found.push("network.deny", format!("{denied} is everything"), remedy);
    }
    Network {
        pool: found.pool(&written.pool, written.prefix),
        dns: written.dns.clone(),
        connections: written.connections,
        deny: written.deny.clone(),
        shared: class_network::shared_networks(found, &written.shared),
    }
}

fn limits(written: &LimitsWritten) -> Limits {
    let LimitsWritten { cpus, memory, tasks, io_weight } = written;
    Limits { cpus: *cpus, memory: memory.as_ref().and_then(Size::bytes), tasks: *tasks, io_weight: *io_weight }
}

fn admission(written: &AdmissionWritten) -> Admission {
    let AdmissionWritten { min_free_disk, min_free_inodes, max_memory_pressure, max_io_pressure, max_cpu_pressure } =
        written;
    let percent = |written: &u8| Some(*written).filter(|percent| *percent > 0);
    Admission {
        min_free_disk: min_free_disk.bytes().filter(|bytes| *bytes > 0),
        min_free_inodes: Some(*min_free_inodes).filter(|inodes| *inodes > 0),
        max_memory_pressure: percent(max_memory_pressure),
        max_io_pressure: percent(max_io_pressure),
        max_cpu_pressure: percent(max_cpu_pressure),
    }
}

/// The range systemd keeps for containers (its UIDS-GIDS document): nothing of a host should have any of these.
const CONTAINER_IDS: std::ops::RangeInclusive<u32> = 524_288..=1_879_048_191;

fn ids(found: &mut Checker, ids: Ids, pool: Pool) -> Ids {
    let first = ids.first;
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
    ids
}

const HOST_NAME_REMEDY: &str = "use 1 to 20 lower-case letters, digits and hyphens, starting with a letter or digit";

/// Fits the host part of a runner's name.
pub fn is_host_name(name: &str) -> bool {
    (1..=20).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
