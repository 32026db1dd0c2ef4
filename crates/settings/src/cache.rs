//! `[class.NAME.cache.NAME]`: directories that outlive containers.

use std::{collections::BTreeMap, path::Path};

use super::{
    check::Found,
    file::{CacheWritten, Size},
    limits,
    settings::{Cache, Sharing},
};

const DEFAULT_SIZE: u64 = 10 << 30;
/// An empty file system needs some of it.
const LEAST_SIZE: u64 = 32 << 20;
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
    found: &mut Found,
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
        let at = found.absolute(&key("at"), cache.at, &format!("/srv/gha-cache/{name}"));
        let taken = |other: &Path| at.starts_with(other) || other.starts_with(&at);
        found.unless(
            !TAKEN.iter().map(Path::new).any(taken) && !caches.iter().any(|other| taken(&other.at)),
            key("at"),
            format!("{} is, lies in or holds something that a container has already", at.display()),
            "name a directory of its own, e.g. below /srv or /home",
        );
        let size = limits::size(found, &key("size"), cache.size.or(Some(Size::Bytes(DEFAULT_SIZE))), LEAST_SIZE);
        let per = cache.per.unwrap_or(Sharing::Target);
        caches.push(Cache { name, at, size: size.unwrap_or(DEFAULT_SIZE), per });
    }
    caches
}

impl From<&Cache> for CacheWritten {
    fn from(cache: &Cache) -> Self {
        Self { at: Some(cache.at.clone()), size: Some(Size::Bytes(cache.size)), per: Some(cache.per) }
    }
}
