//! Writes the Docker daemon's configuration before the runner starts. The daemon itself starts when a job first asks
//! for it (`docker.socket`), so it finds it there.

use std::{fs, io, path::Path};

use anyhow::{Context, ensure};
use contract::guest_settings::DockerSettings;
use serde_json::{Map, Value, json};

use super::network::replace;

/// Where the daemon looks, unless the template's unit says otherwise.
pub const DIRECTORY: &str = "/etc/docker";
const FILE: &str = "daemon.json";

/// Adds to what the template has: the pool of subnets, and the mirror if there is one.
pub fn set_up(directory: &Path, settings: &DockerSettings) -> anyhow::Result<()> {
    let file = directory.join(FILE);
    let shown = file.display();
    let mut daemon: Map<String, Value> = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("the template's {shown} is not valid"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    for (key, value) in wanted(settings) {
        daemon.insert(key.to_owned(), value);
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    ensure!(
        !file.is_symlink(),
        "{shown} is a link; a template whose Docker is configured elsewhere must not have the file"
    );
    replace(&file, &serde_json::to_string_pretty(&daemon)?)
}

fn wanted(settings: &DockerSettings) -> Vec<(&'static str, Value)> {
    let pools = json!([{ "base": settings.pool.to_string(), "size": settings.subnet_prefix }]);
    let mirror = settings.mirror.as_ref().map(|mirror| ("registry-mirrors", json!([mirror])));
    std::iter::once(("default-address-pools", pools)).chain(mirror).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_template_says_of_docker_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("docker");
        let settings = |mirror: Option<&str>| DockerSettings {
            mirror: mirror.map(str::to_owned),
            pool: "10.244.0.0/14".parse().unwrap(),
            subnet_prefix: 24,
        };
        let read = || -> Value { serde_json::from_slice(&fs::read(directory.join(FILE)).unwrap()).unwrap() };
        let pools = json!([{ "base": "10.244.0.0/14", "size": 24 }]);
        set_up(&directory, &settings(None)).unwrap();
        assert_eq!(read(), json!({ "default-address-pools": pools }));
        fs::write(directory.join(FILE), r#"{"debug": true}"#).unwrap();
        set_up(&directory, &settings(Some("http://mirror:5000"))).unwrap();
        let whole =
            json!({ "debug": true, "default-address-pools": pools, "registry-mirrors": ["http://mirror:5000"] });
        assert_eq!(read(), whole);
        fs::write(directory.join(FILE), "nonsense").unwrap();
        assert!(set_up(&directory, &settings(None)).is_err());
    }
}
