//! Writes the Docker daemon's configuration before the runner starts. The daemon itself starts when a job first asks
//! for it (`docker.socket`), so it finds it there. Its proxy it knows by its environment, as every service does.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contract::guest_settings::{DockerSettings, ProxySettings};
use serde_json::{Map, Value, json};

use super::{account::Account, network::replace};

/// Where the daemon looks, unless the template's unit says otherwise.
pub const DIRECTORY: &str = "/etc/docker";
const FILE: &str = "daemon.json";
/// Where it looks for what is to be known of a registry (docs.docker.com, "Configure registry"), by the registry's name.
const OF_REGISTRIES: &str = "certs.d";
const HOSTS: &str = "hosts.toml";

/// Where the job user's commands look, below the home directory.
const OF_USER: (&str, &str) = (".docker", "config.json");
/// What they give to containers and builds, unless the template says otherwise.
const PROXIES: &str = "proxies";

/// Where the daemon listens.
pub const SOCKET: &str = "/run/docker.sock";
/// How long it may take until the job's user can use that. A busy host needs tenths of a second.
pub const SOCKET_PATIENCE: Duration = Duration::from_secs(3);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// What a network of Docker's takes unless it is told, in bytes.
const USUAL_MTU: u32 = 1500;
/// Options of networks that a job makes. Docker knows the key since version 24, and refuses to start with one that it does
/// not know.
const NETWORK_OPTIONS: &str = "default-network-opts";
/// Longest wait for the daemon's word on a configuration.
const PATIENCE: Duration = Duration::from_secs(5);

/// Adds to what the template has: the pool of subnets, the mirror if there is one, and the largest packet, in bytes, if
/// the container's link takes less than usual.
pub fn set_up(directory: &Path, settings: &DockerSettings, mtu: Option<u32>) -> anyhow::Result<()> {
    let file = directory.join(FILE);
    let shown = file.display();
    let mut daemon = read(&file)?;
    for (key, value) in wanted(settings) {
        daemon.insert(key.to_owned(), value);
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    name_mirrors(directory, settings)?;
    ensure!(
        !file.is_symlink(),
        "{shown} is a link; a template whose Docker is configured elsewhere must not have the file"
    );
    let write = |daemon: &Map<String, Value>| replace(&file, &serde_json::to_string_pretty(daemon)?);
    let Some(mtu) = mtu.filter(|mtu| *mtu < USUAL_MTU) else { return write(&daemon) };
    daemon.insert("mtu".to_owned(), json!(mtu));
    if !daemon.contains_key(NETWORK_OPTIONS) {
        let mut with_networks = daemon.clone();
        let bridge = json!({ "bridge": { "com.docker.network.driver.mtu": mtu.to_string() } });
        with_networks.insert(NETWORK_OPTIONS.to_owned(), bridge);
        write(&with_networks)?;
        if daemon_takes(&file) {
            return Ok(());
        }
    }
    write(&daemon)
}

/// Names the registries to ask before others than Docker Hub, as containerd reads it; an older Docker does not look. What
/// the template says of a registry stays.
fn name_mirrors(directory: &Path, settings: &DockerSettings) -> anyhow::Result<()> {
    for (registry, mirror) in &settings.mirrors {
        let place = directory.join(OF_REGISTRIES).join(registry);
        let file = place.join(HOSTS);
        if file.exists() {
            continue;
        }
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let text =
            format!("server = \"https://{registry}\"\n\n[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        replace(&file, &text)?;
    }
    Ok(())
}

/// The template's own, if there is one.
fn read(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let shown = file.display();
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("the template's {shown} is not valid")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

/// Has containers and builds of the job user know the proxy.
pub fn name_proxy(account: &Account, proxy: &ProxySettings) -> anyhow::Result<()> {
    let (directory, file) = (account.home.join(OF_USER.0), account.home.join(OF_USER.0).join(OF_USER.1));
    let mut client = read(&file)?;
    let ProxySettings { url, except, .. } = proxy;
    client
        .entry(PROXIES)
        .or_insert_with(|| json!({ "default": { "httpProxy": url, "httpsProxy": url, "noProxy": except } }));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    replace(&file, &serde_json::to_string_pretty(&client)?)?;
    for path in [&directory, &file] {
        chown(path, Some(account.uid), Some(account.gid))
            .with_context(|| format!("cannot give {} to the job user", path.display()))?;
    }
    Ok(())
}

fn wanted(settings: &DockerSettings) -> Vec<(&'static str, Value)> {
    let pools = json!([{ "base": settings.pool.to_string(), "size": settings.subnet_prefix }]);
    let mirror = settings.mirror.as_ref().map(|mirror| ("registry-mirrors", json!([mirror])));
    std::iter::once(("default-address-pools", pools)).chain(mirror).collect()
}

/// Whether the daemon says of a configuration that it is valid (dockerd(8), `--validate`). One that cannot say so is too
/// old for anything it would be asked about.
fn daemon_takes(file: &Path) -> bool {
    let mut command = Command::new("dockerd");
    command.arg("--validate").arg("--config-file").arg(file);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut daemon) = quiet.spawn() else { return false };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match daemon.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                // It is gone, or goes with the container.
                let _ = daemon.kill();
                return false;
            }
        }
    }
}

