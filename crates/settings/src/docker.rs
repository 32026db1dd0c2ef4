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
    if let Some(mirror) = &written.mirror {
        let uri = mirror.parse::<http::Uri>().ok();
        let good = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some() && uri.path() == "/"
        });
        found.unless(
            good && !mirror.contains(['@', '?', '#']),
            key("mirror"),
            format!("{mirror:?} is not the root of a registry"),
            "write https://HOST or http://HOST:PORT, without user, password or path",
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
    Some(Docker { mirror: written.mirror, pool, keep })
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
