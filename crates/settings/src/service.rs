//! `[service.NAME]`: what listens on the host, or beside it, and is for jobs.
//!
//! What listens on the host's loopback no container can address: its own loopback is meant by that. The fence gives
//! these one address, the same in every container, and translates it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use serde::{Deserialize, Serialize};

use super::{checker::Checker, file::ServiceWritten, pool::Pool};

/// Where containers find what listens on the host's loopback. Link-local (RFC 3927), so it is nobody's on the internet
/// and is routed nowhere; clouds have theirs in 169.254.169.0/24 and 169.254.170.0/24.
pub const LOOPBACK_SERVICES: Ipv4Addr = Ipv4Addr::new(169, 254, 8, 8);
/// What names of services end with in containers. `internal` is for private use (ICANN, 2024): no resolver knows it.
pub const DOMAIN: &str = "host.internal";

/// Something that listens at one TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name in the settings.
    pub name: String,
    /// Where it listens, as the host reaches it.
    pub address: SocketAddrV4,
}

impl Service {
    /// It listens on the host's loopback.
    pub fn is_on_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Where containers reach it.
    pub fn reached_at(&self) -> SocketAddrV4 {
        let ip = if self.is_on_loopback() { LOOPBACK_SERVICES } else { *self.address.ip() };
        SocketAddrV4::new(ip, self.address.port())
    }

    /// Its name in containers.
    pub fn host_name(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }
}

/// Checks the tables.
pub(super) fn services(
    found: &mut Checker,
    written: &BTreeMap<String, ServiceWritten>,
    containers: &Pool,
) -> BTreeMap<String, Service> {
    let mut ports = BTreeSet::new();
    let mut services = BTreeMap::new();
    for (name, ServiceWritten { address }) in written {
        found.name(&format!("service.{name}"), name);
        let key = format!("service.{name}.address");
        let Ok(at) = address.parse::<SocketAddrV4>() else {
            found.push(
                key,
                format!("{address:?} is not an IPv4 address with a port"),
                "write where the service listens, e.g. 127.0.0.1:5000 or 192.168.1.20:5432",
            );
            continue;
        };
        let ip = *at.ip();
        let nobodys = ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip == LOOPBACK_SERVICES;
        found.unless(
            at.port() > 0 && !nobodys && !containers.touches(ip.into()),
            key.clone(),
            format!("nothing of the host or beside it listens at {at}"),
            "write where the service listens, e.g. 127.0.0.1:5000 or 192.168.1.20:5432",
        );
        found.unless(
            !ip.is_loopback() || ports.insert(at.port()),
            key,
            format!("port {} of the loopback is another service's already", at.port()),
            "let one of them listen at another port: containers reach all that is on the loopback at one address",
        );
        services.insert(name.clone(), Service { name: name.clone(), address: at });
    }
    services
}

/// Checks the names that a class has.
pub(super) fn of_class(
    found: &mut Checker,
    key: String,
    mut names: Vec<String>,
    services: &BTreeMap<String, Service>,
) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    for name in names.iter().filter(|name| !services.contains_key(*name)) {
        let problem = format!("there is no service {name:?}");
        found.push(key.clone(), problem, format!("define [service.{name}], with its address"));
    }
    names
}
