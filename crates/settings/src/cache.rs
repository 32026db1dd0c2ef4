//! `[class.NAME.cache.NAME]`: directories that outlive containers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    checker::Checker,
    file::{CACHES, CacheWritten, TOOLS},
    settings::Cache,
};

/// Each is a mount of its own.
const MOST: usize = 16;
/// What a container has already, of its template or mounted when it starts.
const TAKEN: [&str; 11] = [
    "/tmp",
    "/run",
    "/proc",
    "/sys",
    "/dev",
    "/nix",
    "/usr",
    "/etc",
    "/boot",
    "/var/lib/docker",
    "/var/lib/containerd",
];

/// Checks one class's tables.
pub(super) fn check(
    found: &mut Checker,
    key: &dyn Fn(&str) -> String,
    written: BTreeMap<String, CacheWritten>,
) -> Vec<Cache> {
    found.unless(
        written.len() <= MOST,
        key("cache"),
        format!("there are {} of them", written.len()),
        format!("name at most {MOST}"),
    );
    let mut caches: Vec<Cache> = Vec::new();
    for (name, cache) in written {
        let table = key(&format!("cache.{name}"));
        let key = |field: &str| format!("{table}.{field}");
        found.name(&table, &name);
        let at = cache.at.unwrap_or_else(|| match cache.tool_cache {
            true => PathBuf::from(TOOLS),
            false => Path::new(CACHES).join(&name),
        });
        found.absolute(&key("at"), &at);
        let taken = |other: &Path| at.starts_with(other) || other.starts_with(&at);
        found.unless(
            !TAKEN.iter().map(Path::new).any(taken) && !caches.iter().any(|other| taken(&other.at)),
            key("at"),
            format!("{} is, lies in or holds something that a container has already", at.display()),
            "name a directory of its own, e.g. below /srv or /home",
        );
        found.unless(
            !cache.tool_cache || !caches.iter().any(|other| other.tool_cache),
            key("tool_cache"),
            "another cache of the class is its tool cache already",
            "say so of one",
        );
        let size = cache.size.bytes().unwrap_or_default();
        caches.push(Cache { name, at, size, per: cache.per, tool_cache: cache.tool_cache });
    }
    caches
}