/// Waits until the job's user may use the daemon's socket, for `patience` at most. systemd makes it beside the guest, and
/// gives it to its group a moment later: a runner that is quicker is refused. Without a socket there is no Docker, which
/// whoever asks for it says best.
pub fn wait_for_socket(socket: &Path, account: &Account, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let may_use = || {
        fs::metadata(socket).is_ok_and(|found| {
            let (own, of_group, of_all) = (found.mode() & 0o600, found.mode() & 0o060, found.mode() & 0o006);
            (found.uid() == account.uid && own == 0o600)
                || (account.groups.contains(&found.gid()) && of_group == 0o060)
                || of_all == 0o006
        })
    };
    loop {
        if may_use() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_is_waited_for_until_the_jobs_user_may_use_it_and_not_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("docker.sock");
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let account = Account {
            name: "runner".into(),
            uid: uid + 1,
            gid: gid + 1,
            groups: vec![gid + 1, gid],
            home: "/home/runner".into(),
            shell: "/bin/bash".into(),
        };
        assert!(!wait_for_socket(&socket, &account, Duration::from_millis(10)));
        fs::write(&socket, "").unwrap();
        fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(!wait_for_socket(&socket, &account, Duration::from_millis(10)));
        let later = thread::spawn({
            let socket = socket.clone();
            move || {
                thread::sleep(Duration::from_millis(50));
                fs::set_permissions(socket, PermissionsExt::from_mode(0o660)).unwrap();
            }
        });
        assert!(wait_for_socket(&socket, &account, Duration::from_secs(60)));
        later.join().unwrap();
    }

    #[test]
    fn what_the_template_says_of_docker_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("docker");
        let settings = |mirror: Option<&str>| DockerSettings {
            mirror: mirror.map(str::to_owned),
            mirrors: [("ghcr.io".to_owned(), "http://mirror:5001".to_owned())].into(),
            pool: "10.244.0.0/14".parse().unwrap(),
            subnet_prefix: 24,
        };
        let read = || -> Value { serde_json::from_slice(&fs::read(directory.join(FILE)).unwrap()).unwrap() };
        let pools = json!([{ "base": "10.244.0.0/14", "size": 24 }]);
        set_up(&directory, &settings(None), Some(1500)).unwrap();
        assert_eq!(read(), json!({ "default-address-pools": pools }));
        fs::write(directory.join(FILE), r#"{"debug": true}"#).unwrap();
        set_up(&directory, &settings(Some("http://mirror:5000")), None).unwrap();
        let whole =
            json!({ "debug": true, "default-address-pools": pools, "registry-mirrors": ["http://mirror:5000"] });
        assert_eq!(read(), whole);
        let of_registry = || fs::read_to_string(directory.join("certs.d/ghcr.io/hosts.toml")).unwrap();
        let told = of_registry();
        assert!(told.starts_with("server = \"https://ghcr.io\"\n\n[host.\"http://mirror:5001\"]\n"), "{told}");
        fs::write(directory.join("certs.d/ghcr.io/hosts.toml"), "own").unwrap();
        set_up(&directory, &settings(None), None).unwrap();
        assert_eq!(of_registry(), "own");
        fs::write(directory.join(FILE), "nonsense").unwrap();
        assert!(set_up(&directory, &settings(None), None).is_err());
    }

    #[test]
    fn containers_of_the_job_user_know_the_proxy_unless_the_template_names_one() {
        let home = tempfile::tempdir().unwrap();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let account = Account {
            name: "runner".into(),
            uid: me.0,
            gid: me.1,
            groups: vec![],
            home: home.path().into(),
            shell: "/bin/sh".into(),
        };
        let proxy = ProxySettings {
            url: "http://10.0.0.9:3128".into(),
            except: "localhost,corp.example".into(),
            name: None,
            address: "10.0.0.9".parse().unwrap(),
        };
        let file = home.path().join(".docker/config.json");
        let read = || -> Value { serde_json::from_slice(&fs::read(&file).unwrap()).unwrap() };
        let named = json!({ "default": {
            "httpProxy": "http://10.0.0.9:3128", "httpsProxy": "http://10.0.0.9:3128", "noProxy": "localhost,corp.example",
        } });
        name_proxy(&account, &proxy).unwrap();
        assert_eq!(read(), json!({ "proxies": named }));
        fs::write(&file, r#"{"auths": {"x": {}}}"#).unwrap();
        name_proxy(&account, &proxy).unwrap();
        assert_eq!(read(), json!({ "auths": { "x": {} }, "proxies": named }));
        fs::write(&file, r#"{"proxies": {}}"#).unwrap();
        name_proxy(&account, &proxy).unwrap();
        assert_eq!(read(), json!({ "proxies": {} }));
    }

    #[test]
    fn networks_of_docker_take_no_larger_packets_than_the_link_does() {
        let home = tempfile::tempdir().unwrap();
        let settings = DockerSettings {
            mirror: None,
            mirrors: Default::default(),
            pool: "10.244.0.0/14".parse().unwrap(),
            subnet_prefix: 24,
        };
        let read = || -> Value { serde_json::from_slice(&fs::read(home.path().join(FILE)).unwrap()).unwrap() };
        set_up(home.path(), &settings, Some(1400)).unwrap();
        assert_eq!(read()["mtu"], 1400);
        // Nobody is here to say that it knows the other key.
        if Command::new("dockerd").arg("--version").output().is_err() {
            assert_eq!(read().get(NETWORK_OPTIONS), None);
        }
        let own = r#"{"default-network-opts": {"bridge": {"x": "y"}}}"#;
        fs::write(home.path().join(FILE), own).unwrap();
        set_up(home.path(), &settings, Some(1400)).unwrap();
        assert_eq!((read()["mtu"].clone(), read()[NETWORK_OPTIONS]["bridge"]["x"].clone()), (json!(1400), json!("y")));
    }
}
