//! `[class.NAME.docker]`: Docker inside containers.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::{checker::Checker, file::DockerWritten, pool::Pool, settings::Docker};

/// Docker's networks get subnets of this size, whatever their pool.
pub const SUBNET_PREFIX: u8 = 24;
/// Pools to choose from: the first that no container's subnet lies in. One of a private block each, so one is left
/// whatever the pool of containers, which lies in a single block.
pub(super) const CANDIDATES: [Ipv4Network; 2] =
    [network(Ipv4Addr::new(172, 20, 0, 0), 14), network(Ipv4Addr::new(10, 244, 0, 0), 14)];

const fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Network {
    match Ipv4Network::new_checked(address, prefix) {
        Some(network) => network,
        None => panic!("not a prefix length"),
    }
}

/// What images of Docker Hub are of, where it is written.
const HUB: &str = "docker.io";

/// A URL of a server and nothing below it.
pub(super) fn is_root(text: &str) -> bool {
    let root = text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some() && uri.path() == "/"
    });
    root && !text.contains(['@', '?', '#', '"', '\\'])
}

/// Checks one class's table.
pub(super) fn check(
    found: &mut Checker,
    key: &dyn Fn(&str) -> String,
    written: DockerWritten,
    containers: &Pool,
) -> Option<Docker> {
    let unset = DockerWritten::default();
    found.unless(
        written.enable || written == unset,
        key("enable"),
        "Docker is not enabled, and something about it is set",
        "write enable = true, or remove the rest",
    );
    if !written.enable {
        return None;
    }
    let mirror = written.mirror.iter().map(|mirror| ("mirror", mirror));
    for (field, mirror) in mirror.chain(written.mirrors.values().map(|mirror| ("mirrors", mirror))) {
        found.unless(
            is_root(mirror),
            key(field),
            format!("{mirror:?} is not the root of a registry"),
            "write https://HOST or http://HOST:PORT, without user, password or path",
        );
    }
    for registry in written.mirrors.keys() {
        found.unless(
            registry != HUB && is_root(&format!("https://{registry}")) && !registry.contains('/'),
            key("mirrors"),
            format!("{registry:?} is no other registry"),
            "write its name as it is in images', e.g. ghcr.io or registry.example.org:5000; Docker Hub's is the key mirror",
        );
    }
    let free = |pool: &Ipv4Network| !containers.touches(*pool);
    let pool = match written.pool {
        Some(pool) => {
            found.unless(
                pool.prefix() <= SUBNET_PREFIX && pool.network() == pool.ip() && pool.ip().is_private(),
                key("pool"),
                format!("{pool} is not a private network with room for /{SUBNET_PREFIX} subnets"),
                "write one such as 10.244.0.0/14",
            );
            found.unless(
                free(&pool),
                key("pool"),
                format!("{pool} overlaps network.pool"),
                "choose one outside, or leave it out to have one chosen",
            );
            pool
        }
        None => CANDIDATES.into_iter().find(free).unwrap_or(CANDIDATES[0]),
    };
    found.unless(
        written.keep || written.keep_size == unset.keep_size,
        key("keep_size"),
        "image stores are not kept",
        "write keep = true as well",
    );
    let keep = written.keep_size.bytes().filter(|_| written.keep);
    Some(Docker { mirror: written.mirror, mirrors: written.mirrors, pool, keep })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dockers_subnets_are_never_those_of_containers() {
        for pool in ["192.168.100.0-192.168.199.0", "172.16.0.0/12", "10.0.0.0/8", "172.23.255.0/24", "100.64.0.0/16"] {
            let containers = Pool::parse(pool, 28).unwrap();
            let mut found = Checker::default();
            let written = DockerWritten { enable: true, ..DockerWritten::default() };
            let docker = check(&mut found, &str::to_owned, written, &containers).unwrap();
            assert!(!containers.touches(docker.pool), "{pool}: {}", docker.pool);
        }
    }
}
